//! A cluster: every kind that the mesh reads, listed and watched through the Kubernetes API.
//!
//! What is known stays known while a watch is lost: a network that fails must not cut the traffic of a mesh. Watches
//! come back by themselves, and a list after a gap says what went meanwhile. In sync when every kind has been listed.

mod failure;
mod kinds;
mod nodes;
mod said;
mod watch;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;
use kube::core::DynamicObject;
use kube::{Api, Client, Config};
use osm_api::Kind;
use serde_json::Value;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;

use crate::Event;
pub use kinds::KINDS;
pub use nodes::nodes;
use said::{Heard, Said};
use watch::Watch;

/// What the watches heard and nobody has decoded yet. Above this they wait, and the API server keeps the rest.
const HEARD_QUEUED_MAX: usize = 256;

/// Nothing answers: a connection is tried anew after this.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A connection on which nothing was read for so long is dead; longer than a watch without events lasts.
const SILENCE_LIMIT: Duration = Duration::from_secs(75);

/// A client of the cluster: that of a kubeconfig file, or of the pod that we run in.
pub async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        Some(path) => {
            let kubeconfig = kube::config::Kubeconfig::read_from(path)
                .with_context(|| format!("reading the kubeconfig {}", path.display()))?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await;
            config.with_context(|| format!("using the kubeconfig {}", path.display()))?
        }
        None => {
            Config::incluster().context("using the service account of this pod; outside of a pod, give --kubeconfig")?
        }
    };
    connect(config)
}

fn connect(mut config: Config) -> anyhow::Result<Client> {
    config.connect_timeout = Some(CONNECT_LIMIT);
    // Whoever asks waits and asks again by itself; the client would do so for many minutes, in silence.
    config.default_retry = false;
    config.read_timeout = Some(SILENCE_LIMIT);
    config.reset_reader_on_write = true;
    Client::try_from(config).context("setting up the client of the Kubernetes API")
}

/// Says what the cluster holds and how that changes, until `stop`, or until nobody listens. Settings of the mesh count
/// in `osm_namespace` alone.
pub async fn run(
    client: Client,
    osm_namespace: String,
    events: Sender<Event>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (sender, heard) = mpsc::channel(HEARD_QUEUED_MAX);
    let watches = KINDS.map(|kind| follow(kind, kinds::api(kind, &client, &osm_namespace), sender.clone()));
    drop(sender);
    tokio::select! {
        _ = join_all(watches) => anyhow::bail!("every watch of the cluster ended"),
        () = speak(heard, &events) => Ok(()),
        () = events.closed() => Ok(()),
        () = stop.cancelled() => Ok(()),
    }
}

/// Passes on what the watch of one kind says, until nobody listens.
async fn follow(kind: Kind, api: Api<DynamicObject>, heard: Sender<(Kind, Heard)>) {
    let mut watch = Watch::new(api);
    loop {
        let said = match watch.next().await {
            Ok(event) => Heard::of(kind, event),
            Err(failed) => Heard::Failed(failure::failure(kind, &failed)),
        };
        if heard.send((kind, said)).await.is_err() {
            return;
        }
    }
}

/// Says what all that was heard comes to, until nobody listens. What is heard while somebody is slow is merged.
async fn speak(mut heard: Receiver<(Kind, Heard)>, events: &Sender<Event>) {
    let mut said = Said::default();
    let mut batch = Vec::new();
    while heard.recv_many(&mut batch, HEARD_QUEUED_MAX).await > 0 {
        for (kind, heard) in batch.drain(..) {
            said.take(kind, heard);
        }
        for event in said.take_events() {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// The parts of a pod's status that the World keeps something of.
const READ_OF_POD_STATUS: [&str; 4] = ["phase", "podIPs", "conditions", "containerStatuses"];

/// An object as the API server says it, without what nobody reads and with what lists leave out.
fn value(kind: Kind, mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    let metadata = serde_json::to_value(&object.metadata).expect("metadata has string keys only, so it is JSON");
    let mut value = match object.data {
        Value::Object(mut fields) => {
            match fields.remove("status") {
                // Of a pod it is the greater part, and little of it is ever read.
                Some(Value::Object(mut status)) if kind == Kind::Pod => {
                    status.retain(|field, _| READ_OF_POD_STATUS.contains(&field.as_str()));
                    fields.insert("status".to_owned(), Value::Object(status));
                }
                Some(_) | None => {}
            }
            Value::Object(fields)
        }
        _ => Value::Object(serde_json::Map::new()),
    };
    value["apiVersion"] = kind.api_version().into();
    value["kind"] = kind.name().into();
    value["metadata"] = metadata;
    value
}

#[cfg(test)]
mod tests;
