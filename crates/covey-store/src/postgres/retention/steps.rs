//! For how long organisations keep things.

use covey_core::id::OrgId;
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use covey_core::retention::{OrgRetention, RetentionClass, RetentionReader, RetentionSteps};

use crate::postgres::Postgres;
use crate::postgres::pipeline::values;
use crate::postgres::prepared::prepared;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// For how many days an organisation keeps something.
        retention_put: rows::RETENTION_PUT;
        /// It keeps it as long as all others.
        retention_remove: rows::RETENTION_REMOVE;
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// What organisations keep for a time of their own.
        retention: rows::RETENTION;
    }
}

impl RetentionReader for Postgres {
    fn retention_of_every_org(&self) -> Found<'_, Vec<OrgRetention>> {
        let found = self.rows(
            ReadKind::Retention,
            Turn::Server,
            |sql| &sql.retention.retention,
            Vec::new(),
            rows::org_retention,
        );
        Box::pin(async move { Ok(found.await?.into_iter().flatten().collect()) })
    }
}

impl RetentionSteps for PostgresTransaction<'_> {
    fn retention_put(&mut self, org: OrgId, kept: RetentionClass, days: Option<u32>) -> TxResult<bool> {
        let written = match days {
            None => self.write(|sql| &sql.retention.retention_remove, values![org.0, kept.name()]),
            Some(days) => {
                let values = values![org.0, kept.name(), i64::from(days)];
                self.write(|sql| &sql.retention.retention_put, values)
            }
        };
        Ok(written? > 0)
    }
}
