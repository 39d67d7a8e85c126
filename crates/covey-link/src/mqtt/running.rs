//! A link that runs: connected, or trying to be.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use covey_core::Engine;
use covey_wire::Uplink;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{ConnAck, DisconnectReasonCode, SubscribeFilter, SubscribeReasonCode};
use rumqttc::{ConnectionError, Event, EventLoop, Packet, StateError, SubscribeNotice};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::LinkStatus;
use crate::identities::Identities;
use crate::mqtt::accounts::{self, Accounts};
use crate::mqtt::connection::{self, Backoff};
use crate::mqtt::dynamic_security::RESPONSES;
use crate::mqtt::presence::Presence;
use crate::mqtt::shared::Shared;
use crate::mqtt::uplink::{ACKS_MAX, Intake, acknowledge_in_order};
use crate::mqtt::{MqttError, MqttLink, downlink, notes, sight};

/// What brokers tell of their clients; most know one of these or none.
const SIGHTS: [&str; 3] = ["$SYS/broker/log/N", "$SYS/broker/log/M/subscribe", "$SYS/brokers/+/clients/+/+"];
/// How long the broker may take to confirm a subscription.
const SUBACK_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that ends sooner did not last, and after how many of these in
/// a row that is told of.
const BRIEF: Duration = Duration::from_secs(10);
const BRIEF_MAX: u32 = 3;
/// How long what is under way may take when the link stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The tasks of a running link.
pub struct Running {
    shared: Arc<Shared>,
    receiving: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    /// Begins to connect, and goes on connecting until [`stop`](Self::stop).
    /// It does not wait for the broker.
    ///
    /// # Errors
    /// [`MqttError`] for options that cannot be used, or a link that was started before.
    pub async fn start(link: Arc<MqttLink>, engine: Arc<Engine>) -> Result<Self, MqttError> {
        let outlets = link.take_outlets().ok_or(MqttError::AlreadyStarted)?;
        let (client, event_loop) = connection::open(&link.options)?;
        let (presence, inboxes) = Presence::new(Duration::from_secs(link.options.contact_s.into()));
        let shared = Arc::new(Shared {
            link,
            engine,
            client,
            identities: Identities::default(),
            presence,
            accounts: Accounts::new(),
            stop: CancellationToken::new(),
            under_way: TaskTracker::new(),
            epoch: AtomicU64::new(0),
        });
        let receiving = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (acks, waiting) = mpsc::channel(ACKS_MAX);
        tasks.spawn(acknowledge_in_order(Arc::clone(&shared), waiting));
        tasks.spawn(downlink::announce(Arc::clone(&shared), outlets.announcements));
        tasks.spawn(accounts::keep(Arc::clone(&shared), outlets.orders));
        tasks.spawn(sight::watch(Arc::clone(&shared)));
        for inbox in inboxes {
            tasks.spawn(notes::take_note(Arc::clone(&shared), inbox));
        }
        let receiver = Receiver {
            shared: Arc::clone(&shared),
            intake: Intake::new(acks),
            receiving: receiving.clone(),
            connected_at: Cell::new(None),
            brief: Cell::new(0),
        };
        tasks.spawn(receiver.run(event_loop));
        tasks.close();
        Ok(Self { shared, receiving, tasks })
    }

    /// Takes no more messages, finishes those that are under way, and takes
    /// leave of the broker, which keeps what comes from now on for this server.
    pub async fn stop(self) {
        self.receiving.cancel();
        self.shared.under_way.close();
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.shared.under_way.wait()).await;
        self.shared.stop.cancel();
        // After the acknowledgements that are in the client's queue.
        let _ = self.shared.client.disconnect_with_timeout(STOP_TIMEOUT).await;
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.tasks.wait()).await;
        self.shared.link.set_status(LinkStatus::Down);
    }
}

/// The task that drives the client.
struct Receiver {
    shared: Arc<Shared>,
    intake: Intake,
    /// Cancelled when no more messages are to be taken.
    receiving: CancellationToken,
    /// When the connection that there is was made.
    connected_at: Cell<Option<Instant>>,
    /// How many connections in a row did not last.
    brief: Cell<u32>,
}

impl Receiver {
    async fn run(self, mut event_loop: EventLoop) {
        let mut backoff = Backoff::new();
        loop {
            match event_loop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                    self.connected(&connack);
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => self.received(publish),
                Ok(_) => {}
                Err(ConnectionError::RequestsDone) => return,
                Err(problem) => {
                    // Two servers that put each other out in turn do so ever more slowly.
                    if self.connected_at.get().is_some_and(|at| at.elapsed() >= BRIEF) {
                        backoff.reset();
                    }
                    self.disconnected(&problem);
                    if self.receiving.is_cancelled() {
                        return;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(backoff.after_failure()) => {}
                        () = self.receiving.cancelled() => return,
                    }
                    // With the files as they are now: they may have been renewed.
                    match connection::transport(&self.shared.link.options) {
                        Ok(transport) => {
                            event_loop.options.set_transport(transport);
                        }
                        Err(problem) => tracing::error!(%problem, "the last certificate is used"),
                    }
                }
            }
        }
    }

    fn connected(&self, connack: &ConnAck) {
        let epoch = self.shared.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        self.connected_at.set(Some(Instant::now()));
        let options = &self.shared.link.options;
        let (host, port, is_resumed) = (&options.host, options.port, connack.session_present);
        tracing::info!(host, port, is_resumed, "connected to the MQTT broker");
        self.shared.under_way.spawn(subscribe(Arc::clone(&self.shared), epoch));
    }

    fn disconnected(&self, problem: &ConnectionError) {
        let was = self.shared.link.status();
        self.shared.epoch.fetch_add(1, Ordering::AcqRel);
        self.shared.link.set_status(LinkStatus::Down);
        if self.receiving.is_cancelled() {
            return;
        }
        let host = &self.shared.link.options.host;
        let is_brief = self.connected_at.get().is_some_and(|at| at.elapsed() < BRIEF);
        let brief = if is_brief { self.brief.get() + 1 } else { 0 };
        self.brief.set(brief);
        self.connected_at.set(None);
        if is_taken_over(problem) || brief == BRIEF_MAX {
            tracing::error!(
                host,
                "the broker ends this server's connections soon after they are made, as when another server connects as the same client: give each a name (--server-name) and, where the broker takes client ids from certificates, a certificate (`covey pki client --name covey.NAME`) of its own"
            );
        } else if was == LinkStatus::Down {
            tracing::debug!(host, %problem, "the MQTT broker is still out of reach");
        } else {
            tracing::warn!(host, %problem, "the connection to the MQTT broker has ended; connecting again");
        }
    }

    fn received(&self, publish: rumqttc::mqttbytes::v5::Publish) {
        // The broker keeps what is not acknowledged for the next run.
        if self.receiving.is_cancelled() {
            return;
        }
        let topic = std::str::from_utf8(&publish.topic).unwrap_or_default();
        if topic.starts_with("dev/") {
            return self.intake.device_message(&self.shared, publish);
        }
        if topic == RESPONSES {
            self.shared.accounts.answered(&publish.payload);
        } else if topic.starts_with("$SYS/broker/log/") {
            self.shared.presence.log_line(topic, &publish.payload);
        } else if topic.starts_with("$SYS/brokers/") {
            self.shared.presence.client_event(topic, &publish.payload);
        }
        if publish.qos != QoS::AtMostOnce {
            self.intake.acknowledge(&self.shared, &publish);
        }
    }
}

/// Whether the broker has ended the connection for another one with the same
/// client id (MQTT 5 §3.14.2.1, 0x8E).
fn is_taken_over(problem: &ConnectionError) -> bool {
    matches!(
        problem,
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        })
    )
}

/// Subscribes, and then begins with what a new connection asks for.
async fn subscribe(shared: Arc<Shared>, epoch: u64) {
    // What is told of devices first, so that nothing of them is missed. Each
    // by itself: brokers differ in what they know and allow.
    for filter in SIGHTS.into_iter().chain([RESPONSES]) {
        if let Err(problem) = subscribe_one(&shared, filter.to_owned()).await {
            tracing::info!(filter, problem, "the broker does not tell this");
        }
    }
    let group = &shared.link.options.group;
    for uplink in Uplink::ALL {
        let filter = format!("$share/{group}/{}", uplink.topic("+"));
        if let Err(problem) = subscribe_one(&shared, filter.clone()).await {
            if epoch == shared.epoch() {
                shared.link.set_status(LinkStatus::Blocked);
                tracing::error!(
                    filter,
                    problem,
                    "this server gets no messages of devices: allow it this subscription at the broker"
                );
            }
            return;
        }
    }
    if epoch != shared.epoch() {
        return;
    }
    shared.link.set_status(LinkStatus::Up);
    shared.accounts.request_audit();
    sight::regain(shared, epoch).await;
}

async fn subscribe_one(shared: &Shared, filter: String) -> Result<(), String> {
    let subscribing = async {
        let filters = [SubscribeFilter::new(filter, QoS::AtLeastOnce)];
        let notice: SubscribeNotice =
            shared.client.subscribe_many_tracked(filters).await.map_err(|error| error.to_string())?;
        notice.wait_async().await.map_err(|error| error.to_string())
    };
    let suback = tokio::time::timeout(SUBACK_TIMEOUT, subscribing)
        .await
        .map_err(|_| "the broker does not answer".to_owned())??;
    match suback.return_codes.first() {
        Some(SubscribeReasonCode::Success(_)) => Ok(()),
        Some(refused) => Err(format!("{refused:?}")),
        None => Err("the broker's answer is empty".to_owned()),
    }
}
