//! What is written is read as the same; and a codec that others wrote, `coap-lite`, reads the same of it and writes
//! what is read here as the same.

use coap_lite::Packet;
use covey_gateway::coap::message::{Code, Draft, Kind, Message, Token};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Said {
    kind: Kind,
    code: Code,
    id: u16,
    token: Vec<u8>,
    options: Vec<(u16, Vec<u8>)>,
    payload: Vec<u8>,
}

impl Said {
    fn of(message: &Message<'_>) -> Self {
        Self {
            kind: message.kind,
            code: message.code,
            id: message.id,
            token: message.token.as_bytes().to_vec(),
            options: message.options.iter().map(|(number, value)| (number, value.to_vec())).collect(),
            payload: message.payload.to_vec(),
        }
    }

    fn written(&self) -> Vec<u8> {
        let mut draft = Draft::new(self.kind, self.code, self.id, Token::new(&self.token).unwrap());
        for (number, value) in &self.options {
            draft.option(*number, &value[..]);
        }
        draft.payload = &self.payload;
        let mut bytes = Vec::new();
        draft.encode(&mut bytes).unwrap();
        bytes
    }

    fn assert_same(&self, other: &Self) {
        assert_eq!((self.kind, self.code, self.id), (other.kind, other.code, other.id));
        assert_eq!(self.token, other.token);
        assert_eq!(self.options, other.options);
        assert_eq!(self.payload, other.payload);
    }
}

fn number() -> impl Strategy<Value = u16> {
    prop_oneof![0..40_u16, 0..400_u16, any::<u16>()]
}

fn said() -> impl Strategy<Value = Said> {
    let kind = prop_oneof![Just(Kind::Confirmable), Just(Kind::NonConfirmable), Just(Kind::Acknowledgement)];
    let code = (2..6_u8, 0..32_u8)
        .prop_filter("a class that there is", |(class, _)| *class != 3)
        .prop_map(|(class, detail)| Code(class << 5 | detail));
    let options = vec((number(), vec(any::<u8>(), 0..300)), 0..6);
    (kind, code, any::<u16>(), vec(any::<u8>(), 0..=8), options, vec(any::<u8>(), 0..600)).prop_map(
        |(kind, code, id, token, mut options, payload)| {
            options.sort_by_key(|(number, _)| *number);
            Said { kind, code, id, token, options, payload }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(said in said()) {
        let bytes = said.written();
        Said::of(&Message::decode(&bytes).unwrap()).assert_same(&said);
    }

    #[test]
    fn another_codec_reads_the_same_and_writes_it_so(said in said()) {
        let bytes = said.written();
        let packet = Packet::from_bytes(&bytes).unwrap();
        prop_assert_eq!(packet.get_token(), &said.token[..]);
        prop_assert_eq!(packet.header.message_id, said.id);
        let options: Vec<(u16, Vec<u8>)> = packet
            .options()
            .flat_map(|(number, values)| values.iter().map(|value| (*number, value.clone())))
            .collect();
        prop_assert_eq!(options, said.options);
        prop_assert_eq!(&packet.payload, &said.payload);
        prop_assert_eq!(packet.to_bytes().unwrap(), bytes);
    }

    #[test]
    fn whatever_is_read_is_written_as_the_same(bytes in vec(any::<u8>(), 0..60)) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = 0x40 | *first & 0x3F;
        }
        if let Ok(message) = Message::decode(&bytes) {
            let said = Said::of(&message);
            if message.code != Code::EMPTY {
                Said::of(&Message::decode(&said.written()).unwrap()).assert_same(&said);
            }
            // Whoever is more lenient reads the same of what is well-formed.
            let packet = Packet::from_bytes(&bytes).unwrap();
            prop_assert_eq!(packet.payload, said.payload);
        }
    }
}
