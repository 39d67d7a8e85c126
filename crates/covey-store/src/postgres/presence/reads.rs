//! Reads of presence.

use covey_core::id::{DeviceKey, UnixMs};
use covey_core::port::{Found, ReadKind, Turn};
use covey_core::presence::{OnlineDevice, PresenceReader};

use crate::postgres::Postgres;
use crate::postgres::pipeline::values;
use crate::rows::{self};

impl PresenceReader for Postgres {
    fn presence_online_of_every_org(&self, after: DeviceKey, limit: u32) -> Found<'_, Vec<OnlineDevice>> {
        let values = values![after.0, i64::from(limit)];
        self.rows(
            ReadKind::PresenceOnline,
            Turn::Server,
            |sql| &sql.presence.presence_online,
            values,
            rows::online,
        )
    }

    fn presence_due_of_every_org(&self, now: UnixMs) -> Found<'_, bool> {
        let found = self.row(
            ReadKind::PresenceDue,
            Turn::Server,
            |sql| &sql.presence.presence_due,
            values![now.0],
            rows::first,
        );
        Box::pin(async move { Ok(found.await?.unwrap_or(false)) })
    }
}
