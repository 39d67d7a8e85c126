//! The accounts of devices at the broker, kept in step with the registry over Mosquitto's dynamic
//! security.
//!
//! Without that plugin the broker lets every valid certificate in, and this server refuses what
//! an unregistered device sends.

mod keeper;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use covey_core::id::Sn;
use tokio::sync::{Notify, oneshot};

use crate::mqtt::dynamic_security::{Response, Responses};

pub(super) use keeper::Keeper;

/// How many orders may wait.
pub(super) const ORDERS_MAX: usize = 1024;
/// How many unregistered devices are remembered.
const INTRUDERS_MAX: usize = 4_096;

/// What is to be done about an account.
pub(super) enum Order {
    /// Make it, and say when it is there.
    Admit(Sn, oneshot::Sender<()>),
    /// Remove it, unless the device is registered again.
    Revoke(Sn),
    /// Close the connection of a device that has none.
    Expel(Sn),
}

/// What the [`Keeper`] shares with those who receive the broker's answers.
pub(super) struct Accounts {
    /// Whether the broker has the plugin.
    are_kept: AtomicBool,
    /// Numbers the messages of commands.
    numbers: AtomicU64,
    /// Who waits for an answer, by its correlation.
    waiting: Mutex<HashMap<String, oneshot::Sender<Vec<Response>>>>,
    audit: Notify,
    /// Connected devices that are not registered and still have to be disconnected.
    intruders: Mutex<HashSet<Sn>>,
}

impl Accounts {
    pub(super) fn new() -> Self {
        Self {
            are_kept: AtomicBool::new(false),
            numbers: AtomicU64::new(0),
            waiting: Mutex::default(),
            audit: Notify::new(),
            intruders: Mutex::default(),
        }
    }

    /// The broker is connected (again): its accounts may differ from the registry.
    pub(super) fn request_audit(&self) {
        self.audit.notify_one();
    }

    /// A device is connected that is not registered.
    pub(super) fn expel(&self, sn: Sn) {
        let mut intruders = self.intruders.lock().unwrap_or_else(PoisonError::into_inner);
        // A device that finds no room is met again with its next message.
        if self.are_kept.load(Ordering::Acquire) && intruders.len() < INTRUDERS_MAX {
            intruders.insert(sn);
        }
    }

    /// The next device to be disconnected.
    fn intruder(&self) -> Option<Sn> {
        let mut intruders = self.intruders.lock().unwrap_or_else(PoisonError::into_inner);
        let next = intruders.iter().next().cloned()?;
        intruders.take(&next)
    }

    /// Takes an answer of the broker, which may be another server's.
    pub(super) fn answered(&self, payload: &[u8]) {
        let Ok(Responses { responses }) = serde_json::from_slice::<Responses>(payload) else { return };
        let Some(correlation) = responses.iter().find_map(|response| response.correlation.clone()) else {
            return;
        };
        if let Some(waiting) = self.waiting().remove(&correlation) {
            let _ = waiting.send(responses);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Vec<Response>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
