//! Valid packets of every kind, made from a row of choices: bytes of proptest, which shrink, or an endless
//! row of pseudo-random ones.

use std::num::NonZeroU16;

use covey_wire::mqtt::{
    Ack, Auth, ConnAck, Connect, Delivery, Disconnect, Packet, Place, Properties, Property, PropertyList,
    ProtocolVersion, Publish, Qos, ReasonCode, ReasonCodes, RetainHandling, Sender, SubAck, Subscribe,
    SubscribeList, SubscriptionOptions, UnsubAck, Unsubscribe, UnsubscribeList, Will,
};

/// A row of choices; the bytes first, then what xorshift64 makes of the seed.
pub struct Choices {
    bytes: std::vec::IntoIter<u8>,
    state: u64,
}

impl Choices {
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into_iter(), state: 0 }
    }

    pub fn of_seed(seed: u64) -> Self {
        Self { bytes: Vec::new().into_iter(), state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    pub fn byte(&mut self) -> u8 {
        if let Some(byte) = self.bytes.next() {
            return byte;
        }
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 32) as u8
    }

    pub fn number(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.number() as usize % end
    }

    pub fn chance(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn length(&mut self) -> usize {
        match self.byte() {
            // Long enough for lengths of two and of three bytes.
            0..=2 => 16_384 + self.below(300),
            3..=20 => 100 + self.below(200),
            _ => self.below(12),
        }
    }

    fn text(&mut self) -> String {
        let characters =
            ['a', 'Z', '0', '/', '$', ' ', '+', 'ü', '漢', '\u{FEFF}', '\u{1F600}', '\u{FFFF}', '\u{1}'];
        (0..self.length()).map(|_| self.of(&characters)).collect()
    }

    fn topic(&mut self) -> String {
        let topic: String = self.text().replace('+', "-");
        if topic.is_empty() { "a".to_owned() } else { topic }
    }

    fn filter(&mut self) -> String {
        let mut filter = match self.byte() % 4 {
            0 => "$share/g/".to_owned(),
            1 => "/".to_owned(),
            _ => String::new(),
        };
        for _ in 0..self.below(4) {
            filter.push_str(self.of(&["a", "+", "", "ü$", "srv"]));
            filter.push('/');
        }
        filter.push_str(self.of(&["#", "+", "b", "c d"]));
        filter
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.length()).map(|_| self.byte()).collect()
    }

    fn packet_id(&mut self) -> NonZeroU16 {
        NonZeroU16::new(self.number() as u16).unwrap_or(NonZeroU16::MIN)
    }

    fn qos(&mut self) -> Qos {
        self.of(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
    }

    fn reason(&mut self, place: Place) -> ReasonCode {
        let allowed: Vec<_> =
            ReasonCode::ALL.into_iter().filter(|reason| reason.is_allowed_in(place)).collect();
        self.of(&allowed)
    }

    /// Some of the properties that may stand there.
    fn properties(&mut self, place: Place, version: ProtocolVersion) -> PropertyList {
        let mut list = PropertyList::new(place);
        if version == ProtocolVersion::V311 {
            return list;
        }
        if matches!(place, Place::AuthFromClient | Place::AuthFromServer) {
            list.push(Property::AuthenticationMethod("m")).unwrap();
        }
        for _ in 0..self.below(8) {
            let (text, other, bytes, number) = (self.topic(), self.text(), self.bytes(), self.number());
            let (flag, short) = (self.chance(), number as u16);
            let property = match self.below(27) {
                0 => Property::PayloadFormatIndicator(flag),
                1 => Property::MessageExpiryInterval(number),
                2 => Property::ContentType(&other),
                3 => Property::ResponseTopic(&text),
                4 => Property::CorrelationData(&bytes),
                5 => Property::SubscriptionIdentifier(number >> (4 + number % 20)),
                6 => Property::SessionExpiryInterval(number),
                7 => Property::AssignedClientIdentifier(&text),
                8 => Property::ServerKeepAlive(short),
                9 => Property::AuthenticationMethod(&text),
                10 => {
                    let _ = list.push(Property::AuthenticationMethod(&text));
                    Property::AuthenticationData(&bytes)
                }
                11 => Property::RequestProblemInformation(flag),
                12 => Property::WillDelayInterval(number),
                13 => Property::RequestResponseInformation(flag),
                14 => Property::ResponseInformation(&text),
                15 => Property::ServerReference(&text),
                16 => Property::ReasonString(&other),
                17 => Property::ReceiveMaximum(short),
                18 => Property::TopicAliasMaximum(short),
                19 => Property::TopicAlias(short),
                20 => Property::MaximumQos(flag),
                21 => Property::RetainAvailable(flag),
                22 => Property::UserProperty(&text, &other),
                23 => Property::MaximumPacketSize(number),
                24 => Property::WildcardSubscriptionAvailable(flag),
                25 => Property::SubscriptionIdentifierAvailable(flag),
                _ => Property::SharedSubscriptionAvailable(flag),
            };
            // One that may not stand there, or not twice, is not taken.
            let _ = list.push(property);
        }
        list
    }
}

fn of_v5(list: &PropertyList, version: ProtocolVersion) -> Properties<'_> {
    if version == ProtocolVersion::V5 { list.properties() } else { Properties::NONE }
}

/// Makes a packet that this sender may send, and hands it over.
pub fn with_packet<R>(
    choices: &mut Choices,
    version: ProtocolVersion,
    sender: Sender,
    use_it: impl FnOnce(Packet<'_>) -> R,
) -> R {
    let is_v5 = version == ProtocolVersion::V5;
    match (choices.below(11), sender) {
        (0, Sender::Client) => connect(choices, version, use_it),
        (0, Sender::Server) => {
            let list = choices.properties(Place::ConnAck, version);
            let reason = if is_v5 {
                choices.reason(Place::ConnAck)
            } else {
                choices.of(&[
                    ReasonCode::Success,
                    ReasonCode::UnsupportedProtocolVersion,
                    ReasonCode::ClientIdentifierNotValid,
                    ReasonCode::ServerUnavailable,
                    ReasonCode::BadUserNameOrPassword,
                    ReasonCode::NotAuthorized,
                ])
            };
            let session_present = reason == ReasonCode::Success && choices.chance();
            use_it(Packet::ConnAck(ConnAck { session_present, reason, properties: of_v5(&list, version) }))
        }
        (1, Sender::Client) => subscribe(choices, version, use_it),
        (1, Sender::Server) => suback(choices, version, use_it),
        (2, Sender::Client) => {
            let mut filters = UnsubscribeList::new(version);
            for _ in 0..=choices.below(3) {
                filters.push(&choices.filter()).unwrap();
            }
            let list = choices.properties(Place::Unsubscribe, version);
            let (packet_id, properties) = (choices.packet_id(), of_v5(&list, version));
            use_it(Packet::Unsubscribe(Unsubscribe { packet_id, filters: filters.filters(), properties }))
        }
        (2, Sender::Server) => {
            let count = if is_v5 { 1 + choices.below(3) } else { 0 };
            let codes: Vec<u8> = (0..count).map(|_| choices.reason(Place::UnsubAck).code()).collect();
            let list = choices.properties(Place::UnsubAck, version);
            let (packet_id, properties) = (choices.packet_id(), of_v5(&list, version));
            let reasons = ReasonCodes::new(&codes, Place::UnsubAck).unwrap();
            use_it(Packet::UnsubAck(UnsubAck { packet_id, reasons, properties }))
        }
        (3, Sender::Client) => use_it(Packet::PingReq),
        (3, Sender::Server) => use_it(Packet::PingResp),
        (4, _) if is_v5 || sender == Sender::Client => {
            let place = match sender {
                Sender::Client => Place::DisconnectFromClient,
                Sender::Server => Place::DisconnectFromServer,
            };
            let list = choices.properties(place, version);
            let reason = if is_v5 { choices.reason(place) } else { ReasonCode::Success };
            use_it(Packet::Disconnect(Disconnect { reason, properties: of_v5(&list, version) }))
        }
        (5, _) if is_v5 => {
            let place = match sender {
                Sender::Client => Place::AuthFromClient,
                Sender::Server => Place::AuthFromServer,
            };
            let list = choices.properties(place, version);
            use_it(Packet::Auth(Auth { reason: choices.reason(place), properties: list.properties() }))
        }
        (6, _) => use_it(Packet::PubAck(ack(choices, Place::PubAck, version, &mut None))),
        (7, _) => use_it(Packet::PubRec(ack(choices, Place::PubRec, version, &mut None))),
        (8, _) => use_it(Packet::PubRel(ack(choices, Place::PubRel, version, &mut None))),
        (9, _) => use_it(Packet::PubComp(ack(choices, Place::PubComp, version, &mut None))),
        _ => publish(choices, version, sender, use_it),
    }
}

fn ack<'a>(
    choices: &mut Choices,
    place: Place,
    version: ProtocolVersion,
    list: &'a mut Option<PropertyList>,
) -> Ack<'a> {
    let list = list.insert(choices.properties(place, version));
    let reason = if version == ProtocolVersion::V5 { choices.reason(place) } else { ReasonCode::Success };
    Ack { packet_id: choices.packet_id(), reason, properties: of_v5(list, version) }
}

fn connect<R>(choices: &mut Choices, version: ProtocolVersion, use_it: impl FnOnce(Packet<'_>) -> R) -> R {
    let list = choices.properties(Place::Connect, version);
    let of_will = choices.properties(Place::Will, version);
    let (topic, payload, client_id) = (choices.topic(), choices.bytes(), choices.text());
    let (user_name, password) = (choices.text(), choices.bytes());
    let will = choices.chance().then(|| Will {
        topic: &topic,
        payload: &payload,
        qos: choices.qos(),
        retain: choices.chance(),
        properties: of_v5(&of_will, version),
    });
    let has_user_name = choices.chance();
    let has_password = (has_user_name || version == ProtocolVersion::V5) && choices.chance();
    use_it(Packet::Connect(Connect {
        version,
        clean_start: client_id.is_empty() || choices.chance(),
        keep_alive_s: choices.number() as u16,
        client_id: &client_id,
        will,
        user_name: has_user_name.then_some(&*user_name),
        password: has_password.then_some(&*password),
        properties: of_v5(&list, version),
    }))
}

fn publish<R>(
    choices: &mut Choices,
    version: ProtocolVersion,
    sender: Sender,
    use_it: impl FnOnce(Packet<'_>) -> R,
) -> R {
    let place = match sender {
        Sender::Client => Place::PublishFromClient,
        Sender::Server => Place::PublishFromServer,
    };
    let list = choices.properties(place, version);
    let (topic, payload) = (choices.topic(), choices.bytes());
    let (packet_id, is_repeated) = (choices.packet_id(), choices.chance());
    let delivery = match choices.qos() {
        Qos::AtMostOnce => Delivery::AtMostOnce,
        Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id, is_repeated },
        Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id, is_repeated },
    };
    let properties = of_v5(&list, version);
    let has_topic = properties.topic_alias().is_none() || choices.chance();
    let topic = if has_topic { &*topic } else { "" };
    let retain = choices.chance();
    use_it(Packet::Publish(Publish { delivery, retain, topic, properties, payload: &payload }))
}

fn subscribe<R>(choices: &mut Choices, version: ProtocolVersion, use_it: impl FnOnce(Packet<'_>) -> R) -> R {
    let mut filters = SubscribeList::new(version);
    for _ in 0..=choices.below(3) {
        let (filter, qos) = (choices.filter(), choices.qos());
        let options = if version == ProtocolVersion::V311 {
            SubscriptionOptions::qos(qos)
        } else {
            SubscriptionOptions {
                qos,
                no_local: choices.chance() && !filter.starts_with("$share"),
                retain_as_published: choices.chance(),
                retain_handling: choices.of(&[
                    RetainHandling::Send,
                    RetainHandling::SendIfNew,
                    RetainHandling::DoNotSend,
                ]),
            }
        };
        filters.push(&filter, options).unwrap();
    }
    let list = choices.properties(Place::Subscribe, version);
    let (packet_id, properties) = (choices.packet_id(), of_v5(&list, version));
    use_it(Packet::Subscribe(Subscribe { packet_id, filters: filters.filters(), properties }))
}

fn suback<R>(choices: &mut Choices, version: ProtocolVersion, use_it: impl FnOnce(Packet<'_>) -> R) -> R {
    let code = |choices: &mut Choices| match version {
        ProtocolVersion::V5 => choices.reason(Place::SubAck).code(),
        ProtocolVersion::V311 => choices.of(&[0, 1, 2, 0x80]),
    };
    let codes: Vec<u8> = (0..=choices.below(3)).map(|_| code(choices)).collect();
    let list = choices.properties(Place::SubAck, version);
    let (packet_id, properties) = (choices.packet_id(), of_v5(&list, version));
    let reasons = ReasonCodes::new(&codes, Place::SubAck).unwrap();
    use_it(Packet::SubAck(SubAck { packet_id, reasons, properties }))
}

/// One packet, written.
pub fn written(choices: &mut Choices, version: ProtocolVersion, sender: Sender) -> Vec<u8> {
    let mut bytes = Vec::new();
    with_packet(choices, version, sender, |packet| packet.encode(version, &mut bytes)).unwrap();
    bytes
}
