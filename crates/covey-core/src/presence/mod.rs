//! When a device's coming and going is told: at once, but not again and again
//! of one that comes and goes all the time.

mod calls;
mod operation;
mod port;

pub use operation::{PresenceClear, PresencePut, PresenceSweep};
pub use port::{PresenceReader, PresenceSteps};

use crate::device::DeviceIdentity;
use crate::id::UnixMs;
use crate::named::named;

/// A device that was last seen connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineDevice {
    /// The device.
    pub device: DeviceIdentity,
    /// The session, as its link calls it.
    pub session: String,
    /// The server that holds the connection; empty where a broker does.
    pub server: String,
    /// More about the connection, by name.
    pub details: Vec<(String, String)>,
}

named! {
    /// Why a device went, or what its coming ended.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub enum Reason {
        /// It connected.
        #[default]
        Connected => "connected",
        /// It said goodbye.
        Clean => "clean",
        /// It was not heard of for longer than its keep-alive.
        KeepAlive => "keep_alive",
        /// Another connection of the same device took the place of this one.
        TakenOver => "taken_over",
        /// It is no longer authorised.
        Revoked => "revoked",
        /// The connection broke.
        Lost => "lost",
        /// It broke the rules of the protocol, or reached a limit.
        Violation => "violation",
        /// The server or broker that held the connection ended, or cannot tell.
        Unknown => "unknown",
    }
}

/// How long changes are counted together, in milliseconds.
pub const WINDOW_MS: i64 = 60_000;
/// How many changes of a device's presence are told at once in a minute.
/// Limit for each device: told when it has been quiet for a while.
pub const WINDOW_CHANGES_MAX: u32 = 10;
/// How long a device that has changed more often must stay as it is before that
/// is told, in milliseconds.
pub const QUIET_MS: i64 = 10_000;

/// What was told of a device's coming and going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceTold {
    /// Whether it is connected, as last told.
    pub online: bool,
    /// How many changes there were since the window began.
    pub changes: u32,
    /// When the window began.
    pub since: UnixMs,
    /// When what is not told yet is to be told.
    pub due: Option<UnixMs>,
}

impl PresenceTold {
    /// The device has changed. Answers whether that is told now; if not, it is
    /// told once the device has stayed as it is.
    pub fn changed(&mut self, online: bool, now: UnixMs) -> bool {
        if !(0..WINDOW_MS).contains(&now.since_ms(self.since)) {
            self.since = now;
            self.changes = 0;
        }
        self.changes = self.changes.saturating_add(1);
        if self.changes > WINDOW_CHANGES_MAX {
            self.due = Some(now.plus_ms(QUIET_MS));
            return false;
        }
        self.online = online;
        self.due = None;
        true
    }

    /// It is to be told later, unless the device has changed back by then.
    pub fn later(&mut self, now: UnixMs) {
        self.due = Some(now.plus_ms(QUIET_MS));
    }

    /// The time has come. Answers whether there is anything to tell of a device
    /// that is now so.
    pub fn settle(&mut self, online: bool) -> bool {
        self.due = None;
        std::mem::replace(&mut self.online, online) != online
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However often a device comes and goes, what was told last is what is
        /// so, once it has been quiet; and no window tells more than its bound.
        #[test]
        fn what_is_told_is_bounded_and_true_in_the_end(
            changes in proptest::collection::vec((any::<bool>(), 0..30_000_i64), 1..200)
        ) {
            let mut told = PresenceTold::default();
            let (mut now, mut heard) = (UnixMs(1_000_000), false);
            let mut instants: Vec<UnixMs> = Vec::new();
            let mut is_online = false;
            for (online, pause_ms) in changes {
                let next = now.plus_ms(pause_ms);
                if let Some(due) = told.due.filter(|due| *due <= next)
                    && told.settle(is_online)
                {
                    heard = is_online;
                    instants.push(due);
                }
                now = next;
                is_online = online;
                if told.changed(online, now) {
                    heard = online;
                    instants.push(now);
                }
            }
            if told.due.is_some() && told.settle(is_online) {
                heard = is_online;
            }
            prop_assert_eq!(heard, is_online);
            for (place, first) in instants.iter().enumerate() {
                let within = instants[place..].iter().take_while(|at| at.since_ms(*first) < WINDOW_MS).count();
                // Two windows may touch, and each may end with one that waited.
                prop_assert!(within <= 2 * (WINDOW_CHANGES_MAX as usize + 1), "{}", within);
            }
        }
    }
}
