//! The access log: one line of JSON on standard output for each request and connection, with OSM's keys.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Value};
use prost::Message;

const FORMAT: [(&str, &str); 19] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("start_time", "%START_TIME%"),
    ("time_to_first_byte", "%RESPONSE_DURATION%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// `envoy.extensions.access_loggers.stream.v3.StdoutAccessLog`, and what it holds, with a sorted map in it: the
/// generated type's map has no order, so the same log would be other bytes each time.
#[derive(Clone, PartialEq, Message)]
struct StdoutAccessLog {
    #[prost(message, optional, tag = "1")]
    log_format: Option<SubstitutionFormatString>,
}

/// `envoy.config.core.v3.SubstitutionFormatString`
#[derive(Clone, PartialEq, Message)]
struct SubstitutionFormatString {
    #[prost(message, optional, tag = "2")]
    json_format: Option<SortedStruct>,
}

/// `google.protobuf.Struct`
#[derive(Clone, PartialEq, Message)]
struct SortedStruct {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, Value>,
}

/// Access logs of a listener or a connection manager.
pub(crate) fn stdout() -> Vec<AccessLog> {
    let field =
        |(key, operator): (&str, &str)| (key.to_owned(), Value { kind: Some(Kind::StringValue(operator.to_owned())) });
    let format = SubstitutionFormatString {
        json_format: Some(SortedStruct { fields: FORMAT.into_iter().map(field).collect() }),
    };
    let config = Any {
        type_url: "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog".to_owned(),
        value: StdoutAccessLog { log_format: Some(format) }.encode_to_vec(),
    };
    vec![AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Default::default()
    }]
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
    use envoy_types::pb::envoy::extensions::access_loggers::stream::v3 as generated;

    use super::*;

    #[test]
    fn envoys_own_type_reads_what_ours_wrote() {
        let Some(ConfigType::TypedConfig(config)) = stdout().remove(0).config_type else { panic!("no config") };
        let read = generated::StdoutAccessLog::decode(config.value.as_slice()).expect("the same message");
        let Some(generated::stdout_access_log::AccessLogFormat::LogFormat(format)) = read.access_log_format else {
            panic!("no format")
        };
        let Some(Format::JsonFormat(fields)) = format.format else { panic!("not JSON") };
        assert_eq!(fields.fields.len(), FORMAT.len());
        assert_eq!(fields.fields["method"].kind, Some(Kind::StringValue("%REQ(:METHOD)%".to_owned())));
    }
}
