//! What a World would be if the runner ran it: for questions about manifests that nobody runs.

use std::sync::Arc;

use osm_api::World;
use osm_inject::{Injection, inject};
use rand::RngExt;

use crate::admission::policy;
use crate::desired::{completed, desired};

/// The World with what exists in every cluster, and with the pods of its Deployments, each with its sidecar where it
/// gets one. Pods that would not start are as they were written. What is wrong is said by others.
pub fn preview(written: &World, rng: &mut impl RngExt) -> World {
    let mut world = completed(written);
    let (policy, _) = policy(&world, "");
    for (name, wanted) in desired(&world).pods {
        let namespace = world.namespaces.get(&name.namespace);
        let injected = namespace.and_then(|namespace| inject(&wanted.pod, namespace, &policy, rng).ok());
        let pod = match injected {
            Some(Injection::Injected { pod, .. }) => Arc::from(pod),
            Some(Injection::Skipped { .. }) | None => wanted.pod,
        };
        world.pods.insert(name, pod);
    }
    world
}

#[cfg(test)]
mod tests {
    use super::*;
    use osm_api::{ManifestSet, NamespacedName};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn a_deployment_is_seen_as_its_pods_with_their_sidecars() {
        let text = "
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {openservicemesh.io/monitored-by: osm}
  annotations: {openservicemesh.io/sidecar-injection: enabled}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: default}
spec: {containers: [{name: c, image: i}]}
";
        let mut world = World::default();
        for change in ManifestSet::default().put("test.yaml", text).changes {
            world.apply(change);
        }
        let seen = preview(&world, &mut StdRng::seed_from_u64(1));
        let of_shop: Vec<_> = seen.pods.iter().filter(|(name, _)| name.namespace == "shop").collect();
        assert!(of_shop.len() == 2 && of_shop.iter().all(|(_, pod)| osm_api::is_injected(pod)), "{of_shop:?}");
        assert!(!osm_api::is_injected(&seen.pods[&NamespacedName::new("default", "alone")]));
        assert!(seen.service_accounts.contains_key(&NamespacedName::new("shop", "default")));
    }
}
