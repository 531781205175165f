//! The flags of the webhooks.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;

/// Where they are served in a cluster.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9090);

/// The flags as they are written.
#[derive(Clone, Debug, Args)]
pub struct WebhookArgs {
    /// Where the API server asks about pods and policies: 0.0.0.0:9090 with --kubernetes, else nowhere.
    #[arg(long, value_name = "ADDRESS")]
    pub webhook_listen: Option<SocketAddr>,
    /// The MutatingWebhookConfiguration that is kept right; osm-webhook-<mesh> if not given.
    #[arg(long, value_name = "NAME")]
    pub mutating_webhook_name: Option<String>,
    /// The ValidatingWebhookConfiguration that is kept right; osm-validator-mesh-<mesh> if not given.
    #[arg(long, value_name = "NAME")]
    pub validating_webhook_name: Option<String>,
    /// The image with agent and Envoy, unless the MeshConfig names another.
    #[arg(long, value_name = "IMAGE", default_value = "openservicemesh/osm-sidecar:latest-main")]
    pub sidecar_image: String,
    /// The image of osm-init; that of the sidecar if not given.
    #[arg(long, value_name = "IMAGE")]
    pub init_image: Option<String>,
    /// When the two images are fetched.
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: String,
}

/// What the webhooks work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Where they are served; nowhere if not set.
    pub listen: Option<SocketAddr>,
    /// The name of the MutatingWebhookConfiguration.
    pub mutating_name: String,
    /// The name of the ValidatingWebhookConfiguration.
    pub validating_name: String,
    /// The image with agent and Envoy.
    pub sidecar_image: String,
    /// The image of `osm-init`.
    pub init_image: String,
    /// When they are fetched.
    pub image_pull_policy: String,
}

impl WebhookConfig {
    /// What the flags come to, in a cluster or without one.
    pub fn new(args: WebhookArgs, mesh_name: &str, is_in_cluster: bool) -> WebhookConfig {
        WebhookConfig {
            listen: args.webhook_listen.or(is_in_cluster.then_some(LISTEN)),
            mutating_name: args.mutating_webhook_name.unwrap_or_else(|| format!("osm-webhook-{mesh_name}")),
            validating_name: args.validating_webhook_name.unwrap_or_else(|| format!("osm-validator-mesh-{mesh_name}")),
            init_image: args.init_image.unwrap_or_else(|| args.sidecar_image.clone()),
            sidecar_image: args.sidecar_image,
            image_pull_policy: args.image_pull_policy,
        }
    }
}
