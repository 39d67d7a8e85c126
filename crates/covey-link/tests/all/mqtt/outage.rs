//! The broker dies, a server dies, and both come back.

use std::time::{Duration, Instant};

use covey_core::task::TaskStatus;
use covey_link::LinkStatus;
use rumqttc::mqttbytes::v5::PubAckReason;

use super::broker::Broker;
use crate::device::{Device, correlation};
use crate::site::{Site, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_was_killed_is_found_again() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    let device = Device::of(&broker, "dev1").await;
    device.listen().await;
    broker.kill();
    until("the link is down", || async { site.link.status() == LinkStatus::Down }).await;
    // The store takes it; the device is told when the broker is back.
    let id = site.create("dev1").await;
    drop(device);
    tokio::time::sleep(Duration::from_millis(500)).await;
    broker.run();
    let began = Instant::now();
    site.until_up().await;
    println!("the link was up {:?} after the broker", began.elapsed());
    let mut device = Device::of(&broker, "dev1").await;
    device.listen().await;
    assert_eq!(correlation(&device.next("tsk").await), id.to_string());
    device.say("req", &id.to_string(), None).await;
    device.next("rsp").await;
    device.say("res", &id.to_string(), Some(200)).await;
    device.next("cmt").await;
    assert_eq!(site.task(id).await.task.status, TaskStatus::Done);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_while_the_server_was_away_is_carried_out() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    let mut device = Device::of(&broker, "dev1").await;
    device.listen().await;
    let id = site.create("dev1").await;
    device.next("tsk").await;
    device.say("req", &id.to_string(), None).await;
    device.next("rsp").await;
    site.stop().await;
    // The broker keeps it for the server: its session has not ended.
    device.say("res", &id.to_string(), Some(200)).await;
    let site = Site::start(&broker, data.path(), "a").await;
    device.next("cmt").await;
    assert_eq!(site.task(id).await.task.status, TaskStatus::Done);
    // The device did not move meanwhile; the server tells it all the same.
    let next = site.create("dev1").await;
    assert_eq!(correlation(&device.next("tsk").await), next.to_string());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_came_unseen_is_told_of_its_tasks() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    // A session that is not kept: nothing of what happens without it is heard later.
    let site = Site::start_with(&broker, data.path(), "a", |options| options.session_expiry_s = 0).await;
    site.register("dev1").await;
    let id = site.create("dev1").await;
    site.stop().await;
    let mut device = Device::of(&broker, "dev1").await;
    device.listen().await;
    let site = Site::start(&broker, data.path(), "a").await;
    assert_eq!(correlation(&device.next("tsk").await), id.to_string());
    // It says something, and so is seen.
    device.say("ack", &id.to_string(), None).await;
    site.until_online("dev1", true).await;
    let (_, details) = site.presence("dev1").await.unwrap();
    assert!(details.contains(&("source".to_owned(), "last_contact".to_owned())), "{details:?}");
    site.stop().await;
}

/// Where servers hear of results.
const RESULTS: &str = "$share/covey/dev/+/res";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_server_had_not_acknowledged_comes_again() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    let mut device = Device::of(&broker, "dev1").await;
    device.listen().await;
    let id = site.create("dev1").await;
    device.next("tsk").await;
    device.say("req", &id.to_string(), None).await;
    device.next("rsp").await;
    site.stop().await;
    // The server as it is killed: it has received the result, and says nothing more.
    let files = broker.service("covey.a");
    let subscriptions = || broker.log().matches(&format!("covey.a 1 {RESULTS}")).count();
    let before = subscriptions();
    let mut dying = broker
        .mosquitto("mosquitto_sub", &files)
        .args(["-V", "5", "-c", "-x", "300", "-i", "covey.a", "-q", "1", "-t", RESULTS])
        .spawn()
        .unwrap();
    until("it has subscribed", || async { subscriptions() > before }).await;
    // Stopped by SIGSTOP it takes packets into its socket and acknowledges none.
    signal(dying.id(), "STOP");
    device.say("res", &id.to_string(), Some(200)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    signal(dying.id(), "KILL");
    dying.wait().unwrap();
    let site = Site::start(&broker, data.path(), "a").await;
    device.next("cmt").await;
    assert_eq!(site.task(id).await.task.status, TaskStatus::Done);
    site.stop().await;
}

fn signal(process: u32, name: &str) {
    let status =
        std::process::Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_tells_nothing_will_do() {
    let broker = Broker::start_plain();
    let data = tempfile::tempdir().unwrap();
    let site = Site::start_with(&broker, data.path(), "server", |options| options.contact_s = 1).await;
    // No accounts are kept here, so this does not wait for any.
    let registered = site.register("dev1").await;
    // Nobody knows whether the device is there: the first task is lost on it.
    let first = site.create("dev1").await;
    let mut device = Device::of(&broker, "dev1").await;
    device.listen().await;
    // It asks, and so is known to be there.
    device.say("req", "", None).await;
    assert_eq!(correlation(&device.next_of(&["rsp", "tsk"]).await), first.to_string());
    site.until_online("dev1", true).await;
    device.say("res", &first.to_string(), Some(200)).await;
    device.next_of(&["cmt"]).await;
    // It says nothing for a while: shown as gone, told all the same.
    site.until_online("dev1", false).await;
    let second = site.create("dev1").await;
    assert_eq!(correlation(&device.next("tsk").await), second.to_string());
    // The rights of the file are those of the accounts.
    assert_eq!(device.publish("dev/dev2/res", Default::default(), "").await, PubAckReason::NotAuthorized);
    let mut other = Device::of(&broker, "dev2").await;
    other.subscribe("srv/#").await;
    let third = site.create("dev1").await;
    assert_eq!(correlation(&device.next("tsk").await), third.to_string());
    assert!(other.messages.try_recv().is_err(), "a device heard another's task");
    // What a retired device sends is refused here.
    site.engine.for_caller(&site.caller).device_retire(registered.identity.device_id).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    device.say("res", &second.to_string(), Some(200)).await;
    until("it is refused", || async { site.watcher.refused(covey_core::port::Refusal::NotAdmitted) > 0 })
        .await;
    site.stop().await;
}
