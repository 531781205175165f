//! The kinds that the mesh reads from a cluster, and where each is found.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use osm_api::Kind;

/// What is watched. Deployments, jobs and config maps are for the local runner; a cluster carries them out itself.
pub const KINDS: [Kind; 9] = [
    Kind::Namespace,
    Kind::MeshConfig,
    Kind::ServiceAccount,
    Kind::HttpRouteGroup,
    Kind::TcpRoute,
    Kind::TrafficTarget,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
];

/// Where objects of a kind are listed and watched: settings of the mesh in its own namespace, all else everywhere.
pub(super) fn api(kind: Kind, client: &Client, osm_namespace: &str) -> Api<DynamicObject> {
    let resource = resource(kind);
    match kind {
        Kind::MeshConfig => Api::namespaced_with(client.clone(), osm_namespace, &resource),
        Kind::Namespace
        | Kind::ServiceAccount
        | Kind::ConfigMap
        | Kind::HttpRouteGroup
        | Kind::TcpRoute
        | Kind::TrafficTarget
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Deployment
        | Kind::Job
        | Kind::Pod => Api::all_with(client.clone(), &resource),
    }
}

/// Whether a kind is one of those that the mesh brings along, so that a cluster may not have it yet.
pub(super) fn is_custom(kind: Kind) -> bool {
    match kind {
        Kind::MeshConfig | Kind::HttpRouteGroup | Kind::TcpRoute | Kind::TrafficTarget => true,
        Kind::Namespace
        | Kind::ServiceAccount
        | Kind::ConfigMap
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Deployment
        | Kind::Job
        | Kind::Pod => false,
    }
}

/// The name of a kind in paths of the API.
pub(super) fn plural(kind: Kind) -> String {
    format!("{}s", kind.name().to_lowercase())
}

fn resource(kind: Kind) -> ApiResource {
    let (group, version) = kind.api_version().split_once('/').unwrap_or(("", kind.api_version()));
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind.name()), &plural(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let paths = KINDS.map(|kind| format!("{}/{}", kind.api_version(), plural(kind)));
        assert_eq!(
            paths,
            [
                "v1/namespaces",
                "config.openservicemesh.io/v1alpha2/meshconfigs",
                "v1/serviceaccounts",
                "specs.smi-spec.io/v1alpha4/httproutegroups",
                "specs.smi-spec.io/v1alpha4/tcproutes",
                "access.smi-spec.io/v1alpha3/traffictargets",
                "v1/services",
                "discovery.k8s.io/v1/endpointslices",
                "v1/pods",
            ]
        );
    }
}
