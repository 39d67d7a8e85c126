//! What is kept of devices' sessions.

use covey_core::device_session::{Admission, SessionContent, SessionReader, SessionSteps};
use covey_core::id::{DeviceKey, Sn};
use covey_core::port::{Found, ReadKind, Turn, TxResult};

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::transaction::SqliteTransaction;

impl SessionReader for Sqlite {
    fn session_of_certificate_of_every_org(
        &self,
        sn: Sn,
        serial_hex: String,
    ) -> Found<'_, Option<Admission>> {
        let (kind, values) = (ReadKind::SessionOfCertificate, (serial_hex, sn.as_str().to_owned()));
        self.row(kind, Turn::Server, rows::SESSION_OF_CERTIFICATE, values, rows::admission)
    }
}

impl SessionSteps for SqliteTransaction<'_> {
    fn session_put(
        &mut self,
        device: DeviceKey,
        before: i64,
        content: &SessionContent,
    ) -> TxResult<Option<i64>> {
        self.row(
            "INSERT INTO device_sessions (device_key, org_id, revision, expiry_s, subscriptions) \
             SELECT id, org_id, ?2 + 1, ?3, ?4 FROM devices WHERE id = ?1 AND retired_at IS NULL \
             AND (?2 = 0 OR EXISTS (SELECT 1 FROM device_sessions WHERE device_key = ?1)) \
             ON CONFLICT DO UPDATE SET revision = excluded.revision, expiry_s = excluded.expiry_s, \
             subscriptions = excluded.subscriptions WHERE revision = ?2 RETURNING revision",
            (device.0, before, content.expiry_s, rows::subscriptions_text(content)),
            rows::first,
        )
    }

    fn session_remove(&mut self, device: DeviceKey) -> TxResult<()> {
        self.change(rows::SESSION_REMOVE, [device.0]).map(drop)
    }
}
