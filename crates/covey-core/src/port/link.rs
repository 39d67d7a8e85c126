//! The port to the devices that are connected.

use std::sync::Arc;

use crate::id::{OrgId, Sn};
use crate::named::named;
use crate::node::NodeName;
use crate::port::BoxFuture;
use crate::task::Task;

/// A task that is to be announced.
pub type Announcement = Arc<Task>;

/// Where a device listens for announcements, as this server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// At this server, and at no other.
    Here,
    /// Not at this server: at another one, or not at all.
    Elsewhere,
    /// At a broker that every server of the deployment reaches.
    Everywhere,
}

named! {
    /// Whether messages can go both ways over a link.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum LinkStatus {
        /// They can.
        Up => "up",
        /// The broker is there and does not let this server do its work at present.
        Blocked => "blocked",
        /// The broker is out of reach; the link goes on trying.
        Down => "down",
    }
}

impl LinkStatus {
    /// Why it is not up, in words that anyone may read: the log has the details.
    #[must_use]
    pub const fn why(self) -> Option<&'static str> {
        match self {
            Self::Up => None,
            Self::Blocked => Some("the broker refuses messages or subscriptions of this server"),
            Self::Down => Some("no connection to the broker"),
        }
    }
}

/// How a link is, for those who watch over the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// How it is at this moment.
    pub status: LinkStatus,
    /// Whether the server can be said to do its work over it: it is up, or it was up and
    /// has been away no longer than a restart of the broker takes.
    pub is_ready: bool,
}

impl LinkState {
    /// A link that needs nobody outside of the process.
    pub const UP: Self = Self { status: LinkStatus::Up, is_ready: true };
}

/// A way to devices. [`announce`](Self::announce), [`revoke`](Self::revoke), [`revoke_certificate`](Self::revoke_certificate), [`admit`](Self::admit)
/// and [`node_changed`](Self::node_changed) are called from a thread of the store, outside
/// any runtime, between a commit and the answers to it: they must not block,
/// and must not panic. A message to a device that has just gone is dropped,
/// because the store still knows what it was about and the device is told
/// again when it connects.
pub trait Link: Send + Sync + 'static {
    /// The link's name: differs between any two links of a server. A link
    /// gives it when it says that a device listens.
    fn name(&self) -> &'static str;

    /// Whether every server of the deployment reaches the devices of this
    /// link, as with a broker that they share.
    fn is_shared(&self) -> bool;

    /// Tells a device that a task is waiting (`tsk`).
    fn announce(&self, task: Announcement);

    /// Closes a device's connection because it is no longer authorised.
    fn revoke(&self, sn: &Sn);

    /// Closes a device's connection if this certificate has let it in, or may have: one that is let in by another comes
    /// again. Where nobody is let in by a certificate there is nothing to do.
    fn revoke_certificate(&self, _sn: &Sn, _serial_hex: &str) {}

    /// Makes it possible for a device that was just registered to connect:
    /// begins at once, and the future ends when that is done. A link that
    /// cannot do so now says so in the log and goes on trying, whether or not
    /// anybody waits: the device is registered all the same, and a key that
    /// was made for it is told only once.
    fn admit(&self, sn: &Sn) -> BoxFuture<'static, ()>;

    /// For a gateway: what it would be told of the node of this name may have changed, so it asks again
    /// ([`node_admit`](crate::ForServer::node_admit)). Where the name is that of an address, it asks for each passing
    /// node that comes from there.
    fn node_changed(&self, _org: OrgId, _name: &NodeName) {}

    /// Whether no message to devices can leave now, so that new tasks would
    /// only pile up.
    fn is_blocked(&self) -> bool {
        false
    }

    /// How the link is. Asking costs nothing.
    fn state(&self) -> LinkState {
        LinkState::UP
    }

    /// What the link has counted since it began, each with its name: for those who watch. Asking costs nothing.
    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// What keeps the link from being up, with addresses and what the broker said: for the
    /// operator alone. None while nothing has failed.
    fn problem(&self) -> Option<String> {
        None
    }

    /// How many milliseconds the clock of the broker is ahead of that of this machine, and how exactly that is known, in
    /// milliseconds. None where the broker says nothing of it.
    fn clock_ahead_ms(&self) -> Option<(i64, i64)> {
        None
    }
}
