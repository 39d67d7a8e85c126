//! Claims, and the certificates of a device that asks for the next.

use covey_core::access::Caller;
use covey_core::enrolment::{
    Claim, ClaimSerial, ClaimSerialState, EnrolmentReader, EnrolmentSteps, NewClaim, NewUse,
};
use covey_core::id::{ClaimId, DeviceKey, OrgId, Sn, UnixMs};
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn, TxResult};
use rusqlite::Connection;

use crate::rows::{self, Columns, Read};
use crate::sqlite::Sqlite;
use crate::sqlite::conditions::Conditions;
use crate::sqlite::transaction::SqliteTransaction;

impl EnrolmentReader for Sqlite {
    fn claim_of_certificate_of_every_org(&self, serial_hex: String) -> Found<'_, Option<Claim>> {
        let kind = ReadKind::ClaimOfCertificate;
        self.row(kind, Turn::Server, rows::CLAIM_OF_CERTIFICATE, [serial_hex], rows::claim)
    }

    fn claim_list(&self, caller: &Caller, id: Option<ClaimId>, page: PageRequest) -> Found<'_, Page<Claim>> {
        let org = caller.org;
        self.read(ReadKind::ClaimList, Turn::Org(org), move |connection| {
            let mut conditions = Conditions::default();
            conditions.add("c.org_id = ?", org.0);
            conditions.add_if("c.id = ?", id.map(|id| id.0));
            of_page(connection, &conditions, rows::claim_columns!(), "claims c", "c.id", page, rows::claim)
        })
    }

    fn claim_serial_list(
        &self,
        caller: &Caller,
        claim: ClaimId,
        sn: Option<Sn>,
        page: PageRequest,
    ) -> Found<'_, Page<ClaimSerial>> {
        let org = caller.org;
        self.read(ReadKind::ClaimSerialList, Turn::Org(org), move |connection| {
            let mut conditions = Conditions::default();
            conditions.add("c.org_id = ?", org.0);
            conditions.add("s.claim_id = ?", claim.0);
            conditions.add_if("s.sn = ?", sn.as_ref().map(|sn| sn.as_str().to_owned()));
            let (columns, from) = (rows::CLAIM_SERIAL_COLUMNS, rows::CLAIM_SERIALS);
            of_page(connection, &conditions, columns, from, "s.sn", page, rows::claim_serial)
        })
    }
}

fn of_page<T>(
    connection: &Connection,
    conditions: &Conditions,
    columns: &str,
    from: &str,
    order: &str,
    page: PageRequest,
    read: fn(&dyn Columns) -> Read<T>,
) -> rusqlite::Result<Page<T>> {
    let clause = conditions.clause();
    let snapshot = connection.unchecked_transaction()?;
    let total = conditions.total(&snapshot, &format!("SELECT count(*) FROM {from} WHERE {clause}"))?;
    let (size, offset) = (page.size, page.offset());
    let sql =
        format!("SELECT {columns} FROM {from} WHERE {clause} ORDER BY {order} LIMIT {size} OFFSET {offset}");
    Ok(Page { items: conditions.rows(&snapshot, &sql, read)?, total, is_cut: false })
}

impl EnrolmentSteps for SqliteTransaction<'_> {
    fn claim_of_certificate(&mut self, serial_hex: &str) -> TxResult<Option<Claim>> {
        self.row(rows::CLAIM_OF_CERTIFICATE, [serial_hex], rows::claim)
    }

    fn claim(&mut self, org: OrgId, id: ClaimId) -> TxResult<Option<Claim>> {
        self.row(rows::CLAIM, (org.0, id.0), rows::claim)
    }

    fn claims_reach(&mut self, org: OrgId, count: u32) -> TxResult<bool> {
        let Some(skip) = count.checked_sub(1) else { return Ok(true) };
        self.exists(rows::CLAIMS_REACH, (org.0, skip))
    }

    fn claim_insert(&mut self, new: &NewClaim) -> TxResult<ClaimId> {
        let (name, certificate, pattern) = rows::claim_texts(new);
        let values = (new.org.0, name, certificate, pattern, new.devices_max, new.at.0, new.not_after.0);
        self.only(rows::CLAIM_INSERT, values, rows::first).map(ClaimId)
    }

    fn claim_serials_insert(&mut self, claim: ClaimId, serials: &[Sn]) -> TxResult<u32> {
        let mut count = 0;
        for sn in serials {
            let sql = "INSERT INTO claim_serials (claim_id, sn) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            count += self.change(sql, (claim.0, sn.as_str()))?;
        }
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn claim_serials_count(&mut self, claim: ClaimId) -> TxResult<u32> {
        self.only(rows::CLAIM_SERIALS_COUNT, [claim.0], |row| rows::number(row, 0))
    }

    fn claim_serial(&mut self, claim: ClaimId, sn: &Sn) -> TxResult<Option<ClaimSerialState>> {
        self.row(rows::CLAIM_SERIAL, (claim.0, sn.as_str()), rows::claim_serial_state)
    }

    fn claim_use(&mut self, new: &NewUse, is_counted: bool) -> TxResult<()> {
        let (claim, sn, device, at) = (new.claim.0, new.sn.as_str(), new.device.0, new.at.0);
        self.change(rows::CLAIM_SERIAL_USE, (claim, sn, device, new.key_sha256.as_slice(), at))?;
        let values = (claim, sn, device, &new.certificate_hex, &new.address, at);
        self.change(rows::CLAIM_USE_INSERT, values)?;
        if is_counted {
            self.change(rows::CLAIM_COUNT, (1, claim))?;
        }
        Ok(())
    }

    fn claim_serial_release(&mut self, claim: ClaimId, sn: &Sn, at: UnixMs) -> TxResult<()> {
        self.change(rows::CLAIM_SERIAL_RELEASE, (at.0, claim.0, sn.as_str()))?;
        self.change(rows::CLAIM_COUNT, (-1, claim.0)).map(drop)
    }

    fn claim_revoke(&mut self, claim: ClaimId, at: UnixMs) -> TxResult<()> {
        self.change(rows::CLAIM_REVOKE, (at.0, claim.0)).map(drop)
    }

    fn certificate_end(&mut self, device: DeviceKey, serial_hex: &str) -> TxResult<Option<UnixMs>> {
        self.row(rows::CERTIFICATE_END, (device.0, serial_hex), rows::first)
    }

    fn certificates_since(&mut self, device: DeviceKey, since: UnixMs) -> TxResult<u32> {
        self.only(rows::CERTIFICATES_SINCE, (device.0, since.0), |row| rows::number(row, 0))
    }

    fn certificates_supersede(
        &mut self,
        device: DeviceKey,
        spared_hex: &str,
        keep: u32,
        at: UnixMs,
    ) -> TxResult<Vec<String>> {
        let values = (at.0, device.0, spared_hex, device.0, spared_hex, keep);
        self.rows(rows::CERTIFICATES_SUPERSEDE, values, rows::first)
    }
}
