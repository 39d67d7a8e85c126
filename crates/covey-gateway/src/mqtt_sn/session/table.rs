//! The sessions of a gateway, and how they are found: by number, address, client id and time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::client::{Session, State};
use super::event::Client;
use super::peer::{Network, Peer};

#[derive(Default)]
struct Slot {
    epoch: u32,
    session: Option<Box<Session>>,
}

/// All sessions.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Of those that are not away.
    by_peer: HashMap<Peer, u32>,
    by_id: HashMap<Arc<str>, u32>,
    networks: HashMap<Network, u32>,
    /// Those that are away, in the order in which they left.
    away: BTreeSet<(u64, u32)>,
    /// When sessions want to be looked at. A session is here for a time that is not later than its own: what is heard
    /// of a client moves only the latter.
    timers: BTreeSet<(u64, u32)>,
}

impl Table {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn connected(&self) -> usize {
        self.by_peer.len()
    }

    pub fn get(&self, slot: u32) -> Option<&Session> {
        self.slots.get(slot as usize)?.session.as_deref()
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Session> {
        self.slots.get_mut(slot as usize)?.session.as_deref_mut()
    }

    pub fn find_peer(&self, peer: Peer) -> Option<u32> {
        self.by_peer.get(&peer).copied()
    }

    pub fn find_id(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// How many clients of the address there are.
    pub fn of_network(&self, peer: Peer) -> usize {
        peer.network().and_then(|network| self.networks.get(&network)).map_or(0, |count| *count as usize)
    }

    /// The present connection in a slot.
    pub fn client(&self, slot: u32) -> Client {
        Client { slot, epoch: self.slots.get(slot as usize).map_or(0, |slot| slot.epoch) }
    }

    /// The session of a connection, if it is the present one.
    pub fn of_client(&mut self, client: Client) -> Option<&mut Session> {
        let slot = self.slots.get_mut(client.slot as usize)?;
        let session = slot.session.as_deref_mut()?;
        (slot.epoch == client.epoch && session.state != State::Away).then_some(session)
    }

    /// Adds a session that is connected, or is away in its slot.
    pub fn attach(&mut self, slot: Option<u32>, session: Box<Session>) -> u32 {
        let peer = session.peer;
        let slot = slot.or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        self.by_id.insert(Arc::clone(&session.id), slot);
        if let Some(place) = self.slots.get_mut(slot as usize) {
            place.epoch = place.epoch.wrapping_add(1);
            place.session = Some(session);
        }
        self.by_peer.insert(peer, slot);
        if let Some(network) = peer.network() {
            *self.networks.entry(network).or_default() += 1;
        }
        slot
    }

    /// Takes a session out for good. None if there is none.
    pub fn remove(&mut self, slot: u32) -> Option<Box<Session>> {
        let session = self.slots.get_mut(slot as usize)?.session.take()?;
        self.unlink(slot, &session);
        self.by_id.remove(&session.id);
        self.free.push(slot);
        Some(session)
    }

    /// Takes a session out of its slot, where it is attached anew.
    pub fn take(&mut self, slot: u32) -> Option<Box<Session>> {
        let mut session = self.slots.get_mut(slot as usize)?.session.take()?;
        self.unlink(slot, &session);
        self.by_id.remove(&session.id);
        session.timer_ms = 0;
        Some(session)
    }

    fn unlink(&mut self, slot: u32, session: &Session) {
        self.timers.remove(&(session.timer_ms, slot));
        if session.state == State::Away {
            self.away.remove(&(session.heard_ms, slot));
        } else {
            self.leave_peer(session.peer);
        }
    }

    fn leave_peer(&mut self, peer: Peer) {
        self.by_peer.remove(&peer);
        let Some(network) = peer.network() else { return };
        if let Some(count) = self.networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&network);
            }
        }
    }

    /// A client is away, and its session is kept.
    pub fn leave(&mut self, slot: u32, now_ms: u64) {
        let Some(session) = self.get_mut(slot) else { return };
        let peer = session.peer;
        session.state = State::Away;
        session.heard_ms = now_ms;
        self.leave_peer(peer);
        self.away.insert((now_ms, slot));
        self.arm(slot);
    }

    /// Who left longest ago.
    pub fn longest_away(&self) -> Option<u32> {
        self.away.first().map(|(_, slot)| *slot)
    }

    /// A client speaks from another address.
    pub fn move_to(&mut self, slot: u32, peer: Peer) {
        let Some(session) = self.get_mut(slot) else { return };
        let old = std::mem::replace(&mut session.peer, peer);
        self.leave_peer(old);
        self.by_peer.insert(peer, slot);
        if let Some(network) = peer.network() {
            *self.networks.entry(network).or_default() += 1;
        }
    }

    /// Sees to it that the session is looked at in time.
    pub fn arm(&mut self, slot: u32) {
        let Some(session) = self.get_mut(slot) else { return };
        let (due_ms, timer_ms) = (session.due_ms(), session.timer_ms);
        if timer_ms != 0 && timer_ms <= due_ms {
            return;
        }
        session.timer_ms = due_ms;
        self.timers.remove(&(timer_ms, slot));
        self.timers.insert((due_ms, slot));
    }

    /// When a session is to be looked at next.
    pub fn due_ms(&self) -> Option<u64> {
        self.timers.first().map(|(due_ms, _)| *due_ms)
    }

    /// The next session to be looked at, which is to be armed again.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<u32> {
        let (_, slot) = self.timers.first().copied().filter(|(due_ms, _)| *due_ms <= now_ms)?;
        self.timers.pop_first();
        if let Some(session) = self.get_mut(slot) {
            session.timer_ms = 0;
        }
        Some(slot)
    }

    /// The slots of all that are connected.
    pub fn all_connected(&self) -> Vec<u32> {
        let mut slots: Vec<u32> = self.by_peer.values().copied().collect();
        slots.sort_unstable();
        slots
    }

    pub fn sessions(&self) -> impl Iterator<Item = (u32, &Session)> {
        (0..).zip(&self.slots).filter_map(|(number, slot)| Some((number, slot.session.as_deref()?)))
    }

    /// That all indices say the same. For tests.
    pub fn check(&self) {
        let sessions: Vec<_> = self.sessions().collect();
        assert_eq!(sessions.len(), self.by_id.len());
        assert_eq!(self.free.len() + sessions.len(), self.slots.len());
        let connected: Vec<_> = sessions.iter().filter(|(_, session)| session.state != State::Away).collect();
        assert_eq!(connected.len(), self.by_peer.len());
        assert_eq!(sessions.len() - connected.len(), self.away.len());
        assert_eq!(sessions.len(), self.timers.len());
        for (slot, session) in &sessions {
            assert_eq!(self.by_id.get(&session.id), Some(slot));
            assert!(self.timers.contains(&(session.timer_ms, *slot)));
            assert!(session.timer_ms <= session.due_ms());
            if session.state == State::Away {
                assert!(self.away.contains(&(session.heard_ms, *slot)));
            } else {
                assert_eq!(self.by_peer.get(&session.peer), Some(slot));
            }
        }
        let of_networks = connected.iter().filter(|(_, session)| session.peer.network().is_some()).count();
        assert_eq!(self.networks.values().sum::<u32>() as usize, of_networks);
    }
}
