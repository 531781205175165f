//! Who calls: the pod that a token names. And how often it may.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use osm_model::{Identity, PodName};
use osm_pki::{TokenError, TokenKey, verify};
use osm_runtime::clock;
use osm_startup::Reason;
use tokio::time::Instant;

use crate::proxies::Proxy;
use crate::reviews::Reviews;

/// For whom tokens must be meant.
pub(crate) const AUDIENCE: &str = "osm";

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No token.
    #[error("no token: send `authorization: Bearer <token>`")]
    NoToken,
    /// A token that is not believed.
    #[error("the token is refused: {0}")]
    Token(#[from] TokenError),
    /// A token that the API server does not vouch for.
    #[error("the token is refused: {0}")]
    Review(String),
    /// A good token, but not of a pod that exists.
    #[error("the token does not belong to pod {pod}: {what}")]
    Pod {
        /// Which pod it names.
        pod: PodName,
        /// What is wrong.
        why: WrongPod,
        /// The same in words.
        what: String,
    },
    /// Nobody can say now whether a token is good.
    #[error("the token cannot be checked now: {0}; try again")]
    Unavailable(String),
    /// Too many requests of one pod.
    #[error("too many requests; try again in {0:?}")]
    TooOften(Duration),
}

impl Refusal {
    /// The label in metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Refusal::NoToken => "no-token",
            Refusal::Token(TokenError::Expired(_)) => "token-expired",
            Refusal::Token(TokenError::Audience { .. }) => "token-audience",
            Refusal::Token(_) => "token",
            Refusal::Review(_) => "token-review",
            Refusal::Pod { .. } => "pod",
            Refusal::Unavailable(_) => "review-unavailable",
            Refusal::TooOften(_) => "too-often",
        }
    }
}

impl Refusal {
    /// The same for HTTP.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Refusal::NoToken | Refusal::Token(_) | Refusal::Review(_) => StatusCode::UNAUTHORIZED,
            Refusal::Pod { .. } => StatusCode::FORBIDDEN,
            Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::TooOften(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// The same in the words in which pods say what they wait for.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Refusal::NoToken => Reason::TokenUnusable,
            Refusal::Token(TokenError::Expired(_)) => Reason::TokenExpired,
            Refusal::Token(TokenError::Audience { .. }) => Reason::TokenAudience,
            Refusal::Token(_) | Refusal::Review(_) => Reason::TokenRefused,
            Refusal::Pod { why: WrongPod::Unknown, .. } => Reason::PodUnknown,
            Refusal::Pod { why: WrongPod::Account, .. } => Reason::AccountMismatch,
            Refusal::Unavailable(_) => Reason::ControllerOutOfSync,
            Refusal::TooOften(_) => Reason::ControllerFailed,
        }
    }
}

/// What is wrong with the pod of a good token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WrongPod {
    /// There is none of its name and uid.
    Unknown,
    /// It runs as another account.
    Account,
}

/// Who says which pod a token belongs to.
#[derive(Debug)]
pub(crate) enum Verifier {
    /// The local runner, whose key signed it.
    Runner(TokenKey),
    /// The API server of a cluster.
    Cluster(Box<Reviews>),
}

impl Verifier {
    /// The pod that a request's `authorization` header names.
    pub(crate) async fn authenticate(&self, headers: &http::HeaderMap) -> Result<Proxy, Refusal> {
        let token = bearer(headers)?;
        match self {
            Verifier::Runner(key) => claimed(key, token, clock::now()),
            Verifier::Cluster(reviews) => reviews.authenticate(token).await,
        }
    }
}

fn bearer(headers: &http::HeaderMap) -> Result<&str, Refusal> {
    let header = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = header.and_then(|header| header.split_once(' ')).ok_or(Refusal::NoToken)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Refusal::NoToken) }
}

/// The pod that a token of the runner names.
fn claimed(key: &TokenKey, token: &str, now: Timestamp) -> Result<Proxy, Refusal> {
    let claims = verify(key, token, AUDIENCE, now)?;
    Ok(Proxy {
        pod: PodName { namespace: claims.namespace.clone(), name: claims.pod },
        identity: Identity { namespace: claims.namespace, service_account: claims.service_account },
    })
}

/// How often one pod may do something: `burst` times at once, and once more after each `interval`.
#[derive(Debug)]
pub(crate) struct RateLimit {
    burst: u32,
    interval: Duration,
    /// When each pod that did something lately will have its whole burst again. Bounded by [`RateLimit::sweep_at`].
    full_at: Mutex<BTreeMap<Proxy, Instant>>,
}

/// Pods that have their whole burst again are forgotten when there are this many, or twice as many as were left.
const FIRST_SWEEP: usize = 4096;

impl RateLimit {
    /// Nobody has done anything yet.
    pub(crate) fn new(burst: u32, interval: Duration) -> RateLimit {
        RateLimit { burst, interval, full_at: Mutex::default() }
    }

    /// Counts one time at `now`, or says that it is too soon.
    pub(crate) fn admit(&self, who: &Proxy, now: Instant) -> Result<(), Refusal> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= FIRST_SWEEP && !full_at.contains_key(who) {
            full_at.retain(|_, at| *at > now);
        }
        let next = full_at.get(who).copied().unwrap_or(now).max(now) + self.interval;
        let latest = now + self.interval * self.burst;
        if next > latest {
            return Err(Refusal::TooOften(next - latest));
        }
        full_at.insert(who.clone(), next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osm_pki::{Claims, mint};

    fn proxy(name: &str) -> Proxy {
        let (namespace, service_account) = ("shop".to_owned(), "client".to_owned());
        let pod = PodName { namespace: namespace.clone(), name: name.to_owned() };
        Proxy { pod, identity: Identity { namespace, service_account } }
    }

    fn claims() -> Claims {
        let text = |text: &str| text.to_owned();
        Claims {
            aud: text("osm"),
            namespace: text("shop"),
            service_account: text("client"),
            pod: text("client-1"),
            pod_uid: text("u"),
            exp: Timestamp::from_second(1000).unwrap(),
        }
    }

    fn check(header: Option<&str>, key: &TokenKey) -> Result<Proxy, Refusal> {
        let mut headers = http::HeaderMap::new();
        if let Some(header) = header {
            headers.insert("authorization", header.parse().unwrap());
        }
        claimed(key, bearer(&headers)?, Timestamp::from_second(500).unwrap())
    }

    #[test]
    fn a_token_says_which_pod_calls() {
        let key = TokenKey::generate();
        let token = mint(&key, &claims());
        assert_eq!(check(Some(&format!("Bearer {token}")), &key), Ok(proxy("client-1")));
        assert_eq!(check(Some(&format!("bearer {token}")), &key), Ok(proxy("client-1")));
    }

    #[test]
    fn without_a_good_token_nobody_calls() {
        let key = TokenKey::generate();
        for header in [None, Some(""), Some("Bearer"), Some("Basic eDp5")] {
            assert_eq!(check(header, &key), Err(Refusal::NoToken), "{header:?}");
        }
        let label = |claims: &Claims, key: &TokenKey, checked_by: &TokenKey| {
            check(Some(&format!("Bearer {}", mint(key, claims))), checked_by).unwrap_err().label()
        };
        let expired = Claims { exp: Timestamp::from_second(500).unwrap(), ..claims() };
        assert_eq!(label(&expired, &key, &key), "token-expired");
        assert_eq!(label(&Claims { aud: "kubernetes".to_owned(), ..claims() }, &key, &key), "token-audience");
        assert_eq!(label(&claims(), &TokenKey::generate(), &key), "token");
    }

    #[test]
    fn each_pod_has_a_burst_of_its_own_that_comes_back() {
        let limit = RateLimit::new(3, Duration::from_secs(10));
        let now = Instant::now();
        for _ in 0..3 {
            limit.admit(&proxy("a"), now).unwrap();
        }
        assert_eq!(limit.admit(&proxy("a"), now), Err(Refusal::TooOften(Duration::from_secs(10))));
        limit.admit(&proxy("b"), now).unwrap();
        limit.admit(&proxy("a"), now + Duration::from_secs(10)).unwrap();
        limit.admit(&proxy("a"), now + Duration::from_secs(10)).unwrap_err();
    }

    #[test]
    fn pods_that_are_quiet_are_forgotten() {
        let limit = RateLimit::new(3, Duration::from_secs(10));
        let now = Instant::now();
        for index in 0..FIRST_SWEEP {
            limit.admit(&proxy(&index.to_string()), now).unwrap();
        }
        limit.admit(&proxy("late"), now + Duration::from_secs(60)).unwrap();
        assert_eq!(limit.full_at.lock().unwrap().len(), 1);
    }
}
