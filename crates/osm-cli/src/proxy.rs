//! `osm proxy`: what the Envoy of a pod says about itself, through the read-only door that its agent keeps.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use osm_api::SIDECAR_CONTAINER;
use osm_local::status::PodStatus;
use osm_local::{Failure, Local};
use osm_runtime::http::Limits;

use crate::arguments::ProxyGet;
use crate::{local, render};

/// Where the agent serves the read-only part of Envoy's admin interface, inside the pod: OSM's address.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);

/// The dump of a proxy that knows 5,000 services takes seconds and some ten megabytes.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(30), body_bytes: 1 << 30 };

/// Prints or writes one page.
pub(crate) async fn get(arguments: ProxyGet) -> anyhow::Result<ExitCode> {
    let local = Local::named(&arguments.runner.name)?;
    let pod = local::pod_name(&arguments.pod, &arguments.namespace);
    let status = local.status().await?;
    let has_proxy = |found: &PodStatus| found.containers.iter().any(|c| c.name == SIDECAR_CONTAINER);
    let found = status.pods.iter().find(|p| p.namespace == pod.namespace && p.name == pod.name);
    if found.is_some_and(|found| !has_proxy(found)) {
        let message = format!("pod {pod} has no proxy: it is not in the mesh");
        let hint = "a pod joins the mesh when it is created in a namespace with the label \
                    openservicemesh.io/monitored-by and the annotation openservicemesh.io/sidecar-injection: enabled";
        return Err(Failure { message, hint: hint.into() }.into());
    }
    let answer = local.get_in_pod(&pod, ADMIN, &format!("/{}", arguments.query), LIMITS).await?;
    if !answer.status().is_success() {
        let said = String::from_utf8_lossy(answer.body());
        let message = format!("the proxy of pod {pod} answered {}: {}", answer.status(), said.trim());
        let hint = format!("see how it is: osm local startup {pod} --name {}", status.name);
        return Err(Failure { message, hint }.into());
    }
    match &arguments.file {
        None => render::page(answer.body())?,
        Some(file) => fs::write(file, answer.body()).with_context(|| format!("writing {}", file.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}
