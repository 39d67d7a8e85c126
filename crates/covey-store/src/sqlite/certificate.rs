//! Certificates of devices.

use covey_core::access::{Caller, EndedKey};
use covey_core::certificate::{
    Certificate, CertificateFilter, CertificatePage, CertificateReader, CertificateState, CertificateSteps,
    Revocation, RevocationReason, RevokedCertificate, RevokedCount, RevokedOf,
};
use covey_core::id::{DeviceKey, OrgId, UnixMs};
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn, TxResult};
use rusqlite::Connection;

use crate::rows::{self, ListColumns, ListScope};
use crate::sqlite::Sqlite;
use crate::sqlite::conditions::Conditions;
use crate::sqlite::statement::Ask;
use crate::sqlite::transaction::SqliteTransaction;

impl CertificateReader for Sqlite {
    fn certificate_list(
        &self,
        caller: &Caller,
        filter: CertificateFilter,
        now: UnixMs,
        page: PageRequest,
    ) -> Found<'_, CertificatePage> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::DEVICES));
        self.read(ReadKind::of_certificates(&filter), Turn::Org(org), move |connection| {
            certificate_page(connection, org, scope.as_ref(), &filter, now, page)
        })
    }

    fn certificates_known_of_every_org(
        &self,
        serials_hex: Vec<String>,
    ) -> Found<'_, Vec<(String, Option<Revocation>)>> {
        self.read(ReadKind::CertificatesKnown, Turn::Server, move |connection| {
            let sql = "SELECT serial, revoked_at, reason FROM certificates WHERE serial = ?1";
            let mut known = Vec::new();
            for serial_hex in &serials_hex {
                known.extend(connection.rows(sql, [serial_hex], rows::certificate_known)?);
            }
            Ok(known)
        })
    }

    fn revoked_count_of_every_org(&self, ending_from: UnixMs) -> Found<'_, RevokedCount> {
        let (kind, values) = (ReadKind::RevokedCount, [ending_from.0]);
        let found = self.row(kind, Turn::Server, rows::REVOKED_COUNT, values, rows::revoked_count);
        Box::pin(async move { Ok(found.await?.unwrap_or_default()) })
    }

    fn revoked_of_every_org(
        &self,
        (after, serial_hex): (UnixMs, String),
        ending_from: UnixMs,
        of: RevokedOf,
        limit: u32,
    ) -> Found<'_, Vec<RevokedCertificate>> {
        let values = (after.0, serial_hex, ending_from.0, of == RevokedOf::Every, limit);
        self.rows(ReadKind::RevokedList, Turn::Server, rows::REVOKED, values, rows::revoked_certificate)
    }
}

fn certificate_page(
    connection: &Connection,
    org: OrgId,
    scope: Option<&ListScope>,
    filter: &CertificateFilter,
    now: UnixMs,
    page: PageRequest,
) -> rusqlite::Result<CertificatePage> {
    let mut conditions = Conditions::default();
    conditions.add("c.org_id = ?", org.0);
    conditions.add_scope(scope);
    conditions.add_if("d.device_id = ?", filter.device_id);
    conditions.add_if("d.sn = ?", filter.sn.clone());
    conditions.add_if("c.serial = ?", filter.serial_hex.clone());
    conditions.add_if("c.not_after < ?", filter.expires_before.map(|at| at.0));
    match filter.state {
        None => {}
        Some(CertificateState::Revoked) => conditions.add("(c.revoked_at IS NOT NULL) = ?", true),
        Some(CertificateState::Expired) => conditions.add("c.revoked_at IS NULL AND c.not_after < ?", now.0),
        Some(CertificateState::Valid) => conditions.add("c.revoked_at IS NULL AND c.not_after >= ?", now.0),
    }
    let clause = conditions.clause();
    let from = rows::certificates!();
    let snapshot = connection.unchecked_transaction()?;
    let total = conditions.total(&snapshot, &format!("SELECT count(*) FROM {from} WHERE {clause}"))?;
    let sql = format!(
        "SELECT {} FROM {from} WHERE {clause} ORDER BY {} LIMIT {} OFFSET {}",
        rows::certificate_columns!(),
        rows::certificate_order!(),
        page.size,
        page.offset()
    );
    Ok(Page { items: conditions.rows(&snapshot, &sql, rows::certificate)?, total, is_cut: false })
}

impl CertificateSteps for SqliteTransaction<'_> {
    fn certificate(&mut self, org: OrgId, serial_hex: &str) -> TxResult<Option<Certificate>> {
        let sql = concat!(
            "SELECT ",
            rows::certificate_columns!(),
            " FROM ",
            rows::certificates!(),
            " WHERE c.org_id = ?1 AND c.serial = ?2 ORDER BY ",
            rows::certificate_order!(),
            " LIMIT 1"
        );
        self.row(sql, (org.0, serial_hex), rows::certificate)
    }

    fn certificate_revoke(
        &mut self,
        device: DeviceKey,
        serial_hex: &str,
        reason: RevocationReason,
    ) -> TxResult<Vec<EndedKey>> {
        let sql = "UPDATE api_keys SET revoked_at = ?2, digest = randomblob(32) WHERE revoked_at IS NULL \
             AND certificate_serial = ?1 RETURNING id, org_id, name";
        let ended = self.rows(sql, (serial_hex, self.now.0), rows::ended_key)?;
        let values = (self.now.0, reason as i64, serial_hex, device.0);
        self.change(rows::CERTIFICATE_REVOKE, values)?;
        Ok(ended)
    }

    fn certificate_renewed_from(
        &mut self,
        device: DeviceKey,
        serial_hex: &str,
        shown_hex: &str,
    ) -> TxResult<()> {
        self.change(rows::CERTIFICATE_RENEWED_FROM, (shown_hex, device.0, serial_hex)).map(drop)
    }

    fn certificates_renewed_from(
        &mut self,
        device: DeviceKey,
        shown_hex: &str,
        limit: u32,
    ) -> TxResult<Vec<String>> {
        let values = (shown_hex, device.0, device.0, device.0, shown_hex, limit);
        self.rows(rows::CERTIFICATES_RENEWED_FROM, values, rows::first)
    }

    fn certificates_unrevoked(&mut self, device: DeviceKey, limit: u32) -> TxResult<Vec<String>> {
        self.rows(rows::CERTIFICATES_UNREVOKED, (device.0, limit), rows::first)
    }
}
