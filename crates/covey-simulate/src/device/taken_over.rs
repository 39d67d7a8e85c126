//! A connection that its device has left open: another of the same device takes its place (MQTT 5 §3.1.4).

use std::time::Duration;

use covey_wire::mqtt::{Framing, Packet, ProtocolVersion, ReasonCode, Sender, decode, frame};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Site;
use crate::network::{Cut, DeviceEnd};

/// How long after the CONNACK of the other connection the end may come, beside the network's delay.
const END_MAX: Duration = Duration::from_secs(3);

/// What is left of a connection.
pub struct LeftOpen {
    /// The device's end of it.
    pub end: DeviceEnd,
    /// What came on it and was not read as packets.
    pub unread: Vec<u8>,
    /// Its version.
    pub version: ProtocolVersion,
    /// The number of its device.
    pub device: u32,
    /// The delay of each direction of its network.
    pub latency: Duration,
    /// When the server ends it for want of a word.
    pub silent_at: Instant,
    /// Which of the servers it is with.
    pub server: u64,
    /// Whether nothing of the server arrives.
    pub is_deaf: bool,
    /// When another connection of the device was up.
    pub taken: watch::Receiver<Option<Instant>>,
}

impl LeftOpen {
    /// Says nothing more, and holds the server to its end.
    pub async fn run(mut self, site: Site) {
        let mut said = None;
        let mut is_watching = true;
        let ended_at = loop {
            if let Some(reason) = self.packets(&site) {
                said.get_or_insert(reason);
            }
            let taken_at = *self.taken.borrow();
            let late_at = taken_at.map(|at| at + END_MAX + self.latency * 3);
            let until = late_at.unwrap_or(self.silent_at.max(site.ends_at) + END_MAX);
            tokio::select! {
                biased;
                is_open = self.end.read(&mut self.unread) => {
                    if !is_open {
                        self.packets(&site).into_iter().for_each(|reason| _ = said.get_or_insert(reason));
                        break Instant::now();
                    }
                }
                changed = self.taken.changed(), if is_watching && taken_at.is_none() => {
                    is_watching = changed.is_ok();
                }
                () = sleep_until(until) => {
                    if taken_at.is_some() && !self.is_deaf && site.door.killed_at(self.server).is_none() {
                        let rule = "a connection ends when another takes its place [MQTT-3.1.4-3]";
                        site.trace.broken(self.device, rule, format!("still open at {taken_at:?}"));
                    }
                    return self.end.cut(Cut::Finished);
                }
            }
        };
        let code = said.map_or(0, |said: ReasonCode| said.code().into());
        site.trace.add(self.device, "left open: end", code, 0);
        // Before that it may have ended by its silence, or been cut with its server.
        let was_taken = self.taken.borrow().is_some()
            && ended_at + END_MAX < self.silent_at
            && site.door.killed_at(self.server).is_none();
        let is_told = matches!(
            said,
            Some(ReasonCode::SessionTakenOver | ReasonCode::ServerBusy | ReasonCode::QuotaExceeded)
        );
        if was_taken && !self.is_deaf && self.version == ProtocolVersion::V5 && !is_told {
            let rule = "who is taken over is told so (docs/device-rpc.md)";
            site.trace.broken(self.device, rule, format!("{said:?}"));
        }
        self.end.cut(Cut::Finished);
    }

    /// Reads what has come; answers the reason of a DISCONNECT.
    fn packets(&mut self, site: &Site) -> Option<ReasonCode> {
        let (mut used, mut reason) = (0, None);
        while let Ok(Framing::Frame(frame)) = frame(&self.unread[used..], usize::MAX) {
            used += frame.size();
            let packet = decode(frame, self.version, Sender::Server);
            if reason.is_some() {
                let rule = "nothing comes after DISCONNECT [MQTT-3.14.4-2]";
                site.trace.broken(self.device, rule, format!("{packet:?}"));
            }
            if let Ok(Packet::Disconnect(disconnect)) = packet {
                reason = Some(disconnect.reason);
            }
        }
        self.unread.drain(..used);
        reason
    }
}
