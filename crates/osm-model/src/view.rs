//! The view: all that one class of proxies may know.

use std::sync::Arc;

use serde::Serialize;

use crate::{ProxyClass, Service, Settings};

/// All that one class of proxies may know, and so all that its configuration is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProxyView {
    /// What holds for everybody.
    pub settings: Settings,
    /// Who the proxies are, and the ports on which they are reached.
    pub class: ProxyClass,
    /// The services that they may reach, by name.
    pub outbound: Vec<Arc<Service>>,
}
