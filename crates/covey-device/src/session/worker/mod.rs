//! The device's side of the contract, step by step: what an announcement, a task and a commit
//! lead to.

mod events;
mod sending;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use covey_wire::downlink::{Announcement, Commit, Decoded};
use rumqttc::{AsyncClient, Event, ManualAck, Packet, Publish, QoS, SubscribeFilter};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use uuid::Uuid;

use self::events::EventTraffic;
use crate::answer::Answer;
use crate::call::Partial;
use crate::clock::unix_now_s;
use crate::journal::{Journal, Seen};
use crate::refusal::{self, Refusal};
use crate::session::calls::{Calls, Finished};
use crate::session::outbox::{ItemNumber, Outbox};
use crate::session::parts::{Parts, Settings};
use crate::session::requests::Requests;
use crate::status::{Counters, Status, StatusSender};
use crate::wire::{self, Parameters, Topics};

/// How long to wait for the answer to a poll: "nothing to do" comes with QoS 0.
const POLL_ANSWER_WAIT: Duration = Duration::from_secs(30);
/// A message to be handed to the client.
#[derive(Debug)]
enum Outgoing {
    Ack(Uuid),
    Request(Uuid),
    Poll,
    Result(ItemNumber),
}

#[derive(Debug)]
struct Poll {
    interval: Duration,
    next_at: Instant,
    /// Asked, and not answered.
    waiting: bool,
}

pub(crate) struct Worker {
    settings: Settings,
    topics: Topics,
    client: AsyncClient,
    journal: Arc<Journal>,
    status: Arc<StatusSender>,
    counters: Counters,
    calls: Calls,
    partials: mpsc::Receiver<Partial>,
    requests: Requests,
    outbox: Outbox,
    events: EventTraffic,
    poll: Option<Poll>,
    acks: VecDeque<ManualAck>,
    outgoing: VecDeque<Outgoing>,
    connected: bool,
    /// The server's Maximum Packet Size (MQTT 5 section 3.2.2.3.6).
    server_packet_bytes_max: Option<u32>,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Instant>,
    stop_by: Option<Instant>,
}

impl Worker {
    pub(crate) fn new(parts: Parts, client: AsyncClient) -> Self {
        let Parts { settings, handlers, journal, status, counters, events, .. } = parts;
        let (calls, partials) = Calls::new(
            Arc::clone(&settings.sn),
            handlers,
            Arc::clone(&journal),
            counters.clone(),
            events.0.clone(),
            settings.concurrent_calls_max,
        );
        let events = EventTraffic::new(events, counters.clone(), settings.events_in_flight_max.into());
        let mut outbox = Outbox::default();
        for unsent in journal.unsent(unix_now_s()) {
            outbox.push_final(unsent.task_id, unsent.answer, unsent.keep_until);
        }
        let poll =
            settings.poll_interval.map(|interval| Poll { interval, next_at: Instant::now(), waiting: false });
        Self {
            topics: Topics::new(&settings.sn),
            settings,
            client,
            journal,
            status,
            counters,
            calls,
            partials,
            requests: Requests::default(),
            outbox,
            events,
            poll,
            acks: VecDeque::new(),
            outgoing: VecDeque::new(),
            connected: false,
            server_packet_bytes_max: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_at: None,
            stop_by: None,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop_by.is_some()
    }

    /// Takes no new calls; lets those that run finish, for a while.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.stop_by = Some(now + self.settings.shutdown_grace);
        self.requests.clear();
        self.calls.drop_waiting();
        self.poll = None;
    }

    /// Whether everything is done that a stopping device waits for: calls that run, and, on a
    /// live connection, commits of results and acknowledgements of events.
    pub(crate) fn has_stopped(&self, now: Instant) -> bool {
        let Some(stop_by) = self.stop_by else {
            return false;
        };
        let nothing_to_send = self.outbox.is_empty() && self.events.is_empty();
        let settled = self.calls.none_running() && (nothing_to_send || !self.connected);
        settled || now >= stop_by
    }

    /// The connection is gone. True if calls could arrive on it.
    pub(crate) fn disconnected(&mut self) -> bool {
        self.requests.clear();
        self.acks.clear();
        self.outgoing.clear();
        self.events.disconnected();
        if let Some(poll) = &mut self.poll {
            poll.waiting = false;
        }
        std::mem::take(&mut self.connected)
    }

    /// Waits for, and does, the next thing that is not the connection's: a call that ends, a
    /// partial result, an event, a timer. May be dropped at any time.
    pub(crate) async fn work(&mut self) {
        let woken = self.events.events().clone();
        tokio::select! {
            biased;
            finished = self.calls.next_finished() => self.finished(finished),
            Some(partial) = self.partials.recv(), if self.outbox.takes_partials() => {
                self.partial(partial);
            }
            acknowledged = self.events.next_acknowledged() => {
                self.events.acknowledged(acknowledged, Instant::now());
            }
            // What is new is handed over before the next wait.
            () = woken.woken() => {}
            () = self.timer.as_mut(), if self.timer_at.is_some() => self.tick(Instant::now()),
        }
    }

    /// Starts calls, asks for more, and hands over what the client has room for.
    pub(crate) fn pump(&mut self, now: Instant) {
        self.calls.start();
        if self.connected {
            if !self.is_stopping() {
                self.ask(now);
            }
            self.hand_over_all(now);
            self.events.hand_over(&self.client, &self.topics.evt, self.server_packet_bytes_max);
        }
        self.arm_timer(now);
    }

    /// Handles what the connection says. A refusal ends it.
    pub(crate) fn event(&mut self, event: Event, now: Instant) -> Option<Refusal> {
        let Event::Incoming(packet) = event else {
            return None;
        };
        match packet {
            Packet::Publish(publish) => self.message(publish, now),
            Packet::ConnAck(connack) => {
                self.server_packet_bytes_max = connack.properties.and_then(|known| known.max_packet_size);
                self.subscribe();
            }
            Packet::SubAck(suback) => {
                if let Some(refusal) = refusal::from_suback(&suback.return_codes) {
                    return Some(refusal);
                }
                self.subscribed(now);
            }
            Packet::PubAck(puback) if puback.reason as u8 >= 0x80 => {
                tracing::warn!(sn = %self.settings.sn, reason = ?puback.reason, "message refused by the server");
            }
            _ => {}
        }
        None
    }

    fn subscribe(&self) {
        let filters = self
            .topics
            .subscriptions(self.poll.is_none())
            .map(|topic| SubscribeFilter::new(topic, QoS::AtLeastOnce));
        if let Err(error) = self.client.try_subscribe_many(filters) {
            tracing::error!(sn = %self.settings.sn, %error, "subscribe not sent");
        }
    }

    fn subscribed(&mut self, now: Instant) {
        self.connected = true;
        self.counters.connected();
        self.status.set(Status::Connected);
        tracing::info!(sn = %self.settings.sn, unsent = !self.outbox.is_empty(), "connected");
        let again = self.outbox.all_again(unix_now_s());
        self.outgoing.extend(again.into_iter().map(Outgoing::Result));
        if let Some(poll) = &mut self.poll {
            poll.next_at = now;
        }
    }

    fn message(&mut self, publish: Publish, now: Instant) {
        self.acks.extend(self.client.prepare_ack(&publish));
        let properties = publish.properties.unwrap_or_default();
        match wire::decode(&self.topics, &publish.topic, &properties, &publish.payload) {
            Ok(Decoded::Announced(announcement)) => self.announced(announcement),
            Ok(Decoded::Parameters(said)) => {
                self.parameters(Parameters::new(said, &publish.payload, unix_now_s()), now);
            }
            Ok(Decoded::NothingToDo) => self.nothing(now),
            Ok(Decoded::Committed(commit)) => self.committed(commit),
            Ok(Decoded::EventAnswer(answer)) => self.events.answered(answer),
            Err(why) => tracing::warn!(sn = %self.settings.sn, %why, "message of the server ignored"),
        }
    }

    /// `tsk`. A task that runs or waits here needs no question. One that is finished gets one
    /// all the same: its `rsp` is answered with the recorded result, the ordinary way.
    fn announced(&mut self, announcement: Announcement) {
        let task_id = announcement.task_id;
        tracing::debug!(sn = %self.settings.sn, %task_id, "announced");
        if self.is_stopping() {
            return;
        }
        let here = self.journal.seen(task_id) == Seen::Running || self.calls.is_waiting(task_id);
        if here || !self.requests.announced(announcement) {
            self.counters.duplicate();
            return;
        }
        if self.settings.announce_ack {
            self.outgoing.push_back(Outgoing::Ack(task_id));
        }
    }

    /// `rsp` with a task: run it, unless it was here before.
    fn parameters(&mut self, parameters: Parameters, now: Instant) {
        let task_id = parameters.task_id;
        let priority = self.requests.answered(task_id);
        if let Some(poll) = &mut self.poll {
            poll.waiting = false;
            poll.next_at = now;
        }
        match self.journal.seen(task_id) {
            Seen::Never if self.calls.is_waiting(task_id) => self.counters.duplicate(),
            Seen::Never if self.is_stopping() => {}
            Seen::Never => self.calls.push(parameters, priority),
            Seen::Running => self.counters.duplicate(),
            Seen::Finished(answer) => {
                tracing::debug!(sn = %self.settings.sn, %task_id, "task delivered again; sending the recorded result");
                self.counters.duplicate();
                self.send_result(task_id, answer, parameters.keep_until);
            }
        }
    }

    /// `rsp` without a task.
    fn nothing(&mut self, now: Instant) {
        if let Some(poll) = &mut self.poll {
            poll.waiting = false;
            poll.next_at = now + poll.interval;
        } else if let Some(task_id) = self.requests.answered_nothing() {
            tracing::debug!(sn = %self.settings.sn, %task_id, "announced task is gone");
        }
    }

    fn committed(&mut self, commit: Commit) {
        let Some(item) = self.outbox.committed(commit) else {
            return;
        };
        tracing::debug!(sn = %self.settings.sn, task_id = %item.task_id, status = item.status, "committed");
        if !item.is_partial() && self.journal.commit(item.task_id) {
            self.counters.committed();
        }
    }

    fn finished(&mut self, finished: Finished) {
        // The handler's last partial result may still be on its way here; it goes first.
        while let Ok(partial) = self.partials.try_recv() {
            self.partial(partial);
        }
        self.send_result(finished.task_id, finished.answer, finished.keep_until);
        if let Some(poll) = &mut self.poll
            && !poll.waiting
        {
            poll.next_at = Instant::now();
        }
    }

    fn partial(&mut self, partial: Partial) {
        let keep_until = self.journal.keep_until(partial.task_id).unwrap_or_else(unix_now_s);
        let number = self.outbox.push_partial(partial, keep_until);
        self.queue_result(number);
    }

    fn send_result(&mut self, task_id: Uuid, answer: Answer, keep_until: u64) {
        let is_sent_twice = answer.is_sent_twice;
        if let Some(number) = self.outbox.push_final(task_id, answer, keep_until) {
            self.queue_result(number);
            if is_sent_twice {
                self.queue_result(number);
            }
        }
    }

    /// Without a connection nothing is queued: the next one sends the whole outbox.
    fn queue_result(&mut self, number: ItemNumber) {
        if self.connected {
            self.outgoing.push_back(Outgoing::Result(number));
        }
    }

    /// Asks for as many tasks as there are hands free.
    fn ask(&mut self, now: Instant) {
        let free = self.calls.free();
        if let Some(poll) = &mut self.poll {
            if free > 0 && !poll.waiting && poll.next_at <= now {
                poll.waiting = true;
                poll.next_at = now + POLL_ANSWER_WAIT;
                self.outgoing.push_back(Outgoing::Poll);
            }
            return;
        }
        while self.requests.in_flight() < free {
            let Some(task_id) = self.requests.next(now) else {
                return;
            };
            self.outgoing.push_back(Outgoing::Request(task_id));
        }
    }

    fn tick(&mut self, now: Instant) {
        self.timer_at = None;
        if !self.connected {
            return;
        }
        self.events.tick(now);
        let again = self.outbox.due(now, unix_now_s());
        self.outgoing.extend(again.into_iter().map(Outgoing::Result));
        let overdue = self.requests.overdue(now);
        self.outgoing.extend(overdue.into_iter().map(Outgoing::Request));
        if let Some(poll) = &mut self.poll
            && poll.waiting
            && poll.next_at <= now
        {
            poll.waiting = false;
        }
    }

    /// Sets the timer to the next thing due, if that is sooner than what it is set to. When it
    /// goes off too early, it is simply set again.
    fn arm_timer(&mut self, now: Instant) {
        let poll_at =
            self.poll.as_ref().filter(|poll| poll.waiting || poll.next_at > now).map(|poll| poll.next_at);
        let due = if self.connected {
            [
                self.outbox.earliest_repeat(),
                self.requests.earliest(),
                self.events.earliest(),
                poll_at,
                self.stop_by,
            ]
        } else {
            [None, None, None, None, self.stop_by]
        };
        let Some(next) = due.into_iter().flatten().min() else {
            return;
        };
        if self.timer_at.is_none_or(|set| next < set) {
            self.timer.as_mut().reset(next);
            self.timer_at = Some(next);
        }
    }
}
