//! Events about clients that EMQX publishes on `$SYS/brokers/<node>/clients/<client id>/<event>`
//! as JSON; RMQTT's plugin `rmqtt-sys-topic` uses the same topics.

use covey_core::id::Sn;
use serde::Deserialize;

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClientEvent {
    /// A device has connected.
    Connected {
        sn: Sn,
        session: String,
        address: Option<String>,
        /// 5 for MQTT 5, 4 for 3.1.1.
        level: u8,
    },
    /// A device's connection has ended.
    Gone {
        sn: Sn,
        /// When that connection began, if it says so.
        session: Option<String>,
    },
    /// A device has subscribed.
    Subscribed { sn: Sn, filter: String },
}

#[derive(Deserialize)]
struct Fields {
    username: Option<String>,
    ipaddress: Option<String>,
    proto_ver: Option<u8>,
    connected_at: Option<serde_json::Value>,
    topic: Option<String>,
    reason: Option<String>,
}

/// Reasons after which the device is still connected: another connection took the place of the
/// ended one.
const REPLACED: [&str; 3] = ["takenover", "takeovered", "discarded"];

/// Reads an event.
pub(super) fn read(topic: &str, payload: &[u8]) -> Option<ClientEvent> {
    let rest = topic.strip_prefix("$SYS/brokers/")?;
    let mut levels = rest.split('/');
    let (node, clients, client_id, event) = (levels.next()?, levels.next()?, levels.next()?, levels.next()?);
    if clients != "clients" || levels.next().is_some() {
        return None;
    }
    let sn = Sn::parse(client_id).ok()?;
    let fields: Fields = serde_json::from_slice(payload).ok()?;
    // The user name is what the broker takes from the certificate: a client id
    // that is not it is none of a device's.
    if fields.username.as_deref().is_some_and(|name| !name.is_empty() && name != client_id) {
        return None;
    }
    let began = fields.connected_at.map(|at| format!("{node} {}", at.to_string().trim_matches('"')));
    Some(match event {
        "connected" => ClientEvent::Connected {
            sn,
            session: format!("{} p{}", began?, fields.proto_ver.unwrap_or(5)),
            address: fields.ipaddress,
            level: fields.proto_ver.unwrap_or(5),
        },
        "disconnected" if fields.reason.is_some_and(|reason| REPLACED.contains(&&*reason)) => return None,
        "disconnected" => ClientEvent::Gone { sn, session: began },
        "subscribed" => ClientEvent::Subscribed { sn, filter: fields.topic? },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // As EMQX's documentation prints it.
    const CONNECTED: &[u8] = br#"{"username":"dev1","ts":1625572213878,"sockport":1883,"proto_ver":5,
        "proto_name":"MQTT","keepalive":60,"ipaddress":"127.0.0.1","expiry_interval":0,
        "connected_at":1625572213873,"connack":0,"clientid":"dev1","clean_start":true}"#;

    #[test]
    fn events_are_read() {
        let at = |event: &str| format!("$SYS/brokers/emqx@127.0.0.1/clients/dev1/{event}");
        let sn = Sn::parse("dev1").unwrap();
        let expected = ClientEvent::Connected {
            sn: sn.clone(),
            session: "emqx@127.0.0.1 1625572213873 p5".to_owned(),
            address: Some("127.0.0.1".to_owned()),
            level: 5,
        };
        assert_eq!(read(&at("connected"), CONNECTED), Some(expected));
        assert!(matches!(read(&at("disconnected"), b"{}"), Some(ClientEvent::Gone { .. })));
        let subscribed = ClientEvent::Subscribed { sn, filter: "srv/dev1/tsk".to_owned() };
        assert_eq!(read(&at("subscribed"), br#"{"topic":"srv/dev1/tsk"}"#), Some(subscribed));
        assert_eq!(read(&at("disconnected"), br#"{"reason":"takenover"}"#), None);
        assert_eq!(read(&at("else"), CONNECTED), None);
        assert_eq!(read(&at("connected"), b"no json"), None);
        assert_eq!(read("$SYS/brokers/n/clients/dev2/connected", CONNECTED), None);
        assert_eq!(read("$SYS/brokers/n/clients/covey.a/connected", CONNECTED), None);
        assert_eq!(read("$SYS/brokers/n/stats/dev1/connected", CONNECTED), None);
    }
}
