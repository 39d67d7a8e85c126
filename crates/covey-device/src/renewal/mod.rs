//! The device renews its own certificate, well before its end, over EST (RFC 7030): with a new key, which never leaves it.
//! What comes is stored before it is used, in one file, so that a device that is cut off at any moment has one that is whole.

mod est;
mod folder;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rand::RngExt;
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::clock::unix_now_s;
use crate::session::{Backoff, Delays};
pub(crate) use est::Place;
pub use est::RenewalError;
use folder::Unfinished;
pub(crate) use folder::{RENEWED_FILE, is_newer};

/// A certificate is renewed when this part of its life is left: a third.
const LEFT_AT_RENEWAL: i64 = 3;
/// How much earlier at most, as a part of its life, so that a fleet that was made in one hour does not come in one.
const EARLIER: i64 = 20;
/// Bounds of the wait after a renewal that failed.
const RETRY: Delays = Delays { min: Duration::from_secs(1), max: Duration::from_secs(3_600) };
/// How long is slept at a time: the clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(600);

/// The certificate that the device shows now.
pub(crate) struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    pub(crate) fn new(certified: CertifiedKey) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(certified))))
    }

    fn current(&self) -> Arc<CertifiedKey> {
        // What it guards is whole at every moment.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, certified: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
    }
}

/// The key is never printed.
impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Renews the certificate of one device for as long as it runs.
pub(crate) struct Renewal {
    pub(crate) sn: Arc<str>,
    pub(crate) place: Place,
    pub(crate) dir: PathBuf,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) shown: Arc<Shown>,
}

impl Renewal {
    /// Renews until it is told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.renew_for_ever()).await;
    }

    async fn renew_for_ever(&self) {
        // A certificate begins a little before it is issued, so that clocks may differ: the life of one that came here is
        // counted from when it came, or a short one would be due at once, again and again.
        let mut came_at = i64::MIN;
        let mut backoff = Backoff::new(RETRY);
        loop {
            let Some((from, to)) = self.shown.current().cert.first().and_then(span) else { return };
            let due = due(from.max(came_at), to);
            loop {
                let left = left_until(due);
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left.min(LOOK)).await;
            }
            match self.renew().await {
                Ok(until) => {
                    backoff.reset();
                    came_at = i64::try_from(unix_now_s()).unwrap_or(i64::MAX);
                    tracing::info!(sn = %self.sn, until, "certificate renewed");
                }
                Err(error) => {
                    let wait = wait_after(&error, &mut backoff);
                    tracing::warn!(sn = %self.sn, %error, wait_s = wait.as_secs(), "certificate not renewed");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Renews once; answers the last second of the new certificate.
    async fn renew(&self) -> Result<i64, RenewalError> {
        // What can fail without a certificate is done before one is asked for: a device gets so many a day.
        let issuers = est::issuers(&self.place, &self.tls).await?;
        let unfinished = Unfinished::create(&self.dir)?;
        let renewed = est::renew(&self.sn, &self.place, &self.tls, &issuers).await?;
        let until = renewed.chain.first().and_then(span).ok_or(RenewalError::Answer)?.1;
        let certified = renewed.certified(self.tls.crypto_provider())?;
        unfinished.store(&renewed.pem)?;
        self.shown.replace(certified);
        Ok(until)
    }
}

/// How long to wait after a renewal that failed.
fn wait_after(error: &RenewalError, backoff: &mut Backoff) -> Duration {
    match error {
        // Until somebody does something about it, the answer stays the same.
        RenewalError::Refused { status: 401 | 403 | 409, .. } => backoff.after_refusal(),
        _ => backoff.after_failure(),
    }
}

/// The first and the last second of a certificate, Unix time.
fn span(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some((parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp()))
}

/// How long it is until an instant, Unix time; zero if that is past.
fn left_until(at: i64) -> Duration {
    let at = u64::try_from(at).unwrap_or(0);
    Duration::from_secs(at.saturating_sub(unix_now_s()))
}

/// When a certificate of this span is renewed, Unix time.
fn due(from: i64, to: i64) -> i64 {
    let life = (to - from).max(0);
    let earlier = rand::rng().random_range(0..=life / EARLIER);
    to - life / LEFT_AT_RENEWAL - earlier
}

#[cfg(test)]
mod tests;
