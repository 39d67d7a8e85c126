//! Whose certificates a listener for devices takes: the deployment's own, and those of CAs of others, told apart.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::error::NetError;

/// A CA of others whose devices are let in.
#[derive(Clone, Debug)]
pub struct ImportedCa {
    /// What the serial numbers of its certificates get in front of them, so that they are nobody else's.
    pub prefix: Box<str>,
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
}

/// The deployment's own CA, and those of others. A certificate that leads to the own one is of that, wherever else it leads.
#[derive(Debug)]
pub(crate) struct Issuers {
    own: Arc<dyn ClientCertVerifier>,
    imported: Vec<(Box<str>, Arc<dyn ClientCertVerifier>)>,
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
            let mut roots = RootCertStore::empty();
            roots.add(certificate.clone())?;
            subjects.extend(roots.subjects());
            others.push((prefix.clone(), verifier(roots)? as _));
        }
        Ok(Self { own, imported: others, subjects })
    }

    /// What stands before the serial number of a certificate that was verified in a handshake; nothing before one of the
    /// deployment's own.
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
        let leads =
            |(_, ca): &&(_, Arc<dyn ClientCertVerifier>)| ca.verify_client_cert(leaf, between, now).is_ok();
        let found = self.imported.iter().find(leads).map(|(prefix, _)| Some(&**prefix));
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
        let mut others =
            self.imported.iter().map(|(_, ca)| ca.verify_client_cert(end_entity, intermediates, now));
        others.find_map(Result::ok).ok_or(refused)
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
