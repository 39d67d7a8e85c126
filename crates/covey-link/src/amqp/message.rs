//! Messages between AMQP 0-9-1 and the wire form: what RabbitMQ makes of the
//! properties of MQTT 5, and the other way round.

use std::borrow::Cow;

use covey_core::id::Sn;
use covey_wire::downlink::{DownlinkMessage, Qos};
use covey_wire::uplink::{Carrier, Properties, Received};
use covey_wire::{Uplink, parse_uplink_topic};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

/// Delivered to devices, and published by them, at QoS 1.
const PERSISTENT: u8 = 2;
/// The same at QoS 0.
const TRANSIENT: u8 = 1;

/// The routing key for a device: the topic with `.` for `/` (device-rpc
/// "Topics"). A serial number has no dot, and is short enough.
pub(super) fn routing_key(sn: &str, message: &DownlinkMessage) -> ShortString {
    ShortString::from(message.downlink.topic(sn).replace('/', "."))
}

/// The properties for a device. There is never a header `x-correlation-id`: as
/// bytes it crashes the device's MQTT process in the broker at each delivery.
pub(super) fn properties(message: &DownlinkMessage) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in message.user_properties() {
        headers.insert(ShortString::from(name), AMQPValue::LongString(LongString::from(value)));
    }
    let delivery_mode = match message.qos {
        Qos::AtLeastOnce => PERSISTENT,
        Qos::AtMostOnce => TRANSIENT,
    };
    let expiration_ms = u64::from(message.expiry_s).saturating_mul(1_000).min(EXPIRATION_MS_MAX);
    BasicProperties::default()
        .with_correlation_id(ShortString::from(message.correlation.as_str()))
        .with_delivery_mode(delivery_mode)
        .with_expiration(ShortString::from(expiration_ms.to_string()))
        .with_headers(headers)
}

/// The longest expiration that the broker takes, in milliseconds: it demands
/// one below 2^32.
const EXPIRATION_MS_MAX: u64 = u32::MAX as u64;

/// Who sent a message on which channel, by its routing key. The broker has
/// checked the key against the sender's certificate.
pub(super) fn origin(routing_key: &str) -> Option<(Sn, Option<Uplink>)> {
    let topic = routing_key.replace('.', "/");
    let (sn, uplink) = parse_uplink_topic(&topic)?;
    Some((Sn::parse(sn).ok()?, uplink))
}

/// A message of a device. The broker does not say which version of MQTT its
/// sender speaks; one of 3.1.1 has no properties.
pub(super) fn received<'a>(given: &'a GivenProperties<'a>, body: &'a [u8]) -> Received<'a> {
    Received { carrier: given.carrier(), body }
}

/// Whether the broker has acknowledged a message to its device, which it does
/// with QoS 1; one of QoS 0 comes as transient.
pub(super) fn is_acknowledged(properties: &BasicProperties) -> bool {
    *properties.delivery_mode() != Some(TRANSIENT)
}

/// The properties of a message that came over AMQP.
#[derive(Debug, Default)]
pub(super) struct GivenProperties<'a> {
    correlation_id: Option<&'a [u8]>,
    correlation_header: Option<&'a [u8]>,
    /// The headers that are text or can be written as text.
    texts: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> GivenProperties<'a> {
    /// Reads them.
    pub(super) fn read(properties: &'a BasicProperties) -> Self {
        let headers = properties.headers().as_ref().map(FieldTable::inner);
        let correlation_header = headers.and_then(|headers| headers.get("x-correlation-id"));
        let texts = headers.into_iter().flatten();
        Self {
            correlation_id: properties.correlation_id().as_ref().map(|id| id.as_str().as_bytes()),
            correlation_header: correlation_header.and_then(bytes),
            texts: texts.filter_map(|(name, value)| Some((name.as_str(), text(value)?))).collect(),
        }
    }

    fn carrier(&self) -> Carrier<'_> {
        let mut properties = Properties {
            correlation_data: self.correlation_id,
            correlation_header: self.correlation_header,
            ..Properties::default()
        };
        for (name, value) in &self.texts {
            properties.put_user_property(name, value);
        }
        if properties == Properties::default() { Carrier::Unknown } else { Carrier::Properties(properties) }
    }
}

fn bytes(value: &AMQPValue) -> Option<&[u8]> {
    match value {
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        AMQPValue::ShortString(text) => Some(text.as_str().as_bytes()),
        AMQPValue::ByteArray(bytes) => Some(bytes.as_slice()),
        _ => None,
    }
}

/// A header as text. What comes from MQTT is text; gateways that publish over
/// AMQP also write numbers.
pub(super) fn text(value: &AMQPValue) -> Option<Cow<'_, str>> {
    Some(match value {
        AMQPValue::LongString(text) => Cow::Borrowed(std::str::from_utf8(text.as_bytes()).ok()?),
        AMQPValue::ShortString(text) => Cow::Borrowed(text.as_str()),
        value => Cow::Owned(number(value)?.to_string()),
    })
}

/// A header as an integer.
pub(super) fn number(value: &AMQPValue) -> Option<i64> {
    Some(match value {
        AMQPValue::ShortShortInt(number) => (*number).into(),
        AMQPValue::ShortShortUInt(number) => (*number).into(),
        AMQPValue::ShortInt(number) => (*number).into(),
        AMQPValue::ShortUInt(number) => (*number).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongUInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => *number,
        AMQPValue::Timestamp(number) => i64::try_from(*number).ok()?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::id::UnixMs;
    use covey_wire::Correlation;
    use covey_wire::uplink::{ResultBody, TaskMessage, read_event};
    use uuid::Uuid;

    use super::*;
    use crate::conversion::new_event;

    const ID: &str = "01901f2e-3d4c-7b5a-8877-665544332211";

    fn headers(entries: &[(&str, AMQPValue)]) -> BasicProperties {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert((*name).into(), value.clone());
        }
        BasicProperties::default().with_headers(table)
    }

    fn string(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    #[test]
    fn a_message_to_a_device_has_the_properties_of_the_contract() {
        let id = Uuid::parse_str(ID).unwrap();
        let message = DownlinkMessage::committed(id, 7, -3);
        assert_eq!(routing_key("a-1", &message).as_str(), "srv.a-1.cmt");
        let properties = properties(&message);
        assert_eq!(properties.correlation_id().as_ref().unwrap().as_str(), ID);
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(properties.expiration().as_ref().unwrap().as_str(), "10800000");
        let headers = properties.headers().as_ref().unwrap();
        for (name, value) in [("correlationData", ID), ("result_id", "7"), ("ext_id", "-3")] {
            assert_eq!(headers.inner().get(name), Some(&string(value)), "{name}");
        }
        assert!(!headers.contains_key("x-correlation-id"));
        let nothing = DownlinkMessage::nothing_to_do();
        assert_eq!(*super::properties(&nothing).delivery_mode(), Some(1));
    }

    #[test]
    fn the_sender_is_in_the_routing_key() {
        let (sn, channel) = origin("dev.a-1.res").unwrap();
        assert_eq!((sn.as_str(), channel), ("a-1", Some(Uplink::Res)));
        assert_eq!(origin("dev.a.x.y").unwrap().1, None);
        for other in ["srv.a.tsk", "dev.a", "dev..req", "", "dev.+.req"] {
            assert!(origin(other).is_none(), "{other}");
        }
    }

    #[test]
    fn the_correlation_is_found_wherever_the_broker_puts_it() {
        let task = Correlation::Task(Uuid::parse_str(ID).unwrap());
        let raw = Uuid::parse_str(ID).unwrap().into_bytes();
        for properties in [
            BasicProperties::default().with_correlation_id(ID.into()),
            headers(&[("x-correlation-id", AMQPValue::ByteArray(raw.as_slice().into()))]),
            headers(&[("x-correlation-id", string(ID))]),
            headers(&[("correlationData", string(ID))]),
            headers(&[("CorrelationData", string(ID))]),
        ] {
            let given = GivenProperties::read(&properties);
            assert_eq!(
                TaskMessage::read(received(&given, b"")).unwrap().correlation(),
                Ok(task),
                "{properties:?}"
            );
        }
        let none = BasicProperties::default();
        let given = GivenProperties::read(&none);
        assert_eq!(TaskMessage::read(received(&given, b"")).unwrap().correlation(), Ok(Correlation::Poll));
    }

    #[test]
    fn codes_are_text_or_numbers() {
        let properties = headers(&[
            ("correlationData", string(ID)),
            ("status_code", string("200")),
            ("ext_id", AMQPValue::LongInt(5)),
        ]);
        let given = GivenProperties::read(&properties);
        let result = TaskMessage::read(received(&given, b"{\"a\":1}")).unwrap().result().unwrap();
        assert_eq!((result.status_code, result.ext_id), (200, 5));
    }

    #[test]
    fn a_client_without_properties_sends_an_envelope() {
        let properties = BasicProperties::default();
        let given = GivenProperties::read(&properties);
        let body = format!(r#"{{"correlationData":"{ID}","status_code":200,"payload":{{"cl":5}}}}"#);
        let result = TaskMessage::read(received(&given, body.as_bytes())).unwrap().result().unwrap();
        assert_eq!(result.body, ResultBody::Json("{\"cl\":5}".into()));
        // One of MQTT 5 that has lost its properties names the task in its body, too.
        let body = format!(r#"{{"corr_data":"{ID}","result":{{"cl":5}}}}"#);
        let result = TaskMessage::read(received(&given, body.as_bytes())).unwrap().result().unwrap();
        assert_eq!((result.status_code, result.body), (200, ResultBody::Json("{\"cl\":5}".into())));
        // Without a correlation it is whatever an MQTT 5 client sent.
        let inbound = TaskMessage::read(received(&given, b"{\"status_code\":200}")).unwrap();
        assert_eq!(inbound.correlation(), Ok(Correlation::Poll));
        assert_eq!(inbound.result().unwrap().body, ResultBody::Json("{\"status_code\":200}".into()));
    }

    #[test]
    fn an_event_has_headers_or_is_taken_as_one_of_a_client_without_properties() {
        let body = br#"{"200":14,"payload":{"200":15}}"#;
        let event = |properties: &BasicProperties| {
            new_event(read_event(received(&GivenProperties::read(properties), body)).unwrap())
        };
        let event_of_version_5 = event(&headers(&[
            ("event_type_code", string("13")),
            ("dev_event_id", AMQPValue::LongUInt(u32::MAX)),
            ("dev_timestamp", AMQPValue::Timestamp(1_769_860_800)),
            ("correlation_id", string(ID)),
        ]));
        assert_eq!((event_of_version_5.type_code, event_of_version_5.dev_event_id), (13, u32::MAX));
        assert_eq!(event_of_version_5.dev_timestamp, Some(UnixMs(1_769_860_800_000)));
        assert_eq!(event_of_version_5.correlation, Some(Uuid::parse_str(ID).unwrap()));
        assert_eq!(event_of_version_5.payload.as_bytes(), body);
        let one = headers(&[("dev_timestamp", string("1769860800"))]);
        assert_eq!(event(&one).type_code, 14, "it has properties, so it is no envelope");
        assert_eq!(event(&BasicProperties::default()).type_code, 15);
        assert!(is_acknowledged(&BasicProperties::default().with_delivery_mode(2)));
        assert!(!is_acknowledged(&BasicProperties::default().with_delivery_mode(1)));
    }
}
