//! What one class of proxies is told: encoded resources by type and name, with versions that follow the content.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Everything one class of proxies is told.
///
/// Cloning is cheap, because each type's map and each resource is shared; equality is equality of names and versions.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Indexed by the position of the type in [`ResourceType::ALL`].
    sets: [Arc<ResourceSet>; ResourceType::ALL.len()],
}

/// The resource types of xDS that the mesh uses, in the order in which additions are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ResourceType {
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS), named like its cluster.
    Endpoint,
    /// `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    Route,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
    Secret,
}

/// One encoded resource.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// The name that requests and other resources use.
    pub name: String,
    /// xxh3-128 of the body in hexadecimal: the same content has the same version in every process.
    pub version: String,
    /// The encoded message, without the `Any` around it.
    pub body: Arc<[u8]>,
}

/// The resources of one type, with a digest that is kept up on every change so that comparing sets costs nothing.
#[derive(Default, Clone)]
struct ResourceSet {
    by_name: BTreeMap<String, Arc<Resource>>,
    /// Sum of the digests of all entries: independent of the order of changes.
    digest: u128,
}

impl ResourceType {
    /// Every type, in push order.
    pub const ALL: [Self; 5] = [Self::Cluster, Self::Endpoint, Self::Listener, Self::Route, Self::Secret];

    /// The types that a controller knows. Secrets are made in the pod and never leave it.
    pub const OF_CONTROLLER: [Self; 4] = [Self::Cluster, Self::Endpoint, Self::Listener, Self::Route];

    /// The type URL on the wire.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    /// The type with this URL, if the mesh uses it.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.url() == url)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Endpoint => "endpoint",
            Self::Listener => "listener",
            Self::Route => "route",
            Self::Secret => "secret",
        })
    }
}

impl Resource {
    /// A resource from its encoded message. The encoding must be the same for the same content (mind maps), else the
    /// version changes without reason.
    pub fn new(name: impl Into<String>, body: impl Into<Arc<[u8]>>) -> Self {
        let body = body.into();
        Self { name: name.into(), version: format!("{:032x}", xxh3_128(&body)), body }
    }

    fn digest(&self) -> u128 {
        let mut hash = Xxh3::new();
        hash.update(self.name.as_bytes());
        hash.update(&[0]);
        hash.update(self.version.as_bytes());
        hash.digest128()
    }
}

// The body may be a private key, so it is never printed.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({} {} {} bytes)", self.name, self.version, self.body.len())
    }
}

impl Resources {
    /// Adds a resource, or replaces the one of the same type and name.
    pub fn insert(&mut self, ty: ResourceType, resource: impl Into<Arc<Resource>>) {
        let resource = resource.into();
        let set = Arc::make_mut(&mut self.sets[ty as usize]);
        set.digest = set.digest.wrapping_add(resource.digest());
        if let Some(old) = set.by_name.insert(resource.name.clone(), resource) {
            set.digest = set.digest.wrapping_sub(old.digest());
        }
    }

    /// Takes a resource out and returns it.
    pub fn remove(&mut self, ty: ResourceType, name: &str) -> Option<Arc<Resource>> {
        if !self.of(ty).contains_key(name) {
            return None;
        }
        let set = Arc::make_mut(&mut self.sets[ty as usize]);
        let old = set.by_name.remove(name)?;
        set.digest = set.digest.wrapping_sub(old.digest());
        Some(old)
    }

    /// Makes all resources of `ty` those of `other`, sharing them.
    pub fn take_type_from(&mut self, ty: ResourceType, other: &Self) {
        self.sets[ty as usize] = Arc::clone(&other.sets[ty as usize]);
    }

    /// The resource of this type and name.
    pub fn get(&self, ty: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.of(ty).get(name)
    }

    /// All resources of one type, by name.
    pub fn of(&self, ty: ResourceType) -> &BTreeMap<String, Arc<Resource>> {
        &self.sets[ty as usize].by_name
    }

    /// All resources, in push order and then by name.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceType, &Arc<Resource>)> {
        ResourceType::ALL.into_iter().flat_map(|ty| self.of(ty).values().map(move |resource| (ty, resource)))
    }

    /// How many resources of all types there are.
    pub fn len(&self) -> usize {
        self.sets.iter().map(|set| set.by_name.len()).sum()
    }

    /// Whether there is no resource of any type.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hash of all names and versions: the version of the whole.
    pub fn version(&self) -> String {
        let mut hash = Xxh3::new();
        for set in &self.sets {
            hash.update(&set.digest.to_le_bytes());
        }
        format!("{:032x}", hash.digest128())
    }

    /// Hash of the names and versions of one type.
    pub fn version_of(&self, ty: ResourceType) -> String {
        format!("{:032x}", self.sets[ty as usize].digest)
    }

    /// Whether both hold the very same map of this type, so that comparing its entries can be skipped.
    pub(crate) fn shares_type(&self, ty: ResourceType, other: &Self) -> bool {
        Arc::ptr_eq(&self.sets[ty as usize], &other.sets[ty as usize])
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(ty, resource)| ((ty, &resource.name), &resource.version))).finish()
    }
}

impl PartialEq for ResourceSet {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.by_name == other.by_name
    }
}

impl Eq for ResourceSet {}

impl<R: Into<Arc<Resource>>> FromIterator<(ResourceType, R)> for Resources {
    fn from_iter<I: IntoIterator<Item = (ResourceType, R)>>(entries: I) -> Self {
        let mut resources = Self::default();
        for (ty, resource) in entries {
            resources.insert(ty, resource);
        }
        resources
    }
}
