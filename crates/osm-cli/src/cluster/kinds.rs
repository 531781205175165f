//! The kinds of objects that an installed mesh is made of.

use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use osm_local::Failure;
use serde_json::Value;

/// One kind, and how its objects are reached.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) is_namespaced: bool,
}

impl Kind {
    const fn cluster(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
        Kind { group, version, kind, plural, is_namespaced: false }
    }

    const fn namespaced(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
        Kind { group, version, kind, plural, is_namespaced: true }
    }

    /// The same for kube.
    pub(crate) fn resource(&self) -> ApiResource {
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(self.group, self.version, self.kind), self.plural)
    }
}

pub(crate) const NAMESPACE: Kind = Kind::cluster("", "v1", "Namespace", "namespaces");
pub(crate) const CRD: Kind =
    Kind::cluster("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
pub(crate) const SECRET: Kind = Kind::namespaced("", "v1", "Secret", "secrets");
pub(crate) const LEASE: Kind = Kind::namespaced("coordination.k8s.io", "v1", "Lease", "leases");
pub(crate) const MESH_CONFIG: Kind =
    Kind::namespaced("config.openservicemesh.io", "v1alpha2", "MeshConfig", "meshconfigs");

/// What the chart makes, in the order in which a mesh is taken away: first what pods would wait for.
pub(crate) const OF_CHART: [Kind; 14] = [
    Kind::cluster(ADMISSION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
    Kind::cluster(ADMISSION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
    Kind::namespaced("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    Kind::namespaced("apps", "v1", "Deployment", "deployments"),
    Kind::namespaced("", "v1", "Service", "services"),
    Kind::namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Kind::namespaced("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    Kind::namespaced("", "v1", "ConfigMap", "configmaps"),
    Kind::namespaced(RBAC, "v1", "RoleBinding", "rolebindings"),
    Kind::namespaced(RBAC, "v1", "Role", "roles"),
    Kind::cluster(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings"),
    Kind::cluster(RBAC, "v1", "ClusterRole", "clusterroles"),
    Kind::namespaced("", "v1", "ServiceAccount", "serviceaccounts"),
    Kind::cluster("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses"),
];

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

/// The kind of an object.
pub(crate) fn kind_of(object: &Value) -> Result<&'static Kind, Failure> {
    static OTHERS: [Kind; 2] = [NAMESPACE, CRD];
    static CHART: [Kind; 14] = OF_CHART;
    let mut known = CHART.iter().chain(&OTHERS);
    known.find(|kind| object["kind"] == kind.kind).ok_or_else(|| Failure {
        message: format!("the chart has an object of kind {}, which this command does not install", object["kind"]),
        hint: "install that chart with helm".into(),
    })
}

#[cfg(test)]
mod tests {
    use osm_chart::{Chart, Release};
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_the_chart_is_known() {
        let release = Release { name: "osm".into(), namespace: "osm-system".into(), service: "osm".into() };
        let values = json!({"osm": {"osmController": {"autoScale": {"enable": true}}}});
        let rendered = Chart::built_in().render(&release, values).unwrap();
        for object in rendered.crds.iter().chain(&rendered.objects) {
            let kind = kind_of(object).unwrap();
            let group = if kind.group.is_empty() { String::new() } else { format!("{}/", kind.group) };
            assert_eq!(object["apiVersion"], format!("{group}{}", kind.version));
            assert_eq!(object["metadata"]["namespace"].is_string(), kind.is_namespaced, "{}", kind.kind);
        }
        let used = |kind: &&Kind| rendered.objects.iter().any(|object| object["kind"] == kind.kind);
        assert_eq!(OF_CHART.iter().filter(used).count(), OF_CHART.len());
    }
}
