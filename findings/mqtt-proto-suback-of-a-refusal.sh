#!/bin/sh
# mqtt-proto: a refused subscription of MQTT 3.1.1 is written as 0x03, and not as 0x80.
#
# 3.1.1 §3.9.3: "SUBACK return codes other than 0x00, 0x01, 0x02 and 0x80 are reserved and MUST NOT be used"
# [MQTT-3.9.3-2]. Its own decoder refuses what it writes.
#
# Why: the reason is written as the number of the variant in its enum, which is the wire's for the first
# three only.
#
# Expected: 90 03 00 01 80. Seen: 90 03 00 01 03.
# Seen beside it: of MQTT 5, a PUBLISH with two Subscription Identifiers is refused, although a message that
# matches several subscriptions has several (MQTT 5 §3.3.2.3.8).
#
# Needs cargo. Builds in a temporary folder.
set -eu
MQTT_PROTO=0.4.0
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
mqtt-proto = "=$MQTT_PROTO"
TOML
cat > src/main.rs <<'RUST'
use mqtt_proto::{v3, v5};

fn main() {
    let suback = v3::Packet::decode(&[0x90, 3, 0, 1, 0x80]).unwrap().unwrap();
    let written = suback.encode().unwrap();
    let again = v3::Packet::decode(written.as_ref());
    println!("{suback:?} is written as {:02X?}, and read again as {again:?}", written.as_ref());
    let several = v5::Packet::decode(&[0x30, 8, 0, 1, b't', 4, 0x0B, 1, 0x0B, 2]);
    println!("two Subscription Identifiers: {several:?}");
    let is_so = written.as_ref() == [0x90, 3, 0, 1, 3] && again.is_err() && several.is_err();
    std::process::exit(if is_so { 0 } else { 1 });
}
RUST
cargo run --quiet || { echo "NOT as described"; exit 1; }
echo "as described"
