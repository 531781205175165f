//! Names: `<service>.<namespace>.svc.cluster.local` over UDP, as in a cluster. Names from outside do not exist, for the
//! runner's network has no way out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use osm_api::World;
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::addresses::{CLUSTER_DOMAIN, GATEWAY};
use crate::desired::OSM_NAMESPACE;
use crate::endpoints::{ByService, ready_hosts};
use crate::services::ClusterIps;

/// How long an answer may be kept: long enough to save packets, short enough that a changed service is noticed.
const TTL_SECONDS: u32 = 5;
/// What fits into 512 bytes with any name; the pods of a large headless service take turns.
const MAX_ANSWERS: usize = 14;
/// The same in IPv6, or in both.
const MAX_ANSWERS_V6: usize = 8;

/// Every name that exists, in lower case without the last dot, and its addresses.
pub(crate) type Zone = BTreeMap<String, Vec<IpAddr>>;

/// The names of a World.
pub(crate) fn zone(world: &World, addresses: &ClusterIps, slices: &ByService<'_>) -> Zone {
    let full = |namespace: &str, name: &str| format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}");
    let mut zone = Zone::from([(full(OSM_NAMESPACE, "osm-controller"), vec![GATEWAY.into()])]);
    for name in world.services.keys() {
        let found = match addresses.get(name) {
            Some(addresses) => addresses.clone(),
            None => slices.get(name).map(|slices| ready_hosts(slices)).unwrap_or_default(),
        };
        zone.insert(full(&name.namespace, &name.name), found);
    }
    zone
}

/// Answers questions until the socket breaks.
pub(crate) async fn serve(socket: UdpSocket, zone: watch::Receiver<Arc<Zone>>) -> anyhow::Result<()> {
    let mut question = [0; 1500];
    loop {
        let (length, asker) = match socket.recv_from(&mut question).await {
            Ok(received) => received,
            // A client that was gone when its answer came is told to us here; it is not our trouble.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error.into()),
        };
        let zone = zone.borrow().clone();
        if let Some(answer) = answer(&zone, &question[..length]) {
            // Lost answers are asked for again.
            let _ = socket.send_to(&answer, asker).await;
        }
    }
}

/// The answer to one packet; none if it is no question.
fn answer(zone: &Zone, question: &[u8]) -> Option<Vec<u8>> {
    let query = Packet::parse(question).ok()?;
    if query.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    let asked = query.questions.first()?.clone();
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    let name = asked.qname.to_string().to_ascii_lowercase();
    match zone.get(name.trim_end_matches('.')) {
        None => *reply.rcode_mut() = RCODE::NameError,
        Some(addresses) => {
            let is_asked_for = |address: &IpAddr| {
                let of_v4 = matches!(asked.qtype, QTYPE::TYPE(TYPE::A) | QTYPE::ANY);
                let of_v6 = matches!(asked.qtype, QTYPE::TYPE(TYPE::AAAA) | QTYPE::ANY);
                if address.is_ipv4() { of_v4 } else { of_v6 }
            };
            let addresses: Vec<IpAddr> = addresses.iter().copied().filter(is_asked_for).collect();
            let limit = if addresses.iter().all(IpAddr::is_ipv4) { MAX_ANSWERS } else { MAX_ANSWERS_V6 };
            let start = usize::from(query.id()) % addresses.len().max(1);
            let turn = addresses.iter().cycle().skip(start).take(addresses.len().min(limit));
            for address in turn {
                let record = match *address {
                    IpAddr::V4(address) => RData::A(A { address: address.into() }),
                    IpAddr::V6(address) => RData::AAAA(AAAA { address: address.into() }),
                };
                reply.answers.push(ResourceRecord::new(asked.qname.clone(), CLASS::IN, TTL_SECONDS, record));
            }
        }
    }
    reply.questions.push(asked);
    reply.build_bytes_vec_compressed().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::{Name, QCLASS, Question};

    fn ask(zone: &Zone, name: &str, kind: TYPE) -> (RCODE, Vec<IpAddr>, usize) {
        let mut query = Packet::new_query(7);
        let name = Name::new_unchecked(name);
        query.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
        let bytes = answer(zone, &query.build_bytes_vec().unwrap()).unwrap();
        let reply = Packet::parse(&bytes).unwrap();
        let addresses = reply.answers.iter().map(|record| match &record.rdata {
            RData::A(a) => IpAddr::V4(a.address.into()),
            RData::AAAA(a) => IpAddr::V6(a.address.into()),
            other => panic!("not an address: {other:?}"),
        });
        (reply.rcode(), addresses.collect(), bytes.len())
    }

    #[test]
    fn services_are_found_whatever_the_case_and_nothing_else_is() {
        let (web, both) = (IpAddr::from([10, 96, 7, 7]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 7]));
        let zone = Zone::from([
            ("web.shop.svc.cluster.local".to_owned(), vec![web]),
            ("both.shop.svc.cluster.local".to_owned(), vec![web, both]),
        ]);
        let check = |name: &str, kind: TYPE, expected: (RCODE, Vec<IpAddr>)| {
            let (code, addresses, _) = ask(&zone, name, kind);
            assert_eq!((code, addresses), expected);
        };
        check("web.shop.svc.cluster.local", TYPE::A, (RCODE::NoError, vec![web]));
        check("WEB.Shop.svc.cluster.local", TYPE::A, (RCODE::NoError, vec![web]));
        check("web.shop.svc.cluster.local", TYPE::AAAA, (RCODE::NoError, vec![]));
        check("both.shop.svc.cluster.local", TYPE::A, (RCODE::NoError, vec![web]));
        check("both.shop.svc.cluster.local", TYPE::AAAA, (RCODE::NoError, vec![both]));
        check("web.shop", TYPE::A, (RCODE::NameError, vec![]));
        check("example.com", TYPE::A, (RCODE::NameError, vec![]));
    }

    #[test]
    fn an_answer_always_fits() {
        let v4 = (0..200_u8).map(|n| IpAddr::from([10, 244, 1, n]));
        let many = v4.chain((0..200).map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]))).collect();
        let name = format!("{0}.{0}.svc.cluster.local", "a".repeat(63));
        let zone = Zone::from([(name.clone(), many)]);
        for (kind, count) in [(TYPE::A, MAX_ANSWERS), (TYPE::AAAA, MAX_ANSWERS_V6)] {
            let (_, addresses, length) = ask(&zone, &name, kind);
            assert_eq!(addresses.len(), count);
            assert!(length <= 512, "{length}");
        }
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        assert_eq!(answer(&Zone::new(), b""), None);
        assert_eq!(answer(&Zone::new(), b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(answer(&Zone::new(), &Packet::new_reply(1).build_bytes_vec().unwrap()), None);
    }
}
