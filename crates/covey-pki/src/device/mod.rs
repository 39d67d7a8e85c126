//! Device certificates: a device is its certificate, and the certificate's CommonName is its SN.

mod request;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, PublicKeyData, RsaKeySize, SanType,
};
use time::OffsetDateTime;

pub(crate) use request::verified_public_key;
pub use request::{DEVICE_REQUEST_BYTES_MAX, RSA_KEY_BITS_MIN};

use crate::authority::Authority;
use crate::certificate::{fingerprint_sha256, hex, random_serial, serial_number};
use crate::error::{PkiError, shortened};
use crate::key::PrivateKeyPem;
use crate::lifetime::Validity;

/// Characters an SN may have at most: the bound of an X.509 CommonName (RFC 5280 appendix A.1,
/// ub-common-name).
pub const DEVICE_SN_CHARS_MAX: usize = 64;

/// A device certificate with all that the device needs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IssuedDevice {
    /// The device's certificate, then the issuing CA's: what the device sends.
    pub certificate_pem: String,
    /// The root: what the device trusts.
    pub ca_pem: String,
    /// The private key, if it was made here. It is kept nowhere: hand it over once.
    pub private_key_pem: Option<PrivateKeyPem>,
    /// The certificate's serial number, 32 lowercase hex digits, as
    /// `x509_parser::…::serial.to_str_radix(16)` gives it.
    pub serial_hex: String,
    /// The certificate's last second, Unix time.
    pub not_after_s: i64,
    /// SHA-256 of the certificate's DER, 64 lowercase hex digits.
    pub fingerprint_sha256: String,
}

/// Checks a device's SN: `[A-Za-z0-9_-]{1,64}`. A `.` or `/` would break topics and routing keys.
///
/// # Errors
/// [`PkiError::DeviceSn`].
pub fn check_device_sn(sn: &str) -> Result<(), PkiError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=DEVICE_SN_CHARS_MAX).contains(&sn.len()) && sn.bytes().all(allowed) {
        Ok(())
    } else {
        Err(PkiError::DeviceSn { sn: shortened(sn) })
    }
}

impl Authority {
    /// Makes a key (ECDSA P-256) and a certificate for the device `sn`.
    ///
    /// # Errors
    /// [`PkiError::DeviceSn`]; [`PkiError::Expired`] past the issuing CA's end.
    pub fn issue_device(&self, sn: &str, now: OffsetDateTime) -> Result<IssuedDevice, PkiError> {
        check_device_sn(sn)?;
        let key = KeyPair::generate()?;
        let mut issued = self.certify_device(sn, &key, now)?;
        issued.private_key_pem = Some(PrivateKeyPem::of(&key));
        Ok(issued)
    }

    /// Makes a certificate for the device `sn` from its PKCS #10 request in PEM (RFC 2986). Only
    /// the public key is taken from the request; names, uses and dates are Covey's own.
    ///
    /// Accepted keys: ECDSA P-256 and P-384, Ed25519, RSA from 2048 bits.
    ///
    /// # Errors
    /// As [`Authority::issue_device`], and one of the `Request…` errors.
    pub fn sign_device_request(
        &self,
        sn: &str,
        csr_pem: &str,
        now: OffsetDateTime,
    ) -> Result<IssuedDevice, PkiError> {
        check_device_sn(sn)?;
        let public_key = request::verified_public_key(sn, csr_pem)?;
        self.certify_device(sn, &public_key, now)
    }

    /// The same with an RSA key of 2048 bits, for TLS libraries that know no other. Making it takes a tenth of a
    /// second, or several.
    ///
    /// # Errors
    /// As [`Authority::issue_device`].
    pub fn issue_device_with_rsa_key(&self, sn: &str, now: OffsetDateTime) -> Result<IssuedDevice, PkiError> {
        check_device_sn(sn)?;
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let mut issued = self.certify_device(sn, &key, now)?;
        issued.private_key_pem = Some(PrivateKeyPem::of(&key));
        Ok(issued)
    }

    fn certify_device(
        &self,
        sn: &str,
        public_key: &impl PublicKeyData,
        now: OffsetDateTime,
    ) -> Result<IssuedDevice, PkiError> {
        let validity = self.leaf_validity(self.lifetimes().device, now)?;
        let serial = random_serial()?;
        let mut params = device_params(sn, serial, validity)?;
        self.add_revocation_urls(&mut params)?;
        let certificate = self.sign(&params, public_key)?;
        Ok(IssuedDevice {
            certificate_pem: certificate.pem() + self.issuing_pem(),
            ca_pem: self.root_pem().to_owned(),
            private_key_pem: None,
            serial_hex: hex(&serial),
            not_after_s: validity.not_after.unix_timestamp(),
            fingerprint_sha256: fingerprint_sha256(certificate.der()),
        })
    }
}

/// A device certificate's content: a client of TLS and nothing else.
fn device_params(sn: &str, serial: [u8; 16], validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, sn);
    // A DNS name is an IA5String (RFC 5280 section 4.2.1.6): every SN fits, `_` included.
    params.subject_alt_names = vec![SanType::DnsName(sn.try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial_number(serial));
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    Ok(params)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_sn_of_the_alphabet_is_accepted(sn in "[A-Za-z0-9_-]{1,64}") {
            prop_assert!(check_device_sn(&sn).is_ok());
        }

        #[test]
        fn every_other_character_is_refused(
            head in "[A-Za-z0-9_-]{0,31}",
            wrong in any::<char>().prop_filter("in the alphabet", |c| {
                !(c.is_ascii_alphanumeric() || *c == '_' || *c == '-')
            }),
            tail in "[A-Za-z0-9_-]{0,31}",
        ) {
            let refused = check_device_sn(&format!("{head}{wrong}{tail}"));
            prop_assert!(refused.is_err_and(|error| error.is_request_fault()));
        }
    }

    #[test]
    fn empty_and_long_sns_are_refused() {
        assert!(check_device_sn("").is_err());
        assert!(check_device_sn(&"a".repeat(65)).is_err());
        let error = check_device_sn(&"ü".repeat(100_000)).unwrap_err();
        assert!(error.to_string().len() < 400);
    }
}
