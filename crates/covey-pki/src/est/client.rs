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
    /// Whom the certificate of a client stands for; none if the issuing CA has not signed it, or not for that. It may be
    /// past its end.
    pub fn client_of(&self, leaf: &CertificateDer<'_>) -> Option<ClientOfAuthority> {
        let leaf = certificate::parse(leaf)?;
        let issuing = certificate::parse(self.issuing_der())?;
        let is_ours = !leaf.is_ca()
            && leaf.issuer() == issuing.subject()
            && leaf.verify_signature(Some(issuing.public_key())).is_ok();
        if !is_ours {
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
