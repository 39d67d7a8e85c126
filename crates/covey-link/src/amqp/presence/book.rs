//! Which devices are connected and which of them listen for announcements, by
//! what the broker tells and by looking: a state machine without I/O.

use std::collections::{BTreeMap, HashMap};

use covey_core::id::Sn;

use crate::amqp::presence::event::{BrokerEvent, Session, Subscription};

/// How long the management API may lag behind the broker, in milliseconds:
/// statistics come every 5 s.
pub(super) const LAG_MS: i64 = 30_000;

/// What has changed about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has a new connection.
    Connected(Session),
    /// This connection has ended.
    Disconnected(Session),
    /// It listens for announcements from now on, over this connection.
    Subscribed,
    /// It no longer listens.
    Unsubscribed,
}

/// What is known of one device.
#[derive(Debug, Default)]
struct Known {
    session: Option<(Session, Seen)>,
    /// The latest connection that has ended, and since which look that is known.
    closed: Option<(Session, u64)>,
    /// Its subscriptions to announcements. They may outlive a connection.
    subscriptions: BTreeMap<Subscription, Seen>,
    listens: bool,
}

/// In which look something was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen(u64);

/// The devices of one shard.
#[derive(Debug, Default)]
pub(super) struct Book {
    devices: HashMap<Sn, Known>,
    look: u64,
}

impl Book {
    /// Applies an event of the broker.
    pub(super) fn apply(&mut self, sn: &Sn, event: BrokerEvent) -> Vec<Change> {
        let look = self.look;
        let known = self.devices.entry(sn.clone()).or_default();
        let mut changes = Vec::new();
        match event {
            BrokerEvent::Connected(session) => known.connected(session, Seen(look), &mut changes),
            BrokerEvent::Closed(session) => known.closed(session, look, &mut changes),
            BrokerEvent::Subscribed(subscription) => {
                known.subscriptions.insert(subscription, Seen(look));
                // Whatever was announced before may have found nobody.
                known.listens = false;
            }
            BrokerEvent::Unsubscribed(subscription) => {
                known.subscriptions.remove(&subscription);
            }
        }
        known.settle(&mut changes);
        changes
    }

    /// Takes a connection that a look has found.
    pub(super) fn found_connection(&mut self, sn: &Sn, session: Session) -> Vec<Change> {
        self.apply(sn, BrokerEvent::Connected(session))
    }

    /// Takes the connections of a device that a look has found, of which the
    /// broker told only the names. `began_at_ms` is when the look began.
    pub(super) fn found_names(&mut self, sn: &Sn, found: Vec<Session>, began_at_ms: i64) -> Vec<Change> {
        let look = Seen(self.look);
        let known = self.devices.entry(sn.clone()).or_default();
        let mut changes = Vec::new();
        match &mut known.session {
            Some((current, seen)) if found.iter().any(|one| one.name == current.name) => *seen = look,
            // The list may be older than it.
            Some((current, _)) if current.connected_at >= began_at_ms - LAG_MS => {}
            _ => {
                let is_over =
                    |one: &Session| known.closed.as_ref().is_some_and(|(closed, _)| closed.name == one.name);
                if let Some(session) = found.into_iter().find(|one| !is_over(one)) {
                    known.begins(session, look, &mut changes);
                }
            }
        }
        known.settle(&mut changes);
        changes
    }

    /// Takes a subscription that a look has found.
    pub(super) fn found_subscription(&mut self, sn: &Sn, subscription: Subscription) -> Vec<Change> {
        let mut changes = Vec::new();
        let known = self.devices.entry(sn.clone()).or_default();
        known.subscriptions.insert(subscription, Seen(self.look));
        known.settle(&mut changes);
        changes
    }

    /// A look at all connections and subscriptions begins.
    pub(super) fn look_begins(&mut self) {
        self.look += 1;
    }

    /// The look has ended: what it has not found is no more, unless it is so
    /// young that it may not have been seen. `began_at_ms` is when it began.
    pub(super) fn look_ended(&mut self, began_at_ms: i64) -> Vec<(Sn, Change)> {
        let (number, look) = (self.look, Seen(self.look));
        let mut all = Vec::new();
        self.devices.retain(|sn, known| {
            let mut changes = Vec::new();
            known.subscriptions.retain(|_, seen| *seen == look);
            let gone = known
                .session
                .take_if(|(session, seen)| *seen != look && session.connected_at < began_at_ms - LAG_MS);
            if let Some((session, _)) = gone {
                known.gone(session, number, &mut changes);
            }
            known.settle(&mut changes);
            // A look under way must not bring back what has ended meanwhile.
            known.closed.take_if(|(_, since)| *since + 1 < number);
            all.extend(changes.into_iter().map(|change| (sn.clone(), change)));
            !known.is_empty()
        });
        all
    }

    /// The connection of a device.
    pub(super) fn session(&self, sn: &Sn) -> Option<&Session> {
        self.devices.get(sn)?.session.as_ref().map(|(session, _)| session)
    }

    /// Whether a device listens.
    pub(super) fn listens(&self, sn: &Sn) -> bool {
        self.devices.get(sn).is_some_and(|known| known.listens)
    }
}

impl Known {
    fn connected(&mut self, session: Session, seen: Seen, changes: &mut Vec<Change>) {
        let is_over = |(closed, _): &(Session, u64)| {
            closed.connected_at > session.connected_at || closed.is_same(&session)
        };
        if self.closed.as_ref().is_some_and(is_over) {
            return;
        }
        match &mut self.session {
            Some((current, last_seen)) if current.is_same(&session) => *last_seen = seen,
            Some((current, _)) if current.connected_at > session.connected_at => {}
            _ => self.begins(session, seen, changes),
        }
    }

    fn begins(&mut self, session: Session, seen: Seen, changes: &mut Vec<Change>) {
        // What was announced on an earlier connection is to be announced anew.
        self.listens = false;
        changes.push(Change::Connected(session.clone()));
        self.session = Some((session, seen));
    }

    fn closed(&mut self, session: Session, look: u64, changes: &mut Vec<Change>) {
        match self.session.take_if(|(current, _)| current.is_same(&session)) {
            Some((session, _)) => self.gone(session, look, changes),
            None => self.ended(session, look),
        }
    }

    fn gone(&mut self, session: Session, look: u64, changes: &mut Vec<Change>) {
        self.listens = false;
        changes.push(Change::Unsubscribed);
        changes.push(Change::Disconnected(session.clone()));
        self.ended(session, look);
    }

    fn ended(&mut self, session: Session, look: u64) {
        let is_news = self.closed.as_ref().is_none_or(|(last, _)| last.connected_at <= session.connected_at);
        if is_news {
            self.closed = Some((session, look));
        }
    }

    /// Whoever is connected and has a subscription listens.
    fn settle(&mut self, changes: &mut Vec<Change>) {
        let listens = self.session.is_some() && !self.subscriptions.is_empty();
        if listens != self.listens {
            self.listens = listens;
            changes.push(if listens { Change::Subscribed } else { Change::Unsubscribed });
        }
    }

    fn is_empty(&self) -> bool {
        self.session.is_none() && self.subscriptions.is_empty() && self.closed.is_none()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::amqp::presence::event::UNDATED;

    fn sn() -> Sn {
        Sn::parse("d1").unwrap()
    }

    fn session(connected_at: i64) -> Session {
        Session {
            name: format!("a:{connected_at} -> b:8883"),
            connected_at,
            address: "a".to_owned(),
            protocol: "mqtt5".to_owned(),
            node: "n".to_owned(),
        }
    }

    fn subscription() -> Subscription {
        Subscription::of("mqtt-subscription-d1qos1", "srv.d1.tsk").unwrap().1
    }

    #[test]
    fn a_device_listens_when_it_is_connected_and_subscribed() {
        let mut book = Book::default();
        assert_eq!(book.apply(&sn(), BrokerEvent::Connected(session(1))), [Change::Connected(session(1))]);
        assert_eq!(book.apply(&sn(), BrokerEvent::Subscribed(subscription())), [Change::Subscribed]);
        // Another subscription, and what was announced meanwhile is announced anew.
        assert_eq!(book.apply(&sn(), BrokerEvent::Subscribed(subscription())), [Change::Subscribed]);
        let gone = [Change::Unsubscribed, Change::Disconnected(session(1))];
        assert_eq!(book.apply(&sn(), BrokerEvent::Closed(session(1))), gone);
        // The session goes on at the broker: the next connection listens at once.
        let again = [Change::Connected(session(2)), Change::Subscribed];
        assert_eq!(book.apply(&sn(), BrokerEvent::Connected(session(2))), again);
        assert_eq!(book.apply(&sn(), BrokerEvent::Unsubscribed(subscription())), [Change::Unsubscribed]);
        assert_eq!(
            book.apply(&sn(), BrokerEvent::Closed(session(2))).last(),
            Some(&Change::Disconnected(session(2)))
        );
    }

    #[test]
    fn a_take_over_in_either_order_ends_with_the_newer_connection() {
        for order in [[0, 1], [1, 0]] {
            let mut book = Book::default();
            book.apply(&sn(), BrokerEvent::Connected(session(1)));
            book.apply(&sn(), BrokerEvent::Subscribed(subscription()));
            let news = [BrokerEvent::Closed(session(1)), BrokerEvent::Connected(session(2))];
            for place in order {
                book.apply(&sn(), news[place].clone());
            }
            assert_eq!(book.session(&sn()), Some(&session(2)), "{order:?}");
            assert!(book.listens(&sn()));
        }
    }

    #[test]
    fn a_look_ends_what_is_gone_and_spares_what_is_young() {
        let mut book = Book::default();
        book.apply(&sn(), BrokerEvent::Connected(session(1_000)));
        book.apply(&sn(), BrokerEvent::Subscribed(subscription()));
        book.look_begins();
        assert_eq!(book.look_ended(1_000 + LAG_MS), [(sn(), Change::Unsubscribed)]);
        assert!(book.session(&sn()).is_some());
        book.look_begins();
        let ended = book.look_ended(1_001 + LAG_MS);
        assert_eq!(ended.last(), Some(&(sn(), Change::Disconnected(session(1_000)))));
        // A look that began before must not bring it back.
        assert_eq!(book.found_connection(&sn(), session(1_000)), []);
        assert_eq!(book.session(&sn()), None);
        for _ in 0..2 {
            book.look_begins();
            book.look_ended(1_001 + LAG_MS);
        }
        assert!(book.devices.is_empty());
    }

    /// As a look finds it where the broker tells only the name.
    fn named(connected_at: i64) -> Session {
        let (address, protocol) = (String::new(), String::new());
        Session { connected_at: UNDATED, address, protocol, ..session(connected_at) }
    }

    #[test]
    fn names_alone_keep_a_connection_and_find_one_that_nobody_heard_of() {
        let mut book = Book::default();
        let now = 10_000 + LAG_MS;
        book.apply(&sn(), BrokerEvent::Connected(session(1_000)));
        book.look_begins();
        assert_eq!(book.found_names(&sn(), vec![named(500), named(1_000)], now), []);
        assert_eq!(book.look_ended(now), []);
        // Another one is there, and the first is not: it was heard neither to end nor to begin.
        book.look_begins();
        assert_eq!(book.found_names(&sn(), vec![named(2_000)], now), [Change::Connected(named(2_000))]);
        assert_eq!(book.look_ended(now), []);
        // Its beginning comes late, and its end is that of the one that was found.
        assert_eq!(book.apply(&sn(), BrokerEvent::Connected(session(2_000))), []);
        let ended = book.apply(&sn(), BrokerEvent::Closed(session(2_000)));
        assert_eq!(ended, [Change::Unsubscribed, Change::Disconnected(named(2_000))]);
        // What has ended is not brought back by a list that is older.
        assert_eq!(book.found_names(&sn(), vec![named(2_000)], now), []);
        // Nor does a list take the place of a connection that is younger than it.
        book.apply(&sn(), BrokerEvent::Connected(session(now)));
        assert_eq!(book.found_names(&sn(), vec![named(3_000)], now), []);
        assert_eq!(book.session(&sn()), Some(&session(now)));
    }

    #[test]
    fn a_connection_whose_name_is_gone_has_ended() {
        let mut book = Book::default();
        book.found_names(&sn(), vec![named(1)], 1);
        book.look_begins();
        let now = 10_000 + LAG_MS;
        assert_eq!(book.look_ended(now).last(), Some(&(sn(), Change::Disconnected(named(1)))));
    }

    #[test]
    fn a_look_that_finds_all_changes_nothing() {
        let mut book = Book::default();
        book.apply(&sn(), BrokerEvent::Connected(session(1)));
        book.apply(&sn(), BrokerEvent::Subscribed(subscription()));
        book.look_begins();
        assert_eq!(book.found_connection(&sn(), session(1)), []);
        assert_eq!(book.found_subscription(&sn(), subscription()), []);
        assert_eq!(book.look_ended(i64::MAX), []);
    }
}
