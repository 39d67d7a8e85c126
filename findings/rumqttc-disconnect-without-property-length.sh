#!/bin/sh
# rumqttc-v5-next: a DISCONNECT with a reason and no property length is passed over in silence.
#
# MQTT 5 §3.14.2.2.1: "If the Remaining Length is less than 2, a value of 0 is used." A server may so end a
# connection with three bytes, E0 01 8E, and some do. The client never learns the reason.
#
# Why: the packet is taken off the buffer before it is read. Reading asks for a byte of the property length
# that is not there, and the error for that is the one that means "the packet has not come to its end": the
# decoder waits for more bytes, and goes on with the packet after it. Any packet that ends within a field
# goes the same way, instead of being refused as malformed.
#
# Expected: Disconnect with SessionTakenOver. Seen: nothing, then the PINGRESP that follows.
# Way out, for a server: write the property length, E0 02 8E 00.
#
# Needs cargo. Builds in a temporary folder.
set -eu
RUMQTTC=0.34.0
TOKIO_UTIL=0.7.16
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<TOML
[package]
name = "look"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
bytes = "1"
rumqttc-v5-next = { version = "=$RUMQTTC", default-features = false }
tokio-util = { version = ">=$TOKIO_UTIL, <0.8", features = ["codec"] }
TOML
cat > src/main.rs <<'RUST'
use bytes::BytesMut;
use rumqttc::mqttbytes::v5::{Codec, Packet};
use tokio_util::codec::Decoder;

fn decode(stream: &mut BytesMut) -> Result<Option<Packet>, String> {
    let mut codec = Codec { max_incoming_size: None, max_outgoing_size: None };
    codec.decode(stream).map_err(|error| error.to_string())
}

fn main() {
    let mut stream = BytesMut::from(&[0xE0, 1, 0x8E, 0xD0, 0][..]);
    let first = decode(&mut stream);
    println!("DISCONNECT without a property length: {first:?}, {} bytes left", stream.len());
    let second = decode(&mut stream);
    println!("then: {second:?}");
    let mut stream = BytesMut::from(&[0xE0, 2, 0x8E, 0][..]);
    let longer = decode(&mut stream);
    println!("with one: {longer:?}");
    let is_so = first == Ok(None) && second == Ok(Some(Packet::PingResp)) && matches!(longer, Ok(Some(_)));
    std::process::exit(if is_so { 0 } else { 1 });
}
RUST
cargo run --quiet || { echo "NOT as described"; exit 1; }
echo "as described"
