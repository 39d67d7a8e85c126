//! One worker: it takes notes about its devices in their order, and tells the
//! core what has changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use covey_core::device::{Connection, DeviceIdentity};
use covey_core::error::{Error, Result};
use covey_core::id::Sn;
use covey_core::port::Refusal;
use covey_core::presence::Reason;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::amqp::AmqpLink;
use crate::amqp::presence::book::{Book, Change, LAG_MS};
use crate::amqp::presence::event::{BrokerEvent, Session, Subscription};
use crate::amqp::presence::{Connected, connection_of};

/// How long the worker waits before it asks the store again.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// An order to a worker.
pub(super) enum Note {
    /// An event of the broker.
    BrokerEvent(Sn, BrokerEvent),
    /// A look begins.
    LookBegins,
    /// A look has found a connection.
    FoundConnection(Sn, Session),
    /// A look has found these connections, of which the broker told only the names.
    FoundNames {
        /// The device.
        sn: Sn,
        /// The connections.
        sessions: Vec<Session>,
        /// When the look began.
        began_at_ms: i64,
    },
    /// A look has found a subscription.
    FoundSubscription(Sn, Subscription),
    /// The look that began at this instant has ended.
    LookEnded {
        /// When it began.
        began_at_ms: i64,
    },
    /// The store has this device connected, with this session.
    Stored {
        /// The device.
        device: DeviceIdentity,
        /// The session.
        session: String,
        /// When the look began.
        began_at_ms: i64,
    },
    /// Announcements to this device were lost.
    Unheard(DeviceIdentity),
}

/// A worker with its devices.
pub(super) struct Shard {
    link: Arc<AmqpLink>,
    engine: Arc<Engine>,
    stop: CancellationToken,
    book: Book,
    connected: HashMap<Sn, Connected>,
}

impl Shard {
    pub(super) fn new(link: Arc<AmqpLink>, engine: Arc<Engine>, stop: CancellationToken) -> Self {
        Self { link, engine, stop, book: Book::default(), connected: HashMap::new() }
    }

    /// Works until the server stops.
    pub(super) async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        let stop = self.stop.clone();
        while let Some(Some(note)) = stop.run_until_cancelled(notes.recv()).await {
            if stop.run_until_cancelled(self.take(note)).await.is_none() {
                return;
            }
        }
    }

    async fn take(&mut self, note: Note) {
        match note {
            Note::BrokerEvent(sn, event) => {
                let changes = self.book.apply(&sn, event);
                self.carry_out(&sn, changes).await;
            }
            Note::LookBegins => self.book.look_begins(),
            Note::FoundConnection(sn, session) => {
                let changes = self.book.found_connection(&sn, session);
                self.carry_out(&sn, changes).await;
            }
            Note::FoundNames { sn, sessions, began_at_ms } => {
                let changes = self.book.found_names(&sn, sessions, began_at_ms);
                self.carry_out(&sn, changes).await;
            }
            Note::FoundSubscription(sn, subscription) => {
                let changes = self.book.found_subscription(&sn, subscription);
                self.carry_out(&sn, changes).await;
            }
            Note::LookEnded { began_at_ms } => {
                for (sn, change) in self.book.look_ended(began_at_ms) {
                    self.carry_out(&sn, vec![change]).await;
                }
            }
            Note::Stored { device, session, began_at_ms } => self.compare(device, session, began_at_ms).await,
            Note::Unheard(device) if self.book.listens(&device.sn) => {
                self.engine.for_device(&device).subscribed(crate::amqp::NAME)
            }
            Note::Unheard(_) => {}
        }
    }

    async fn carry_out(&mut self, sn: &Sn, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Connected(session) => self.connect(sn, &session).await,
                Change::Disconnected(session) => self.disconnect(sn, &session).await,
                Change::Subscribed => match self.connected.get(sn) {
                    Some(known) if known.is_first => {
                        self.engine.for_device(&known.device).subscribed(crate::amqp::NAME)
                    }
                    Some(known) => {
                        self.engine.for_device(&known.device).subscribed_elsewhere(crate::amqp::NAME)
                    }
                    None => {}
                },
                Change::Unsubscribed => {
                    if let Some(known) = self.connected.get(sn) {
                        self.engine.for_device(&known.device).unsubscribed();
                    }
                }
            }
        }
    }

    async fn connect(&mut self, sn: &Sn, session: &Session) {
        // Of whom this is may have changed since the last connection.
        self.link.identities.forget(sn);
        self.link.publisher.set_properties(sn, session.has_properties());
        let (link, engine) = (&self.link, &self.engine);
        let device = insist(|| link.device(engine, sn)).await;
        let Some(device) = device else {
            self.link.refusals.count(Refusal::NotAdmitted);
            tracing::warn!(%sn, "unregistered device connected to RabbitMQ");
            self.link.accounts.look_at(sn);
            return;
        };
        let connection = connection_of(session);
        let is_first = insist(|| engine.for_device(&device).connected_to_broker(connection.clone())).await;
        self.connected.insert(sn.clone(), Connected { device, is_first });
    }

    async fn disconnect(&mut self, sn: &Sn, session: &Session) {
        self.link.publisher.set_properties(sn, true);
        let Some(known) = self.connected.remove(sn) else { return };
        self.engine.for_device(&known.device).unsubscribed();
        // The broker does not say why.
        let connection = Connection { reason: Reason::Unknown, ..connection_of(session) };
        self.end(&known.device, connection).await;
    }

    /// The store has a device connected that may not be.
    async fn compare(&self, device: DeviceIdentity, stored: String, began_at_ms: i64) {
        let is_old = Session::began_at(&stored).is_some_and(|began| began < began_at_ms - LAG_MS);
        if is_old && self.book.session(&device.sn).is_none() {
            self.end(
                &device,
                Connection { session: stored, reason: Reason::Unknown, ..Connection::default() },
            )
            .await;
        }
    }

    async fn end(&self, device: &DeviceIdentity, connection: Connection) {
        insist(|| self.engine.for_device(device).disconnected_from_broker(connection.clone())).await;
    }
}

/// Asks the store until it answers: whoever is connected must not be forgotten
/// because a database was restarted.
async fn insist<T: Default, F: Future<Output = Result<T>>>(ask: impl Fn() -> F) -> T {
    let mut wait = RETRY_FIRST;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(Error::Unavailable { .. }) => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
            // A device that was retired meanwhile has no presence.
            Err(_) => return T::default(),
        }
    }
}
