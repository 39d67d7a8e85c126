//! Certificates of a site whose broker checks them: what is stored of them
//! plays no part.

use covey_core::device::{CertificateRecord, IssuedCertificate};
use covey_core::error::Result;
use covey_core::id::{Sn, UnixMs};
use covey_core::port::{CertificateIssuer, CertificateKey};
use uuid::Uuid;

pub struct NoCertificates;

impl CertificateIssuer for NoCertificates {
    fn issue(&self, _: &Sn, _: CertificateKey<'_>, now: UnixMs) -> Result<IssuedCertificate> {
        Ok(IssuedCertificate {
            record: CertificateRecord {
                serial_hex: Uuid::new_v4().simple().to_string(),
                not_after: now.plus_ms(3_600_000),
            },
            certificate_pem: String::new(),
            ca_pem: String::new(),
            private_key_pem: None,
        })
    }

    fn issue_claim(&self, _: UnixMs, _: UnixMs) -> Result<IssuedCertificate> {
        Err(covey_core::Error::not_found("issuer of claims"))
    }
}
