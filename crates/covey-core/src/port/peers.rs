//! The port to the other servers of the same deployment.

use crate::id::{DeviceKey, OrgId, Sn, TaskId};
use crate::node::NodeName;

/// What one server tells the others after a commit. Any of it may be lost or
/// come twice: all of it follows from what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// A task of this device became open, and the device does not listen here.
    Opened(DeviceKey),
    /// A task was announced to a device that all servers reach.
    Announced(DeviceKey, TaskId),
    /// A task was taken or became final: its announcement is answered.
    Answered(DeviceKey, TaskId),
    /// A task became final.
    Finished(TaskId),
    /// Records were written.
    Recorded,
    /// A device is no longer authorised.
    Revoked(Sn),
    /// A certificate of a device was revoked: of this serial number, in lower-case hexadecimal digits.
    RevokedCertificate(Sn, String),
    /// A gateway may get another answer for the node of this name.
    NodeChanged(OrgId, NodeName),
}

/// What comes from the other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromPeers {
    /// What they told.
    Messages(Vec<PeerMessage>),
    /// Something may have been missed: look at everything.
    Gap,
}

/// The way to the other servers. Called between a commit and its answers, like
/// [`super::Link`]: it must not block, and must not panic.
pub trait Peers: Send + Sync + 'static {
    /// Tells all others.
    fn broadcast(&self, message: PeerMessage);
}

/// A server that is alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn broadcast(&self, _: PeerMessage) {}
}
