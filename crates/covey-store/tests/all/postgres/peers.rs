//! What servers tell each other.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use covey_core::id::{DeviceKey, Sn, TaskId};
use covey_core::port::FromPeers;
use covey_core::port::PeerMessage;
use covey_store::postgres::{Options, Postgres};
use uuid::Uuid;

use crate::database::{PostgresBackend, say};
use crate::world::parts::{Counts, TestClock};

fn open(backend: &PostgresBackend, server: &str) -> (Postgres, Receiver<FromPeers>) {
    let options = Options::new(&backend.url(), server).unwrap();
    let store =
        Postgres::open(&options, Arc::new(TestClock::default()), Arc::new(Counts::default())).unwrap();
    let (tell, heard) = channel();
    store.on_heard(Arc::new(move |what| drop(tell.send(what))));
    (store, heard)
}

/// PeerMessage up to this many.
fn news(heard: &Receiver<FromPeers>, count: usize) -> Vec<PeerMessage> {
    let mut all = Vec::new();
    while all.len() < count {
        match heard.recv_timeout(Duration::from_secs(30)).unwrap() {
            FromPeers::Messages(some) => all.extend(some),
            FromPeers::Gap => {}
        }
    }
    all
}

fn gap(heard: &Receiver<FromPeers>) {
    while heard.recv_timeout(Duration::from_secs(30)).unwrap() != FromPeers::Gap {}
}

/// Waits until a server that has come has looked around for the last time.
fn settled(heard: &Receiver<FromPeers>) {
    while heard.recv_timeout(Duration::from_secs(4)).is_ok() {}
}

/// Tells until it is heard: a server that thinks it is alone tells nothing,
/// and learns within a moment that it is not.
fn heard_again(from: &Postgres, heard: &Receiver<FromPeers>) {
    let told = PeerMessage::Opened(DeviceKey(2));
    let is_heard = |_| {
        from.peers().broadcast(told.clone());
        let mut all = std::iter::from_fn(|| heard.recv_timeout(Duration::from_millis(200)).ok());
        all.any(|what| matches!(what, FromPeers::Messages(news) if news.contains(&told)))
    };
    assert!((0..100).any(is_heard));
}

#[test]
fn news_reach_the_others_in_their_order_and_not_their_teller() {
    let backend = PostgresBackend::new();
    let (first, heard_by_first) = open(&backend, "a");
    let (second, heard_by_second) = open(&backend, "b");
    let (_third, heard_by_third) = open(&backend, "c");
    let task = TaskId(Uuid::from_u128(5));
    let told: Vec<_> = (0..3_000)
        .map(|number| PeerMessage::Answered(DeviceKey(number), task))
        .chain([
            PeerMessage::Opened(DeviceKey(1)),
            PeerMessage::Finished(task),
            PeerMessage::Revoked(Sn::parse("sn").unwrap()),
        ])
        .collect();
    let peers = first.peers();
    told.iter().for_each(|one| peers.broadcast(one.clone()));
    assert_eq!(news(&heard_by_second, told.len()), told);
    assert_eq!(news(&heard_by_third, told.len()), told);
    second.peers().broadcast(PeerMessage::Opened(DeviceKey(9)));
    assert_eq!(news(&heard_by_first, 1), [PeerMessage::Opened(DeviceKey(9))], "nothing of its own before it");
}

#[test]
fn a_server_that_could_not_listen_knows_of_a_gap() {
    let backend = PostgresBackend::new();
    let (first, heard_by_first) = open(&backend, "a");
    let (second, heard_by_second) = open(&backend, "b");
    settled(&heard_by_first);
    settled(&heard_by_second);
    let cut = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN servers s ON s.id = l.objid::int8 \
         WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = 1131378179 \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.name = 'a'";
    assert_eq!(say(&backend.url(), &[cut]).len(), 1);
    gap(&heard_by_first);
    // From then on it hears again, and is heard.
    heard_again(&second, &heard_by_first);
    heard_again(&first, &heard_by_second);
}

#[test]
fn too_much_news_is_a_gap_and_not_a_burden() {
    let backend = PostgresBackend::new();
    let (first, _heard) = open(&backend, "a");
    let (_second, heard_by_second) = open(&backend, "b");
    gap(&heard_by_second);
    let peers = first.peers();
    for number in 0..400_000 {
        peers.broadcast(PeerMessage::Opened(DeviceKey(number)));
    }
    gap(&heard_by_second);
}
