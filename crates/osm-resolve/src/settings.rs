//! What holds for everybody, from the one MeshConfig that counts.

use osm_api::{Kind, MESH_CONFIG_NAME, NamespacedName, ObjectKey, Reason, Traffic, World};
use osm_model::{Access, Settings, TlsSettings};

use crate::report::{Finding, Report};
use crate::{ResolveOptions, mesh_config, tls};

/// The settings. Without a MeshConfig: permissive, and nothing outside the mesh can be reached.
pub(crate) fn read(world: &World, options: &ResolveOptions, report: &mut Report<'_>) -> Settings {
    let mut settings = Settings {
        trust_domain: options.trust_domain.clone(),
        cluster_domain: options.cluster_domain.clone(),
        access: Access::Permissive,
        egress: false,
        tls: TlsSettings::default(),
    };
    let counts = NamespacedName::new(&options.osm_namespace, MESH_CONFIG_NAME);
    for (name, config) in &world.mesh_configs {
        let key = ObjectKey::new(Kind::MeshConfig, &name.namespace, &name.name);
        if *name != counts {
            report.add(
                &key,
                Finding::new("", Reason::Unsupported, format!("only MeshConfig {counts} counts; this one does not"))
                    .hint("write the settings there"),
            );
            continue;
        }
        mesh_config::check(&key, &config.spec, report);
        settings.access = access(&key, &config.spec.traffic, report);
        settings.egress = config.spec.traffic.enable_egress;
        settings.tls = tls::read(&key, &config.spec.sidecar, report);
    }
    settings
}

fn access(key: &ObjectKey, traffic: &Traffic, report: &mut Report<'_>) -> Access {
    if traffic.inbound_external_authorization.as_ref().is_some_and(|asked| asked.enable) {
        // A decision that is asked for and cannot be had: letting requests pass would open what somebody closed.
        report.add(
            key,
            Finding::new(
                "spec.traffic.inboundExternalAuthorization.enable",
                Reason::Unsupported,
                "this version cannot ask an external server yet, so nobody is admitted",
            )
            .hint("set it to false to go without"),
        );
        return Access::Granted;
    }
    if traffic.enable_permissive_traffic_policy_mode {
        return Access::Permissive;
    }
    report.add(
        key,
        Finding::new(
            "spec.traffic.enablePermissiveTrafficPolicyMode",
            Reason::Unsupported,
            "permissive mode is off, and this version does not read grants (TrafficTarget) yet, so nobody is admitted",
        )
        .hint("set it to true to let every pod of the mesh reach every service of the mesh"),
    );
    Access::Granted
}
