//! Who has a place at a listener: how many connections there are, how many of them are half-open, and whose
//! place goes to somebody else when there is none left.
//!
//! Nobody keeps others out by holding places without using them. A half-open connection gives way when its
//! time of grace is over: [`SILENT_MS`] for one that has said nothing an answer was due to, [`BEGUN_MS`] for
//! one whose handshake is under way, counted from when somebody looked for its first words. The oldest of the
//! address with the most goes first, and at once if that address holds an eighth of all such places or more
//! and the newcomer is from another. A protocol may also name connections that give way later
//! ([`Gate::last`]): those of strangers, then those that are idle.
//!
//! A newcomer waits until who was asked to leave has left, and where nobody has an eighth and all are in
//! their time of grace, as when a fleet comes back after a restart; the system keeps those behind it in its
//! backlog.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::listener::Limits;
use crate::refusal::Refused;

/// How long a connection may say nothing that is answered while others want its place, in milliseconds. A
/// client's first words come right behind its connection.
pub const SILENT_MS: u64 = 250;
/// The same for one whose handshake is under way: what a slow device needs for its part.
pub const BEGUN_MS: u64 = 3_000;
/// Who holds this part of the half-open connections or more gives way at once to others.
const DOMINATES_PART: usize = 8;
/// How often somebody who waits looks again, in milliseconds, should nobody wake it.
const LOOK_MS: u64 = 50;
/// How many connections that give way are asked to leave at a time: one in so many of all.
const LEAVE_PART: usize = 64;

/// The open files that a listener may have for its connections.
#[derive(Clone, Debug)]
pub struct Files {
    /// How many are its own: no other listener takes them.
    pub reserved: usize,
    /// Where it takes more.
    pub shared: Arc<SharedFiles>,
}

/// Open files that the listeners of a process share, beside those that each has for itself.
#[derive(Debug)]
pub struct SharedFiles(AtomicUsize);

impl SharedFiles {
    /// So many.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(count)))
    }

    fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(1)).is_ok()
    }

    fn give(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The places of a listener.
pub struct Gate {
    limits: Limits,
    crowd: Mutex<Crowd>,
    /// A place has become free.
    freed: Notify,
}

/// Those who have a place.
#[derive(Default)]
struct Crowd {
    /// The number of the next one: who has a smaller one is older.
    next: u64,
    connections: usize,
    half_open: usize,
    /// How many were asked to leave and have not left.
    leaving: usize,
    /// In order, so that the same happens each time the same is asked.
    addresses: BTreeMap<IpAddr, Neighbours>,
}

/// Those of one address.
#[derive(Default)]
struct Neighbours {
    half_open: BTreeMap<u64, Arc<Seat>>,
    lasting: BTreeMap<u64, Arc<dyn Lasting>>,
    /// It is one through which many come.
    is_trusted: bool,
}

/// What is known of a half-open connection.
struct Seat {
    /// When somebody first looked for what it says: where there is much to do that is later than when it
    /// came, and what it has said lies there unread.
    since: OnceLock<Instant>,
    has_begun: AtomicBool,
    leave: Notify,
}

impl Seat {
    /// Whether it may be asked to leave.
    fn gives_way(&self, now: Instant) -> bool {
        let grace_ms = if self.has_begun.load(Ordering::Relaxed) { BEGUN_MS } else { SILENT_MS };
        let since = self.since.get();
        since.is_some_and(|since| now.saturating_duration_since(*since) >= Duration::from_millis(grace_ms))
    }
}

/// How a connection gives way. Who has the smaller one leaves first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// Whether its client has shown who it is.
    pub is_known: bool,
    /// Since when it could leave.
    pub since: Instant,
}

/// A connection that is no longer half-open, and may give way.
pub trait Lasting: Send + Sync {
    /// How it gives way now; none while it keeps its place.
    fn claim(&self) -> Option<Claim>;

    /// Somebody else gets its place: it is to end at once.
    fn leave(&self);
}

/// One of the connections. It holds its place until it is dropped: before its [`HalfOpen`] or [`Stay`], or
/// somebody else is asked to leave for whom waits for this place.
pub struct Place(Arc<Gate>);

/// One of the half-open connections, until it is dropped.
pub struct HalfOpen {
    gate: Arc<Gate>,
    seat: Arc<Seat>,
    address: IpAddr,
    number: u64,
}

/// One of those that may give way, until it is dropped.
pub struct Stay {
    gate: Arc<Gate>,
    address: IpAddr,
    number: u64,
}

/// Why somebody has no place.
enum Without {
    /// One will be free in a moment.
    Yet,
    Refused(Refused),
}

impl Gate {
    /// All places are free.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, crowd: Mutex::default(), freed: Notify::new() })
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a connection may be half-open.
    #[must_use]
    pub fn half_open_time(&self) -> Duration {
        Duration::from_millis(self.limits.half_open_ms_max)
    }

    /// Gives a connection from this address its place, when there is one.
    ///
    /// # Errors
    /// The limit that is reached.
    pub async fn admit(self: &Arc<Self>, address: IpAddr) -> Result<(Place, HalfOpen), Refused> {
        let address = network(address);
        loop {
            let freed = self.freed.notified();
            match self.try_admit(address) {
                Ok(admitted) => return Ok(admitted),
                Err(Without::Refused(refused)) => return Err(refused),
                Err(Without::Yet) => _ = timeout(Duration::from_millis(LOOK_MS), freed).await,
            }
        }
    }

    fn try_admit(self: &Arc<Self>, address: IpAddr) -> Result<(Place, HalfOpen), Without> {
        let (limits, now) = (&self.limits, Instant::now());
        let mut crowd = self.crowd();
        // Taken here, given back below if there is no place after all.
        if crowd.connections >= limits.connections_max.max(1) || !self.take_file(crowd.connections) {
            let leave = crowd.connections / LEAVE_PART;
            let is_hopeless = crowd.leaving == 0 && !crowd.displace_any(now) && !crowd.ask(leave);
            return Err(if is_hopeless { Without::Refused(Refused::Connections) } else { Without::Yet });
        }
        let admitted = self.admit_here(&mut crowd, address, now);
        if admitted.is_err() {
            self.give_file(crowd.connections);
        }
        admitted
    }

    /// Takes a file for one more connection than there are.
    fn take_file(&self, connections: usize) -> bool {
        let Some(files) = &self.limits.files else { return true };
        connections < files.reserved || files.shared.take()
    }

    /// Gives back the file of one more connection than there are.
    fn give_file(&self, connections: usize) {
        if let Some(files) = self.limits.files.as_ref().filter(|files| connections >= files.reserved) {
            files.shared.give();
        }
    }

    /// The same where there is a file for it.
    fn admit_here(
        self: &Arc<Self>,
        crowd: &mut Crowd,
        address: IpAddr,
        now: Instant,
    ) -> Result<(Place, HalfOpen), Without> {
        let limits = &self.limits;
        let own = crowd.addresses.get(&address);
        let is_one = !address.is_loopback() && own.is_none_or(|own| !own.is_trusted);
        let (half_open, lasting) = own.map_or((0, 0), |own| (own.half_open.len(), own.lasting.len()));
        if is_one && lasting >= limits.connections_per_address_max.max(1) && !crowd.ask_of(address, 1) {
            return Err(Without::Refused(Refused::Address));
        }
        if half_open >= limits.half_open_per_address_max.max(1) {
            if !crowd.displace(address, Some(now)) {
                return Err(Without::Refused(Refused::Address));
            }
        } else if crowd.half_open >= limits.half_open_max.max(1) {
            crowd.make_room(address, limits.half_open_max, now)?;
        }
        Ok(self.seat(crowd, address))
    }

    fn seat(self: &Arc<Self>, crowd: &mut Crowd, address: IpAddr) -> (Place, HalfOpen) {
        let number = crowd.next;
        crowd.next += 1;
        crowd.connections += 1;
        crowd.half_open += 1;
        let seat = Seat { since: OnceLock::new(), has_begun: AtomicBool::new(false), leave: Notify::new() };
        let seat = Arc::new(seat);
        crowd.addresses.entry(address).or_default().half_open.insert(number, Arc::clone(&seat));
        let gate = Arc::clone(self);
        (Place(Arc::clone(self)), HalfOpen { gate, seat, address, number })
    }

    /// A connection is half-open no longer, and may give way.
    pub fn last(self: &Arc<Self>, half_open: HalfOpen, lasting: Arc<dyn Lasting>) -> Stay {
        let (address, number) = (half_open.address, half_open.number);
        self.crowd().addresses.entry(address).or_default().lasting.insert(number, lasting);
        Stay { gate: Arc::clone(self), address, number }
    }
}

impl Crowd {
    /// Makes room among the half-open connections for somebody from this address.
    fn make_room(&mut self, newcomer: IpAddr, half_open_max: usize, now: Instant) -> Result<(), Without> {
        let counts =
            self.addresses.iter().map(|(address, neighbours)| (neighbours.half_open.len(), *address));
        let Some((count, biggest)) = counts.max() else { return Ok(()) };
        let dominates = count >= (half_open_max / DOMINATES_PART).max(2);
        if dominates && biggest != newcomer {
            self.displace(biggest, None);
            return Ok(());
        }
        if self.displace_any(now) {
            return Ok(());
        }
        Err(if dominates { Without::Refused(Refused::Address) } else { Without::Yet })
    }

    /// Asks a half-open connection whose grace is over to leave: the oldest of the address with the most that has
    /// one. Whether there is one.
    fn displace_any(&mut self, now: Instant) -> bool {
        let giving_way = |(address, neighbours): (&IpAddr, &Neighbours)| {
            let (number, _) = neighbours.half_open.iter().find(|(_, seat)| seat.gives_way(now))?;
            Some((neighbours.half_open.len(), Reverse(*number), *address))
        };
        let chosen = self.addresses.iter().filter_map(giving_way).max();
        chosen.is_some_and(|(_, _, address)| self.displace(address, Some(now)))
    }

    /// Asks the oldest half-open connection of an address to leave: of those whose grace is over, if the time
    /// is given. Whether there is one.
    fn displace(&mut self, address: IpAddr, now: Option<Instant>) -> bool {
        let Some(neighbours) = self.addresses.get_mut(&address) else { return false };
        let oldest = neighbours.half_open.iter().find(|(_, seat)| now.is_none_or(|now| seat.gives_way(now)));
        let Some(number) = oldest.map(|(number, _)| *number) else { return false };
        if let Some(seat) = neighbours.half_open.remove(&number) {
            seat.leave.notify_one();
            self.half_open -= 1;
            self.leaving += 1;
        }
        self.forget_if_gone(address);
        true
    }

    /// Asks connections of the address with the most that give way to leave: those of strangers, wherever
    /// they are, before all others. Whether there are any.
    fn ask(&mut self, count: usize) -> bool {
        [false, true].into_iter().any(|is_known| {
            let giving_way = |neighbours: &Neighbours| {
                let claims = neighbours.lasting.values().filter_map(|lasting| lasting.claim());
                claims.filter(|claim| claim.is_known == is_known).count()
            };
            let counts = self.addresses.iter().map(|(address, all)| (giving_way(all), *address));
            let Some((most @ 1.., address)) = counts.max() else { return false };
            self.ask_of(address, count.clamp(1, most))
        })
    }

    /// Asks so many of an address that give way to leave. Whether there are any.
    fn ask_of(&mut self, address: IpAddr, count: usize) -> bool {
        let Some(neighbours) = self.addresses.get_mut(&address) else { return false };
        let claims = neighbours.lasting.iter();
        let claims = claims.filter_map(|(number, lasting)| Some((lasting.claim()?, *number)));
        let mut claims: Vec<(Claim, u64)> = claims.collect();
        claims.sort_unstable();
        claims.truncate(count);
        for (_, number) in &claims {
            if let Some(lasting) = neighbours.lasting.remove(number) {
                lasting.leave();
                self.leaving += 1;
            }
        }
        !claims.is_empty()
    }

    fn forget_if_gone(&mut self, address: IpAddr) {
        let neighbours = self.addresses.get(&address);
        if neighbours.is_some_and(|all| all.half_open.is_empty() && all.lasting.is_empty()) {
            self.addresses.remove(&address);
        }
    }
}

impl HalfOpen {
    /// Its handshake is under way: what it said had an answer.
    pub fn begun(&self) {
        self.seat.has_begun.store(true, Ordering::Relaxed);
    }

    /// Waits until its place goes to somebody else. To be asked each time when there was nothing to read: its
    /// grace begins with the first.
    pub async fn until_displaced(&self) {
        self.seat.since.get_or_init(Instant::now);
        self.seat.leave.notified().await;
    }
}

impl Stay {
    /// Many come through its address, as through a proxy: it has no share of its own.
    pub fn trust(&self) {
        self.gate.crowd().addresses.entry(self.address).or_default().is_trusted = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut crowd = self.0.crowd();
        crowd.connections -= 1;
        self.0.give_file(crowd.connections);
        drop(crowd);
        self.0.freed.notify_waiters();
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        let mut crowd = self.gate.crowd();
        let neighbours = crowd.addresses.get_mut(&self.address);
        let was_there = neighbours.is_some_and(|all| all.half_open.remove(&self.number).is_some());
        if was_there {
            crowd.half_open -= 1;
        } else {
            crowd.leaving -= 1;
        }
        crowd.forget_if_gone(self.address);
        drop(crowd);
        self.gate.freed.notify_waiters();
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut crowd = self.gate.crowd();
        let neighbours = crowd.addresses.get_mut(&self.address);
        if neighbours.is_none_or(|all| all.lasting.remove(&self.number).is_none()) {
            crowd.leaving -= 1;
        }
        crowd.forget_if_gone(self.address);
    }
}

/// With what an address is counted. Who has one address of IPv6 has 2^64 (RFC 6177 §2).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) if address.is_loopback() => IpAddr::V6(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests;
