//! What operations ask the store of the coming and going of devices.

use crate::device::{DeviceIdentity, Presence};
use crate::id::{DeviceKey, UnixMs};
use crate::port::{Found, TxResult};
use crate::presence::{OnlineDevice, PresenceTold};

/// The steps on presence inside a transaction.
pub trait PresenceSteps {
    /// Sets a device's presence; answers whether it changed it. A connection
    /// that ended changes nothing once another session has taken its place.
    fn presence_put(&mut self, device: DeviceKey, presence: &Presence) -> TxResult<bool>;
    /// What was told of a device's coming and going.
    fn presence_told(&mut self, device: DeviceKey) -> TxResult<PresenceTold>;
    /// Remembers what was told of a device that has a presence.
    fn presence_told_put(&mut self, device: DeviceKey, told: &PresenceTold) -> TxResult<()>;
    /// Devices of any organisation of which something is to be told now.
    fn presences_due_of_every_org(&mut self, limit: u32) -> TxResult<Vec<(DeviceIdentity, Presence)>>;
    /// Devices of any organisation that this server holds, as was stored last.
    fn presences_of_server_of_every_org(
        &mut self,
        server: &str,
        limit: u32,
    ) -> TxResult<Vec<(DeviceIdentity, Presence)>>;
}

/// The reads of presence.
pub trait PresenceReader {
    /// The devices that were last seen connected, in the order of their keys,
    /// those after `after`.
    fn presence_online_of_every_org(&self, after: DeviceKey, limit: u32) -> Found<'_, Vec<OnlineDevice>>;

    /// Whether anything is to be told now of devices of any organisation.
    fn presence_due_of_every_org(&self, now: UnixMs) -> Found<'_, bool>;
}
