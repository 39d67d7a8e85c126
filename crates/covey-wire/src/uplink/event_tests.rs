//! Tests of how events are read.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::uplink::Properties;

const ID: &str = "01901f2e-3d4c-7b5a-8877-665544332211";
const OTHER_ID: &str = "01901f2e-3d4c-7b5a-8877-665544332212";

fn read<'a>(properties: &[(&str, &'a str)], body: &'a str) -> Result<Event<'a>, Unread> {
    let mut given = Properties::default();
    for (name, value) in properties {
        given.put_user_property(name, value);
    }
    read_event(Received { carrier: Carrier::Properties(given), body: body.as_bytes() })
}

fn bare(body: &str) -> Result<Event<'_>, Unread> {
    let read = |carrier| read_event(Received { carrier, body: body.as_bytes() });
    assert_eq!(read(Carrier::Envelope), read(Carrier::Unknown), "the rule is the same");
    read(Carrier::Envelope)
}

/// Type, number, and time in seconds.
fn fields(event: &Event<'_>) -> (i64, u32, Option<i64>) {
    (event.type_code, event.dev_event_id, event.dev_timestamp_ms.map(|ms| ms.div_euclid(1_000)))
}

#[test]
fn each_field_comes_from_its_property_or_else_from_the_body() {
    let body = r#"{"101":"8","102":1769860801,"200":14,"300":[{"301":5}]}"#;
    assert_eq!(fields(&read(&[], body).unwrap()), (14, 8, Some(1_769_860_801)));
    let given = [("event_type_code", "13"), ("dev_event_id", "7"), ("dev_timestamp", "1769860800")];
    assert_eq!(fields(&read(&given, body).unwrap()), (13, 7, Some(1_769_860_800)));
    assert_eq!(fields(&read(&given[..1], body).unwrap()), (13, 8, Some(1_769_860_801)));
    assert_eq!(fields(&read(&given[1..2], body).unwrap()), (14, 7, Some(1_769_860_801)));
    assert_eq!(fields(&read(&given[2..], body).unwrap()), (14, 8, Some(1_769_860_800)));
    assert_eq!(fields(&read(&[("dev_timestamp", "rubbish")], body).unwrap()), (14, 8, Some(1_769_860_801)));
    assert_eq!(fields(&read(&given, "").unwrap()), (13, 7, Some(1_769_860_800)));
    let event = read(&given, body).unwrap();
    assert_eq!(event.payload, body);
    assert_eq!(read(&given, " { } ").unwrap().payload, " { } ");
    assert_eq!(read(&given, "").unwrap().payload, "{}");
}

#[test]
fn a_property_that_is_no_integer_is_refused_and_a_tag_counts_as_missing() {
    for text in ["x", "", "1.5", " 1", "-", "1e3"] {
        let unread = read(&[("event_type_code", text)], "{}").unwrap_err();
        assert_eq!(unread, Unread { malformed: Malformed::EventTypeCode, head: None }, "{text}");
        let unread = read(&[("dev_event_id", text)], "{}").unwrap_err();
        assert_eq!(unread, Unread { malformed: Malformed::DevEventId, head: None }, "{text}");
        let body = format!(r#"{{"101":"{text}","200":"{text}"}}"#);
        assert_eq!(fields(&read(&[], &body).unwrap()), (0, 0, None), "{text}");
    }
    for value in ["null", "true", "[1]", "{}", "1.5", "1e3"] {
        let body = format!(r#"{{"101":{value},"102":{value},"200":{value}}}"#);
        let wanted = (0, 0, (value == "1.5").then_some(1));
        assert_eq!(fields(&read(&[], &body).unwrap()), wanted, "{value}");
    }
    for (property, tag, malformed, numbers) in [
        ("event_type_code", "200", Malformed::EventTypeCode, ["-1", "2147483648", "99999999999999999999"]),
        ("dev_event_id", "101", Malformed::DevEventId, ["-1", "4294967296", "99999999999999999999"]),
    ] {
        for number in numbers {
            let refused = Unread { malformed, head: None };
            assert_eq!(read(&[(property, number)], "{}").unwrap_err(), refused, "{number}");
            for value in [number.to_owned(), format!("\"{number}\"")] {
                let body = format!(r#"{{"{tag}":{value}}}"#);
                assert_eq!(read(&[], &body).unwrap_err(), refused, "{body}");
                assert!(read(&[(property, "7")], &body).is_ok(), "the property counts");
            }
        }
    }
    assert_eq!(fields(&read(&[], r#"{"101":"+7","200":"+13"}"#).unwrap()), (13, 7, None));
    let largest = [("event_type_code", "2147483647"), ("dev_event_id", "4294967295")];
    assert_eq!(fields(&read(&largest, "{}").unwrap()), (i64::from(i32::MAX), u32::MAX, None));
}

#[test]
fn of_an_event_whose_body_is_none_the_head_is_known_if_properties_tell_it() {
    let given = [("event_type_code", "13"), ("dev_event_id", "7"), ("correlation_id", ID)];
    let correlation = Some(Uuid::parse_str(ID).unwrap());
    let head = Some(EventHead { type_code: 13, dev_event_id: 7, correlation });
    assert_eq!(read(&given, "[]").unwrap_err(), Unread { malformed: Malformed::NotObject, head });
    let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    assert!(read(&given, &nested(64)).is_ok());
    assert_eq!(read(&given, &nested(65)).unwrap_err(), Unread { malformed: Malformed::TooDeep, head });
    let strings = format!(r#"{{"a":"{}\"[["}}"#, "[{".repeat(200));
    assert!(read(&given, &strings).is_ok(), "a string has no levels");
    // Where tags of the body tell it, too; and within an envelope the payload alone counts.
    let tagged = Some(EventHead { type_code: 13, dev_event_id: 7, correlation: None });
    let body = format!(r#"{{"200":13,"101":7,"a":{}}}"#, nested(64));
    let unread = Unread { malformed: Malformed::TooDeep, head: tagged };
    assert_eq!(read(&[], &body).unwrap_err(), unread);
    let enveloped = |levels| {
        let body = format!(r#"{{"event_type_code":13,"dev_event_id":7,"payload":{}}}"#, nested(levels));
        read_event(Received { carrier: Carrier::Envelope, body: body.as_bytes() }).map(drop)
    };
    assert_eq!(enveloped(64), Ok(()));
    assert_eq!(enveloped(65), Err(unread));
    let half = r#"{"200":13,"101":7,"reported":{"good":1,"\ud800":2}}"#;
    assert_eq!(read(&[], half).unwrap_err(), Unread { malformed: Malformed::Resource, head: tagged });
    let unknown = Unread { malformed: Malformed::NotObject, head: None };
    assert_eq!(read(&given[1..], "rubbish").unwrap_err(), unknown);
    assert_eq!(read(&[("event_type_code", "0"), ("dev_event_id", "7")], "rubbish").unwrap_err(), unknown);
    let carrier = Carrier::Properties(Properties::default());
    assert_eq!(read_event(Received { carrier, body: b"{\"a\":\"\xff\"}" }).unwrap_err(), unknown);
}

#[test]
fn a_correlation_is_taken_where_it_is_a_uuid_and_left_out_where_not() {
    let id = Uuid::parse_str(ID).unwrap();
    let of = |given: Properties<'_>| {
        read_event(Received { carrier: Carrier::Properties(given), body: b"{}" }).unwrap().correlation
    };
    let nothing = Properties::default();
    assert_eq!(
        of(Properties { correlation_id: Some(ID), correlation_property: Some(OTHER_ID), ..nothing }),
        Some(id)
    );
    assert_eq!(of(Properties { correlation_data: Some(id.as_bytes()), ..nothing }), Some(id));
    assert_eq!(of(Properties { correlation_header: Some(id.as_bytes()), ..nothing }), Some(id));
    assert_eq!(
        of(Properties { correlation_id: Some("x"), correlation_property: Some(ID), ..nothing }),
        Some(id)
    );
    let simple = id.simple().to_string();
    assert_eq!(of(Properties { correlation_id: Some(&simple), ..nothing }), Some(id));
    let nil = Uuid::nil().to_string();
    assert_eq!(of(Properties { correlation_id: Some(&nil), correlation_data: Some(b"zz"), ..nothing }), None);
}

#[test]
fn without_properties_an_object_with_an_object_payload_is_an_envelope() {
    let text = format!(
        r#"{{"event_type_code":"13","dev_event_id":7,"dev_timestamp":"2026-01-31T12:00:00Z",
            "correlation_id":"{ID}","payload": {{"200":14, "101":8}} }}"#
    );
    let event = bare(&text).unwrap();
    assert_eq!(fields(&event), (13, 7, Some(1_769_860_800)));
    assert_eq!(event.payload, r#"{"200":14, "101":8}"#);
    assert_eq!(event.correlation, Some(Uuid::parse_str(ID).unwrap()));
    let correlated =
        format!(r#"{{"correlationData":"{ID}","dev_event_id":null,"payload":{{"200":14,"101":8}}}}"#);
    let event = bare(&correlated).unwrap();
    assert_eq!((fields(&event), event.correlation.is_some()), ((14, 8, None), true));
    // Anything else is the event itself.
    for body in [
        r#"{"200":14,"101":8}"#,
        r#"{"200":14,"101":8,"payload":[{}]}"#,
        r#"{"200":14,"101":8,"payload":null}"#,
    ] {
        let event = bare(body).unwrap();
        assert_eq!((fields(&event), event.payload), ((14, 8, None), body));
    }
    assert_eq!(bare("").unwrap().payload, "{}");
    assert_eq!(bare(r#"{"event_type_code":13}"#).unwrap().type_code, 0, "no envelope, so no field of one");
    for (body, malformed) in [
        (r#"{"event_type_code":"x","payload":{}}"#, Malformed::EventTypeCode),
        (r#"{"event_type_code":[1],"payload":{}}"#, Malformed::EventTypeCode),
        (r#"{"dev_event_id":4294967296,"payload":{}}"#, Malformed::DevEventId),
        ("hello", Malformed::NotObject),
    ] {
        assert_eq!(bare(body).unwrap_err().malformed, malformed, "{body}");
    }
    // With properties it is a body like any other.
    assert_eq!(read(&[], &text).unwrap().type_code, 0);
}

proptest! {
    #[test]
    fn rubbish_never_panics(names in proptest::collection::vec((0..6_usize, any::<String>()), 0..6),
                            native in any::<Option<Vec<u8>>>(), body in any::<Vec<u8>>(),
                            json in "[\\[\\]{}\",:0-9a\\\\u reportedpayload]{0,200}") {
        let known = ["event_type_code", "dev_event_id", "dev_timestamp", "correlation_id", "correlationData", "x"];
        let mut given = Properties { correlation_data: native.as_deref(), ..Properties::default() };
        for (place, value) in &names {
            given.put_user_property(known[*place], value);
        }
        for body in [&body[..], json.as_bytes()] {
            for carrier in [Carrier::Properties(given), Carrier::Envelope, Carrier::Unknown] {
                if let Ok(event) = read_event(Received { carrier, body }) {
                    prop_assert!((0..=EVENT_TYPE_CODE_MAX).contains(&event.type_code));
                    prop_assert!(serde_json::from_str::<&RawValue>(event.payload).is_ok());
                }
            }
        }
    }

    #[test]
    fn what_a_device_writes_is_read(type_code in 0..=EVENT_TYPE_CODE_MAX, number in any::<u32>(),
                                    seconds in 0..253_402_300_800_i64, in_body in any::<[bool; 3]>()) {
        let [type_text, number_text, time_text] =
            [type_code.to_string(), number.to_string(), seconds.to_string()];
        let names = ["event_type_code", "dev_event_id", "dev_timestamp"];
        let values = [type_text.as_str(), number_text.as_str(), time_text.as_str()];
        let mut given = Properties::default();
        let mut body = serde_json::Map::new();
        for place in 0..3 {
            if in_body[place] {
                body.insert(["200", "101", "102"][place].to_owned(), values[place].into());
            } else {
                given.put_user_property(names[place], values[place]);
            }
        }
        let body = serde_json::Value::from(body).to_string();
        let event = read_event(Received { carrier: Carrier::Properties(given), body: body.as_bytes() });
        let at = if seconds >= 100_000_000_000 { seconds / 1_000 } else { seconds };
        prop_assert_eq!(fields(&event.unwrap()), (type_code, number, Some(at)));
    }
}
