//! Certificates of devices.

use covey_core::certificate::{Certificate, Revocation, RevocationReason, RevokedCertificate, RevokedCount};

use crate::rows::{Columns, Damaged, Read, get, identity_at};

/// The columns of a certificate `c` with its device `d`, in the order that [`certificate`] reads them.
macro_rules! certificate_columns {
    () => {
        "c.serial, c.issued_at, c.not_after, c.revoked_at, c.reason, d.id, d.org_id, d.device_id, d.sn"
    };
}
pub(crate) use certificate_columns;

/// Where they come from.
macro_rules! certificates {
    () => {
        "certificates c JOIN devices d ON d.id = c.device_key"
    };
}
pub(crate) use certificates;

/// Those that end first in front. Of one that was registered more than once, the registration that is good, then the newest.
macro_rules! certificate_order {
    () => {
        "c.not_after, c.serial, c.revoked_at IS NOT NULL, c.issued_at DESC, c.device_key DESC"
    };
}
pub(crate) use certificate_order;

/// A certificate, from `certificate_columns!`.
pub(crate) fn certificate(row: &dyn Columns) -> Read<Certificate> {
    Ok(Certificate {
        serial_hex: get(row, 0)?,
        issued_at: get(row, 1)?,
        not_after: get(row, 2)?,
        revocation: revocation_at(row, 3)?,
        device: identity_at(row, 5)?,
    })
}

/// When and why it was revoked, from `revoked_at, reason`.
fn revocation_at(row: &dyn Columns, at: usize) -> Read<Option<Revocation>> {
    let Some(revoked_at) = get(row, at)? else { return Ok(None) };
    // A server of the version before keeps none.
    let reason = match get::<Option<i64>>(row, at + 1)? {
        Some(number) => {
            RevocationReason::from_number(number).ok_or(Damaged::Value(at + 1, "reason of a revocation"))?
        }
        None => RevocationReason::Unspecified,
    };
    Ok(Some(Revocation { at: revoked_at, reason }))
}

/// Whether a certificate was revoked, from `serial, revoked_at, reason`.
pub(crate) fn certificate_known(row: &dyn Columns) -> Read<(String, Option<Revocation>)> {
    Ok((get(row, 0)?, revocation_at(row, 1)?))
}

/// A revoked certificate, from `serial, sn, revoked_at, reason`.
pub(crate) fn revoked_certificate(row: &dyn Columns) -> Read<RevokedCertificate> {
    let revocation = revocation_at(row, 2)?.ok_or(Damaged::Value(2, "instant of a revocation"))?;
    Ok(RevokedCertificate { serial_hex: get(row, 0)?, sn: get(row, 1)?, revocation })
}

/// How many there are and when the last one was revoked.
pub(crate) fn revoked_count(row: &dyn Columns) -> Read<RevokedCount> {
    Ok(RevokedCount { count: get(row, 0)?, last_at: get(row, 1)? })
}

/// Revokes a certificate: now, reason, serial number, device.
pub(crate) const CERTIFICATE_REVOKE: &str = "UPDATE certificates SET revoked_at = $1, reason = $2 WHERE serial = $3 AND device_key = $4 AND revoked_at IS NULL";
/// Those of a device that were not revoked: device, limit.
pub(crate) const CERTIFICATES_UNREVOKED: &str =
    "SELECT serial FROM certificates WHERE device_key = $1 AND revoked_at IS NULL ORDER BY serial LIMIT $2";
/// How many of our CA are revoked that end at an instant or later, and when the last one was.
pub(crate) const REVOKED_COUNT: &str = "SELECT count(*), max(revoked_at) FROM certificates WHERE revoked_at IS NOT NULL AND not_after >= $1 \
     AND serial NOT LIKE '%~%'";
/// Those revoked after an instant, or then with a later serial number, that end at another or later, in that order:
/// instant, serial number, end, whether those of CAs of others are meant, too, limit.
pub(crate) const REVOKED: &str = "SELECT c.serial, d.sn, c.revoked_at, c.reason FROM certificates c \
     JOIN devices d ON d.id = c.device_key WHERE c.revoked_at IS NOT NULL AND (c.revoked_at, c.serial) > ($1, $2) \
     AND c.not_after >= $3 AND ($4 OR c.serial NOT LIKE '%~%') ORDER BY c.revoked_at, c.serial LIMIT $5";
/// Remembers by which a certificate was got: that one, device, the certificate.
pub(crate) const CERTIFICATE_RENEWED_FROM: &str =
    "UPDATE certificates SET renewed_from = $1 WHERE device_key = $2 AND serial = $3";
/// Those that were got by one, or by these, and were not revoked: that one, device, device, device, that one, limit.
pub(crate) const CERTIFICATES_RENEWED_FROM: &str = "WITH RECURSIVE line (serial) AS (SELECT f.serial FROM certificates f \
     WHERE f.serial = $1 AND f.device_key = $2 UNION \
     SELECT c.serial FROM certificates c JOIN line ON c.renewed_from = line.serial WHERE c.device_key = $3) \
     SELECT c.serial FROM certificates c JOIN line ON line.serial = c.serial WHERE c.device_key = $4 \
     AND c.revoked_at IS NULL AND c.serial <> $5 ORDER BY c.serial LIMIT $6";
