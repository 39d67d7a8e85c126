//! Nodes that speak MQTT-SN, in the topics of plain MQTT nodes ([`crate::mqtt_node`]). Some subscribe to nothing: they say
//! their values by themselves, and nothing can be written to them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::session::{Answer, Client, Delivery, Event, Receipt, Sent, Settings};
use super::socket::{Handle, Socket};
use crate::gateway::{Gateway, Protocol};
use crate::mqtt_node::said::{Refused, Said};
use crate::mqtt_node::topic;
use crate::node::{Answer as Written, Confirmation, Habits, Heard, Seen};
use crate::port::Port;
use crate::value::{json_of, text_of};

/// How often nodes are asked who is there, in milliseconds.
const CHECK_MS: u64 = 30_000;
/// How long a node may take to say what a value is that was written, in milliseconds.
const CONFIRM_MS: u64 = 5_000;
/// Of messages of which nobody wants to know what became of them; writes have numbers from 1.
const NO_TOKEN: u64 = 0;

/// How MQTT-SN nodes behave, silent for so long at most.
#[must_use]
pub const fn habits(silence: Duration) -> Habits {
    Habits {
        silence_ms_max: Some(silence.as_millis() as u64),
        confirmation: Confirmation::Report { ms_max: CONFIRM_MS },
        reports_are_life: true,
        together_ms: 0,
    }
}

/// The gateway of MQTT-SN nodes.
struct Nodes<P: Port> {
    gateway: Arc<Gateway<P>>,
    handle: Handle,
    state: Mutex<State>,
}

/// A client that is connected.
struct Here {
    from: SocketAddr,
    /// Since when it is connected, or awake for good: after that it subscribes.
    since: Instant,
    /// The nodes that it was the last to speak for, each of which has its place in the roster.
    uids: HashSet<Arc<str>>,
}

#[derive(Default)]
struct State {
    /// Where each client is, and for which nodes it speaks.
    clients: HashMap<Client, Here>,
    /// Those that sleep, and are silent for as long as they have said.
    asleep: HashSet<Client>,
    /// By which client a node was heard last; each has its place in the roster.
    by: HashMap<Arc<str>, Client>,
    /// Writes of which it is not known yet whether they have left, by the numbers that the roster gives them, which are
    /// their tokens: one of a node at a time.
    sent: HashMap<u64, Writing>,
}

/// A write on its way to a client.
struct Writing {
    uid: Arc<str>,
    client: Client,
}

/// Serves nodes until `stop`.
pub async fn serve<P: Port>(
    gateway: Arc<Gateway<P>>,
    socket: Socket,
    settings: Settings,
    stop: CancellationToken,
) {
    let (handle, events, running) = socket.start(settings, stop.clone());
    let nodes = Arc::new(Nodes { gateway: Arc::clone(&gateway), handle, state: Mutex::default() });
    gateway.speak(&nodes);
    tokio::join!(running, gateway.run(stop.clone()), nodes.hear(events), nodes.check(stop));
}

impl State {
    /// Nobody speaks for a node any more.
    fn forget(&mut self, uid: &str) {
        if let Some(here) = self.by.remove(uid).and_then(|client| self.clients.get_mut(&client)) {
            here.uids.remove(uid);
        }
    }
}

impl<P: Port> Nodes<P> {
    fn state(&self) -> MutexGuard<'_, State> {
        // What it guards is whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks who is there, again and again.
    async fn check(&self, stop: CancellationToken) {
        let mut again = interval(Duration::from_millis(CHECK_MS));
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(again.tick()).await.is_some() {
            self.let_sleep();
            // What waits for one that sleeps would leave no room for writes.
            let clients: Vec<Client> = {
                let state = self.state();
                state.clients.keys().filter(|client| !state.asleep.contains(client)).copied().collect()
            };
            let topic: Arc<str> = Arc::from(topic::CHECK);
            for client in clients {
                // Whoever has not subscribed is not asked; without room, in the next round.
                let _ = self.handle.publish(client, NO_TOKEN, Arc::clone(&topic), Box::default(), false);
            }
        }
    }

    /// The silence of a node that sleeps is no sign that it is gone: the session tells when it has slept too long.
    fn let_sleep(&self) {
        let sleeping: Vec<(Arc<str>, SocketAddr)> = {
            let state = self.state();
            let of_sleeper = |(uid, client): (&Arc<str>, &Client)| {
                let at = state.asleep.get(client).and_then(|client| state.clients.get(client))?;
                Some((Arc::clone(uid), at.from))
            };
            state.by.iter().filter_map(of_sleeper).collect()
        };
        for (uid, at) in sleeping {
            self.gateway.seen(&uid, &at.ip().to_canonical().to_string());
        }
    }

    async fn hear(&self, mut events: Receiver<Event>) {
        while let Some(event) = events.recv().await {
            match event {
                Event::Connected { client, from, .. } => {
                    let here = Here { from, since: Instant::now(), uids: HashSet::new() };
                    self.state().clients.insert(client, here);
                }
                Event::Published { client, topic, payload, receipt } => {
                    self.take(Some(client), None, &topic, &payload, receipt);
                }
                Event::PublishedUnconnected { from, topic, payload } => {
                    self.take(None, Some(from), &topic, &payload, None);
                }
                Event::Gone { client, will, .. } => {
                    if let Some(will) = will {
                        self.take(Some(client), None, &will.topic, &will.payload, None);
                    }
                    let mut state = self.state();
                    state.asleep.remove(&client);
                    let here = state.clients.remove(&client);
                    for uid in here.into_iter().flat_map(|here| here.uids) {
                        state.by.remove(&uid);
                    }
                }
                Event::Delivered { token, delivery, .. } => self.delivered(token, delivery),
                Event::Asleep { client, .. } => {
                    self.state().asleep.insert(client);
                }
                Event::Active { client } => {
                    let mut state = self.state();
                    state.asleep.remove(&client);
                    if let Some(here) = state.clients.get_mut(&client) {
                        here.since = Instant::now();
                    }
                }
                Event::Subscribed { client, filter } => self.subscribed(client, &filter),
                Event::Unsubscribed { .. } => {}
            }
        }
    }

    /// Takes a message; its receipt is answered when what it says is stored.
    fn take(
        &self,
        client: Option<Client>,
        from: Option<SocketAddr>,
        topic: &str,
        payload: &[u8],
        receipt: Option<Receipt>,
    ) {
        let from = from.or_else(|| self.state().clients.get(&client?).map(|here| here.from));
        let Some(from) = from else { return };
        let answer = |answer| {
            if let Some(receipt) = receipt {
                self.handle.accepted(receipt, answer);
            }
        };
        let said =
            Said::read(topic, payload).and_then(|said| self.heard(said.uid(), client, from).map(|()| said));
        match said {
            Ok(Said::Check { .. }) => answer(Answer::Taken),
            Ok(Said::Resources { uid }) => {
                answer(Answer::Taken);
                self.say(uid, topic::discover(uid), "values");
            }
            Ok(Said::Value { uid, resource, value }) => {
                let Some(receipt) = receipt else {
                    self.gateway.said(uid, resource, value);
                    return;
                };
                let hearing = self.gateway.begin_saying(uid, resource, value);
                let handle = self.handle.clone();
                tokio::spawn(async move {
                    let answer = match hearing.await.unwrap_or(Heard::Later) {
                        Heard::Done => Answer::Taken,
                        Heard::Refused => Answer::Refused,
                        Heard::Later => Answer::Later,
                    };
                    handle.accepted(receipt, answer);
                });
            }
            Err(refused) => {
                tracing::warn!(address = %from.ip(), "message of a node refused: {}", refused.text());
                answer(if refused == Refused::NoRoom { Answer::Later } else { Answer::Refused });
            }
        }
    }

    /// A node was heard. Whoever says an id first has it, as long as he is connected.
    fn heard(&self, uid: &str, client: Option<Client>, from: SocketAddr) -> Result<(), Refused> {
        {
            let mut state = self.state();
            match (state.by.get(uid), client) {
                (Some(by), Some(client)) if *by == client => {}
                (Some(_), _) => return Err(Refused::Foreign),
                (None, Some(client)) => {
                    let uid: Arc<str> = Arc::from(uid);
                    if let Some(here) = state.clients.get_mut(&client) {
                        here.uids.insert(Arc::clone(&uid));
                        state.by.insert(uid, client);
                    }
                }
                (None, None) => {}
            }
        }
        match self.gateway.seen(uid, &from.ip().to_canonical().to_string()) {
            Seen::New => {
                self.gateway.said(uid, "id", json_of(uid));
                self.gateway.said(uid, "protocol", json_of("MQTT"));
            }
            Seen::Known => {}
            Seen::NoRoom => {
                self.state().forget(uid);
                return Err(Refused::NoRoom);
            }
        }
        Ok(())
    }

    /// Says something to the client by which a node was heard last.
    fn say(&self, uid: &str, topic: String, body: &str) {
        if let Some(client) = self.state().by.get(uid).copied() {
            // Without room it is not said.
            let _ = self.handle.publish(client, NO_TOKEN, Arc::from(topic), body.as_bytes().into(), false);
        }
    }

    /// A client has a new subscription: what waited for it is written.
    fn subscribed(&self, client: Client, filter: &str) {
        let level = topic::listened(filter);
        let uids: Vec<Arc<str>> = {
            let state = self.state();
            let Some(here) = state.clients.get(&client) else { return };
            match here.uids.get(level) {
                Some(uid) => vec![Arc::clone(uid)],
                None if level == topic::ANY_LEVEL => here.uids.iter().map(Arc::clone).collect(),
                None => return,
            }
        };
        self.gateway.listen(uids.iter().map(AsRef::as_ref));
    }

    /// A write has left, or has not. What the node then says confirms it.
    fn delivered(&self, number: u64, delivery: Delivery) {
        let (uid, since) = {
            let mut state = self.state();
            let Some(Writing { uid, client }) = state.sent.remove(&number) else { return };
            (uid, state.clients.get(&client).map(|here| here.since))
        };
        let answer = match delivery {
            Delivery::Accepted | Delivery::Unacknowledged => return self.gateway.sent(&uid, number),
            Delivery::NotSent(Sent::NotSubscribed) => Written::NotListening {
                connected_ms: since
                    .map(|since| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)),
            },
            Delivery::NotSent(Sent::NotATopic | Sent::TooLarge) => {
                Written::Refused { status: 409, text: "the node hears no writes of this resource".to_owned() }
            }
            Delivery::Refused(code) => {
                Written::Refused { status: 502, text: format!("the node refused the message: {code:?}") }
            }
            Delivery::Unanswered | Delivery::Dropped | Delivery::NotSent(_) => Written::None,
        };
        self.gateway.written(&uid, number, answer);
    }
}

impl<P: Port> Protocol for Nodes<P> {
    fn discover(&self, uid: &Arc<str>, _: bool) {
        self.say(uid, topic::discover(uid), "resources");
    }

    fn set(&self, uid: &Arc<str>, number: u64, resource: &str, value: &Arc<str>) {
        let client = self.state().by.get(uid).copied();
        let is_handed_over = client.is_some_and(|client| {
            self.state().sent.insert(number, Writing { uid: Arc::clone(uid), client });
            let (topic, body) = (Arc::from(topic::set(uid, resource)), text_of(value));
            self.handle.publish(client, number, topic, body.as_bytes().into(), true)
        });
        if !is_handed_over {
            self.state().sent.remove(&number);
            self.gateway.written(uid, number, Written::None);
        }
    }

    fn withdraw(&self, _: &Arc<str>, number: u64) {
        let withdrawn = self.state().sent.remove(&number);
        if let Some(Writing { client, .. }) = withdrawn {
            self.handle.withdraw(client, number);
        }
    }

    fn forget(&self, uid: &Arc<str>) {
        let withdrawn: Vec<(u64, Writing)> = {
            let mut state = self.state();
            state.forget(uid);
            state.sent.extract_if(|_, writing| writing.uid == *uid).collect()
        };
        // It is handed out again when the node comes back.
        withdrawn.iter().for_each(|(number, writing)| self.handle.withdraw(writing.client, *number));
    }

    fn close(&self, _: &Arc<str>) {
        // Its client may speak for others: what it says is not heard any more.
    }

    fn is_passing(&self, _: &Arc<str>) -> bool {
        false
    }
}
