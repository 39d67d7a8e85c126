//! A server whose owner lets a device in by its certificate, and does with a message what its topic says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use covey_net::mqtt::{
    Admitted, Answer, Claim, ConnectionId, Denied, End, Endpoint, Handled, Hub, KeptSession, KeptState,
    Later, MqttLimits, Opened, Publisher, Service, SessionToKeep, serve,
};
use covey_net::{Limits, Refusal, Refused, ServerTls, listener};
use covey_wire::mqtt::session::{Arrived, Message, Outcome, Sent, Subscription, WillMessage};
use covey_wire::mqtt::{Place, PropertyList, Qos, ReasonCode};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::echo::PATIENCE;
use crate::pki::{Device, Pki};

/// What the owner was told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Connected {
        sn: String,
        connection: ConnectionId,
        is_resumed: bool,
    },
    Disconnected {
        sn: String,
        connection: ConnectionId,
        end: End,
    },
    /// A message that is stored.
    Message {
        topic: String,
        qos: u8,
        body: String,
    },
    Will {
        topic: String,
        body: String,
    },
    Subscribed {
        filter: String,
        is_new: bool,
    },
    Unsubscribed {
        filter: String,
    },
    Settled(Outcome),
    Refused(Refused),
}

/// What the owner knows of a device: its name, and which registration of it this is.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    pub sn: String,
    pub registration: u32,
}

#[derive(Clone)]
pub struct Owner(Arc<Parts>);

struct Parts {
    told: Mutex<Vec<Told>>,
    /// Messages to `slow` wait for a permit.
    pub slow: Arc<Semaphore>,
    registrations: Mutex<HashMap<String, u32>>,
    /// How long it takes to let somebody in.
    admit_ms: u64,
    /// For how long nothing is to be read, each told once.
    holds_ms: Mutex<Vec<u64>>,
    /// Sessions by their device.
    kept: Mutex<HashMap<String, Kept>>,
    /// Each session that is kept waits for a permit; closed, none can be.
    keeping: Arc<Semaphore>,
}

/// A session as it was kept last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub revision: u64,
    pub filters: Vec<String>,
    pub expiry_s: u32,
}

impl Owner {
    fn tell(&self, told: Told) {
        self.0.told.lock().unwrap().push(told);
    }

    pub fn told(&self) -> Vec<Told> {
        self.0.told.lock().unwrap().clone()
    }

    /// After the next packet nothing is read for so long.
    pub fn hold_for(&self, ms: u64) {
        self.0.holds_ms.lock().unwrap().push(ms);
    }

    /// Lets so many slow messages end.
    pub fn let_go(&self, count: usize) {
        self.0.slow.add_permits(count);
    }

    /// Waits until it has been told something.
    pub async fn until(&self, what: &str, is_it: impl Fn(&Told) -> bool) -> Told {
        self.until_times(what, 1, is_it).await
    }

    /// Waits until it has been told it so often.
    pub async fn until_times(&self, what: &str, times: usize, is_it: impl Fn(&Told) -> bool) -> Told {
        let found = async {
            loop {
                if let Some(told) = self.told().into_iter().filter(&is_it).nth(times - 1) {
                    return told;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("was not told {what}: {:?}", self.told()))
    }

    /// How the first connection that ended did.
    pub async fn until_ended(&self) -> End {
        match self.until("of an end", |told| matches!(told, Told::Disconnected { .. })).await {
            Told::Disconnected { end, .. } => end,
            other => panic!("{other:?}"),
        }
    }

    pub fn messages(&self) -> Vec<String> {
        let told = self.told();
        told.into_iter()
            .filter_map(|told| match told {
                Told::Message { body, .. } => Some(body),
                _ => None,
            })
            .collect()
    }

    /// Lets so many sessions be kept.
    pub fn let_keep(&self, count: usize) {
        self.0.keeping.add_permits(count);
    }

    /// From now on no session can be kept.
    pub fn fail_to_keep(&self) {
        self.0.keeping.close();
    }

    /// What is kept of a device's session.
    pub fn kept(&self, sn: &str) -> Kept {
        self.0.kept.lock().unwrap().get(sn).cloned().unwrap_or_default()
    }

    /// As another server would.
    pub fn keep_elsewhere(&self, sn: &str, revision: u64, filters: &[&str], expiry_s: u32) {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        self.0.kept.lock().unwrap().insert(sn.to_owned(), Kept { revision, filters, expiry_s });
    }

    fn kept_session(&self, sn: &str) -> KeptSession {
        let Kept { revision, filters, expiry_s } = self.kept(sn);
        let one =
            |filter: String| Subscription { filter: filter.into(), qos: Qos::AtLeastOnce, identifier: 0 };
        let state = match expiry_s {
            0 => KeptState::None,
            _ => KeptState::Alive(filters.into_iter().map(one).collect()),
        };
        KeptSession { found: revision, revision, state }
    }

    /// From now on the device is another one with the same name.
    pub fn register_anew(&self, sn: &str) {
        *self.0.registrations.lock().unwrap().entry(sn.to_owned()).or_default() += 1;
        self.0.kept.lock().unwrap().remove(sn);
    }
}

impl Service for Owner {
    type Client = Known;

    async fn admit(&self, claim: Claim<'_>) -> Result<Admitted<Known>, Denied> {
        tokio::time::sleep(Duration::from_millis(self.0.admit_ms)).await;
        let denied = |reason, text: &'static str| Err(Denied { reason, text: text.into() });
        let sn = claim.connect.client_id;
        if let Some(certificate) = claim.certificate
            && certificate.common_name.as_deref() != Some(sn)
        {
            return denied(ReasonCode::ClientIdentifierNotValid, "the client id is not the certificate's CN");
        }
        if sn.starts_with("retired") {
            return denied(ReasonCode::NotAuthorized, "the device is retired");
        }
        let registration = self.0.registrations.lock().unwrap().get(sn).copied().unwrap_or_default();
        let client = Arc::new(Known { sn: sn.to_owned(), registration });
        let assigned_client_id = sn.is_empty().then(|| "assigned-1".into());
        Ok(Admitted { session: self.kept_session(sn), client, assigned_client_id })
    }

    fn connected(&self, client: &Arc<Known>, opened: Opened<'_>) {
        let Opened { connection, is_resumed, .. } = opened;
        self.tell(Told::Connected { sn: client.sn.clone(), connection, is_resumed });
    }

    fn disconnected(&self, client: &Arc<Known>, connection: ConnectionId, end: &End) {
        self.tell(Told::Disconnected { sn: client.sn.clone(), connection, end: end.clone() });
    }

    fn publish(&self, publisher: Publisher<'_, Known>, message: &Arrived<'_>) -> Handled {
        let topic = message.topic.to_string();
        let told = Told::Message {
            topic: topic.clone(),
            qos: message.qos as u8,
            body: String::from_utf8_lossy(message.payload).into_owned(),
        };
        let refuse = |reason, must_close| Answer { reason, text: "because".into(), must_close };
        if !topic.starts_with(&format!("dev/{}/", publisher.client.sn)) {
            return Handled::Now(refuse(ReasonCode::NotAuthorized, false));
        }
        match topic.rsplit('/').next().unwrap() {
            "refuse" => Handled::Now(refuse(ReasonCode::PayloadFormatInvalid, false)),
            "close" => Handled::Now(refuse(ReasonCode::UnspecifiedError, true)),
            "slow" => {
                let owner = self.clone();
                Handled::Later(Box::pin(async move {
                    owner.0.slow.acquire().await.unwrap().forget();
                    owner.tell(told);
                    Answer::SUCCESS
                }))
            }
            // Begun when it is polled, and done at the second time.
            "soon" => {
                let owner = self.clone();
                Handled::Later(Box::pin(async move {
                    owner.tell(told);
                    tokio::task::yield_now().await;
                    Answer::SUCCESS
                }))
            }
            _ => {
                self.tell(told);
                Handled::Now(Answer::SUCCESS)
            }
        }
    }

    fn will(&self, _: &Arc<Known>, will: WillMessage) -> Later<()> {
        let (topic, body) = (will.topic.to_string(), String::from_utf8(will.payload.to_vec()).unwrap());
        let owner = self.clone();
        Box::pin(async move { owner.tell(Told::Will { topic, body }) })
    }

    fn may_subscribe(&self, client: &Arc<Known>, filter: &str) -> Result<Qos, ReasonCode> {
        let is_own = filter.starts_with(&format!("srv/{}/", client.sn));
        if is_own { Ok(Qos::ExactlyOnce) } else { Err(ReasonCode::NotAuthorized) }
    }

    fn keep(&self, client: &Arc<Known>, session: SessionToKeep) -> Later<Result<u64, End>> {
        let (owner, sn) = (self.clone(), client.sn.clone());
        Box::pin(async move {
            let failed = |_| End::Closed { reason: ReasonCode::UnspecifiedError, text: "it failed".into() };
            owner.0.keeping.acquire().await.map_err(failed)?.forget();
            let filters = session.subscriptions.into_iter().map(|one| one.filter.into()).collect();
            let revision = session.before + 1;
            let kept = Kept { revision, filters, expiry_s: session.expiry_s };
            owner.0.kept.lock().unwrap().insert(sn, kept);
            Ok(revision)
        })
    }

    fn subscribed(&self, _: &Arc<Known>, filter: &str, _: Qos, is_new: bool) {
        self.tell(Told::Subscribed { filter: filter.to_owned(), is_new });
    }

    fn unsubscribed(&self, _: &Arc<Known>, filter: &str) {
        self.tell(Told::Unsubscribed { filter: filter.to_owned() });
    }

    fn hold(&self, _: &Arc<Known>) -> Option<Later<()>> {
        let ms = self.0.holds_ms.lock().unwrap().pop()?;
        Some(Box::pin(tokio::time::sleep(Duration::from_millis(ms))))
    }

    fn settled(&self, _: &Arc<Known>, outcome: Outcome) {
        self.tell(Told::Settled(outcome));
    }

    fn refused(&self, refusal: Refusal) {
        self.tell(Told::Refused(refusal.why));
    }
}

/// What a server is started with.
#[derive(Default)]
pub struct Start {
    pub mqtt: MqttLimits,
    pub listener: Limits,
    pub admit_ms: u64,
    /// Sessions are kept only when a test lets them.
    pub keeps_slowly: bool,
    pub is_plain: bool,
    /// A second endpoint, without TLS.
    pub has_plain_beside: bool,
}

pub struct Server {
    pub pki: Pki,
    pub tls: Arc<ServerTls>,
    pub owner: Owner,
    pub hub: Arc<Hub<Owner>>,
    pub address: SocketAddr,
    /// Of the second endpoint.
    pub plain_beside: Option<SocketAddr>,
    is_plain: bool,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(Start::default())
    }

    /// One without TLS, for tests of bytes.
    pub fn start_plain(mqtt: MqttLimits) -> Self {
        Self::start_with(Start { mqtt, is_plain: true, ..Start::default() })
    }

    pub fn start_with(start: Start) -> Self {
        let pki = Pki::new();
        let tls = pki.tls();
        let owner = Owner(Arc::new(Parts {
            told: Mutex::default(),
            slow: Arc::new(Semaphore::new(0)),
            registrations: Mutex::default(),
            admit_ms: start.admit_ms,
            holds_ms: Mutex::default(),
            kept: Mutex::default(),
            keeping: Arc::new(Semaphore::new(if start.keeps_slowly { 0 } else { Semaphore::MAX_PERMITS })),
        }));
        let hub = Hub::new(owner.clone(), start.mqtt);
        let listener = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let tls_here = (!start.is_plain).then(|| Arc::clone(&tls));
        let limits = start.listener.clone();
        let mut endpoints = vec![Endpoint { listener, tls: tls_here, limits }];
        let mut plain_beside = None;
        if start.has_plain_beside {
            let listener = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            plain_beside = Some(listener.local_addr().unwrap());
            endpoints.push(Endpoint { listener, tls: None, limits: start.listener });
        }
        let serving = tokio::spawn(serve(Arc::clone(&hub), endpoints, shutdown.clone()));
        Self { pki, tls, owner, hub, address, is_plain: start.is_plain, plain_beside, shutdown, serving }
    }

    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    pub fn device(&self, sn: &str) -> Device {
        self.pki.device(sn)
    }

    /// Sends a message to a device.
    pub fn send(&self, sn: &str, token: u64, level: &str, qos: Qos, body: &[u8]) -> Option<Sent> {
        let properties = PropertyList::new(Place::PublishFromServer);
        let topic = format!("srv/{sn}/{level}");
        let message = Message {
            token,
            topic: &topic,
            qos,
            expiry_s: None,
            properties: properties.properties(),
            payload: body,
        };
        self.hub.send(sn, &message)
    }

    /// Stops; nothing is left running.
    pub async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.serving).await.expect("the server does not stop").unwrap();
        assert_eq!(self.hub.connected(), 0);
    }

    /// Begins to stop.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }
}
