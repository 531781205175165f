//! The message in the file, and the way from and to it. Numbers of fields are never used twice.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use osm_xds::{Resource, ResourceType, Resources};
use prost::Message;
use prost::bytes::Bytes;
use zeroize::Zeroizing;

use super::Unreadable;
use crate::config::Pod;
use crate::identity::Workload;
use crate::last_good::{Content, Holder, LastGoodState};
use crate::verdicts::Refusal;

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct Saved {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    pod: String,
    #[prost(string, tag = "3")]
    pod_uid: String,
    #[prost(string, tag = "4")]
    service_account: String,
    #[prost(string, tag = "5")]
    token_subject: String,
    #[prost(int64, tag = "6")]
    confirmed_unix_ms: i64,
    #[prost(string, tag = "7")]
    pub(super) key_pem: String,
    #[prost(string, tag = "8")]
    chain_pem: String,
    #[prost(string, tag = "9")]
    bundle_pem: String,
    #[prost(int64, tag = "10")]
    issued_unix_ms: i64,
    #[prost(int64, tag = "11")]
    not_after_unix_ms: i64,
    #[prost(message, repeated, tag = "12")]
    resources: Vec<SavedResource>,
    #[prost(message, repeated, tag = "13")]
    refusals: Vec<SavedRefusal>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SavedResource {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(bytes = "bytes", tag = "4")]
    body: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SavedRefusal {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(string, tag = "4")]
    message: String,
    #[prost(message, optional, tag = "5")]
    good: Option<SavedResource>,
}

// The key is never printed.
impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saved").field("namespace", &self.namespace).field("pod", &self.pod).finish_non_exhaustive()
    }
}

impl From<&LastGoodState> for Saved {
    fn from(state: &LastGoodState) -> Saved {
        let LastGoodState { holder: Holder { pod, token_subject }, confirmed, content } = state;
        let Content { workload, copy, refusals } = &**content;
        let refusals = refusals.iter().map(|refusal| SavedRefusal {
            type_url: refusal.ty.url().to_owned(),
            name: refusal.name.clone(),
            version: refusal.version.clone(),
            message: refusal.message.clone(),
            good: refusal.good.as_ref().map(|good| saved(refusal.ty, good)),
        });
        Saved {
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            pod_uid: pod.uid.clone(),
            service_account: pod.service_account.clone(),
            token_subject: token_subject.clone(),
            confirmed_unix_ms: confirmed.as_millisecond(),
            key_pem: workload.key_pem.as_str().to_owned(),
            chain_pem: workload.chain_pem.clone(),
            bundle_pem: workload.bundle_pem.clone(),
            issued_unix_ms: workload.issued.as_millisecond(),
            not_after_unix_ms: workload.not_after.as_millisecond(),
            resources: copy.iter().map(|(ty, resource)| saved(ty, resource)).collect(),
            refusals: refusals.collect(),
        }
    }
}

impl TryFrom<Saved> for LastGoodState {
    type Error = Unreadable;

    fn try_from(saved: Saved) -> Result<LastGoodState, Unreadable> {
        let key_pem = Zeroizing::new(saved.key_pem);
        let workload = Workload {
            key_pem,
            chain_pem: saved.chain_pem,
            bundle_pem: saved.bundle_pem,
            issued: time(saved.issued_unix_ms)?,
            not_after: time(saved.not_after_unix_ms)?,
        };
        let mut copy = Resources::default();
        for resource in saved.resources {
            copy.insert(known_type(&resource.type_url)?, restored(resource));
        }
        let mut refusals = Vec::with_capacity(saved.refusals.len());
        for SavedRefusal { type_url, name, version, message, good } in saved.refusals {
            let good = good.map(|good| Arc::new(restored(good)));
            refusals.push(Refusal { ty: known_type(&type_url)?, name, version, message, good });
        }
        let pod = Pod {
            name: saved.pod,
            namespace: saved.namespace,
            uid: saved.pod_uid,
            service_account: saved.service_account,
        };
        Ok(LastGoodState {
            holder: Holder { pod, token_subject: saved.token_subject },
            confirmed: time(saved.confirmed_unix_ms)?,
            content: Arc::new(Content { workload: Arc::new(workload), copy: Arc::new(copy), refusals }),
        })
    }
}

/// Shares the body.
fn saved(ty: ResourceType, resource: &Arc<Resource>) -> SavedResource {
    SavedResource {
        type_url: ty.url().to_owned(),
        name: resource.name.clone(),
        version: resource.version.clone(),
        body: Bytes::from_owner(resource.body.clone()),
    }
}

fn restored(SavedResource { name, version, body, .. }: SavedResource) -> Resource {
    Resource { name, version, body: body.as_ref().into() }
}

/// Secrets are the workload's; the controller knows none, so there is none in its copy.
fn known_type(url: &str) -> Result<ResourceType, Unreadable> {
    let known = ResourceType::from_url(url).filter(|ty| ResourceType::OF_CONTROLLER.contains(ty));
    known.ok_or_else(|| Unreadable::Message(format!("it holds a resource of type {url:?}")))
}

fn time(unix_ms: i64) -> Result<Timestamp, Unreadable> {
    Timestamp::from_millisecond(unix_ms).map_err(|_| Unreadable::Message(format!("{unix_ms} is no time")))
}
