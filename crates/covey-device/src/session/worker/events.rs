//! Events on their way: handed over in order, a few at a time, and what their acknowledgements
//! mean.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use covey_wire::downlink::EventAnswer;
use covey_wire::reason::{Reason, ends_an_event};
use covey_wire::uplink;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rumqttc::{
    AsyncClient, ClientError, PubAckReason, PublishNotice, PublishNoticeError, PublishOptions, PublishResult,
    QoS,
};
use tokio::time::Instant;

use crate::events::{Entry, Event, EventOrder, EventOutcome, Events, Queue, StopsEvents};
use crate::session::backoff::{Backoff, Delays};
use crate::status::Counters;
use crate::wire::publish_properties;

/// Room for everything of an `evt` but its body.
const EVENT_HEAD_BYTES: usize = 512;
/// Pause before events are sent again after the server took one not now; it grows.
const PAUSE: Delays = Delays { min: Duration::from_millis(500), max: Duration::from_secs(30) };
/// The server's packets are smaller.
const PACKET_TOO_LARGE: u8 = Reason::PacketTooLarge.code();
/// The server said "error" in its `eva`.
const NOT_STORED: u8 = Reason::ImplementationSpecific.code();

/// What became of the attempt to hand over the next event.
enum Step {
    /// There is none, or no room.
    Done,
    Sent,
    TooLarge(EventOrder),
}

type Acknowledged = (EventOrder, Result<PublishResult, PublishNoticeError>);

/// The events of one device and its connection.
pub(super) struct EventTraffic {
    events: StopsEvents,
    counters: Counters,
    in_flight_max: usize,
    unacknowledged: FuturesUnordered<Pin<Box<dyn Future<Output = Acknowledged> + Send>>>,
    pause: Backoff,
    /// Nothing is sent before this.
    resume_at: Option<Instant>,
}

impl EventTraffic {
    pub(super) fn new(events: StopsEvents, counters: Counters, in_flight_max: usize) -> Self {
        Self {
            events,
            counters,
            in_flight_max,
            unacknowledged: FuturesUnordered::new(),
            pause: Backoff::new(PAUSE),
            resume_at: None,
        }
    }

    pub(super) fn events(&self) -> &Events {
        &self.events.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events().with_queue(|queue| queue.is_empty())
    }

    /// Hands over what may be on its way now, as far as the client has room.
    pub(super) fn hand_over(&mut self, client: &AsyncClient, topic: &str, bytes_max: Option<u32>) {
        let bytes_max = bytes_max.map_or(usize::MAX, |max| max as usize);
        while self.resume_at.is_none() {
            match self.events().with_queue(|queue| self.hand_over_next(queue, client, topic, bytes_max)) {
                Step::Done => return,
                Step::Sent => {}
                Step::TooLarge(order) => {
                    self.ended(order, Some(EventOutcome::Refused { reason: PACKET_TOO_LARGE }));
                }
            }
        }
    }

    fn hand_over_next(&self, queue: &mut Queue, client: &AsyncClient, topic: &str, bytes_max: usize) -> Step {
        if queue.in_flight() >= self.in_flight_max {
            return Step::Done;
        }
        let Some(entry) = queue.next() else {
            return Step::Done;
        };
        let order = entry.order;
        // The server closes the connection over a larger packet, for ever again.
        if entry.event.body.len().saturating_add(EVENT_HEAD_BYTES) > bytes_max {
            tracing::error!(
                number = entry.event.number,
                bytes_max,
                "event dropped: larger than the server accepts"
            );
            queue.end(order, EventOutcome::Refused { reason: PACKET_TOO_LARGE });
            return Step::TooLarge(order);
        }
        if !self.publish(client, topic, entry) {
            return Step::Done;
        }
        queue.sent(order);
        Step::Sent
    }

    /// False if there is no room now.
    fn publish(&self, client: &AsyncClient, topic: &str, entry: &Entry) -> bool {
        let copies = if entry.is_sent_twice { 2 } else { 1 };
        for copy in 0..copies {
            let Event { type_code, number, time_s, correlation, .. } = entry.event;
            let properties = publish_properties(uplink::event(type_code, number, time_s, correlation));
            let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
            match client.try_publish_tracked(topic, entry.event.body.clone(), options) {
                Ok(notice) => {
                    self.unacknowledged.push(Box::pin(acknowledged(entry.order, notice)));
                    self.counters.event_sent();
                }
                // The first copy is on its way, which is what matters.
                Err(_) if copy > 0 => {}
                Err(ClientError::RequestChannelFull(_)) => return false,
                Err(error) => {
                    tracing::error!(topic, %error, "event not sent");
                    return false;
                }
            }
        }
        true
    }

    /// The next acknowledgement; never, while none is awaited. May be dropped at any time.
    pub(super) async fn next_acknowledged(&mut self) -> Acknowledged {
        match self.unacknowledged.next().await {
            Some(acknowledged) => acknowledged,
            None => std::future::pending().await,
        }
    }

    /// A PUBACK (MQTT 5 section 3.4.2.1). What the server cannot read it will never read; all
    /// other refusals pass by themselves, or when somebody has put the server right. A broker
    /// that says "no matching subscribers" has passed the event on to nobody.
    pub(super) fn acknowledged(&mut self, (order, result): Acknowledged, now: Instant) {
        let reason = match result {
            Ok(PublishResult::Qos1(puback)) => puback.reason,
            // The connection is gone; the next one sends everything again.
            Ok(_) | Err(_) => {
                self.events().with_queue(|queue| queue.put_back(order));
                return;
            }
        };
        match reason {
            PubAckReason::Success => {
                self.pause.reset();
                let ended = self.events().with_queue(|queue| {
                    let entry = queue.get(order)?;
                    let gets_eva = self.events().gets_eva(&entry.event);
                    queue.acknowledged(order, gets_eva, now)
                });
                if ended == Some(EventOutcome::Unconfirmed) {
                    tracing::warn!("no eva after the last attempt; event acknowledged but unconfirmed");
                }
                self.ended(order, ended);
            }
            reason if ends_an_event(reason as u8) => {
                tracing::error!(?reason, "event dropped: the server cannot read it");
                self.end(order, EventOutcome::Refused { reason: reason as u8 });
            }
            reason => {
                self.events().with_queue(|queue| queue.put_back(order));
                if self.resume_at.is_none() {
                    let pause = self.pause.after_failure();
                    tracing::warn!(
                        ?reason,
                        pause_ms = pause.as_millis(),
                        "server does not accept events now; pausing"
                    );
                    self.resume_at = Some(now + pause);
                }
            }
        }
    }

    /// An `eva`. One of success ends an event also before its PUBACK.
    pub(super) fn answered(&mut self, answer: EventAnswer) {
        let EventAnswer { dev_event_id: number, type_code, is_stored } = answer;
        let Some(order) = self.events().with_queue(|queue| queue.sent_with(number, type_code)) else {
            return;
        };
        if is_stored {
            self.end(order, EventOutcome::Stored);
        } else {
            tracing::error!(number, "event dropped: the server did not store it");
            self.end(order, EventOutcome::Refused { reason: NOT_STORED });
        }
    }

    fn end(&self, order: EventOrder, outcome: EventOutcome) {
        let ended = self.events().with_queue(|queue| queue.end(order, outcome));
        self.ended(order, ended);
    }

    fn ended(&self, order: EventOrder, outcome: Option<EventOutcome>) {
        if let Some(outcome) = outcome {
            self.events().ended(order, outcome);
        }
    }

    pub(super) fn disconnected(&mut self) {
        self.unacknowledged.clear();
        self.resume_at = None;
        self.events().with_queue(|queue| queue.all_again());
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if self.resume_at.is_some_and(|at| at <= now) {
            self.resume_at = None;
        }
        self.events().with_queue(|queue| queue.due(now));
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn earliest(&self) -> Option<Instant> {
        let repeat = self.events().with_queue(|queue| queue.earliest_repeat());
        self.resume_at.into_iter().chain(repeat).min()
    }
}

async fn acknowledged(order: EventOrder, notice: PublishNotice) -> Acknowledged {
    (order, notice.wait_async().await)
}
