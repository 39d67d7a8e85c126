//! What EST needs of the authority in the data directory.

use std::sync::Arc;

use covey_core::id::UnixMs;
use covey_http::{EstClient, EstForms, EstRequest};
use covey_pki::{Authority, PkiError};
use rustls_pki_types::CertificateDer;

/// The forms of this authority.
pub struct Forms(pub Arc<Authority>);

/// A form, or none where the log says why.
fn formed(form: Result<Vec<u8>, PkiError>) -> Option<Vec<u8>> {
    form.inspect_err(|error| tracing::error!(%error, "EST")).ok()
}

impl EstForms for Forms {
    fn authority(&self) -> Option<Vec<u8>> {
        formed(self.0.certificates_alone())
    }

    fn first_alone(&self, pem: &str) -> Option<Vec<u8>> {
        formed(covey_pki::first_alone(pem))
    }

    fn attributes(&self) -> Option<Vec<u8>> {
        formed(covey_pki::request_attributes())
    }

    fn request(&self, der: &[u8]) -> Result<EstRequest, String> {
        let read = covey_pki::named_request(der).map_err(|error| error.to_string())?;
        Ok(EstRequest { common_name: read.common_name, key_sha256: read.key_sha256, csr_pem: read.pem })
    }

    fn client(&self, leaf: &CertificateDer<'_>) -> Option<EstClient> {
        let found = self.0.client_of(leaf)?;
        let moment = |seconds: i64| UnixMs(seconds.saturating_mul(1_000));
        // The last second is a whole one.
        let valid =
            moment(*found.valid_s.start())..=UnixMs(moment(*found.valid_s.end()).0.saturating_add(999));
        Some(EstClient {
            common_name: found.common_name,
            serial_hex: found.serial_hex,
            valid,
            is_claim: found.is_claim,
        })
    }
}
