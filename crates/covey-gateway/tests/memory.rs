//! What clients of MQTT-SN take that are connected and idle: a program of its own, so that nothing else takes memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::net::{Ipv6Addr, SocketAddr};

use covey_gateway::mqtt_sn::packet::{Connect, Name, Packet, Publish, Qos, Topic};
use covey_gateway::mqtt_sn::session::{Answer, Event, Gateway, Output, Settings};

const CLIENTS: u32 = 100_000;
/// What a client may take that has done nothing but connect, in bytes.
const CLIENT_BYTES_MAX: u64 = 400;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

fn at(number: u32) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::from(0x2001_0DB8_u128 << 96 | u128::from(number) << 64 | 1), 1885))
}

fn say(gateway: &mut Gateway, out: &mut Output, number: u32, packet: &Packet<'_>) {
    let mut datagram = Vec::new();
    packet.encode(&mut datagram).unwrap();
    gateway.datagram(at(number), &datagram, 1, out).unwrap();
    out.clear_datagrams();
    while let Some(event) = out.events.pop_front() {
        if let Event::Published { receipt: Some(receipt), .. } = event {
            gateway.accepted(receipt, Answer::Taken, out);
        }
    }
    out.clear_datagrams();
}

#[test]
fn an_idle_client_is_small() {
    let settings = Settings { clients_max: CLIENTS as usize, ..Settings::default() };
    let (mut gateway, mut out) = (Gateway::new(settings), Output::default());
    let before = resident_bytes();
    for number in 0..CLIENTS {
        let id = format!("node-{number:06}");
        let connect = Connect {
            has_will: false,
            is_clean: true,
            protocol_id: 1,
            keep_alive_s: 360,
            client_id: Name(id.as_bytes()),
        };
        say(&mut gateway, &mut out, number, &Packet::Connect(connect));
    }
    let connected = (resident_bytes() - before) / u64::from(CLIENTS);
    // Then what a node of the field does: eight topics, and messages that were taken.
    for number in 0..CLIENTS {
        for topic in ["resources", "led", "temperature", "humidity", "pressure", "name", "board", "os"] {
            let name = format!("node/node-{number:06}/{topic}");
            let register = Packet::Register { topic_id: 0, msg_id: 1, name: Name(name.as_bytes()) };
            say(&mut gateway, &mut out, number, &register);
        }
        let publish = Publish {
            is_repeated: false,
            qos: Qos::AtLeastOnce,
            retain: false,
            topic: Topic::Normal(1),
            msg_id: 9,
            payload: b"[]",
        };
        say(&mut gateway, &mut out, number, &Packet::Publish(publish));
    }
    let busy = (resident_bytes() - before) / u64::from(CLIENTS);
    println!("{connected} bytes for a client that is connected, {busy} for one with eight topics");
    assert_eq!(gateway.counts().connected, CLIENTS as usize);
    assert!(connected <= CLIENT_BYTES_MAX, "{connected} bytes");
    assert!(busy <= 2 * CLIENT_BYTES_MAX, "{busy} bytes");
}
