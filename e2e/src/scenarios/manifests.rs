//! Manifests that several scenarios share.

/// A namespace of the mesh.
pub(crate) fn mesh_namespace(name: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Namespace
metadata:
  name: {name}
  labels: {{openservicemesh.io/monitored-by: osm}}
  annotations: {{openservicemesh.io/sidecar-injection: enabled}}
"
    )
}

/// A namespace outside the mesh.
pub(crate) fn plain_namespace(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

/// A service account.
pub(crate) fn service_account(namespace: &str, name: &str) -> String {
    format!("---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}\n")
}

/// A service for the pods with label `app: NAME`, with these ports as in YAML.
pub(crate) fn service(namespace: &str, name: &str, ports: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{app: {name}}}
  ports: [{ports}]
"
    )
}

/// One pod that runs `osm-demo` with these arguments under the service account of its own name, labelled `app: APP`.
pub(crate) fn demo_pod(namespace: &str, name: &str, app: &str, arguments: &str) -> String {
    pod(namespace, name, app, &format!("args: [{arguments}]"))
}

/// A pod that stays and does nothing, to run commands in.
pub(crate) fn idle_pod(namespace: &str, name: &str) -> String {
    pod(namespace, name, name, "command: [sleep, infinity]")
}

fn pod(namespace: &str, name: &str, app: &str, what_runs: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{app: {app}}}
spec:
  serviceAccountName: {name}
  containers:
    - name: main
      image: osm-demo
      {what_runs}
"
    )
}

/// Only what TrafficTargets grant.
pub(crate) const SMI_MODE: &str = "---
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {name: osm-mesh-config, namespace: osm-system}
spec: {traffic: {enablePermissiveTrafficPolicyMode: false}}
";

/// The settings of a permissive mesh with these of sidecars, as YAML.
pub(crate) fn sidecar_settings(sidecar: &str) -> String {
    format!(
        "---
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {{name: osm-mesh-config, namespace: osm-system}}
spec: {{sidecar: {{{sidecar}}}, traffic: {{enablePermissiveTrafficPolicyMode: true}}}}
"
    )
}

/// Lets the pods of one service account of `shop` ask those of another for everything.
pub(crate) fn grant(source: &str, destination: &str) -> String {
    format!(
        "---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {{name: everything, namespace: shop}}
spec: {{matches: [{{name: all, pathRegex: '.*', methods: ['*']}}]}}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: {source}-to-{destination}, namespace: shop}}
spec:
  destination: {{kind: ServiceAccount, name: {destination}, namespace: shop}}
  sources: [{{kind: ServiceAccount, name: {source}, namespace: shop}}]
  rules: [{{kind: HTTPRouteGroup, name: everything, matches: [all]}}]
"
    )
}

/// Namespace `shop` of the mesh: `server` answers HTTP on port 80 of its service, `client` waits for commands.
pub(crate) fn shop() -> String {
    [
        mesh_namespace("shop"),
        service_account("shop", "server"),
        service_account("shop", "client"),
        service("shop", "server", "{name: http, port: 80, targetPort: 8080}"),
        demo_pod("shop", "server", "server", "serve, --port, '8080', --name, server"),
        idle_pod("shop", "client"),
    ]
    .concat()
}

/// The same outside the mesh, in namespace `plain`.
pub(crate) fn plain_shop() -> String {
    [
        plain_namespace("plain"),
        service_account("plain", "server"),
        service_account("plain", "client"),
        service("plain", "server", "{name: http, port: 80, targetPort: 8080}"),
        demo_pod("plain", "server", "server", "serve, --port, '8080', --name, server"),
        idle_pod("plain", "client"),
    ]
    .concat()
}

/// A pod that connects once, at once, and is never restarted.
pub(crate) fn once_pod(name: &str, annotations: &str) -> String {
    let once = "  restartPolicy: Never
  containers:
    - name: once
      image: osm-demo
      args: [once, 'http://server.shop/']
";
    container_pod(name, annotations, once)
}

/// The rest of the spec of a [`container_pod`] that stays and does nothing, to run commands in.
pub(crate) const IDLE: &str = "  containers:
    - {name: main, image: osm-demo, command: [sleep, infinity]}
";

/// One more pod behind a service of `shop` that selects `app: APP`, under the service account `server`.
pub(crate) fn server_pod(name: &str, app: &str, annotations: &str, arguments: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: shop
  labels: {{app: {app}}}
  annotations: {{{annotations}}}
spec:
  serviceAccountName: server
  containers:
    - name: main
      image: osm-demo
      args: [{arguments}]
"
    )
}

/// A pod of `shop` under the service account `client`, with these annotations and the rest of its spec, as YAML.
pub(crate) fn container_pod(name: &str, annotations: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: shop
  annotations: {{{annotations}}}
spec:
  serviceAccountName: client
{spec}"
    )
}
