//! The network: a router with one bridge in the runner's own namespace, and one namespace for each pod.
//!
//! A pod's address stands alone (`/32`) and everything it sends goes by the router, its neighbours included, so that
//! the router can turn a service's address into a pod's and the answer back, and so that one capture sees everything.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::TryStreamExt;
use nix::sched::{CloneFlags, unshare};
use osm_runtime::clock;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage, State};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};
use tokio::sync::oneshot;

use crate::addresses::{
    DNS, GATEWAY, GATEWAY_V6, IpFamilies, PodIps, pod_network, pod_network_v6, service_network, service_network_v6,
};

/// The bridge that all pods are on; where a packet capture sees everything.
pub const BRIDGE: &str = "osm0";
/// The pods' hops to the router have one Ethernet address for the bridge's whole life: a bridge without one of its own
/// takes the lowest of its ports, which changes as pods come and go.
const BRIDGE_ADDRESS: [u8; 6] = [0x0a, 0x58, 0x0a, 0xf4, 0x00, 0x01];

/// The index of every pod's `eth0`, which nothing in the router has but its bridge. When both ends of a pair have one
/// index the kernel takes them for something else, and takes a second to see that they are connected.
const POD_INDEX: u32 = 2;
const UP_LIMIT: Duration = Duration::from_secs(5);

/// The router: the namespace that the runner lives in.
#[derive(Clone)]
pub(crate) struct Router {
    netlink: Handle,
    bridge: u32,
    namespace: Arc<OwnedFd>,
}

/// The namespaces that the containers of one pod share. They end with their last process, or when this is dropped.
#[derive(Debug)]
pub(crate) struct PodNamespaces {
    pub(crate) net: OwnedFd,
    pub(crate) ipc: OwnedFd,
    pub(crate) uts: OwnedFd,
}

impl Router {
    /// Furnishes the network namespace of this process, which must be new.
    pub(crate) async fn create(families: IpFamilies) -> anyhow::Result<Router> {
        let (connection, netlink, _) = new_connection().context("opening netlink")?;
        tokio::spawn(connection);
        let lo = index(&netlink, "lo").await?;
        netlink.link().set(LinkUnspec::new_with_index(lo).up().build()).execute().await.context("starting lo")?;
        let bridge = LinkBridge::new(BRIDGE).address(BRIDGE_ADDRESS.to_vec()).up().build();
        netlink.link().add(bridge).execute().await.context("adding the bridge")?;
        let bridge = index(&netlink, BRIDGE).await?;
        for (address, length) in [(GATEWAY, pod_network().prefix_len()), (DNS, 32)] {
            netlink.address().add(bridge, IpAddr::V4(address), length).execute().await.context("adding an address")?;
        }
        // Without a way to them, packets to services that have no endpoint would never meet the rule that refuses them.
        let services = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(service_network().network(), service_network().prefix_len())
            .output_interface(bridge)
            .scope(RouteScope::Link)
            .build();
        netlink.route().add(services).execute().await.context("adding the route to services")?;
        for (setting, value) in [
            ("ipv4/ip_forward", "1"),
            // Pods are on one bridge, but they do not know it: telling them would lead them past the router.
            ("ipv4/conf/all/send_redirects", "0"),
            (&format!("ipv4/conf/{BRIDGE}/send_redirects"), "0"),
        ] {
            sysctl(setting, value)?;
        }
        // Where the kernel has bridges call the rules of services, a pod's packet to itself never gets to the router.
        for setting in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"] {
            sysctl_if_there(setting, "0")?;
        }
        match families {
            IpFamilies::V4 => {}
            IpFamilies::DualStack => add_ipv6(&netlink, bridge).await?,
        }
        let namespace = Arc::new(File::open("/proc/self/ns/net").context("opening the router's namespace")?.into());
        Ok(Router { netlink, bridge, namespace })
    }

    /// A pod's namespaces, connected to the bridge by the interface of that name.
    pub(crate) async fn add_pod(
        &self,
        interface: &str,
        hostname: String,
        ips: PodIps,
    ) -> anyhow::Result<PodNamespaces> {
        let (sender, receiver) = oneshot::channel();
        let (router, name) = (self.namespace.clone(), interface.to_owned());
        // A thread of its own: namespaces belong to threads, and this one ends with what it has changed.
        let thread = move || {
            let _ = sender.send(furnish_pod(&hostname, &name, ips, &router));
        };
        std::thread::Builder::new().name("pod-network".into()).spawn(thread).context("starting a thread")?;
        let namespaces = receiver.await.map_err(|_| anyhow!("the thread that makes the namespaces ended"))??;
        let port = index(&self.netlink, interface).await?;
        let port = LinkUnspec::new_with_index(port).controller(self.bridge).up().build();
        self.netlink.link().set(port).execute().await.context("connecting the pod to the bridge")?;
        self.until_up(interface).await?;
        Ok(namespaces)
    }

    /// The bridge drops what comes from a port that is not up yet, and a lost handshake is repeated a second later.
    async fn until_up(&self, interface: &str) -> anyhow::Result<()> {
        let start = clock::monotonic();
        loop {
            let link = link(&self.netlink, interface).await?;
            if link.attributes.iter().any(|a| matches!(a, LinkAttribute::OperState(State::Up))) {
                return Ok(());
            }
            if start.elapsed() > UP_LIMIT {
                bail!("interface {interface} is not up after {UP_LIMIT:?}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// On a thread of its own: new namespaces, with everything in them that containers expect.
fn furnish_pod(hostname: &str, interface: &str, ips: PodIps, router: &OwnedFd) -> anyhow::Result<PodNamespaces> {
    let flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    unshare(flags).context("making the pod's namespaces")?;
    nix::unistd::sethostname(hostname).context("setting the pod's hostname")?;
    // Containers bind low ports without being root, and send pings, as container runtimes let them.
    sysctl("ipv4/ip_unprivileged_port_start", "0")?;
    sysctl("ipv4/ping_group_range", "0 2147483647")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(async {
        let (connection, netlink, _) = new_connection().context("opening the pod's netlink")?;
        tokio::spawn(connection);
        connect_pod(&netlink, interface, ips, router).await
    })?;
    let open = |kind: &str| {
        let file = File::open(format!("/proc/thread-self/ns/{kind}"));
        file.map(OwnedFd::from).with_context(|| format!("opening the pod's {kind} namespace"))
    };
    Ok(PodNamespaces { net: open("net")?, ipc: open("ipc")?, uts: open("uts")? })
}

async fn connect_pod(netlink: &Handle, interface: &str, ips: PodIps, router: &OwnedFd) -> anyhow::Result<()> {
    let link = netlink.link();
    let lo = index(netlink, "lo").await?;
    link.set(LinkUnspec::new_with_index(lo).up().build()).execute().await.context("starting the pod's lo")?;
    let peer = LinkUnspec::new_with_name(interface).setns_by_fd(router.as_raw_fd()).build();
    let pair = LinkVeth::new("eth0", interface).index(POD_INDEX);
    let pair = pair.set_info_data(InfoData::Veth(InfoVeth::Peer(peer))).build();
    link.add(pair).execute().await.context("adding eth0")?;
    match ips.v6 {
        // Without this, eth0 would spend a second on an address nobody uses.
        None => sysctl_if_there("ipv6/conf/eth0/disable_ipv6", "1")?,
        // Nobody else has the address: looking for one who has would take that second.
        Some(_) => sysctl("ipv6/conf/eth0/accept_dad", "0")?,
    }
    let eth0 = POD_INDEX;
    netlink.address().add(eth0, IpAddr::V4(ips.v4), 32).execute().await.context("adding the pod's address")?;
    link.set(LinkUnspec::new_with_index(eth0).up().build()).execute().await.context("starting eth0")?;
    let gateway = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(GATEWAY, 32)
        .output_interface(eth0)
        .scope(RouteScope::Link)
        .build();
    netlink.route().add(gateway).execute().await.context("adding the route to the router")?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(GATEWAY).output_interface(eth0).build();
    netlink.route().add(default).execute().await.context("adding the default route")?;
    let Some(v6) = ips.v6 else { return Ok(()) };
    netlink.address().add(eth0, IpAddr::V6(v6), 128).execute().await.context("adding the pod's IPv6 address")?;
    let gateway =
        RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(GATEWAY_V6, 128).output_interface(eth0).build();
    netlink.route().add(gateway).execute().await.context("adding the IPv6 route to the router")?;
    let default = RouteMessageBuilder::<Ipv6Addr>::new().gateway(GATEWAY_V6).output_interface(eth0).build();
    netlink.route().add(default).execute().await.context("adding the default IPv6 route")
}

/// Makes the router one for IPv6 too.
async fn add_ipv6(netlink: &Handle, bridge: u32) -> anyhow::Result<()> {
    sysctl("ipv6/conf/all/forwarding", "1").context("this kernel has no IPv6")?;
    sysctl(&format!("ipv6/conf/{BRIDGE}/accept_dad"), "0")?;
    let length = pod_network_v6().prefix_len();
    netlink.address().add(bridge, IpAddr::V6(GATEWAY_V6), length).execute().await.context("adding an IPv6 address")?;
    let services = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(service_network_v6().network(), service_network_v6().prefix_len())
        .output_interface(bridge)
        .build();
    netlink.route().add(services).execute().await.context("adding the IPv6 route to services")
}

async fn index(netlink: &Handle, name: &str) -> anyhow::Result<u32> {
    Ok(link(netlink, name).await?.header.index)
}

async fn link(netlink: &Handle, name: &str) -> anyhow::Result<LinkMessage> {
    let link = netlink.link().get().match_name(name.to_owned()).execute().try_next().await;
    let link = link.with_context(|| format!("looking for interface {name}"))?;
    link.with_context(|| format!("there is no interface {name}"))
}

/// Settings below `net` are those of the calling thread's namespace.
fn sysctl(setting: &str, value: &str) -> anyhow::Result<()> {
    fs::write(format!("/proc/sys/net/{setting}"), value).with_context(|| format!("setting net/{setting} to {value}"))
}

/// A kernel without the feature has no settings for it, and nothing to be set.
fn sysctl_if_there(setting: &str, value: &str) -> anyhow::Result<()> {
    if Path::new(&format!("/proc/sys/net/{setting}")).exists() { sysctl(setting, value) } else { Ok(()) }
}
