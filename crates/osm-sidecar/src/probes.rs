//! Serves the probes and hooks of the application: the kubelet asks here, and the agent asks the application over the
//! loopback address, which no proxy stands in front of. Envoy has no part in it, so its restart restarts no application.

mod action;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use osm_redirect::{Family, ForwardedProbe, ProbeAction, ProbeKind};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::ipv6;
use crate::pages::serve_all;
pub use action::Outcome;

/// Where the kubelet asks, by port.
pub type ProbeListeners = BTreeMap<u16, Vec<TcpListener>>;

/// The probes of one kind, by container.
type OfKind = Arc<BTreeMap<String, (Duration, ProbeAction)>>;

/// Binds the ports of the kinds that are there, on each of the families.
pub fn bind(probes: &[ForwardedProbe], families: &[Family]) -> anyhow::Result<ProbeListeners> {
    let mut listeners = ProbeListeners::new();
    for port in probes.iter().map(|probe| probe.kind.port()) {
        if let Entry::Vacant(place) = listeners.entry(port) {
            let address = SocketAddr::from(([0, 0, 0, 0], port));
            place.insert(ipv6::bind(address, families, "probes")?);
        }
    }
    Ok(listeners)
}

/// Serves until `stop`.
pub async fn serve(
    listeners: ProbeListeners,
    probes: Vec<ForwardedProbe>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let of_kind = |kind: ProbeKind| -> OfKind {
        let of_kind = probes.iter().filter(|probe| probe.kind == kind).map(|probe| {
            let limit = Duration::from_secs(probe.timeout_seconds.into());
            (probe.container.clone(), (limit, probe.action.clone()))
        });
        Arc::new(of_kind.collect())
    };
    let serving = listeners.into_iter().map(|(port, listeners)| {
        let kinds = ProbeKind::ALL.into_iter().filter(|kind| kind.port() == port);
        let routers = kinds.map(|kind| router(kind, of_kind(kind)));
        serve_all(listeners, routers.fold(Router::new(), |all, one| all.merge(one)), stop.clone())
    });
    futures::future::try_join_all(serving).await?;
    stop.cancelled().await;
    Ok(())
}

fn router(kind: ProbeKind, probes: OfKind) -> Router {
    Router::new().route(&kind.path("{container}"), get(probe)).with_state(probes)
}

async fn probe(State(probes): State<OfKind>, Path(container): Path<String>, headers: HeaderMap) -> Response {
    let Some((limit, action)) = probes.get(&container) else {
        let text = format!("container {container} has no such probe; injection wrote none down\n");
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    // Applications tell probes from users by this header.
    let agent = headers.get(header::USER_AGENT).cloned();
    match action::carry_out(action, agent, *limit).await {
        Outcome::Passes => (StatusCode::OK, "passes\n").into_response(),
        Outcome::Answers(status) => {
            // A redirect or worse would make the kubelet do something else than count a failure.
            let status = Some(status).filter(|status| status.is_client_error() || status.is_server_error());
            let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            (status, format!("the application answers {status}\n")).into_response()
        }
        Outcome::Fails(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests;
