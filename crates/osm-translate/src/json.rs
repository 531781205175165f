//! Resources as JSON, for people and for tests: canonical protobuf JSON with the names of Envoy's documentation.

use std::sync::LazyLock;

use osm_xds::{Resource, ResourceType, Resources};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value, json};

/// Descriptions of the messages that translate makes, cut from those of envoy-types. Held against the locked version
/// by a test, which also writes them.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!("descriptors.bin").as_slice()).expect("a test decodes the same bytes")
});

/// Why a resource cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The body is not a message of its type.
    #[error("cannot decode the {ty} {name}")]
    Decode {
        /// The resource's type.
        ty: ResourceType,
        /// The resource's name.
        name: String,
        /// The decoder's words.
        #[source]
        source: prost::DecodeError,
    },
    /// The message holds what has no JSON, as an extension that is not known here.
    #[error("cannot write the {ty} {name} as JSON")]
    Write {
        /// The resource's type.
        ty: ResourceType,
        /// The resource's name.
        name: String,
        /// The serializer's words.
        #[source]
        source: serde_json::Error,
    },
}

/// All resources, by type and name.
///
/// # Errors
/// When a resource was not made by this crate and holds what is not known here.
pub fn to_json(resources: &Resources) -> Result<Value, JsonError> {
    let mut types = Map::new();
    for ty in ResourceType::ALL {
        let mut by_name = Map::new();
        for (name, resource) in resources.of(ty) {
            by_name.insert(name.clone(), resource_to_json(ty, resource)?);
        }
        if !by_name.is_empty() {
            types.insert(ty.to_string(), Value::Object(by_name));
        }
    }
    Ok(Value::Object(types))
}

/// One resource; fields at their default are left out. Of a secret only the name.
///
/// # Errors
/// When the body is not a message of its type, or holds an extension that is not known here.
pub fn resource_to_json(ty: ResourceType, resource: &Resource) -> Result<Value, JsonError> {
    if ty == ResourceType::Secret {
        return Ok(json!({"name": resource.name}));
    }
    let name = ty.url().rsplit('/').next().unwrap_or_default();
    let message = POOL.get_message_by_name(name).expect("the pool holds every type, says its test");
    let message = DynamicMessage::decode(message, &*resource.body).map_err(|source| JsonError::Decode {
        ty,
        name: resource.name.clone(),
        source,
    })?;
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|source| JsonError::Write {
        ty,
        name: resource.name.clone(),
        source,
    })
}

#[cfg(test)]
mod tests;
