//! Operations on the coming and going of devices. What is told of it is noted
//! as an event of the device, too.

use std::sync::Arc;

use crate::audit::AuditEntry;
use crate::device::{DeviceIdentity, Presence};
use crate::error::Result;
use crate::event::{EventKey, EventToStore, EventTold, OFFLINE_TYPE_CODE, ONLINE_TYPE_CODE};
use crate::id::UnixMs;
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};
use crate::presence::Reason;

/// Remembers that a device connected or went. Answers whether that was news:
/// of several servers that are told of the same connection, one is first.
pub struct PresencePut {
    /// The device.
    pub device: DeviceIdentity,
    /// Its presence now.
    pub presence: Presence,
}

impl Operation for PresencePut {
    type Output = bool;

    fn turn(&self) -> Turn {
        Turn::Org(self.device.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<bool, Abort> {
        let Self { device, presence } = self;
        if !tx.presence_put(device.device, presence)? {
            return Ok(false);
        }
        let mut told = tx.presence_told(device.device)?;
        let (before, now) = (told, tx.now());
        if told.changed(presence.online, now) {
            // It connected while it was connected: the connection before has ended.
            if presence.online && before.online && before.due.is_none() {
                note(tx, device, false, Reason::TakenOver, now)?;
                note(tx, device, true, presence.reason, now)?;
            } else if presence.online != before.online {
                note(tx, device, presence.online, presence.reason, now)?;
            }
        }
        tx.presence_told_put(device.device, &told)?;
        Ok(true)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Forgets connections that a server held when it ran last; a bounded number.
/// It is told later, and only of devices that did not come back. Answers how many.
pub struct PresenceClear {
    /// The server's name.
    pub server: String,
    /// How many at most.
    pub limit: u32,
}

impl Operation for PresenceClear {
    type Output = usize;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<usize, Abort> {
        let now = tx.now();
        let held = tx.presences_of_server_of_every_org(&self.server, self.limit)?;
        for (device, was) in &held {
            let presence =
                Presence { online: false, checked_at: now, reason: Reason::Unknown, ..was.clone() };
            tx.presence_put(device.device, &presence)?;
            let mut told = tx.presence_told(device.device)?;
            told.later(now);
            tx.presence_told_put(device.device, &told)?;
        }
        Ok(held.len())
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Tells of devices of which something is to be told now; of a bounded number.
/// Answers of how many.
pub struct PresenceSweep {
    /// How many at most.
    pub limit: u32,
}

impl Operation for PresenceSweep {
    type Output = usize;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<usize, Abort> {
        let due = tx.presences_due_of_every_org(self.limit)?;
        for (device, presence) in &due {
            let mut told = tx.presence_told(device.device)?;
            if told.settle(presence.online) {
                let connected = presence.connected_at.filter(|_| presence.online);
                let changed = connected.unwrap_or(presence.checked_at).min(tx.now());
                note(tx, device, presence.online, presence.reason, changed)?;
            }
            tx.presence_told_put(device.device, &told)?;
        }
        Ok(due.len())
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Notes that a device came or went, at an instant that may be past.
fn note(
    tx: &mut dyn Transaction,
    device: &DeviceIdentity,
    online: bool,
    reason: Reason,
    at: UnixMs,
) -> Result<(), Abort> {
    let reason = if online { Reason::Connected } else { reason };
    let event = EventToStore {
        type_code: if online { ONLINE_TYPE_CODE } else { OFFLINE_TYPE_CODE },
        key: EventKey { dev_event_id: 0, dev_timestamp: at },
        correlation: None,
        // Neither has a character that JSON would write in another way.
        payload: Arc::from(format!(r#"{{"online":{online},"reason":"{}"}}"#, reason.name())),
        told: EventTold::Presence { online, reason },
    };
    // Without a number it is like no other.
    tx.event_insert(device, &event)?;
    Ok(())
}
