//! A client of the broker, as bare as devices are.

use std::sync::Arc;
use std::time::Duration;

use covey_link::TlsFiles;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{LastWill, PubAckReason, Publish, PublishProperties, SubscribeReasonCode};
use rumqttc::{
    AsyncClient, ConnectionError, Event, MqttOptions, NetworkOptions, Packet, PublishNotice, PublishOptions,
    PublishResult, TlsConfiguration, Transport,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::mpsc;

use crate::broker::AnyBroker;

/// How long a test waits at most for what must come: on a busy machine that is long.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Device {
    pub sn: String,
    pub client: AsyncClient,
    pub messages: mpsc::UnboundedReceiver<Publish>,
    /// How each connection ended.
    pub ends: mpsc::UnboundedReceiver<String>,
    polling: tokio::task::JoinHandle<()>,
}

/// How to connect, beyond the certificate.
#[derive(Default)]
pub struct Manner {
    pub client_id: Option<String>,
    pub will: Option<String>,
    pub credentials: bool,
    /// Whether it asks for a session that is kept.
    pub is_resumed: bool,
}

pub fn tls(ca: &std::path::Path, files: Option<&TlsFiles>) -> Transport {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match files {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain =
                CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap).collect();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap()).unwrap()
        }
    };
    Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config)))
}

impl Device {
    /// Connects and waits until it is let in.
    pub async fn connect(port: u16, sn: &str, files: &TlsFiles) -> Self {
        let transport = tls(&files.ca, Some(files));
        Self::connect_with(port, sn, transport, Manner::default()).await.expect("the device was not let in")
    }

    /// Connects one with the certificate that a broker has for it.
    pub async fn of<B: AnyBroker>(broker: &B, sn: &str) -> Self {
        Self::connect(broker.port(), sn, &broker.device(sn)).await
    }

    /// Connects in some other manner; answers how that ended if it is not let in.
    pub async fn connect_with(
        port: u16,
        sn: &str,
        transport: Transport,
        manner: Manner,
    ) -> Result<Self, String> {
        let id = manner.client_id.unwrap_or_else(|| sn.to_owned());
        let mut options = MqttOptions::new(id, ("127.0.0.1", port));
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options.set_transport(transport).set_network_options(network).set_keep_alive(30);
        options.set_connect_timeout(PATIENCE);
        // The client keeps a slot for each.
        options.set_outgoing_inflight_upper_limit(64);
        options
            .set_clean_start(!manner.is_resumed)
            .set_session_expiry_interval(manner.is_resumed.then_some(60));
        if let Some(topic) = manner.will {
            options.set_last_will(LastWill::new(topic, "last words", QoS::AtLeastOnce, false, None));
        }
        if manner.credentials {
            options.set_credentials("covey.a", "secret");
        }
        let (client, mut event_loop) = AsyncClient::builder(options).capacity(256).build();
        match tokio::time::timeout(PATIENCE, event_loop.poll()).await.map_err(|_| "timeout".to_owned())? {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {}
            Ok(other) => return Err(format!("{other:?}")),
            Err(error) => return Err(error.to_string()),
        }
        let (message, messages) = mpsc::unbounded_channel();
        let (end, ends) = mpsc::unbounded_channel();
        let polling = tokio::spawn(async move {
            loop {
                match event_loop.poll().await {
                    Ok(Event::Incoming(Packet::Publish(publish))) => drop(message.send(publish)),
                    Ok(_) => {}
                    Err(ConnectionError::RequestsDone) => return,
                    Err(error) => {
                        drop(end.send(error.to_string()));
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
        Ok(Self { sn: sn.to_owned(), client, messages, ends, polling })
    }

    pub async fn subscribe(&self, filter: &str) -> SubscribeReasonCode {
        let notice = self.client.subscribe_tracked(filter, QoS::AtLeastOnce).await.unwrap();
        let suback = tokio::time::timeout(PATIENCE, notice.wait_async()).await.unwrap().unwrap();
        suback.return_codes[0]
    }

    pub async fn listen(&self) {
        for level in ["tsk", "rsp", "cmt"] {
            let topic = format!("srv/{}/{level}", self.sn);
            assert!(matches!(self.subscribe(&topic).await, SubscribeReasonCode::Success(_)), "{topic}");
        }
    }

    /// Publishes with QoS 1; answers the reason of the PUBACK.
    pub async fn publish(&self, topic: &str, properties: PublishProperties, body: &str) -> PubAckReason {
        let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
        let notice = self.client.publish_tracked(topic, body.to_owned(), options).await.unwrap();
        outcome(notice).await
    }

    /// Sends `ack`, `req` or `res` about a task.
    pub async fn say(&self, level: &str, task: &str, status_code: Option<u16>) -> PubAckReason {
        let user_properties =
            status_code.map(|code| vec![("status_code".to_owned(), code.to_string())]).unwrap_or_default();
        let properties = PublishProperties {
            correlation_data: Some(task.to_owned().into()),
            user_properties,
            ..PublishProperties::default()
        };
        self.publish(&format!("dev/{}/{level}", self.sn), properties, "").await
    }

    /// Publishes an event; answers the reason of the PUBACK.
    pub async fn event(&self, fields: &[(&str, &str)], body: &str) -> PubAckReason {
        outcome(self.event_later(fields, body, QoS::AtLeastOnce).await).await
    }

    /// Publishes an event and does not wait.
    pub async fn event_later(&self, fields: &[(&str, &str)], body: &str, qos: QoS) -> PublishNotice {
        let user_properties =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let properties = PublishProperties { user_properties, ..PublishProperties::default() };
        let options = PublishOptions::new(qos).properties(properties);
        let topic = format!("dev/{}/evt", self.sn);
        self.client.publish_tracked(topic, body.to_owned(), options).await.unwrap()
    }

    /// The next message, which must be on this level.
    pub async fn next(&mut self, level: &str) -> Publish {
        let message = self.receive(level).await;
        assert_eq!(std::str::from_utf8(&message.topic).unwrap(), format!("srv/{}/{level}", self.sn));
        message
    }

    /// The next message that is on one of these levels, others left out.
    pub async fn next_of(&mut self, levels: &[&str]) -> Publish {
        loop {
            let message = self.receive(levels[0]).await;
            let topic = String::from_utf8(message.topic.to_vec()).unwrap();
            let level = topic.rsplit('/').next().unwrap();
            if levels.contains(&level) {
                return message;
            }
        }
    }

    async fn receive(&mut self, what: &str) -> Publish {
        tokio::time::timeout(PATIENCE, self.messages.recv())
            .await
            .unwrap_or_else(|_| panic!("no {what} has come"))
            .unwrap()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

/// The reason of a PUBACK.
pub async fn outcome(notice: PublishNotice) -> PubAckReason {
    match tokio::time::timeout(PATIENCE, notice.wait_async()).await.unwrap() {
        Ok(PublishResult::Qos1(puback)) => puback.reason,
        other => panic!("{other:?}"),
    }
}

pub fn correlation(message: &Publish) -> String {
    let properties = message.properties.as_ref().unwrap();
    String::from_utf8(properties.correlation_data.as_ref().unwrap().to_vec()).unwrap()
}

pub fn property<'a>(message: &'a Publish, name: &str) -> Option<&'a str> {
    let properties = &message.properties.as_ref()?.user_properties;
    properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}
