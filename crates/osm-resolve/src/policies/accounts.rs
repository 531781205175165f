//! Which service accounts there are.

use std::collections::BTreeSet;

use osm_api::{NamespacedName, World};

use crate::pods::{DEFAULT_SERVICE_ACCOUNT, Pods};

pub(crate) struct Accounts<'w> {
    namespaces: BTreeSet<&'w str>,
    accounts: BTreeSet<(&'w str, &'w str)>,
}

impl<'w> Accounts<'w> {
    /// Those that are written down, and those that pods run as: a pod proves by running that its account exists.
    pub(crate) fn read(world: &'w World, namespaces: &BTreeSet<&'w str>, pods: &'w Pods<'_>) -> Accounts<'w> {
        let place = |name: &'w NamespacedName| (name.namespace.as_str(), name.name.as_str());
        let mut accounts: BTreeSet<(&str, &str)> = world.service_accounts.keys().map(place).collect();
        let used = pods.meshed().map(|pod| &pod.identity);
        accounts.extend(used.map(|identity| (identity.namespace.as_str(), identity.service_account.as_str())));
        Accounts { namespaces: namespaces.clone(), accounts }
    }

    /// Whether a namespace is of the mesh.
    pub(crate) fn is_of_mesh(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    /// Whether there is such an account. Kubernetes gives each namespace one to begin with.
    pub(crate) fn exists(&self, namespace: &str, name: &str) -> bool {
        name == DEFAULT_SERVICE_ACCOUNT || self.accounts.contains(&(namespace, name))
    }
}
