//! What links ask of devices' sessions.

use crate::device::DeviceIdentity;
use crate::device_session::{Admission, SessionContent, SessionPut, StoredSession};
use crate::engine::{ForDevice, ForServer};
use crate::error::Result;
use crate::id::Sn;

impl ForServer<'_> {
    /// Whether the holder of a certificate may connect, as whom, and what was kept of its session.
    ///
    /// # Errors
    /// The store's.
    pub async fn session_admit(self, sn: &Sn, serial_hex: &str) -> Result<Option<Admission>> {
        self.engine.parts.store.session_of_certificate_of_every_org(sn.clone(), serial_hex.to_owned()).await
    }

    /// Whether the time to come back is over for the device of a session.
    #[must_use]
    pub fn session_is_over(self, session: &StoredSession) -> bool {
        session.is_over(self.engine.now())
    }
}

impl ForDevice<'_> {
    /// Keeps what the device's session is now. Answers its new revision after the commit; none if its revision
    /// is not `before` any more, or the device was retired.
    ///
    /// # Errors
    /// More than a session may have, or the store's.
    pub async fn session_put(self, before: i64, content: SessionContent) -> Result<Option<i64>> {
        content.validate()?;
        let DeviceIdentity { org, device, .. } = *self.device;
        self.engine.execute(SessionPut { org, device, before, content }).await
    }
}
