//! The certificate that we serve with: signed by our own authority, and replaced in time without a restart.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use osm_pki::{Authority, DEFAULT_LEAF_LIFETIME, Validity, issue_server, renew_at};
use osm_runtime::{Backoff, chance, clock};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

/// The time of day is looked at this often, because it may jump while we wait.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

/// Between attempts to renew that fail.
const RETRY: Backoff = Backoff { first: Duration::from_secs(5), limit: Duration::from_secs(300) };

/// Signs our serving certificate and hands it to each handshake.
#[derive(Debug)]
pub(crate) struct Serving {
    authority: Arc<Authority>,
    names: Vec<String>,
    current: RwLock<(Arc<CertifiedKey>, Validity)>,
}

impl Serving {
    /// With a first certificate for `names`.
    pub(crate) fn new(authority: Arc<Authority>, names: Vec<String>) -> anyhow::Result<Serving> {
        let current = RwLock::new(sign(&authority, &names)?);
        Ok(Serving { authority, names, current })
    }

    /// For sidecars: TLS 1.3 alone, HTTP/2 alone.
    pub(crate) fn tls(self: &Arc<Serving>) -> anyhow::Result<ServerConfig> {
        self.tls_with(&[b"h2"])
    }

    /// For the API server: TLS 1.3 alone, HTTP/2 or HTTP/1.1.
    pub(crate) fn tls_for_everybody(self: &Arc<Serving>) -> anyhow::Result<ServerConfig> {
        self.tls_with(&[b"h2", b"http/1.1"])
    }

    fn tls_with(self: &Arc<Serving>, protocols: &[&[u8]]) -> anyhow::Result<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("setting up TLS 1.3")?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    /// Replaces the certificate in the last third of its life, until `stop`.
    pub(crate) async fn keep_renewed(self: Arc<Serving>, stop: CancellationToken) -> anyhow::Result<()> {
        let (mut rng, mut failures) = (chance::generator(), 0);
        let mut at = self.renewal(&mut rng);
        loop {
            let left = Duration::try_from(at.duration_since(clock::now())).unwrap_or(Duration::ZERO);
            let wait = left.min(CLOCK_INTERVAL).max(RETRY.delay(failures, &mut rng));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
            if clock::now() < at {
                continue;
            }
            match self.renew() {
                Ok(()) => {
                    failures = 0;
                    at = self.renewal(&mut rng);
                }
                Err(error) => {
                    failures += 1;
                    tracing::error!(error = format!("{error:#}"), "the serving certificate could not be renewed");
                }
            }
        }
    }

    /// Replaces the certificate now.
    pub(crate) fn renew(&self) -> anyhow::Result<()> {
        let next = sign(&self.authority, &self.names)?;
        tracing::info!(until = %next.1.not_after, "renewed the serving certificate");
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    fn renewal(&self, rng: &mut rand::rngs::StdRng) -> jiff::Timestamp {
        let validity = self.current.read().unwrap_or_else(PoisonError::into_inner).1;
        renew_at(validity.not_before, validity.not_after, rng)
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

fn sign(authority: &Authority, names: &[String]) -> anyhow::Result<(Arc<CertifiedKey>, Validity)> {
    let server =
        issue_server(authority, names, DEFAULT_LEAF_LIFETIME, clock::now()).context("signing our own certificate")?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(server.leaf.chain_pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes()).context("reading our own key")?;
    let key = ring::sign::any_supported_type(&key).context("using our own key")?;
    let certified = CertifiedKey::new(chain.context("reading our own certificate")?, key);
    Ok((Arc::new(certified), server.leaf.validity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_certificate_is_the_one_that_the_next_handshake_gets() {
        let authority = Arc::new(Authority::generate(clock::now(), "cluster.local").unwrap());
        let serving = Serving::new(authority, vec!["osm-controller.osm-system.svc".to_owned()]).unwrap();
        let current = |serving: &Serving| serving.current.read().unwrap().0.cert.clone();
        let before = current(&serving);
        serving.renew().unwrap();
        assert_ne!(current(&serving), before);
    }

    #[test]
    fn renewal_is_due_in_the_last_third() {
        let authority = Arc::new(Authority::generate(clock::now(), "cluster.local").unwrap());
        let serving = Serving::new(authority, vec!["a".to_owned()]).unwrap();
        let left = serving.renewal(&mut chance::generator()).duration_since(clock::now());
        assert!((15..24).contains(&left.as_hours()), "{left:?}");
    }
}
