//! Calls, presence and announcements through the broker.

use covey_core::port::Refusal;
use covey_core::task::TaskStatus;
use rumqttc::PublishOptions;
use rumqttc::mqttbytes::QoS;

use super::broker::Broker;
use crate::broker::AnyBroker;
use crate::device::{Device, PATIENCE, correlation, property};
use crate::site::{Site, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_there_and_back() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let sn = broker.sn("call");
    let site = Site::with(&broker, data.path(), [&*sn]).await;
    let mut device = Device::of(&broker, &sn).await;
    site.until_online(&sn, true).await;
    device.listen().await;
    let id = site.create(&sn).await.to_string();
    let tsk = device.next("tsk").await;
    assert_eq!(correlation(&tsk), id);
    assert_eq!(property(&tsk, "correlationData"), Some(id.as_str()));
    assert_eq!(property(&tsk, "method_code"), Some("7"));
    assert!(property(&tsk, "expires_at").is_some());
    device.say("ack", &id, None).await;
    device.say("req", &id, None).await;
    let rsp = device.next("rsp").await;
    assert_eq!((correlation(&rsp), &rsp.payload[..]), (id.clone(), &b"{\"n\":1}"[..]));
    device.say("res", &id, Some(200)).await;
    let cmt = device.next("cmt").await;
    assert_eq!(correlation(&cmt), id);
    let result_id = property(&cmt, "result_id").unwrap().to_owned();
    // The same result again: the same answer.
    device.say("res", &id, Some(200)).await;
    assert_eq!(property(&device.next("cmt").await, "result_id"), Some(result_id.as_str()));
    let task = site.task(covey_core::id::TaskId(id.parse().unwrap())).await;
    assert_eq!(task.task.status, TaskStatus::Done);
    let (_, details) = site.presence(&sn).await.unwrap();
    assert!(details.contains(&("protocol".to_owned(), "mqtt5".to_owned())), "{details:?}");
    assert!(details.contains(&("address".to_owned(), "127.0.0.1".to_owned())), "{details:?}");
    drop(device);
    site.until_online(&sn, false).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_announced_to_whoever_subscribes() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let sn = broker.sn("waits");
    let site = Site::with(&broker, data.path(), [&*sn]).await;
    let id = site.create(&sn).await.to_string();
    let files = broker.device(&sn);
    let mut device = Device::connect(broker.port, &sn, &files).await;
    device.listen().await;
    assert_eq!(correlation(&device.next("tsk").await), id);
    // It comes again on the next connection.
    drop(device);
    site.until_online(&sn, false).await;
    let mut device = Device::connect(broker.port, &sn, &files).await;
    device.listen().await;
    assert_eq!(correlation(&device.next("tsk").await), id);
    site.stop().await;
}

/// Waits for a message about a task. Before it there may be announcements alone:
/// both servers may announce a task that is made while news of the device
/// travel. Answers how many there were.
async fn next_with(device: &mut Device, level: &str, id: &str) -> u32 {
    let mut again = 0;
    loop {
        let message = device.next_of(&["tsk", "rsp", "cmt"]).await;
        let topic = std::str::from_utf8(&message.topic).unwrap();
        if topic.ends_with(&format!("/{level}")) && correlation(&message) == id {
            return again;
        }
        assert!(topic.ends_with("/tsk"), "{topic} in place of {level}");
        again += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_each_may_take_the_answer() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let first = Site::start(&broker, data.path(), "a").await;
    let second = Site::start(&broker, data.path(), "b").await;
    let sn = broker.sn("two");
    first.register(&sn).await;
    let mut device = Device::of(&broker, &sn).await;
    device.listen().await;
    until("both know", || async {
        first.engine.server().listening() == 1 && second.engine.server().listening() == 1
    })
    .await;
    let mut again = 0;
    for round in 0..20 {
        let site = if round % 2 == 0 { &first } else { &second };
        let id = site.create(&sn).await.to_string();
        again += next_with(&mut device, "tsk", &id).await;
        device.say("req", &id, None).await;
        again += next_with(&mut device, "rsp", &id).await;
        device.say("res", &id, Some(200)).await;
        again += next_with(&mut device, "cmt", &id).await;
    }
    assert!(again <= 20, "each server announces a task once at most: {again} came again");
    drop(device);
    first.until_online(&sn, false).await;
    until("both know", || async {
        first.engine.server().listening() == 0 && second.engine.server().listening() == 0
    })
    .await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_later_sees_who_is_connected() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let sn = broker.sn("later");
    let site = Site::with(&broker, data.path(), [&*sn]).await;
    let mut device = Device::of(&broker, &sn).await;
    device.listen().await;
    site.until_online(&sn, true).await;
    site.stop().await;
    let site = Site::start(&broker, data.path(), "a").await;
    until("it is seen", || async { site.engine.server().listening() == 1 }).await;
    let id = site.create(&sn).await.to_string();
    assert_eq!(correlation(&device.next("tsk").await), id);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reaches_nothing_of_another() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let site = Site::start(&broker, data.path(), "a").await;
    let (sn, other) = (broker.sn("mine"), broker.sn("other"));
    site.register(&sn).await;
    site.register(&other).await;
    let id = site.create(&other).await;
    let mut device = Device::of(&broker, &sn).await;
    device.listen().await;
    // Another's task, by its id: nothing to do.
    device.say("req", &id.to_string(), None).await;
    assert_eq!(property(&device.next("rsp").await, "method_code"), Some("0"));
    device.say("res", &id.to_string(), Some(200)).await;
    until("it is refused", || async { site.watcher.refused(Refusal::UnknownTask) == 1 }).await;
    assert_eq!(site.task(id).await.task.status, TaskStatus::Ready);
    // Another's topic: the broker closes the connection.
    let topic = format!("dev/{other}/res");
    let options = PublishOptions::new(QoS::AtLeastOnce);
    device.client.publish(topic, "x", options).await.unwrap();
    tokio::time::timeout(PATIENCE, device.ends.recv()).await.unwrap().unwrap();
    site.stop().await;
}
