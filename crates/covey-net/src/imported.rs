//! Whose certificates a listener for devices takes: the deployment's own, and those of CAs of others, told apart.

use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::error::NetError;

/// A CA of others whose devices are let in.
#[derive(Clone, Debug)]
pub struct ImportedCa {
    /// What stands before the SHA-256 of a certificate of its, in the place of a serial number.
    pub prefix: Box<str>,
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
}

/// A CA of others, and when it is trusted.
#[derive(Debug)]
struct Imported {
    prefix: Box<str>,
    /// Unix time in seconds, both ends included. Who verifies a chain does not look at the dates of where it ends.
    valid_s: RangeInclusive<i64>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Imported {
    fn takes(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<ClientCertVerified> {
        let is_trusted = i64::try_from(now.as_secs()).is_ok_and(|now| self.valid_s.contains(&now));
        is_trusted.then(|| self.verifier.verify_client_cert(leaf, between, now).ok()).flatten()
    }
}

/// The deployment's own CA, and those of others. A certificate that leads to the own one is of that, wherever else it leads.
#[derive(Debug)]
pub(crate) struct Issuers {
    own: Arc<dyn ClientCertVerifier>,
    imported: Vec<Imported>,
    subjects: Vec<DistinguishedName>,
}

impl Issuers {
    pub(crate) fn new(
        own: RootCertStore,
        imported: &[ImportedCa],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, NetError> {
        let verifier = |roots: RootCertStore| {
            let built =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
            built.map_err(|error| NetError::Trusted(error.to_string()))
        };
        let mut subjects = own.subjects();
        let own = verifier(own)?;
        let mut others = Vec::new();
        for ImportedCa { prefix, certificate } in imported {
            let Ok(([], parsed)) = X509Certificate::from_der(certificate) else {
                return Err(NetError::Trusted("a CA of others cannot be read".to_owned()));
            };
            let validity = parsed.validity();
            let valid_s = validity.not_before.timestamp()..=validity.not_after.timestamp();
            let mut roots = RootCertStore::empty();
            roots.add(certificate.clone())?;
            subjects.extend(roots.subjects());
            others.push(Imported { prefix: prefix.clone(), valid_s, verifier: verifier(roots)? });
        }
        Ok(Self { own, imported: others, subjects })
    }

    /// What stands before the SHA-256 of a certificate that was verified in a handshake, in the place of its serial number;
    /// nothing for one of the deployment's own.
    ///
    /// # Errors
    /// One that leads to none of them now: they were exchanged meanwhile.
    pub(crate) fn prefix_of(&self, chain: &[CertificateDer<'_>]) -> Result<Option<&str>, &'static str> {
        let Some((leaf, between)) = chain.split_first().filter(|_| !self.imported.is_empty()) else {
            return Ok(None);
        };
        let now = UnixTime::now();
        if self.own.verify_client_cert(leaf, between, now).is_ok() {
            return Ok(None);
        }
        let found = self.imported.iter().find(|ca| ca.takes(leaf, between, now).is_some());
        let found = found.map(|ca| Some(&*ca.prefix));
        found.ok_or("the certificate leads to no CA that is trusted now")
    }
}

impl ClientCertVerifier for Issuers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let refused = match self.own.verify_client_cert(end_entity, intermediates, now) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        // Why the own one refuses it says most, unless another one takes it.
        let mut others = self.imported.iter();
        others.find_map(|ca| ca.takes(end_entity, intermediates, now)).ok_or(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.own.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.own.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.own.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_ca_of_others_is_trusted_in_its_time_and_no_longer() {
        let params = |is_ca, ends| {
            let mut params = CertificateParams::default();
            params.is_ca = is_ca;
            params.not_before = date_time_ymd(2026, 1, 1);
            params.not_after = ends;
            params
        };
        let own = params(IsCa::Ca(BasicConstraints::Unconstrained), date_time_ymd(2040, 1, 1));
        let own = own.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let other = params(IsCa::Ca(BasicConstraints::Unconstrained), date_time_ymd(2027, 1, 1));
        let certificate = other.self_signed(&key).unwrap().der().clone();
        let leaf = params(IsCa::NoCa, date_time_ymd(2040, 1, 1));
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::from_params(&other, &key)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).unwrap();
        let imported = [ImportedCa { prefix: "c0~".into(), certificate }];
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let issuers = Issuers::new(roots, &imported, &provider).unwrap();
        let takes = |year| {
            let seconds = u64::try_from(date_time_ymd(year, 6, 1).unix_timestamp()).unwrap();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            issuers.verify_client_cert(leaf.der(), &[], now).is_ok()
        };
        assert_eq!([2025, 2026, 2027].map(takes), [false, true, false]);
    }
}
