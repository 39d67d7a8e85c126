//! What is written is read again, wherever the stream is cut, and takes the bytes that were foretold.

use bytes::BytesMut;
use covey_wire::mqtt::{Framing, Packet, ProtocolVersion, Sender, decode, frame};
use proptest::prelude::*;

use super::generate::{Choices, with_packet, written};

const BYTES_MAX: usize = 1 << 20;

fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![Just(ProtocolVersion::V5), Just(ProtocolVersion::V311)]
}

fn sender() -> impl Strategy<Value = Sender> {
    prop_oneof![Just(Sender::Client), Just(Sender::Server)]
}

fn choices() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..400)
}

fn read(bytes: &[u8], version: ProtocolVersion, sender: Sender) -> Packet<'_> {
    let Ok(Framing::Frame(found)) = frame(bytes, BYTES_MAX) else { panic!("no packet in {bytes:02X?}") };
    assert_eq!(found.size(), bytes.len());
    decode(found, version, sender).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_packet_is_read_as_it_was_written(choices in choices(), version in version(), sender in sender()) {
        with_packet(&mut Choices::of_bytes(choices), version, sender, |packet| {
            let (mut bytes, mut other) = (Vec::new(), BytesMut::new());
            let size = packet.encode(version, &mut bytes).unwrap();
            assert_eq!((size, size), (bytes.len(), packet.size(version)), "{packet:?}");
            packet.encode(version, &mut other).unwrap();
            assert_eq!(&bytes[..], &other[..]);
            assert_eq!(read(&bytes, version, sender), packet);
        });
    }

    /// The packets of a stream do not depend on where it is cut, and the reader never waits for more bytes
    /// than the packet has.
    #[test]
    fn any_cut_of_a_stream_gives_the_same_packets(
        seeds in proptest::collection::vec(choices(), 1..4), version in version(), sender in sender(),
        cuts in proptest::collection::vec(1..40_usize, 1..8),
    ) {
        let packets: Vec<_> =
            seeds.into_iter().map(|seed| written(&mut Choices::of_bytes(seed), version, sender)).collect();
        let stream = packets.concat();
        let (mut buffer, mut sent, mut found) = (Vec::new(), 0, Vec::new());
        for cut in cuts.iter().cycle() {
            let end = (sent + cut).min(stream.len());
            buffer.extend_from_slice(&stream[sent..end]);
            sent = end;
            loop {
                match frame(&buffer, BYTES_MAX).unwrap() {
                    Framing::Frame(whole) => {
                        decode(whole, version, sender).unwrap();
                        let size = whole.size();
                        found.push(buffer.drain(..size).collect::<Vec<_>>());
                    }
                    Framing::Need(bytes) => {
                        prop_assert!(bytes > buffer.len());
                        // At the end of the stream nothing is missing; before it, no more than there is.
                        let missing = bytes - buffer.len();
                        prop_assert!(sent == stream.len() || missing <= stream.len() - sent);
                        break;
                    }
                }
            }
            if sent == stream.len() {
                break;
            }
        }
        prop_assert_eq!(found, packets);
        prop_assert!(buffer.is_empty());
    }
}
