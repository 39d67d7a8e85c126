//! The server certificate: loaded from the folder while it is good, made anew when it is not.

mod client;
mod names;
mod resolver;

use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

pub use names::ServerNames;
pub use resolver::{ServerCertResolver, https_server_config, https_server_config_for_renewals};

use crate::authority::{Authority, SERVER_CERTIFICATE, SERVER_KEY};
use crate::certificate::{self, random_serial, serial_number};
use crate::error::PkiError;
use crate::folder::{Access, NewFile};
use crate::key::{PrivateKeyPem, key_from_pem};
use crate::lifetime::Validity;

/// Why a server certificate was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenewalReason {
    /// There was none.
    Missing,
    /// Certificate or key could not be read, or did not belong together.
    Broken,
    /// It was issued by another CA, or its chain does not hold the issuing CA's certificate.
    OtherAuthority,
    /// It lacks a name or address that is asked for now.
    NamesMissing,
    /// Less than a third of its life was left, or it was not valid at that moment.
    Due,
}

/// The server's certificate and key, as they are in the folder.
#[derive(Debug)]
pub struct ServerCertificate {
    certificate_path: PathBuf,
    key_path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    validity: Validity,
    renew_at: OffsetDateTime,
    renewed_because: Option<RenewalReason>,
}

impl ServerCertificate {
    /// Path of the chain in PEM: leaf, then issuing CA.
    pub fn certificate_path(&self) -> &Path {
        &self.certificate_path
    }

    /// Path of the private key in PKCS #8 PEM.
    pub fn key_path(&self) -> &Path {
        &self.key_path
    }

    /// Leaf, then issuing CA.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key.
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// The certificate's last moment.
    pub fn not_after(&self) -> OffsetDateTime {
        self.validity.not_after
    }

    /// When [`Authority::server_certificate`] must be called again: from this moment on it makes
    /// a new one.
    pub fn renew_at(&self) -> OffsetDateTime {
        self.renew_at
    }

    /// Why this one was made, or `None` if it was loaded as it lay there.
    pub fn renewed_because(&self) -> Option<RenewalReason> {
        self.renewed_because
    }
}

impl Authority {
    /// The server certificate for `names`: the one in the folder, or a new one if that is missing
    /// or broken, lacks a name, is from another CA, or has less than a third of its life left.
    ///
    /// A renewal changes the key as well. The files are replaced one after the other; after a
    /// kill between the two they do not fit, and the next call makes both anew.
    ///
    /// # Errors
    /// Names that cannot stand in a certificate; a folder that cannot be written; an issuing CA
    /// past its end.
    pub fn server_certificate(
        &self,
        names: &ServerNames,
        now: OffsetDateTime,
    ) -> Result<ServerCertificate, PkiError> {
        names.check()?;
        let lock = self.folder().lock()?;
        let reason = match self.load_server_certificate(names, now) {
            Ok(loaded) => return Ok(loaded),
            Err(reason) => reason,
        };
        let (chain_pem, key_pem) = self.new_server_certificate(names, now)?;
        let file = |name, access, text| NewFile { name, access, text };
        self.folder().write(&lock, &file(SERVER_KEY, Access::Secret, key_pem.expose()))?;
        self.folder().write(&lock, &file(SERVER_CERTIFICATE, Access::Public, &chain_pem))?;
        let made = self.server_certificate_from(chain_pem.as_bytes(), key_pem.expose().as_bytes());
        let mut made = made.map_err(|_| PkiError::Corrupt {
            path: self.server_certificate_path(),
            expected: "certificate in PEM",
        })?;
        made.renewed_because = Some(reason);
        Ok(made)
    }

    fn new_server_certificate(
        &self,
        names: &ServerNames,
        now: OffsetDateTime,
    ) -> Result<(String, PrivateKeyPem), PkiError> {
        let validity = self.leaf_validity(self.lifetimes().server, now)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // Clients look at the alternative names only (RFC 9525 section 2); this is for people.
        params.distinguished_name.push(DnType::CommonName, "Covey server");
        params.subject_alt_names = names.alternative_names()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial_number(random_serial()?));
        params.not_before = validity.not_before;
        params.not_after = validity.not_after;

        let key = KeyPair::generate()?;
        let certificate = self.sign(&params, &key)?;
        let chain_pem = certificate.pem() + self.issuing_pem();
        Ok((chain_pem, PrivateKeyPem::of(&key)))
    }

    /// The certificate in the folder, or why it will not do.
    fn load_server_certificate(
        &self,
        names: &ServerNames,
        now: OffsetDateTime,
    ) -> Result<ServerCertificate, RenewalReason> {
        let broken = |_| RenewalReason::Broken;
        let chain_pem = self.folder().read(SERVER_CERTIFICATE).map_err(broken)?;
        let key_pem = self.folder().read_key(SERVER_KEY).map_err(broken)?;
        let (Some(chain_pem), Some(key_pem)) = (chain_pem, key_pem) else {
            return Err(RenewalReason::Missing);
        };
        let loaded = self.server_certificate_from(&chain_pem, &key_pem.text)?;
        self.check_issued_here(&loaded.chain)?;
        let covered =
            loaded.chain.first().and_then(certificate::parse).is_some_and(|leaf| names.are_covered_by(&leaf));
        if !covered {
            return Err(RenewalReason::NamesMissing);
        }
        if !loaded.validity.contains(now) || now >= loaded.renew_at {
            return Err(RenewalReason::Due);
        }
        Ok(loaded)
    }

    /// Reads chain and key, and checks that they belong together.
    fn server_certificate_from(
        &self,
        chain_pem: &[u8],
        key_pem: &[u8],
    ) -> Result<ServerCertificate, RenewalReason> {
        let broken = RenewalReason::Broken;
        let chain = certificate::chain_from_pem(chain_pem).ok_or(broken)?;
        let key = key_from_pem(key_pem).ok_or(broken)?;
        let leaf = chain.first().and_then(certificate::parse).ok_or(broken)?;
        if leaf.public_key().raw != key.subject_public_key_info() {
            return Err(broken);
        }
        let validity = certificate::validity(&leaf).ok_or(broken)?;
        Ok(ServerCertificate {
            certificate_path: self.server_certificate_path(),
            key_path: self.server_key_path(),
            key: PrivatePkcs8KeyDer::from(key).into(),
            validity,
            renew_at: validity.renew_at(self.issuing_validity()),
            renewed_because: None,
            chain,
        })
    }

    fn check_issued_here(&self, chain: &[CertificateDer<'static>]) -> Result<(), RenewalReason> {
        let other = RenewalReason::OtherAuthority;
        let [leaf, issuing] = chain else {
            return Err(other);
        };
        if issuing != self.issuing_der() {
            return Err(other);
        }
        let leaf = certificate::parse(leaf).ok_or(other)?;
        let issuing = certificate::parse(issuing).ok_or(other)?;
        leaf.verify_signature(Some(issuing.public_key())).map_err(|_| other)
    }
}
