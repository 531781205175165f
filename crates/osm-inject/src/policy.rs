//! How pods of one mesh are injected.

use osm_api::{LocalProxyMode, MESH_CONFIG_NAME, MeshConfigSpec, Problem, Reason, k8s};
use osm_redirect::{Interfaces, Ports, Ranges, Redirect};

use crate::wish::{NotAWish, read_hold, read_shape};
use crate::{Hold, NativeSidecars, Shape};

/// The levels that Envoy knows, each with the name that it takes on its command line.
const LOG_LEVELS: [(&str, &str); 8] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("info", "info"),
    ("warning", "warning"),
    ("warn", "warning"),
    ("error", "error"),
    ("critical", "critical"),
    ("off", "off"),
];

/// What is the same for all pods of a mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct InjectPolicy {
    /// The mesh's name, as namespaces name it in their label.
    pub mesh_name: String,
    /// The control plane's own namespace, which is never injected.
    pub osm_namespace: String,
    /// The end of every identity.
    pub trust_domain: String,
    /// The image with agent and Envoy.
    pub sidecar_image: String,
    /// The image for `osm-init`.
    pub init_image: String,
    /// When the images are fetched: `Always`, `IfNotPresent`, `Never`.
    pub image_pull_policy: String,
    /// Where the controller serves, as `host:port`.
    pub controller_address: String,
    /// The DNS name in the controller's certificate.
    pub controller_name: String,
    /// The roots that may vouch for the controller (PEM).
    pub root_ca_pem: String,
    /// Envoy's log level.
    pub log_level: String,
    /// Resources of the sidecar.
    pub resources: Option<k8s::ResourceRequirements>,
    /// Envoy's worker threads; the agent's default if unset.
    pub concurrency: Option<u16>,
    /// Whether `osm-init` is privileged.
    pub privileged_init: bool,
    /// What is redirected, before a pod's own annotations.
    pub redirect: Redirect,
    /// Whether every node that the pod may land on has native sidecars.
    pub native_sidecars: NativeSidecars,
    /// The shape of pods that do not ask for one; what suits the pod if unset.
    pub startup: Option<Shape>,
    /// What waits for the proxy in pods that do not say; connections, as `redirect` says, if unset.
    pub hold: Option<Hold>,
}

impl InjectPolicy {
    /// `base`, changed by what users wrote in the MeshConfig.
    ///
    /// A value that cannot be used is left out and said; the rest counts. Of the ranges to include, all are left out
    /// if one is wrong: then everything goes through the mesh, rather than too little.
    pub fn from_mesh_config(spec: &MeshConfigSpec, base: InjectPolicy) -> (InjectPolicy, Vec<Problem>) {
        let subject = format!("MeshConfig {}/{MESH_CONFIG_NAME}", base.osm_namespace);
        let mut reader = Reader { subject, problems: Vec::new() };
        let mut policy = base;
        reader.sidecar(spec, &mut policy);
        reader.traffic(spec, &mut policy.redirect);
        (policy, reader.problems)
    }
}

struct Reader {
    subject: String,
    problems: Vec<Problem>,
}

impl Reader {
    fn sidecar(&mut self, spec: &MeshConfigSpec, policy: &mut InjectPolicy) {
        let sidecar = &spec.sidecar;
        if !sidecar.image.is_empty() {
            policy.sidecar_image.clone_from(&sidecar.image);
        } else if !sidecar.envoy_image.is_empty() {
            let message = format!("{} holds Envoy alone, without our agent; it is not used", sidecar.envoy_image);
            let hint = "name an image with agent and Envoy in spec.sidecar.image";
            self.add("spec.sidecar.envoyImage", Reason::Unsupported, message, hint);
        }
        if !sidecar.init_container_image.is_empty() {
            policy.init_image.clone_from(&sidecar.init_container_image);
        }
        match LOG_LEVELS.iter().find(|(name, _)| *name == sidecar.log_level) {
            Some((_, level)) => policy.log_level = (*level).to_owned(),
            None if sidecar.log_level.is_empty() => {}
            None => {
                let message = format!("{:?} is not one of Envoy's log levels", sidecar.log_level);
                let hint = "write trace, debug, info, warning, error, critical or off";
                self.add("spec.sidecar.logLevel", Reason::InvalidField, message, hint);
            }
        }
        let resources = &sidecar.resources;
        if !(resources.limits.is_empty() && resources.requests.is_empty()) {
            policy.resources = Some(k8s::ResourceRequirements {
                limits: Some(resources.limits.clone()).filter(|limits| !limits.is_empty()),
                requests: Some(resources.requests.clone()).filter(|requests| !requests.is_empty()),
                ..k8s::ResourceRequirements::default()
            });
        }
        if !sidecar.startup.is_empty() {
            policy.startup = self.wish("spec.sidecar.startup", read_shape(&sidecar.startup));
        }
        if !sidecar.hold.is_empty() {
            policy.hold = self.wish("spec.sidecar.hold", read_hold(&sidecar.hold));
        }
        policy.privileged_init |= sidecar.enable_privileged_init_container;
        match sidecar.local_proxy_mode {
            Some(LocalProxyMode::Localhost) => {
                policy.redirect.local_proxy_mode = osm_redirect::LocalProxyMode::Localhost;
            }
            Some(LocalProxyMode::PodIP) => policy.redirect.local_proxy_mode = osm_redirect::LocalProxyMode::PodIp,
            None => {}
        }
    }

    fn wish<T>(&mut self, field: &str, read: Result<T, NotAWish>) -> Option<T> {
        match read {
            Ok(wish) => Some(wish),
            Err(NotAWish { reason, message, hint }) => {
                self.add(field, reason, message, hint);
                None
            }
        }
    }

    fn traffic(&mut self, spec: &MeshConfigSpec, redirect: &mut Redirect) {
        let traffic = &spec.traffic;
        for (index, number) in traffic.inbound_port_exclusion_list.iter().enumerate() {
            let field = format!("spec.traffic.inboundPortExclusionList[{index}]");
            redirect.excluded_inbound_ports.extend(self.taken(&field, Ports::from_numbers(&[*number])));
        }
        for (index, number) in traffic.outbound_port_exclusion_list.iter().enumerate() {
            let field = format!("spec.traffic.outboundPortExclusionList[{index}]");
            redirect.excluded_outbound_ports.extend(self.taken(&field, Ports::from_numbers(&[*number])));
        }
        for (index, text) in traffic.outbound_ip_range_exclusion_list.iter().enumerate() {
            let field = format!("spec.traffic.outboundIPRangeExclusionList[{index}]");
            redirect
                .excluded_outbound_ranges
                .extend(self.taken(&field, Ranges::from_texts(std::slice::from_ref(text))));
        }
        let included = Ranges::from_texts(&traffic.outbound_ip_range_inclusion_list);
        redirect.included_outbound_ranges.extend(self.taken("spec.traffic.outboundIPRangeInclusionList", included));
        for (index, text) in traffic.network_interface_exclusion_list.iter().enumerate() {
            let field = format!("spec.traffic.networkInterfaceExclusionList[{index}]");
            redirect
                .excluded_interfaces
                .0
                .extend(self.taken(&field, Interfaces::from_texts(std::slice::from_ref(text))).0);
        }
    }

    fn taken<T: Default, E: std::fmt::Display>(&mut self, field: &str, read: Result<T, E>) -> T {
        read.unwrap_or_else(|error| {
            self.add(field, Reason::InvalidField, error.to_string(), "mend or remove the entry; it has no effect");
            T::default()
        })
    }

    fn add(&mut self, field: &str, reason: Reason, message: String, hint: &str) {
        self.problems.push(Problem::new(&self.subject, reason, message).with_field(field).with_hint(hint));
    }
}
