//! Looking at the device that somebody asks about who has a right for some devices alone. Whoever has it for the whole
//! organisation costs no look.

use crate::access::{Caller, Matter, Rights};
use crate::device::TagsOf;
use crate::engine::ForCaller;
use crate::error::{Error, Result};
use crate::id::DeviceKey;
use crate::operation::Abort;
use crate::port::Transaction;

impl ForCaller<'_> {
    /// Demands a right on a matter of a device, outside of a transaction. Answers the registration that was looked at,
    /// where one was: what is read then is to be of that one, since another may have had the same number.
    ///
    /// # Errors
    /// As of [`Caller::demand`], or the store's.
    pub(crate) async fn demand(
        self,
        right: Rights,
        device: TagsOf,
        matter: Matter<'_>,
        what: &'static str,
    ) -> Result<Option<DeviceKey>> {
        if !self.caller.is_bound(right) {
            return Ok(None);
        }
        let found = self.engine.parts.store.device_tags(self.caller, device).await?;
        let found = found.ok_or(Error::not_found(what))?;
        self.caller.demand(right, &found.tags, matter, what)?;
        Ok(Some(found.device))
    }
}

/// Demands a right on a matter of a device, inside of a transaction.
///
/// # Errors
/// As of [`Caller::demand`], or the storage's fault.
pub(crate) fn demand(
    tx: &mut dyn Transaction,
    caller: &Caller,
    right: Rights,
    device: DeviceKey,
    matter: Matter<'_>,
    what: &'static str,
) -> Result<(), Abort> {
    if !caller.is_bound(right) {
        return Ok(());
    }
    let tags = tx.device_tags(device)?;
    Ok(caller.demand(right, &tags, matter, what)?)
}
