//! The forms of PKI that the API needs of the certification authority, which this crate does not know.

use rustls_pki_types::CertificateDer;

use crate::est::{EstClient, EstRequest};

/// A device's certificate and key, to be put into another form.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The serial number of the device.
    pub sn: &'a str,
    /// The certificate, then that of the CA that issued it, in PEM.
    pub certificate_pem: &'a str,
    /// The certificate of the root CA, in PEM.
    pub ca_pem: &'a str,
    /// The private key in PEM, if it is known.
    pub private_key_pem: Option<&'a str>,
}

/// The same in DER.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialsDer {
    /// The certificate.
    pub certificate: Vec<u8>,
    /// That of the CA that issued it.
    pub issuer: Vec<u8>,
    /// That of the root CA.
    pub ca: Vec<u8>,
    /// The private key, as PKCS #8.
    pub private_key: Option<Vec<u8>>,
}

/// What the certification authority puts into other forms, and reads.
pub trait PkiForms: Send + Sync + 'static {
    /// The certificates of the authority alone, in PKCS #7; none if they cannot be put into that form.
    fn authority(&self) -> Option<Vec<u8>>;
    /// The first certificate of a PEM text alone, in PKCS #7; none if there is none.
    fn first_alone(&self, pem: &str) -> Option<Vec<u8>>;
    /// What a request should have, as a list of attributes (RFC 7030 §4.5.2).
    fn attributes(&self) -> Option<Vec<u8>>;
    /// Reads a request in DER.
    ///
    /// # Errors
    /// Why it is none, in words for its sender.
    fn request(&self, der: &[u8]) -> Result<EstRequest, String>;
    /// Whom the first certificate of a chain stands for; none if the authority has not issued it for that. It may have ended.
    fn client(&self, chain: &[CertificateDer<'_>]) -> Option<EstClient>;
    /// Whether this may be the password of a bundle.
    ///
    /// # Errors
    /// What it must be.
    fn check_password(&self, password: &str) -> Result<(), String>;
    /// Certificate and key in PKCS #12; none if they cannot be put into that form.
    fn pkcs12(&self, credentials: Credentials<'_>, password: &str) -> Option<Vec<u8>>;
    /// Certificate and key in DER; none if they cannot be put into that form.
    fn der(&self, credentials: Credentials<'_>) -> Option<CredentialsDer>;
}
