//! A model of Envoy as a client of delta ADS, with the habits that matter: a changed cluster warms until its load
//! assignment comes once more, and meanwhile no answer for clusters is sent; a changed listener warms until its routes
//! are there, and meanwhile the one before it serves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use osm_xds::{Request, Resource, ResourceType, Resources, Response};

use crate::snapshot::{is_bad, references};

type Named = BTreeMap<String, Arc<Resource>>;

#[derive(Default)]
pub(crate) struct Envoy {
    clusters: Named,
    /// Clusters whose load assignment has not come since they did.
    warming: BTreeSet<String>,
    /// The answer for clusters that waits until none is warming.
    held: Option<Request>,
    assignments: Named,
    listeners: Named,
    /// What serves until the listener of the same name has its routes.
    serving: Named,
    routes: Named,
    /// Clusters received but refused: they were sent, so routes may refer to them.
    refused_clusters: BTreeSet<String>,
    asked: BTreeMap<ResourceType, BTreeSet<String>>,
}

impl Envoy {
    /// The first requests on a new stream.
    pub(crate) fn connect(&mut self) -> Vec<Request> {
        self.held = None;
        let mut requests = vec![
            Request { initial_versions: versions(&self.clusters), ..Request::empty(ResourceType::Cluster) },
            Request { initial_versions: versions(&self.listeners), ..Request::empty(ResourceType::Listener) },
        ];
        for (ty, known) in [(ResourceType::Endpoint, &self.assignments), (ResourceType::Route, &self.routes)] {
            let names = self.asked.get(&ty).cloned().unwrap_or_default();
            if !names.is_empty() {
                requests.push(Request { initial_versions: versions(known), ..Request::subscribe(ty, names) });
            }
        }
        requests.sort_by_key(|request| request.ty);
        // While clusters warm, nothing is said about clusters, on a new stream either.
        if !self.warming.is_empty() {
            self.held = Some(requests.remove(0));
        }
        requests
    }

    pub(crate) fn receive(&mut self, response: Response) -> Vec<Request> {
        let Response { ty, nonce, resources, removed } = response;
        let bad: Vec<&str> = resources.iter().filter(|r| is_bad(r)).map(|r| r.name.as_str()).collect();
        let answer = match bad.as_slice() {
            [] => Request::accept(ty, nonce),
            names => Request::reject(ty, nonce, format!("cannot use {}", names.join(", "))),
        };
        let mut requests = Vec::new();
        for resource in &resources {
            self.check_references(ty, resource);
            if !is_bad(resource) {
                self.apply(ty, resource);
            } else if ty == ResourceType::Cluster {
                self.refused_clusters.insert(resource.name.clone());
            }
        }
        for name in &removed {
            self.drop_removed(ty, name);
        }
        self.promote_listeners();
        if ty == ResourceType::Cluster {
            self.held = Some(answer);
        } else {
            requests.push(answer);
        }
        if self.warming.is_empty() {
            requests.extend(self.held.take());
        }
        requests.extend(self.ask(ResourceType::Endpoint, self.clusters.keys().cloned().collect()));
        let used =
            self.listeners.values().chain(self.serving.values()).flat_map(|listener| references(listener)).collect();
        requests.extend(self.ask(ResourceType::Route, used));
        self.routes.retain(|name, _| self.asked[&ResourceType::Route].contains(name));
        requests
    }

    /// Asks once more for something it already asked for.
    pub(crate) fn ask_again(&self, index: usize) -> Option<Request> {
        let asked: Vec<_> = self.asked.iter().flat_map(|(ty, names)| names.iter().map(|name| (*ty, name))).collect();
        let (ty, name) = *asked.get(index.checked_rem(asked.len())?)?;
        Some(Request::subscribe(ty, [name]))
    }

    /// Everything it has, to compare with what it should have.
    pub(crate) fn resources(&self) -> Resources {
        assert!(self.warming.is_empty(), "still warming: {:?}", self.warming);
        assert_eq!(self.serving, self.listeners, "a listener waits for its routes");
        let of = |ty: ResourceType, named: &Named| named.values().map(|r| (ty, r.clone())).collect::<Vec<_>>();
        of(ResourceType::Cluster, &self.clusters)
            .into_iter()
            .chain(of(ResourceType::Endpoint, &self.assignments))
            .chain(of(ResourceType::Listener, &self.listeners))
            .chain(of(ResourceType::Route, &self.routes))
            .collect()
    }

    fn check_references(&self, ty: ResourceType, resource: &Resource) {
        if ty == ResourceType::Route {
            for cluster in references(resource) {
                let is_sent = self.clusters.contains_key(&cluster) || self.refused_clusters.contains(&cluster);
                assert!(is_sent, "route {} came before cluster {cluster}", resource.name);
            }
        }
    }

    fn apply(&mut self, ty: ResourceType, resource: &Arc<Resource>) {
        let name = resource.name.clone();
        match ty {
            ResourceType::Cluster => {
                self.refused_clusters.remove(&name);
                self.warming.insert(name.clone());
                self.clusters.insert(name, resource.clone());
            }
            ResourceType::Endpoint => {
                self.warming.remove(&name);
                if self.clusters.contains_key(&name) {
                    self.assignments.insert(name, resource.clone());
                }
            }
            ResourceType::Listener => {
                self.listeners.insert(name, resource.clone());
            }
            ResourceType::Route => {
                self.routes.insert(name, resource.clone());
            }
            ResourceType::Secret => panic!("nobody asked for secrets"),
        }
    }

    fn drop_removed(&mut self, ty: ResourceType, name: &str) {
        match ty {
            ResourceType::Cluster => {
                self.check_unused(name);
                self.clusters.remove(name);
                self.refused_clusters.remove(name);
                self.assignments.remove(name);
                self.warming.remove(name);
            }
            ResourceType::Listener => {
                self.listeners.remove(name);
                self.serving.remove(name);
            }
            ResourceType::Endpoint => {
                self.warming.remove(name);
                self.assignments.remove(name);
            }
            // Envoy keeps routes until no listener uses them.
            ResourceType::Route => {}
            ResourceType::Secret => panic!("nobody asked for secrets"),
        }
    }

    fn check_unused(&self, cluster: &str) {
        for listener in self.serving.values() {
            for route in references(listener).iter().filter_map(|name| self.routes.get(name)) {
                let uses = references(route).iter().any(|name| name == cluster);
                assert!(!uses, "cluster {cluster} goes while route {} uses it", route.name);
            }
        }
    }

    fn promote_listeners(&mut self) {
        for (name, listener) in &self.listeners {
            if references(listener).iter().all(|route| self.routes.contains_key(route)) {
                self.serving.insert(name.clone(), listener.clone());
            }
        }
    }

    fn ask(&mut self, ty: ResourceType, wanted: BTreeSet<String>) -> Option<Request> {
        let before = self.asked.insert(ty, wanted.clone()).unwrap_or_default();
        let request = Request {
            subscribe: wanted.difference(&before).cloned().collect(),
            unsubscribe: before.difference(&wanted).cloned().collect(),
            ..Request::empty(ty)
        };
        (!request.subscribe.is_empty() || !request.unsubscribe.is_empty()).then_some(request)
    }
}

fn versions(named: &Named) -> BTreeMap<String, String> {
    named.values().map(|resource| (resource.name.clone(), resource.version.clone())).collect()
}
