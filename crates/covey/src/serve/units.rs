//! TCP units: where they may be, and which of them this server speaks with.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Result;
use covey_core::Engine;
use covey_core::id::OrgId;
use covey_core::unit::UNIT_LEASE_MS;
use covey_core::webhook::address::AddressRule;
use covey_gateway::engine::GatewayLink;
use covey_gateway::unit::{self, Unit};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::fault;

/// How often a server says again that it has the units, in milliseconds: well before they are another's.
const RENEW_MS: u64 = UNIT_LEASE_MS as u64 / 3;
/// How long it is waited for further changes, in milliseconds.
const TOGETHER_MS: u64 = 50;
/// How soon it is tried again what has failed, in milliseconds.
const RETRY_MS: u64 = 2_000;

/// Why no unit may be somewhere.
const NOT_ALLOWED: &str =
    "must be one at which units may be: private ones, and those that the operator names with --units-allow";
const OURS: &str = "must not be that of a listener of the server";

/// Where units may be: where the operator allows, and never at a listener of this server.
pub struct UnitRule {
    allowed: AddressRule,
    listeners: OnceLock<Vec<SocketAddr>>,
}

impl UnitRule {
    /// What the operator allows.
    pub fn new(allowed: &[String]) -> Result<Arc<Self>> {
        let allowed = AddressRule::parse(allowed.iter().map(String::as_str)).map_err(fault::setup)?;
        Ok(Arc::new(Self { allowed, listeners: OnceLock::new() }))
    }

    /// Says once at which addresses the server listens.
    pub fn listens(&self, listeners: Vec<SocketAddr>) {
        let _ = self.listeners.set(listeners);
    }

    /// Whether a unit may be at an address; if not, why.
    pub fn check(&self, address: SocketAddr) -> Result<(), &'static str> {
        if !self.allowed.admits(address.ip(), false) {
            return Err(NOT_ALLOWED);
        }
        let listeners = self.listeners.get().map_or(&[][..], Vec::as_slice);
        if !listeners.iter().any(|listener| listener.port() == address.port()) {
            return Ok(());
        }
        // Asked for anew, because they change.
        let own = if_addrs::get_if_addrs().unwrap_or_default();
        let own: Vec<IpAddr> = own.iter().map(|interface| interface.ip()).collect();
        if listeners.iter().any(|listener| reaches(address, *listener, &own)) { Err(OURS) } else { Ok(()) }
    }
}

/// Whether who connects to `address` reaches a listener on a machine with these addresses.
fn reaches(address: SocketAddr, listener: SocketAddr, own: &[IpAddr]) -> bool {
    let (to, at) = (address.ip().to_canonical(), listener.ip().to_canonical());
    let is_own = || to.is_loopback() || to.is_unspecified() || own.iter().any(|ip| ip.to_canonical() == to);
    address.port() == listener.port() && (to == at || at.is_unspecified() && is_own())
}

/// Reads a list of units, which may be where the operator allows.
pub fn of_file(
    file: &Path,
    read: fn(&str) -> Result<Vec<Unit>, String>,
    rule: &UnitRule,
) -> Result<Vec<Unit>> {
    let wrong = |why: String| fault::setup(format!("the list of units {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let units = read(&text).map_err(wrong)?;
    demand_allowed(&units, rule)?;
    Ok(units)
}

/// Refuses units of a file that are where none may be.
pub fn demand_allowed(units: &[Unit], rule: &UnitRule) -> Result<()> {
    let refused = units.iter().find_map(|unit| Some((unit.address, rule.check(unit.address).err()?)));
    match refused {
        Some((address, NOT_ALLOWED)) => Err(fault::setup(format!(
            "a unit is listed at {address}, where no unit may be; allow it with --units-allow {}",
            address.ip()
        ))),
        Some((address, why)) => {
            Err(fault::setup(format!("a unit is listed at {address}; its address {why}")))
        }
        None => Ok(()),
    }
}

/// The units that a server speaks with: those of its file, and while it has those of its organisation, these.
pub struct Listing {
    pub engine: Arc<Engine>,
    pub org: OrgId,
    pub server: String,
    pub link: Arc<GatewayLink>,
    pub rule: Arc<UnitRule>,
    pub of_file: Vec<Unit>,
}

impl Listing {
    /// Keeps the list as it is stored, until `stop`.
    pub async fn follow(&self, units: watch::Sender<Vec<Unit>>, stop: &CancellationToken) {
        let mut told = HashSet::new();
        let (mut stored, mut held_until) = (Vec::new(), None::<Instant>);
        while !stop.is_cancelled() {
            let mut pause_ms = RENEW_MS;
            let asked = timeout(Duration::from_millis(RENEW_MS), self.claim_and_read(&mut held_until));
            match asked.await {
                Ok(Ok(found)) => stored = found,
                failed => {
                    pause_ms = RETRY_MS;
                    let why = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "the store did not answer".to_owned(),
                    };
                    tracing::warn!("the list of units was not read: {why}");
                    if held_until.is_none_or(|until| until <= Instant::now()) {
                        // They may be another server's by now.
                        stored = Vec::new();
                    }
                }
            }
            let wanted = self.wanted(&stored, &mut told);
            units.send_if_modified(|units| {
                let is_other = *units != wanted;
                *units = wanted;
                is_other
            });
            tokio::select! {
                () = stop.cancelled() => {}
                // Many that are listed together are read together.
                () = self.link.changed() => sleep(Duration::from_millis(TOGETHER_MS)).await,
                () = sleep(Duration::from_millis(pause_ms)) => {}
            }
        }
    }

    /// Gives the units of the organisation to whoever wants them, once their connections are closed.
    pub async fn release(&self) {
        if let Err(error) = self.engine.server().unit_gateway_release(self.org, &self.server).await {
            tracing::warn!(%error, "another server speaks with the units in a minute only");
        }
    }

    /// The units of the organisation, if this server has them; says so again where that is due.
    async fn claim_and_read(&self, held_until: &mut Option<Instant>) -> covey_core::error::Result<Vec<Unit>> {
        let now = Instant::now();
        let due = lease() - Duration::from_millis(RENEW_MS);
        if held_until.is_none_or(|until| until.saturating_duration_since(now) <= due) {
            let is_ours = self.engine.server().unit_gateway_claim(self.org, &self.server).await?;
            *held_until = is_ours.then(|| now + lease());
        }
        if held_until.is_none() {
            return Ok(Vec::new());
        }
        let units = self.engine.server().units_of(self.org).await?;
        Ok(units.into_iter().map(Unit::from).collect())
    }

    /// The file's units, and those of the store that are not among them and where they may be. `told`: of which it was
    /// said that they are not.
    fn wanted(&self, stored: &[Unit], told: &mut HashSet<String>) -> Vec<Unit> {
        let mut wanted = self.of_file.clone();
        let names: HashSet<_> = wanted.iter().map(|unit| unit.uid.clone()).collect();
        let addresses: HashSet<_> = wanted.iter().map(|unit| unit.address).collect();
        let mut left_out = HashSet::new();
        for unit in stored {
            let is_listed = names.contains(&unit.uid) || addresses.contains(&unit.address);
            let why = match self.rule.check(unit.address) {
                _ if is_listed => "and name must not be those of a unit in the file of --units",
                Err(why) => why,
                Ok(()) => {
                    wanted.push(unit.clone());
                    continue;
                }
            };
            if !told.contains(&unit.uid) {
                tracing::warn!(address = %unit.address.ip(), unit = unit.uid, "a unit is not spoken with: its address {why}");
            }
            left_out.insert(unit.uid.clone());
        }
        *told = left_out;
        wanted
    }
}

const fn lease() -> Duration {
    Duration::from_millis(UNIT_LEASE_MS as u64)
}

/// A list that stays as it is.
pub fn fixed(units: Vec<Unit>) -> watch::Receiver<Vec<Unit>> {
    watch::Sender::new(units).subscribe()
}

/// What reads each kind of file.
pub const ANY_FILE: fn(&str) -> Result<Vec<Unit>, String> = unit::read;
/// The `config.json` of a base unit alone.
pub const BASE_UNIT_FILE: fn(&str) -> Result<Vec<Unit>, String> = unit::read_base_unit;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_listener_of_ours_is_met_at_each_address_of_the_machine() {
        let own: Vec<IpAddr> = ["192.0.2.7", "2001:db8::7"].map(|ip| ip.parse().unwrap()).to_vec();
        let met = |to: &str, listener: &str| reaches(to.parse().unwrap(), listener.parse().unwrap(), &own);
        for (to, listener) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::ffff:127.0.0.1]:8080", "127.0.0.1:8080"),
            ("127.3.2.1:8443", "0.0.0.0:8443"),
            ("192.0.2.7:8443", "0.0.0.0:8443"),
            ("192.0.2.7:8443", "[::]:8443"),
            ("[2001:db8::7]:8443", "[::]:8443"),
            ("0.0.0.0:8443", "0.0.0.0:8443"),
            ("192.0.2.7:8883", "192.0.2.7:8883"),
        ] {
            assert!(met(to, listener), "{to} {listener}");
        }
        for (to, listener) in [
            ("192.0.2.7:8888", "0.0.0.0:8443"),
            ("192.0.2.8:8443", "0.0.0.0:8443"),
            ("127.0.0.2:8080", "127.0.0.1:8080"),
            ("192.0.2.8:8883", "192.0.2.7:8883"),
        ] {
            assert!(!met(to, listener), "{to} {listener}");
        }
    }

    #[test]
    fn what_is_named_is_allowed_but_no_listener_of_ours() {
        let rule = |words: &[&str]| {
            UnitRule::new(&words.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
        };
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(rule(&["private"]).check(address("192.168.1.7:8888")), Ok(()));
        for refused in ["127.0.0.1:8888", "[::1]:8888", "169.254.169.254:8888", "93.184.216.34:8888"] {
            assert_eq!(rule(&["private"]).check(address(refused)), Err(NOT_ALLOWED), "{refused}");
        }
        let named = rule(&["loopback"]);
        named.listens(vec![address("127.0.0.1:8080"), address("0.0.0.0:8443")]);
        assert_eq!(named.check(address("127.0.0.1:8888")), Ok(()));
        assert_eq!(named.check(address("127.0.0.1:8080")), Err(OURS));
        assert_eq!(named.check(address("127.0.0.9:8443")), Err(OURS));
    }
}
