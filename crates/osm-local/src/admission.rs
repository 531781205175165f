//! What a cluster's API server does with a pod before anything starts: a uid, injection, and a look at whether its
//! containers can run at all. Pure but for the generator that it is given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use osm_api::{MESH_CONFIG_NAME, NamespacedName, Problem, Reason, World, k8s};
use osm_inject::{InjectPolicy, Injection, NativeSidecars, inject};
use osm_redirect::Redirect;
use rand::RngExt;

use crate::addresses::{CLUSTER_DOMAIN, GATEWAY, PodIps};
use crate::config_maps::{self, ConfigMaps};
use crate::desired::{OSM_NAMESPACE, service_account};
use crate::images::{Image, Images};
use crate::process::{Surroundings, container_spec};

/// The image of sidecar and `osm-init`, unless the MeshConfig names others.
const SIDECAR_IMAGE: &str = "openservicemesh/osm-sidecar";
const CONTROLLER_PORT: u16 = 15128;

/// The programs of the sidecar's image on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SidecarPrograms {
    /// `osm-sidecar`, with init and agent.
    pub(crate) sidecar: Option<PathBuf>,
    /// Envoy.
    pub(crate) envoy: Option<PathBuf>,
}

/// A pod that may start.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Admitted {
    /// The pod, with all that the mesh added.
    pub(crate) pod: Arc<k8s::Pod>,
    /// The ConfigMaps that it may have as files.
    pub(crate) config_maps: ConfigMaps,
    /// Shape and reason, when it is in the mesh.
    pub(crate) injected: Option<String>,
    /// What will not work as its user may expect.
    pub(crate) warnings: Vec<Problem>,
}

/// The rules of injection as the World's MeshConfig has them, and what is wrong in it.
pub(crate) fn policy(world: &World, root_ca_pem: &str) -> (InjectPolicy, Vec<Problem>) {
    let base = InjectPolicy {
        mesh_name: "osm".into(),
        osm_namespace: OSM_NAMESPACE.into(),
        trust_domain: CLUSTER_DOMAIN.into(),
        sidecar_image: SIDECAR_IMAGE.into(),
        init_image: SIDECAR_IMAGE.into(),
        image_pull_policy: "IfNotPresent".into(),
        controller_address: format!("{GATEWAY}:{CONTROLLER_PORT}"),
        controller_name: format!("osm-controller.{OSM_NAMESPACE}.svc"),
        root_ca_pem: root_ca_pem.into(),
        log_level: "error".into(),
        resources: None,
        concurrency: None,
        privileged_init: false,
        redirect: Redirect::default(),
        native_sidecars: NativeSidecars::Available,
        startup: None,
        hold: None,
    };
    match world.mesh_configs.get(&NamespacedName::new(OSM_NAMESPACE, MESH_CONFIG_NAME)) {
        Some(config) => InjectPolicy::from_mesh_config(&config.spec, base),
        None => (base, Vec::new()),
    }
}

/// These images, and those of the mesh under the names that the policy gives them.
pub(crate) fn with_mesh_images(images: &Images, policy: &InjectPolicy, programs: &SidecarPrograms) -> Images {
    let mut images = images.clone();
    let program = |name: &str, file: &Option<PathBuf>| {
        file.clone().map(|file| (PathBuf::from(format!("/usr/local/bin/{name}")), file))
    };
    let image = Image {
        command: vec!["osm-sidecar".into()],
        root: None,
        env: BTreeMap::from([("OSM_ENVOY".into(), "/usr/local/bin/envoy".into())]),
        mounts: [program("osm-sidecar", &programs.sidecar), program("envoy", &programs.envoy)]
            .into_iter()
            .flatten()
            .collect(),
    };
    for name in [&policy.sidecar_image, &policy.init_image] {
        images.images.entry(name.clone()).or_insert_with(|| image.clone());
    }
    images
}

/// Admits a pod, or says everything that keeps it from starting.
pub(crate) fn admit(
    pod: &k8s::Pod,
    world: &World,
    policy: &InjectPolicy,
    images: &Images,
    programs: &SidecarPrograms,
    now: Timestamp,
    rng: &mut impl RngExt,
) -> Result<Admitted, Vec<Problem>> {
    let pod = completed(pod, now, rng);
    let (name, namespace) =
        (pod.metadata.name.clone().unwrap_or_default(), pod.metadata.namespace.clone().unwrap_or_default());
    let subject = format!("Pod {namespace}/{name}");
    let Some(namespace) = world.namespaces.get(&namespace) else {
        return Err(vec![Problem::new(subject, Reason::Missing, "its namespace does not exist")]);
    };
    let (pod, injected, warnings) = match inject(&pod, namespace, policy, rng)? {
        Injection::Skipped { .. } => (pod, None, Vec::new()),
        Injection::Injected { pod, shape, why, warnings } => {
            let missing = missing_programs(&subject, programs);
            if !missing.is_empty() {
                return Err(missing);
            }
            (*pod, Some(format!("{shape}: {why}")), warnings)
        }
    };
    let config_maps = config_maps::of_namespace(world, pod.metadata.namespace.as_deref().unwrap_or_default());
    let pod = Arc::new(config_maps::inlined(pod, &config_maps));
    let admitted = Admitted { pod, config_maps, injected, warnings };
    let problems = unable_to_run(&admitted.pod, images);
    if problems.is_empty() { Ok(admitted) } else { Err(problems) }
}

/// What the API server fills in.
fn completed(pod: &k8s::Pod, now: Timestamp, rng: &mut impl RngExt) -> k8s::Pod {
    let mut pod = pod.clone();
    pod.metadata.uid = Some(uid(rng));
    pod.metadata.creation_timestamp = Some(Time(now));
    let spec = pod.spec.get_or_insert_default();
    spec.service_account_name = Some(service_account(spec).to_owned());
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    pod
}

/// A random UUID (RFC 9562, version 4).
fn uid(rng: &mut impl RngExt) -> String {
    let bits: u128 = rng.random();
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn missing_programs(subject: &str, programs: &SidecarPrograms) -> Vec<Problem> {
    let problem = |what: &str, hint: &str| {
        Problem::new(subject, Reason::Missing, format!("{what} is not on this machine; the pod is not started"))
            .with_hint(hint)
    };
    let mut problems = Vec::new();
    if programs.sidecar.is_none() {
        problems.push(problem("osm-sidecar", "put it into the folder of the program osm"));
    }
    if programs.envoy.is_none() {
        problems.push(problem("Envoy", "put it on the PATH, or name it in OSM_ENVOY, and bring the runner up again"));
    }
    problems
}

/// Every container is made up once, with volumes and address of no meaning, to see whether it can be.
fn unable_to_run(pod: &k8s::Pod, images: &Images) -> Vec<Problem> {
    let spec = pod.spec.clone().unwrap_or_default();
    let names = spec.volumes.iter().flatten().map(|volume| volume.name.clone());
    let volumes: BTreeMap<String, PathBuf> = names.map(|name| (name, PathBuf::from("/volume"))).collect();
    let around = Surroundings { pod, ips: PodIps::NONE, images, volumes: &volumes, scratch: Path::new("/scratch") };
    let fields = fields(&spec);
    fields
        .into_iter()
        .filter_map(|(field, container)| container_spec(container, &field, &around).err())
        .map(|p| *p)
        .collect()
}

/// Each container with its place in the pod, in the order in which they start.
pub(crate) fn fields(spec: &k8s::PodSpec) -> Vec<(String, &k8s::Container)> {
    let init = spec.init_containers.iter().flatten().enumerate();
    let apps = spec.containers.iter().enumerate();
    let init = init.map(|(index, container)| (format!("spec.initContainers[{index}]"), container));
    init.chain(apps.map(|(index, container)| (format!("spec.containers[{index}]"), container))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use osm_api::ManifestSet;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn world(annotations: &str) -> World {
        let text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {{openservicemesh.io/monitored-by: \
             osm}}\n  annotations: {{{annotations}}}\n"
        );
        let mut world = World::default();
        for change in ManifestSet::default().put("test.yaml", &text).changes {
            world.apply(change);
        }
        world
    }

    fn check(annotations: &str, spec: serde_json::Value, programs: &SidecarPrograms) -> Result<Admitted, Vec<String>> {
        let pod = serde_json::json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
        let world = world(annotations);
        let (policy, _) = policy(&world, "PEM");
        let images = with_mesh_images(&Images::default(), &policy, programs);
        let (now, mut rng) = (Timestamp::UNIX_EPOCH, StdRng::seed_from_u64(1));
        admit(&serde_json::from_value(pod).unwrap(), &world, &policy, &images, programs, now, &mut rng)
            .map_err(|problems| problems.iter().map(Problem::to_string).collect())
    }

    const ENABLED: &str = "openservicemesh.io/sidecar-injection: enabled";

    fn programs() -> SidecarPrograms {
        SidecarPrograms { sidecar: Some("/bin/osm-sidecar".into()), envoy: Some("/bin/envoy".into()) }
    }

    #[test]
    fn a_pod_of_the_mesh_gets_a_sidecar_that_can_run_and_others_stay_as_they_are() {
        let spec = serde_json::json!({"containers": [{"name": "c", "command": ["x"]}]});
        let meshed = check(ENABLED, spec.clone(), &programs()).unwrap();
        assert!(meshed.injected.unwrap().starts_with("init: "));
        assert_eq!(meshed.pod.spec.as_ref().unwrap().containers.len(), 2);
        let plain = check("", spec, &SidecarPrograms::default()).unwrap();
        assert_eq!((plain.injected, plain.pod.spec.as_ref().unwrap().containers.len()), (None, 1));
        let uid = plain.pod.metadata.uid.clone().unwrap();
        assert_eq!((uid.len(), &uid[14..15]), (36, "4"));
    }

    #[test]
    fn what_cannot_run_is_refused_with_every_reason() {
        let spec = serde_json::json!({"containers": [{"name": "a", "image": "x/y"}, {"name": "b", "image": "x/z"}]});
        let said = check("", spec, &programs()).unwrap_err();
        assert_eq!(said.len(), 2);
        assert!(said[1].contains("spec.containers[1].command: image \"x/z\" has no command"), "{said:?}");
        let spec = serde_json::json!({"containers": [{"name": "c", "command": ["x"]}]});
        let said = check(ENABLED, spec, &SidecarPrograms::default()).unwrap_err();
        assert!(said[0].contains("osm-sidecar is not on this machine") && said[1].contains("Envoy"), "{said:?}");
        let security = serde_json::json!({"runAsUser": 1500});
        let spec = serde_json::json!({"containers": [{"name": "c", "command": ["x"], "securityContext": security}]});
        let said = check(ENABLED, spec, &programs()).unwrap_err();
        assert!(said[0].contains("spec.containers[0].securityContext.runAsUser"), "{said:?}");
    }
}
