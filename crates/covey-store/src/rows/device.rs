//! Devices: who they are, and their tags.

use covey_core::device::{Device, DeviceIdentity, DeviceKind, NamedDevice, Tag, TaggedDevice};
use covey_core::id::DeviceKey;
use covey_core::task::Target;

use crate::rows::{Columns, Damaged, Read, get, presence_at};

/// Who a device is, from `id, org_id, device_id, sn`.
pub(crate) fn identity(row: &dyn Columns) -> Read<DeviceIdentity> {
    identity_at(row, 0)
}

/// The same from a later column on.
pub(crate) fn identity_at(row: &dyn Columns, at: usize) -> Read<DeviceIdentity> {
    Ok(DeviceIdentity {
        device: get(row, at)?,
        org: get(row, at + 1)?,
        device_id: get(row, at + 2)?,
        sn: get(row, at + 3)?,
    })
}

/// What a device speaks.
pub(crate) fn device_kind_at(row: &dyn Columns, at: usize) -> Read<DeviceKind> {
    let number: i64 = get(row, at)?;
    let kind = DeviceKind::ALL.into_iter().find(|kind| *kind as i64 == number);
    kind.ok_or(Damaged::Value(at, "kind of a device"))
}

/// Who is registered under a serial number, from `id, org_id, device_id, sn, kind`.
pub(crate) fn named_device(row: &dyn Columns) -> Read<NamedDevice> {
    Ok(NamedDevice { identity: identity(row)?, kind: device_kind_at(row, 4)? })
}

/// A device as the target of a task, from `id, org_id, device_id, sn`.
pub(crate) fn target(row: &dyn Columns) -> Read<Target> {
    let DeviceIdentity { org, device, device_id, sn } = identity(row)?;
    Ok(Target { org, device, device_id, sn })
}

/// The columns of a device `d` with its connection `c`, in the order that
/// [`device`] reads them.
macro_rules! device_columns {
    () => {
        "d.id, d.org_id, d.device_id, d.sn, d.created_at, c.online, c.connected_at, c.checked_at, c.details, \
         c.session, c.server, c.reason"
    };
}
pub(crate) use device_columns;

/// A device without its tags and its node, from `device_columns!`.
pub(crate) fn device(row: &dyn Columns) -> Read<Device> {
    let presence = match get::<Option<bool>>(row, 5)? {
        None => None,
        Some(_) => Some(presence_at(row, 5)?),
    };
    Ok(Device { identity: identity(row)?, created_at: get(row, 4)?, tags: Vec::new(), presence, node: None })
}

/// A tag, from `tag, value`.
pub(crate) fn tag(row: &dyn Columns) -> Read<Tag> {
    Ok(Tag { tag: get(row, 0)?, value: get(row, 1)? })
}

/// A registration with each of its tags, or with none: device, organisation.
pub(crate) const TAGS_OF_KEY: &str = "SELECT d.id, k.tag, k.value FROM devices d \
     LEFT JOIN device_tags k ON k.device_key = d.id WHERE d.id = $1 AND d.org_id = $2 ORDER BY k.tag";
/// The same of the device that has a number: number, organisation.
pub(crate) const TAGS_OF_ID: &str = "SELECT d.id, k.tag, k.value FROM devices d \
     LEFT JOIN device_tags k ON k.device_key = d.id \
     WHERE d.device_id = $1 AND d.org_id = $2 AND d.retired_at IS NULL ORDER BY k.tag";

/// A registration with one of its tags, if it has any.
pub(crate) fn tagged(row: &dyn Columns) -> Read<(DeviceKey, Option<Tag>)> {
    let (tag, value): (Option<String>, Option<String>) = (get(row, 1)?, get(row, 2)?);
    Ok((get(row, 0)?, tag.zip(value).map(|(tag, value)| Tag { tag, value })))
}

/// A registration with its tags, from all its rows.
pub(crate) fn tagged_device(rows: Vec<(DeviceKey, Option<Tag>)>) -> Option<TaggedDevice> {
    let device = rows.first()?.0;
    Some(TaggedDevice { device, tags: rows.into_iter().filter_map(|(_, tag)| tag).collect() })
}

/// How many bytes the tags of a device have.
pub(crate) fn tag_bytes(device: &Device) -> usize {
    device.tags.iter().map(|tag| tag.tag.len() + tag.value.len()).sum()
}

/// Whether a serial number is taken.
pub(crate) const SN_IS_TAKEN: &str = "SELECT 1 FROM devices WHERE sn = $1 AND retired_at IS NULL";
/// Who is registered under a serial number.
pub(crate) const DEVICE_OF_NAME: &str = "SELECT d.id, d.org_id, d.device_id, d.sn, d.kind FROM devices d WHERE d.sn = $1 AND d.retired_at IS NULL";
/// The next number that no device of an organisation has or had.
pub(crate) const DEVICE_ID_FREE: &str =
    "SELECT coalesce(max(device_id), 0) + 1 FROM devices WHERE org_id = $1";
/// Retires a device: now, device.
pub(crate) const DEVICE_RETIRE: &str =
    "UPDATE devices SET retired_at = $1 WHERE id = $2 AND retired_at IS NULL";
/// Revokes its certificates, as those of a device that is not in use any more: now, device.
pub(crate) const CERTIFICATES_REVOKE: &str =
    "UPDATE certificates SET revoked_at = $1, reason = 5 WHERE device_key = $2 AND revoked_at IS NULL";
/// How many tags a device has beside one.
pub(crate) const TAGS_BESIDE: &str = "SELECT count(*) FROM device_tags WHERE device_key = $1 AND tag <> $2";
/// The device of the ordinary kind with a certificate that is registered under a serial number.
pub(crate) const DEVICE_OF_SN: &str = "SELECT d.id, d.org_id, d.device_id, d.sn FROM devices d \
     WHERE d.sn = $1 AND d.retired_at IS NULL AND d.kind = 0 \
     AND EXISTS (SELECT 1 FROM certificates c WHERE c.device_key = d.id AND c.revoked_at IS NULL)";
/// Serial numbers of devices of the ordinary kind with a certificate: after, limit.
pub(crate) const DEVICE_SNS: &str = "SELECT d.sn FROM devices d WHERE d.sn > $1 AND d.retired_at IS NULL AND d.kind = 0 \
     AND EXISTS (SELECT 1 FROM certificates c WHERE c.device_key = d.id AND c.revoked_at IS NULL) \
     ORDER BY d.sn LIMIT $2";
/// Who a certificate belongs to: its number, serial number of the device.
pub(crate) const DEVICE_OF_CERTIFICATE: &str = "SELECT d.id, d.org_id, d.device_id, d.sn FROM certificates c \
     JOIN devices d ON d.id = c.device_key \
     WHERE c.serial = $1 AND c.revoked_at IS NULL AND d.sn = $2 AND d.retired_at IS NULL";
