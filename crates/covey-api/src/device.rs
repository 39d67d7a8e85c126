//! Devices: the registry, connections and tags.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DeviceGauges, Time};

/// A device.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Device<'a> {
    /// The number of its registration; a new one when it is registered anew.
    pub id: i64,
    /// Its number for applications.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub device_id: i64,
    /// Its serial number.
    pub sn: Cow<'a, str>,
    /// Its gauges, by type.
    pub device_gauges: Vec<DeviceGauges<'a>>,
    /// Its connection; null if it never had one.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub connection: Option<DeviceConnection<'a>>,
    /// Its tags, in the order of their names.
    pub device_tags: Vec<DeviceTag<'a>>,
    /// When it was registered.
    pub created_at: Time,
    /// Which node it is; not there for a device that speaks for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub node: Option<DeviceNode<'a>>,
}

/// Which node a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceNode<'a> {
    /// The gateway that speaks for it, by name.
    pub gateway: Cow<'a, str>,
    /// What it calls itself.
    pub uid: Cow<'a, str>,
}

impl Device<'_> {
    /// Whether it is connected, as far as the server knows.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.last_checked_result)
    }
}

/// A device's last known connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceConnection<'a> {
    /// The device's number.
    pub device_id: i64,
    /// Its MQTT client id, which is its serial number.
    pub client_id: Cow<'a, str>,
    /// When it last connected.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub connected_at: Option<Time>,
    /// When the connection last changed or was looked at.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub checked_at: Option<Time>,
    /// Whether it was connected then.
    pub last_checked_result: bool,
    /// More about the connection, by name: `address`, `protocol`, `reason`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<BTreeMap<String, String>>, required = true))]
    pub details: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

/// A name with a value, given to a device by an application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceTag<'a> {
    /// The name.
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 64, pattern = r"^[^\x00-\x1F\x7F-\x9F]+$", example = "room")
    )]
    pub tag: Cow<'a, str>,
    /// The value.
    #[cfg_attr(feature = "openapi", schema(max_length = 1024, pattern = r"^[^\x00]*$", example = "hall"))]
    pub value: Cow<'a, str>,
}

/// A device with its certificate, if it gets one.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceRegistered<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub device: Device<'a>,
    /// The device's certificate, then that of the CA that issued it, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub certificate_pem: Option<Cow<'a, str>>,
    /// The certificate of the root CA, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub ca_pem: Option<Cow<'a, str>>,
    /// The device's private key in PEM, if there was no CSR. Shown once and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub private_key_pem: Option<Cow<'a, str>>,
    /// With `"bundle": "pkcs12"`: certificates and key in PKCS #12, in base64. Shown once and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, content_encoding = "base64"))]
    pub pkcs12: Option<Cow<'a, str>>,
    /// The password of `pkcs12`, if it was made here. Shown once and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub bundle_password: Option<Cow<'a, str>>,
    /// With `"bundle": "der"`: each in DER, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub der: Option<DeviceDer>,
}

/// A device's certificate and key in DER, each in base64.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceDer {
    /// The device's certificate.
    pub certificate: String,
    /// That of the CA that issued it.
    pub issuer: String,
    /// That of the root CA.
    pub ca: String,
    /// The device's private key as PKCS #8, if there was no CSR. Shown once and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub private_key: Option<String>,
}

/// Never shows the key.
impl fmt::Debug for DeviceDer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceDer").finish_non_exhaustive()
    }
}

impl<'a> DeviceRegistered<'a> {
    /// A device that gets no certificate, or gets it later.
    #[must_use]
    pub const fn without_certificate(device: Device<'a>) -> Self {
        Self {
            device,
            certificate_pem: None,
            ca_pem: None,
            private_key_pem: None,
            pkcs12: None,
            bundle_password: None,
            der: None,
        }
    }
}

/// Never shows the key.
impl fmt::Debug for DeviceRegistered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceRegistered").field("device", &self.device).finish_non_exhaustive()
    }
}

/// A tag that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TagPut {
    /// The tag's number.
    pub tag_id: i64,
}

/// A device that was retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceRetired<'a> {
    /// Its number.
    pub device_id: i64,
    /// Its serial number.
    pub sn: Cow<'a, str>,
    /// When it was retired, in Unix seconds.
    #[cfg_attr(feature = "openapi", schema(example = 1_770_091_506))]
    pub retired_at: i64,
}
