//! Calls and presence over the embedded broker.

use covey_core::task::TaskStatus;

use super::broker::Broker;
use crate::broker::AnyBroker;
use crate::device::{Device, Manner, PATIENCE, correlation, property, tls};
use crate::site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_there_and_back_between_events() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    let mut device = Device::of(&broker, "dev1").await;
    device.listen().await;
    site.until_online("dev1", true).await;
    for number in 1..=20_u32 {
        let id = site.create("dev1").await;
        assert_eq!(correlation(&device.next("tsk").await), id.to_string());
        let number = number.to_string();
        // Events are not answered before the messages that come after them are taken.
        let fields = [("event_type_code", "13"), ("dev_event_id", number.as_str())];
        let event = device.event_later(&fields, "{}", rumqttc::mqttbytes::QoS::AtLeastOnce).await;
        device.say("req", &id.to_string(), None).await;
        assert_eq!(correlation(&device.next("rsp").await), id.to_string());
        device.say("res", &id.to_string(), Some(200)).await;
        assert!(property(&device.next("cmt").await, "result_id").is_some());
        event.wait_async().await.unwrap();
        assert_eq!(site.task(id).await.task.status, TaskStatus::Done);
    }
    assert_eq!(site.events().await.len(), 20);
    assert!(site.presence("dev1").await.is_some_and(|(is_online, _)| is_online));
    drop(device);
    site.until_online("dev1", false).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_client_id_is_refused() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    let files = broker.device("dev1");
    let manner = Manner { client_id: Some("dev2".to_owned()), ..Manner::default() };
    let refused = Device::connect_with(broker.port, "dev1", tls(&files.ca, Some(&files)), manner).await;
    assert!(refused.is_err_and(|why| why.contains("ClientIdentifierNotValid")));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_device_is_gone_at_once_and_its_events_stay() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let site = Site::start(&broker, data.path(), "a").await;
    let registered = site.register("dev1").await;
    let files = broker.device("dev1");
    let mut device = Device::connect(broker.port, "dev1", &files).await;
    device.event(&[("event_type_code", "13"), ("dev_event_id", "1")], "{}").await;
    site.engine.for_caller(&site.caller).device_retire(registered.identity.device_id).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, device.ends.recv()).await.unwrap().unwrap();
    assert!(end.contains("NotAuthorized"), "{end}");
    let again =
        Device::connect_with(broker.port, "dev1", tls(&files.ca, Some(&files)), Manner::default()).await;
    assert!(again.is_err_and(|why| why.contains("NotAuthorized")));
    assert_eq!(site.events().await.len(), 1);
    site.stop().await;
}
