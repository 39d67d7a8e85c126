//! The parts of the engine that come from the system: time, randomness and
//! the certification authority.

use std::sync::Arc;
use std::time::{Duration, Instant};

use covey_core::device::{CertificateRecord, IssuedCertificate};
use covey_core::error::{Error, Result, StorageFault};
use covey_core::id::{Sn, TaskId, UnixMs};
use covey_core::port::{CertificateIssuer, CertificateKey, Clock, Ids};
use covey_pki::Authority;
use time::OffsetDateTime;
use uuid::Uuid;

/// The clock of the system.
pub struct SystemClock(Instant);

impl SystemClock {
    pub fn start() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> UnixMs {
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        UnixMs(i64::try_from(now).unwrap_or(i64::MAX))
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Identifiers from the system's source of randomness.
pub struct RandomIds;

impl RandomIds {
    fn hex<const BYTES: usize>() -> String {
        let mut bytes = [0_u8; BYTES];
        // A system without randomness cannot serve anybody; ids that can be
        // guessed would be worse than none.
        if getrandom::fill(&mut bytes).is_err() {
            tracing::error!("the system gives no randomness; stopping");
            std::process::abort();
        }
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Ids for RandomIds {
    fn task_id(&self) -> TaskId {
        TaskId(Uuid::now_v7())
    }

    fn sn(&self) -> Sn {
        // Hexadecimal digits are always a serial number.
        Sn::parse(&Self::hex::<10>()).unwrap_or_else(|_| std::process::abort())
    }

    fn api_key(&self) -> String {
        format!("covey_{}", Self::hex::<32>())
    }

    fn secret(&self) -> String {
        Self::hex::<32>()
    }
}

/// Certificates from the authority in the data directory.
pub struct Issuer(pub Arc<Authority>);

impl Issuer {
    fn failed(error: &covey_pki::PkiError) -> Error {
        tracing::error!(%error, "certificate not issued");
        Error::from(StorageFault::Io)
    }
}

impl CertificateIssuer for Issuer {
    fn issue(&self, sn: &Sn, key: CertificateKey<'_>, now: UnixMs) -> Result<IssuedCertificate> {
        let now = OffsetDateTime::from_unix_timestamp(now.seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let issued = match key {
            CertificateKey::P256 => self.0.issue_device(sn.as_str(), now),
            CertificateKey::Rsa2048 => self.0.issue_device_with_rsa_key(sn.as_str(), now),
            CertificateKey::OfRequest(csr_pem) => self.0.sign_device_request(sn.as_str(), csr_pem, now),
        };
        let issued = issued.map_err(|error| {
            if error.is_request_fault() {
                tracing::info!(%sn, %error, "certificate signing request refused");
                Error::invalid("csr", "cannot be signed: it must be a PEM request with a P-256, P-384, Ed25519 or RSA key of 2048 bits or more, signed by that key, its CN the serial number or absent")
            } else {
                Self::failed(&error)
            }
        })?;
        Ok(IssuedCertificate {
            record: CertificateRecord {
                serial_hex: issued.serial_hex,
                not_after: UnixMs(issued.not_after_s.saturating_mul(1000)),
            },
            certificate_pem: issued.certificate_pem,
            ca_pem: issued.ca_pem,
            private_key_pem: issued.private_key_pem.map(covey_pki::PrivateKeyPem::into_exposed),
        })
    }

    fn imported(&self, ca: &str, pem: &str, now: UnixMs) -> Result<(Sn, CertificateRecord)> {
        let now = OffsetDateTime::from_unix_timestamp(now.seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        if !self.0.imported().iter().any(|one| one.name == ca) {
            return Err(Error::invalid("ca", "is not a CA that was imported here"));
        }
        let device = self.0.imported_device(ca, pem, now).map_err(|error| {
            tracing::info!(ca, %error, "a certificate of a CA of others was refused");
            let must = "must be one in PEM that leads to this CA, is in its time and for clients of TLS";
            Error::invalid("certificate_pem", must)
        })?;
        let named = Sn::parse(&device.common_name);
        let sn = named
            .map_err(|_| Error::invalid("certificate_pem", "must name a serial number as its CommonName"))?;
        let not_after = UnixMs(device.not_after_s.saturating_mul(1000));
        Ok((sn, CertificateRecord { serial_hex: device.serial, not_after }))
    }

    fn issue_claim(&self, not_after: UnixMs, now: UnixMs) -> Result<IssuedCertificate> {
        let lifetime = Duration::from_secs(u64::try_from(not_after.since_ms(now) / 1000).unwrap_or(0));
        let now = OffsetDateTime::from_unix_timestamp(now.seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let issued = self.0.issue_claim(lifetime, now).map_err(|error| Self::failed(&error))?;
        Ok(IssuedCertificate {
            record: CertificateRecord {
                serial_hex: issued.serial_hex,
                not_after: UnixMs(issued.not_after_s.saturating_mul(1000)),
            },
            certificate_pem: issued.certificate_pem,
            ca_pem: issued.ca_pem,
            private_key_pem: Some(issued.private_key_pem.into_exposed()),
        })
    }
}
