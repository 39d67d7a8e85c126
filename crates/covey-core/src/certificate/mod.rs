//! Certificates of devices: which there are, and revoking them.

mod calls;
mod operation;
mod port;

pub use operation::{CertificateRevoke, DeviceCertificatesRevoke, DeviceRevoked, Revoked};
pub use port::{CertificatePage, CertificateReader, CertificateSteps};

use crate::device::DeviceIdentity;
use crate::id::UnixMs;
use crate::named::named;

named! {
    /// Why a certificate was revoked (RFC 5280 section 5.3.1), by the numbers of that section. What could be taken back
    /// (`certificate_hold`) is not among them: a certificate that was revoked stays so.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub enum RevocationReason {
        /// Nobody said.
        #[default]
        Unspecified = 0 => "unspecified",
        /// Its private key is, or may be, known to others.
        KeyCompromise = 1 => "key_compromise",
        /// That of the CA is.
        CaCompromise = 2 => "ca_compromise",
        /// Its owner belongs to somebody else now.
        AffiliationChanged = 3 => "affiliation_changed",
        /// Another took its place.
        Superseded = 4 => "superseded",
        /// Its device is not in use any more.
        CessationOfOperation = 5 => "cessation_of_operation",
        /// What it was for is not granted any more.
        PrivilegeWithdrawn = 9 => "privilege_withdrawn",
        /// The authority that vouched for its holder is not to be trusted.
        AaCompromise = 10 => "aa_compromise",
    }
}

impl RevocationReason {
    /// The one with this number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as i64 == number)
    }
}

named! {
    /// What a certificate is worth at an instant.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum CertificateState {
        /// It lets its device in.
        Valid => "valid",
        /// It is past its end, and was not revoked before.
        Expired => "expired",
        /// It was revoked.
        Revoked => "revoked",
    }
}

/// When and why a certificate was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// When.
    pub at: UnixMs,
    /// Why.
    pub reason: RevocationReason,
}

/// A certificate that was issued to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its serial number in lower-case hexadecimal digits.
    pub serial_hex: String,
    /// The device, which may be retired.
    pub device: DeviceIdentity,
    /// When it was issued.
    pub issued_at: UnixMs,
    /// When it ends.
    pub not_after: UnixMs,
    /// Whether it was revoked.
    pub revocation: Option<Revocation>,
}

impl Certificate {
    /// What it is worth at this instant.
    #[must_use]
    pub fn state(&self, now: UnixMs) -> CertificateState {
        match self.revocation {
            Some(_) => CertificateState::Revoked,
            None if self.not_after < now => CertificateState::Expired,
            None => CertificateState::Valid,
        }
    }
}

/// Which certificates a caller wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFilter {
    /// Those of the device with this number, retired ones included.
    pub device_id: Option<i64>,
    /// Those of devices with this serial number, retired ones included.
    pub sn: Option<String>,
    /// The one with this serial number of its own.
    pub serial_hex: Option<String>,
    /// Those in this state.
    pub state: Option<CertificateState>,
    /// Those that end before this instant.
    pub expires_before: Option<UnixMs>,
}

/// A certificate that was revoked, as those must know who ask whether one was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// Its serial number in lower-case hexadecimal digits.
    pub serial_hex: String,
    /// The serial number of its device.
    pub sn: String,
    /// When and why.
    pub revocation: Revocation,
}

/// Whose revoked certificates are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokedOf {
    /// Those of our CA.
    Own,
    /// Those of CAs of others, too.
    Every,
}

/// What is revoked now of our CA, without what is past its end: differs from what it was before if anything was revoked since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevokedCount {
    /// How many.
    pub count: i64,
    /// When the last one was.
    pub last_at: Option<UnixMs>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_the_numbers_of_the_standard_and_hold_is_none_of_them() {
        let numbers = RevocationReason::ALL.map(|reason| reason as i64);
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 9, 10]);
        assert!(numbers.iter().all(|number| RevocationReason::from_number(*number).is_some()));
        assert_eq!(RevocationReason::from_number(6), None);
        assert_eq!(RevocationReason::from_number(8), None);
    }
}
