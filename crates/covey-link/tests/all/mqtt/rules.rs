//! What the broker must refuse, each with a real client.

use std::time::Duration;

use rumqttc::PublishOptions;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{PubAckReason, PublishProperties, SubscribeReasonCode};

use super::broker::Broker;
use crate::broker::AnyBroker;
use crate::device::{Device, Manner, PATIENCE, tls};
use crate::site::Site;

async fn refused(port: u16, sn: &str, transport: rumqttc::Transport, manner: Manner) -> String {
    match Device::connect_with(port, sn, transport, manner).await {
        Ok(_) => panic!("was let in"),
        Err(why) => why,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_not_let_in() {
    let broker = Broker::start();
    let ca = broker.service("covey.a").ca;
    // No certificate, with and without a user name and a password.
    for credentials in [false, true] {
        let manner = Manner { credentials, ..Manner::default() };
        refused(broker.port, "dev1", tls(&ca, None), manner).await;
    }
    // A certificate of another CA with the same names.
    let foreign = broker.foreign("dev1");
    refused(broker.port, "dev1", tls(&ca, Some(&foreign)), Manner::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_does_nothing_outside_its_own_topics() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["dev1", "dev2"]).await;
    let device = Device::of(&broker, "dev1").await;
    for topic in [
        "dev/dev2/res",
        "srv/dev2/tsk",
        "srv/dev1/tsk",
        "x",
        "$SYS/broker/log/N",
        "$CONTROL/dynamic-security/v1",
    ] {
        let reason = device.publish(topic, PublishProperties::default(), "").await;
        assert_eq!(reason, PubAckReason::NotAuthorized, "{topic}");
    }
    for filter in [
        "#",
        "+/dev1/tsk",
        "srv/#",
        "srv/+/tsk",
        "srv/dev2/tsk",
        "dev/dev1/#",
        "$SYS/#",
        "$SYS/broker/log/N",
        "$share/covey/dev/+/res",
        "$share/x/srv/dev1/tsk",
        "$share/x/srv/dev2/tsk",
        "$CONTROL/dynamic-security/v1/response",
    ] {
        assert_eq!(device.subscribe(filter).await, SubscribeReasonCode::NotAuthorized, "{filter}");
    }
    for filter in ["srv/dev1/#", "srv/dev1/+", "srv/dev1/tsk"] {
        assert!(matches!(device.subscribe(filter).await, SubscribeReasonCode::Success(_)), "{filter}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_client_id_gets_nobody_elses_session() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["dev1", "dev2"]).await;
    let mut victim = Device::of(&broker, "dev2").await;
    victim.listen().await;
    // The device dev1 says that it is dev2, and that it is a server.
    for client_id in ["dev2", "covey.a", ""] {
        let files = broker.device("dev1");
        let manner = Manner { client_id: Some(client_id.to_owned()), ..Manner::default() };
        let liar =
            Device::connect_with(broker.port, "dev1", tls(&files.ca, Some(&files)), manner).await.unwrap();
        // It is dev1, whatever it says: Mosquitto puts the CN in place of the client id.
        assert_eq!(liar.subscribe("srv/dev2/tsk").await, SubscribeReasonCode::NotAuthorized);
        assert!(matches!(liar.subscribe("srv/dev1/tsk").await, SubscribeReasonCode::Success(_)));
        assert_eq!(liar.say("ack", "x", None).await, PubAckReason::Success);
    }
    assert!(victim.ends.try_recv().is_err(), "the victim was disconnected");
    let id = site.create("dev2").await;
    assert_eq!(crate::device::correlation(&victim.next("tsk").await), id.to_string());
    assert_eq!(site.link.status(), covey_link::LinkStatus::Up);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_retained() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    let device = Device::of(&broker, "dev1").await;
    let mut options = PublishOptions::new(QoS::AtLeastOnce);
    options = options.retain(true);
    // The client knows from the CONNACK that the broker takes none (MQTT 5 §3.2.2.3.5).
    let notice = device.client.publish_tracked("dev/dev1/x", "stays", options).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, notice.wait_async()).await.unwrap();
    assert!(format!("{answer:?}").contains("RetainNotSupported"), "{answer:?}");
    // One that does so all the same is disconnected, and what it said is gone.
    let files = broker.device("dev1");
    let said = broker
        .mosquitto("mosquitto_pub", &files)
        .args(["-V", "311", "-i", "dev1", "-q", "1", "-r", "-t", "dev/dev1/x", "-m", "stays"])
        .output()
        .unwrap();
    assert!(!said.status.success(), "a retained message was taken: {said:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_says_nothing_on_a_foreign_topic() {
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = Site::with(&broker, data.path(), ["dev1", "dev2"]).await;
    let mut victim = Device::of(&broker, "dev2").await;
    victim.listen().await;
    let files = broker.device("dev1");
    for topic in ["srv/dev2/tsk", "dev/dev2/res"] {
        let manner = Manner { will: Some(topic.to_owned()), ..Manner::default() };
        // Let in or not: the will must not be heard.
        if let Ok(device) =
            Device::connect_with(broker.port, "dev1", tls(&files.ca, Some(&files)), manner).await
        {
            drop(device);
            site.until_online("dev1", false).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(victim.messages.try_recv().is_err());
    // A will on its own topic is its own: here a result that cannot be understood.
    let before = site.watcher.refused(covey_core::port::Refusal::Correlation);
    assert_eq!(before, 0, "the foreign will reached a server");
    let manner = Manner { will: Some("dev/dev1/res".to_owned()), ..Manner::default() };
    let device =
        Device::connect_with(broker.port, "dev1", tls(&files.ca, Some(&files)), manner).await.unwrap();
    drop(device);
    crate::site::until("the will is heard", || async {
        site.watcher.refused(covey_core::port::Refusal::Correlation) == 1
    })
    .await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_certificate_is_one_client() {
    let broker = Broker::start();
    let files = broker.service("covey.a");
    let mut first = Device::connect(broker.port, "covey.a", &files).await;
    let manner = Manner { client_id: Some("covey.other".to_owned()), ..Manner::default() };
    let second = Device::connect_with(broker.port, "covey.a", tls(&files.ca, Some(&files)), manner).await;
    assert!(second.is_ok());
    // Mosquitto 2.0.11 closes the first one's socket, and its DISCONNECT (0x8E) does not always get out.
    let end = tokio::time::timeout(PATIENCE, first.ends.recv()).await;
    assert!(end.is_ok(), "two servers were let in with one certificate");
}
