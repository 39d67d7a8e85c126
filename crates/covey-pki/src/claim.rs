//! Claim certificates: one certificate with its key for a whole production, with which a device asks for its own.

use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;

use crate::authority::Authority;
use crate::certificate::{hex, random_serial, serial_number};
use crate::error::PkiError;
use crate::est::RA_PURPOSE;
use crate::key::PrivateKeyPem;

/// A claim certificate with its key.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IssuedClaim {
    /// The certificate, then the issuing CA's.
    pub certificate_pem: String,
    /// The root: what devices trust.
    pub ca_pem: String,
    /// The private key. It is kept nowhere else.
    pub private_key_pem: PrivateKeyPem,
    /// The certificate's serial number in lowercase hex.
    pub serial_hex: String,
    /// The certificate's last second, Unix time.
    pub not_after_s: i64,
}

impl Authority {
    /// Makes a key (ECDSA P-256) and a claim certificate that lives so long, and never past the issuing CA's end. Its
    /// CommonName has a dot, which no SN has, and it is for no TLS client: brokers and listeners for devices refuse it.
    ///
    /// # Errors
    /// [`PkiError::Expired`] past the issuing CA's end.
    pub fn issue_claim(&self, lifetime: Duration, now: OffsetDateTime) -> Result<IssuedClaim, PkiError> {
        let validity = self.leaf_validity(lifetime, now)?;
        let serial = random_serial()?;
        let serial_hex = hex(&serial);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("claim.{serial_hex}"));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(RA_PURPOSE.to_vec())];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial_number(serial));
        params.not_before = validity.not_before;
        params.not_after = validity.not_after;
        let key = KeyPair::generate()?;
        let certificate = self.sign(&params, &key)?;
        Ok(IssuedClaim {
            certificate_pem: certificate.pem() + self.issuing_pem(),
            ca_pem: self.root_pem().to_owned(),
            private_key_pem: PrivateKeyPem::of(&key),
            serial_hex,
            not_after_s: validity.not_after.unix_timestamp(),
        })
    }
}
