//! Certificates for what stands around a server: the brokers and proxies that devices and
//! applications meet first, and the server itself where it is a client of those.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use time::OffsetDateTime;

use crate::authority::Authority;
use crate::certificate::{random_serial, serial_number};
use crate::error::{PkiError, shortened};
use crate::key::PrivateKeyPem;
use crate::server::ServerNames;

/// A certificate with all that its holder needs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IssuedService {
    /// The certificate, then the issuing CA's: what the holder sends.
    pub certificate_pem: String,
    /// The root: what the holder trusts.
    pub ca_pem: String,
    /// The private key. It is kept nowhere else.
    pub private_key_pem: PrivateKeyPem,
    /// The certificate's last second, Unix time.
    pub not_after_s: i64,
}

impl Authority {
    /// Makes a key and a certificate for a TLS server that is not Covey's own, such as a broker.
    ///
    /// # Errors
    /// Names that cannot stand in a certificate; an issuing CA past its end.
    pub fn issue_service_server(
        &self,
        names: &ServerNames,
        now: OffsetDateTime,
    ) -> Result<IssuedService, PkiError> {
        names.check()?;
        let alternative_names = names.alternative_names()?;
        let purpose = ExtendedKeyUsagePurpose::ServerAuth;
        self.issue_service("Covey service", alternative_names, purpose, now)
    }

    /// Makes a key and a certificate for a TLS client that is no device, such as a server that
    /// connects to a broker. Its name has a dot, which no serial number of a device has.
    ///
    /// # Errors
    /// [`PkiError::ServiceName`]; an issuing CA past its end.
    pub fn issue_service_client(&self, name: &str, now: OffsetDateTime) -> Result<IssuedService, PkiError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.len() > 64 || !name.bytes().all(is_allowed) || !name.trim_matches('.').contains('.') {
            return Err(PkiError::ServiceName { name: shortened(name) });
        }
        let alternative_names = vec![SanType::DnsName(name.try_into()?)];
        self.issue_service(name, alternative_names, ExtendedKeyUsagePurpose::ClientAuth, now)
    }

    fn issue_service(
        &self,
        common_name: &str,
        alternative_names: Vec<SanType>,
        purpose: ExtendedKeyUsagePurpose,
        now: OffsetDateTime,
    ) -> Result<IssuedService, PkiError> {
        let validity = self.leaf_validity(self.lifetimes().server, now)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = alternative_names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial_number(random_serial()?));
        params.not_before = validity.not_before;
        params.not_after = validity.not_after;
        let key = KeyPair::generate()?;
        let certificate = self.sign(&params, &key)?;
        Ok(IssuedService {
            certificate_pem: certificate.pem() + self.issuing_pem(),
            ca_pem: self.root_pem().to_owned(),
            private_key_pem: PrivateKeyPem::of(&key),
            not_after_s: validity.not_after.unix_timestamp(),
        })
    }
}
