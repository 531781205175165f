//! What the annotations of a pod and of its namespace ask for, together with what holds for the whole mesh.

use std::fmt::Display;
use std::str::FromStr;

use osm_api::{
    HOLD, INBOUND_PORT_EXCLUSION_LIST, OUTBOUND_IP_RANGE_EXCLUSION_LIST, OUTBOUND_IP_RANGE_INCLUSION_LIST,
    OUTBOUND_PORT_EXCLUSION_LIST, Problem, READINESS_GATE, Reason, STARTUP, UNMESHED_INIT_CONTAINERS, WAIT_FOR,
    WAIT_FOR_LIMIT, k8s,
};
use osm_redirect::{Ports, Ranges, Redirect, Upstreams, WaitLimit};

use crate::containers::is_ours;
use crate::wish::{Asker, Hold, NotAWish, Wish, read_hold, read_shape};
use crate::{InjectPolicy, Shape};

/// What a pod wants.
#[derive(Debug)]
pub(crate) struct Wishes {
    /// What is redirected; whether connections are held is [`Wishes::hold`]'s.
    pub(crate) redirect: Redirect,
    /// The shape, where it is asked for.
    pub(crate) shape: Option<Wish<Shape>>,
    /// What waits for the proxy.
    pub(crate) hold: Wish<Hold>,
    /// Services without whose endpoints it does not count as programmed.
    pub(crate) wait_for: Upstreams,
    /// For how long at most.
    pub(crate) wait_limit: Option<WaitLimit>,
    /// Init containers that run before redirection is in place.
    pub(crate) unmeshed_inits: Vec<String>,
    /// Whether its readiness waits for its peers.
    pub(crate) gate: bool,
}

/// How problems name an annotation.
pub(crate) fn field(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

impl Wishes {
    pub(crate) fn read(
        subject: &str,
        pod: &k8s::Pod,
        namespace: &k8s::Namespace,
        policy: &InjectPolicy,
    ) -> Result<Wishes, Vec<Problem>> {
        let mut reader = Reader { subject, pod, namespace, problems: Vec::new() };
        let mut redirect = policy.redirect.clone();
        redirect.excluded_inbound_ports.extend(reader.list::<Ports>(INBOUND_PORT_EXCLUSION_LIST));
        redirect.excluded_outbound_ports.extend(reader.list::<Ports>(OUTBOUND_PORT_EXCLUSION_LIST));
        redirect.excluded_outbound_ranges.extend(reader.list::<Ranges>(OUTBOUND_IP_RANGE_EXCLUSION_LIST));
        redirect.included_outbound_ranges.extend(reader.list::<Ranges>(OUTBOUND_IP_RANGE_INCLUSION_LIST));
        let of_mesh = policy.hold.map(|hold| Wish::of_mesh_config(hold, "spec.sidecar.hold"));
        let without_word = Wish::of_mesh_config(if redirect.hold { Hold::Kernel } else { Hold::None }, "the default");
        let hold = reader.wish(HOLD, read_hold).or(of_mesh).unwrap_or(without_word);
        let of_mesh = policy.startup.map(|shape| Wish::of_mesh_config(shape, "spec.sidecar.startup"));
        let shape = reader.wish(STARTUP, read_shape).or(of_mesh);
        let wait_for = reader.list::<Upstreams>(WAIT_FOR);
        let wait_limit = reader.wait_limit(&wait_for);
        let unmeshed_inits = reader.unmeshed_inits();
        let gate = reader.gate().unwrap_or(true);
        let wishes = Wishes { redirect, shape, hold, wait_for, wait_limit, unmeshed_inits, gate };
        if reader.problems.is_empty() { Ok(wishes) } else { Err(reader.problems) }
    }
}

struct Reader<'a> {
    subject: &'a str,
    pod: &'a k8s::Pod,
    namespace: &'a k8s::Namespace,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn value(&self, key: &str) -> Option<&'a str> {
        self.pod.metadata.annotations.as_ref()?.get(key).map(|value| value.trim())
    }

    fn list<T: FromStr<Err: Display> + Default>(&mut self, key: &str) -> T {
        let Some(value) = self.value(key) else { return T::default() };
        value.parse().unwrap_or_else(|error: T::Err| {
            self.add(key, Reason::InvalidField, error.to_string(), "separate entries by commas");
            T::default()
        })
    }

    /// What the pod asks for, or its namespace if the pod says nothing.
    fn wish<T>(&mut self, key: &str, read: impl Fn(&str) -> Result<T, NotAWish>) -> Option<Wish<T>> {
        let of_namespace = || self.namespace.metadata.annotations.as_ref()?.get(key).map(|value| value.trim());
        let (value, asker) = match self.value(key) {
            Some(value) => (value, Asker::Pod),
            None => (of_namespace()?, Asker::Namespace),
        };
        match read(value) {
            Ok(what) => Some(Wish::of_annotation(what, key, asker)),
            Err(NotAWish { reason, message, hint }) => {
                let name = self.namespace.metadata.name.as_deref().unwrap_or_default();
                let subject = match asker {
                    Asker::Pod | Asker::MeshConfig => self.subject.to_owned(),
                    Asker::Namespace => format!("Namespace {name}"),
                };
                self.problems.push(Problem::new(subject, reason, message).with_field(field(key)).with_hint(hint));
                None
            }
        }
    }

    fn gate(&mut self) -> Option<bool> {
        match self.value(READINESS_GATE)? {
            "peers" => Some(true),
            "none" => Some(false),
            other => {
                let message = format!("{other:?} is nothing that the pod's readiness could wait for");
                self.add(READINESS_GATE, Reason::InvalidField, message, "write peers or none, or leave it out");
                None
            }
        }
    }

    fn wait_limit(&mut self, wait_for: &Upstreams) -> Option<WaitLimit> {
        let value = self.value(WAIT_FOR_LIMIT)?;
        match value.parse::<WaitLimit>() {
            Ok(_) if wait_for.0.is_empty() && self.problems.is_empty() => {
                let message = "there is nothing to wait for".to_owned();
                let hint = "name services in openservicemesh.io/wait-for, or leave the limit out";
                self.add(WAIT_FOR_LIMIT, Reason::Missing, message, hint);
                None
            }
            Ok(limit) => Some(limit),
            Err(error) => {
                let hint = "leave it out to wait as long as it takes";
                self.add(WAIT_FOR_LIMIT, Reason::InvalidField, error.to_string(), hint);
                None
            }
        }
    }

    fn unmeshed_inits(&mut self) -> Vec<String> {
        let value = self.value(UNMESHED_INIT_CONTAINERS).unwrap_or_default();
        let names: Vec<&str> = value.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let inits = self.pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        let has = |name: &str| inits.iter().any(|init| init.name == name && !is_ours(init));
        for name in names.iter().filter(|name| !has(name)) {
            let message = format!("{name:?} is no init container of this pod");
            let hint = "name containers of spec.initContainers, separated by commas";
            self.add(UNMESHED_INIT_CONTAINERS, Reason::Missing, message, hint);
        }
        names.into_iter().map(str::to_owned).collect()
    }

    fn add(&mut self, key: &str, reason: Reason, message: String, hint: &str) {
        self.problems.push(Problem::new(self.subject, reason, message).with_field(field(key)).with_hint(hint));
    }
}
