//! Events, the same over every link (device-events).

use std::time::Instant;

use covey_core::budget::{Budgets, Rate};
use covey_core::port::{Event, Refusal};
use rumqttc::PublishOptions;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{PubAckReason, SubscribeReasonCode};

use crate::broker::AnyBroker;
use crate::device::{Device, correlation, outcome, property};
use crate::site::{Site, until};

const ID: &str = "01901f2e-3d4c-7b5a-8877-665544332211";
const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// The tests of the battery, each with a broker of its own.
macro_rules! event_battery {
    ($broker:expr) => {
        event_battery!(@ $broker,
            an_event_is_stored_as_it_was_sent, what_properties_do_not_tell_the_body_does,
            a_repeated_event_is_stored_once_and_answered_each_time, gauges_keep_the_last_body_and_are_not_answered,
            what_cannot_be_taken_is_counted_and_answered_where_it_is_known, events_keep_their_order);

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_flood_is_held_back_where_it_still_can_be() {
            let (broker, data) = ($broker, tempfile::tempdir().unwrap());
            let site = crate::site::Site::start_with_budgets(&broker, data.path(), crate::events::few()).await;
            crate::events::a_flood_is_held_back_where_it_still_can_be(&broker, &site).await;
            site.stop().await;
        }
    };
    (@ $broker:expr, $($name:ident),*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let (broker, data) = ($broker, tempfile::tempdir().unwrap());
            let site = crate::site::Site::start(&broker, data.path(), "a").await;
            crate::events::$name(&broker, &site).await;
            site.stop().await;
        })*
    };
}

/// User properties.
type Fields<'a> = [(&'a str, &'a str)];

/// Few events at once, and more beyond them are a flood.
pub fn few() -> Budgets {
    Budgets::default().with_device_units(Rate { per_second: 1, burst: 50 })
}

/// A device that listens for answers to its events.
async fn device<B: AnyBroker>(broker: &B, site: &Site<B>) -> Device {
    let sn = broker.sn("evt");
    site.register(&sn).await;
    let device = Device::of(broker, &sn).await;
    let granted = device.subscribe(&format!("srv/{sn}/eva")).await;
    assert!(matches!(granted, SubscribeReasonCode::Success(_)));
    device
}

/// The PUBACK of an event that is taken.
fn is_taken(reason: PubAckReason) {
    assert_eq!(reason, PubAckReason::Success);
}

async fn until_stored<B: AnyBroker>(site: &Site<B>, count: usize) {
    until("the events are stored", || async { site.events().await.len() >= count }).await;
    assert_eq!(site.events().await.len(), count);
}

pub async fn an_event_is_stored_as_it_was_sent<B: AnyBroker>(broker: &B, site: &Site<B>) {
    let mut device = device(broker, site).await;
    let body = "{ \"101\" : 8,\"300\":[{\"301\":1.50}],\n\"text\":\"\\u00e9 é\" }";
    let fields = [
        ("event_type_code", "13"),
        ("dev_event_id", "4294967295"),
        ("dev_timestamp", "2026-01-31T15:00:00.25+03:00"),
        ("correlation_id", ID),
    ];
    is_taken(device.event(&fields, body).await);
    let eva = device.next("eva").await;
    assert_eq!((correlation(&eva), property(&eva, "correlationData")), (ID.to_owned(), Some(ID)));
    assert_eq!(property(&eva, "event_type_code"), Some("13"));
    assert_eq!(property(&eva, "dev_event_id"), Some("4294967295"));
    assert_eq!(&eva.payload[..], br#"{"status":"success"}"#);
    assert_eq!(eva.qos, QoS::AtMostOnce);
    let events = site.events().await;
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((event.type_code, event.key.dev_event_id), (13, u32::MAX));
    assert_eq!(event.key.dev_timestamp.0, 1_769_860_800_250);
    assert_eq!((&*event.payload, event.sn.as_str()), (body, device.sn.as_str()));
    assert_eq!(event.correlation.unwrap().to_string(), ID);
    assert_eq!(site.watcher.seen(Event::EventStored), 1);
}

pub async fn what_properties_do_not_tell_the_body_does<B: AnyBroker>(broker: &B, site: &Site<B>) {
    let mut device = device(broker, site).await;
    is_taken(device.event(&[], r#"{"200":"14","101":7,"102":"2026-01-31 12:00:00ZMSK","300":[]}"#).await);
    let eva = device.next("eva").await;
    assert_eq!(correlation(&eva), NIL);
    assert_eq!((property(&eva, "event_type_code"), property(&eva, "dev_event_id")), (Some("14"), Some("7")));
    is_taken(device.event(&[("dev_event_id", "8"), ("dev_timestamp", "?")], r#"{"200":15}"#).await);
    assert_eq!(property(&device.next("eva").await, "dev_event_id"), Some("8"));
    // Neither type nor number: stored and not answered.
    is_taken(device.event(&[("event_type_code", "16")], "").await);
    is_taken(device.event(&[("dev_event_id", "9")], "{}").await);
    until_stored(site, 4).await;
    let events = site.events().await;
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.type_code, event.key.dev_event_id, &*event.payload == "{}"))
        .collect();
    assert_eq!(told, [(14, 7, false), (15, 8, false), (16, 0, true), (0, 9, true)]);
    assert_eq!(events[0].key.dev_timestamp.seconds(), 1_769_860_800);
    assert_eq!(events[1].key.dev_timestamp, events[1].received_at, "the server's time");
    assert!(device.messages.try_recv().is_err());
}

pub async fn a_repeated_event_is_stored_once_and_answered_each_time<B: AnyBroker>(
    broker: &B,
    site: &Site<B>,
) {
    let mut device = device(broker, site).await;
    let fields = [("event_type_code", "13"), ("dev_event_id", "7"), ("dev_timestamp", "1769860800")];
    for round in 0..3 {
        is_taken(device.event(&fields, &format!(r#"{{"round":{round}}}"#)).await);
        assert_eq!(&device.next("eva").await.payload[..], br#"{"status":"success"}"#);
    }
    // Another time, so another event; and one without a number is like no other.
    let later = [("event_type_code", "13"), ("dev_event_id", "7"), ("dev_timestamp", "1769860801")];
    is_taken(device.event(&later, "{}").await);
    device.next("eva").await;
    for _ in 0..2 {
        is_taken(device.event(&[("event_type_code", "13"), ("dev_timestamp", "1769860800")], "{}").await);
    }
    until_stored(site, 4).await;
    assert_eq!(&*site.events().await[0].payload, r#"{"round":0}"#);
    assert_eq!(site.watcher.seen(Event::DuplicateEvent), 2);
}

pub async fn gauges_keep_the_last_body_and_are_not_answered<B: AnyBroker>(broker: &B, site: &Site<B>) {
    let mut device = device(broker, site).await;
    let gauge = [("event_type_code", "44"), ("dev_event_id", "7"), ("dev_timestamp", "1769860800")];
    for round in 0..3 {
        is_taken(device.event(&gauge, &format!(r#"{{"round":{round}}}"#)).await);
    }
    until("the last is there", || async {
        site.gauges().await.first().is_some_and(|gauge| &*gauge.payload == r#"{"round":2}"#)
    })
    .await;
    // One that cannot be taken is not answered either.
    device.event(&gauge, "[]").await;
    until("it is counted", || async { site.watcher.refused(Refusal::Payload) == 1 }).await;
    assert_eq!(site.gauges().await.len(), 1);
    assert!(site.events().await.is_empty());
    assert!(device.messages.try_recv().is_err());
}

pub async fn what_cannot_be_taken_is_counted_and_answered_where_it_is_known<B: AnyBroker>(
    broker: &B,
    site: &Site<B>,
) {
    let mut device = device(broker, site).await;
    let deep = format!("{}1{}", r#"{"a":"#.repeat(65), "}".repeat(65));
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(64 * 1024));
    let known = [("event_type_code", "13"), ("dev_event_id", "7")];
    let cases: [(&Fields<'_>, &str, bool); 9] = [
        (&known, "[]", true),
        (&known, "rubbish", true),
        (&known, &deep, true),
        (&known, &large, true),
        (&[], &large, false),
        (&[("event_type_code", "x"), ("dev_event_id", "7")], "{}", false),
        (&[("event_type_code", "2147483648"), ("dev_event_id", "7")], "{}", false),
        (&[("event_type_code", "13"), ("dev_event_id", "4294967296")], "{}", false),
        (&known[..1], "[]", false),
    ];
    for (number, (fields, body, is_known)) in (1..).zip(cases) {
        let reason = device.event(fields, body).await;
        if B::ACKNOWLEDGES_AFTER_COMMIT {
            assert_eq!(reason, PubAckReason::PayloadFormatInvalid, "{fields:?}");
        }
        until("it is counted", || async { site.watcher.refused(Refusal::Payload) == number }).await;
        if is_known {
            let eva = device.next("eva").await;
            assert_eq!(&eva.payload[..], br#"{"status":"error"}"#);
            assert_eq!(property(&eva, "dev_event_id"), Some("7"));
        }
    }
    // The connection goes on, and so does the device.
    let largest = format!(r#"{{"a":"{}"}}"#, "x".repeat(64 * 1024 - 8));
    assert_eq!(largest.len(), 64 * 1024);
    is_taken(device.event(&known, &largest).await);
    assert_eq!(&device.next("eva").await.payload[..], br#"{"status":"success"}"#);
    until_stored(site, 1).await;
    assert_eq!(*site.events().await[0].payload, *largest);
    assert!(device.messages.try_recv().is_err());
}

pub async fn events_keep_their_order<B: AnyBroker>(broker: &B, site: &Site<B>) {
    const EVENTS: usize = 600;
    let mut first = device(broker, site).await;
    let sn = broker.sn("other");
    site.register(&sn).await;
    let second = Device::of(broker, &sn).await;
    let mut notices = Vec::new();
    for number in 1..=EVENTS {
        let number = number.to_string();
        let fields = [("event_type_code", "13"), ("dev_event_id", number.as_str())];
        // A device that asks for a task in between changes nothing about it.
        if number.ends_with('3') {
            first
                .client
                .publish(format!("dev/{}/req", first.sn), "", PublishOptions::new(QoS::AtLeastOnce))
                .await
                .unwrap();
        }
        for device in [&first, &second] {
            notices.push(device.event_later(&fields, "{}", QoS::AtLeastOnce).await);
        }
    }
    for notice in notices {
        is_taken(outcome(notice).await);
    }
    until_stored(site, 2 * EVENTS).await;
    let events = site.events().await;
    for sn in [&first.sn, &second.sn] {
        let of_device = events.iter().filter(|event| event.sn.as_str() == sn);
        let numbers: Vec<_> = of_device.map(|event| event.key.dev_event_id as usize).collect();
        assert_eq!(numbers, (1..=EVENTS).collect::<Vec<_>>(), "{sn}");
    }
    for _ in 0..EVENTS {
        first.next_of(&["eva"]).await;
    }
}

pub async fn a_flood_is_held_back_where_it_still_can_be<B: AnyBroker>(broker: &B, site: &Site<B>) {
    let mut device = device(broker, site).await;
    let began = Instant::now();
    let mut notices = Vec::new();
    for number in 1..=60 {
        let number = number.to_string();
        let fields = [("event_type_code", "13"), ("dev_event_id", number.as_str())];
        notices.push(device.event_later(&fields, "{}", QoS::AtLeastOnce).await);
    }
    let (mut refused, mut errors) = (0, 0);
    for notice in notices {
        let reason = outcome(notice).await;
        if reason == PubAckReason::QuotaExceeded {
            refused += 1;
        } else {
            is_taken(reason);
        }
        let answer = device.next("eva").await;
        errors += usize::from(answer.payload[..] == *br#"{"status":"error"}"#);
    }
    let counted = site.watcher.refused(Refusal::Flood);
    // One a second comes back.
    let back = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(counted <= 10 && counted + back >= 10, "{counted} after {back} s");
    assert_eq!(errors, refused);
    assert_eq!(refused, if B::ACKNOWLEDGES_AFTER_COMMIT { counted } else { 0 });
    assert_eq!(site.watcher.refused(Refusal::Limit), 0);
    assert_eq!(site.events().await.len(), 60 - refused);
    // Nobody was told that these are safe.
    for number in 61..=120 {
        let number = number.to_string();
        let fields = [("event_type_code", "13"), ("dev_event_id", number.as_str())];
        drop(device.event_later(&fields, "{}", QoS::AtMostOnce).await);
    }
    for _ in 61..=120 {
        device.next("eva").await;
    }
    let stored = site.events().await.len() - (60 - refused);
    let back = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(stored <= back.min(50), "{stored} after {back} s");
    assert_eq!(site.watcher.refused(Refusal::Flood), counted + 60 - stored);
}
