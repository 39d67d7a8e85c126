//! Claims and their serial numbers, and the certificates of a device that asks for the next.

use covey_core::enrolment::{Claim, ClaimSerial, ClaimSerialState, NewClaim, SnPattern};
use covey_core::id::{ClaimId, DeviceId, DeviceKey, UnixMs};

use crate::rows::{Columns, Damaged, Read, get, number};

/// The columns of a claim `c`, in the order that [`claim`] reads them.
macro_rules! claim_columns {
    () => {
        "c.id, c.org_id, c.name, c.certificate, c.pattern, c.devices_max, c.used, c.created_at, c.not_after, c.revoked_at"
    };
}
pub(crate) use claim_columns;

/// A claim, from `claim_columns!`.
pub(crate) fn claim(row: &dyn Columns) -> Read<Claim> {
    let pattern: Option<&str> = get(row, 4)?;
    let pattern = pattern.map(SnPattern::parse).transpose();
    Ok(Claim {
        id: ClaimId(get(row, 0)?),
        org: get(row, 1)?,
        name: get(row, 2)?,
        serial_hex: get(row, 3)?,
        pattern: pattern.map_err(|_| Damaged::Value(4, "pattern"))?,
        devices_max: number(row, 5)?,
        used: number(row, 6)?,
        created_at: get(row, 7)?,
        not_after: get(row, 8)?,
        revoked_at: get::<Option<i64>>(row, 9)?.map(UnixMs),
    })
}

/// The texts of a new claim: name, certificate, pattern.
pub(crate) fn claim_texts(new: &NewClaim) -> (String, String, Option<String>) {
    let pattern = new.pattern.as_ref().map(|pattern| pattern.as_str().to_owned());
    (new.name.clone(), new.serial_hex.clone(), pattern)
}

/// What is stored of a serial number, from `device_key, key_sha256, used_at, released_at, issued_at`.
pub(crate) fn claim_serial_state(row: &dyn Columns) -> Read<ClaimSerialState> {
    let key = row.bytes(1)?.map(<[u8; 32]>::try_from).transpose();
    let (used_at, released_at) = (get::<Option<i64>>(row, 2)?, get::<Option<i64>>(row, 3)?);
    Ok(ClaimSerialState {
        device: get::<Option<i64>>(row, 0)?.map(DeviceKey),
        key_sha256: key.map_err(|_| Damaged::Value(1, "digest"))?,
        issued_at: get::<Option<i64>>(row, 4)?.map(UnixMs),
        is_free: used_at.is_none() || released_at.is_some(),
    })
}

/// A serial number of a list, from `sn, used_at, device_id, released_at`.
pub(crate) fn claim_serial(row: &dyn Columns) -> Read<ClaimSerial> {
    let used_at = get::<Option<i64>>(row, 1)?.map(UnixMs);
    Ok(ClaimSerial {
        sn: get(row, 0)?,
        used: used_at.zip(get::<Option<i64>>(row, 2)?.map(DeviceId)),
        released_at: get::<Option<i64>>(row, 3)?.map(UnixMs),
    })
}

/// The columns of a serial number in a list.
pub(crate) const CLAIM_SERIAL_COLUMNS: &str = "s.sn, s.used_at, d.device_id, s.released_at";
/// Serial numbers `s` of a claim `c`, with the devices `d` that have enrolled.
pub(crate) const CLAIM_SERIALS: &str =
    "claim_serials s JOIN claims c ON c.id = s.claim_id LEFT JOIN devices d ON d.id = s.device_key";

/// A claim by its certificate.
pub(crate) const CLAIM_OF_CERTIFICATE: &str =
    concat!("SELECT ", claim_columns!(), " FROM claims c WHERE c.certificate = $1");
/// A claim by its number: organisation, number.
pub(crate) const CLAIM: &str =
    concat!("SELECT ", claim_columns!(), " FROM claims c WHERE c.org_id = $1 AND c.id = $2");
/// Whether an organisation has more than so many claims: organisation, number to skip.
pub(crate) const CLAIMS_REACH: &str =
    "SELECT 1 FROM claims WHERE org_id = $1 AND revoked_at IS NULL LIMIT 1 OFFSET $2";
/// A new claim: organisation, name, certificate, pattern, for how many devices, now, its end.
pub(crate) const CLAIM_INSERT: &str = "INSERT INTO claims (org_id, name, certificate, pattern, devices_max, used, created_at, not_after) \
     VALUES ($1, $2, $3, $4, $5, 0, $6, $7) RETURNING id";
/// How many serial numbers are listed of a claim.
pub(crate) const CLAIM_SERIALS_COUNT: &str = "SELECT count(*) FROM claim_serials WHERE claim_id = $1";
/// What is stored of a serial number, with the last certificate that was issued to it unless that one was revoked: claim,
/// serial number.
pub(crate) const CLAIM_SERIAL: &str = "SELECT s.device_key, s.key_sha256, s.used_at, s.released_at, c.issued_at \
     FROM claim_serials s LEFT JOIN claim_uses u ON u.id = \
     (SELECT max(l.id) FROM claim_uses l WHERE l.claim_id = s.claim_id AND l.sn = s.sn) \
     LEFT JOIN certificates c ON c.serial = u.certificate AND c.revoked_at IS NULL WHERE s.claim_id = $1 AND s.sn = $2";
/// A serial number has enrolled: claim, serial number, device, digest of its key, now.
pub(crate) const CLAIM_SERIAL_USE: &str = "INSERT INTO claim_serials (claim_id, sn, device_key, key_sha256, used_at) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (claim_id, sn) DO UPDATE SET device_key = excluded.device_key, key_sha256 = excluded.key_sha256, \
     used_at = excluded.used_at, released_at = NULL";
/// A certificate was issued by a claim: claim, serial number, device, certificate, address, now.
pub(crate) const CLAIM_USE_INSERT: &str = "INSERT INTO claim_uses (claim_id, sn, device_key, certificate, address, used_at) \
     VALUES ($1, $2, $3, $4, $5, $6)";
/// Counts devices that have enrolled: how many more, claim.
pub(crate) const CLAIM_COUNT: &str = "UPDATE claims SET used = used + $1 WHERE id = $2";
/// Releases a serial number: now, claim, serial number.
pub(crate) const CLAIM_SERIAL_RELEASE: &str =
    "UPDATE claim_serials SET released_at = $1 WHERE claim_id = $2 AND sn = $3";
/// Revokes a claim: now, claim.
pub(crate) const CLAIM_REVOKE: &str = "UPDATE claims SET revoked_at = $1 WHERE id = $2";
/// When a certificate of a device ends that was not revoked: device, certificate.
pub(crate) const CERTIFICATE_END: &str =
    "SELECT not_after FROM certificates WHERE device_key = $1 AND serial = $2 AND revoked_at IS NULL";
/// How many certificates a device has got: device, since when.
pub(crate) const CERTIFICATES_SINCE: &str =
    "SELECT count(*) FROM certificates WHERE device_key = $1 AND issued_at > $2";
/// Revokes certificates but for one, the newest of the others, and those that rights were given to: now, device, that one,
/// the device, that one, how many stay. Another has taken their place (4, RFC 5280 section 5.3.1).
pub(crate) const CERTIFICATES_SUPERSEDE: &str = "UPDATE certificates SET revoked_at = $1, reason = 4 WHERE device_key = $2 AND revoked_at IS NULL AND serial <> $3 \
     AND serial NOT IN (SELECT c.serial FROM certificates c WHERE c.device_key = $4 AND c.revoked_at IS NULL \
     AND c.serial <> $5 ORDER BY c.issued_at DESC, c.serial DESC LIMIT $6) \
     AND NOT EXISTS (SELECT 1 FROM api_keys k WHERE k.certificate_serial = certificates.serial \
     AND k.revoked_at IS NULL) RETURNING serial";
