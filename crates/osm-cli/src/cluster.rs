//! A Kubernetes cluster, as this command reaches it.

mod failure;
mod kinds;

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;

pub(crate) use failure::Failing;
pub(crate) use kinds::{CRD, Kind, LEASE, MESH_CONFIG, NAMESPACE, OF_CHART, SECRET, kind_of};

use crate::arguments::Target;
use failure::no_kubeconfig;

/// Who writes, in the words of server-side apply.
const FIELD_OWNER: &str = "osm";
/// A cluster that does not answer for this long is as good as none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) place: Place,
}

/// Where requests go, for messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The URL of the API server.
    pub(crate) server: String,
    /// The context of the kubeconfig, or what else led there.
    pub(crate) context: String,
}

/// What applying an object did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Created,
    Configured,
    Unchanged,
}

impl Cluster {
    /// Reads the kubeconfig; nothing is sent yet.
    pub(crate) async fn of(target: &Target) -> anyhow::Result<Cluster> {
        let (mut config, context) = config(target).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        let place = Place { server: config.cluster_url.to_string().trim_end_matches('/').to_owned(), context };
        let client = Client::try_from(config).map_err(|error| place.failing("reading the kubeconfig", &error))?;
        Ok(Cluster { client, place })
    }

    /// The objects of one kind, in a namespace if the kind lives in one.
    pub(crate) fn api(&self, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
        let resource = kind.resource();
        if kind.is_namespaced {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        }
    }

    /// Server-side apply.
    pub(crate) async fn apply(&self, object: &Value) -> anyhow::Result<Applied> {
        let kind = kind_of(object)?;
        let (namespace, name) = name_of(object);
        let api = self.api(kind, namespace);
        let doing = format!("applying {}", described(object));
        let failing = |error: kube::Error| self.place.failing(&doing, &error);
        let before = api.get_opt(name).await.map_err(failing)?;
        let after = api
            .patch(name, &PatchParams::apply(FIELD_OWNER).force(), &Patch::Apply(object))
            .await
            .map_err(|error| self.place.failing(&doing, &error))?;
        Ok(match before {
            None => Applied::Created,
            Some(before) if before.metadata.resource_version == after.metadata.resource_version => Applied::Unchanged,
            Some(_) => Applied::Configured,
        })
    }

    /// Deletes one object; whether it was there. A cluster that does not know the kind has none of it.
    pub(crate) async fn delete(&self, kind: &Kind, namespace: &str, name: &str) -> anyhow::Result<bool> {
        let parameters = DeleteParams::foreground();
        match self.api(kind, namespace).delete(name, &parameters).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(self.place.failing(&format!("deleting {} {name}", kind.kind), &error)),
        }
    }

    /// The objects of one kind with these labels, wherever they are.
    pub(crate) async fn labelled(&self, kind: &Kind, labels: &str) -> anyhow::Result<Vec<DynamicObject>> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind.resource());
        match api.list(&ListParams::default().labels(labels)).await {
            Ok(list) => Ok(list.items),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(self.place.failing(&format!("listing {}", kind.plural), &error)),
        }
    }

    /// Whether the user may do this.
    pub(crate) async fn may(&self, verb: &str, kind: &Kind, namespace: &str) -> anyhow::Result<bool> {
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            group: Some(kind.group.to_owned()),
            resource: Some(kind.plural.to_owned()),
            namespace: kind.is_namespaced.then(|| namespace.to_owned()),
            ..ResourceAttributes::default()
        };
        let review = SelfSubjectAccessReview {
            metadata: ObjectMeta::default(),
            spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
            status: None,
        };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| self.place.failing("asking what you may do", &error))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    /// One namespace, if it is there.
    pub(crate) async fn namespace(&self, name: &str) -> anyhow::Result<Option<Namespace>> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.get_opt(name).await.map_err(|error| self.place.failing(&format!("reading namespace {name}"), &error))
    }
}

/// Namespace and name of an object; the namespace is empty if the object has none.
pub(crate) fn name_of(object: &Value) -> (&str, &str) {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    (text("namespace"), text("name"))
}

/// An object in words: `Deployment osm-system/osm-controller`.
pub(crate) fn described(object: &Value) -> String {
    let (namespace, name) = name_of(object);
    let kind = object["kind"].as_str().unwrap_or("object");
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

async fn config(target: &Target) -> anyhow::Result<(Config, String)> {
    let options = KubeConfigOptions { context: target.context.clone(), ..KubeConfigOptions::default() };
    let read = match &target.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    // In a pod there is no kubeconfig, but an account.
    let is_silent = target.kubeconfig.is_none() && target.context.is_none();
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        Err(_) if is_silent && let Ok(config) = Config::incluster() => return Ok((config, "in the cluster".into())),
        Err(error) => return Err(no_kubeconfig(&error).into()),
    };
    let context = options.context.clone().or_else(|| kubeconfig.current_context.clone()).unwrap_or_default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Ok((config.map_err(|error| no_kubeconfig(&error))?, context))
}

/// The kubeconfig that is read, for messages.
pub(crate) fn kubeconfig_path(target: &Target) -> Option<PathBuf> {
    let of_home = || std::env::home_dir().map(|home| home.join(".kube/config"));
    target.kubeconfig.clone().or_else(|| std::env::var_os("KUBECONFIG").map(PathBuf::from)).or_else(of_home)
}
