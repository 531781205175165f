//! Services without whose endpoints the pod does not count as programmed, until it has once: which of them lack any in
//! what Envoy is given.

use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use jiff::{SignedDuration, Timestamp};
use osm_redirect::{Upstream, Upstreams, WaitLimit};
use osm_xds::{Resource, ResourceType, Resources};
use prost::Message;

use crate::gate::Lacking;

/// What the pod waits for.
#[derive(Clone, Debug, Default)]
pub struct Awaited {
    upstreams: Vec<Upstream>,
    /// When the wait ends whatever there is; never if not set.
    until: Option<Timestamp>,
}

impl Awaited {
    /// Waits from `now` on.
    pub fn new(upstreams: Upstreams, limit: Option<WaitLimit>, now: Timestamp) -> Awaited {
        let end = |limit: WaitLimit| now.checked_add(SignedDuration::try_from(limit.0).ok()?).ok();
        Awaited { upstreams: upstreams.0, until: limit.and_then(end) }
    }

    /// When it is to be looked at again though nothing has happened.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        self.until.filter(|_| !self.upstreams.is_empty())
    }

    /// Those of the services that have no endpoint among the resources that Envoy is `given`. Once the limit has passed,
    /// the wait is given up, which is said once.
    pub(crate) fn lacking(&mut self, given: &Resources, now: Timestamp) -> Vec<Lacking> {
        let lacks = |upstream: &&Upstream| !has_endpoint(upstream, given);
        let lacking = self.upstreams.iter().filter(lacks).map(|upstream| Lacking {
            upstream: upstream.to_string(),
            is_known: resources_of(upstream, ResourceType::Cluster, given).next().is_some(),
            until: self.until,
        });
        let lacking: Vec<Lacking> = lacking.collect();
        if self.until.is_none_or(|until| now < until) {
            return lacking;
        }
        if !lacking.is_empty() {
            let names: Vec<&str> = lacking.iter().map(|lacking| lacking.upstream.as_str()).collect();
            tracing::warn!(
                upstreams = names.join(", "),
                "the limit has passed, so these are not waited for any longer"
            );
        }
        self.upstreams.clear();
        Vec::new()
    }
}

/// A service that has no list of endpoints, because its pods are dialled by their own addresses, counts when it is known.
fn has_endpoint(upstream: &Upstream, given: &Resources) -> bool {
    let mut clusters = resources_of(upstream, ResourceType::Cluster, given);
    clusters.any(|cluster| match given.get(ResourceType::Endpoint, &cluster.name) {
        Some(assignment) => ClusterLoadAssignment::decode(&*assignment.body).is_ok_and(|it| has_healthy(&it)),
        None => true,
    })
}

fn has_healthy(assignment: &ClusterLoadAssignment) -> bool {
    let healthy = [HealthStatus::Unknown, HealthStatus::Healthy, HealthStatus::Degraded].map(|status| status as i32);
    let mut endpoints = assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    endpoints.any(|endpoint| healthy.contains(&endpoint.health_status))
}

/// Clusters and load assignments are called `namespace/service|port`.
fn resources_of<'a>(
    upstream: &Upstream,
    ty: ResourceType,
    given: &'a Resources,
) -> impl Iterator<Item = &'a Resource> + use<'a> {
    let prefix = format!("{}/{}|", upstream.namespace, upstream.service);
    let port = upstream.port.map(|port| port.to_string());
    let from = given.of(ty).range(prefix.clone()..);
    let named = from.map_while(move |(name, resource)| name.strip_prefix(&prefix).map(|port| (port, &**resource)));
    named.filter(move |(number, _)| port.as_ref().is_none_or(|port| port == number)).map(|(_, resource)| resource)
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::endpoint::v3::{LbEndpoint, LocalityLbEndpoints};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_900_000_000 + second).unwrap()
    }

    fn cluster(name: &str) -> (ResourceType, Resource) {
        (ResourceType::Cluster, Resource::new(name, name.as_bytes()))
    }

    fn assignment(name: &str, healths: &[HealthStatus]) -> (ResourceType, Resource) {
        let endpoint = |health: &HealthStatus| LbEndpoint { health_status: *health as i32, ..LbEndpoint::default() };
        let lb_endpoints = healths.iter().map(endpoint).collect();
        let endpoints = vec![LocalityLbEndpoints { lb_endpoints, ..LocalityLbEndpoints::default() }];
        let assignment =
            ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints, ..ClusterLoadAssignment::default() };
        (ResourceType::Endpoint, Resource::new(name, assignment.encode_to_vec()))
    }

    fn given() -> Resources {
        let named = ["shop/api|80", "shop/api|81", "shop/api-2|80", "shop/db|5432", "shop/headless|80"];
        let lists = [
            assignment("shop/api|80", &[]),
            assignment("shop/api|81", &[HealthStatus::Unhealthy, HealthStatus::Unknown]),
            assignment("shop/api-2|80", &[HealthStatus::Healthy]),
            assignment("shop/db|5432", &[HealthStatus::Draining, HealthStatus::Unhealthy]),
        ];
        named.into_iter().map(cluster).chain(lists).collect()
    }

    #[test]
    fn services_without_a_healthy_endpoint_are_named() {
        let check = |text: &str, expected: &[(&str, bool)]| {
            let lacking = Awaited::new(text.parse().unwrap(), None, at(0)).lacking(&given(), at(0));
            let found: Vec<_> = lacking.iter().map(|lacking| (lacking.upstream.as_str(), lacking.is_known)).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("", &[]);
        check("shop/api, shop/api-2, shop/api:81", &[]);
        check("shop/api:80", &[("shop/api:80", true)]);
        check("shop/api:8", &[("shop/api:8", false)]);
        check("shop/ap, shop/db:5432", &[("shop/ap", false), ("shop/db:5432", true)]);
        check("shop/headless", &[]);
        check("other/api", &[("other/api", false)]);
    }

    #[test]
    fn after_the_limit_nothing_is_waited_for() {
        let limit = "10s".parse().ok();
        let mut awaited = Awaited::new("shop/db".parse().unwrap(), limit, at(0));
        assert_eq!(awaited.until(), Some(at(10)));
        assert_eq!(awaited.lacking(&given(), at(9)).len(), 1);
        assert_eq!(awaited.lacking(&given(), at(10)), []);
        assert_eq!((awaited.until(), awaited.lacking(&given(), at(0))), (None, Vec::new()));
    }
}
