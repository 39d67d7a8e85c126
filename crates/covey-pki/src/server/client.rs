//! Certificates that clients of the HTTPS listener may show: proof of the key here, trust elsewhere.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::certificate;
use crate::est::is_for_claims;

/// Asks for a certificate and takes a connection without one as well. Whoever shows one must prove
/// that it holds the key (RFC 8446 section 4.4.3, RFC 5246 section 7.4.8), and the certificate must
/// be one for clients or for claims, in its time or not long past its end: what may still be done with
/// it is decided for each request.
///
/// Who issued it does not matter: whom it stands for is decided by its fingerprint, as with a key
/// that is pinned. So a certificate that is let through here opens nothing by itself.
#[derive(Debug)]
pub(super) struct ProofOfKey {
    algorithms: WebPkiSupportedAlgorithms,
    /// How long after its end a certificate is let through, in seconds.
    expired_s_max: i64,
}

impl ProofOfKey {
    pub(super) fn by(provider: &CryptoProvider, expired_max: Duration) -> Arc<Self> {
        let expired_s_max = i64::try_from(expired_max.as_secs()).unwrap_or(i64::MAX);
        Arc::new(Self { algorithms: provider.signature_verification_algorithms, expired_s_max })
    }
}

impl ClientCertVerifier for ProofOfKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: with a hint, clients would hold back what another CA issued (RFC 8446 section 4.2.4).
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let parsed = certificate::parse(end_entity).ok_or(CertificateError::BadEncoding)?;
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now_s < parsed.validity().not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now_s > parsed.validity().not_after.timestamp().saturating_add(self.expired_s_max) {
            return Err(CertificateError::Expired.into());
        }
        // Absent, it may be used for anything (RFC 5280 section 4.2.1.12).
        let uses = parsed.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
        if uses.is_some_and(|uses| !uses.value.client_auth && !uses.value.any && !is_for_claims(uses.value)) {
            return Err(CertificateError::InvalidPurpose.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
