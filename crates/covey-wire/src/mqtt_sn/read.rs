//! Reads messages. Each must have the length that it says, and no byte that its kind does not have.

use super::{
    Ack, Connect, Filter, Name, Packet, Publish, Qos, ReturnCode, SubAck, Subscribe, Topic, Violation,
    WillTopic, flag, kind,
};

/// What is left of a message. All its errors name the section of the message's kind.
struct Reader<'a> {
    rest: &'a [u8],
    section: &'static str,
}

impl<'a> Reader<'a> {
    const fn wrong(&self, text: &'static str) -> Violation {
        Violation::new(self.section, text)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return Err(self.wrong("the message ends within a field"));
        };
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Violation> {
        Ok(self.array::<1>()?[0])
    }

    fn two_bytes(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn name(&mut self) -> Result<Name<'a>, Violation> {
        match self.rest() {
            [] => Err(self.wrong("the name is missing")),
            name => Ok(Name(name)),
        }
    }

    fn ack(&mut self) -> Result<Ack, Violation> {
        Ok(Ack { topic_id: self.two_bytes()?, msg_id: self.two_bytes()?, code: ReturnCode(self.byte()?) })
    }

    fn topic(&mut self, flags: u8) -> Result<Topic, Violation> {
        let id = self.array()?;
        match flags & flag::TOPIC_ID_TYPE {
            0 => Ok(Topic::Normal(u16::from_be_bytes(id))),
            1 => Ok(Topic::Predefined(u16::from_be_bytes(id))),
            2 => Ok(Topic::Short(id)),
            _ => Err(Violation::new("5.3.4", "the topic id type is the reserved one")),
        }
    }

    fn filter(&mut self, flags: u8) -> Result<Filter<'a>, Violation> {
        match flags & flag::TOPIC_ID_TYPE {
            0 => self.name().map(Filter::Name),
            1 => self.two_bytes().map(Filter::Predefined),
            2 => self.array().map(Filter::Short),
            _ => Err(Violation::new("5.3.4", "the topic id type is the reserved one")),
        }
    }

    fn will_topic(&mut self) -> Result<Option<WillTopic<'a>>, Violation> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let flags = self.byte()?;
        Ok(Some(WillTopic { qos: Qos::of(flags), retain: flags & flag::RETAIN != 0, name: self.name()? }))
    }
}

/// Reads the message that a datagram is.
///
/// # Errors
/// What is wrong first: the length is not that of the datagram, the kind is reserved, or the fields are not those of
/// the kind.
pub fn decode(datagram: &[u8]) -> Result<Packet<'_>, Violation> {
    let wrong = |text| Err(Violation::new("5.2.1", text));
    // A length of 256 and more takes three bytes, of which the first is 1. A shorter message may have them, too:
    // RIOT's asymcute writes them from 251 on.
    let (length, body) = match datagram {
        [] => return wrong("the datagram is empty"),
        [1, high, low, body @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), body),
        [1, ..] => return wrong("the message ends within its length"),
        [length, body @ ..] => (usize::from(*length), body),
    };
    let header = datagram.len() - body.len();
    let Some((kind, rest)) = body.split_first() else {
        return wrong("the message has no type");
    };
    if length <= header {
        return wrong("the length is too short for any message");
    }
    if length > datagram.len() {
        return wrong("the message is shorter than its length says");
    }
    if length < datagram.len() && *kind != kind::ENCAPSULATED {
        return wrong("the datagram has bytes after the message");
    }
    let (rest, after) = rest.split_at(length - header - 1);
    let mut reader = Reader { rest, section: section(*kind)? };
    let packet = read(*kind, &mut reader, after)?;
    if reader.rest.is_empty() {
        return Ok(packet);
    }
    Err(reader.wrong("the message has bytes after its last field"))
}

/// Where a kind of messages is described.
const fn section(kind: u8) -> Result<&'static str, Violation> {
    Ok(match kind {
        kind::ADVERTISE => "5.4.1",
        kind::SEARCHGW => "5.4.2",
        kind::GWINFO => "5.4.3",
        kind::CONNECT => "5.4.4",
        kind::CONNACK => "5.4.5",
        kind::WILLTOPICREQ => "5.4.6",
        kind::WILLTOPIC => "5.4.7",
        kind::WILLMSGREQ => "5.4.8",
        kind::WILLMSG => "5.4.9",
        kind::REGISTER => "5.4.10",
        kind::REGACK => "5.4.11",
        kind::PUBLISH => "5.4.12",
        kind::PUBACK => "5.4.13",
        kind::PUBREC | kind::PUBREL | kind::PUBCOMP => "5.4.14",
        kind::SUBSCRIBE => "5.4.15",
        kind::SUBACK => "5.4.16",
        kind::UNSUBSCRIBE => "5.4.17",
        kind::UNSUBACK => "5.4.18",
        kind::PINGREQ => "5.4.19",
        kind::PINGRESP => "5.4.20",
        kind::DISCONNECT => "5.4.21",
        kind::WILLTOPICUPD => "5.4.22",
        kind::WILLMSGUPD => "5.4.23",
        kind::WILLTOPICRESP => "5.4.24",
        kind::WILLMSGRESP => "5.4.25",
        kind::ENCAPSULATED => "5.5",
        _ => return Err(Violation::new("5.2.2", "the message type is reserved")),
    })
}

fn read<'a>(kind: u8, reader: &mut Reader<'a>, after: &'a [u8]) -> Result<Packet<'a>, Violation> {
    Ok(match kind {
        kind::ADVERTISE => Packet::Advertise { gateway_id: reader.byte()?, duration_s: reader.two_bytes()? },
        kind::SEARCHGW => Packet::SearchGw { radius: reader.byte()? },
        kind::GWINFO => Packet::GwInfo { gateway_id: reader.byte()?, address: reader.rest() },
        kind::CONNECT => {
            let flags = reader.byte()?;
            Packet::Connect(Connect {
                has_will: flags & flag::WILL != 0,
                is_clean: flags & flag::CLEAN_SESSION != 0,
                protocol_id: reader.byte()?,
                keep_alive_s: reader.two_bytes()?,
                client_id: Name(reader.rest()),
            })
        }
        kind::CONNACK => Packet::ConnAck(ReturnCode(reader.byte()?)),
        kind::WILLTOPICREQ => Packet::WillTopicReq,
        kind::WILLTOPIC => Packet::WillTopic(reader.will_topic()?),
        kind::WILLMSGREQ => Packet::WillMsgReq,
        kind::WILLMSG => Packet::WillMsg(reader.rest()),
        kind::REGISTER => Packet::Register {
            topic_id: reader.two_bytes()?,
            msg_id: reader.two_bytes()?,
            name: Name(reader.rest()),
        },
        kind::REGACK => Packet::RegAck(reader.ack()?),
        kind::PUBLISH => {
            let flags = reader.byte()?;
            Packet::Publish(Publish {
                is_repeated: flags & flag::DUP != 0,
                qos: Qos::of(flags),
                retain: flags & flag::RETAIN != 0,
                topic: reader.topic(flags)?,
                msg_id: reader.two_bytes()?,
                payload: reader.rest(),
            })
        }
        kind::PUBACK => Packet::PubAck(reader.ack()?),
        kind::PUBREC => Packet::PubRec(reader.two_bytes()?),
        kind::PUBREL => Packet::PubRel(reader.two_bytes()?),
        kind::PUBCOMP => Packet::PubComp(reader.two_bytes()?),
        kind::SUBSCRIBE => {
            let flags = reader.byte()?;
            Packet::Subscribe(Subscribe {
                is_repeated: flags & flag::DUP != 0,
                qos: Qos::of(flags),
                msg_id: reader.two_bytes()?,
                filter: reader.filter(flags)?,
            })
        }
        kind::SUBACK => Packet::SubAck(SubAck {
            qos: Qos::of(reader.byte()?),
            topic_id: reader.two_bytes()?,
            msg_id: reader.two_bytes()?,
            code: ReturnCode(reader.byte()?),
        }),
        kind::UNSUBSCRIBE => {
            let flags = reader.byte()?;
            Packet::Unsubscribe { msg_id: reader.two_bytes()?, filter: reader.filter(flags)? }
        }
        kind::UNSUBACK => Packet::UnsubAck(reader.two_bytes()?),
        kind::PINGREQ => Packet::PingReq(match reader.rest() {
            [] => None,
            id => Some(Name(id)),
        }),
        kind::PINGRESP => Packet::PingResp,
        kind::DISCONNECT => {
            Packet::Disconnect(if reader.rest.is_empty() { None } else { Some(reader.two_bytes()?) })
        }
        kind::WILLTOPICUPD => Packet::WillTopicUpd(reader.will_topic()?),
        kind::WILLMSGUPD => Packet::WillMsgUpd(reader.rest()),
        kind::WILLTOPICRESP => Packet::WillTopicResp(ReturnCode(reader.byte()?)),
        kind::WILLMSGRESP => Packet::WillMsgResp(ReturnCode(reader.byte()?)),
        // `section` has refused all kinds but this.
        _ => {
            let radius = reader.byte()? & 0x03;
            Packet::Encapsulated { radius, node: reader.rest(), message: after }
        }
    })
}
