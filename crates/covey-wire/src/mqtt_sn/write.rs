//! Writes messages: in one byte of length up to 255 bytes, in three beyond (§5.2.1).

use super::{Ack, Filter, Packet, Violation, WillTopic, flag, kind};

/// The largest message, in bytes: what three bytes of length can say.
/// Limit for each message: it cannot be written.
const MESSAGE_BYTES_MAX: usize = 65_535;

impl Packet<'_> {
    /// Appends the message.
    ///
    /// # Errors
    /// It would be longer than 65,535 bytes. Then `out` is as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Violation> {
        let start = out.len();
        // Room for the shorter length. The longer one is moved in where it is needed.
        out.push(0);
        out.push(self.kind());
        self.write_fields(out);
        let length = out.len() - start;
        if let Ok(short) = u8::try_from(length) {
            // A length of 1 cannot be: there is the type.
            out[start] = short;
        } else {
            let Some(long) = u16::try_from(length + 2).ok().filter(|_| length + 2 <= MESSAGE_BYTES_MAX)
            else {
                out.truncate(start);
                return Err(Violation::new("5.2.1", "the message is longer than 65,535 bytes"));
            };
            let [high, low] = long.to_be_bytes();
            out.splice(start..=start, [1, high, low]);
        }
        if let Packet::Encapsulated { message, .. } = self {
            out.extend_from_slice(message);
        }
        Ok(())
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Advertise { .. } => kind::ADVERTISE,
            Self::SearchGw { .. } => kind::SEARCHGW,
            Self::GwInfo { .. } => kind::GWINFO,
            Self::Connect(_) => kind::CONNECT,
            Self::ConnAck(_) => kind::CONNACK,
            Self::WillTopicReq => kind::WILLTOPICREQ,
            Self::WillTopic(_) => kind::WILLTOPIC,
            Self::WillMsgReq => kind::WILLMSGREQ,
            Self::WillMsg(_) => kind::WILLMSG,
            Self::Register { .. } => kind::REGISTER,
            Self::RegAck(_) => kind::REGACK,
            Self::Publish(_) => kind::PUBLISH,
            Self::PubAck(_) => kind::PUBACK,
            Self::PubRec(_) => kind::PUBREC,
            Self::PubRel(_) => kind::PUBREL,
            Self::PubComp(_) => kind::PUBCOMP,
            Self::Subscribe(_) => kind::SUBSCRIBE,
            Self::SubAck(_) => kind::SUBACK,
            Self::Unsubscribe { .. } => kind::UNSUBSCRIBE,
            Self::UnsubAck(_) => kind::UNSUBACK,
            Self::PingReq(_) => kind::PINGREQ,
            Self::PingResp => kind::PINGRESP,
            Self::Disconnect(_) => kind::DISCONNECT,
            Self::WillTopicUpd(_) => kind::WILLTOPICUPD,
            Self::WillTopicResp(_) => kind::WILLTOPICRESP,
            Self::WillMsgUpd(_) => kind::WILLMSGUPD,
            Self::WillMsgResp(_) => kind::WILLMSGRESP,
            Self::Encapsulated { .. } => kind::ENCAPSULATED,
        }
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        match self {
            Self::Advertise { gateway_id, duration_s } => {
                out.push(*gateway_id);
                put_two(*duration_s, out);
            }
            Self::SearchGw { radius } => out.push(*radius),
            Self::GwInfo { gateway_id, address } => {
                out.push(*gateway_id);
                out.extend_from_slice(address);
            }
            Self::Connect(connect) => {
                let will = if connect.has_will { flag::WILL } else { 0 };
                out.push(will | if connect.is_clean { flag::CLEAN_SESSION } else { 0 });
                out.push(connect.protocol_id);
                put_two(connect.keep_alive_s, out);
                out.extend_from_slice(connect.client_id.0);
            }
            Self::ConnAck(code) | Self::WillTopicResp(code) | Self::WillMsgResp(code) => out.push(code.0),
            Self::WillTopicReq | Self::WillMsgReq | Self::PingResp => {}
            Self::WillTopic(topic) | Self::WillTopicUpd(topic) => put_will_topic(topic.as_ref(), out),
            Self::WillMsg(message) | Self::WillMsgUpd(message) => out.extend_from_slice(message),
            Self::Register { topic_id, msg_id, name } => {
                put_two(*topic_id, out);
                put_two(*msg_id, out);
                out.extend_from_slice(name.0);
            }
            Self::RegAck(ack) | Self::PubAck(ack) => put_ack(*ack, out),
            Self::Publish(publish) => {
                let dup = if publish.is_repeated { flag::DUP } else { 0 };
                let retain = if publish.retain { flag::RETAIN } else { 0 };
                out.push(dup | publish.qos.bits() | retain | publish.topic.bits());
                put_two(publish.topic.id(), out);
                put_two(publish.msg_id, out);
                out.extend_from_slice(publish.payload);
            }
            Self::PubRec(msg_id) | Self::PubRel(msg_id) | Self::PubComp(msg_id) | Self::UnsubAck(msg_id) => {
                put_two(*msg_id, out);
            }
            Self::Subscribe(subscribe) => {
                let dup = if subscribe.is_repeated { flag::DUP } else { 0 };
                out.push(dup | subscribe.qos.bits() | subscribe.filter.bits());
                put_two(subscribe.msg_id, out);
                put_filter(&subscribe.filter, out);
            }
            Self::SubAck(ack) => {
                out.push(ack.qos.bits());
                put_two(ack.topic_id, out);
                put_two(ack.msg_id, out);
                out.push(ack.code.0);
            }
            Self::Unsubscribe { msg_id, filter } => {
                out.push(filter.bits());
                put_two(*msg_id, out);
                put_filter(filter, out);
            }
            Self::PingReq(id) => out.extend_from_slice(id.map_or(&[][..], |id| id.0)),
            Self::Disconnect(duration_s) => {
                if let Some(duration_s) = duration_s {
                    put_two(*duration_s, out);
                }
            }
            Self::Encapsulated { radius, node, .. } => {
                out.push(radius & 0x03);
                out.extend_from_slice(node);
            }
        }
    }
}

fn put_two(value: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_ack(ack: Ack, out: &mut Vec<u8>) {
    put_two(ack.topic_id, out);
    put_two(ack.msg_id, out);
    out.push(ack.code.0);
}

fn put_filter(filter: &Filter<'_>, out: &mut Vec<u8>) {
    match filter {
        Filter::Name(name) => out.extend_from_slice(name.0),
        Filter::Predefined(id) => put_two(*id, out),
        Filter::Short(name) => out.extend_from_slice(name),
    }
}

/// A will without a topic is one that is deleted: then there are no flags, either (§5.4.7).
fn put_will_topic(topic: Option<&WillTopic<'_>>, out: &mut Vec<u8>) {
    if let Some(topic) = topic {
        out.push(topic.qos.bits() | if topic.retain { flag::RETAIN } else { 0 });
        out.extend_from_slice(topic.name.0);
    }
}
