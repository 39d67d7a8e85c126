//! Limits of organisations and keys. Steps on them are rare, so each is a statement of its own.

use covey_core::own_limits::{LimitHolder, LimitsReader, LimitsStamp, LimitsSteps, OwnLimits};
use covey_core::port::{Found, ReadKind, Turn, TxResult};

use crate::postgres::Postgres;
use crate::postgres::pipeline::values;
use crate::postgres::prepared::prepared;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Limits of a holder.
        own_limits: rows::OWN_LIMITS;
        /// Sets them.
        own_limits_put: rows::OWN_LIMITS_PUT;
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// Limits of a holder.
        own_limits: rows::OWN_LIMITS;
        /// What is another one after any change.
        own_limits_stamp: rows::OWN_LIMITS_STAMP;
        /// All limits.
        own_limits_list: rows::OWN_LIMITS_LIST;
    }
}

fn small(kind: i64) -> i16 {
    // It is 0 or 1.
    i16::try_from(kind).unwrap_or(0)
}

impl LimitsReader for Postgres {
    fn limits_of_every_org(&self, holder: LimitHolder) -> Found<'_, OwnLimits> {
        let (kind, id) = rows::limit_holder(holder);
        let values = values![small(kind), id];
        let found = self.row(
            ReadKind::Limits,
            Turn::Server,
            |sql| &sql.own_limits.own_limits,
            values,
            rows::own_limits,
        );
        Box::pin(async move { Ok(found.await?.unwrap_or_default()) })
    }

    fn limits_stamp_of_every_org(&self) -> Found<'_, LimitsStamp> {
        let found = self.row(
            ReadKind::Limits,
            Turn::Server,
            |sql| &sql.own_limits.own_limits_stamp,
            Vec::new(),
            rows::limits_stamp,
        );
        Box::pin(async move { Ok(found.await?.unwrap_or_default()) })
    }

    fn limits_list_of_every_org(&self) -> Found<'_, Vec<(LimitHolder, OwnLimits)>> {
        self.rows(
            ReadKind::Limits,
            Turn::Server,
            |sql| &sql.own_limits.own_limits_list,
            Vec::new(),
            rows::limits_of_holder,
        )
    }
}

impl LimitsSteps for PostgresTransaction<'_> {
    fn limits(&mut self, holder: LimitHolder) -> TxResult<OwnLimits> {
        let (kind, id) = rows::limit_holder(holder);
        let found =
            self.ask_first(|sql| &sql.own_limits.own_limits, values![small(kind), id], rows::own_limits)?;
        Ok(found.unwrap_or_default())
    }

    fn limits_put(&mut self, holder: LimitHolder, limits: &OwnLimits) -> TxResult<()> {
        let (kind, id) = rows::limit_holder(holder);
        let values = values![small(kind), id, limits.text(), self.now.0];
        self.write(|sql| &sql.own_limits.own_limits_put, values).map(drop)
    }
}
