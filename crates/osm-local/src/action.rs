//! What probes and hooks do: ask by HTTP, connect, run a command, wait.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::{Request, header::HOST};
use http_body_util::Full;
use hyper::body::Bytes;
use osm_api::k8s;
use osm_runtime::http as client;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::endpoints::named_port;
use crate::inside::Inside;

/// More of an answer is not read: its status is enough.
const BODY_LIMIT_BYTES: usize = 1 << 20;

/// One action.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Passes when the answer's status is neither an error of the client nor of the server.
    Http {
        /// Whom to ask.
        address: SocketAddr,
        /// For what.
        path: String,
        /// With these headers.
        headers: Vec<(String, String)>,
    },
    /// Passes when a connection is accepted.
    Tcp {
        /// By whom.
        address: SocketAddr,
    },
    /// Passes when the command ends with 0 in the container.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// Passes after a while.
    Sleep {
        /// So long.
        duration: Duration,
    },
}

impl Action {
    /// What a probe does; none if it is not carried out.
    pub(crate) fn of_probe(probe: &k8s::Probe, pod: &k8s::Pod, ip: Ipv4Addr) -> Option<Action> {
        let http = probe.http_get.as_ref().map(|get| Action::http(get, pod, ip));
        let tcp = probe
            .tcp_socket
            .as_ref()
            .map(|tcp| Some(Action::Tcp { address: address(tcp.host.as_deref(), &tcp.port, pod, ip)? }));
        http.or(tcp).or_else(|| probe.exec.as_ref().map(Action::exec))?
    }

    /// What a hook does; none if it is not carried out.
    pub(crate) fn of_hook(hook: &k8s::LifecycleHandler, pod: &k8s::Pod, ip: Ipv4Addr) -> Option<Action> {
        let http = hook.http_get.as_ref().map(|get| Action::http(get, pod, ip));
        let sleep = hook.sleep.as_ref().map(|sleep| {
            Some(Action::Sleep { duration: Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default()) })
        });
        http.or(sleep).or_else(|| hook.exec.as_ref().map(Action::exec))?
    }

    /// Does it, and says whether it passes within `patience`.
    pub(crate) async fn passes(&self, inside: &Inside, patience: Duration) -> bool {
        let passing = async {
            match self {
                Action::Tcp { address } => TcpStream::connect(address).await.is_ok(),
                Action::Http { address, path, headers } => answers(*address, path, headers, patience).await,
                Action::Exec { command } => inside.succeeds(command, patience).await,
                Action::Sleep { duration } => {
                    sleep(*duration).await;
                    true
                }
            }
        };
        timeout(patience, passing).await.unwrap_or(false)
    }

    fn http(get: &k8s::HTTPGetAction, pod: &k8s::Pod, ip: Ipv4Addr) -> Option<Action> {
        Some(Action::Http {
            address: address(get.host.as_deref(), &get.port, pod, ip)?,
            path: get.path.clone().filter(|path| path.starts_with('/')).unwrap_or_else(|| "/".into()),
            headers: get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
        })
    }

    fn exec(exec: &k8s::ExecAction) -> Option<Action> {
        exec.command.clone().filter(|command| !command.is_empty()).map(|command| Action::Exec { command })
    }
}

/// Whether a probe of this kind is carried out at all.
pub(crate) fn is_carried_out(probe: &k8s::Probe) -> bool {
    probe.http_get.is_some() || probe.tcp_socket.is_some() || probe.exec.is_some()
}

fn address(host: Option<&str>, port: &k8s::IntOrString, pod: &k8s::Pod, ip: Ipv4Addr) -> Option<SocketAddr> {
    let host: IpAddr = host.and_then(|host| host.parse().ok()).unwrap_or(IpAddr::V4(ip));
    let number = match port {
        k8s::IntOrString::Int(number) => *number,
        k8s::IntOrString::String(name) => named_port(pod, name, "TCP")?,
    };
    Some(SocketAddr::new(host, u16::try_from(number).ok()?))
}

async fn answers(address: SocketAddr, path: &str, headers: &[(String, String)], patience: Duration) -> bool {
    let mut request = Request::builder().uri(path).header("user-agent", "kube-probe/osm-local");
    let own_host = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if !own_host {
        request = request.header(HOST, address.to_string());
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let Ok(request) = request.body(Full::new(Bytes::new())) else { return false };
    let Ok(stream) = TcpStream::connect(address).await else { return false };
    let limits = client::Limits { timeout: patience, body_bytes: BODY_LIMIT_BYTES };
    match client::exchange(stream, request, limits).await {
        Ok(answer) => answer.status().is_success() || answer.status().is_redirection(),
        Err(_) => false,
    }
}
