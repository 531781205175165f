//! The routes of a pod's own ports: every request that is admitted goes to the application.

use osm_model::{Admitted, TrustDomain};
use osm_xds::Resource;

use super::{configuration, encode_host, to_cluster, virtual_host};
use crate::names::{inbound_routes, local_cluster};
use crate::rbac;

/// The routes of one port. Who is admitted is said here and not in the listener: a change of routes counts for the next
/// request of every open connection, and ends none.
pub(crate) fn inbound(port: u16, admitted: &Admitted, trust_domain: &TrustDomain) -> Resource {
    let mut host = virtual_host("inbound_virtual-host|*", vec!["*".to_owned()], to_cluster(local_cluster(port)));
    match admitted {
        Admitted::Everybody => {}
        Admitted::Granted(grants) => host.typed_per_filter_config = rbac::rules(grants, trust_domain),
    }
    configuration(&inbound_routes(port), [encode_host(host).as_slice()].into_iter())
}
