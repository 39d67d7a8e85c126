//! The forms of PKI that the HTTP server needs of the authority in the data directory.

use std::sync::Arc;

use covey_core::id::UnixMs;
use covey_http::{Credentials, CredentialsDer, EstClient, EstRequest, PkiForms};
use covey_pki::{Authority, PkiError};
use rustls_pki_types::CertificateDer;

/// The forms of this authority.
pub struct Forms(pub Arc<Authority>);

/// A form, or none where the log says why.
fn formed<T>(form: Result<T, PkiError>) -> Option<T> {
    form.inspect_err(|error| tracing::error!(%error, "a form of a certificate")).ok()
}

impl PkiForms for Forms {
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

    fn client(&self, chain: &[CertificateDer<'_>]) -> Option<EstClient> {
        let found = self.0.client_of(chain)?;
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

    fn check_password(&self, password: &str) -> Result<(), String> {
        covey_pki::check_bundle_password(password).map_err(|error| error.to_string())
    }

    fn pkcs12(&self, of: Credentials<'_>, password: &str) -> Option<Vec<u8>> {
        let key = of.private_key_pem?;
        formed(covey_pki::pkcs12(of.sn, of.certificate_pem, of.ca_pem, key, password))
    }

    fn der(&self, of: Credentials<'_>) -> Option<CredentialsDer> {
        let each = formed(covey_pki::certificates_der(&[of.certificate_pem, of.ca_pem]))?;
        let [certificate, issuer, ca] = <[Vec<u8>; 3]>::try_from(each).ok()?;
        let private_key = match of.private_key_pem {
            Some(key) => Some(formed(covey_pki::key_der(key))?),
            None => None,
        };
        Some(CredentialsDer { certificate, issuer, ca, private_key })
    }
}
