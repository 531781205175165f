//! What becomes of a pod (golden), and what always holds of it (properties).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end")]

mod families;
mod golden;
mod properties;

use osm_inject::{InjectPolicy, NativeSidecars};
use osm_redirect::Redirect;

/// The mesh of all tests.
fn policy() -> InjectPolicy {
    InjectPolicy {
        mesh_name: "osm".to_owned(),
        osm_namespace: "osm-system".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        sidecar_image: "osm/sidecar".to_owned(),
        init_image: "osm/init".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        controller_address: "osm-controller.osm-system.svc.cluster.local:15128".to_owned(),
        controller_name: "osm-controller.osm-system.svc.cluster.local".to_owned(),
        root_ca_pem: "the root's PEM".to_owned(),
        log_level: "error".to_owned(),
        resources: None,
        concurrency: None,
        privileged_init: false,
        redirect: Redirect::default(),
        native_sidecars: NativeSidecars::Available,
        startup: None,
        hold: None,
    }
}
