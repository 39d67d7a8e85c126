//! Decoding by table: what each message of the server means, and what is not of the contract.

#![allow(clippy::unwrap_used)]

use super::*;
use rumqttc::QoS;

const TASK: &str = "0195f3a1-5b7c-7d10-9c1e-aabbccddeeff";
const ZERO: &str = "00000000-0000-0000-0000-000000000000";
const NOW: u64 = 1_000;

struct Message {
    topic: &'static str,
    native: Option<&'static str>,
    user: &'static [(&'static str, &'static str)],
    expiry_s: Option<u32>,
    body: &'static str,
}

const EMPTY: Message = Message { topic: "srv/lamp-1/rsp", native: None, user: &[], expiry_s: None, body: "" };

fn decoded(message: &Message) -> Inbound {
    let properties = PublishProperties {
        correlation_data: message.native.map(|text| Bytes::from_static(text.as_bytes())),
        message_expiry_interval: message.expiry_s,
        user_properties: message
            .user
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..PublishProperties::default()
    };
    let publish = Publish::new(message.topic, QoS::AtLeastOnce, message.body, Some(properties));
    decode(&Topics::new("lamp-1"), publish, NOW)
}

fn task() -> Uuid {
    Uuid::parse_str(TASK).unwrap()
}

fn parameters() -> Parameters {
    Parameters {
        task_id: task(),
        method_code: 51,
        method: None,
        expires_at: Some(1_060),
        keep_until: 1_060,
        payload: Bytes::from_static(b"{\"dt\":[{\"cl\":5}]}"),
    }
}

#[test]
fn a_response_is_a_task_or_nothing() {
    let table: Vec<(&str, Message, Inbound)> = vec![
        (
            "a task with native correlation",
            Message {
                native: Some(TASK),
                user: &[("method_code", "51"), ("expires_at", "1060")],
                body: "{\"dt\":[{\"cl\":5}]}",
                ..EMPTY
            },
            Inbound::Parameters(parameters()),
        ),
        (
            "a task with the user property alone, named, kept for the longer of both lives",
            Message {
                user: &[
                    ("correlationData", TASK),
                    ("method_code", "20"),
                    ("method", "blink"),
                    ("expires_at", "1060"),
                ],
                expiry_s: Some(90),
                body: "{\"dt\":[{\"cl\":5}]}",
                ..EMPTY
            },
            Inbound::Parameters(Parameters {
                method_code: 20,
                method: Some(Box::from("blink")),
                keep_until: 1_090,
                ..parameters()
            }),
        ),
        (
            "method code 0 is a method when there is a task",
            Message {
                native: Some(TASK),
                user: &[("method_code", "0"), ("expires_at", "1060")],
                body: "{\"dt\":[{\"cl\":5}]}",
                ..EMPTY
            },
            Inbound::Parameters(Parameters { method_code: 0, ..parameters() }),
        ),
        (
            "nothing to do",
            Message {
                user: &[("method_code", "0"), ("correlationData", ZERO)],
                body: "{\"method_code\":0}",
                ..EMPTY
            },
            Inbound::Nothing,
        ),
        ("no correlation at all", EMPTY, Inbound::Nothing),
        (
            "a task without a method code",
            Message { native: Some(TASK), ..EMPTY },
            Inbound::Unknown("a task without an integer method_code"),
        ),
        (
            "a method code out of range",
            Message { native: Some(TASK), user: &[("method_code", "70000")], ..EMPTY },
            Inbound::Unknown("a task without an integer method_code"),
        ),
    ];
    for (what, message, expected) in table {
        assert_eq!(decoded(&message), expected, "{what}");
    }
}

#[test]
fn announcements_commits_and_strangers_are_told_apart() {
    let table: Vec<(&str, Message, Inbound)> = vec![
        (
            "an announcement with a priority",
            Message {
                topic: "srv/lamp-1/tsk",
                native: Some(TASK),
                body: "{\"id\":\"x\",\"header\":{\"priority\":7,\"ttl\":1}}",
                ..EMPTY
            },
            Inbound::Announced(Announcement { task_id: task(), priority: Some(7) }),
        ),
        (
            "an announcement whose body is unreadable",
            Message { topic: "srv/lamp-1/tsk", native: Some(TASK), body: "?", ..EMPTY },
            Inbound::Announced(Announcement { task_id: task(), priority: None }),
        ),
        (
            "an announcement of nothing",
            Message { topic: "srv/lamp-1/tsk", native: Some(ZERO), ..EMPTY },
            Inbound::Unknown("an announcement without a task id"),
        ),
        (
            "a commit",
            Message {
                topic: "srv/lamp-1/cmt",
                user: &[("correlationData", TASK), ("ext_id", "-3"), ("result_id", "42")],
                ..EMPTY
            },
            Inbound::Committed(Commit { task_id: task(), ext_id: Some(-3), result_id: Some(42) }),
        ),
        (
            "a stored event",
            Message {
                topic: "srv/lamp-1/eva",
                user: &[("event_type_code", "13"), ("dev_event_id", "4294967295")],
                body: "{\"status\":\"success\"}",
                ..EMPTY
            },
            Inbound::EventTold(EventTold { number: u32::MAX, type_code: Some(13), is_stored: true }),
        ),
        (
            "an event that is not stored",
            Message {
                topic: "srv/lamp-1/eva",
                user: &[("dev_event_id", "1")],
                body: "{\"status\":\"error\"}",
                ..EMPTY
            },
            Inbound::EventTold(EventTold { number: 1, type_code: None, is_stored: false }),
        ),
        (
            "an eva of no event",
            Message { topic: "srv/lamp-1/eva", ..EMPTY },
            Inbound::Unknown("an eva without an integer dev_event_id"),
        ),
        (
            "another device's topic",
            Message { topic: "srv/lamp-2/tsk", native: Some(TASK), ..EMPTY },
            Inbound::Unknown("the topic is not of this device"),
        ),
        (
            "an unknown topic of this device",
            Message { topic: "srv/lamp-1/xyz", ..EMPTY },
            Inbound::Unknown("the topic is not of the contract"),
        ),
    ];
    for (what, message, expected) in table {
        assert_eq!(decoded(&message), expected, "{what}");
    }
}

#[test]
fn a_task_of_unknown_life_is_kept_as_long_as_any() {
    assert_eq!(keep_until(None, None, NOW), NOW + TASK_LIFE_MAX_S);
    assert_eq!(keep_until(None, Some(5), NOW), NOW + 5);
    assert_eq!(keep_until(Some(7), None, NOW), 7);
}

#[test]
fn a_request_carries_its_task_as_correlation_data_alone() {
    for (task, text) in [(task(), TASK), (Uuid::nil(), ZERO)] {
        let properties = request_properties(task);
        assert_eq!(properties.correlation_data.unwrap(), text.as_bytes());
        assert_eq!(properties.user_properties, []);
        assert_eq!(properties.message_expiry_interval, None);
    }
}

#[test]
fn topics_bear_the_serial_number() {
    let topics = Topics::new("lamp-1");
    assert_eq!(
        [&topics.ack, &topics.req, &topics.res, &topics.evt],
        ["dev/lamp-1/ack", "dev/lamp-1/req", "dev/lamp-1/res", "dev/lamp-1/evt"]
    );
    let subscriptions = |announcements| topics.subscriptions(announcements).collect::<Vec<_>>();
    assert_eq!(subscriptions(false), ["srv/lamp-1/rsp", "srv/lamp-1/cmt", "srv/lamp-1/eva"]);
    assert_eq!(
        subscriptions(true),
        ["srv/lamp-1/rsp", "srv/lamp-1/cmt", "srv/lamp-1/eva", "srv/lamp-1/tsk"],
        "announcements come as soon as they are subscribed to, so that comes last"
    );
}

#[test]
fn a_result_carries_its_task_twice() {
    let properties = result_properties(task(), 206, -1);
    assert_eq!(properties.correlation_data.unwrap(), TASK.as_bytes());
    let user: Vec<_> =
        properties.user_properties.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(user, [("status_code", "206"), ("ext_id", "-1"), ("correlationData", TASK)]);
}

#[test]
fn an_event_carries_what_it_is_in_its_properties() {
    let event = Event {
        number: 7,
        type_code: 13,
        time_s: 1_700_000_000,
        correlation: Some(task()),
        body: Bytes::new(),
    };
    let properties = event_properties(&event);
    let user: Vec<_> =
        properties.user_properties.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let expected = [
        ("event_type_code", "13"),
        ("dev_event_id", "7"),
        ("dev_timestamp", "1700000000"),
        ("correlation_id", TASK),
    ];
    assert_eq!(user, expected);
    let without = event_properties(&Event { correlation: None, ..event });
    assert_eq!(without.user_properties.len(), 3);
}
