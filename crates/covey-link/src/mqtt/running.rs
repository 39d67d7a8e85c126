//! A link that runs: connected, or trying to be.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use covey_core::Engine;
use covey_wire::Uplink;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{ConnAck, DisconnectReasonCode, SubscribeFilter, SubscribeReasonCode};
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Packet, StateError, SubscribeNotice};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::LinkStatus;
use crate::identities::Identities;
use crate::mqtt::accounts::{Accounts, Keeper};
use crate::mqtt::announcer::Announcer;
use crate::mqtt::connection::{self, Backoff};
use crate::mqtt::dynamic_security::RESPONSES;
use crate::mqtt::error::MqttError;
use crate::mqtt::intake::{ACKS_MAX, Handler, Intake, acknowledge_in_order};
use crate::mqtt::link::MqttLink;
use crate::mqtt::options::Options;
use crate::mqtt::presence::Presence;
use crate::mqtt::presence_writer::PresenceWriter;
use crate::mqtt::publisher::Publisher;
use crate::mqtt::resync::Resync;
use crate::mqtt::state::State;

/// What brokers report about their clients; most know one of these or none.
const CLIENT_REPORTS: [&str; 3] =
    ["$SYS/broker/log/N", "$SYS/broker/log/M/subscribe", "$SYS/brokers/+/clients/+/+"];
/// How long the broker may take to confirm a subscription.
const SUBACK_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that ends sooner was brief; after so many brief ones in a row an error is logged.
const BRIEF: Duration = Duration::from_secs(10);
const BRIEF_MAX: u32 = 3;
/// How long what is under way may take when the link stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The tasks of a running link.
pub struct Running {
    state: Arc<State>,
    client: AsyncClient,
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
        let inboxes = link.take_inboxes().ok_or(MqttError::AlreadyStarted)?;
        let (client, event_loop) = connection::open(&link.options)?;
        let (presence, sightings) = Presence::new(Duration::from_secs(link.options.contact_s.into()));
        let (state, refusals) = (Arc::clone(&link.state), Arc::clone(&link.refusals));
        let (presence, accounts) = (Arc::new(presence), Arc::new(Accounts::new()));
        let identities = Arc::new(Identities::default());
        let publisher = Arc::new(Publisher::new(client.clone(), Arc::clone(&presence)));
        let writer = Arc::new(PresenceWriter {
            engine: Arc::clone(&engine),
            identities: Arc::clone(&identities),
            presence: Arc::clone(&presence),
            accounts: Arc::clone(&accounts),
            refusals: Arc::clone(&refusals),
            state: Arc::clone(&state),
        });
        let resync = Arc::new(Resync {
            engine: Arc::clone(&engine),
            identities: Arc::clone(&identities),
            presence: Arc::clone(&presence),
            writer: Arc::clone(&writer),
            state: Arc::clone(&state),
        });
        let announcer = Arc::new(Announcer {
            publisher: Arc::clone(&publisher),
            presence: Arc::clone(&presence),
            state: Arc::clone(&state),
            clock: Arc::clone(&link.clock),
        });
        let keeper = Keeper {
            accounts: Arc::clone(&accounts),
            engine: Arc::clone(&engine),
            identities: Arc::clone(&identities),
            publisher: Arc::clone(&publisher),
            state: Arc::clone(&state),
            client_id: link.options.client_id(),
        };
        let handler = Handler {
            engine,
            identities,
            presence: Arc::clone(&presence),
            accounts: Arc::clone(&accounts),
            publisher,
            refusals,
            state: Arc::clone(&state),
            response_form: link.options.response_form,
        };
        let (acks, waiting) = mpsc::channel(ACKS_MAX);
        let receiving = CancellationToken::new();
        let receiver = Receiver {
            session: Arc::new(Session {
                options: link.options.clone(),
                client: client.clone(),
                accounts: Arc::clone(&accounts),
                resync: Arc::clone(&resync),
                state: Arc::clone(&state),
            }),
            presence,
            intake: Intake::new(acks, client.clone(), handler),
            receiving: receiving.clone(),
            connected_at: Cell::new(None),
            brief: Cell::new(0),
        };
        let tasks = TaskTracker::new();
        tasks.spawn(acknowledge_in_order(Arc::clone(&state), client.clone(), waiting));
        tasks.spawn(announcer.run(inboxes.announcements));
        tasks.spawn(keeper.run(inboxes.orders));
        tasks.spawn(async move { resync.watch().await });
        for inbox in sightings {
            tasks.spawn(Arc::clone(&writer).run(inbox));
        }
        tasks.spawn(receiver.run(event_loop));
        tasks.close();
        Ok(Self { state, client, receiving, tasks })
    }

    /// Takes no more messages, finishes those that are under way, and disconnects. The broker
    /// keeps what comes from now on for this server.
    pub async fn stop(self) {
        self.receiving.cancel();
        self.state.under_way.close();
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.state.under_way.wait()).await;
        self.state.stop.cancel();
        // After the acknowledgements that are in the client's queue.
        let _ = self.client.disconnect_with_timeout(STOP_TIMEOUT).await;
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.tasks.wait()).await;
        self.state.set_status(LinkStatus::Down);
    }
}

/// The task that drives the client.
struct Receiver {
    session: Arc<Session>,
    presence: Arc<Presence>,
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
                    match connection::transport(&self.session.options) {
                        Ok(transport) => {
                            event_loop.options.set_transport(transport);
                        }
                        Err(problem) => {
                            tracing::error!(%problem, "certificate files unusable; connecting with the previous ones")
                        }
                    }
                }
            }
        }
    }

    fn connected(&self, connack: &ConnAck) {
        let session = Arc::clone(&self.session);
        let epoch = session.state.next_epoch();
        self.connected_at.set(Some(Instant::now()));
        let options = &session.options;
        let (host, port, is_resumed) = (&options.host, options.port, connack.session_present);
        tracing::info!(host, port, is_resumed, "connected to the MQTT broker");
        self.session.state.under_way.spawn(async move { session.begin(epoch).await });
    }

    fn disconnected(&self, problem: &ConnectionError) {
        let state = &self.session.state;
        let was = state.status();
        state.next_epoch();
        state.set_status(LinkStatus::Down);
        if self.receiving.is_cancelled() {
            return;
        }
        let Options { host, port, .. } = &self.session.options;
        let is_brief = self.connected_at.get().is_some_and(|at| at.elapsed() < BRIEF);
        let brief = if is_brief { self.brief.get() + 1 } else { 0 };
        self.brief.set(brief);
        self.connected_at.set(None);
        if is_taken_over(problem) || brief == BRIEF_MAX {
            tracing::error!(
                host,
                "connections to the MQTT broker end soon after they are made, as when another server uses the same client id: give each server its own name (--server-name) and, where the broker takes client ids from certificates, its own certificate (`covey pki client --name covey.NAME`)"
            );
        }
        let said = match problem {
            // What the MQTT client says of it is the cause alone.
            ConnectionError::Io(cause) => cause.to_string(),
            problem => problem.to_string(),
        };
        let what = match was {
            LinkStatus::Down => format!("MQTT broker at {host}:{port} unreachable"),
            _ => format!("connection to the MQTT broker at {host}:{port} lost"),
        };
        state.outage.log(&said, &what);
    }

    fn received(&self, publish: rumqttc::mqttbytes::v5::Publish) {
        // The broker keeps what is not acknowledged for the next run.
        if self.receiving.is_cancelled() {
            return;
        }
        let topic = std::str::from_utf8(&publish.topic).unwrap_or_default();
        if topic.starts_with("dev/") {
            return self.intake.device_message(publish);
        }
        if topic == RESPONSES {
            self.session.accounts.answered(&publish.payload);
        } else if topic.starts_with("$SYS/broker/log/") {
            self.presence.log_line(topic, &publish.payload);
        } else if topic.starts_with("$SYS/brokers/") {
            self.presence.client_event(topic, &publish.payload);
        }
        if publish.qos != QoS::AtMostOnce {
            self.intake.acknowledge(&publish);
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

/// What a new connection begins with.
struct Session {
    options: Options,
    client: AsyncClient,
    accounts: Arc<Accounts>,
    resync: Arc<Resync>,
    state: Arc<State>,
}

impl Session {
    /// Subscribes, then audits accounts and resynchronises devices.
    async fn begin(&self, epoch: u64) {
        // Reports about clients first, so that none is missed. Each filter by itself: brokers
        // differ in what they know and allow.
        for filter in CLIENT_REPORTS.into_iter().chain([RESPONSES]) {
            if let Err(problem) = self.subscribe(filter.to_owned()).await {
                tracing::info!(filter, problem, "broker does not report this");
            }
        }
        let group = &self.options.group;
        for uplink in Uplink::ALL {
            let filter = format!("$share/{group}/{}", uplink.topic("+"));
            if let Err(problem) = self.subscribe(filter.clone()).await {
                if epoch == self.state.epoch() {
                    self.state.set_status(LinkStatus::Blocked);
                    self.state.outage.failed(&format!("subscription {filter} refused: {problem}"));
                    tracing::error!(
                        filter,
                        problem,
                        "subscription refused: this server gets no messages of devices until the broker allows it"
                    );
                }
                return;
            }
        }
        if epoch != self.state.epoch() {
            return;
        }
        self.state.set_status(LinkStatus::Up);
        if let Some(lasted) = self.state.outage.over() {
            tracing::info!(down_s = lasted.as_secs(), "link to the MQTT broker is up again");
        }
        self.accounts.request_audit();
        self.resync.run(epoch).await;
    }

    async fn subscribe(&self, filter: String) -> Result<(), String> {
        let subscribing = async {
            let filters = [SubscribeFilter::new(filter, QoS::AtLeastOnce)];
            let notice: SubscribeNotice =
                self.client.subscribe_many_tracked(filters).await.map_err(|error| error.to_string())?;
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
}
