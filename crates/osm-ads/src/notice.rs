//! What a controller says to one pod's agent about the pod itself, on the stream that is there already.
//!
//! It is no resource: it is not asked for, not answered, and an agent that does not know it passes over it.

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

/// The type in its place on the wire.
const TYPE_URL: &str = "type.googleapis.com/openservicemesh.io.v1.PodNotice";

/// The whole of it, each time.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Notice {
    /// The pod is to end, and no proxy that the controller knows of has it as an endpoint any more.
    #[prost(bool, tag = "1")]
    pub is_withdrawn: bool,
    /// Every container of the application has ended for good.
    #[prost(bool, tag = "2")]
    pub is_application_over: bool,
}

impl Notice {
    pub(crate) fn to_wire(self) -> DeltaDiscoveryResponse {
        let body = Any { type_url: TYPE_URL.to_owned(), value: self.encode_to_vec() };
        let resource = Resource { name: "pod".to_owned(), resource: Some(body), ..Resource::default() };
        DeltaDiscoveryResponse {
            type_url: TYPE_URL.to_owned(),
            resources: vec![resource],
            ..DeltaDiscoveryResponse::default()
        }
    }

    /// None if the response is about something else.
    pub(crate) fn from_wire(response: &DeltaDiscoveryResponse) -> Option<Notice> {
        if response.type_url != TYPE_URL {
            return None;
        }
        let body = response.resources.first()?.resource.as_ref()?;
        Notice::decode(&*body.value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_crosses_the_wire_and_nothing_else_is_taken_for_it() {
        let notice = Notice { is_withdrawn: true, is_application_over: false };
        assert_eq!(Notice::from_wire(&notice.to_wire()), Some(notice));
        assert_eq!(Notice::from_wire(&Notice::default().to_wire()), Some(Notice::default()));
        assert_eq!(Notice::from_wire(&DeltaDiscoveryResponse::default()), None);
    }
}
