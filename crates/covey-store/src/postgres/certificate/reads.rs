//! Reads of certificates.

use covey_core::access::Caller;
use covey_core::certificate::{
    CertificateFilter, CertificatePage, CertificateReader, CertificateState, Revocation, RevokedCertificate,
    RevokedCount, RevokedOf,
};
use covey_core::id::{OrgId, UnixMs};
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn};

use crate::postgres::Postgres;
use crate::postgres::lists::{Conditions, page};
use crate::postgres::pipeline::values;
use crate::postgres::pool::ReadSession;
use crate::rows::{self, ListColumns, ListScope, Read};

impl CertificateReader for Postgres {
    fn certificate_list(
        &self,
        caller: &Caller,
        filter: CertificateFilter,
        now: UnixMs,
        page: PageRequest,
    ) -> Found<'_, CertificatePage> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::DEVICES));
        self.reads.read(ReadKind::of_certificates(&filter), Turn::Org(org), move |session| {
            let (filter, scope) = (filter.clone(), scope.clone());
            Box::pin(async move { certificate_page(session, org, scope.as_ref(), &filter, now, page).await })
        })
    }

    fn certificates_known_of_every_org(
        &self,
        serials_hex: Vec<String>,
    ) -> Found<'_, Vec<(String, Option<Revocation>)>> {
        self.rows(
            ReadKind::CertificatesKnown,
            Turn::Server,
            |sql| &sql.certificate.certificates_known,
            values![serials_hex],
            rows::certificate_known,
        )
    }

    fn revoked_count_of_every_org(&self, ending_from: UnixMs) -> Found<'_, RevokedCount> {
        let found = self.row(
            ReadKind::RevokedCount,
            Turn::Server,
            |sql| &sql.certificate.revoked_count,
            values![ending_from.0],
            rows::revoked_count,
        );
        Box::pin(async move { Ok(found.await?.unwrap_or_default()) })
    }

    fn revoked_of_every_org(
        &self,
        (after, serial_hex): (UnixMs, String),
        ending_from: UnixMs,
        of: RevokedOf,
        limit: u32,
    ) -> Found<'_, Vec<RevokedCertificate>> {
        self.rows(
            ReadKind::RevokedList,
            Turn::Server,
            |sql| &sql.certificate.revoked,
            values![after.0, serial_hex, ending_from.0, of == RevokedOf::Every, i64::from(limit)],
            rows::revoked_certificate,
        )
    }
}

async fn certificate_page(
    session: &ReadSession,
    org: OrgId,
    scope: Option<&ListScope>,
    filter: &CertificateFilter,
    now: UnixMs,
    request: PageRequest,
) -> Read<CertificatePage> {
    let mut conditions = Conditions::default();
    conditions.number("c.org_id = #", Some(org.0));
    conditions.scope(scope);
    conditions.number("d.device_id = #", filter.device_id);
    conditions.text("d.sn = #", filter.sn.as_deref());
    conditions.text("c.serial = #", filter.serial_hex.as_deref());
    conditions.number("c.not_after < #", filter.expires_before.map(|at| at.0));
    match filter.state {
        None => {}
        Some(CertificateState::Revoked) => conditions.sql.push("c.revoked_at IS NOT NULL".to_owned()),
        Some(CertificateState::Expired) => {
            conditions.number("c.revoked_at IS NULL AND c.not_after < #", Some(now.0));
        }
        Some(CertificateState::Valid) => {
            conditions.number("c.revoked_at IS NULL AND c.not_after >= #", Some(now.0));
        }
    }
    if conditions.is_impossible {
        return Ok(Page { items: Vec::new(), total: 0, is_cut: false });
    }
    let (clause, from) = (conditions.clause(), rows::certificates!());
    let total = format!("SELECT count(*) FROM {from} WHERE {clause}");
    let items = format!(
        "SELECT {} FROM {from} WHERE {clause} ORDER BY {} LIMIT {} OFFSET {}",
        rows::certificate_columns!(),
        rows::certificate_order!(),
        request.size,
        request.offset()
    );
    let (total, found) = page(session, &conditions, &total, &items).await?;
    Ok(Page { items: rows::each(&found, rows::certificate)?, total, is_cut: false })
}
