//! Envoy itself checks the bootstrap.

use std::path::Path;

use osm_sidecar::bootstrap::{Bootstrap, bootstrap};

#[test]
fn envoy_accepts_the_bootstrap() {
    let text = bootstrap(&Bootstrap {
        node_id: "shop/client-0",
        node_cluster: "client.shop",
        xds_socket: Path::new("/run/osm/xds.sock"),
        admin_socket: Path::new("/run/osm/admin.sock"),
    });
    assert_eq!(osm_testkit::validate_with_envoy(&text), Ok(()));
}
