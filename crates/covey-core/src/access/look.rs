//! Looking at the device that somebody asks about who has a right for some devices alone. Whoever has it for the whole
//! organisation costs no look.

use crate::access::{Caller, Matter, Rights};
use crate::device::TagsOf;
use crate::engine::ForCaller;
use crate::error::Result;
use crate::id::DeviceKey;
use crate::operation::Abort;
use crate::port::Transaction;

impl ForCaller<'_> {
    /// Demands a right on a matter of a device, outside of a transaction.
    ///
    /// # Errors
    /// As of [`Caller::demand`], or the store's.
    pub(crate) async fn demand(
        self,
        right: Rights,
        device: TagsOf,
        matter: Matter<'_>,
        what: &'static str,
    ) -> Result<()> {
        if !self.caller.is_bound(right) {
            return Ok(());
        }
        let tags = self.engine.parts.store.device_tags(self.caller, device).await?;
        self.caller.demand(right, &tags, matter, what)
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
