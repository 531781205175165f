//! What the controller is told on its command line, and what that comes to.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Parser;
use osm_api::{is_dns_label, is_dns_subdomain};
use osm_model::TrustDomain;
use osm_resolve::ResolveOptions;
use osm_runtime::telemetry::Format;
use tokio::net::TcpListener;

use crate::webhook::{WebhookArgs, WebhookConfig};

/// The controller of a mesh: resolves what objects mean, tells every sidecar its configuration, signs certificates.
#[derive(Clone, Debug, Parser)]
#[command(name = "osm-controller")]
pub struct Args {
    /// The mesh: the value of the label on its namespaces.
    #[arg(long, default_value = "osm")]
    pub mesh_name: String,
    /// The control plane's own namespace.
    #[arg(long, default_value = "osm-system")]
    pub osm_namespace: String,
    /// The suffix of every identity.
    #[arg(long, default_value = "cluster.local")]
    pub trust_domain: String,
    /// The domain of service names.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// A directory of manifests (*.yaml, *.yml, *.json) to watch. May be given more than once.
    #[arg(long, value_name = "DIR", required_unless_present = "kubernetes")]
    pub manifests: Vec<PathBuf>,
    /// Watch the cluster that this program runs in, serve its webhooks, check tokens there, keep the authority there.
    #[arg(long)]
    pub kubernetes: bool,
    /// The cluster of this kubeconfig, in place of the one that this program runs in.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// With --kubernetes: the Secret of the control plane's namespace that keeps the authority (ca.crt, ca.key). It is
    /// made if there is none.
    #[arg(long, value_name = "NAME", default_value = "osm-ca-bundle")]
    pub ca_bundle_secret_name: String,
    /// Where sidecars connect.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:15128")]
    pub ads_listen: SocketAddr,
    /// Where health and metrics are served.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9091")]
    pub http_listen: SocketAddr,
    /// Where /debug is served; only a loopback address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9092")]
    pub debug_listen: SocketAddr,
    /// The directory that keeps the token of /debug and, without --kubernetes, the authority.
    #[arg(long, value_name = "DIR", required_unless_present = "kubernetes")]
    pub state_dir: Option<PathBuf>,
    /// Without --kubernetes: the key that pods' tokens are signed with; nobody else may read the file.
    #[arg(long, value_name = "FILE", required_unless_present = "kubernetes", conflicts_with = "kubernetes")]
    pub token_key: Option<PathBuf>,
    /// Without --kubernetes: the control socket of the runner, which is told the conditions of pods.
    #[arg(long, value_name = "FILE", conflicts_with = "kubernetes")]
    pub runner_socket: Option<PathBuf>,
    /// A DNS name to serve sidecars under, in place of `osm-controller.<namespace>.svc`. May be given more than once.
    #[arg(long, value_name = "NAME")]
    pub server_name: Vec<String>,
    /// The flags of the webhooks.
    #[command(flatten)]
    pub webhook: WebhookArgs,
    /// What is logged: error, warn, info, debug, trace, or directives such as info,osm_ads=debug.
    #[arg(long, short = 'v', value_name = "LEVEL", default_value = "info")]
    pub verbosity: String,
    /// How it is logged: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: Format,
}

/// What the controller works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the World does not say.
    pub resolve: ResolveOptions,
    /// The directories of manifests.
    pub manifests: Vec<PathBuf>,
    /// Where sidecars connect.
    pub ads_listen: SocketAddr,
    /// Where health and metrics are served.
    pub http_listen: SocketAddr,
    /// Where `/debug` is served.
    pub debug_listen: SocketAddr,
    /// What pods run on.
    pub platform: Platform,
    /// The names to serve sidecars under; at least one.
    pub server_names: Vec<String>,
    /// The webhooks.
    pub webhook: WebhookConfig,
}

/// What pods run on: who vouches for them, and where the authority is kept.
#[derive(Clone, Debug)]
pub enum Platform {
    /// The local runner.
    Runner {
        /// The directory of what outlives the process.
        state_dir: PathBuf,
        /// The file with the key of tokens.
        token_key: PathBuf,
        /// The runner's control socket; without, nobody is told the conditions of pods.
        runner_socket: Option<PathBuf>,
    },
    /// A cluster.
    Cluster(Cluster),
}

/// How a cluster is reached, and what is kept in it.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// None for the cluster that we run in.
    pub kubeconfig: Option<PathBuf>,
    /// The Secret with the authority.
    pub ca_bundle_secret_name: String,
    /// Where the token of `/debug` is kept; without, nobody knows it.
    pub state_dir: Option<PathBuf>,
}

/// The sockets, bound. In tests to port 0.
#[derive(Debug)]
pub struct Listeners {
    /// For sidecars.
    pub ads: TcpListener,
    /// For health and metrics.
    pub http: TcpListener,
    /// For `/debug`.
    pub debug: TcpListener,
    /// For the API server's questions, if anybody answers them.
    pub webhook: Option<TcpListener>,
}

impl TryFrom<Args> for Config {
    type Error = anyhow::Error;

    fn try_from(args: Args) -> anyhow::Result<Config> {
        for (flag, name) in [("--mesh-name", &args.mesh_name), ("--osm-namespace", &args.osm_namespace)] {
            if !is_dns_label(name) {
                bail!("{flag} {name:?} is not a DNS label; use lower-case letters, digits and '-'");
            }
        }
        let mut domains = vec![("--trust-domain", &args.trust_domain), ("--cluster-domain", &args.cluster_domain)];
        domains.extend(args.server_name.iter().map(|name| ("--server-name", name)));
        for (flag, name) in domains {
            if !is_dns_subdomain(name) {
                bail!("{flag} {name:?} is not a DNS name; use lower-case letters, digits, '-' and '.'");
            }
        }
        if !args.debug_listen.ip().is_loopback() {
            bail!("--debug-listen {} is not a loopback address; use 127.0.0.1 and a port forward", args.debug_listen);
        }
        if !is_dns_subdomain(&args.ca_bundle_secret_name) {
            bail!("--ca-bundle-secret-name {:?} is not the name of a Secret", args.ca_bundle_secret_name);
        }
        if args.kubeconfig.is_some() && !args.kubernetes {
            bail!("--kubeconfig is of no use without --kubernetes");
        }
        let platform = match (args.kubernetes, args.state_dir, args.token_key) {
            (false, Some(state_dir), Some(token_key)) => {
                Platform::Runner { state_dir, token_key, runner_socket: args.runner_socket }
            }
            (false, _, _) => bail!("--state-dir and --token-key are needed without --kubernetes"),
            (true, state_dir, _) => Platform::Cluster(Cluster {
                kubeconfig: args.kubeconfig,
                ca_bundle_secret_name: args.ca_bundle_secret_name,
                state_dir,
            }),
        };
        let service = format!("osm-controller.{}.svc", args.osm_namespace);
        let of_service = vec![service.clone(), format!("{service}.{}", args.cluster_domain)];
        Ok(Config {
            webhook: WebhookConfig::new(args.webhook, &args.mesh_name, args.kubernetes),
            resolve: ResolveOptions {
                mesh_name: args.mesh_name,
                osm_namespace: args.osm_namespace,
                trust_domain: TrustDomain(args.trust_domain),
                cluster_domain: args.cluster_domain,
            },
            manifests: args.manifests,
            ads_listen: args.ads_listen,
            http_listen: args.http_listen,
            debug_listen: args.debug_listen,
            platform,
            server_names: if args.server_name.is_empty() { of_service } else { args.server_name },
        })
    }
}

impl Listeners {
    /// Binds what the configuration says.
    pub async fn bind(config: &Config) -> anyhow::Result<Listeners> {
        let bind = async |flag: &str, address: SocketAddr| {
            TcpListener::bind(address).await.with_context(|| format!("listening on {flag} {address}"))
        };
        Ok(Listeners {
            ads: bind("--ads-listen", config.ads_listen).await?,
            http: bind("--http-listen", config.http_listen).await?,
            debug: bind("--debug-listen", config.debug_listen).await?,
            webhook: match config.webhook.listen {
                Some(address) => Some(bind("--webhook-listen", address).await?),
                None => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &[&str]) -> anyhow::Result<Config> {
        let needed = ["osm-controller", "--manifests", "m", "--state-dir", "s", "--token-key", "k"];
        Args::try_parse_from(needed.iter().chain(more))?.try_into()
    }

    #[test]
    fn the_defaults_are_those_of_an_installed_mesh() {
        let config = config(&[]).unwrap();
        assert_eq!(config.resolve, ResolveOptions::default());
        assert_eq!(config.ads_listen.port(), 15128);
        let names = ["osm-controller.osm-system.svc", "osm-controller.osm-system.svc.cluster.local"];
        assert_eq!(config.server_names, names);
        assert_eq!(config.webhook.listen, None);
        let args = Args::try_parse_from(["osm-controller", "--kubernetes", "--mesh-name", "m"]).unwrap();
        let webhook = Config::try_from(args).unwrap().webhook;
        assert_eq!(webhook.listen.unwrap().port(), 9090);
        assert_eq!((&*webhook.mutating_name, &*webhook.validating_name), ("osm-webhook-m", "osm-validator-mesh-m"));
        assert_eq!(webhook.init_image, webhook.sidecar_image);
    }

    #[test]
    fn bad_arguments_are_named() {
        for (arguments, words) in [
            (["--debug-listen", "0.0.0.0:9092"], "not a loopback address"),
            (["--trust-domain", "Cluster.Local"], "--trust-domain"),
            (["--server-name", "a_b"], "--server-name"),
            (["--mesh-name", "a.b"], "--mesh-name"),
            (["--log-format", "xml"], "use text or json"),
        ] {
            let error = format!("{:#}", config(&arguments).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
        for arguments in [
            &["--state-dir", "s", "--token-key", "k"] as &[&str],
            &["--manifests", "m", "--state-dir", "s"],
            &["--kubernetes", "--token-key", "k"],
            &["--manifests", "m", "--state-dir", "s", "--token-key", "k", "--kubeconfig", "f"],
        ] {
            let args = Args::try_parse_from(["osm-controller"].iter().chain(arguments));
            assert!(args.map_or(true, |args| Config::try_from(args).is_err()), "{arguments:?}");
        }
    }

    #[test]
    fn a_cluster_needs_one_flag() {
        let config = Config::try_from(Args::try_parse_from(["osm-controller", "--kubernetes"]).unwrap()).unwrap();
        let Platform::Cluster(cluster) = config.platform else { panic!("{:?}", config.platform) };
        assert_eq!((cluster.kubeconfig, cluster.state_dir), (None, None));
        assert_eq!(cluster.ca_bundle_secret_name, "osm-ca-bundle");
    }
}
