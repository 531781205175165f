//! The agent's settings: what the injector wrote into the container, read once.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use osm_redirect::{
    FAMILIES_VARIABLE, Families, Family, ForwardedProbe, Upstreams, WAIT_FOR_LIMIT_VARIABLE, WAIT_FOR_VARIABLE,
    WaitLimit, read_probes,
};

/// What parked connections may have sent together, in each direction: they lie in the kernel's memory, which counts as
/// the sidecar's.
const PARK_BYTES: u64 = 64 << 20;

use crate::farewell::{FarewellConfig, WithApplication};
use crate::ipv6::Ipv6;
use crate::quit::QuitPolicy;

/// The agent's flags; each can be given by the environment.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// Name of the pod
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// Namespace of the pod
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: String,
    /// UID of the pod
    #[arg(long, env = "POD_UID", default_value = "")]
    pub pod_uid: String,
    /// Service account of the pod
    #[arg(long, env = "SERVICE_ACCOUNT", default_value = "default")]
    pub service_account: String,
    /// Where the controller serves, as host:port
    #[arg(long, env = "OSM_CONTROLLER")]
    pub controller: String,
    /// DNS name that the controller's certificate must carry
    #[arg(long, env = "OSM_CONTROLLER_NAME")]
    pub controller_name: String,
    /// Certificates, in PEM, of the authorities that may vouch for the controller
    #[arg(long, env = "OSM_ROOT_CA", hide_env_values = true)]
    pub root_ca: String,
    /// Trust domain of the mesh
    #[arg(long, env = "OSM_TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: String,
    /// File with the pod's service account token for the audience osm
    #[arg(long, env = "OSM_TOKEN_FILE", default_value = "/var/run/secrets/osm/token")]
    pub token_file: PathBuf,
    /// Directory for sockets and Envoy's bootstrap; closed to other users
    #[arg(long, env = "OSM_STATE_DIR", default_value = "/var/run/osm")]
    pub state_dir: PathBuf,
    /// Envoy's program; a bare name is looked up on PATH
    #[arg(long, env = "OSM_ENVOY", default_value = "envoy")]
    pub envoy: PathBuf,
    /// Envoy's log level: trace, debug, info, warning, error, critical, off
    #[arg(long, env = "OSM_ENVOY_LOG_LEVEL", default_value = "error")]
    pub envoy_log_level: String,
    /// Envoy's worker threads
    #[arg(long, env = "OSM_CONCURRENCY", default_value_t = 2)]
    pub concurrency: u16,
    /// Longest time, in seconds, that connections may take to end after SIGTERM, and after the application's end
    #[arg(long, env = "OSM_DRAIN_SECONDS", default_value_t = 5)]
    pub drain_seconds: u16,
    /// Told to stop together with the application: the sidecar outlives it
    #[arg(long, env = "OSM_STOPS_WITH_APPLICATION")]
    pub stops_with_application: bool,
    /// How long, in seconds, after SIGTERM the pod is killed
    #[arg(long, env = "OSM_GRACE_SECONDS", default_value_t = 30)]
    pub grace_seconds: u32,
    /// Longest time, in seconds, that peers may take to let go of a pod that is to end
    #[arg(long, env = "OSM_WITHDRAWAL_SECONDS", default_value_t = 10)]
    pub withdrawal_seconds: u16,
    /// An application that has no socket open for this many seconds after SIGTERM is taken for ended
    #[arg(long, env = "OSM_APPLICATION_QUIET_SECONDS", default_value_t = 5)]
    pub application_quiet_seconds: u16,
    /// What becomes of the order to quit: refuse, obey (a Job), ignore (a native sidecar)
    #[arg(long, env = "OSM_QUIT", value_enum, default_value_t)]
    pub quit: QuitPolicy,
    /// Envoy is killed and started again when its admin socket answers nothing for this many seconds, or its workers
    /// nothing for a part of one; 0 means never, whatever does not answer
    #[arg(long, env = "OSM_HUNG_SECONDS", default_value_t = 10)]
    pub hung_seconds: u16,
    /// How long, in seconds, connections may go on after the configuration that they came in under has changed
    #[arg(long, env = "OSM_CONNECTION_DRAIN_SECONDS", default_value_t = 5)]
    pub connection_drain_seconds: u16,
    /// How old, in seconds, a configuration may be that a restarted sidecar goes on from while the controller is down;
    /// 0 means that it waits for the controller
    #[arg(long, env = "OSM_LAST_GOOD_SECONDS", default_value_t = 86_400)]
    pub last_good_seconds: u32,
    /// Where redirection sends the pod's own connections; the agent takes them while Envoy cannot
    #[arg(long, env = "OSM_OUTBOUND_LISTEN", default_value = "0.0.0.0:15001")]
    pub outbound_listen: SocketAddr,
    /// Where redirection sends connections to the pod; the agent takes them while Envoy cannot
    #[arg(long, env = "OSM_INBOUND_LISTEN", default_value = "0.0.0.0:15003")]
    pub inbound_listen: SocketAddr,
    /// The address families on which agent and Envoy listen; by default those that the pod has
    #[arg(long, env = FAMILIES_VARIABLE, value_name = "FAMILIES", default_value_t)]
    pub families: Families,
    /// How many connections the agent keeps, in each direction, while Envoy cannot take them; 0 leaves all to the kernel
    #[arg(long, env = "OSM_PARK_CONNECTIONS", default_value_t = 4096)]
    pub park_connections: u32,
    /// How long, in seconds, the agent keeps a connection before it gives it up
    #[arg(long, env = "OSM_PARK_SECONDS", default_value_t = 900)]
    pub park_seconds: u32,
    /// Probes of the application that the kubelet sends here, as JSON
    #[arg(long, env = "OSM_PROBES", default_value = "")]
    pub probes: String,
    /// Services, as namespace/service or namespace/service:port, without whose endpoints the pod is not programmed
    #[arg(long, env = WAIT_FOR_VARIABLE, value_name = "SERVICES", default_value = "")]
    pub wait_for: Upstreams,
    /// How long they are waited for, such as 30s; for ever if not given
    #[arg(long, env = WAIT_FOR_LIMIT_VARIABLE, value_name = "TIME")]
    pub wait_for_limit: Option<WaitLimit>,
    /// Address of readiness and start-up timeline
    #[arg(long, env = "OSM_STATUS_LISTEN", default_value = "0.0.0.0:15904")]
    pub status_listen: SocketAddr,
    /// Address of the read-only part of Envoy's administration interface
    #[arg(long, env = "OSM_ADMIN_LISTEN", default_value = "127.0.0.1:15000")]
    pub admin_listen: SocketAddr,
    /// Address of Envoy's metrics
    #[arg(long, env = "OSM_METRICS_LISTEN", default_value = "0.0.0.0:15010")]
    pub metrics_listen: SocketAddr,
    /// Log lines as text or json
    #[arg(long, env = "OSM_LOG_FORMAT", default_value = "text")]
    pub log_format: osm_runtime::telemetry::Format,
    /// What the agent logs, such as info or debug
    #[arg(long, env = "OSM_LOG", default_value = "info")]
    pub log: String,
}

/// The agent's settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whom the agent serves.
    pub pod: Pod,
    /// Where configuration and certificates come from.
    pub controller: Controller,
    /// Where sockets and the bootstrap are kept.
    pub state_dir: PathBuf,
    /// How old a last good state may be; `None` means that none is kept or used.
    pub last_good_age: Option<Duration>,
    /// How Envoy is run.
    pub envoy: EnvoyConfig,
    /// The address families of the pod.
    pub families: &'static [Family],
    /// How connections are parked.
    pub park: ParkConfig,
    /// How it is left in the end.
    pub farewell: FarewellConfig,
    /// Whether the sidecar may end by itself.
    pub quit: QuitPolicy,
    /// Probes of the application that the kubelet sends here.
    pub probes: Vec<ForwardedProbe>,
    /// Services without whose endpoints the pod is not programmed.
    pub wait_for: Upstreams,
    /// How long they are waited for; for ever if not set.
    pub wait_limit: Option<WaitLimit>,
}

/// How connections are parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkConfig {
    /// Where the pod's own connections arrive.
    pub outbound: SocketAddr,
    /// Where connections to the pod arrive.
    pub inbound: SocketAddr,
    /// How many, and how long; `None` means that none are.
    pub limits: Option<ParkLimits>,
}

/// The bounds of parking, for each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkLimits {
    /// Connections that wait at once.
    pub connections: usize,
    /// Bytes that these may have sent before no more are taken.
    pub bytes: u64,
    /// How long one may wait.
    pub time: Duration,
}

/// Whom the agent serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid: a pod of the same name that came later has another. Empty if it is not known.
    pub uid: String,
    /// Its service account.
    pub service_account: String,
}

/// Where configuration and certificates come from.
#[derive(Clone, PartialEq, Eq)]
pub struct Controller {
    /// `host:port`.
    pub address: String,
    /// The DNS name in its certificate.
    pub name: String,
    /// Who may vouch for it, as PEM.
    pub root_ca: String,
    /// The pod's token; read again for each request, because the kubelet renews it.
    pub token_file: PathBuf,
}

/// How Envoy is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyConfig {
    /// The program.
    pub program: PathBuf,
    /// Its log level.
    pub log_level: String,
    /// Its worker threads.
    pub concurrency: u16,
    /// How long connections of a filter chain that was changed or removed may go on; whole seconds.
    pub connection_drain: Duration,
    /// Silence of the admin socket after which Envoy is killed; `None` means never.
    pub hung_after: Option<Duration>,
}

impl Pod {
    /// `<namespace>/<name>`: the proxy's id towards Envoy.
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// All that tells it from others.
impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pod { name, namespace, uid, service_account } = self;
        write!(f, "{namespace}/{name} with uid {uid:?} and service account {service_account}")
    }
}

impl TryFrom<AgentArgs> for Config {
    type Error = anyhow::Error;

    fn try_from(args: AgentArgs) -> anyhow::Result<Config> {
        for (name, value) in [
            ("POD_NAME", &args.pod_name),
            ("POD_NAMESPACE", &args.pod_namespace),
            ("SERVICE_ACCOUNT", &args.service_account),
            ("OSM_CONTROLLER_NAME", &args.controller_name),
        ] {
            ensure!(!value.is_empty(), "{name} is empty; the injector sets it");
        }
        let port = args.controller.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        port.and_then(|port| port.parse::<u16>().ok())
            .with_context(|| format!("OSM_CONTROLLER is {:?}; give host:port", args.controller))?;
        ensure!(
            args.root_ca.contains("-----BEGIN CERTIFICATE-----"),
            "OSM_ROOT_CA holds no certificate; the injector sets it to the mesh's authority in PEM"
        );
        ensure!(args.concurrency > 0, "OSM_CONCURRENCY is 0; Envoy needs at least one worker thread");
        let probes = read_probes(&args.probes).context("OSM_PROBES is not what the injector writes")?;
        Ok(Config {
            probes,
            wait_for: args.wait_for,
            wait_limit: args.wait_for_limit,
            pod: Pod {
                name: args.pod_name,
                namespace: args.pod_namespace,
                uid: args.pod_uid,
                service_account: args.service_account,
            },
            controller: Controller {
                address: args.controller,
                name: args.controller_name,
                root_ca: args.root_ca,
                token_file: args.token_file,
            },
            families: args.families.each(|| Ipv6::of_this_pod().is_there()),
            park: ParkConfig {
                outbound: args.outbound_listen,
                inbound: args.inbound_listen,
                limits: (args.park_connections > 0).then(|| ParkLimits {
                    connections: args.park_connections as usize,
                    bytes: PARK_BYTES,
                    time: Duration::from_secs(args.park_seconds.into()),
                }),
            },
            state_dir: args.state_dir,
            last_good_age: (args.last_good_seconds > 0).then(|| Duration::from_secs(args.last_good_seconds.into())),
            farewell: FarewellConfig {
                drain_limit: Duration::from_secs(args.drain_seconds.into()),
                with_application: args.stops_with_application.then(|| WithApplication {
                    grace: Duration::from_secs(args.grace_seconds.into()),
                    withdrawal_limit: Duration::from_secs(args.withdrawal_seconds.into()),
                    without_sockets: Duration::from_secs(args.application_quiet_seconds.into()),
                }),
            },
            quit: args.quit,
            envoy: EnvoyConfig {
                program: args.envoy,
                log_level: args.envoy_log_level,
                concurrency: args.concurrency,
                connection_drain: Duration::from_secs(args.connection_drain_seconds.into()),
                hung_after: (args.hung_seconds > 0).then(|| Duration::from_secs(args.hung_seconds.into())),
            },
        })
    }
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("address", &self.address).field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        agent: AgentArgs,
    }

    fn config(change: impl FnOnce(&mut AgentArgs)) -> anyhow::Result<Config> {
        let mut args = Cli::parse_from([
            "agent",
            "--pod-name=client-0",
            "--pod-namespace=shop",
            "--controller=10.0.0.1:15128",
            "--controller-name=osm-controller.osm-system.svc",
            "--root-ca=-----BEGIN CERTIFICATE-----",
        ])
        .agent;
        change(&mut args);
        Config::try_from(args)
    }

    fn refuses(change: impl FnOnce(&mut AgentArgs), message: &str) {
        assert_eq!(config(change).unwrap_err().to_string(), message);
    }

    #[test]
    fn what_the_injector_forgot_is_named() {
        assert_eq!(config(|_| ()).unwrap().pod.id(), "shop/client-0");
        refuses(|a| a.pod_name.clear(), "POD_NAME is empty; the injector sets it");
        refuses(|a| a.controller = ":1".into(), r#"OSM_CONTROLLER is ":1"; give host:port"#);
        refuses(|a| a.controller = "host".into(), r#"OSM_CONTROLLER is "host"; give host:port"#);
        refuses(|a| a.concurrency = 0, "OSM_CONCURRENCY is 0; Envoy needs at least one worker thread");
        refuses(
            |a| a.root_ca = "PEM".into(),
            "OSM_ROOT_CA holds no certificate; the injector sets it to the mesh's authority in PEM",
        );
    }

    #[test]
    fn zero_seconds_of_silence_mean_that_envoy_is_never_called_hung() {
        assert_eq!(config(|a| a.hung_seconds = 0).unwrap().envoy.hung_after, None);
    }

    #[test]
    fn a_last_good_state_may_be_a_day_old_and_with_zero_seconds_there_is_none() {
        assert_eq!(config(|_| ()).unwrap().last_good_age, Some(Duration::from_secs(24 * 60 * 60)));
        assert_eq!(config(|a| a.last_good_seconds = 0).unwrap().last_good_age, None);
    }
}
