//! Reads of presence.

use covey_core::device::DeviceIdentity;
use covey_core::error::Result;
use covey_core::id::{DeviceKey, UnixMs};
use covey_core::port::BoxFuture;
use covey_core::presence::PresenceReader;

use crate::postgres::Postgres;
use crate::postgres::reader::Values;
use crate::rows::{self};

impl PresenceReader for Postgres {
    fn presence_online_of_every_org(
        &self,
        after: DeviceKey,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(DeviceIdentity, String)>>> {
        let values: Values = vec![Box::new(after.0), Box::new(i64::from(limit))];
        self.rows(|sql| &sql.presence.presence_online, values, rows::online)
    }

    fn presence_due_of_every_org(&self, now: UnixMs) -> BoxFuture<'_, Result<bool>> {
        let found = self.row(|sql| &sql.presence.presence_due, vec![Box::new(now.0)], rows::first);
        Box::pin(async move { Ok(found.await?.unwrap_or(false)) })
    }
}
