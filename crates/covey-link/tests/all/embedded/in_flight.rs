//! Many events of one device are under way at once, and are acknowledged in
//! their order.

use std::time::Duration;

use covey_core::budget::Budgets;
use covey_core::port::Event;
use rumqttc::mqttbytes::QoS;

use super::broker::Broker;
use crate::device::{Device, outcome};
use crate::site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_one_device_share_commits() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let site = Site::start_with_budgets(&broker, data.path(), Budgets::unbounded()).await;
    site.register("dev1").await;
    let device = Device::of(&broker, "dev1").await;
    let mut notices = Vec::new();
    for number in 1..=1_000 {
        let number = number.to_string();
        let fields = [("event_type_code", "13"), ("dev_event_id", number.as_str())];
        notices.push(device.event_later(&fields, "{}", QoS::AtLeastOnce).await);
    }
    for notice in notices {
        outcome(notice).await;
    }
    assert_eq!(site.watcher.seen(Event::EventStored), 1_000);
    let commits = site.commits();
    assert!(commits < 500, "{commits} commits for 1000 events");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_goes_leaves_its_events() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    for round in 0..20 {
        let device = Device::of(&broker, "dev1").await;
        let number = (round + 1).to_string();
        let fields = [("event_type_code", "13"), ("dev_event_id", number.as_str())];
        drop(device.event_later(&fields, "{}", QoS::AtLeastOnce).await);
        tokio::time::sleep(Duration::from_millis(round)).await;
        drop(device);
    }
    // What is counted is stored, and the other way round.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(site.events().await.len(), site.watcher.seen(Event::EventStored));
    let device = Device::of(&broker, "dev1").await;
    device.event(&[("event_type_code", "13"), ("dev_event_id", "99")], "{}").await;
    assert_eq!(site.events().await.last().unwrap().key.dev_event_id, 99);
    site.stop().await;
}
