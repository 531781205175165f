//! What the webhooks know of the cluster beside the World: one namespace as it is now, the nodes, the API server's
//! version.

use std::time::Duration;

use kube::{Api, Client};
use osm_api::k8s;
use osm_inject::{KubeletVersion, NativeSidecars};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long one question may take: the API server waits for us no longer than ten seconds.
const QUESTION_LIMIT: Duration = Duration::from_secs(3);

/// Where pods may land, as far as it is known.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    /// Every node, once they were read.
    pub(crate) nodes: watch::Receiver<Option<Vec<k8s::Node>>>,
    /// The API server's own version.
    pub(crate) server: watch::Receiver<Option<KubeletVersion>>,
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
    /// Whether a pod can have a native sidecar wherever it lands.
    pub(crate) fn native_sidecars(&self, pod: &k8s::Pod) -> NativeSidecars {
        let nodes = self.nodes.borrow();
        let known = pod.spec.as_ref().zip(nodes.as_deref());
        let by_nodes = known.and_then(|(spec, nodes)| NativeSidecars::on_nodes(spec, nodes));
        by_nodes.unwrap_or_else(|| NativeSidecars::by_server(*self.server.borrow()))
    }
}

/// Asks the API server for its version once. Without it, and without nodes, no pod gets a native sidecar.
pub(crate) async fn ask_version(
    client: Client,
    told: watch::Sender<Option<KubeletVersion>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let answer = tokio::select! {
        answer = tokio::time::timeout(QUESTION_LIMIT, client.apiserver_version()) => answer,
        () = stop.cancelled() => return Ok(()),
    };
    match answer {
        Ok(Ok(version)) => drop(told.send_replace(format!("{}.{}", version.major, version.minor).parse().ok())),
        Ok(Err(error)) => tracing::warn!(%error, "the API server's version is not known"),
        Err(_) => tracing::warn!("the API server does not say its version in time"),
    }
    stop.cancelled().await;
    Ok(())
}
