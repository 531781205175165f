//! The names that a workload's certificate carries.

use std::fmt;

/// A workload's names in a trust domain, checked so that no certificate says more than was meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadIdentity {
    trust_domain: String,
    namespace: String,
    service_account: String,
}

/// A part of an identity that cannot stand in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a DNS name.
    #[error("trust domain {0:?} is not a DNS name of lower-case letters, digits, '-' and '.'")]
    TrustDomain(String),
    /// Not a DNS label.
    #[error("namespace {0:?} is not a DNS label of lower-case letters, digits and '-'")]
    Namespace(String),
    /// Not a DNS name.
    #[error("service account {0:?} is not a DNS name of lower-case letters, digits, '-' and '.'")]
    ServiceAccount(String),
    /// The DNS name is longer than DNS allows.
    #[error("the identity {0:?} is longer than 253 characters")]
    TooLong(String),
    /// The DNS name is that of a Service in the cluster.
    #[error("the identity {0:?} would be the DNS name of a Service; rename the service account or the namespace")]
    LooksLikeService(String),
}

impl WorkloadIdentity {
    /// The identity of `service_account` in `namespace`.
    ///
    /// A dotted service account in a namespace named `svc` is refused: `controller.system` there would be
    /// certified as `controller.system.svc.<trust-domain>`, which is how a Service is addressed, the
    /// controller's own included.
    ///
    /// # Errors
    /// When a part is not what Kubernetes allows, or the whole is not safe as a DNS name.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<WorkloadIdentity, IdentityError> {
        if !is_dns_name(trust_domain) {
            return Err(IdentityError::TrustDomain(trust_domain.to_owned()));
        }
        if !is_dns_label(namespace) {
            return Err(IdentityError::Namespace(namespace.to_owned()));
        }
        if !is_dns_name(service_account) {
            return Err(IdentityError::ServiceAccount(service_account.to_owned()));
        }
        let identity = WorkloadIdentity {
            trust_domain: trust_domain.to_owned(),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        };
        let dns_name = identity.dns_name();
        if dns_name.len() > 253 {
            return Err(IdentityError::TooLong(dns_name));
        }
        if namespace == "svc" && service_account.contains('.') {
            return Err(IdentityError::LooksLikeService(dns_name));
        }
        Ok(identity)
    }

    /// `<service-account>.<namespace>.<trust-domain>`, as in OSM.
    pub fn dns_name(&self) -> String {
        format!("{}.{}.{}", self.service_account, self.namespace, self.trust_domain)
    }

    /// `spiffe://<trust-domain>/<service-account>/<namespace>`, as in OSM.
    pub fn spiffe_uri(&self) -> String {
        format!("spiffe://{}/{}/{}", self.trust_domain, self.service_account, self.namespace)
    }
}

impl fmt::Display for WorkloadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dns_name())
    }
}

/// Whether `name` is a DNS name in the form that Kubernetes allows (RFC 1123, lower case).
pub(crate) fn is_dns_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

fn is_dns_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_osm() {
        let identity = WorkloadIdentity::new("cluster.local", "shop", "client").unwrap();
        assert_eq!(identity.dns_name(), "client.shop.cluster.local");
        assert_eq!(identity.spiffe_uri(), "spiffe://cluster.local/client/shop");
    }

    #[test]
    fn parts_that_kubernetes_would_refuse_are_refused() {
        let new = WorkloadIdentity::new;
        assert_eq!(new("", "a", "b"), Err(IdentityError::TrustDomain(String::new())));
        assert_eq!(new("td/x", "a", "b"), Err(IdentityError::TrustDomain("td/x".to_owned())));
        assert_eq!(new("td", "a.b", "c"), Err(IdentityError::Namespace("a.b".to_owned())));
        assert_eq!(new("td", "a", "B"), Err(IdentityError::ServiceAccount("B".to_owned())));
        assert_eq!(new("td", "a", "*"), Err(IdentityError::ServiceAccount("*".to_owned())));
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join(".");
        assert!(matches!(new(&long, &"d".repeat(63), "x"), Err(IdentityError::TooLong(_))));
    }

    #[test]
    fn a_service_account_cannot_take_the_name_of_a_service() {
        let stolen = WorkloadIdentity::new("cluster.local", "svc", "osm-controller.osm-system");
        assert!(matches!(stolen, Err(IdentityError::LooksLikeService(_))), "{stolen:?}");
        WorkloadIdentity::new("cluster.local", "svc", "plain").unwrap();
        WorkloadIdentity::new("cluster.local", "shop", "dotted.name").unwrap();
    }
}
