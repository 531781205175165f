//! Grants: what policies let identities send to each other. Only what is understood is here, so nothing has to be
//! checked again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::Identity;

/// Everything that is granted, by the destination.
///
/// The routing of requests among services (SMI's TrafficSplit) is not a grant: its place is beside the ports of a
/// [`crate::Service`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    by_destination: BTreeMap<Identity, Arc<GrantsTo>>,
    /// The same, by who asks. Shared, because the view of each class asks for its own.
    by_source: BTreeMap<Identity, BTreeMap<Identity, Reach>>,
}

/// What is granted to reach one identity, by the policy that says so. The grants are a union.
pub type GrantsTo = BTreeMap<PolicyName, Grant>;

/// What one policy grants. With several sources, each may do all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// Who may.
    pub sources: BTreeSet<Identity>,
    /// The HTTP requests that they may send: those that fit one of these. None when empty. They open no TCP port.
    pub http: BTreeSet<HttpMatch>,
    /// The TCP ports that they may connect to. They open no HTTP port.
    pub tcp: TcpPorts,
}

/// A set of HTTP requests: those for which all of it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HttpMatch {
    /// What the whole path is, without the query; any path when there is none.
    pub path: Option<Pattern>,
    /// The methods; any when empty.
    pub methods: BTreeSet<String>,
    /// Headers that must be there, by lower-case name, and what their whole value is.
    pub headers: BTreeSet<(String, Pattern)>,
}

/// A regular expression that RE2 understands, and understands as it is meant. It fits a whole text or not at all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pattern(pub String);

/// A set of TCP ports of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpPorts {
    /// These; none when empty.
    Only(BTreeSet<u16>),
    /// Every port on which TCP is spoken.
    Any,
}

/// The policy that something is granted by: a TrafficTarget. Written as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// What one identity may send to another, all policies together. Which HTTP requests is the other's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Whether some HTTP request is granted.
    pub http: bool,
    /// The TCP ports.
    pub tcp: TcpPorts,
}

impl Grants {
    /// From what is granted to reach each identity. What grants nothing to anybody is left out.
    pub fn new(grants: impl IntoIterator<Item = (Identity, PolicyName, Grant)>) -> Grants {
        let mut by_destination: BTreeMap<Identity, GrantsTo> = BTreeMap::new();
        let mut by_source: BTreeMap<Identity, BTreeMap<Identity, Reach>> = BTreeMap::new();
        for (destination, policy, grant) in grants {
            if grant.sources.is_empty() || grant.http.is_empty() && grant.tcp.is_empty() {
                continue;
            }
            for source in &grant.sources {
                let reached = by_source.entry(source.clone()).or_default();
                let reach = reached.entry(destination.clone()).or_insert(Reach { http: false, tcp: TcpPorts::none() });
                reach.http |= !grant.http.is_empty();
                reach.tcp.add(&grant.tcp);
            }
            by_destination.entry(destination).or_default().insert(policy, grant);
        }
        let by_destination = by_destination.into_iter().map(|(identity, grants)| (identity, Arc::new(grants)));
        Grants { by_destination: by_destination.collect(), by_source }
    }

    /// What is granted to reach an identity.
    pub fn to(&self, destination: &Identity) -> Arc<GrantsTo> {
        self.by_destination.get(destination).cloned().unwrap_or_default()
    }

    /// What an identity may reach; nothing for one that nothing is granted to.
    pub fn from(&self, source: &Identity) -> Option<&BTreeMap<Identity, Reach>> {
        self.by_source.get(source)
    }

    /// Whether nobody is granted anything.
    pub fn is_empty(&self) -> bool {
        self.by_destination.is_empty()
    }
}

impl TcpPorts {
    /// No port.
    pub fn none() -> TcpPorts {
        TcpPorts::Only(BTreeSet::new())
    }

    /// Whether there is no port in it.
    pub fn is_empty(&self) -> bool {
        *self == TcpPorts::none()
    }

    /// Whether a port is in it.
    pub fn contains(&self, port: u16) -> bool {
        match self {
            TcpPorts::Only(ports) => ports.contains(&port),
            TcpPorts::Any => true,
        }
    }

    /// Adds the ports of another set.
    pub fn add(&mut self, other: &TcpPorts) {
        match (&mut *self, other) {
            (TcpPorts::Any, _) => {}
            (_, TcpPorts::Any) => *self = TcpPorts::Any,
            (TcpPorts::Only(ports), TcpPorts::Only(more)) => ports.extend(more),
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for PolicyName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Grants {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = |identity: &Identity| format!("{}/{}", identity.namespace, identity.service_account);
        serializer.collect_map(self.by_destination.iter().map(|(identity, grants)| (named(identity), grants)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_a_union_and_none_of_them_is_any() {
        let only = |ports: &[u16]| TcpPorts::Only(ports.iter().copied().collect());
        let mut ports = TcpPorts::none();
        ports.add(&only(&[1]));
        ports.add(&only(&[2]));
        assert_eq!(ports, only(&[1, 2]));
        assert!(!ports.contains(3) && !TcpPorts::none().contains(3));
        ports.add(&TcpPorts::Any);
        ports.add(&only(&[1]));
        assert_eq!(ports, TcpPorts::Any);
    }
}
