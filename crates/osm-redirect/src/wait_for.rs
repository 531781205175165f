//! Services without whose endpoints a pod does not count as programmed.
//!
//! Injection checks what the pod's annotations say and writes it into the sidecar's environment; the agent waits.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::{Port, parse_port};

/// The environment variable of the sidecar that holds [`Upstreams`].
pub const WAIT_FOR_VARIABLE: &str = "OSM_WAIT_FOR";
/// The environment variable of the sidecar that holds a [`WaitLimit`].
pub const WAIT_FOR_LIMIT_VARIABLE: &str = "OSM_WAIT_FOR_LIMIT";

/// Kubernetes' limit for names of namespaces and services.
const LABEL_LENGTH_MAX: usize = 63;

/// Services, each as `namespace/service` or `namespace/service:port`, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstreams(pub Vec<Upstream>);

/// A service that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Upstream {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// One of its ports; any of them if not set.
    pub port: Option<Port>,
}

/// How long is waited at most: a whole number of seconds, minutes or hours, as `30s`, `5m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitLimit(pub Duration);

/// Why a text names no service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// No slash.
    #[error("{0:?} names no namespace: write namespace/service, such as shop/api")]
    NoNamespace(String),
    /// Not what Kubernetes allows.
    #[error("{part:?} in {text:?} is no name of Kubernetes: write small letters, digits and - only")]
    Name {
        /// All of it.
        text: String,
        /// The wrong part.
        part: String,
    },
    /// Not a port.
    #[error("{part:?} in {text:?} is not a port: write a number from 1 to 65535, that of the service")]
    Port {
        /// All of it.
        text: String,
        /// The wrong part.
        part: String,
    },
}

/// A text that is no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no length of time: write a whole number above 0 and s, m or h, such as 30s")]
pub struct WaitLimitError(String);

impl FromStr for Upstreams {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Upstreams, UpstreamError> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(str::parse).collect::<Result<Vec<_>, _>>().map(Upstreams)
    }
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Upstream, UpstreamError> {
        let (namespace, rest) = text.split_once('/').ok_or_else(|| UpstreamError::NoNamespace(text.to_owned()))?;
        let (service, port) = match rest.split_once(':') {
            Some((service, port)) => (service, Some(port)),
            None => (rest, None),
        };
        for part in [namespace, service] {
            if !is_label(part) {
                return Err(UpstreamError::Name { text: text.to_owned(), part: part.to_owned() });
            }
        }
        let number = |part: &str| {
            parse_port(part).map_err(|_| UpstreamError::Port { text: text.to_owned(), part: part.to_owned() })
        };
        Ok(Upstream {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            port: port.map(number).transpose()?,
        })
    }
}

impl FromStr for WaitLimit {
    type Err = WaitLimitError;

    fn from_str(text: &str) -> Result<WaitLimit, WaitLimitError> {
        let wrong = || WaitLimitError(text.to_owned());
        let unit = text.chars().last().ok_or_else(wrong)?;
        let seconds_each: u32 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let digits = &text[..text.len() - 1];
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let count: u32 = digits.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
        let seconds = count.checked_mul(seconds_each).filter(|seconds| *seconds > 0).ok_or_else(wrong)?;
        Ok(WaitLimit(Duration::from_secs(seconds.into())))
    }
}

impl fmt::Display for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(Upstream::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Display for WaitLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0.as_secs())
    }
}

/// DNS-1123, as for every namespace and service.
fn is_label(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(is_allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_survive_being_written_and_read() {
        let upstreams: Upstreams = "shop/api, shop/db:5432,\n other-1/x".parse().unwrap();
        assert_eq!(upstreams.0.len(), 3);
        assert_eq!(upstreams.0[1].port.map(Port::get), Some(5432));
        assert_eq!(upstreams.to_string(), "shop/api,shop/db:5432,other-1/x");
        assert_eq!(upstreams.to_string().parse(), Ok(upstreams));
        assert_eq!("".parse(), Ok(Upstreams::default()));
    }

    #[test]
    fn what_names_no_service_is_said() {
        for (text, words) in [
            ("api", "names no namespace"),
            ("shop/Api", "\"Api\" in \"shop/Api\" is no name of Kubernetes"),
            ("shop/", "\"\" in \"shop/\" is no name"),
            ("a/b/c", "\"b/c\" in"),
            ("shop/api:http", "\"http\" in \"shop/api:http\" is not a port"),
            ("shop/api:0", "is not a port"),
        ] {
            let error = text.parse::<Upstreams>().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_limit_is_a_whole_number_and_a_unit() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("2h", 7200)] {
            let limit: WaitLimit = text.parse().unwrap();
            assert_eq!(limit.0, Duration::from_secs(seconds));
            assert_eq!(limit.to_string().parse(), Ok(limit));
        }
        for text in ["", "s", "30", "0s", "-1s", "+1s", "1.5m", "99999999999s", "4294967295h", "5ä"] {
            assert!(text.parse::<WaitLimit>().unwrap_err().to_string().contains("such as 30s"), "{text}");
        }
    }
}
