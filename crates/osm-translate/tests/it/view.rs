//! A view as golden inputs write it down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use osm_model::{
    Access, Endpoint, Identity, InboundPort, Protocol, ProxyClass, ProxyView, Service, ServiceName, ServicePort,
    Settings, TlsSettings, TlsVersion, TrustDomain,
};
use serde::Deserialize;

/// The whole input. `access: granted` admits nobody; identities and services are `namespace/name`.
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
    let outbound = view.services.into_iter().map(|(name, written)| Arc::new(service(&name, written))).collect();
    ProxyView { settings, class, outbound }
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
    let port = |port: WrittenPort| ServicePort {
        protocol: protocol(&port.protocol),
        endpoints: port.endpoints.into_iter().map(|address| Endpoint { address }).collect(),
    };
    let (namespace, name) = name.split_once('/').expect("a service is namespace/name");
    Service {
        name: ServiceName { namespace: namespace.to_owned(), name: name.to_owned() },
        addresses: written.addresses,
        ports: written.ports.into_iter().map(|(number, written)| (number, port(written))).collect(),
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
