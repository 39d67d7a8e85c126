//! Devices: the registry, their certificates and their presence.

mod calls;
mod operation;
mod port;

pub use operation::{DeviceRegister, DeviceRetire, RetiredDevice, TagPut};
pub(crate) use operation::{object_of, register, register_as, retire};
pub use port::{DevicePage, DeviceReader, DeviceSteps, NamedDevice, NewDevice, TaggedDevice, TagsOf};

use crate::id::{DeviceId, DeviceKey, OrgId, Sn, UnixMs};
use crate::named::named;
use crate::node::NodeName;
use crate::presence::Reason;

/// Longest tag name, in characters.
/// Limit for each tag: 422.
pub const TAG_CHARS_MAX: usize = 64;
/// Longest tag value, in characters.
/// Limit for each tag: 422.
pub const TAG_VALUE_CHARS_MAX: usize = 1024;
/// How many tags a device may have.
/// Limit for each device: 422.
pub const TAGS_MAX: u32 = 64;
/// Highest number that an application may give a device.
/// Limit for each device: 422.
pub const DEVICE_ID_MAX: i64 = (1 << 53) - 1;

named! {
    /// What a device speaks with the server, by the numbers under which it is stored.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum DeviceKind {
        /// Tasks and events (device-rpc), or what a gateway speaks for it.
        #[default]
        Ordinary = 0 => "ordinary",
        /// The six calls of a microcontroller ([`microcontroller`](crate::microcontroller)).
        Microcontroller = 1 => "microcontroller",
    }
}

/// A device that has proved who it is. Only the link makes one, from a
/// certificate; everything that a device does is done under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// The organisation that owns the device.
    pub org: OrgId,
    /// Its registration.
    pub device: DeviceKey,
    /// Its number for applications.
    pub device_id: DeviceId,
    /// Its serial number.
    pub sn: Sn,
}

/// A name with a value, given to a device by an application.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// The name.
    pub tag: String,
    /// The value.
    pub value: String,
}

/// A device as a caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Who it is.
    pub identity: DeviceIdentity,
    /// When it was registered.
    pub created_at: UnixMs,
    /// Its tags, in the order of their names.
    pub tags: Vec<Tag>,
    /// Its connection, if it ever had one.
    pub presence: Option<Presence>,
    /// Which node it is, if a gateway speaks for it; known of devices in lists.
    pub node: Option<NodeName>,
}

/// A device's last known connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Whether it is connected.
    pub online: bool,
    /// When it last connected.
    pub connected_at: Option<UnixMs>,
    /// When that was last looked at.
    pub checked_at: UnixMs,
    /// Why it went, if it did.
    pub reason: Reason,
    /// Details by name: `address`, `protocol`, `reason`.
    pub details: Vec<(String, String)>,
    /// Which connection this is about, in words of the link.
    pub session: String,
    /// The server that holds the connection; empty if a broker does that is
    /// not part of any server.
    pub server: String,
}

/// A connection of a device, as its link tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Which one, in words of the link; differs between any two of a device.
    pub session: String,
    /// The server that holds it; empty if a broker does that is not part of
    /// any server.
    pub server: String,
    /// Why it ended, if it did.
    pub reason: Reason,
    /// Details by name: `address`, `protocol`, `reason`.
    pub details: Vec<(String, String)>,
}

/// Which devices a caller wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// The one with this number.
    pub device_id: Option<DeviceId>,
    /// The one with this serial number.
    pub sn: Option<String>,
    /// Those with this tag, and this value of it if one is given.
    pub tag: Option<(String, Option<String>)>,
    /// Those that are connected, or those that are not.
    pub online: Option<bool>,
}

/// What is kept of a certificate that was issued to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRecord {
    /// Its serial number in lower-case hexadecimal digits.
    pub serial_hex: String,
    /// When it ends.
    pub not_after: UnixMs,
}

/// A certificate that was just issued, on its way to its owner.
#[derive(Clone)]
pub struct IssuedCertificate {
    /// What is kept of it.
    pub record: CertificateRecord,
    /// The leaf, then the issuing CA, in PEM.
    pub certificate_pem: String,
    /// The root, in PEM.
    pub ca_pem: String,
    /// The private key in PEM, if it was made here. Never stored, never logged.
    pub private_key_pem: Option<String>,
}

/// What an application gives to register a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Its serial number; one is made if none is given.
    pub sn: Option<Sn>,
    /// Its number; the next free one if none is given.
    pub device_id: Option<i64>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// With which certificate it proves who it is.
    pub certificate: CertificateSpec,
}

/// The certificate that a new device gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CertificateSpec {
    /// One whose key is made here.
    #[default]
    WithKey,
    /// One for the key of a certificate signing request.
    Sign {
        /// The request, in PEM.
        csr_pem: String,
    },
    /// One that a CA of others has issued, which this deployment trusts for devices that are registered under it.
    Imported {
        /// The name of that CA here.
        ca: String,
        /// The certificate, with those that lead to the CA behind it, in PEM.
        certificate_pem: String,
    },
    /// None: the device is a node behind a gateway, which speaks for it. It
    /// cannot connect by itself.
    None,
}
