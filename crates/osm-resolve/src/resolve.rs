//! The one function of this crate, and what it is told beside the World.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use osm_api::{Problem, World};
use osm_model::{Access, Endpoint, Grants, Mesh, Service, ServiceName, ServicePort, TrustDomain};

use crate::pods::Pods;
use crate::report::Report;
use crate::services::ServiceDraft;
use crate::settings::Policies;
use crate::{endpoints, namespaces, policies, proxies, services, settings};

/// What the World does not say: which mesh is meant, and the domains of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveOptions {
    /// The mesh: the value of the label on its namespaces.
    pub mesh_name: String,
    /// The control plane's namespace.
    pub osm_namespace: String,
    /// The suffix of every identity.
    pub trust_domain: TrustDomain,
    /// The domain of service names, as `cluster.local`.
    pub cluster_domain: String,
}

impl Default for ResolveOptions {
    /// What `osm install` installs when it is told nothing.
    fn default() -> ResolveOptions {
        ResolveOptions {
            mesh_name: "osm".to_owned(),
            osm_namespace: "osm-system".to_owned(),
            trust_domain: TrustDomain("cluster.local".to_owned()),
            cluster_domain: "cluster.local".to_owned(),
        }
    }
}

/// What the objects of a World mean together, and what is wrong with them, in a fixed order.
pub fn resolve(world: &World, options: &ResolveOptions) -> (Mesh, Vec<Problem>) {
    let mut report = Report::new(world);
    let found = settings::read(world, options, &mut report);
    let namespaces = namespaces::of_mesh(world, options, &mut report);
    let pods = Pods::read(world, &namespaces, options, &mut report);
    let drafts = services::read(world, &namespaces, &pods, &mut report);
    let endpoints = endpoints::read(world, &namespaces, &pods, &drafts, &mut report);
    let proxies = proxies::classes(&pods, &drafts, &mut report);
    let services = assemble(&drafts, endpoints);
    let grants = match found.policies {
        Policies::Count => policies::read(world, &namespaces, &pods, &mut report),
        // Read all the same, for what is wrong in them.
        Policies::AdmitNobody => {
            policies::read(world, &namespaces, &pods, &mut report);
            Grants::default()
        }
    };
    if found.settings.access == Access::Granted && found.policies == Policies::Count && grants.is_empty() {
        settings::report_nobody(world, options, &mut report);
    }
    (Mesh::new(found.settings, services, proxies, grants), report.finish())
}

fn assemble(
    drafts: &BTreeMap<ServiceName, ServiceDraft<'_>>,
    mut endpoints: BTreeMap<(ServiceName, u16), BTreeSet<Endpoint>>,
) -> BTreeMap<ServiceName, Arc<Service>> {
    let mut services = BTreeMap::new();
    for (name, draft) in drafts {
        let mut ports = BTreeMap::new();
        for (number, port) in &draft.ports {
            let endpoints = endpoints.remove(&(name.clone(), *number)).unwrap_or_default();
            let targets = proxies::targets(draft, port);
            ports.insert(*number, ServicePort { protocol: port.protocol, targets, endpoints });
        }
        let addresses = draft.addresses.clone();
        let identities = draft.pods.iter().map(|pod| pod.identity.clone()).collect();
        services.insert(name.clone(), Arc::new(Service { name: name.clone(), addresses, ports, identities }));
    }
    services
}
