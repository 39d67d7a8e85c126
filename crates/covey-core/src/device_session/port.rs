//! What operations and links ask the store of devices' sessions.

use crate::device_session::{Admission, SessionContent};
use crate::id::{DeviceKey, Sn};
use crate::port::{Found, TxResult};

/// The steps on sessions inside a transaction.
pub trait SessionSteps {
    /// Keeps what a device's session is now, if its revision is still `before` (0: none was ever kept).
    /// Answers its new revision; none if it has another, or the device is not registered any more.
    fn session_put(
        &mut self,
        device: DeviceKey,
        before: i64,
        content: &SessionContent,
    ) -> TxResult<Option<i64>>;
    /// Forgets a device's session.
    fn session_remove(&mut self, device: DeviceKey) -> TxResult<()>;
}

/// The reads of sessions.
pub trait SessionReader {
    /// Who a certificate belongs to, if it is one of ours that was not revoked, with the device's session.
    fn session_of_certificate_of_every_org(&self, sn: Sn, serial_hex: String)
    -> Found<'_, Option<Admission>>;
}
