//! Who the device is: its certificate, key and the CA it trusts; the SN read from the
//! certificate; and the TLS configuration made from them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::Error;

/// Longest SN, in characters.
pub const SN_CHARS_MAX: usize = 64;

/// Whether a text is an SN: 1 to 64 characters of `A-Z a-z 0-9 _ -`. Others would break the
/// mapping of topics to routing keys.
#[must_use]
pub fn is_sn(text: &str) -> bool {
    (1..=SN_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// A device's certificate chain, private key and trusted CA, checked for form.
pub struct Identity {
    sn: Arc<str>,
    ca: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads `ca.pem`, `cert.pem` and `key.pem` from a folder, as
    /// `covey device add SN --out DIR` writes them; with the feature `renew` also `renewed.pem`, which takes the place of
    /// the latter two if it was issued after them.
    ///
    /// # Errors
    /// [`Error::IdentityFile`] for a missing file, else as [`Identity::from_pem`].
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|source| Error::IdentityFile { path, source })
        };
        let given = Self::from_pem(&read("ca.pem")?, &read("cert.pem")?, &read("key.pem")?)?;
        #[cfg(feature = "renew")]
        if let Some(renewed) = given.renewed(dir)? {
            return Ok(renewed);
        }
        Ok(given)
    }

    /// The one that has taken its place; none if there is none, or this one was given to the device later.
    #[cfg(feature = "renew")]
    fn renewed(&self, dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(crate::renewal::RENEWED_FILE);
        let pem = match std::fs::read(&path) {
            Ok(pem) => pem,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::IdentityFile { path, source }),
        };
        let renewed = Self::of(self.ca.clone(), &pem, &pem)?;
        let is_newer = match (renewed.chain.first(), self.chain.first()) {
            (Some(renewed), Some(given)) => crate::renewal::is_newer(renewed, given),
            _ => false,
        };
        Ok((is_newer && renewed.sn == self.sn).then_some(renewed))
    }

    /// The same TLS configuration, whose certificate can be replaced while it is in use.
    #[cfg(feature = "renew")]
    pub(crate) fn renewable(
        &self,
        roots: Option<&TlsRoots>,
    ) -> Result<(ClientConfig, Arc<crate::renewal::Shown>), Error> {
        let mut config = self.client_config(roots)?;
        let certified = rustls::sign::CertifiedKey::from_der(
            self.chain.clone(),
            self.key.clone_key(),
            config.crypto_provider(),
        );
        let shown = crate::renewal::Shown::new(certified.map_err(|source| Error::Tls { source })?);
        config.client_auth_cert_resolver = Arc::clone(&shown) as _;
        Ok((config, shown))
    }

    /// Takes the three PEM texts: the trusted CA, the certificate (leaf first, then its issuer),
    /// and its private key.
    ///
    /// # Errors
    /// [`Error::NotPem`], [`Error::CertificateUnreadable`] or [`Error::SerialNumber`].
    pub fn from_pem(ca_pem: &[u8], cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, Error> {
        let ca = certificates("ca.pem", ca_pem)?;
        Self::of(ca, cert_pem, key_pem)
    }

    fn of(ca: Vec<CertificateDer<'static>>, cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, Error> {
        let chain = certificates("cert.pem", cert_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem)
            .map_err(|_| Error::NotPem { what: "key.pem", expected: "one private key without a password" })?;
        let sn = common_name(&chain)?;
        Ok(Self { sn, ca, chain, key })
    }

    /// The SN: the CommonName of the certificate's subject.
    #[must_use]
    pub fn sn(&self) -> &str {
        &self.sn
    }

    /// The certificates that the server must lead to.
    #[cfg(feature = "discover")]
    pub(crate) fn ca(&self) -> &[CertificateDer<'static>] {
        &self.ca
    }

    pub(crate) fn sn_shared(&self) -> Arc<str> {
        Arc::clone(&self.sn)
    }

    /// The TLS configuration of this device, for an MQTT client of one's own; [`Device`] makes
    /// it by itself. With shared roots the identity's own CA is not looked at.
    ///
    /// # Errors
    /// [`Error::KeyMismatch`], [`Error::NotPem`] or [`Error::Tls`].
    ///
    /// [`Device`]: crate::Device
    pub fn client_config(&self, roots: Option<&TlsRoots>) -> Result<ClientConfig, Error> {
        let own;
        let roots = match roots {
            Some(shared) => shared,
            None => {
                own = TlsRoots::from_certificates(&self.ca)?;
                &own
            }
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&roots.provider))
            .with_safe_default_protocol_versions()
            .map_err(|source| Error::Tls { source })?
            .with_webpki_verifier(Arc::clone(&roots.verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|source| match source {
                rustls::Error::InconsistentKeys(_) => Error::KeyMismatch,
                source => Error::Tls { source },
            })?;
        // A device talks to one server; the default cache is sized for 256.
        config.resumption = Resumption::in_memory_sessions(1);
        Ok(config)
    }
}

impl fmt::Debug for Identity {
    /// The key is never printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("sn", &self.sn).finish_non_exhaustive()
    }
}

/// The trusted CA in the form TLS needs, to be shared by many devices of one process.
///
/// A device without it makes its own from the identity's `ca.pem`.
#[derive(Clone)]
pub struct TlsRoots {
    provider: Arc<CryptoProvider>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl TlsRoots {
    /// Takes the PEM text of one or more CA certificates.
    ///
    /// # Errors
    /// [`Error::NotPem`] or [`Error::Tls`].
    pub fn from_ca_pem(ca_pem: &[u8]) -> Result<Self, Error> {
        Self::from_certificates(&certificates("ca.pem", ca_pem)?)
    }

    fn from_certificates(ca: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        for certificate in ca {
            store.add(certificate.clone()).map_err(|source| Error::Tls { source })?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider))
            .build()
            .map_err(|_| Error::NotPem { what: "ca.pem", expected: "a CA certificate" })?;
        Ok(Self { provider, verifier })
    }
}

impl fmt::Debug for TlsRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsRoots").finish_non_exhaustive()
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let not_pem = || Error::NotPem { what, expected: "one or more certificates" };
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| not_pem())?;
    if found.is_empty() {
        return Err(not_pem());
    }
    Ok(found)
}

fn common_name(chain: &[CertificateDer<'static>]) -> Result<Arc<str>, Error> {
    let leaf = chain.first().ok_or(Error::CertificateUnreadable)?;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| Error::CertificateUnreadable)?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .ok_or(Error::CertificateUnreadable)?;
    if !is_sn(name) {
        return Err(Error::SerialNumber { sn: name.to_owned() });
    }
    Ok(Arc::from(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn self_signed(cn: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, cn);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn the_sn_alphabet_is_kept() {
        for good in ["a", "a3b0000000c10221d290825", "A-b_9", &"x".repeat(64)] {
            assert!(is_sn(good), "{good}");
        }
        for bad in ["", "a.b", "a/b", "a+b", "ü", "a b", &"x".repeat(65)] {
            assert!(!is_sn(bad), "{bad}");
        }
    }

    #[test]
    fn the_sn_comes_from_the_certificate_and_the_key_must_match() {
        let (cert, key) = self_signed("lamp-1");
        let identity = Identity::from_pem(cert.as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(identity.sn(), "lamp-1");
        identity.client_config(None).unwrap();
        assert!(!format!("{identity:?}").contains("key"));

        let (_, other_key) = self_signed("lamp-1");
        let identity = Identity::from_pem(cert.as_bytes(), cert.as_bytes(), other_key.as_bytes()).unwrap();
        assert!(matches!(identity.client_config(None), Err(Error::KeyMismatch)));
    }

    #[test]
    fn what_is_wrong_with_an_identity_is_named() {
        let (cert, key) = self_signed("lamp-1");
        let (cert, key) = (cert.as_bytes(), key.as_bytes());
        assert!(matches!(Identity::from_pem(b"hello", cert, key), Err(Error::NotPem { what: "ca.pem", .. })));
        assert!(matches!(
            Identity::from_pem(cert, cert, b"hello"),
            Err(Error::NotPem { what: "key.pem", .. })
        ));
        let (dotted, dotted_key) = self_signed("lamp.1");
        assert!(matches!(
            Identity::from_pem(cert, dotted.as_bytes(), dotted_key.as_bytes()),
            Err(Error::SerialNumber { sn }) if sn == "lamp.1"
        ));
        let folder = tempfile::tempdir().unwrap();
        let error = Identity::from_dir(folder.path()).unwrap_err();
        assert!(error.to_string().contains("covey device add"), "{error}");
    }
}
