//! What the webhooks ask the API server themselves: one namespace, every node, its version.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use osm_api::k8s;
use osm_inject::{KubeletVersion, NativeSidecars};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long one question may take: the API server waits for us no longer than ten seconds.
const QUESTION_LIMIT: Duration = Duration::from_secs(3);

/// What is known of nodes. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    seen: watch::Receiver<Seen>,
}

/// What was said last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The nodes, once they are known, with nothing in them but what scheduling and age depend on.
    nodes: Arc<Vec<k8s::Node>>,
    /// The API server's own version.
    server: Option<KubeletVersion>,
}

/// Why a namespace is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoNamespace {
    /// The API server has none.
    #[error("there is no namespace {0}")]
    Missing(String),
    /// It does not say.
    #[error("the API server does not say what namespace {name} is")]
    Unknown {
        /// Which.
        name: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// It says nothing.
    #[error("the API server does not answer within {QUESTION_LIMIT:?}")]
    Late,
}

/// The namespace as the API server has it now.
pub(crate) async fn namespace(client: &Client, name: &str) -> Result<k8s::Namespace, NoNamespace> {
    let api = Api::<k8s::Namespace>::all(client.clone());
    let found = tokio::time::timeout(QUESTION_LIMIT, api.get_opt(name)).await.map_err(|_| NoNamespace::Late)?;
    let found = found.map_err(|source| NoNamespace::Unknown { name: name.to_owned(), source: Box::new(source) })?;
    found.ok_or_else(|| NoNamespace::Missing(name.to_owned()))
}

impl Nodes {
    /// Nothing known yet; whoever holds the sender says more.
    pub(crate) fn channel() -> (watch::Sender<Seen>, Nodes) {
        let (sender, seen) = watch::channel(Seen::default());
        (sender, Nodes { seen })
    }

    /// Whether a pod can have a native sidecar wherever it lands.
    pub(crate) fn native_sidecars(&self, pod: &k8s::Pod) -> NativeSidecars {
        let seen = self.seen.borrow().clone();
        let by_nodes = pod.spec.as_ref().and_then(|spec| NativeSidecars::on_nodes(spec, &seen.nodes));
        by_nodes.unwrap_or_else(|| NativeSidecars::by_server(seen.server))
    }
}

/// Follows the nodes until `stop`. While they cannot be read, the API server's version has to do.
pub(crate) async fn follow(client: Client, seen: watch::Sender<Seen>, stop: CancellationToken) -> anyhow::Result<()> {
    let server = async {
        match tokio::time::timeout(QUESTION_LIMIT, client.apiserver_version()).await {
            Ok(Ok(version)) => {
                let text = format!("{}.{}", version.major, version.minor);
                seen.send_modify(|seen| seen.server = text.parse().ok());
            }
            Ok(Err(error)) => tracing::warn!(%error, "the API server's version is not known"),
            Err(_) => tracing::warn!("the API server does not say its version in time"),
        }
    };
    tokio::select! {
        () = async { server.await; follow_nodes(client.clone(), &seen).await } => Ok(()),
        () = stop.cancelled() => Ok(()),
    }
}

async fn follow_nodes(client: Client, seen: &watch::Sender<Seen>) {
    let nodes = watcher(Api::<k8s::Node>::all(client), watcher::Config::default()).default_backoff();
    let mut nodes = std::pin::pin!(nodes);
    let (mut known, mut coming) = (BTreeMap::new(), BTreeMap::new());
    while let Some(event) = nodes.next().await {
        match event {
            Ok(watcher::Event::Init) => coming = BTreeMap::new(),
            Ok(watcher::Event::InitApply(node)) => drop(coming.insert(node.metadata.name.clone(), stripped(node))),
            Ok(watcher::Event::InitDone) => known = std::mem::take(&mut coming),
            Ok(watcher::Event::Apply(node)) => drop(known.insert(node.metadata.name.clone(), stripped(node))),
            Ok(watcher::Event::Delete(node)) => drop(known.remove(&node.metadata.name)),
            Err(error) => {
                tracing::warn!(%error, "the nodes cannot be read; the shapes of pods follow what was known before");
                continue;
            }
        }
        let nodes: Vec<k8s::Node> = known.values().cloned().collect();
        // A node says every few seconds that it lives, which is nothing new here.
        seen.send_if_modified(|seen| {
            let is_new = *seen.nodes != nodes;
            if is_new {
                seen.nodes = Arc::new(nodes);
            }
            is_new
        });
    }
}

fn stripped(node: k8s::Node) -> k8s::Node {
    let metadata =
        k8s::ObjectMeta { name: node.metadata.name, labels: node.metadata.labels, ..k8s::ObjectMeta::default() };
    let taints = node.spec.and_then(|spec| spec.taints);
    let version = node.status.and_then(|status| status.node_info).map(|system| system.kubelet_version);
    let system = version.map(|kubelet_version| k8s::NodeSystemInfo { kubelet_version, ..Default::default() });
    k8s::Node {
        metadata,
        spec: Some(k8s::NodeSpec { taints, ..k8s::NodeSpec::default() }),
        status: Some(k8s::NodeStatus { node_info: system, ..k8s::NodeStatus::default() }),
    }
}
