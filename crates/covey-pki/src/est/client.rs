//! Whom the certificate of a client stands for: a device of this CA, or whoever has a claim. The handshake has proved
//! that the client holds the key, and nothing else.

use std::ops::RangeInclusive;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ExtendedKeyUsage;

use crate::authority::Authority;
use crate::certificate::{self, hex};

/// id-kp-cmcRA (RFC 6402 section 2.10): a registration authority, which asks for the certificates of others (RFC 7030
/// section 3.7). The one purpose of a claim certificate: whoever demands a client of TLS lets it in nowhere.
pub const RA_PURPOSE: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 28];

/// How many certificates behind a client's own are looked at.
/// Limit for each client: what is behind them is passed over.
const ISSUERS_MAX: usize = 4;

/// Whom a certificate of this CA stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOfAuthority {
    /// Its CommonName: of a device the SN.
    pub common_name: String,
    /// Its serial number in lowercase hex, as devices' certificates are registered.
    pub serial_hex: String,
    /// Its first and its last second, Unix time.
    pub valid_s: RangeInclusive<i64>,
    /// Whether it may only enrol devices. Else it is one for TLS clients.
    pub is_claim: bool,
}

impl Authority {
    /// Whom the certificate of a client stands for, the first of its chain; none if neither the issuing CA has signed it, nor
    /// one of before, nor another one under the root that the client sends along, or not for that. It may be past its end.
    pub fn client_of(&self, chain: &[CertificateDer<'_>]) -> Option<ClientOfAuthority> {
        let (leaf, sent) = chain.split_first()?;
        let leaf = certificate::parse(leaf)?;
        let is_signed_by = |issuer: &CertificateDer<'_>| {
            certificate::parse(issuer).is_some_and(|issuer| is_signed(&leaf, &issuer))
        };
        let is_ours = self.issuing_ders().any(is_signed_by)
            || sent.iter().take(ISSUERS_MAX).any(|issuer| self.is_issuing(issuer) && is_signed_by(issuer));
        if leaf.is_ca() || !is_ours {
            return None;
        }
        let purposes = leaf.extended_key_usage().ok()??.value;
        let is_claim = is_for_claims(purposes);
        if !is_claim && !purposes.client_auth {
            return None;
        }
        let mut names = leaf.subject().iter_common_name();
        let (Some(name), None) = (names.next(), names.next()) else { return None };
        let validity = leaf.validity();
        Some(ClientOfAuthority {
            common_name: name.as_str().ok()?.to_owned(),
            serial_hex: serial_hex(&leaf),
            valid_s: validity.not_before.timestamp()..=validity.not_after.timestamp(),
            is_claim,
        })
    }

    /// Whether a certificate is that of a CA under the root, such as the issuing one from before it was replaced.
    fn is_issuing(&self, certificate: &CertificateDer<'_>) -> bool {
        let (parsed, root) = (certificate::parse(certificate), certificate::parse(self.root_der()));
        parsed.zip(root).is_some_and(|(parsed, root)| parsed.is_ca() && is_signed(&parsed, &root))
    }
}

/// Whether one certificate is signed with the key of another, and names it.
fn is_signed(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    certificate.issuer() == issuer.subject()
        && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

/// Whether these are the purposes of a claim certificate: that one and no other.
pub(crate) fn is_for_claims(purposes: &ExtendedKeyUsage<'_>) -> bool {
    let is_ra = |oid: &x509_parser::der_parser::Oid<'_>| {
        oid.iter().is_some_and(|arcs| arcs.eq(RA_PURPOSE.iter().copied()))
    };
    let has_others = purposes.any
        || purposes.server_auth
        || purposes.client_auth
        || purposes.code_signing
        || purposes.email_protection
        || purposes.time_stamping
        || purposes.ocsp_signing;
    !has_others && purposes.other.len() == 1 && purposes.other.iter().all(is_ra)
}

/// The serial number without the zero byte that DER puts before a high bit.
fn serial_hex(leaf: &X509Certificate<'_>) -> String {
    match leaf.raw_serial() {
        [0, rest @ ..] if !rest.is_empty() => hex(rest),
        all => hex(all),
    }
}
