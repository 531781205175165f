//! Services: an address for each that it keeps, and the rules by which the router turns it into a pod's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, bail};
use osm_api::{Kind, NamespacedName, ObjectKey, Problem, Reason, World, k8s};
use osm_redirect::Family;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::addresses::{DNS, IpFamilies, beside, service_network, service_network_v6};
use crate::endpoints::{ByService, ready_addresses};

/// The addresses of services, headless ones left out, in the order of their families.
pub(crate) type ClusterIps = BTreeMap<NamespacedName, Vec<IpAddr>>;

/// The rules of the router: the text for each program that puts some in place.
pub(crate) type Rules = BTreeMap<&'static str, String>;

/// Writes into each service the families that it has in a network of these: by the rules of Kubernetes, what it asks for,
/// and IPv4 otherwise.
pub(crate) fn settle_families(world: &mut World, network: IpFamilies) {
    for service in world.services.values_mut() {
        let Some(spec) = &service.spec else { continue };
        let mut asked = spec.ip_families.clone().unwrap_or_default();
        let settled = match network {
            IpFamilies::V4 => {
                asked.retain(|family| family == "IPv4");
                asked
            }
            IpFamilies::DualStack => {
                if matches!(spec.ip_family_policy.as_deref(), Some("PreferDualStack" | "RequireDualStack")) {
                    asked.extend(["IPv4", "IPv6"].map(str::to_owned));
                    let mut seen = BTreeSet::new();
                    asked.retain(|family| seen.insert(family.clone()));
                }
                asked
            }
        };
        let settled = Some(settled).filter(|families| !families.is_empty());
        if settled != spec.ip_families {
            let mut changed = (**service).clone();
            changed.spec.get_or_insert_default().ip_families = settled;
            *service = Arc::new(changed);
        }
    }
}

/// The families of a service that has been settled.
pub(crate) fn families(service: &k8s::Service) -> Vec<Family> {
    let asked = service.spec.as_ref().and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let known = asked.iter().filter_map(|family| match family.as_str() {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    });
    let families: Vec<Family> = known.collect();
    if families.is_empty() { vec![Family::V4] } else { families }
}

/// Who has which address. A service keeps its address as long as it exists; its IPv6 address is that of IPv4 in another
/// network.
#[derive(Debug, Default)]
pub(crate) struct ServiceAddresses {
    given: BTreeMap<NamespacedName, Ipv4Addr>,
}

impl ServiceAddresses {
    /// The addresses of the World's services, headless ones left out, and what is wrong with those that ask for one.
    pub(crate) fn assign(&mut self, world: &World) -> (ClusterIps, Vec<Problem>) {
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
        let of_families = |(name, given): (&NamespacedName, &Ipv4Addr)| {
            let families = world.services.get(name).map(|service| families(service)).unwrap_or_default();
            let addresses = families.into_iter().map(|family| match family {
                Family::V4 => IpAddr::V4(*given),
                Family::V6 => IpAddr::V6(beside(service_network_v6(), *given)),
            });
            (name.clone(), addresses.collect())
        };
        (self.given.iter().map(of_families).collect(), problems)
    }
}

/// The rules of the router in a network of these families, whole: each table is replaced at once.
pub(crate) fn rules(world: &World, addresses: &ClusterIps, slices: &ByService<'_>, network: IpFamilies) -> Rules {
    let of = |family| rules_of(family, world, addresses, slices);
    let mut rules = Rules::from([("iptables-restore", of(Family::V4))]);
    match network {
        IpFamilies::V4 => {}
        IpFamilies::DualStack => {
            rules.insert("ip6tables-restore", of(Family::V6));
        }
    }
    rules
}

fn rules_of(family: Family, world: &World, addresses: &ClusterIps, slices: &ByService<'_>) -> String {
    let length = if family == Family::V4 { 32 } else { 128 };
    let is_of_family = |address: &IpAddr| address.is_ipv4() == (family == Family::V4);
    let mut rules = String::from(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n\
         :OSM_SERVICES - [0:0]\n-A PREROUTING -j OSM_SERVICES\n-A OUTPUT -j OSM_SERVICES\n",
    );
    let mut behind: BTreeSet<IpAddr> = BTreeSet::new();
    let addresses = addresses.iter().flat_map(|(name, all)| all.iter().map(move |address| (name, address)));
    for (name, address) in addresses.filter(|(_, address)| is_of_family(address)) {
        let spec = world.services.get(name).and_then(|service| service.spec.as_ref());
        for port in spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
            let mut endpoints = slices.get(name).map(|slices| ready_addresses(slices, port)).unwrap_or_default();
            endpoints.retain(|endpoint| is_of_family(&endpoint.ip()));
            let protocol = match port.protocol.as_deref() {
                None | Some("TCP") => "tcp",
                Some("UDP") => "udp",
                Some(_) => continue,
            };
            for (index, endpoint) in endpoints.iter().enumerate() {
                let left = endpoints.len() - index;
                let chance = match left {
                    1 => String::new(),
                    _ => format!(" -m statistic --mode random --probability {:.8}", 1.0 / f64::from(cast(left))),
                };
                let _ = writeln!(
                    rules,
                    "-A OSM_SERVICES -d {address}/{length} -p {protocol} -m {protocol} --dport {}{chance} -j DNAT \
                     --to-destination {endpoint}",
                    port.port
                );
                behind.insert(endpoint.ip());
            }
        }
    }
    for pod in behind {
        // A pod that reaches itself by its service must see the answer come from the router, not from itself.
        let _ = writeln!(rules, "-A POSTROUTING -s {pod}/{length} -d {pod}/{length} -j MASQUERADE");
    }
    // What still has a service's address was turned into no pod's: refused, as by kube-proxy, not left to time out.
    let (services, refusal, names) = match family {
        Family::V4 => {
            let names = format!("-A OUTPUT -d {DNS}/32 -j ACCEPT\n");
            (service_network().to_string(), "icmp-port-unreachable", names)
        }
        // Names are resolved over IPv4 alone.
        Family::V6 => (service_network_v6().to_string(), "icmp6-port-unreachable", String::new()),
    };
    let _ = write!(
        rules,
        "COMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         -A FORWARD -d {services} -j REJECT --reject-with {refusal}\n\
         {names}\
         -A OUTPUT -d {services} -j REJECT --reject-with {refusal}\nCOMMIT\n",
    );
    rules
}

/// Puts the rules in place of those of the network namespace that this process is in.
pub(crate) async fn restore(rules: &Rules) -> anyhow::Result<()> {
    for (program, text) in rules {
        restore_with(program, text).await?;
    }
    Ok(())
}

async fn restore_with(program: &str, rules: &str) -> anyhow::Result<()> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}; is iptables installed?"))?;
    let mut stdin = child.stdin.take().with_context(|| format!("{program} has a standard input, as asked for"))?;
    stdin.write_all(rules.as_bytes()).await.with_context(|| format!("giving the rules to {program}"))?;
    drop(stdin);
    let output = child.wait_with_output().await.with_context(|| format!("waiting for {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
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
        let is_fine = |address: &IpAddr| match address {
            IpAddr::V4(v4) => service_network().contains(v4) && !is_reserved(*v4),
            IpAddr::V6(_) => false,
        };
        assert!(second.values().flatten().all(is_fine));
    }

    #[test]
    fn an_address_that_is_asked_for_is_given_if_it_can_be() {
        let text = service("a", "{clusterIP: 10.96.7.7}")
            + &service("b", "{clusterIP: 10.96.7.7}")
            + &service("c", "{clusterIP: 10.96.0.10}")
            + &service("d", "{clusterIP: None}")
            + &service("e", "{clusterIP: 1.2.3.4}");
        let (given, problems) = ServiceAddresses::default().assign(&world(&text));
        assert_eq!(given[&name("a")], [IpAddr::from([10, 96, 7, 7])]);
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
        let rules = rules(&world, &addresses, &crate::endpoints::by_service(&slices), IpFamilies::V4);
        let rules = &rules["iptables-restore"];
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

    #[test]
    fn a_service_has_the_families_that_it_asks_for_and_the_network_has() {
        let check = |spec: &str, network: IpFamilies, expected: &[&str]| {
            let mut world = world(&service("web", spec));
            settle_families(&mut world, network);
            let (given, _) = ServiceAddresses::default().assign(&world);
            let given: Vec<String> = given[&name("web")].iter().map(IpAddr::to_string).collect();
            assert_eq!(given, expected, "{spec} {network:?}");
        };
        let (v4, v6) = ("10.96.7.7", "fd00:10:96::a60:707");
        let dual = IpFamilies::DualStack;
        check("{clusterIP: 10.96.7.7}", dual, &[v4]);
        check("{clusterIP: 10.96.7.7, ipFamilies: [IPv6]}", dual, &[v6]);
        check("{clusterIP: 10.96.7.7, ipFamilies: [IPv6]}", IpFamilies::V4, &[v4]);
        check("{clusterIP: 10.96.7.7, ipFamilyPolicy: PreferDualStack}", dual, &[v4, v6]);
        check("{clusterIP: 10.96.7.7, ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6]}", dual, &[v6, v4]);
        check("{clusterIP: 10.96.7.7, ipFamilyPolicy: PreferDualStack}", IpFamilies::V4, &[v4]);
    }

    #[test]
    fn each_family_has_rules_of_its_own() {
        let given = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mine, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{port: 8000}]
endpoints: [{addresses: ['fd00:10:244::af4:2']}]
";
        let spec = "{clusterIP: 10.96.7.7, ipFamilies: [IPv4, IPv6], ports: [{port: 80}]}";
        let world = world(&(service("web", spec) + given));
        let (addresses, _) = ServiceAddresses::default().assign(&world);
        let slices = crate::endpoints::slices(&world, &[]);
        let rules = rules(&world, &addresses, &crate::endpoints::by_service(&slices), IpFamilies::DualStack);
        let of_pods = |program: &str| -> Vec<String> {
            rules[program]
                .lines()
                .filter(|line| line.contains("-d fd00:10:") || line.contains("DNAT"))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(of_pods("iptables-restore"), [""; 0], "it has no endpoint in IPv4");
        assert_eq!(
            of_pods("ip6tables-restore"),
            [
                "-A OSM_SERVICES -d fd00:10:96::a60:707/128 -p tcp -m tcp --dport 80 -j DNAT \
                 --to-destination [fd00:10:244::af4:2]:8000",
                "-A POSTROUTING -s fd00:10:244::af4:2/128 -d fd00:10:244::af4:2/128 -j MASQUERADE",
                "-A FORWARD -d fd00:10:96::/64 -j REJECT --reject-with icmp6-port-unreachable",
                "-A OUTPUT -d fd00:10:96::/64 -j REJECT --reject-with icmp6-port-unreachable",
            ]
        );
    }
}
