//! What holds for everybody, from the one MeshConfig that counts.

use osm_api::{Kind, MESH_CONFIG_NAME, NamespacedName, ObjectKey, Reason, Traffic, World};
use osm_model::{Access, Settings, TlsSettings};

use crate::report::{Finding, Report};
use crate::{ResolveOptions, mesh_config, tls};

/// What a MeshConfig comes to.
pub(crate) struct Found {
    pub(crate) settings: Settings,
    pub(crate) policies: Policies,
}

/// Whether policies admit anybody.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policies {
    /// They grant what they say.
    Count,
    /// A further decision is asked for that cannot be had.
    AdmitNobody,
}

/// The settings. Without a MeshConfig: permissive, and nothing outside the mesh can be reached.
pub(crate) fn read(world: &World, options: &ResolveOptions, report: &mut Report<'_>) -> Found {
    let mut settings = Settings {
        trust_domain: options.trust_domain.clone(),
        cluster_domain: options.cluster_domain.clone(),
        access: Access::Permissive,
        egress: false,
        tls: TlsSettings::default(),
    };
    let mut policies = Policies::Count;
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
        (settings.access, policies) = access(&key, &config.spec.traffic, report);
        settings.egress = config.spec.traffic.enable_egress;
        settings.tls = tls::read(&key, &config.spec.sidecar, report);
    }
    Found { settings, policies }
}

/// Says that permissive mode is off and no policy grants anything.
pub(crate) fn report_nobody(world: &World, options: &ResolveOptions, report: &mut Report<'_>) {
    let name = NamespacedName::new(&options.osm_namespace, MESH_CONFIG_NAME);
    if world.mesh_configs.contains_key(&name) {
        let field = "spec.traffic.enablePermissiveTrafficPolicyMode";
        let message = "permissive mode is off and no policy grants anything, so nobody is admitted";
        let hint =
            "add a TrafficTarget, or set it to true to let every pod of the mesh reach every service of the mesh";
        let key = ObjectKey::new(Kind::MeshConfig, &name.namespace, &name.name);
        report.add(&key, Finding::new(field, Reason::Missing, message).hint(hint));
    }
}

fn access(key: &ObjectKey, traffic: &Traffic, report: &mut Report<'_>) -> (Access, Policies) {
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
        return (Access::Granted, Policies::AdmitNobody);
    }
    let access = match traffic.enable_permissive_traffic_policy_mode {
        true => Access::Permissive,
        false => Access::Granted,
    };
    (access, Policies::Count)
}
