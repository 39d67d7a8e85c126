//! Operations on what is kept of devices' sessions.

use crate::audit::AuditEntry;
use crate::device_session::SessionContent;
use crate::id::{DeviceKey, OrgId};
use crate::operation::{Abort, Operation};
use crate::port::{Transaction, Turn};

/// Keeps what a device's session is now. Answers its new revision; none if somebody else, such as another
/// server, has kept something since, or the device was retired: then nothing is changed.
pub struct SessionPut {
    /// The device's organisation.
    pub org: OrgId,
    /// The device.
    pub device: DeviceKey,
    /// The revision that this follows; 0 if none was ever kept.
    pub before: i64,
    /// The session.
    pub content: SessionContent,
}

impl Operation for SessionPut {
    type Output = Option<i64>;

    fn turn(&self) -> Turn {
        Turn::Org(self.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Option<i64>, Abort> {
        Ok(tx.session_put(self.device, self.before, &self.content)?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}
