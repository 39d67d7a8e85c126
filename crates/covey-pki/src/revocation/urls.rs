//! Where whoever verifies a device's certificate can ask whether it was revoked, written into the certificate (RFC 5280
//! sections 4.2.1.13 and 4.2.2.1). Only where an operator says so: who cannot reach such an address may refuse a
//! certificate that is good.

use const_oid::db::rfc5280::ID_AD_OCSP;
use der::Encode;
use der::asn1::Ia5String;
use rcgen::{CertificateParams, CrlDistributionPoint, CustomExtension};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AccessDescription, AuthorityInfoAccessSyntax};

use crate::revocation::RevocationError;

/// The extension that says where to ask (RFC 5280 section 4.2.2.1).
const AUTHORITY_INFORMATION: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 1, 1];
/// Longest address, in characters.
/// Limit for each address: the server does not start.
const URL_CHARS_MAX: usize = 256;
/// Stands for the identifier of the issuing CA's key, so that a certificate leads to the list of the one that issued it.
const ISSUER: &str = "{issuer}";

/// These addresses; none is written that is not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevocationUrls {
    /// Where the list is, such as `http://covey.example/pki/crl/{issuer}`.
    pub crl: Option<String>,
    /// Where one asks about a certificate, such as `http://covey.example/pki/ocsp`.
    pub ocsp: Option<String>,
}

impl RevocationUrls {
    /// Whether an address can be written into a certificate: a URL of HTTP in ASCII.
    pub fn is_good(url: &str) -> bool {
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        url.len() <= URL_CHARS_MAX
            && url.bytes().all(|byte| byte.is_ascii_graphic())
            && host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
    }

    /// Writes them into a certificate that the issuing CA with this identifier of its key signs.
    pub(crate) fn add_to(&self, params: &mut CertificateParams, issuer: &str) -> Result<(), RevocationError> {
        let of_issuer = |url: &String| url.replace(ISSUER, issuer);
        if let Some(url) = self.crl.as_ref().map(of_issuer) {
            params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![url] }];
        }
        if let Some(url) = self.ocsp.as_ref().map(of_issuer) {
            let access_location = GeneralName::UniformResourceIdentifier(Ia5String::new(&url)?);
            let access = AccessDescription { access_method: ID_AD_OCSP, access_location };
            let content = AuthorityInfoAccessSyntax(vec![access]).to_der()?;
            params.custom_extensions.push(CustomExtension::from_oid_content(&AUTHORITY_INFORMATION, content));
        }
        Ok(())
    }
}
