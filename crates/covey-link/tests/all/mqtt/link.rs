//! The link over the broker: calls, presence, accounts, several servers.

use std::time::{Duration, Instant};

use covey_core::port::Refusal;
use covey_core::task::TaskStatus;
use rumqttc::mqttbytes::v5::PubAckReason;

use super::broker::Broker;
use crate::broker::AnyBroker;
use crate::device::{Device, Manner, PATIENCE, correlation, property, tls};
use crate::site::{Site, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_all_the_way() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    let mut device = Device::of(&broker, "dev1").await;
    device.listen().await;
    let id = site.create("dev1").await;
    let announced = device.next("tsk").await;
    assert_eq!(correlation(&announced), id.to_string());
    assert_eq!(property(&announced, "method_code"), Some("7"));
    assert_eq!(property(&announced, "correlationData"), Some(&*id.to_string()));
    assert!(property(&announced, "expires_at").is_some());
    assert!(announced.properties.as_ref().unwrap().message_expiry_interval.unwrap() <= 600);
    assert_eq!(device.say("ack", &id.to_string(), None).await, PubAckReason::Success);
    until("it is pending", || async { site.task(id).await.task.status == TaskStatus::Pending }).await;
    device.say("req", &id.to_string(), None).await;
    let response = device.next("rsp").await;
    assert_eq!(&response.payload[..], b"{\"n\":1}");
    device.say("res", &id.to_string(), Some(200)).await;
    let committed = device.next("cmt").await;
    assert!(property(&committed, "result_id").is_some());
    assert_eq!(site.task(id).await.task.status, TaskStatus::Done);
    // Poll: nothing to do.
    device.say("req", "", None).await;
    assert_eq!(property(&device.next("rsp").await, "method_code"), Some("0"));
    // What cannot be understood is counted, and does not hold up what follows.
    device.say("res", &id.to_string(), None).await;
    device.say("req", "", None).await;
    device.next("rsp").await;
    assert_eq!(site.watcher.refused(Refusal::StatusCode), 1);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_away_is_told_when_it_subscribes() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    let first = site.create("dev1").await;
    let mut device = Device::of(&broker, "dev1").await;
    device.listen().await;
    assert_eq!(correlation(&device.next("tsk").await), first.to_string());
    site.until_online("dev1", true).await;
    let (_, details) = site.presence("dev1").await.unwrap();
    let detail =
        |name: &str| details.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(detail("source"), Some("mosquitto_log"));
    assert_eq!(detail("address"), Some("127.0.0.1"));
    assert_eq!(detail("protocol"), Some("MQTT 5"));
    drop(device);
    site.until_online("dev1", false).await;
    // Nobody listens: the next one waits for the next subscription.
    let second = site.create("dev1").await;
    let mut device = Device::of(&broker, "dev1").await;
    device.listen().await;
    let mut told = [correlation(&device.next("tsk").await), correlation(&device.next("tsk").await)];
    told.sort();
    assert_eq!(told, [first.to_string(), second.to_string()]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_device_is_gone_at_once_and_stays_out() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::start(&broker, data.path(), "a").await;
    let registered = site.register("dev1").await;
    site.register("dev2").await;
    let files = broker.device("dev1");
    let mut device = Device::connect(broker.port, "dev1", &files).await;
    let mut other = Device::of(&broker, "dev2").await;
    device.listen().await;
    site.until_online("dev1", true).await;
    let began = Instant::now();
    site.engine.for_caller(&site.caller).device_retire(registered.identity.device_id).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, device.ends.recv()).await.unwrap().unwrap();
    println!("a retired device was gone after {:?}: {end}", began.elapsed());
    drop(device);
    // Its certificate is still good for TLS; the broker lets it in without any
    // right, and the link has it sent away.
    let mut again = Device::connect(broker.port, "dev1", &files).await;
    tokio::time::timeout(PATIENCE, again.ends.recv()).await.expect("it was not sent away").unwrap();
    drop(again);
    assert!(site.watcher.refused(Refusal::NotAdmitted) > 0);
    assert!(other.ends.try_recv().is_err(), "another device was disconnected");
    // Registered again, it is let in again.
    site.register("dev1").await;
    let mut anew = Device::of(&broker, "dev1").await;
    anew.listen().await;
    let id = site.create("dev1").await;
    assert_eq!(correlation(&anew.next("tsk").await), id.to_string());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_put_right_at_the_start() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["stays", "goes"]).await;
    site.stop().await;
    let accounts = || broker.accounts();
    assert!(accounts().contains("covey.device.goes"));
    // A registry that knows another device, as after a restore from a backup.
    let other = tempfile::tempdir().unwrap();
    let site = Site::start(&broker, other.path(), "a").await;
    until("accounts without a device are gone", || async { !accounts().contains("covey.device.") }).await;
    assert!(accounts().contains("covey.server"), "an account that is not a device's was touched");
    site.stop().await;
    let site = Site::start(&broker, data.path(), "a").await;
    until("accounts are back", || async {
        accounts().contains("covey.device.stays") && accounts().contains("covey.device.goes")
    })
    .await;
    let mut device = Device::of(&broker, "stays").await;
    device.listen().await;
    site.create("stays").await;
    device.next("tsk").await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_share_the_work_and_announce_once() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let one = Site::start(&broker, data.path(), "a").await;
    one.register("dev1").await;
    let two = Site::start(&broker, data.path(), "b").await;
    let mut device = Device::of(&broker, "dev1").await;
    device.listen().await;
    until("both know", || async {
        one.engine.server().listening() == 1 && two.engine.server().listening() == 1
    })
    .await;
    for round in 0..6 {
        let site = if round % 2 == 0 { &one } else { &two };
        let id = site.create("dev1").await;
        assert_eq!(correlation(&device.next("tsk").await), id.to_string());
        device.say("req", &id.to_string(), None).await;
        device.next("rsp").await;
        device.say("res", &id.to_string(), Some(200)).await;
        device.next("cmt").await;
        assert_eq!(site.task(id).await.task.status, TaskStatus::Done);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(device.messages.try_recv().is_err(), "something came twice");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_goes_on_is_told_without_subscribing_again() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    let files = broker.device("dev1");
    let manner = || Manner { is_resumed: true, ..Manner::default() };
    let device =
        Device::connect_with(broker.port, "dev1", tls(&files.ca, Some(&files)), manner()).await.unwrap();
    device.listen().await;
    drop(device);
    site.until_online("dev1", false).await;
    let id = site.create("dev1").await;
    // A client that knows nothing of its session is refused by this library, so
    // a bare one looks at what comes: the announcement.
    let output = broker
        .mosquitto("mosquitto_sub", &files)
        .args(["-V", "5", "-c", "-x", "60", "-i", "dev1", "-C", "1", "-W", "5"])
        .args(["-q", "1", "-t", "srv/dev1/none", "-F", "%t %D"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("srv/dev1/tsk") && text.contains(&id.to_string()), "{text} {output:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_mqtt_3_1_1_gets_and_sends_envelopes() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    let id = site.create("dev1").await;
    let files = broker.device("dev1");
    let told = broker
        .mosquitto("mosquitto_sub", &files)
        .args(["-V", "311", "-i", "dev1", "-C", "1", "-W", "5", "-q", "1", "-t", "srv/dev1/tsk"])
        .output()
        .unwrap();
    let envelope: serde_json::Value = serde_json::from_slice(&told.stdout).expect("an envelope");
    assert_eq!(envelope["correlationData"], id.to_string());
    assert_eq!(envelope.get("payload"), None, "the rest comes with `rsp`");
    let body = format!(r#"{{"correlationData":"{id}","status_code":200,"payload":{{"a":1}}}}"#);
    // The one that publishes connects and is known to speak 3.1.1 before its message is looked at,
    // as the broker's log comes on the same connection.
    let said = broker
        .mosquitto("mosquitto_pub", &files)
        .args(["-V", "311", "-i", "dev1", "-q", "1", "-t", "dev/dev1/res", "-m", &body])
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    until("the result is stored", || async { site.task(id).await.task.status == TaskStatus::Done }).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_mqtt_3_1_1_sends_events_with_and_without_an_envelope() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    let files = broker.device("dev1");
    let body = r#"{"200":14,"101":8}"#;
    let enveloped = format!(r#"{{"event_type_code":13,"dev_event_id":"7","payload":{body}}}"#);
    for sent in [enveloped.as_str(), body] {
        let said = broker
            .mosquitto("mosquitto_pub", &files)
            .args(["-V", "311", "-i", "dev1", "-q", "1", "-t", "dev/dev1/evt", "-m", sent])
            .output()
            .unwrap();
        assert!(said.status.success(), "{said:?}");
    }
    until("both are stored", || async { site.events().await.len() == 2 }).await;
    let events = site.events().await;
    let told: Vec<_> =
        events.iter().map(|event| (event.type_code, event.key.dev_event_id, &*event.payload)).collect();
    assert_eq!(told, [(13, 7, body), (14, 8, body)]);
    site.stop().await;
}
