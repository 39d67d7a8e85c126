//! Certificates of devices.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Time;

/// A certificate that was issued to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Certificate<'a> {
    /// Its serial number in lower-case hexadecimal digits; of one that a CA of others has issued, behind the beginning of
    /// that CA's fingerprint and a tilde.
    #[cfg_attr(feature = "openapi", schema(example = "5f0c2b7a9d3e41c68b12f7a0c4d5e6f7"))]
    pub serial: Cow<'a, str>,
    /// The number of its device, which may be retired.
    pub device_id: i64,
    /// The serial number of its device.
    pub sn: Cow<'a, str>,
    /// What it is worth now.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::CertificateStateName))]
    pub state: Cow<'a, str>,
    /// When it was issued.
    pub issued_at: Time,
    /// When it ends.
    pub expires_at: Time,
    /// When it was revoked; null if it was not.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub revoked_at: Option<Time>,
    /// Why it was revoked; null if it was not.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<crate::schema::RevocationReasonName>))]
    pub reason: Option<Cow<'a, str>>,
}

/// A device whose certificates were revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceCertificatesRevoked<'a> {
    /// The number of the device.
    pub device_id: i64,
    /// Its serial number.
    pub sn: Cow<'a, str>,
    /// The serial numbers of the certificates that were revoked now.
    pub serials: Vec<Cow<'a, str>>,
    /// When.
    pub revoked_at: Time,
}
