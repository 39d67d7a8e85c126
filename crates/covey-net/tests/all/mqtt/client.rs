//! A client library that others wrote, over mutual TLS: all qualities of service, both ways.

use std::sync::Arc;

use covey_net::mqtt::End;
use covey_wire::mqtt::session::Outcome;
use covey_wire::mqtt::{Qos, ReasonCode};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{PubAckReason, Publish};
use rumqttc::{
    AsyncClient, ConnectionError, Event, MqttOptions, Packet, PublishOptions, PublishResult,
    TlsConfiguration, Transport,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::owner::{Server, Told};
use crate::echo::PATIENCE;

struct Client {
    client: AsyncClient,
    messages: mpsc::UnboundedReceiver<Publish>,
    /// Of each CONNACK after the first, whether the session goes on.
    resumed: mpsc::UnboundedReceiver<bool>,
    /// Whoever loses its connection waits for this until it comes back.
    may_return: Arc<Semaphore>,
    is_resumed: bool,
    polling: JoinHandle<()>,
}

impl Client {
    async fn connect(server: &Server, sn: &str, is_kept: bool) -> Result<Self, String> {
        let device = server.device(sn);
        Self::connect_with(server, sn, server.pki.client_of(&device), is_kept).await
    }

    async fn connect_with(
        server: &Server,
        sn: &str,
        config: rustls::ClientConfig,
        is_kept: bool,
    ) -> Result<Self, String> {
        let mut options = MqttOptions::new(sn, ("localhost", server.address.port()));
        let tls = TlsConfiguration::Rustls(Arc::new(config));
        options.set_transport(Transport::tls_with_config(tls)).set_keep_alive(30);
        options.set_clean_start(!is_kept).set_session_expiry_interval(is_kept.then_some(60));
        options.set_outgoing_inflight_upper_limit(16);
        let (client, mut event_loop) = AsyncClient::builder(options).capacity(64).build();
        let is_resumed = match timeout(PATIENCE, event_loop.poll()).await.unwrap() {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => connack.session_present,
            Ok(other) => return Err(format!("{other:?}")),
            Err(error) => return Err(error.to_string()),
        };
        let (message, messages) = mpsc::unbounded_channel();
        let (again, resumed) = mpsc::unbounded_channel();
        let may_return = Arc::new(Semaphore::new(0));
        let return_permit = Arc::clone(&may_return);
        let polling = tokio::spawn(async move {
            loop {
                match event_loop.poll().await {
                    Ok(Event::Incoming(Packet::Publish(publish))) => drop(message.send(publish)),
                    Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                        let _ = again.send(connack.session_present);
                    }
                    Ok(_) => {}
                    Err(ConnectionError::RequestsDone) => return,
                    Err(_) => return_permit.acquire().await.unwrap().forget(),
                }
            }
        });
        Ok(Self { client, messages, resumed, may_return, is_resumed, polling })
    }

    async fn publish(&self, topic: &str, qos: QoS, body: &str) -> PublishResult {
        let options = PublishOptions::new(qos);
        let notice = self.client.publish_tracked(topic, body.to_owned(), options).await.unwrap();
        timeout(PATIENCE, notice.wait_async()).await.unwrap().unwrap()
    }

    async fn subscribe(&self, filter: &str, qos: QoS) {
        let notice = self.client.subscribe_tracked(filter, qos).await.unwrap();
        timeout(PATIENCE, notice.wait_async()).await.unwrap().unwrap();
    }

    async fn next(&mut self) -> String {
        let publish = timeout(PATIENCE, self.messages.recv()).await.expect("no message").unwrap();
        String::from_utf8(publish.payload.to_vec()).unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

#[tokio::test]
async fn messages_go_both_ways_with_every_quality_of_service() {
    let server = Server::start();
    let mut client = Client::connect(&server, "dev-1", false).await.unwrap();
    client.publish("dev/dev-1/evt", QoS::AtMostOnce, "zero").await;
    match client.publish("dev/dev-1/evt", QoS::AtLeastOnce, "one").await {
        PublishResult::Qos1(puback) => assert_eq!(puback.reason, PubAckReason::Success),
        other => panic!("{other:?}"),
    }
    client.publish("dev/dev-1/evt", QoS::ExactlyOnce, "two").await;
    client.publish("dev/dev-1/soon", QoS::ExactlyOnce, "later").await;
    server.owner.until_times("messages", 4, |told| matches!(told, Told::Message { .. })).await;
    assert_eq!(server.owner.messages(), ["zero", "one", "two", "later"]);

    client.subscribe("srv/dev-1/+", QoS::ExactlyOnce).await;
    for (token, qos) in [(0, Qos::AtMostOnce), (1, Qos::AtLeastOnce), (2, Qos::ExactlyOnce)] {
        server.send("dev-1", token, "tsk", qos, format!("down {token}").as_bytes()).unwrap();
        assert_eq!(client.next().await, format!("down {token}"));
    }
    for token in [1, 2] {
        let settled = Told::Settled(Outcome::Delivered { token, reason: ReasonCode::Success });
        server.owner.until("that it was delivered", |told| *told == settled).await;
    }
    client.client.disconnect().await.unwrap();
    assert_eq!(server.owner.until_ended().await, End::ByClient(ReasonCode::Success));
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_reaches_the_client_with_its_reason() {
    let server = Server::start();
    let client = Client::connect(&server, "dev-1", false).await.unwrap();
    for (topic, reason) in [
        ("dev/dev-1/refuse", PubAckReason::PayloadFormatInvalid),
        ("dev/other/evt", PubAckReason::NotAuthorized),
    ] {
        match client.publish(topic, QoS::AtLeastOnce, "x").await {
            PublishResult::Qos1(puback) => assert_eq!(puback.reason, reason),
            other => panic!("{other:?}"),
        }
    }
    assert!(server.owner.messages().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_session_is_gone_on_with_and_what_came_meanwhile_is_delivered_in_order() {
    let server = Server::start();
    let mut client = Client::connect(&server, "dev-1", true).await.unwrap();
    assert!(!client.is_resumed);
    client.subscribe("srv/dev-1/+", QoS::AtLeastOnce).await;
    server.hub.close("dev-1", ReasonCode::AdministrativeAction, "for a test");
    server.owner.until_ended().await;
    assert_eq!((server.hub.connected(), server.hub.sessions()), (0, 1));
    for token in 0..40 {
        server.send("dev-1", token, "tsk", Qos::AtLeastOnce, token.to_string().as_bytes()).unwrap();
    }
    client.may_return.add_permits(5);
    assert_eq!(timeout(PATIENCE, client.resumed.recv()).await.unwrap(), Some(true));
    for token in 0..40 {
        assert_eq!(client.next().await, token.to_string());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_device_with_tls_1_2_and_one_with_its_certificate_alone_are_connected() {
    let server = Server::start();
    let device = server.device("dev-1");
    let old = server.pki.client(&[&rustls::version::TLS12], Some((device.chain(), device.key())));
    let leaf = vec![device.chain().swap_remove(0)];
    let alone = server.pki.client(rustls::ALL_VERSIONS, Some((leaf, device.key())));
    for config in [old, alone] {
        let client = Client::connect_with(&server, "dev-1", config, false).await.unwrap();
        client.publish("dev/dev-1/evt", QoS::AtLeastOnce, "x").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_leaves_connections_alone() {
    let server = Server::start();
    let before = Client::connect(&server, "dev-1", false).await.unwrap();
    server.tls.renew(server.pki.server(), server.pki.trusted()).unwrap();
    let after = Client::connect(&server, "dev-2", false).await.unwrap();
    before.publish("dev/dev-1/evt", QoS::AtLeastOnce, "x").await;
    after.publish("dev/dev-2/evt", QoS::AtLeastOnce, "x").await;
    assert_eq!(server.hub.connected(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_client_id_that_is_not_the_certificates_name_is_refused_by_the_owner() {
    let server = Server::start();
    let device = server.device("dev-1");
    let config = server.pki.client_of(&device);
    let refused = Client::connect_with(&server, "dev-2", config, false).await.err().unwrap();
    assert!(refused.contains("ClientIdentifierNotValid"), "{refused}");
    let retired = Client::connect(&server, "retired-1", false).await.err().unwrap();
    assert!(retired.contains("NotAuthorized"), "{retired}");
    // The owner knows; it is not told of its own refusals.
    assert!(server.owner.told().is_empty(), "{:?}", server.owner.told());
    server.stop().await;
}
