//! What lies in the server of answers that their clients did not take yet, and of bodies that are still
//! coming, in bytes: of each connection, and of all. Who lets answers lie is given no more; when all is more
//! than the server bears, connections are cut: those of strangers first, and of these and of the others the
//! largest first.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};

use crate::connection::Connection;
use crate::ended::Ended;

/// How much of one connection's answers may lie in the server, in bytes, before its next request waits.
/// Limit for each connection: its next request waits.
pub(crate) const CONNECTION_BYTES_MAX: usize = 1024 * 1024;

/// How much more than at the last look makes another look worth while: this part of what may be. What was cut takes a
/// moment to go, and a look goes through all connections.
const LOOK_PART: usize = 64;

/// What lies in the server of all answers.
pub(crate) struct Outgoing {
    bytes: AtomicUsize,
    bytes_max: usize,
    /// Beyond which it is looked what to cut.
    look_at: AtomicUsize,
    next: AtomicU64,
    connections: Mutex<HashMap<u64, Weak<Connection>>>,
}

#[cfg(test)]
impl Default for Outgoing {
    fn default() -> Self {
        Self::within(usize::MAX)
    }
}

impl Outgoing {
    /// Nothing yet; so many bytes may be before connections are cut.
    pub(crate) fn within(bytes_max: usize) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            bytes_max,
            look_at: AtomicUsize::new(bytes_max),
            next: AtomicU64::new(0),
            connections: Mutex::default(),
        }
    }

    /// How much that is now, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether it is more than may be.
    pub(crate) fn is_over(&self) -> bool {
        self.bytes() > self.bytes_max
    }

    /// Knows a connection from now on, until what is answered is dropped.
    pub(crate) fn enter(self: &Arc<Self>, connection: &Arc<Connection>) -> Entered {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.insert(number, Arc::downgrade(connection));
        Entered { answers: Arc::clone(self), number }
    }

    pub(crate) fn add(&self, bytes: usize) {
        let now = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if now > self.look_at.load(Ordering::Relaxed) {
            self.relieve();
            let next = self.bytes().saturating_add(self.bytes_max / LOOK_PART);
            self.look_at.store(next.max(self.bytes_max), Ordering::Relaxed);
        }
    }

    pub(crate) fn sub(&self, bytes: usize) {
        let now = self.bytes.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        if now <= self.bytes_max && self.look_at.load(Ordering::Relaxed) != self.bytes_max {
            self.look_at.store(self.bytes_max, Ordering::Relaxed);
        }
    }

    /// Cuts connections, until a sixteenth of what may be is free.
    fn relieve(&self) {
        let connections = match self.connections.try_lock() {
            Ok(connections) => connections,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody else is at it.
            Err(TryLockError::WouldBlock) => return,
        };
        let mut holding: Vec<(usize, Arc<Connection>)> = connections
            .values()
            .filter_map(Weak::upgrade)
            .map(|connection| (connection.held_bytes(), connection))
            .filter(|(bytes, _)| *bytes > 0)
            .collect();
        drop(connections);
        holding.sort_unstable_by_key(|(bytes, connection)| (connection.has_caller(), Reverse(*bytes)));
        // What was cut a moment ago is on its way out.
        let leaving: usize =
            holding.iter().filter(|(_, connection)| connection.is_cut()).map(|(bytes, _)| bytes).sum();
        let bearable = self.bytes_max - self.bytes_max / 16;
        let mut excess = self.bytes().saturating_sub(leaving).saturating_sub(bearable);
        let (mut count, mut freed) = (0_usize, 0_usize);
        for (bytes, connection) in holding.iter().filter(|(_, connection)| !connection.is_cut()) {
            if excess == 0 {
                break;
            }
            connection.cut(Ended::Unsent);
            excess = excess.saturating_sub(*bytes);
            (count, freed) = (count + 1, freed + bytes);
        }
        if count > 0 {
            tracing::info!(
                connections = count,
                bytes = freed,
                "cut connections that did not take their answers"
            );
        }
    }
}

/// A connection that is known.
pub(crate) struct Entered {
    answers: Arc<Outgoing>,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut connections = self.answers.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_shown_no_credential_is_cut_before_anybody_who_has() {
        let answers = Arc::new(Outgoing::within(1_600));
        let made = |bytes: usize, has_caller: bool| {
            let connection = Connection::new(true, true, None, Arc::clone(&answers));
            if has_caller {
                connection.called_by_somebody();
            }
            let entered = answers.enter(&connection);
            connection.charge(bytes);
            (connection, entered)
        };
        let callers = [made(600, true), made(500, true)];
        let strangers = [100, 200, 150, 140].map(|bytes| made(bytes, false));
        assert!(callers.iter().all(|(connection, _)| !connection.is_cut()));
        let cut: Vec<bool> = strangers.iter().map(|(connection, _)| connection.is_cut()).collect();
        assert_eq!(cut, [false, true, false, false]);
        // What is kept of bodies counts as well, and only strangers pay as long as there are some.
        callers[1].0.keep(310);
        assert!(strangers.iter().all(|(connection, _)| connection.is_cut()) && !callers[0].0.is_cut());
        callers[0].0.keep(200);
        assert_eq!((callers[0].0.is_cut(), callers[1].0.is_cut()), (false, true));
    }

    #[test]
    fn what_was_cut_and_has_not_gone_is_not_looked_for_with_each_byte() {
        let answers = Arc::new(Outgoing::within(64_000));
        let connection = Connection::new(true, true, None, Arc::clone(&answers));
        let _entered = answers.enter(&connection);
        connection.charge(64_001);
        assert!(connection.is_cut());
        let another = Connection::new(true, true, None, Arc::clone(&answers));
        let entered = answers.enter(&another);
        // Nobody looks, whoever has the list meanwhile.
        let held = answers.connections.lock();
        (0..999).for_each(|_| another.charge(1));
        assert_eq!(answers.look_at.load(Ordering::Relaxed), 65_001);
        drop(held);
        another.charge(2);
        assert_eq!(answers.look_at.load(Ordering::Relaxed), 66_002);
        connection.release(64_001);
        assert_eq!(
            answers.look_at.load(Ordering::Relaxed),
            64_000,
            "there is room: the next excess is looked at"
        );
        another.release(1_001);
        drop(entered);
    }

    #[tokio::test]
    async fn the_largest_are_cut_first_and_no_more_than_must_be() {
        let answers = Arc::new(Outgoing::within(1_600));
        let made = |bytes: usize| {
            let connection = Connection::new(true, true, None, Arc::clone(&answers));
            let entered = answers.enter(&connection);
            connection.charge(bytes);
            (connection, entered)
        };
        let held: Vec<_> = [100, 400, 300, 200, 500].map(made).into_iter().collect();
        assert!(held.iter().all(|(connection, _)| !connection.is_cut()), "all may be");
        let one_more = made(200);
        let cut: Vec<bool> = held.iter().map(|(connection, _)| connection.is_cut()).collect();
        assert_eq!(cut, [false, false, false, false, true]);
        // It is still on its way out, and counts as gone.
        let another = made(300);
        assert!([&one_more, &another, &held[1]].iter().all(|(connection, _)| !connection.is_cut()));
        held[4].0.release(500);
        assert_eq!(answers.bytes(), 1_500);
        drop((held, one_more, another));
        assert!(answers.connections.lock().is_ok_and(|connections| connections.is_empty()));
    }
}
