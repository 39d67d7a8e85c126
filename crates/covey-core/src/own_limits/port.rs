//! What operations and the server ask the store of limits.

use crate::own_limits::{LimitHolder, OwnLimits};
use crate::port::{Found, TxResult};

/// The steps on limits inside a transaction.
pub trait LimitsSteps {
    /// The limits of an organisation's or key's own.
    fn limits(&mut self, holder: LimitHolder) -> TxResult<OwnLimits>;

    /// Sets them.
    fn limits_put(&mut self, holder: LimitHolder, limits: &OwnLimits) -> TxResult<()>;
}

/// What tells whether any limits have changed: how many holders there are, and a sum over when each was changed.
pub type LimitsStamp = (i64, i64);

/// The reads of limits.
pub trait LimitsReader {
    /// The limits of an organisation's or key's own.
    fn limits_of_every_org(&self, holder: LimitHolder) -> Found<'_, OwnLimits>;

    /// What is another one after any change.
    fn limits_stamp_of_every_org(&self) -> Found<'_, LimitsStamp>;

    /// All limits, but those of keys that were revoked.
    fn limits_list_of_every_org(&self) -> Found<'_, Vec<(LimitHolder, OwnLimits)>>;
}
