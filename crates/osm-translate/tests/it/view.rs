//! A view as golden inputs write it down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use osm_model::{
    Access, Admitted, Endpoint, Grant, HttpMatch, Identity, InboundPort, Pattern, PolicyName, Protocol, ProxyClass,
    ProxyView, Service, ServiceName, ServicePort, Settings, TcpPorts, TlsSettings, TlsVersion, TrustDomain,
};
use serde::Deserialize;

/// The whole input. With `access: granted` nobody is admitted but by `grants`; identities, services and policies are
/// `namespace/name`. The HTTP ports of the mesh are those of the services and `http_ports`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct View {
    #[serde(default)]
    access: String,
    #[serde(default)]
    egress: bool,
    #[serde(default)]
    tls_1_3_only: bool,
    #[serde(default)]
    cipher_suites: Vec<String>,
    #[serde(default)]
    ecdh_curves: Vec<String>,
    proxy: String,
    #[serde(default)]
    inbound: BTreeMap<u16, String>,
    #[serde(default)]
    services: BTreeMap<String, WrittenService>,
    #[serde(default)]
    http_ports: BTreeSet<u16>,
    #[serde(default)]
    closed: BTreeMap<u16, BTreeSet<IpAddr>>,
    #[serde(default)]
    grants: BTreeMap<String, WrittenGrant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGrant {
    sources: Vec<String>,
    #[serde(default)]
    http: Vec<WrittenMatch>,
    #[serde(default)]
    tcp: BTreeSet<u16>,
    #[serde(default)]
    any_tcp: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMatch {
    path: Option<String>,
    #[serde(default)]
    methods: BTreeSet<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenService {
    #[serde(default)]
    addresses: Vec<IpAddr>,
    #[serde(default)]
    identities: Vec<String>,
    ports: BTreeMap<u16, WrittenPort>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPort {
    protocol: String,
    #[serde(default)]
    endpoints: BTreeSet<SocketAddr>,
}

pub(crate) fn read(input: &str) -> ProxyView {
    let view: View = serde_saphyr::from_str(input).expect("the input is a view");
    let version = if view.tls_1_3_only { TlsVersion::V1_3 } else { TlsVersion::V1_2 };
    let tls = TlsSettings {
        min: version,
        max: TlsVersion::V1_3,
        cipher_suites: view.cipher_suites,
        ecdh_curves: view.ecdh_curves,
    };
    let access = match view.access.as_str() {
        "" | "permissive" => Access::Permissive,
        "granted" => Access::Granted,
        other => panic!("there is no access {other}"),
    };
    let settings = Settings { access, egress: view.egress, tls, ..settings() };
    let inbound = view.inbound.iter().map(|(port, written)| InboundPort { port: *port, protocol: protocol(written) });
    let class = ProxyClass { identity: identity(&view.proxy), inbound: inbound.collect() };
    let outbound: Vec<_> = view.services.into_iter().map(|(name, written)| Arc::new(service(&name, written))).collect();
    let ports = outbound.iter().flat_map(|service| &service.ports);
    let mut http_ports: BTreeSet<u16> =
        ports.filter(|(_, p)| p.protocol.is_http()).map(|(number, _)| *number).collect();
    http_ports.extend(view.http_ports);
    let grants = view.grants.into_iter().map(|(name, written)| grant(&name, written)).collect();
    let admitted = match settings.access {
        Access::Permissive => Admitted::Everybody,
        Access::Granted => Admitted::Granted(Arc::new(grants)),
    };
    ProxyView { settings, class, outbound, http_ports, closed: view.closed, admitted }
}

fn grant(name: &str, written: WrittenGrant) -> (PolicyName, Grant) {
    let one = |written: WrittenMatch| HttpMatch {
        path: written.path.map(Pattern),
        methods: written.methods,
        headers: written.headers.into_iter().map(|(name, value)| (name, Pattern(value))).collect(),
    };
    let policy = identity(name);
    let grant = Grant {
        sources: written.sources.iter().map(|source| identity(source)).collect(),
        http: written.http.into_iter().map(one).collect(),
        tcp: if written.any_tcp { TcpPorts::Any } else { TcpPorts::Only(written.tcp) },
    };
    (PolicyName { namespace: policy.namespace, name: policy.service_account }, grant)
}

/// The settings of a mesh that nobody told anything.
pub(crate) fn settings() -> Settings {
    Settings {
        trust_domain: TrustDomain("cluster.local".to_owned()),
        cluster_domain: "cluster.local".to_owned(),
        access: Access::Permissive,
        egress: false,
        tls: TlsSettings::default(),
    }
}

fn service(name: &str, written: WrittenService) -> Service {
    let anybody = identity(written.identities.first().map_or("shop/anybody", String::as_str));
    let port = |number: u16, port: WrittenPort| {
        let targets: BTreeSet<u16> = port.endpoints.iter().map(SocketAddr::port).collect();
        ServicePort {
            protocol: protocol(&port.protocol),
            targets: if targets.is_empty() { BTreeSet::from([number]) } else { targets },
            endpoints: port
                .endpoints
                .into_iter()
                .map(|address| Endpoint { address, identity: anybody.clone() })
                .collect(),
        }
    };
    let (namespace, name) = name.split_once('/').expect("a service is namespace/name");
    Service {
        name: ServiceName { namespace: namespace.to_owned(), name: name.to_owned() },
        addresses: written.addresses,
        ports: written.ports.into_iter().map(|(number, written)| (number, port(number, written))).collect(),
        identities: written.identities.iter().map(|written| identity(written)).collect(),
    }
}

fn identity(written: &str) -> Identity {
    let (namespace, service_account) = written.split_once('/').expect("an identity is namespace/service-account");
    Identity { namespace: namespace.to_owned(), service_account: service_account.to_owned() }
}

fn protocol(written: &str) -> Protocol {
    match written {
        "http" => Protocol::Http,
        "grpc" => Protocol::Grpc,
        "tcp" => Protocol::Tcp,
        "tcp-server-first" => Protocol::TcpServerFirst,
        other => panic!("there is no protocol {other}"),
    }
}
