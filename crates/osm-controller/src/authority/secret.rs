//! The authority of a cluster, in a Secret. Whoever creates that first has made the authority; every other controller
//! reads it, so that all replicas sign with one root.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::ByteString;
use kube::api::PostParams;
use kube::{Api, Error};
use osm_api::k8s;
use osm_pki::Authority;
use osm_runtime::{Backoff, chance, clock};
use zeroize::Zeroize;

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";

/// Without an authority nothing can be served, so it is asked for often.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), limit: Duration::from_secs(15) };

/// The authority that the Secret holds, or a new one that it then holds. Tries until that works: an API server that
/// cannot be reached comes back, and a Secret that cannot be used may be mended.
pub(crate) async fn from_secret(secrets: &Api<k8s::Secret>, name: &str, trust_domain: &str) -> Authority {
    let (mut rng, mut failures) = (chance::generator(), 0);
    loop {
        match load_or_make(secrets, name, trust_domain).await {
            Ok(authority) => return authority,
            Err(error) => {
                failures += 1;
                tracing::error!(secret = name, error = format!("{error:#}"), "no authority yet; it is tried again");
                tokio::time::sleep(RETRY.delay(failures, &mut rng)).await;
            }
        }
    }
}

async fn load_or_make(secrets: &Api<k8s::Secret>, name: &str, trust_domain: &str) -> anyhow::Result<Authority> {
    if let Some(secret) = read(secrets, name).await? {
        return decode(secret, name);
    }
    let authority = Authority::generate(clock::now(), trust_domain).context("making an authority")?;
    match secrets.create(&PostParams::default(), &encode(&authority, name)).await {
        Ok(_) => {
            tracing::info!(secret = name, trust_domain, "made a new authority");
            Ok(authority)
        }
        Err(Error::Api(status)) if status.is_already_exists() => {
            // Another replica was first.
            let secret = read(secrets, name).await?.with_context(|| format!("the Secret {name} came and went"))?;
            decode(secret, name)
        }
        Err(error) => Err(error).with_context(|| format!("creating the Secret {name}")),
    }
}

async fn read(secrets: &Api<k8s::Secret>, name: &str) -> anyhow::Result<Option<k8s::Secret>> {
    secrets.get_opt(name).await.with_context(|| format!("reading the Secret {name}"))
}

fn decode(secret: k8s::Secret, name: &str) -> anyhow::Result<Authority> {
    let mut data = secret.data.unwrap_or_default();
    let (Some(certificate), Some(mut key)) = (data.remove(CERTIFICATE), data.remove(KEY)) else {
        bail!(
            "the Secret {name} lacks {CERTIFICATE} or {KEY}; restore it, or delete it to make a new authority, which every \
             workload must then learn to trust"
        );
    };
    let text = |bytes| std::str::from_utf8(bytes).context("not text");
    let authority = text(&certificate.0)
        .and_then(|certificate| Ok(Authority::from_pem(certificate, text(&key.0)?)?))
        .with_context(|| format!("loading the authority from the Secret {name}"));
    key.0.zeroize();
    authority
}

fn encode(authority: &Authority, name: &str) -> k8s::Secret {
    let data =
        [(CERTIFICATE, authority.cert_pem().as_bytes().to_vec()), (KEY, authority.key_pem().as_bytes().to_vec())];
    let labels = BTreeMap::from([("app.kubernetes.io/name".to_owned(), "openservicemesh.io".to_owned())]);
    k8s::Secret {
        metadata: k8s::ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..Default::default() },
        type_: Some("Opaque".to_owned()),
        data: Some(data.map(|(key, bytes)| (key.to_owned(), ByteString(bytes))).into()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_survives_its_secret() {
        let authority = Authority::generate(clock::now(), "cluster.local").unwrap();
        let again = decode(encode(&authority, "ca"), "ca").unwrap();
        assert_eq!((again.cert_pem(), again.key_pem()), (authority.cert_pem(), authority.key_pem()));
    }

    #[test]
    fn a_secret_without_its_key_is_not_replaced_in_silence() {
        let authority = Authority::generate(clock::now(), "cluster.local").unwrap();
        let mut secret = encode(&authority, "ca");
        secret.data.as_mut().unwrap().remove(KEY);
        let error = decode(secret, "ca").unwrap_err().to_string();
        assert!(error.contains("lacks ca.crt or ca.key; restore it"), "{error}");
    }
}
