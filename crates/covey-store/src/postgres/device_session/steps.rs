//! Steps on devices' sessions.

use covey_core::device_session::{SessionContent, SessionSteps};
use covey_core::id::DeviceKey;
use covey_core::port::TxResult;

use crate::postgres::pipeline::values;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

impl SessionSteps for PostgresTransaction<'_> {
    fn session_put(
        &mut self,
        device: DeviceKey,
        before: i64,
        content: &SessionContent,
    ) -> TxResult<Option<i64>> {
        let values =
            values![device.0, before, i64::from(content.expiry_s), rows::subscriptions_text(content)];
        self.has_written = true;
        let rows = self.ask_beside(self.query(|sql| &sql.device_session.session_put, values))?;
        self.first(&rows, rows::first)
    }

    fn session_remove(&mut self, device: DeviceKey) -> TxResult<()> {
        self.write(|sql| &sql.device_session.session_remove, values![device.0]).map(drop)
    }
}
