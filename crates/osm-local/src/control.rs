//! How a runner is spoken to: one line of JSON each way over its control socket. Client and server.

use std::path::Path;

use anyhow::Context;
use osm_api::{NamespacedName, Problem, k8s};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::process::ProcessSpec;
use crate::status::Status;

/// A longer line is refused: 100,000 objects fit.
const LINE_LIMIT_BYTES: u64 = 256 << 20;

/// What can be asked of a runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// Take in these manifests.
    Apply {
        /// Their texts.
        files: Vec<ManifestText>,
    },
    /// Forget the objects of these manifests, whatever else the manifests say.
    Delete {
        /// Their texts.
        files: Vec<ManifestText>,
    },
    /// Say how everything is.
    Status {
        /// Whether each sidecar is asked for its own timeline.
        ask_sidecars: bool,
    },
    /// Say what a process in a container would be.
    Exec {
        /// The pod.
        pod: NamespacedName,
        /// The container; the first app container of the user's own when absent.
        container: Option<String>,
        /// What would run.
        command: Vec<String>,
    },
    /// Take in what the controller says of a pod, as the API server of a cluster does for the status of pods.
    SetConditions {
        /// The pod.
        pod: NamespacedName,
        /// Its uid: what is said of an earlier pod of the name is of no use.
        uid: String,
        /// The conditions; those of other types stay.
        conditions: Vec<k8s::PodCondition>,
    },
    /// End everything.
    Shutdown,
}

/// A manifest and the name under which problems with it are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestText {
    /// The file's name.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// What a runner answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// Done.
    Changed(Changes),
    /// How everything is.
    Status(Box<Status>),
    /// What to run where.
    Exec {
        /// The container's first process in the runner's pid namespace.
        pid: u32,
        /// What to run.
        process: Box<ProcessSpec>,
    },
    /// The conditions hold from now on, if the pod is there.
    ConditionsSet,
    /// The runner ends.
    ShuttingDown,
    /// It cannot be done.
    Refused {
        /// Why.
        message: String,
        /// What to do.
        hint: String,
    },
}

/// What came of applying or deleting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// What happened to each object, in the order of the files: `Pod shop/client`, `created`.
    pub objects: Vec<(String, Outcome)>,
    /// Why some of them are not what was asked for, and which fields are not carried out.
    pub problems: Vec<Problem>,
    /// What may not work as expected, though all is as asked for.
    pub warnings: Vec<Problem>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is new.
    Created,
    /// It was there and is different.
    Configured,
    /// It was there and is the same.
    Unchanged,
    /// It is gone.
    Deleted,
    /// It was not there.
    NotFound,
}

/// A request on its way to the runner, and where its answer goes.
pub(crate) type Asked = (Request, oneshot::Sender<Response>);

/// Asks the runner behind a control socket.
///
/// # Errors
/// When nobody listens there, or the answer is not one.
pub(crate) async fn ask(socket: &Path, request: &Request) -> anyhow::Result<Response> {
    let mut stream = UnixStream::connect(socket).await.context("connecting to the runner")?;
    let mut line = serde_json::to_vec(request).context("writing the request")?;
    line.push(b'\n');
    stream.write_all(&line).await.context("asking the runner")?;
    let mut answer = Vec::new();
    stream.take(LINE_LIMIT_BYTES).read_to_end(&mut answer).await.context("waiting for the runner's answer")?;
    serde_json::from_slice(&answer).context("the runner ended, or its answer cannot be read")
}

/// Passes requests on until the socket breaks.
pub(crate) async fn serve(listener: UnixListener, requests: mpsc::Sender<Asked>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("accepting on the control socket")?;
        let requests = requests.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(stream, requests).await {
                tracing::debug!(error = format!("{error:#}"), "a client of the control socket left");
            }
        });
    }
}

async fn converse(stream: UnixStream, requests: mpsc::Sender<Asked>) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    (&mut stream).take(LINE_LIMIT_BYTES).read_until(b'\n', &mut line).await.context("reading the request")?;
    let response = match serde_json::from_slice(&line) {
        Ok(request) => {
            let (sender, response) = oneshot::channel();
            requests.send((request, sender)).await.context("the runner ends")?;
            response.await.context("the runner ends")?
        }
        Err(error) => Response::Refused {
            message: format!("the request cannot be read: {error}"),
            hint: "use the `osm` that the runner was started with".into(),
        },
    };
    let answer = serde_json::to_vec(&response).context("writing the answer")?;
    stream.get_mut().write_all(&answer).await.context("answering")
}
