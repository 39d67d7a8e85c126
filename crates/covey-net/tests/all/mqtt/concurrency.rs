//! Many connections of few clients on several threads: nothing is lost, told twice, or left behind.

use std::sync::Arc;
use std::time::Duration;

use covey_net::mqtt::MqttLimits;
use covey_wire::mqtt::{Qos, ReasonCode};
use tokio::time::timeout;

use super::owner::{Server, Told};
use super::raw::{Connect, Raw};
use crate::echo::PATIENCE;
use crate::panics::{self, numbers};

/// So few that they take over from each other all the time.
const CLIENTS: u64 = 5;
const WORKERS: u64 = 16;
const ROUNDS: usize = 150;

fn name(random: &mut impl FnMut() -> u64) -> String {
    format!("dev-{}", random() % CLIENTS)
}

/// Connects, says something, and leaves in one of several ways; it may be taken over at any time.
async fn visit(server: &Server, random: &mut impl FnMut() -> u64) {
    let sn = name(random);
    let connect = match random() % 4 {
        0 => Connect::v5(&sn),
        1 => Connect { will: Some(("dev/x/evt", "gone", 0)), ..Connect::v5(&sn) },
        2 => Connect::v311(&sn),
        _ => Connect::v5(&sn).kept(),
    };
    let mut raw = Raw::open(server, &sn).await;
    let mut bytes = connect.bytes();
    let qos = (random() % 3) as u8;
    bytes.extend(raw.publish_bytes(&format!("dev/{sn}/soon"), qos, 7, b"body"));
    if random().is_multiple_of(2) {
        bytes.extend([0xE0, 0]);
    }
    if raw.try_send(&bytes).await.is_err() {
        return;
    }
    // Whatever follows, a connection that was let in hears of it first [MQTT-3.14.0-1].
    let first = raw.next().await;
    assert_eq!((first.kind(), first.body[1]), (2, 0), "{first:?}");
    for _ in 0..random() % 3 {
        drop(timeout(Duration::from_millis(2), raw.next_or_end()).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_take_over_from_each_other_leave_nothing_behind() {
    let panics = panics::count();
    let server = Arc::new(Server::start_plain(MqttLimits::default()));
    let workers: Vec<_> = (1..=WORKERS)
        .map(|worker| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let mut random = numbers(worker.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                for _ in 0..ROUNDS {
                    visit(&server, &mut random).await;
                }
            })
        })
        .collect();
    let owner = {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let mut random = numbers(42);
            loop {
                let sn = name(&mut random);
                match random() % 8 {
                    0 => server.hub.close(&sn, ReasonCode::AdministrativeAction, "for a test"),
                    1 => server.hub.forget(&sn, ReasonCode::NotAuthorized, "for a test"),
                    _ => drop(server.send(&sn, 1, "tsk", Qos::AtLeastOnce, b"x")),
                }
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        })
    };
    for worker in workers {
        timeout(2 * PATIENCE, worker).await.expect("a lock is held for ever").unwrap();
    }
    owner.abort();
    let _ = owner.await;
    let all_gone = async {
        while server.hub.connected() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, all_gone).await.expect("connections are left");
    assert!(server.hub.sessions() <= CLIENTS as usize, "{}", server.hub.sessions());
    for client in 0..CLIENTS {
        server.hub.forget(&format!("dev-{client}"), ReasonCode::NotAuthorized, "for a test");
    }
    assert_eq!(server.hub.sessions(), 0);
    let owner = server.owner.clone();
    Arc::into_inner(server).expect("nobody else has it").stop().await;
    let (mut begun, mut ended) = (Vec::new(), Vec::new());
    for told in owner.told() {
        match told {
            Told::Connected { connection, .. } => begun.push(connection),
            Told::Disconnected { connection, .. } => ended.push(connection),
            _ => {}
        }
    }
    begun.sort();
    ended.sort();
    assert_eq!(begun, ended);
    assert_eq!(panics::count(), panics);
}
