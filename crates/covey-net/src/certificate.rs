//! What counts of a client's certificate.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Whose certificate it is. TLS has verified that it leads to a trusted one, is in its time, is for
/// clients, and that the client holds its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The CommonName of its subject; none if there is not exactly one, or if it is no text. With two
    /// it would depend on the reader whose certificate it is.
    pub common_name: Option<Box<str>>,
    /// Its serial number in lowercase hex, two digits a byte, without the zero byte that DER puts
    /// before a number whose first bit is set. Of one of a CA of others, which may give a number twice, in its place the
    /// SHA-256 of all of it, behind what is told of that CA ([`ImportedCa::prefix`](crate::ImportedCa::prefix)).
    pub serial_hex: Box<str>,
}

impl PeerCertificate {
    /// Reads the DER of a certificate.
    ///
    /// # Errors
    /// Bytes that TLS took for a certificate and that are none.
    pub(crate) fn read(der: &[u8]) -> Result<Self, &'static str> {
        let Ok(([], certificate)) = X509Certificate::from_der(der) else {
            return Err("the certificate cannot be read");
        };
        let mut names = certificate.subject().iter_common_name();
        let common_name = match (names.next(), names.next()) {
            (Some(name), None) => name.as_str().ok().map(Into::into),
            _ => None,
        };
        let serial = match certificate.raw_serial() {
            [0, rest @ ..] if !rest.is_empty() => rest,
            all => all,
        };
        Ok(Self { common_name, serial_hex: hex(serial).into() })
    }
}

/// SHA-256 in lowercase hex.
pub(crate) fn sha256_hex(der: &[u8]) -> String {
    hex(&Sha256::digest(der))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SerialNumber};

    fn read(names: &[&str], serial: &[u8]) -> PeerCertificate {
        let mut params = CertificateParams::default();
        // Else it has a CommonName of its own.
        params.distinguished_name = DistinguishedName::new();
        for (place, name) in names.iter().enumerate() {
            // The second CommonName comes under the same object identifier, which rcgen takes for another type.
            let kind = match place {
                0 => DnType::CommonName,
                _ => DnType::CustomDnType(vec![2, 5, 4, 3]),
            };
            params.distinguished_name.push(kind, DnValue::Utf8String((*name).to_owned()));
        }
        params.serial_number = Some(SerialNumber::from_slice(serial));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        PeerCertificate::read(certificate.der()).unwrap()
    }

    #[test]
    fn one_common_name_and_the_number_as_it_is_written_down() {
        let certificate = read(&["dev-1"], &[0x7F, 0x01]);
        assert_eq!(certificate.common_name.as_deref(), Some("dev-1"));
        assert_eq!(&*certificate.serial_hex, "7f01");
        assert_eq!(&*read(&["dev-1"], &[0x80, 0x0A]).serial_hex, "800a", "without the zero byte of DER");
    }

    #[test]
    fn no_name_and_two_names_name_nobody() {
        assert_eq!(read(&[], &[1]).common_name, None);
        assert_eq!(read(&["dev-1", "dev-2"], &[1]).common_name, None);
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        assert!(PeerCertificate::read(&[]).is_err());
        assert!(PeerCertificate::read(&[0x30, 3, 1, 2, 3]).is_err());
    }
}
