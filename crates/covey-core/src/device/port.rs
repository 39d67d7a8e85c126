//! What operations and callers ask the store of devices.

use crate::access::Caller;
use crate::device::{CertificateRecord, Device, DeviceFilter, DeviceIdentity, DeviceKind, Tag};
use crate::id::{DeviceId, DeviceKey, OrgId, Sn, UnixMs};
use crate::port::{Found, Page, PageRequest, TxResult};
use crate::task::{DeviceRef, Target};

/// A page of devices.
pub type DevicePage = Page<Device>;

/// A device that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// Its organisation.
    pub org: OrgId,
    /// Its number.
    pub device_id: DeviceId,
    /// Its serial number.
    pub sn: Sn,
    /// What it speaks.
    pub kind: DeviceKind,
    /// When it is registered.
    pub created_at: UnixMs,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// Who is registered under a serial number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedDevice {
    /// The device.
    pub identity: DeviceIdentity,
    /// What it speaks.
    pub kind: DeviceKind,
}

/// Whose tags are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagsOf {
    /// Those of a registration, also one that has ended.
    Key(DeviceKey),
    /// Those of the device that has this number now.
    Id(DeviceId),
}

/// A registration with its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedDevice {
    /// The registration.
    pub device: DeviceKey,
    /// Its tags, in the order of their names.
    pub tags: Vec<Tag>,
}

/// The steps on devices inside a transaction.
pub trait DeviceSteps {
    /// The device that a caller names.
    fn device_target(&mut self, org: OrgId, device: &DeviceRef) -> TxResult<Option<Target>>;
    /// A device of an organisation.
    fn device(&mut self, org: OrgId, device_id: DeviceId) -> TxResult<Option<Device>>;
    /// Whether a serial number is taken, by whichever organisation: it is the
    /// name under which a device connects, so it is unique for all.
    fn sn_is_taken(&mut self, sn: &Sn) -> TxResult<bool>;
    /// Who is registered under a serial number, in whichever organisation.
    fn device_of_name(&mut self, sn: &Sn) -> TxResult<Option<NamedDevice>>;
    /// The next number that no device of this organisation has or had.
    fn device_id_free(&mut self, org: OrgId) -> TxResult<DeviceId>;
    /// Stores a new device.
    fn device_insert(&mut self, device: &NewDevice) -> TxResult<DeviceKey>;
    /// Marks a device as retired and all of its certificates as revoked.
    fn device_retire(&mut self, device: DeviceKey) -> TxResult<()>;
    /// The tags of a device.
    fn device_tags(&mut self, device: DeviceKey) -> TxResult<Vec<Tag>>;
    /// Sets a tag of a device; answers the tag's number.
    fn tag_put(&mut self, device: DeviceKey, tag: &Tag) -> TxResult<i64>;
    /// How many tags a device has beside the one of this name.
    fn tags_beside(&mut self, device: DeviceKey, tag: &str) -> TxResult<u32>;
    /// Remembers a certificate of a device.
    fn certificate_insert(&mut self, device: DeviceKey, certificate: &CertificateRecord) -> TxResult<()>;
}

/// The reads of devices.
pub trait DeviceReader {
    /// Devices of the caller's organisation, in the order of their numbers; with tags of so many bytes at most.
    fn device_list(
        &self,
        caller: &Caller,
        filter: DeviceFilter,
        page: PageRequest,
        bytes_max: usize,
    ) -> Found<'_, DevicePage>;

    /// A device of the caller's organisation with its tags.
    fn device_tags(&self, caller: &Caller, device: TagsOf) -> Found<'_, Option<TaggedDevice>>;

    /// Who is registered under a serial number, whatever it speaks.
    fn device_of_name_of_every_org(&self, sn: Sn) -> Found<'_, Option<NamedDevice>>;

    /// The device that is registered under a serial number, has a certificate and speaks of tasks
    /// ([`DeviceKind::Ordinary`]). Only for a link whose broker has checked the certificate.
    fn device_of_sn_of_every_org(&self, sn: Sn) -> Found<'_, Option<DeviceIdentity>>;

    /// The serial numbers of registered devices of that kind that have a certificate, in
    /// their order, those after `after`.
    fn device_sns_of_every_org(&self, after: Option<Sn>, limit: u32) -> Found<'_, Vec<Sn>>;

    /// Who a certificate belongs to, if it is one of ours that was not revoked.
    fn device_of_certificate_of_every_org(
        &self,
        sn: Sn,
        serial_hex: String,
    ) -> Found<'_, Option<DeviceIdentity>>;
}
