//! What a server tells the local network over multicast DNS, and what it hears there (`--mdns`, `docs/discovery.md`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use covey_core::port::{Event, Observer, Refusal};
use covey_discovery::{
    Announcement, Announcer, DiscoveryError, Found, Happened, Kind, Looked, Reach, Txt, look,
};
use covey_gateway::unit::{Unit, announced};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::serve::units::UnitRule;

/// How often units are looked for, in milliseconds.
const UNITS_EACH_MS: u64 = 30_000;
/// And for how long each time.
const UNITS_LOOK_MS: u64 = 3_000;
/// How long the announcer is left alone after it has ended, in milliseconds.
const PAUSE_MS: u64 = 30_000;

/// Where the server listens.
pub struct Listeners {
    pub https: SocketAddr,
    pub mqtts: Option<SocketAddr>,
    pub mqtt_nodes: Option<SocketAddr>,
    pub coap: Option<SocketAddr>,
    pub coaps: Option<SocketAddr>,
    pub node_broker: Option<SocketAddr>,
}

/// What a server announces.
pub struct Plan {
    announcements: Vec<Announcement>,
    /// What is not announced, since other machines do not reach it.
    on_loopback: Vec<(&'static str, SocketAddr)>,
}

impl Plan {
    /// Announces what listens beyond loopback. `ca` is the fingerprint of the root certificate.
    pub fn new(ca: &str, listeners: &Listeners) -> Self {
        let mut plan = Self { announcements: Vec::new(), on_loopback: Vec::new() };
        let version = || ("version", env!("CARGO_PKG_VERSION").to_owned());
        let tls = || [version(), ("tls", "1".to_owned()), ("ca", ca.to_owned())];
        let plain = || [version(), ("tls", "0".to_owned()), ("role", "nodes".to_owned())];
        let mut covey: Txt = tls().into();
        covey.push(("api", "/api/v1".to_owned()));
        // Whoever finds the server connects to the broker at the address that it has proven.
        let broker = listeners.node_broker.filter(|broker| {
            let (broker, https) = (Reach::of(*broker), Reach::of(listeners.https));
            broker.zip(https).is_some_and(|(broker, https)| broker.covers(https))
        });
        covey.extend(broker.map(|broker| ("broker", broker.port().to_string())));
        plan.add("REST API", Kind::Covey, Some(listeners.https), covey);
        let web = [version(), ("path", "/docs".to_owned())].into();
        plan.add("web", Kind::Https, Some(listeners.https), web);
        let mut devices: Txt = tls().into();
        devices.push(("role", "devices".to_owned()));
        plan.add("devices", Kind::SecureMqtt, listeners.mqtts, devices);
        plan.add("MQTT nodes", Kind::Mqtt, listeners.mqtt_nodes, plain().into());
        plan.add("CoAP nodes", Kind::Coap, listeners.coap, plain().into());
        // There it is a key that both have, and no certificate of the CA, by which one knows the other.
        let keyed = [version(), ("tls", "1".to_owned()), ("role", "nodes".to_owned())];
        plan.add("CoAP nodes over DTLS", Kind::Coaps, listeners.coaps, keyed.into());
        plan
    }

    fn add(&mut self, what: &'static str, kind: Kind, listener: Option<SocketAddr>, txt: Txt) {
        let Some(listener) = listener else { return };
        match Reach::of(listener) {
            Some(reach) => {
                self.announcements.push(Announcement { kind, reach, port: listener.port(), txt });
            }
            None => self.on_loopback.push((what, listener)),
        }
    }
}

/// What the machine is called in announcements.
pub fn host(server_name: &str) -> String {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses: Vec<_> = interfaces.iter().map(|interface| interface.ip()).collect();
    covey_discovery::host_name(server_name, &addresses)
}

/// Announces until `stop`, then says goodbye. `host` is what the machine is called.
pub async fn announce(
    plan: Plan,
    host: String,
    name: String,
    observer: Arc<dyn Observer>,
    stop: CancellationToken,
) {
    for (what, listener) in &plan.on_loopback {
        tracing::info!(%listener, "not announced over mDNS: {what} listens on loopback");
    }
    if plan.announcements.is_empty() {
        tracing::warn!("nothing is announced over mDNS: no listener is reached by other machines");
        return;
    }
    while let Err(error) = announce_once(&plan, &host, &name, &*observer, &stop).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the server is not announced over mDNS; trying again"
        );
        let pause = tokio::time::sleep(Duration::from_millis(PAUSE_MS));
        if stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

async fn announce_once(
    plan: &Plan,
    host: &str,
    name: &str,
    observer: &dyn Observer,
    stop: &CancellationToken,
) -> Result<(), DiscoveryError> {
    let mut announcer = Announcer::start(host, name, plan.announcements.clone())?;
    for Announcement { kind, port, .. } in &plan.announcements {
        tracing::info!(kind = kind.name(), name, port, "announced over mDNS");
    }
    loop {
        let Some(happened) = stop.run_until_cancelled(announcer.next()).await else {
            announcer.stop().await;
            return Ok(());
        };
        match happened? {
            Happened::Renamed { from, to } => {
                tracing::warn!("another machine is announced as {from}: this one is {to} now");
            }
            Happened::Flooded { records } => {
                observer.happened(Event::Refused(Refusal::Discovery));
                tracing::warn!(records, "more was said over mDNS than is kept: all of it was forgotten");
            }
            Happened::Failed(why) => tracing::warn!("mDNS: {why}"),
        }
    }
}

/// Looks for units until `stop`, at addresses that `rule` admits, and tells of those that are there. Those of
/// `listed` are known without that.
pub async fn look_for_units(
    rule: Arc<UnitRule>,
    listed: Vec<SocketAddr>,
    tell: mpsc::Sender<Vec<Unit>>,
    observer: Arc<dyn Observer>,
    stop: CancellationToken,
) {
    let mut each = interval(Duration::from_millis(UNITS_EACH_MS));
    each.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let look_for = Duration::from_millis(UNITS_LOOK_MS);
    loop {
        let looking = async {
            each.tick().await;
            // Which addresses there may be depends on the port, too.
            match look(Kind::Unit, look_for, look_for, |_| true, |_| false).await {
                Ok(looked) => {
                    let units = units_of(&looked, &rule, &listed, &*observer);
                    tell.send(units).await.is_ok()
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "units cannot be looked for");
                    true
                }
            }
        };
        if stop.run_until_cancelled(looking).await != Some(true) {
            return;
        }
    }
}

fn units_of(looked: &Looked, rule: &UnitRule, listed: &[SocketAddr], observer: &dyn Observer) -> Vec<Unit> {
    let refused = |name: &str, address: Option<IpAddr>, why: &str| {
        let address = address.map_or_else(|| "?".to_owned(), |address| address.to_string());
        tracing::warn!(%address, unit = name, "a unit that announces itself is refused: {why}");
    };
    for _ in 0..looked.refused_count {
        observer.happened(Event::Refused(Refusal::Discovery));
    }
    for one in &looked.refused {
        refused(&one.name, one.address, one.why);
    }
    let mut units: Vec<Unit> = Vec::new();
    for found in &looked.found {
        let unit = match unit_of(found, rule) {
            Ok(unit) => unit,
            Err(why) => {
                observer.happened(Event::Refused(Refusal::Discovery));
                refused(&found.name.escape_debug().to_string(), found.addresses.first().copied(), &why);
                continue;
            }
        };
        // Whoever says an address twice, or that of another, is none more.
        let is_known = |address| address == unit.address;
        if !listed.iter().copied().any(is_known) && !units.iter().map(|unit| unit.address).any(is_known) {
            units.push(unit);
        }
    }
    units
}

fn unit_of(found: &Found, rule: &UnitRule) -> Result<Unit, String> {
    let at = |address: &IpAddr| SocketAddr::new(*address, found.port);
    let mut refused = "none was said";
    let allowed = found.addresses.iter().map(at).find(|address| match rule.check(*address) {
        Ok(()) => true,
        Err(why) => {
            refused = why;
            false
        }
    });
    let address = allowed.ok_or_else(|| format!("its address {refused}"))?;
    announced(address, found.txt("kind"), found.txt("resource"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn plan(https: &str, node_broker: Option<&str>) -> Plan {
        let at = |address: &str| address.parse().unwrap();
        let listeners = Listeners {
            https: at(https),
            mqtts: Some(at("0.0.0.0:8883")),
            mqtt_nodes: Some(at("127.0.0.1:1886")),
            coap: Some(at("[::]:5683")),
            coaps: Some(at("[::]:5684")),
            node_broker: node_broker.map(at),
        };
        Plan::new(&"0".repeat(64), &listeners)
    }

    fn txt<'a>(plan: &'a Plan, kind: Kind, key: &str) -> Option<&'a str> {
        let announced = plan.announcements.iter().find(|announced| announced.kind == kind)?;
        announced.txt.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
    }

    #[test]
    fn what_listens_beyond_loopback_is_announced_and_nothing_else() {
        let announced = plan("0.0.0.0:8443", Some("0.0.0.0:8000"));
        let kinds: Vec<_> = announced.announcements.iter().map(|announced| announced.kind).collect();
        assert_eq!(kinds, [Kind::Covey, Kind::Https, Kind::SecureMqtt, Kind::Coap, Kind::Coaps]);
        assert_eq!(announced.on_loopback, [("MQTT nodes", "127.0.0.1:1886".parse().unwrap())]);
        assert_eq!(txt(&announced, Kind::Covey, "broker"), Some("8000"));
        assert_eq!(txt(&announced, Kind::SecureMqtt, "role"), Some("devices"));
        assert_eq!(
            (txt(&announced, Kind::Coaps, "tls"), txt(&announced, Kind::Coaps, "ca")),
            (Some("1"), None)
        );
        let local = plan("127.0.0.1:8443", Some("0.0.0.0:8000"));
        assert_eq!(txt(&local, Kind::Covey, "tls"), None);
        assert_eq!(local.on_loopback.len(), 3);
    }

    #[test]
    fn the_node_broker_is_named_only_where_it_is_at_every_address_of_the_server() {
        for (https, broker) in [
            ("0.0.0.0:8443", Some("127.0.0.1:8000")),
            ("0.0.0.0:8443", Some("10.0.0.1:8000")),
            ("10.0.0.2:8443", Some("10.0.0.1:8000")),
            ("10.0.0.2:8443", None),
        ] {
            assert_eq!(txt(&plan(https, broker), Kind::Covey, "broker"), None, "{https} {broker:?}");
        }
        assert_eq!(txt(&plan("10.0.0.1:1", Some("10.0.0.1:8000")), Kind::Covey, "broker"), Some("8000"));
    }
}
