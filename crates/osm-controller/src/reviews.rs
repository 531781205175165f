//! Tokens of a cluster: the API server reviews each, and the pod that it is bound to must be one that we know.
//!
//! A review is believed for a while, and longer while the API server cannot be reached: pods that run must not suffer
//! from an outage that is not theirs.

mod cache;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use osm_api::{NamespacedName, World};
use osm_model::{Identity, PodName};
use osm_pki::{TokenDigest, digest_token};
use osm_runtime::clock;
use tokio::sync::Semaphore;

use crate::caller::{AUDIENCE, Refusal, WrongPod};
use crate::proxies::{Proxies, Proxy};
use cache::{Cache, Verdict};

/// Reviews at once; more would only wait at the API server.
const REVIEWS_AT_ONCE: usize = 32;

/// For one review, waiting for its turn included.
const REVIEW_LIMIT: Duration = Duration::from_secs(5);

/// A token may come a little before the news of its pod.
const POD_LIMIT: Duration = Duration::from_secs(3);

/// The longest token that is sent on; those of a cluster have about 1,200 bytes.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// The names under which Kubernetes says which pod a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Lets pods in whose tokens the API server vouches for.
#[derive(Debug)]
pub(crate) struct Reviews {
    api: Api<TokenReview>,
    proxies: Proxies,
    turns: Semaphore,
    cache: Mutex<Cache>,
}

/// The pod that a token is bound to, as the API server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) proxy: Proxy,
    pub(crate) uid: String,
}

impl Reviews {
    /// Asks this cluster, and looks for pods in what `proxies` published.
    pub(crate) fn new(client: Client, proxies: Proxies) -> Reviews {
        let turns = Semaphore::new(REVIEWS_AT_ONCE);
        Reviews { api: Api::all(client), proxies, turns, cache: Mutex::default() }
    }

    /// The pod that sent this token.
    pub(crate) async fn authenticate(&self, token: &str) -> Result<Proxy, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::Review(format!("it is longer than {TOKEN_BYTES_MAX} bytes")));
        }
        let bound = self.bound(token).await?;
        match self.proxies.when(POD_LIMIT, |snapshot| belongs(&bound, &snapshot.world)).await {
            Some(Ok(())) => Ok(bound.proxy.clone()),
            Some(Err(refusal)) => Err(refusal),
            None => Err(Refusal::Unavailable("the cluster has not been read yet".to_owned())),
        }
    }

    async fn bound(&self, token: &str) -> Result<Arc<Bound>, Refusal> {
        let digest = digest_token(token);
        let known = self.cached(&digest);
        if let Some((verdict, true)) = known {
            return verdict;
        }
        match tokio::time::timeout(REVIEW_LIMIT, self.review(token)).await {
            Ok(Ok(status)) => {
                let verdict = bound(&status).map(Arc::new);
                let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                cache.put(digest, verdict.clone(), clock::monotonic());
                verdict
            }
            failed => {
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    Ok(Ok(_)) | Err(_) => format!("no answer within {REVIEW_LIMIT:?}"),
                };
                match known {
                    // It was believed before, and nobody says otherwise.
                    Some((Ok(bound), false)) => {
                        tracing::warn!(pod = %bound.proxy.pod, error = why, "no review; an earlier one counts");
                        Ok(bound)
                    }
                    Some((_, _)) | None => Err(Refusal::Unavailable(format!("the API server cannot be asked: {why}"))),
                }
            }
        }
    }

    /// What was said of a token before, and whether that is fresh.
    fn cached(&self, digest: &TokenDigest) -> Option<(Verdict, bool)> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(digest, clock::monotonic())
    }

    async fn review(&self, token: &str) -> kube::Result<TokenReviewStatus> {
        let _turn = self.turns.acquire().await.expect("the turns are never closed");
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        Ok(self.api.create(&PostParams::default(), &review).await?.status.unwrap_or_default())
    }
}

/// What a review says: the pod that the token is bound to, or why it is refused.
fn bound(status: &TokenReviewStatus) -> Result<Bound, Refusal> {
    let refused = |why: &str| Err(Refusal::Review(why.to_owned()));
    if status.authenticated != Some(true) {
        return refused(status.error.as_deref().unwrap_or("the API server does not know it"));
    }
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return refused("it is not for audience \"osm\"; mount a projected service account token with that audience");
    }
    let user = status.user.clone().unwrap_or_default();
    let name = user.username.as_deref().unwrap_or_default();
    let Some((namespace, service_account)) =
        name.strip_prefix("system:serviceaccount:").and_then(|n| n.split_once(':'))
    else {
        return refused("it does not belong to a service account");
    };
    let (Some(pod), Some(uid)) = (extra(&user, POD_NAME), extra(&user, POD_UID)) else {
        return refused("it is not bound to a pod; mount a projected service account token");
    };
    let pod = PodName { namespace: namespace.to_owned(), name: pod };
    let identity = Identity { namespace: namespace.to_owned(), service_account: service_account.to_owned() };
    Ok(Bound { proxy: Proxy { pod, identity }, uid })
}

fn extra(user: &UserInfo, name: &str) -> Option<String> {
    match user.extra.as_ref()?.get(name)?.as_slice() {
        [value] => Some(value.clone()),
        _ => None,
    }
}

/// Whether the pod that a token is bound to is the one that exists under its name, and runs as whom the token says.
fn belongs(bound: &Bound, world: &World) -> Result<(), Refusal> {
    let PodName { namespace, name } = &bound.proxy.pod;
    let wrong = |why, what: String| Err(Refusal::Pod { pod: bound.proxy.pod.clone(), why, what });
    let Some(pod) = world.pods.get(&NamespacedName::new(namespace, name)) else {
        return wrong(WrongPod::Unknown, "there is no such pod".to_owned());
    };
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    if uid != bound.uid {
        let what = format!("the token is bound to uid {}, but the pod of that name has {uid}", bound.uid);
        return wrong(WrongPod::Unknown, what);
    }
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
    if account != bound.proxy.identity.service_account {
        let what = format!("it runs as {account}, and the token is of {}", bound.proxy.identity.service_account);
        return wrong(WrongPod::Account, what);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
