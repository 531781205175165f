//! The webhooks: the API server asks before a pod is made and before a policy is kept.
//!
//! `mutate` and `validate` decide and are pure. `review` is how question and answer look, `routes` is the HTTP around
//! them. `bundle` keeps the API server believing us, `cluster` and `notice` are what we ask and tell it ourselves.
//! What cannot be decided is not allowed: a pod of the mesh never starts bare.

mod bundle;
mod cluster;
mod config;
mod metrics;
mod mutate;
mod notice;
mod order;
mod patch;
mod review;
mod routes;
mod validate;

use std::sync::Arc;

use kube::Client;
use osm_api::{MESH_CONFIG_NAME, NamespacedName, World, k8s};
use osm_inject::{InjectPolicy, NativeSidecars};
use osm_pki::Authority;
use osm_redirect::Redirect;
use osm_resolve::ResolveOptions;
use osm_runtime::Tasks;
use osm_runtime::chance;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::service::Routes;
use tracing::info_span;

pub use config::{WebhookArgs, WebhookConfig};
pub(crate) use metrics::AdmissionMetrics;

use crate::port;
use crate::proxies::Proxies;
use crate::serving::Serving;
use cluster::Nodes;
use mutate::Decision;
use notice::Notice;
use review::{Answer, Request};

/// The port for sidecars and certificates.
const CONTROLLER_PORT: u16 = 15128;

/// Changes that are checked at a time: each resolves the whole mesh once.
const CHECKS_MAX: usize = 2;

/// What the webhooks decide with.
pub(crate) struct Webhooks {
    /// What was published last.
    proxies: Proxies,
    options: ResolveOptions,
    /// The rules of injection before the MeshConfig.
    base: InjectPolicy,
    /// None without a cluster: then the World alone counts.
    client: Option<Client>,
    nodes: Nodes,
    notices: mpsc::Sender<Notice>,
    checks: Arc<Semaphore>,
    metrics: AdmissionMetrics,
}

/// What the webhooks need of the rest of the controller.
pub(crate) struct Needs {
    /// Where the API server asks.
    pub(crate) listener: TcpListener,
    /// The flags.
    pub(crate) config: WebhookConfig,
    /// What was published last.
    pub(crate) proxies: Proxies,
    /// What the World does not say.
    pub(crate) options: ResolveOptions,
    /// Signs our certificate, and is what sidecars trust.
    pub(crate) authority: Arc<Authority>,
    /// The cluster, if there is one.
    pub(crate) client: Option<Client>,
    /// What is counted.
    pub(crate) metrics: AdmissionMetrics,
}

/// Starts everything that belongs to the webhooks.
pub(crate) fn start(needs: Needs, tasks: &Tasks) -> anyhow::Result<()> {
    let Needs { listener, config, proxies, options, authority, client, metrics } = needs;
    let serving = Arc::new(Serving::new(authority.clone(), service_names(&options))?);
    let tls = serving.tls_for_everybody()?;
    tasks.spawn("webhook certificate", info_span!("webhook-serving"), serving.keep_renewed(tasks.stop()));

    let (nodes_told, nodes_known) = watch::channel(None);
    let (version_told, version_known) = watch::channel(None);
    let nodes = Nodes { nodes: nodes_known, server: version_known };
    let (notices, queue) = mpsc::channel(notice::QUEUE);
    if let Some(client) = &client {
        let (followed, stop) = (osm_source::kubernetes::nodes(client.clone(), nodes_told, tasks.stop()), tasks.stop());
        tasks.spawn("nodes", info_span!("nodes"), followed);
        tasks.spawn("version", info_span!("version"), cluster::ask_version(client.clone(), version_told, stop));
        tasks.spawn("notices", info_span!("notices"), notice::run(client.clone(), queue, tasks.stop()));
        let kept = bundle::keep(
            client.clone(),
            config.mutating_name.clone(),
            config.validating_name.clone(),
            authority.cert_pem().to_owned(),
            tasks.stop(),
        );
        tasks.spawn("webhook configurations", info_span!("bundle"), kept);
    }
    let base = base_policy(&config, &options, &authority);
    let checks = Arc::new(Semaphore::new(CHECKS_MAX));
    let webhooks = Webhooks { proxies, options, base, client, nodes, notices, checks, metrics };
    let routes = Routes::from(routes::router(Arc::new(webhooks)));
    tasks.spawn("webhooks", info_span!("webhooks"), port::serve(listener, tls, routes, tasks.stop()));
    Ok(())
}

/// The names under which the API server, which knows the Service, calls.
fn service_names(options: &ResolveOptions) -> Vec<String> {
    let service = format!("osm-controller.{}.svc", options.osm_namespace);
    vec![service.clone(), format!("{service}.{}", options.cluster_domain)]
}

fn base_policy(config: &WebhookConfig, options: &ResolveOptions, authority: &Authority) -> InjectPolicy {
    let [name, address] = service_names(options).try_into().expect("there are two names");
    InjectPolicy {
        mesh_name: options.mesh_name.clone(),
        osm_namespace: options.osm_namespace.clone(),
        trust_domain: options.trust_domain.0.clone(),
        sidecar_image: config.sidecar_image.clone(),
        init_image: config.init_image.clone(),
        image_pull_policy: config.image_pull_policy.clone(),
        controller_address: format!("{address}:{CONTROLLER_PORT}"),
        controller_name: name,
        root_ca_pem: authority.cert_pem().to_owned(),
        log_level: "error".to_owned(),
        resources: None,
        concurrency: None,
        privileged_init: false,
        redirect: Redirect::default(),
        native_sidecars: NativeSidecars::Available,
        startup: None,
        hold: None,
    }
}

impl Webhooks {
    /// Answers a question of `/mutate-pod-creation`.
    pub(crate) async fn mutate(self: Arc<Self>, request: Request) -> Answer {
        let pod = match mutate::pod_to_make(&request) {
            None => return Answer::allowed(),
            Some(Err(answer)) => return answer,
            Some(Ok(pod)) => pod,
        };
        let Some(snapshot) = self.proxies.snapshot() else { return not_in_sync() };
        let known = snapshot.world.namespaces.get(&request.namespace);
        let mut decision = known.map(|namespace| self.decide(&request, &pod, namespace, &snapshot.world));
        // The World may be a moment late. That a pod stays bare is only ever decided by what holds now.
        if let (None | Some(Decision::Skipped { .. }), Some(client)) = (&decision, &self.client) {
            match cluster::namespace(client, &request.namespace).await {
                Ok(now) => decision = Some(self.decide(&request, &pod, &now, &snapshot.world)),
                Err(error) => {
                    let message = format!(
                        "whether the pod belongs to the mesh cannot be decided: {error}; it is not made without its \
                         sidecar; try again"
                    );
                    tracing::warn!(namespace = request.namespace, error = format!("{error:?}"), "no namespace");
                    return Answer::refused(503, message);
                }
            }
        }
        match decision {
            None => {
                let message = format!(
                    "namespace {} is not known to the mesh yet, so the pod is not made without its sidecar; try again",
                    request.namespace
                );
                Answer::refused(503, message)
            }
            Some(Decision::Injected(answer) | Decision::Refused(answer)) => answer,
            Some(Decision::Skipped { why, is_unmet }) => {
                tracing::debug!(namespace = request.namespace, why, "not injected");
                if is_unmet { self.tell(&request, &pod, &why) } else { Answer::allowed() }
            }
        }
    }

    fn decide(&self, request: &Request, pod: &k8s::Pod, namespace: &k8s::Namespace, world: &World) -> Decision {
        let config = world.mesh_configs.get(&NamespacedName::new(&self.options.osm_namespace, MESH_CONFIG_NAME));
        let base = InjectPolicy { native_sidecars: self.nodes.native_sidecars(pod), ..self.base.clone() };
        let policy = match config {
            Some(config) => InjectPolicy::from_mesh_config(&config.spec, base).0,
            None => base,
        };
        mutate::decide(request, pod, namespace, &policy, &mut chance::generator())
    }

    /// Decides about a pod that every other webhook has changed by now. Whether it is of the mesh was decided before.
    fn look_again(&self, request: &Request, pod: &k8s::Pod, world: &World) -> Answer {
        let Some(namespace) = world.namespaces.get(&request.namespace) else { return Answer::allowed() };
        match self.decide(request, pod, namespace, world) {
            Decision::Injected(answer) => order::check(&request.object, pod, &answer),
            Decision::Skipped { .. } => Answer::allowed(),
            Decision::Refused(answer) => answer,
        }
    }

    /// Says that a pod stays out though its user asked for the mesh.
    fn tell(&self, request: &Request, pod: &k8s::Pod, why: &str) -> Answer {
        let message = format!("the pod stays outside of the mesh: {why}");
        if !request.is_dry_run() {
            let about = notice::about(pod, &request.namespace);
            // A full queue means that much is said already.
            let _ = self.notices.try_send(Notice { about, message: message.clone() });
        }
        Answer { warnings: vec![message], ..Answer::default() }
    }

    /// Answers a question of `/validate`.
    pub(crate) async fn validate(self: Arc<Self>, request: Request) -> Answer {
        let Some(snapshot) = self.proxies.snapshot() else { return not_in_sync() };
        if let Some(pod) = mutate::pod_to_make(&request) {
            return pod.map_or_else(|refusal| refusal, |pod| self.look_again(&request, &pod, &snapshot.world));
        }
        let permit = self.checks.clone().acquire_owned().await.expect("the checks are never closed");
        let options = self.options.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            validate::validate(&request, &snapshot.world, &snapshot.problems, &options)
        });
        checked.await.unwrap_or_else(|error| {
            tracing::error!(%error, "checking an object failed by a fault of ours");
            Answer::refused(500, "the mesh could not check this object by a fault of its own; its log says more")
        })
    }
}

fn not_in_sync() -> Answer {
    Answer::refused(503, "osm-controller has not read the cluster yet, so it cannot decide; try again in a moment")
}

#[cfg(test)]
mod tests;
