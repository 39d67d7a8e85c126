//! Certificates of devices.

use std::borrow::Cow;

use covey_core::certificate as core;
use covey_core::id::UnixMs;

use crate::{Certificate, DeviceCertificatesRevoked};

impl<'a> Certificate<'a> {
    /// How a certificate looks at this instant.
    #[must_use]
    pub fn of(certificate: &'a core::Certificate, now: UnixMs) -> Self {
        Self {
            serial: Cow::Borrowed(&certificate.serial_hex),
            device_id: certificate.device.device_id.0,
            sn: Cow::Borrowed(certificate.device.sn.as_str()),
            state: Cow::Borrowed(certificate.state(now).name()),
            issued_at: certificate.issued_at.into(),
            expires_at: certificate.not_after.into(),
            revoked_at: certificate.revocation.map(|revocation| revocation.at.into()),
            reason: certificate.revocation.map(|revocation| Cow::Borrowed(revocation.reason.name())),
        }
    }
}

impl<'a> DeviceCertificatesRevoked<'a> {
    /// How a device looks whose certificates were revoked.
    #[must_use]
    pub fn of(revoked: &'a core::DeviceRevoked) -> Self {
        Self {
            device_id: revoked.identity.device_id.0,
            sn: Cow::Borrowed(revoked.identity.sn.as_str()),
            serials: revoked.serials_hex.iter().map(|serial| Cow::Borrowed(serial.as_str())).collect(),
            revoked_at: revoked.at.into(),
        }
    }
}
