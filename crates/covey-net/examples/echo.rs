//! An MQTT server that sends each message back to whom it came from, to try client libraries with:
//! `dev/<name>/x` comes back as `srv/<name>/x`.
//!
//! `cargo run -p covey-net --example echo -- FOLDER ADDRESS NAME...` writes `ca.pem`, and `NAME.pem`
//! and `NAME.key` for each name, then serves mutual TLS until it is interrupted.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, OnceLock};

use covey_net::mqtt::{
    Admitted, Answer, Claim, ConnectionId, Denied, End, Endpoint, Handled, Hub, KeptSession, Later,
    MqttLimits, Opened, Publisher, Service, serve,
};
use covey_net::{Identity, Limits, Refusal, ServerTls, listener};
use covey_pki::{Authority, CertificateLifetimes, ServerNames};
use covey_wire::mqtt::session::{Arrived, Message, Outcome, WillMessage};
use covey_wire::mqtt::{Place, Property, PropertyList, Qos, ReasonCode};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, address, names @ ..] = &arguments[..] else {
        eprintln!("echo FOLDER ADDRESS NAME...");
        std::process::exit(2);
    };
    let tls = prepare(Path::new(folder), names);
    let listener = listener::bind(address.parse().unwrap()).unwrap();
    println!("serving on {}", listener.local_addr().unwrap());
    let way_back = Arc::new(OnceLock::new());
    let hub = Hub::new(Echo(Arc::clone(&way_back)), MqttLimits::default());
    let _ = way_back.set(Arc::clone(&hub));
    let shutdown = CancellationToken::new();
    let endpoint = Endpoint { listener, tls: Some(tls), limits: Limits::default() };
    let serving = tokio::spawn(serve(hub, vec![endpoint], shutdown.clone()));
    tokio::signal::ctrl_c().await.unwrap();
    shutdown.cancel();
    serving.await.unwrap();
}

/// Makes the certificates and writes those of the devices.
fn prepare(folder: &Path, names: &[String]) -> Arc<ServerTls> {
    let now = OffsetDateTime::now_utc();
    let authority =
        Authority::open_or_create(&folder.join("pki"), CertificateLifetimes::default(), now).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.root_pem()).unwrap();
    for name in names {
        let issued = authority.issue_device(name, now).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), issued.certificate_pem).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), issued.private_key_pem.unwrap().expose()).unwrap();
    }
    let hosts = ServerNames::from_hosts(["localhost", "127.0.0.1"]);
    let server = authority.issue_service_server(&hosts, now).unwrap();
    let key = server.private_key_pem.expose().as_bytes();
    let identity = Identity::from_pem(server.certificate_pem.as_bytes(), key).unwrap();
    ServerTls::for_devices(identity, vec![authority.root_der().clone(), authority.issuing_der().clone()])
        .unwrap()
}

struct Echo(Arc<OnceLock<Arc<Hub<Echo>>>>);

impl Service for Echo {
    type Client = String;

    async fn admit(&self, claim: Claim<'_>) -> Result<Admitted<String>, Denied> {
        let name = claim.connect.client_id;
        let shown = claim.certificate.and_then(|certificate| certificate.common_name.as_deref());
        if shown != Some(name) {
            let text = "the client id is not the certificate's CN".into();
            return Err(Denied { reason: ReasonCode::ClientIdentifierNotValid, text });
        }
        Ok(Admitted {
            client: Arc::new(name.to_owned()),
            assigned_client_id: None,
            session: KeptSession::default(),
        })
    }

    fn connected(&self, client: &Arc<String>, opened: Opened<'_>) {
        println!(
            "{client} connected from {}, {:?}, resumed: {}",
            opened.address, opened.version, opened.is_resumed
        );
    }

    fn disconnected(&self, client: &Arc<String>, _: ConnectionId, end: &End) {
        println!("{client} disconnected: {end:?}");
    }

    fn publish(&self, publisher: Publisher<'_, String>, message: &Arrived<'_>) -> Handled {
        let (client, body) = (Arc::clone(publisher.client), message.payload.to_vec());
        let Some(level) = message.topic.strip_prefix(&format!("dev/{client}/")) else {
            let (reason, text) = (ReasonCode::NotAuthorized, "not a topic of this device".into());
            return Handled::Now(Answer { reason, text, must_close: false });
        };
        let (topic, qos) = (format!("srv/{client}/{level}"), message.qos);
        let mut list = PropertyList::new(Place::PublishFromServer);
        for (name, value) in message.properties.user_properties() {
            list.push(Property::UserProperty(name, value)).unwrap();
        }
        if let Some(data) = message.properties.correlation_data() {
            list.push(Property::CorrelationData(data)).unwrap();
        }
        let way_back = Arc::clone(&self.0);
        Handled::Later(Box::pin(async move {
            let properties = list.properties();
            let back =
                Message { token: 0, topic: &topic, qos, expiry_s: Some(60), properties, payload: &body };
            let sent = way_back.get().and_then(|hub| hub.send(&client, &back));
            println!("{topic}: {} bytes, {qos:?}, {sent:?}", body.len());
            Answer::SUCCESS
        }))
    }

    fn will(&self, client: &Arc<String>, will: WillMessage) -> Later<()> {
        println!("{client} leaves a will on {}", will.topic);
        Box::pin(std::future::ready(()))
    }

    fn may_subscribe(&self, client: &Arc<String>, filter: &str) -> Result<Qos, ReasonCode> {
        let is_own = filter.starts_with(&format!("srv/{client}/"));
        if is_own { Ok(Qos::ExactlyOnce) } else { Err(ReasonCode::NotAuthorized) }
    }

    fn subscribed(&self, client: &Arc<String>, filter: &str, qos: Qos, is_new: bool) {
        println!("{client} subscribed to {filter}, {qos:?}, new: {is_new}");
    }

    fn unsubscribed(&self, client: &Arc<String>, filter: &str) {
        println!("{client} unsubscribed from {filter}");
    }

    fn settled(&self, client: &Arc<String>, outcome: Outcome) {
        println!("{client}: {outcome:?}");
    }

    fn refused(&self, refusal: Refusal) {
        println!("{} refused: {} ({} times)", refusal.address, refusal.why, refusal.count);
    }
}
