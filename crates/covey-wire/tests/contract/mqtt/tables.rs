//! Which property and which reason code may stand in which packet: tables 2-4 and 2-6 of MQTT 5, each cell of
//! them.

use covey_wire::mqtt::Place::{
    self, AuthFromClient, AuthFromServer, ConnAck, Connect, DisconnectFromClient, DisconnectFromServer,
    PubAck, PubComp, PubRec, PubRel, PublishFromClient, PublishFromServer, SubAck, Subscribe, UnsubAck, Will,
};
use covey_wire::mqtt::{Property, PropertyList, ReasonCode};

const MESSAGE: &[Place] = &[PublishFromClient, PublishFromServer, Will];
const AUTHENTICATION: &[Place] = &[Connect, ConnAck, AuthFromClient, AuthFromServer];
const EXPLAINED: &[Place] = &[
    ConnAck,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    SubAck,
    UnsubAck,
    DisconnectFromClient,
    DisconnectFromServer,
    AuthFromClient,
    AuthFromServer,
];

/// Table 2-4, with the sides that §3 adds: a Subscription Identifier comes from a server, Session Expiry
/// Interval in DISCONNECT from a client, Server Reference from a server.
const PROPERTIES: [(u8, Property<'_>, &[Place]); 27] = [
    (0x01, Property::PayloadFormatIndicator(true), MESSAGE),
    (0x02, Property::MessageExpiryInterval(1), MESSAGE),
    (0x03, Property::ContentType("x"), MESSAGE),
    (0x08, Property::ResponseTopic("x"), MESSAGE),
    (0x09, Property::CorrelationData(b"x"), MESSAGE),
    (0x0B, Property::SubscriptionIdentifier(1), &[PublishFromServer, Subscribe]),
    (0x11, Property::SessionExpiryInterval(1), &[Connect, ConnAck, DisconnectFromClient]),
    (0x12, Property::AssignedClientIdentifier("x"), &[ConnAck]),
    (0x13, Property::ServerKeepAlive(1), &[ConnAck]),
    (0x15, Property::AuthenticationMethod("x"), AUTHENTICATION),
    (0x16, Property::AuthenticationData(b"x"), AUTHENTICATION),
    (0x17, Property::RequestProblemInformation(true), &[Connect]),
    (0x18, Property::WillDelayInterval(1), &[Will]),
    (0x19, Property::RequestResponseInformation(true), &[Connect]),
    (0x1A, Property::ResponseInformation("x"), &[ConnAck]),
    (0x1C, Property::ServerReference("x"), &[ConnAck, DisconnectFromServer]),
    (0x1F, Property::ReasonString("x"), EXPLAINED),
    (0x21, Property::ReceiveMaximum(1), &[Connect, ConnAck]),
    (0x22, Property::TopicAliasMaximum(1), &[Connect, ConnAck]),
    (0x23, Property::TopicAlias(1), &[PublishFromClient, PublishFromServer]),
    (0x24, Property::MaximumQos(true), &[ConnAck]),
    (0x25, Property::RetainAvailable(true), &[ConnAck]),
    (0x26, Property::UserProperty("x", "y"), &Place::ALL),
    (0x27, Property::MaximumPacketSize(1), &[Connect, ConnAck]),
    (0x28, Property::WildcardSubscriptionAvailable(true), &[ConnAck]),
    (0x29, Property::SubscriptionIdentifierAvailable(true), &[ConnAck]),
    (0x2A, Property::SharedSubscriptionAvailable(true), &[ConnAck]),
];

#[test]
fn each_property_stands_where_the_table_says() {
    for (id, property, places) in PROPERTIES {
        assert_eq!(property.id(), id, "{property:?}");
        for place in Place::ALL {
            let mut list = PropertyList::new(place);
            let is_allowed = places.contains(&place);
            assert_eq!(list.push(property).is_ok(), is_allowed, "{property:?} {place:?}");
            let bytes = if is_allowed { property.size() } else { 0 };
            assert_eq!(list.properties().as_bytes().len(), bytes);
            // Once, but for user properties, and for the identifiers of the subscriptions that match.
            let may_repeat = id == 0x26 || (id == 0x0B && place == PublishFromServer);
            if is_allowed {
                assert_eq!(list.push(property).is_ok(), may_repeat, "{property:?} {place:?}");
            }
        }
    }
}

/// C: CONNACK, A: PUBACK and PUBREC, L: PUBREL and PUBCOMP, S: SUBACK, U: UNSUBACK, d and D: DISCONNECT from
/// a client and a server, x and X: AUTH from a client and a server. Sides are those of §3.14.2.1 and
/// §3.15.2.1.
const REASONS: [(u8, &str); 43] = [
    (0x00, "CALSUdDX"),
    (0x01, "S"),
    (0x02, "S"),
    (0x04, "d"),
    (0x10, "A"),
    (0x11, "U"),
    (0x18, "xX"),
    (0x19, "x"),
    (0x80, "CASUdD"),
    (0x81, "CdD"),
    (0x82, "CdD"),
    (0x83, "CASUdD"),
    (0x84, "C"),
    (0x85, "C"),
    (0x86, "C"),
    (0x87, "CASUD"),
    (0x88, "C"),
    (0x89, "CD"),
    (0x8A, "C"),
    (0x8B, "D"),
    (0x8C, "C"),
    (0x8D, "D"),
    (0x8E, "D"),
    (0x8F, "SUD"),
    (0x90, "CAdD"),
    (0x91, "ASU"),
    (0x92, "L"),
    (0x93, "dD"),
    (0x94, "dD"),
    (0x95, "CdD"),
    (0x96, "dD"),
    (0x97, "CASdD"),
    (0x98, "dD"),
    (0x99, "CAdD"),
    (0x9A, "CD"),
    (0x9B, "CD"),
    (0x9C, "CD"),
    (0x9D, "CD"),
    (0x9E, "SD"),
    (0x9F, "CD"),
    (0xA0, "D"),
    (0xA1, "SD"),
    (0xA2, "SD"),
];

const fn letter(place: Place) -> char {
    match place {
        ConnAck => 'C',
        PubAck | PubRec => 'A',
        PubRel | PubComp => 'L',
        SubAck => 'S',
        UnsubAck => 'U',
        DisconnectFromClient => 'd',
        DisconnectFromServer => 'D',
        AuthFromClient => 'x',
        AuthFromServer => 'X',
        // Has no reason code.
        _ => '-',
    }
}

/// [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2], [MQTT-3.11.3-2],
/// [MQTT-3.14.2-1], [MQTT-3.15.2-1].
#[test]
fn each_reason_code_stands_where_the_table_says() {
    for code in 0..=u8::MAX {
        let row = REASONS.iter().find(|row| row.0 == code);
        let reason = ReasonCode::from_code(code);
        assert_eq!(reason.is_some(), row.is_some(), "{code:02X}");
        let (Some(reason), Some((_, letters))) = (reason, row) else { continue };
        assert_eq!((reason.code(), reason.is_failure()), (code, code >= 0x80));
        for place in Place::ALL {
            assert_eq!(reason.is_allowed_in(place), letters.contains(letter(place)), "{reason:?} {place:?}");
        }
    }
}
