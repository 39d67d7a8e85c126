//! Which events are sent when, and what an acknowledgement means.

use std::time::{Duration, Instant};

use covey_device::{CancellationToken, Device, EventOutcome, Events, HEALTH_CHECK};
use rumqttc::PubAckReason;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::play::{Cue, Play, SOON};

/// How long nothing must happen.
const A_WHILE: Duration = Duration::from_millis(300);

struct Running {
    events: Events,
    stop: CancellationToken,
    run: JoinHandle<Result<(), covey_device::Error>>,
}

fn run(device: Device) -> Running {
    let (events, stop) = (device.events(), CancellationToken::new());
    Running { events, stop: stop.clone(), run: tokio::spawn(device.run(stop)) }
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.run).await.expect("the device stops in time").unwrap().unwrap();
    }
}

async fn outcome(ticket: covey_device::EventTicket) -> EventOutcome {
    tokio::time::timeout(SOON, ticket.outcome()).await.expect("an outcome in time")
}

#[tokio::test]
async fn events_of_the_time_offline_are_sent_in_order_a_few_at_a_time() {
    let mut play = Play::begin().await;
    let dir = tempfile::tempdir().unwrap();
    let device = play.device().journal_dir(dir.path()).events_in_flight_max(3).build().unwrap();
    for count in 0..10 {
        device.event(13).payload(json!({ "count": count })).send().await.unwrap();
    }
    let device = run(device);
    let window = [play.next().await, play.next().await, play.next().await];
    assert!(tokio::time::timeout(A_WHILE, play.received.recv()).await.is_err(), "a fourth is on its way");
    for event in &window {
        play.acknowledge(event, PubAckReason::Success);
    }
    assert_eq!(window.map(|event| event.number), [1, 2, 3]);
    assert_eq!(play.take(7).await, [4, 5, 6, 7, 8, 9, 10]);
    let last = device.events.event(13).send().await.unwrap();
    assert_eq!(play.take(1).await, [11]);
    assert_eq!(outcome(last).await, EventOutcome::Stored);
    assert_eq!(device.events.waiting(), 0);
    device.end().await;
    // The next run knows that nothing is left, and counts on.
    let device = play.device().journal_dir(dir.path()).build().unwrap();
    assert_eq!(device.events().waiting(), 0);
    assert_eq!(device.event(13).send().await.unwrap().number(), 12);
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_on_the_next_connection_in_order() {
    let mut play = Play::begin().await;
    let device = play.device().events_in_flight_max(4).build().unwrap();
    let mut numbers = Vec::new();
    for _ in 0..6 {
        numbers.push(device.event(13).send().await.unwrap().number());
    }
    let counters = device.counters();
    let device = run(device);
    let (first, second) = (play.next().await, play.next().await);
    play.acknowledge(&second, PubAckReason::Success);
    while counters.snapshot().events_acknowledged == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    play.cues.send(Cue::Hangup).unwrap();
    let mut again = Vec::new();
    while again.len() < 5 {
        let event = play.next().await;
        if event.connection > first.connection {
            play.acknowledge(&event, PubAckReason::Success);
            again.push(event.number);
        }
    }
    numbers.remove(1);
    assert_eq!(again, numbers);
    device.end().await;
    let counted = counters.snapshot();
    assert_eq!((counted.events_accepted, counted.events_acknowledged), (6, 6));
    assert!(counted.events_sent >= 7);
}

#[tokio::test]
async fn too_many_means_later_and_malformed_means_never() {
    let mut play = Play::begin().await;
    let device = play.device().build().unwrap();
    let counters = device.counters();
    let device = run(device);
    let ticket = device.events.event(13).payload(json!({ "is": "later" })).send().await.unwrap();
    let refused = play.next().await;
    let began = Instant::now();
    play.acknowledge(&refused, PubAckReason::QuotaExceeded);
    let again = play.next().await;
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!((again.number, &again.body), (refused.number, &refused.body));
    play.acknowledge(&again, PubAckReason::Success);
    assert_eq!(outcome(ticket).await, EventOutcome::Stored);

    let ticket = device.events.event(13).send().await.unwrap();
    let malformed = play.next().await;
    play.acknowledge(&malformed, PubAckReason::PayloadFormatInvalid);
    assert_eq!(outcome(ticket).await, EventOutcome::Refused { reason: 0x99 });
    assert!(tokio::time::timeout(A_WHILE, play.received.recv()).await.is_err(), "it was sent again");
    assert_eq!(counters.snapshot().events_refused, 1);
    device.end().await;
}

#[tokio::test]
async fn with_await_eva_an_acknowledgement_is_not_enough_except_for_a_gauge() {
    let mut play = Play::begin().await;
    let device = run(play.device().await_eva(true).build().unwrap());
    let stored = device.events.event(13).send().await.unwrap();
    let event = play.next().await;
    play.acknowledge(&event, PubAckReason::Success);
    let gauge = device.events.event(HEALTH_CHECK).send().await.unwrap();
    let health = play.next().await;
    play.acknowledge(&health, PubAckReason::Success);
    assert_eq!(outcome(gauge).await, EventOutcome::Stored);
    assert_eq!(device.events.waiting(), 1);
    play.tell(&event, "success");
    assert_eq!(outcome(stored).await, EventOutcome::Stored);

    let failed = device.events.event(14).send().await.unwrap();
    let event = play.next().await;
    play.acknowledge(&event, PubAckReason::Success);
    play.tell(&event, "error");
    assert_eq!(outcome(failed).await, EventOutcome::Refused { reason: 0x83 });
    device.end().await;
}

#[tokio::test]
async fn of_gauges_that_wait_only_the_newest_is_sent() {
    let mut play = Play::begin().await;
    let device = play.device().build().unwrap();
    let old = device.event(HEALTH_CHECK).payload(json!({ "uptime_s": 1 })).send().await.unwrap();
    device.event(13).send().await.unwrap();
    device.event(HEALTH_CHECK).payload(json!({ "uptime_s": 2 })).send().await.unwrap();
    assert_eq!(outcome(old).await, EventOutcome::Superseded);
    let device = run(device);
    let (first, second) = (play.next().await, play.next().await);
    assert_eq!((first.type_code, second.body.as_str()), (13, "{\"uptime_s\":2}"));
    play.acknowledge(&first, PubAckReason::Success);
    play.acknowledge(&second, PubAckReason::Success);
    device.end().await;
}

#[tokio::test]
async fn an_event_sent_twice_comes_twice_and_ends_once() {
    let mut play = Play::begin().await;
    let device = play.device().build().unwrap();
    let counters = device.counters();
    let device = run(device);
    let ticket = device.events.event(13).sent_twice().send().await.unwrap();
    let (one, other) = (play.next().await, play.next().await);
    assert_eq!((one.number, &one.body), (other.number, &other.body));
    play.acknowledge(&one, PubAckReason::Success);
    play.acknowledge(&other, PubAckReason::Success);
    assert_eq!(outcome(ticket).await, EventOutcome::Stored);
    device.end().await;
    let counted = counters.snapshot();
    assert_eq!((counted.events_sent, counted.events_acknowledged), (2, 1));
}
