//! One change in a large mesh costs what changed: everything else is the very same resource, for every class.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use osm_model::{
    Access, Endpoint, Grant, Grants, HttpMatch, Identity, InboundPort, Mesh, PodName, PolicyName, Protocol, ProxyClass,
    Service, ServiceName, ServicePort, Settings, TcpPorts,
};
use osm_translate::Translator;
use osm_xds::{ResourceType, Resources};

use crate::view::settings;

const NAMESPACES: usize = 300;
const SERVICES: usize = 3333;

/// Much more than a round takes on a busy machine, and much less than one took that made everything anew for each class.
const LIMIT: Duration = Duration::from_millis(1500);

fn identity(index: usize) -> Identity {
    Identity { namespace: format!("ns-{}", index % NAMESPACES), service_account: format!("sa-{index}") }
}

fn service(index: usize, pods: u8) -> Service {
    let [_, _, high, low] = u32::try_from(index).expect("a small number").to_be_bytes();
    let endpoint = |pod: u8| {
        let address = SocketAddr::from((Ipv4Addr::new(10, 128 + pod, high, low), 8080));
        Endpoint { address, identity: identity(index) }
    };
    let port = ServicePort {
        protocol: Protocol::Http,
        targets: BTreeSet::from([8080]),
        endpoints: (0..pods).map(endpoint).collect(),
    };
    Service {
        name: ServiceName { namespace: identity(index).namespace, name: format!("service-{index}") },
        addresses: vec![Ipv4Addr::new(10, 96, high, low).into()],
        ports: BTreeMap::from([(80, port)]),
        identities: BTreeSet::from([identity(index)]),
    }
}

/// A mesh in which each workload of the first services may reach ten others.
fn mesh(access: Access) -> Mesh {
    let services = (0..SERVICES).map(|index| service(index, 2));
    let proxies = (0..NAMESPACES).map(|index| {
        let name = PodName { namespace: identity(index).namespace, name: "pod".to_owned() };
        let inbound = BTreeSet::from([InboundPort { port: 8080, protocol: Protocol::Http }]);
        (name, ProxyClass { identity: identity(index), inbound })
    });
    let grants = (0..SERVICES).map(|index| {
        let policy = PolicyName { namespace: identity(index).namespace, name: format!("policy-{index}") };
        let sources = (0..10).map(|other| identity((index * 7 + other) % NAMESPACES)).collect();
        let grant = Grant { sources, http: BTreeSet::from([HttpMatch::default()]), tcp: TcpPorts::none() };
        (identity(index), policy, grant)
    });
    let services = services.map(|service| (service.name.clone(), Arc::new(service))).collect();
    Mesh::new(Settings { access, ..settings() }, services, proxies.collect(), Grants::new(grants))
}

/// The same mesh with one service put in.
fn with(mut mesh: Mesh, service: Service) -> Mesh {
    mesh.services.insert(service.name.clone(), Arc::new(service));
    Mesh::new(mesh.settings, mesh.services, mesh.proxies, mesh.grants)
}

fn round(translator: &mut Translator, mesh: &Mesh) -> (Vec<Arc<Resources>>, Duration) {
    let start = Instant::now();
    let told = mesh.classes().into_iter().map(|class| translator.translate(&mesh.view(class))).collect();
    (told, start.elapsed())
}

/// How many resources of a type are not the very same as before, over all classes.
fn changed(before: &[Arc<Resources>], after: &[Arc<Resources>], ty: ResourceType) -> usize {
    let of_class = |(before, after): (&Arc<Resources>, &Arc<Resources>)| {
        let is_new = |name: &String| match (before.get(ty, name), after.get(ty, name)) {
            (Some(before), Some(after)) => !Arc::ptr_eq(before, after),
            (_, after) => after.is_some(),
        };
        after.of(ty).keys().filter(|name| is_new(name)).count()
    };
    before.iter().zip(after).map(of_class).sum()
}

fn check(access: Access, expected_of_endpoints: impl Fn(&Mesh) -> usize) {
    let mesh = mesh(access);
    let mut translator = Translator::default();
    let (first, took_first) = round(&mut translator, &mesh);
    let (again, took_again) = round(&mut translator, &mesh);
    for ty in ResourceType::OF_CONTROLLER {
        assert_eq!(changed(&first, &again, ty), 0, "{ty}");
    }

    let mesh = with(mesh, service(5, 3));
    let (more_pods, took_more_pods) = round(&mut translator, &mesh);
    for ty in [ResourceType::Cluster, ResourceType::Listener, ResourceType::Route] {
        assert_eq!(changed(&again, &more_pods, ty), 0, "{ty}");
    }
    assert_eq!(changed(&again, &more_pods, ResourceType::Endpoint), expected_of_endpoints(&mesh));

    let mut mesh = with(mesh, service(SERVICES, 2));
    let (one_more, took_one_more) = round(&mut translator, &mesh);
    assert_eq!(changed(&more_pods, &one_more, ResourceType::Listener), 0);

    mesh.settings.access = if access == Access::Permissive { Access::Granted } else { Access::Permissive };
    let (_, took_switch) = round(&mut translator, &mesh);
    let times = [took_first, took_again, took_more_pods, took_one_more, took_switch];
    let names = ["first", "again", "more pods", "one more service", "the other mode"];
    let times: Vec<String> = names.iter().zip(times).map(|(name, took)| format!("{name}: {took:.1?}")).collect();
    assert!(took_more_pods < LIMIT, "{}", times.join(", "));
}

#[test]
fn in_permissive_mode_one_changed_service_is_one_changed_load_assignment_for_each_class() {
    check(Access::Permissive, |mesh| mesh.classes().len());
}

#[test]
fn in_smi_mode_only_those_who_may_reach_a_changed_service_are_told() {
    check(Access::Granted, |mesh| {
        let may_reach = |class: &&&ProxyClass| {
            mesh.grants.from(&class.identity).is_some_and(|reach| reach.contains_key(&identity(5)))
        };
        mesh.classes().iter().filter(may_reach).count()
    });
}
