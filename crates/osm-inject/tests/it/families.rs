//! The address families of a mesh that says which: the rules and the agent must be told alike.

use osm_api::{INIT_CONTAINER, SIDECAR_CONTAINER, SIDECAR_INJECTION, k8s};
use osm_inject::{Injection, inject};
use osm_redirect::{FAMILIES_VARIABLE, Families};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::policy;

/// Arguments of `osm-init`, and what the agent's variable holds.
fn told(families: Families) -> (Vec<String>, Option<String>) {
    let mut policy = policy();
    policy.redirect.families = families;
    let mut pod: k8s::Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "web"}, "spec": {"containers": [{"name": "main", "image": "web"}]}}))
    .unwrap();
    pod.metadata.annotations = Some([(SIDECAR_INJECTION.to_owned(), "enabled".to_owned())].into());
    let namespace: k8s::Namespace = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "shop", "labels": {(osm_api::MONITORED_BY): "osm"}}}))
    .unwrap();
    let injection = inject(&pod, &namespace, &policy, &mut StdRng::seed_from_u64(1)).unwrap();
    let Injection::Injected { pod, .. } = injection else { panic!("it was skipped: {injection:?}") };
    let spec = pod.spec.unwrap();
    let all = [spec.init_containers.unwrap_or_default(), spec.containers].concat();
    let named = |name: &str| all.iter().find(|container| container.name == name).unwrap().clone();
    let (init, sidecar) = (named(INIT_CONTAINER), named(SIDECAR_CONTAINER));
    let variable = sidecar.env.unwrap().into_iter().find(|variable| variable.name == FAMILIES_VARIABLE);
    (init.args.unwrap(), variable.and_then(|variable| variable.value))
}

#[test]
fn rules_and_agent_are_told_the_same_families() {
    assert_eq!(told(Families::default()), (vec!["init".to_owned()], None), "both find out by themselves");
    for (families, word) in [(Families::V4, "v4"), (Families::DualStack, "dual-stack")] {
        let args = vec!["init".to_owned(), format!("--families={word}")];
        assert_eq!(told(families), (args, Some(word.to_owned())));
    }
}
