//! Small pieces that several resources have.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as TransportSocketConfig;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::config::listener::v3::listener_filter::ConfigType as ListenerFilterConfig;
use envoy_types::pb::envoy::config::listener::v3::{Filter, ListenerFilter};
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration, UInt32Value};
use envoy_types::util::pack_any;
use osm_xds::Resource;
use prost::{Message, Name};

/// Where every resource is fetched: the stream that is there already. Envoy waits for it without limit; by default
/// it would give up after 15 s and run half configured.
pub(crate) fn ads() -> core::ConfigSource {
    core::ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {})),
        resource_api_version: core::ApiVersion::V3.into(),
        initial_fetch_timeout: Some(NO_TIMEOUT),
        ..Default::default()
    }
}

/// Zero: Envoy's word for "never".
pub(crate) const NO_TIMEOUT: Duration = Duration { seconds: 0, nanos: 0 };

pub(crate) fn address(ip: &str, port: u16) -> core::Address {
    let socket = core::SocketAddress {
        address: ip.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
        ..Default::default()
    };
    core::Address { address: Some(AddressKind::SocketAddress(socket)) }
}

/// The range of one address.
pub(crate) fn single(ip: IpAddr) -> core::CidrRange {
    let length = if ip.is_ipv4() { 32 } else { 128 };
    core::CidrRange { address_prefix: ip.to_string(), prefix_len: number(length) }
}

pub(crate) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(crate) fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

pub(crate) fn no() -> Option<BoolValue> {
    Some(BoolValue { value: false })
}

pub(crate) fn network_filter(name: &str, config: impl Name) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(FilterConfig::TypedConfig(pack_any(config))) }
}

pub(crate) fn listener_filter(name: &str, config: impl Name) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(ListenerFilterConfig::TypedConfig(pack_any(config))),
        ..Default::default()
    }
}

pub(crate) fn transport_socket(name: &str, config: Any) -> core::TransportSocket {
    core::TransportSocket { name: name.to_owned(), config_type: Some(TransportSocketConfig::TypedConfig(config)) }
}

/// Encodes a resource. No message that is encoded here holds a map of more than one entry: the order of a map's
/// entries is not fixed, and the version of the resource would change without reason.
pub(crate) fn encode(name: &str, message: &impl Message) -> Resource {
    Resource::new(name, message.encode_to_vec())
}
