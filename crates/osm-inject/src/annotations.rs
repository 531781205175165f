//! What a pod's annotations ask for, together with what holds for the whole mesh.

use std::fmt::Display;
use std::str::FromStr;

use osm_api::{
    HOLD, INBOUND_PORT_EXCLUSION_LIST, OUTBOUND_IP_RANGE_EXCLUSION_LIST, OUTBOUND_IP_RANGE_INCLUSION_LIST,
    OUTBOUND_PORT_EXCLUSION_LIST, Problem, READINESS_GATE, Reason, STARTUP, k8s,
};
use osm_redirect::{Ports, Ranges, Redirect};

use crate::{InjectPolicy, Shape};

/// What a pod wants.
#[derive(Debug)]
pub(crate) struct Wishes {
    /// What is redirected.
    pub(crate) redirect: Redirect,
    /// The shape, where it is asked for.
    pub(crate) shape: Option<Shape>,
    /// Whether its readiness waits for its peers.
    pub(crate) gate: bool,
}

/// How problems name an annotation.
pub(crate) fn field(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

impl Wishes {
    pub(crate) fn read(subject: &str, pod: &k8s::Pod, policy: &InjectPolicy) -> Result<Wishes, Vec<Problem>> {
        let mut reader = Reader { subject, pod, problems: Vec::new() };
        let mut redirect = policy.redirect.clone();
        redirect.excluded_inbound_ports.extend(reader.list::<Ports>(INBOUND_PORT_EXCLUSION_LIST));
        redirect.excluded_outbound_ports.extend(reader.list::<Ports>(OUTBOUND_PORT_EXCLUSION_LIST));
        redirect.excluded_outbound_ranges.extend(reader.list::<Ranges>(OUTBOUND_IP_RANGE_EXCLUSION_LIST));
        redirect.included_outbound_ranges.extend(reader.list::<Ranges>(OUTBOUND_IP_RANGE_INCLUSION_LIST));
        redirect.hold = reader.hold().unwrap_or(redirect.hold);
        let (shape, gate) = (reader.shape(), reader.gate().unwrap_or(true));
        if reader.problems.is_empty() { Ok(Wishes { redirect, shape, gate }) } else { Err(reader.problems) }
    }
}

struct Reader<'a> {
    subject: &'a str,
    pod: &'a k8s::Pod,
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

    fn shape(&mut self) -> Option<Shape> {
        match self.value(STARTUP)? {
            "init" => Some(Shape::Init),
            "native" => Some(Shape::Native),
            wish @ ("merged" | "cni") => {
                let message = format!("this version does not have the shape {wish:?}");
                self.add(STARTUP, Reason::Unsupported, message, "write init or native");
                None
            }
            other => {
                let message = format!("{other:?} is no shape");
                self.add(STARTUP, Reason::InvalidField, message, "write init or native, or leave it out");
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

    fn hold(&mut self) -> Option<bool> {
        match self.value(HOLD)? {
            "kernel" => Some(true),
            "none" => Some(false),
            "container" => {
                let message = "this version cannot hold back the start of containers".to_owned();
                self.add(HOLD, Reason::Unsupported, message, "write kernel: then connections wait");
                None
            }
            other => {
                let message = format!("{other:?} is no place where connections could wait");
                self.add(HOLD, Reason::InvalidField, message, "write kernel or none, or leave it out");
                None
            }
        }
    }

    fn add(&mut self, key: &str, reason: Reason, message: String, hint: &str) {
        self.problems.push(Problem::new(self.subject, reason, message).with_field(field(key)).with_hint(hint));
    }
}
