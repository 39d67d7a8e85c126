//! Messages of every kind, made by proptest.

use covey_gateway::mqtt_sn::packet::{
    Ack, Connect, Filter, Name, Packet, Publish, Qos, ReturnCode, SubAck, Subscribe, Topic, WillTopic,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// From what a message is made.
#[derive(Clone, Debug)]
pub struct Parts {
    pub kind: usize,
    pub flags: [bool; 3],
    pub qos: u8,
    pub topic: u8,
    pub numbers: [u16; 2],
    pub bytes: [u8; 2],
    pub name: Vec<u8>,
    pub body: Vec<u8>,
}

/// How many kinds there are.
pub const KINDS: usize = 28;

pub fn parts() -> impl Strategy<Value = Parts> {
    let name = prop_oneof![
        4 => vec(any::<u8>(), 1..12),
        4 => "[a-c+#/]{1,12}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 240..300),
    ];
    let body = prop_oneof![8 => vec(any::<u8>(), 0..20), 2 => vec(any::<u8>(), 230..270)];
    (0..KINDS, any::<[bool; 3]>(), 0..4_u8, 0..3_u8, any::<[u16; 2]>(), any::<[u8; 2]>(), name, body)
        .prop_map(|(kind, flags, qos, topic, numbers, bytes, name, body)| Parts {
            kind,
            flags,
            qos,
            topic,
            numbers,
            bytes,
            name,
            body,
        })
}

impl Parts {
    pub fn packet(&self) -> Packet<'_> {
        let [first, second] = self.numbers;
        let [is_repeated, retain, other] = self.flags;
        let qos =
            [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::WithoutConnection][self.qos as usize];
        let code = ReturnCode(self.bytes[0]);
        let name = Name(&self.name);
        let ack = Ack { topic_id: first, msg_id: second, code };
        let will = other.then_some(WillTopic { qos, retain, name });
        let topic = match self.topic {
            0 => Topic::Normal(first),
            1 => Topic::Predefined(first),
            _ => Topic::Short(self.bytes),
        };
        let filter = match self.topic {
            0 => Filter::Name(name),
            1 => Filter::Predefined(first),
            _ => Filter::Short(self.bytes),
        };
        match self.kind {
            0 => Packet::Advertise { gateway_id: self.bytes[0], duration_s: first },
            1 => Packet::SearchGw { radius: self.bytes[0] },
            2 => Packet::GwInfo { gateway_id: self.bytes[0], address: &self.body },
            3 => Packet::Connect(Connect {
                has_will: other,
                is_clean: retain,
                protocol_id: self.bytes[0],
                keep_alive_s: first,
                client_id: name,
            }),
            4 => Packet::ConnAck(code),
            5 => Packet::WillTopicReq,
            6 => Packet::WillTopic(will),
            7 => Packet::WillMsgReq,
            8 => Packet::WillMsg(&self.body),
            9 => Packet::Register { topic_id: first, msg_id: second, name },
            10 => Packet::RegAck(ack),
            11 => Packet::Publish(Publish {
                is_repeated,
                qos,
                retain,
                topic,
                msg_id: second,
                payload: &self.body,
            }),
            12 => Packet::PubAck(ack),
            13 => Packet::PubRec(first),
            14 => Packet::PubRel(first),
            15 => Packet::PubComp(first),
            16 => Packet::Subscribe(Subscribe { is_repeated, qos, msg_id: second, filter }),
            17 => Packet::SubAck(SubAck { qos, topic_id: first, msg_id: second, code }),
            18 => Packet::Unsubscribe { msg_id: second, filter },
            19 => Packet::UnsubAck(first),
            20 => Packet::PingReq(other.then_some(name)),
            21 => Packet::PingResp,
            22 => Packet::Disconnect(other.then_some(first)),
            23 => Packet::WillTopicUpd(will),
            24 => Packet::WillTopicResp(code),
            25 => Packet::WillMsgUpd(&self.body),
            26 => Packet::WillMsgResp(code),
            _ => Packet::Encapsulated { radius: self.bytes[0] & 3, node: &self.name, message: &self.body },
        }
    }
}
