//! Reads what RabbitMQ's event exchange publishes about connections and subscriptions.
//!
//! Source: the plugin rabbitmq_event_exchange of RabbitMQ 4.0. The facts are in
//! the headers of a message without a body; docs/rabbitmq.md lists them.

use covey_core::id::Sn;
use covey_wire::{Downlink, subscription_reaches};
use lapin::types::FieldTable;

use crate::amqp::message::{number, text};

/// The keys that are bound, each by its full name: a user may be granted these
/// alone.
pub(super) const KEYS: [&str; 4] =
    ["connection.created", "connection.closed", "binding.created", "binding.deleted"];
/// How the broker calls the queue in which it keeps a device's subscriptions;
/// `qos0` or `qos1` follows the client id.
const SUBSCRIPTION_QUEUE: &str = "mqtt-subscription-";

/// The beginning of a connection of which only the name is known.
pub(super) const UNDATED: i64 = 0;

/// A connection of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// Both ends, as the broker writes them: unique while it lasts.
    pub(super) name: String,
    /// When it began, in milliseconds since the Unix epoch by the broker's clock; or [`UNDATED`].
    pub(super) connected_at: i64,
    /// Where the device is; empty if that is not known.
    pub(super) address: String,
    /// `mqtt5` or `mqtt3.1.1`; empty if that is not known.
    pub(super) protocol: String,
    /// The node of the cluster that holds it.
    pub(super) node: String,
}

impl Session {
    /// The session in one word, the same on all servers.
    pub(super) fn id(&self) -> String {
        format!("{} {}", self.connected_at, self.name)
    }

    /// The name in the id of a session.
    pub(super) fn name_in(id: &str) -> Option<&str> {
        id.split_once(' ').map(|(_, name)| name)
    }

    /// Whether both are one connection. The beginning of one that nobody heard of
    /// is not known ([`UNDATED`]); its name is unique while it lasts.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let is_undated = self.connected_at == UNDATED || other.connected_at == UNDATED;
        self.name == other.name && (is_undated || self.connected_at == other.connected_at)
    }

    /// When the session of this id began.
    pub(super) fn began_at(id: &str) -> Option<i64> {
        id.split(' ').next()?.parse().ok()
    }

    /// Whether its protocol has properties. One that is not known is taken for the newer one.
    pub(super) fn has_properties(&self) -> bool {
        self.protocol != "mqtt3.1.1"
    }
}

/// An event of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BrokerEvent {
    /// A device has connected.
    Connected(Session),
    /// A connection has ended.
    Closed(Session),
    /// A subscription to announcements was made.
    Subscribed(Subscription),
    /// A subscription to announcements was removed.
    Unsubscribed(Subscription),
}

/// A subscription that lets announcements through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subscription {
    /// The queue that the broker keeps for it.
    pub(super) queue: String,
    /// The binding key.
    pub(super) key: String,
}

impl Subscription {
    /// Whose it is, if it is one of a device to its announcements.
    pub(super) fn of(queue: &str, key: &str) -> Option<(Sn, Self)> {
        let client_id = queue.strip_prefix(SUBSCRIPTION_QUEUE)?;
        let client_id = client_id.strip_suffix("qos0").or_else(|| client_id.strip_suffix("qos1"))?;
        let sn = Sn::parse(client_id).ok()?;
        let filter = key.replace('.', "/").replace('*', "+");
        let is_heard = subscription_reaches(sn.as_str(), &filter)?.contains(Downlink::Tsk);
        is_heard.then(|| (sn, Self { queue: queue.to_owned(), key: key.to_owned() }))
    }
}

/// Reads one message of the event exchange: the device, and the event.
/// Nothing if it is about another virtual host, or about no device.
pub(super) fn read(key: &str, headers: &FieldTable, vhost: &str) -> Option<(Sn, BrokerEvent)> {
    let header = |name: &str| headers.inner().get(name);
    let string = |name: &str| header(name).and_then(text);
    if string("vhost")? != vhost {
        return None;
    }
    match key {
        "connection.created" | "connection.closed" => {
            let sn = Sn::parse(&string("user")?).ok()?;
            let session = Session {
                name: string("name")?.into_owned(),
                connected_at: header("connected_at").and_then(number)?,
                address: address(&string("peer_host").unwrap_or_default()),
                protocol: protocol(&string("protocol")?)?.to_owned(),
                node: string("node").unwrap_or_default().into_owned(),
            };
            Some((
                sn,
                if key == "connection.created" {
                    BrokerEvent::Connected(session)
                } else {
                    BrokerEvent::Closed(session)
                },
            ))
        }
        "binding.created" | "binding.deleted" => {
            if string("source_name")? != "amq.topic" || string("destination_kind")? != "queue" {
                return None;
            }
            let (sn, subscription) = Subscription::of(&string("destination_name")?, &string("routing_key")?)?;
            let event = if key == "binding.created" {
                BrokerEvent::Subscribed(subscription)
            } else {
                BrokerEvent::Unsubscribed(subscription)
            };
            Some((sn, event))
        }
        _ => None,
    }
}

/// The version of MQTT, in whichever form it is written: `{'MQTT',{5,0}}` in
/// an event, `MQTT 5-0` in the management API. Nothing for another protocol.
pub(super) fn protocol(text: &str) -> Option<&'static str> {
    if !text.contains("MQTT") {
        return None;
    }
    let digits = text.chars().filter(char::is_ascii_digit).collect::<String>();
    Some(match digits.as_str() {
        "50" | "5" => "mqtt5",
        _ => "mqtt3.1.1",
    })
}

/// An address, in whichever form it is written: an event has Erlang's
/// `{127,0,0,1}`, or eight numbers for IPv6.
fn address(text: &str) -> String {
    let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return text.to_owned();
    };
    let parts: Vec<u16> = inner.split(',').filter_map(|part| part.trim().parse().ok()).collect();
    if let Ok(parts) = <[u16; 8]>::try_from(parts.as_slice()) {
        return std::net::Ipv6Addr::from(parts).to_canonical().to_string();
    }
    match parts.as_slice() {
        [a, b, c, d] => format!("{a}.{b}.{c}.{d}"),
        _ => text.to_owned(),
    }
}

/// Headers as they come.
#[cfg(test)]
fn headers(entries: &[(&str, &str)]) -> FieldTable {
    use lapin::types::AMQPValue;
    let mut table = FieldTable::default();
    for (name, value) in entries {
        let value = value
            .parse::<i64>()
            .map_or_else(|_| AMQPValue::LongString((*value).into()), AMQPValue::LongLongInt);
        table.insert((*name).into(), value);
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As RabbitMQ 4.0.5 sends it, without what is not read.
    fn connection(protocol: &str, vhost: &str, user: &str) -> FieldTable {
        headers(&[
            ("client_properties", "{client_id,longstr,<<\"d1\">>}"),
            ("connected_at", "1795268317753"),
            ("name", "127.0.0.1:42590 -> 127.0.0.1:28883"),
            ("node", "rabbit@localhost"),
            ("peer_host", "{127,0,0,1}"),
            ("pid", "<rabbit@localhost.1795268283.904.0>"),
            ("protocol", protocol),
            ("user", user),
            ("vhost", vhost),
        ])
    }

    #[test]
    fn a_connection_of_a_device_is_read() {
        let (sn, told) = read("connection.created", &connection("{'MQTT',{5,0}}", "v", "d1"), "v").unwrap();
        let BrokerEvent::Connected(session) = told else { panic!("{told:?}") };
        assert_eq!((sn.as_str(), session.address.as_str()), ("d1", "127.0.0.1"));
        assert!(session.has_properties());
        assert_eq!(session.id(), "1795268317753 127.0.0.1:42590 -> 127.0.0.1:28883");
        assert_eq!(Session::began_at(&session.id()), Some(1_795_268_317_753));
        let (_, told) = read("connection.closed", &connection("{'MQTT',{3,1,1}}", "v", "d1"), "v").unwrap();
        let BrokerEvent::Closed(session) = told else { panic!("{told:?}") };
        assert!(!session.has_properties());
    }

    #[test]
    fn what_is_not_about_a_device_of_ours_is_left_out() {
        for table in [
            connection("{'MQTT',{5,0}}", "other", "d1"),
            connection("{0,9,1}", "v", "d1"),
            connection("{'MQTT',{5,0}}", "v", "covey.server"),
            FieldTable::default(),
        ] {
            assert_eq!(read("connection.created", &table, "v"), None, "{table:?}");
        }
        assert_eq!(read("connection.stats", &connection("{'MQTT',{5,0}}", "v", "d1"), "v"), None);
    }

    #[test]
    fn a_subscription_is_read_from_its_binding() {
        let told = |queue, key, source| {
            let headers = headers(&[
                ("destination_kind", "queue"),
                ("destination_name", queue),
                ("routing_key", key),
                ("source_name", source),
                ("vhost", "v"),
            ]);
            read("binding.created", &headers, "v").map(|(sn, told)| (sn.to_string(), told))
        };
        for key in ["srv.d1.tsk", "srv.d1.#", "srv.d1.*"] {
            let (sn, told) = told("mqtt-subscription-d1qos1", key, "amq.topic").unwrap();
            assert_eq!(sn, "d1");
            assert!(matches!(told, BrokerEvent::Subscribed(subscription) if subscription.key == key));
        }
        assert!(told("mqtt-subscription-qos1qos0", "srv.qos1.tsk", "amq.topic").is_some());
        for (queue, key, source) in [
            ("mqtt-subscription-d1qos1", "srv.d1.rsp", "amq.topic"),
            ("mqtt-subscription-d1qos1", "srv.d2.tsk", "amq.topic"),
            ("mqtt-subscription-d1qos1", "srv.d1.tsk", "other"),
            ("mqtt-subscription-d1", "srv.d1.tsk", "amq.topic"),
            ("covey.req", "dev.*.req", "amq.topic"),
        ] {
            assert_eq!(told(queue, key, source), None, "{queue} {key} {source}");
        }
    }

    #[test]
    fn addresses_and_protocols_are_read_in_both_forms() {
        assert_eq!(address("{0,0,0,0,0,65535,32512,1}"), "127.0.0.1");
        assert_eq!(address("{8193,3512,0,0,0,0,0,1}"), "2001:db8::1");
        assert_eq!(address("10.0.0.1"), "10.0.0.1");
        assert_eq!(protocol("MQTT 5-0"), Some("mqtt5"));
        assert_eq!(protocol("MQTT 3-1-1"), Some("mqtt3.1.1"));
        assert_eq!(protocol("AMQP 0-9-1"), None);
    }
}
