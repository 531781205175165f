//! What is spoken on a service's port: `appProtocol`, else the prefix of the port's name, else HTTP. As in OSM,
//! except that case never matters.

use osm_api::k8s;
use osm_model::Protocol;

/// What `appProtocol` may say.
pub(crate) const NAMES: &str = "http, grpc, tcp, tcp-server-first";

/// What is spoken on a TCP port, or the `appProtocol` that is not supported.
pub(crate) fn of(port: &k8s::ServicePort) -> Result<Protocol, &str> {
    if let Some(written) = port.app_protocol.as_deref().filter(|written| !written.is_empty()) {
        return match written.to_ascii_lowercase().as_str() {
            "http" => Ok(Protocol::Http),
            "grpc" => Ok(Protocol::Grpc),
            "tcp" => Ok(Protocol::Tcp),
            "tcp-server-first" => Ok(Protocol::TcpServerFirst),
            _ => Err(written),
        };
    }
    let name = port.name.as_deref().unwrap_or_default().to_ascii_lowercase();
    // The longer prefix first: `tcp-` begins it.
    let prefixes = [
        ("tcp-server-first-", Protocol::TcpServerFirst),
        ("tcp-", Protocol::Tcp),
        ("grpc-", Protocol::Grpc),
        ("http-", Protocol::Http),
    ];
    let found = prefixes.into_iter().find(|(prefix, _)| name.starts_with(prefix));
    Ok(found.map_or(Protocol::Http, |(_, protocol)| protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(app_protocol: &str, name: &str, expected: Result<Protocol, &str>) {
        let port = k8s::ServicePort {
            app_protocol: (!app_protocol.is_empty()).then(|| app_protocol.to_owned()),
            name: (!name.is_empty()).then(|| name.to_owned()),
            ..Default::default()
        };
        assert_eq!(of(&port), expected, "{app_protocol:?} {name:?}");
    }

    #[test]
    fn app_protocol_counts_before_the_name_and_the_name_before_http() {
        check("", "", Ok(Protocol::Http));
        check("", "web", Ok(Protocol::Http));
        check("", "tcp-db", Ok(Protocol::Tcp));
        check("", "TCP-db", Ok(Protocol::Tcp));
        check("", "grpc-api", Ok(Protocol::Grpc));
        check("", "tcp-server-first-mysql", Ok(Protocol::TcpServerFirst));
        check("TCP-Server-First", "http-web", Ok(Protocol::TcpServerFirst));
        check("gRPC", "tcp-db", Ok(Protocol::Grpc));
        check("https", "http-web", Err("https"));
    }
}
