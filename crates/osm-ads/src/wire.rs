//! Between the wire's messages and ours.

use std::sync::Arc;

use envoy_types::pb::{
    envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as WireResource},
    google::{protobuf::Any, rpc},
};
use osm_xds::{Request, Resource, ResourceType, Resources, Response};
use tonic::Code;

/// A client's request; none if it is about a type that the mesh does not use.
pub(crate) fn request_from(wire: DeltaDiscoveryRequest) -> Option<Request> {
    Some(Request {
        ty: ResourceType::from_url(&wire.type_url)?,
        subscribe: wire.resource_names_subscribe,
        unsubscribe: wire.resource_names_unsubscribe,
        initial_versions: wire.initial_resource_versions.into_iter().collect(),
        nonce: Some(wire.response_nonce).filter(|nonce| !nonce.is_empty()),
        error: wire.error_detail.map(|detail| detail.message),
    })
}

/// A response on the wire. The version of the whole type is only for people who read the client's state.
pub(crate) fn response_to(response: Response, resources: &Resources) -> DeltaDiscoveryResponse {
    let type_url = response.ty.url();
    let on_wire = |resource: Arc<Resource>| WireResource {
        name: resource.name.clone(),
        version: resource.version.clone(),
        resource: Some(Any { type_url: type_url.to_owned(), value: resource.body.to_vec() }),
        ..WireResource::default()
    };
    DeltaDiscoveryResponse {
        system_version_info: resources.version_of(response.ty),
        resources: response.resources.into_iter().map(on_wire).collect(),
        type_url: type_url.to_owned(),
        removed_resources: response.removed,
        nonce: response.nonce,
        ..DeltaDiscoveryResponse::default()
    }
}

/// A request on the wire.
pub(crate) fn request_to(request: Request) -> DeltaDiscoveryRequest {
    let detail = |message| rpc::Status { code: Code::Internal as i32, message, details: Vec::new() };
    DeltaDiscoveryRequest {
        type_url: request.ty.url().to_owned(),
        resource_names_subscribe: request.subscribe,
        resource_names_unsubscribe: request.unsubscribe,
        initial_resource_versions: request.initial_versions.into_iter().collect(),
        response_nonce: request.nonce.unwrap_or_default(),
        error_detail: request.error.map(detail),
        ..DeltaDiscoveryRequest::default()
    }
}

/// A server's response; none if it is about a type that was not asked for.
pub(crate) fn response_from(wire: DeltaDiscoveryResponse) -> Option<Response> {
    let ty = ResourceType::from_url(&wire.type_url)?;
    let mut resources = Vec::with_capacity(wire.resources.len());
    let mut removed = wire.removed_resources;
    for WireResource { name, version, resource, .. } in wire.resources {
        match resource {
            Some(any) => resources.push(Arc::new(Resource { name, version, body: any.value.into() })),
            // A name without a body is the other way to say that it does not exist.
            None => removed.push(name),
        }
    }
    Some(Response { ty, nonce: wire.nonce, resources, removed })
}
