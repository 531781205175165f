//! Services: an address for each that it keeps, and the rules by which the router turns it into a pod's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;

use anyhow::{Context, bail};
use osm_api::{Kind, NamespacedName, ObjectKey, Problem, Reason, World, k8s};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::addresses::{DNS, service_network};
use crate::endpoints::{ByService, ready_addresses};

/// Who has which address. A service keeps its address as long as it exists.
#[derive(Debug, Default)]
pub(crate) struct ServiceAddresses {
    given: BTreeMap<NamespacedName, Ipv4Addr>,
}

impl ServiceAddresses {
    /// The addresses of the World's services, headless ones left out, and what is wrong with those that ask for one.
    pub(crate) fn assign(&mut self, world: &World) -> (BTreeMap<NamespacedName, Ipv4Addr>, Vec<Problem>) {
        let wants_one = |service: &k8s::Service| {
            let spec = service.spec.as_ref();
            let is_external = spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName");
            !is_external && spec.and_then(|s| s.cluster_ip.as_deref()) != Some("None")
        };
        self.given.retain(|name, _| world.services.get(name).is_some_and(|service| wants_one(service)));
        let mut problems = Vec::new();
        let mut taken: BTreeSet<Ipv4Addr> = self.given.values().copied().collect();
        // Those that ask for an address come first, so that nobody else is given it.
        for (name, service) in world.services.iter().filter(|(_, service)| wants_one(service)) {
            let asked = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()).filter(|ip| !ip.is_empty());
            let Some(asked) = asked else { continue };
            match usable(asked) {
                Ok(address) if self.given.get(name) == Some(&address) => {}
                Ok(address) if taken.insert(address) => {
                    self.given.insert(name.clone(), address);
                }
                Ok(address) => problems.push(refusal(world, name, format!("{address} is another service's"))),
                Err(message) => problems.push(refusal(world, name, message)),
            }
        }
        for (name, _) in world.services.iter().filter(|(_, service)| wants_one(service)) {
            if !self.given.contains_key(name)
                && let Some(address) = free(name, &taken)
            {
                taken.insert(address);
                self.given.insert(name.clone(), address);
            }
        }
        (self.given.clone(), problems)
    }
}

/// The rules of the router, whole, for `iptables-restore`: each table is replaced at once.
pub(crate) fn rules(world: &World, addresses: &BTreeMap<NamespacedName, Ipv4Addr>, slices: &ByService<'_>) -> String {
    let mut rules = String::from(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n\
         :OSM_SERVICES - [0:0]\n-A PREROUTING -j OSM_SERVICES\n-A OUTPUT -j OSM_SERVICES\n",
    );
    let mut behind: BTreeSet<Ipv4Addr> = BTreeSet::new();
    for (name, address) in addresses {
        let spec = world.services.get(name).and_then(|service| service.spec.as_ref());
        for port in spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
            let endpoints = slices.get(name).map(|slices| ready_addresses(slices, port)).unwrap_or_default();
            let protocol = match port.protocol.as_deref() {
                None | Some("TCP") => "tcp",
                Some("UDP") => "udp",
                Some(_) => continue,
            };
            for (index, (pod, number)) in endpoints.iter().enumerate() {
                let left = endpoints.len() - index;
                let chance = match left {
                    1 => String::new(),
                    _ => format!(" -m statistic --mode random --probability {:.8}", 1.0 / f64::from(cast(left))),
                };
                let _ = writeln!(
                    rules,
                    "-A OSM_SERVICES -d {address}/32 -p {protocol} -m {protocol} --dport {}{chance} -j DNAT \
                     --to-destination {pod}:{number}",
                    port.port
                );
                behind.insert(*pod);
            }
        }
    }
    for pod in behind {
        // A pod that reaches itself by its service must see the answer come from the router, not from itself.
        let _ = writeln!(rules, "-A POSTROUTING -s {pod}/32 -d {pod}/32 -j MASQUERADE");
    }
    // What still has a service's address was turned into no pod's: refused, as by kube-proxy, not left to time out.
    let services = service_network();
    let _ = write!(
        rules,
        "COMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         -A FORWARD -d {services} -j REJECT --reject-with icmp-port-unreachable\n\
         -A OUTPUT -d {DNS}/32 -j ACCEPT\n\
         -A OUTPUT -d {services} -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n",
    );
    rules
}

/// Puts the rules in place of those of the network namespace that this process is in.
pub(crate) async fn restore(rules: &str) -> anyhow::Result<()> {
    let mut child = Command::new("iptables-restore")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting iptables-restore; is iptables installed?")?;
    let mut stdin = child.stdin.take().context("iptables-restore has a standard input, as asked for")?;
    stdin.write_all(rules.as_bytes()).await.context("giving the rules to iptables-restore")?;
    drop(stdin);
    let output = child.wait_with_output().await.context("waiting for iptables-restore")?;
    if !output.status.success() {
        bail!("iptables-restore: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn usable(asked: &str) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = asked.parse().map_err(|_| format!("{asked:?} is not an IPv4 address"))?;
    if !service_network().contains(&address) {
        return Err(format!("{address} is not in {}, the network of services", service_network()));
    }
    if is_reserved(address) {
        return Err(format!("{address} is reserved"));
    }
    Ok(address)
}

/// The place that the name's hash says, or the first free one after it: the same in every run, unless two collide.
fn free(name: &NamespacedName, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let network = service_network();
    let count = u32::from(network.broadcast()) - u32::from(network.network());
    let hash = xxhash_rust::xxh3::xxh3_64(format!("{}/{}", name.namespace, name.name).as_bytes());
    let start = u32::try_from(hash % u64::from(count)).expect("below a u32");
    let candidates = (0..count).map(|step| Ipv4Addr::from(u32::from(network.network()) + (start + step) % count));
    candidates.into_iter().find(|address| !is_reserved(*address) && !taken.contains(address))
}

/// The first sixteen: the network itself, the API server's in a cluster, the name server's, and room.
fn is_reserved(address: Ipv4Addr) -> bool {
    u32::from(address) - u32::from(service_network().network()) < 16 || address == service_network().broadcast()
}

fn refusal(world: &World, name: &NamespacedName, message: String) -> Problem {
    let key = ObjectKey::new(Kind::Service, &name.namespace, &name.name);
    Problem::new(&key, Reason::Conflict, format!("{message}; another address is given"))
        .with_field("spec.clusterIP")
        .with_hint("leave it out, or choose a free address")
        .with_origin(world.origin(&key).cloned())
}

/// Endpoints are fewer than pods, so this never cuts.
fn cast(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use osm_api::ManifestSet;

    fn world(text: &str) -> World {
        let mut world = World::default();
        for change in ManifestSet::default().put("test.yaml", text).changes {
            world.apply(change);
        }
        world
    }

    fn service(name: &str, spec: &str) -> String {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
    }

    fn name(name: &str) -> NamespacedName {
        NamespacedName::new("default", name)
    }

    #[test]
    fn a_service_keeps_its_address_while_others_come_and_go() {
        let mut addresses = ServiceAddresses::default();
        let (first, _) = addresses.assign(&world(&service("b", "{}")));
        let names: String = (0..500).map(|n| service(&format!("s{n}"), "{}")).collect();
        let (second, problems) = addresses.assign(&world(&(names + &service("b", "{}"))));
        assert_eq!(second[&name("b")], first[&name("b")]);
        assert_eq!(second.values().collect::<BTreeSet<_>>().len(), 501);
        assert!(problems.is_empty());
        assert!(second.values().all(|a| service_network().contains(a) && !is_reserved(*a)));
    }

    #[test]
    fn an_address_that_is_asked_for_is_given_if_it_can_be() {
        let text = service("a", "{clusterIP: 10.96.7.7}")
            + &service("b", "{clusterIP: 10.96.7.7}")
            + &service("c", "{clusterIP: 10.96.0.10}")
            + &service("d", "{clusterIP: None}")
            + &service("e", "{clusterIP: 1.2.3.4}");
        let (given, problems) = ServiceAddresses::default().assign(&world(&text));
        assert_eq!(given[&name("a")], Ipv4Addr::new(10, 96, 7, 7));
        assert_eq!(given.keys().map(|n| n.name.as_str()).collect::<String>(), "abce");
        let said: Vec<String> = problems.iter().map(|p| p.message.clone()).collect();
        assert_eq!(said.len(), 3);
        assert!(said[0].contains("another service's") && said[1].contains("reserved") && said[2].contains("not in"));
    }

    #[test]
    fn each_pod_gets_an_equal_share() {
        let given = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mine, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8000}]
endpoints: [{addresses: [10.244.0.2]}, {addresses: [10.244.0.3]}, {addresses: [10.9.9.9], conditions: {ready: false}}]
";
        let world = world(&(service("web", "{clusterIP: 10.96.7.7, ports: [{port: 80}]}") + given));
        let (addresses, _) = ServiceAddresses::default().assign(&world);
        let slices = crate::endpoints::slices(&world, &[]);
        let rules = rules(&world, &addresses, &crate::endpoints::by_service(&slices));
        let lines: Vec<&str> = rules.lines().filter(|line| line.contains("10.244")).collect();
        assert_eq!(
            lines,
            [
                "-A OSM_SERVICES -d 10.96.7.7/32 -p tcp -m tcp --dport 80 -m statistic --mode random --probability \
                 0.50000000 -j DNAT --to-destination 10.244.0.2:8000",
                "-A OSM_SERVICES -d 10.96.7.7/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.0.3:8000",
                "-A POSTROUTING -s 10.244.0.2/32 -d 10.244.0.2/32 -j MASQUERADE",
                "-A POSTROUTING -s 10.244.0.3/32 -d 10.244.0.3/32 -j MASQUERADE",
            ]
        );
        assert!(!rules.contains("10.9.9.9"));
    }
}
