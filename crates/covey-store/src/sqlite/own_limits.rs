//! Limits of organisations and keys.

use covey_core::own_limits::{LimitHolder, LimitsReader, LimitsStamp, LimitsSteps, OwnLimits};
use covey_core::port::{Found, ReadKind, Turn, TxResult};

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::statement::Ask;
use crate::sqlite::transaction::SqliteTransaction;

impl LimitsReader for Sqlite {
    fn limits_of_every_org(&self, holder: LimitHolder) -> Found<'_, OwnLimits> {
        self.read(ReadKind::Limits, Turn::Server, move |connection| {
            let found = connection.row(rows::OWN_LIMITS, rows::limit_holder(holder), rows::own_limits)?;
            Ok(found.unwrap_or_default())
        })
    }

    fn limits_stamp_of_every_org(&self) -> Found<'_, LimitsStamp> {
        self.read(ReadKind::Limits, Turn::Server, |connection| {
            connection.only(rows::OWN_LIMITS_STAMP, [], rows::limits_stamp)
        })
    }

    fn limits_list_of_every_org(&self) -> Found<'_, Vec<(LimitHolder, OwnLimits)>> {
        self.rows(ReadKind::Limits, Turn::Server, rows::OWN_LIMITS_LIST, [], rows::limits_of_holder)
    }
}

impl LimitsSteps for SqliteTransaction<'_> {
    fn limits(&mut self, holder: LimitHolder) -> TxResult<OwnLimits> {
        let found = self.row(rows::OWN_LIMITS, rows::limit_holder(holder), rows::own_limits)?;
        Ok(found.unwrap_or_default())
    }

    fn limits_put(&mut self, holder: LimitHolder, limits: &OwnLimits) -> TxResult<()> {
        let (kind, id) = rows::limit_holder(holder);
        self.change(rows::OWN_LIMITS_PUT, (kind, id, limits.text(), self.now.0)).map(drop)
    }
}
