//! Who gets a place, and who gives way.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

type Admitted = (Place, HalfOpen);

fn gate(limits: Limits) -> Arc<Gate> {
    Gate::new(Limits { connections_max: limits.connections_max.min(1_000), ..limits })
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A place for a connection from there, if there is one at once.
async fn admit(gate: &Arc<Gate>, text: &str) -> Option<Result<Admitted, Refused>> {
    timeout(Duration::from_millis(1), gate.admit(address(text))).await.ok()
}

/// The same, where there is one, and nothing to read.
async fn admitted(gate: &Arc<Gate>, text: &str) -> Admitted {
    let admitted = unseen(gate, text).await;
    assert!(!gave_way(&admitted).await);
    admitted
}

/// The same, and nobody has looked for anything to read.
async fn unseen(gate: &Arc<Gate>, text: &str) -> Admitted {
    admit(gate, text).await.expect("nobody has to wait").unwrap()
}

async fn refused(gate: &Arc<Gate>, text: &str) -> Option<Refused> {
    admit(gate, text).await.expect("nobody has to wait").err()
}

async fn gave_way((_, half_open): &Admitted) -> bool {
    timeout(Duration::from_millis(1), half_open.until_displaced()).await.is_ok()
}

async fn later(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_an_address_that_has_its_share_gives_way_after_its_grace() {
    let gate = gate(Limits { half_open_per_address_max: 2, ..Limits::default() });
    let (first, second) = (admitted(&gate, "192.0.2.1").await, admitted(&gate, "192.0.2.1").await);
    first.1.begun();
    assert_eq!(refused(&gate, "192.0.2.1").await, Some(Refused::Address));
    // The same address in the form of IPv6 is the same client.
    assert_eq!(refused(&gate, "::ffff:192.0.2.1").await, Some(Refused::Address));
    let other = admitted(&gate, "192.0.2.2").await;
    later(SILENT_MS).await;
    // Of the two the one that says nothing, though it is younger.
    let third = admitted(&gate, "192.0.2.1").await;
    third.1.begun();
    assert!(gave_way(&second).await && !gave_way(&first).await);
    assert_eq!(refused(&gate, "192.0.2.1").await, Some(Refused::Address));
    later(BEGUN_MS).await;
    let fourth = admitted(&gate, "192.0.2.1").await;
    assert!(gave_way(&first).await && !gave_way(&third).await && !gave_way(&other).await);
    drop((first, second, third, fourth, other));
    let crowd = gate.crowd();
    assert_eq!((crowd.connections, crowd.half_open, crowd.addresses.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_grace_begins_when_somebody_looks_for_the_first_words() {
    let gate = gate(Limits { half_open_per_address_max: 1, ..Limits::default() });
    let first = unseen(&gate, "192.0.2.1").await;
    later(10 * BEGUN_MS).await;
    assert_eq!(
        refused(&gate, "192.0.2.1").await,
        Some(Refused::Address),
        "what it said may lie there unread"
    );
    assert!(!gave_way(&first).await);
    later(SILENT_MS).await;
    assert!(refused(&gate, "192.0.2.1").await.is_none());
    assert!(gave_way(&first).await);
}

#[tokio::test(start_paused = true)]
async fn a_network_of_ipv6_is_one_address() {
    let gate = gate(Limits { half_open_per_address_max: 1, ..Limits::default() });
    let _held = admitted(&gate, "2001:db8::1").await;
    assert_eq!(refused(&gate, "2001:db8::ffff:2").await, Some(Refused::Address));
    assert!(refused(&gate, "2001:db8:0:1::1").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_has_most_of_the_half_open_keeps_nobody_else_out() {
    let limits = Limits { half_open_max: 16, half_open_per_address_max: 16, ..Limits::default() };
    let gate = gate(limits);
    let mut hostile = Vec::new();
    for _ in 0..16 {
        hostile.push(admitted(&gate, "192.0.2.1").await);
    }
    assert_eq!(refused(&gate, "192.0.2.1").await, Some(Refused::Address), "not at once by its own");
    let mut others = Vec::new();
    for (number, oldest) in hostile.iter().take(14).enumerate() {
        others.push(admitted(&gate, &format!("198.51.100.{number}")).await);
        assert!(gave_way(oldest).await, "{number}");
    }
    for other in &others {
        assert!(!gave_way(other).await);
    }
    assert_eq!(gate.crowd().half_open, 16);
}

#[tokio::test(start_paused = true)]
async fn of_a_fleet_that_comes_at_once_everyone_has_its_time() {
    let limits = Limits { half_open_max: 16, half_open_per_address_max: 16, ..Limits::default() };
    let gate = gate(limits);
    let mut fleet = Vec::new();
    for number in 0..16 {
        let one = admitted(&gate, &format!("192.0.2.{number}")).await;
        one.1.begun();
        fleet.push(one);
    }
    assert!(admit(&gate, "198.51.100.1").await.is_none(), "it waits");
    // Until one has begun …
    let waiting = gate.admit(address("198.51.100.1"));
    let one_less = async {
        later(10).await;
        drop(fleet.pop());
    };
    let (next, ()) =
        tokio::join!(async { timeout(Duration::from_millis(20), waiting).await.unwrap().unwrap() }, one_less);
    next.1.begun();
    // … or has had its time.
    let began = Instant::now();
    drop(gate.admit(address("198.51.100.2")).await.unwrap());
    assert!(began.elapsed() >= Duration::from_millis(BEGUN_MS - 100), "{:?}", began.elapsed());
    assert!(gave_way(&fleet[0]).await);
}

#[tokio::test(start_paused = true)]
async fn connections_are_bounded_also_when_they_are_no_longer_half_open() {
    let gate = gate(Limits { connections_max: 1, ..Limits::default() });
    let (place, half_open) = admitted(&gate, "192.0.2.1").await;
    drop(half_open);
    assert_eq!(refused(&gate, "192.0.2.1").await, Some(Refused::Connections));
    drop(place);
    assert!(refused(&gate, "192.0.2.1").await.is_none());
}

/// A connection that a test has in use, or not, and that ends when it is asked to.
#[derive(Default)]
struct Fake {
    is_stranger: bool,
    idle_since: Mutex<Option<Instant>>,
    held: Mutex<Option<(Place, Stay)>>,
}

impl Lasting for Fake {
    fn claim(&self) -> Option<Claim> {
        self.idle_since().map(|since| Claim { is_known: !self.is_stranger, since })
    }

    fn leave(&self) {
        *self.idle_since.lock().unwrap() = None;
    }
}

impl Fake {
    async fn new(gate: &Arc<Gate>, from: &str, is_idle: bool) -> Arc<Self> {
        Self::default().enter(gate, from, is_idle).await
    }

    async fn enter(self, gate: &Arc<Gate>, from: &str, is_idle: bool) -> Arc<Self> {
        let (place, half_open) = admitted(gate, from).await;
        let fake = Arc::new(self);
        *fake.idle_since.lock().unwrap() = is_idle.then(Instant::now);
        let stay = gate.last(half_open, Arc::clone(&fake) as _);
        *fake.held.lock().unwrap() = Some((place, stay));
        fake
    }

    fn idle_since(&self) -> Option<Instant> {
        *self.idle_since.lock().unwrap()
    }

    /// Whether it was asked to leave; then it does.
    fn leaves(&self) -> bool {
        let is_asked = self.idle_since.lock().unwrap().is_none();
        if is_asked {
            self.held.lock().unwrap().take();
        }
        is_asked
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_places_are_taken_who_has_been_idle_longest_leaves() {
    let gate = gate(Limits { connections_max: 4, ..Limits::default() });
    let busy = Fake::new(&gate, "192.0.2.1", false).await;
    let one = Fake::new(&gate, "192.0.2.2", true).await;
    later(10).await;
    let oldest = Fake::new(&gate, "192.0.2.1", true).await;
    later(10).await;
    let younger = Fake::new(&gate, "192.0.2.1", true).await;
    // Of those with the most, though another has been idle for longer.
    let newcomer = gate.admit(address("192.0.2.9"));
    let leaving = async {
        later(5).await;
        assert!(oldest.leaves());
    };
    let (newcomer, ()) = tokio::join!(newcomer, leaving);
    assert!(one.idle_since().is_some() && younger.idle_since().is_some());
    // Where all are in use nobody leaves.
    for used in [&one, &younger] {
        *used.idle_since.lock().unwrap() = None;
    }
    assert_eq!(refused(&gate, "192.0.2.9").await, Some(Refused::Connections));
    drop(newcomer);
    for fake in [&busy, &one, &oldest, &younger] {
        fake.held.lock().unwrap().take();
    }
    let crowd = gate.crowd();
    assert_eq!((crowd.connections, crowd.leaving, crowd.addresses.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn strangers_leave_before_anybody_else_wherever_they_are() {
    let gate = gate(Limits { connections_max: 3, ..Limits::default() });
    let known = Fake::new(&gate, "192.0.2.1", true).await;
    let other = Fake::new(&gate, "192.0.2.1", true).await;
    later(10).await;
    let stranger = Fake { is_stranger: true, ..Fake::default() }.enter(&gate, "192.0.2.2", true).await;
    let leaving = async {
        later(5).await;
        assert!(stranger.leaves());
    };
    let (newcomer, ()) = tokio::join!(gate.admit(address("192.0.2.9")), leaving);
    assert!(newcomer.is_ok() && known.idle_since().is_some() && other.idle_since().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_few_of_those_that_are_there_are_asked_to_leave_at_a_time() {
    let files = Files { reserved: 2 * LEAVE_PART, shared: SharedFiles::new(0) };
    let gate =
        Gate::new(Limits { connections_max: 100 * LEAVE_PART, files: Some(files), ..Limits::default() });
    let mut held = Vec::new();
    for _ in 0..2 * LEAVE_PART {
        held.push(Fake::new(&gate, "192.0.2.1", true).await);
    }
    assert!(admit(&gate, "192.0.2.9").await.is_none(), "it waits");
    assert_eq!(held.iter().filter(|fake| fake.leaves()).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_address_has_a_share_of_the_connections_unless_many_come_through_it() {
    let gate = gate(Limits { connections_per_address_max: 2, ..Limits::default() });
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(Fake::new(&gate, "192.0.2.1", false).await);
    }
    assert_eq!(refused(&gate, "192.0.2.1").await, Some(Refused::Address));
    *held[1].idle_since.lock().unwrap() = Some(Instant::now());
    held.push(Fake::new(&gate, "192.0.2.1", false).await);
    assert!(held[1].leaves());
    if let Some((_, stay)) = &*held[0].held.lock().unwrap() {
        stay.trust();
    }
    for from in ["192.0.2.1", "127.0.0.1", "::1"] {
        for _ in 0..5 {
            held.push(Fake::new(&gate, from, false).await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_listener_takes_the_files_of_another() {
    let shared = SharedFiles::new(3);
    let made = |reserved| {
        gate(Limits { files: Some(Files { reserved, shared: Arc::clone(&shared) }), ..Limits::default() })
    };
    let (greedy, modest) = (made(1), made(2));
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(admitted(&greedy, "192.0.2.1").await);
    }
    assert_eq!(refused(&greedy, "192.0.2.1").await, Some(Refused::Connections));
    let own = [admitted(&modest, "192.0.2.2").await, admitted(&modest, "192.0.2.2").await];
    assert_eq!(refused(&modest, "192.0.2.2").await, Some(Refused::Connections));
    // What one gives back the other may take.
    held.pop();
    held.push(admitted(&modest, "192.0.2.2").await);
    drop((own, held));
    assert_eq!(shared.0.load(Ordering::Relaxed), 3);
    let one = gate(Limits {
        files: Some(Files { reserved: 0, shared: Arc::clone(&shared) }),
        half_open_per_address_max: 1,
        ..Limits::default()
    });
    let held = admitted(&one, "192.0.2.1").await;
    assert_eq!(refused(&one, "192.0.2.1").await, Some(Refused::Address));
    assert_eq!(shared.0.load(Ordering::Relaxed), 2, "who is refused takes none");
    // Where files are short who says nothing gives way, too.
    let _others = [shared.take(), shared.take()];
    assert_eq!(refused(&one, "192.0.2.2").await, Some(Refused::Connections));
    later(SILENT_MS).await;
    let (newcomer, ()) = tokio::join!(one.admit(address("192.0.2.2")), async {
        held.1.until_displaced().await;
        drop(held);
    });
    assert!(newcomer.is_ok());
    assert_eq!(one.crowd().leaving, 0);
}
