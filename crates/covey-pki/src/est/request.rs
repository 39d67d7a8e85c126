//! A request in DER: for which device it is, and for which key.

use der::pem::{LineEnding, encode_string};
use sha2::{Digest, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::device::DEVICE_REQUEST_BYTES_MAX;
use crate::error::PkiError;

/// What is known of a request before it is signed. Nothing of it is proved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRequest {
    /// Its CommonName, if it has one and no other.
    pub common_name: Option<String>,
    /// SHA-256 of its public key (SubjectPublicKeyInfo).
    pub key_sha256: [u8; 32],
    /// The request in PEM, as [`Authority::sign_device_request`](crate::Authority::sign_device_request) takes it.
    pub pem: String,
}

/// Reads a PKCS #10 request in DER.
///
/// # Errors
/// [`PkiError::RequestTooLarge`] or [`PkiError::RequestUnreadable`].
pub fn named_request(der: &[u8]) -> Result<NamedRequest, PkiError> {
    // The signer bounds the text, in which three bytes are four, and has two lines around them.
    if der.len() > DEVICE_REQUEST_BYTES_MAX / 2 {
        let bytes_max = DEVICE_REQUEST_BYTES_MAX / 2;
        return Err(PkiError::RequestTooLarge { bytes: der.len(), bytes_max });
    }
    let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
        return Err(PkiError::RequestUnreadable);
    };
    let info = &request.certification_request_info;
    let mut names = info.subject.iter_common_name().map(|name| name.as_str().map(str::to_owned));
    let common_name = match (names.next(), names.next()) {
        (None, _) => None,
        (Some(Ok(name)), None) => Some(name),
        _ => return Err(PkiError::RequestUnreadable),
    };
    let key_sha256 = Sha256::digest(info.subject_pki.raw).into();
    let pem = encode_string("CERTIFICATE REQUEST", LineEnding::LF, der);
    Ok(NamedRequest { common_name, key_sha256, pem: pem.map_err(|_| PkiError::RequestUnreadable)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn request(names: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        names.iter().for_each(|name| params.distinguished_name.push(DnType::CommonName, *name));
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_request_tells_its_name_and_its_key() {
        let der = request(&["lamp-1"]);
        let read = named_request(&der).unwrap();
        assert_eq!(read.common_name.as_deref(), Some("lamp-1"));
        assert!(read.pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----\n"));
        assert_ne!(read.key_sha256, named_request(&request(&["lamp-1"])).unwrap().key_sha256);
        assert_eq!(named_request(&request(&[])).unwrap().common_name, None);
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_request_are_refused(
            cut in 0_usize..200, flipped in proptest::option::of((0_usize..200, 1_u8..)),
            rubbish in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let good = request(&["lamp-1"]);
            prop_assert!(named_request(&good[..cut.min(good.len() - 1)]).is_err());
            prop_assert!(named_request(&[good.clone(), vec![0]].concat()).is_err());
            prop_assert!(named_request(&rubbish).is_err());
            if let Some((place, mask)) = flipped {
                let mut changed = good;
                let place = place % changed.len();
                changed[place] ^= mask;
                // Whatever it is now, it is read or refused; what is signed is checked by its signature.
                let _ = named_request(&changed);
            }
        }

        #[test]
        fn a_request_that_is_too_long_is_refused(more in 1_usize..100) {
            let long = vec![0x30; DEVICE_REQUEST_BYTES_MAX / 2 + more];
            let is_refused = matches!(named_request(&long), Err(PkiError::RequestTooLarge { .. }));
            prop_assert!(is_refused);
        }
    }
}
