//! Asks the local network who is there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mdns_sd::{IfKind, ResolvedService, ServiceDaemon, ServiceEvent};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::DiscoveryError;
use crate::found::{Answer, Found, Refused, instance_of, judge};
use crate::service::Kind;

/// How long answers are waited for, in milliseconds.
pub const LOOK_MS: u64 = 2_000;
/// And while nobody has answered.
/// Limit for each look: nobody is there.
pub const LOOK_MS_MAX: u64 = 10_000;
/// How many instances a look finds.
/// Limit for each look: others are refused.
pub const FOUND_MAX: usize = 256;
/// How many answers a look hears, those that are refused included.
/// Limit for each look: it ends.
pub const ANSWERS_MAX: usize = 1_000;
/// How many answers that are refused are told one by one.
/// Limit for each look: the rest is counted.
const REFUSED_MAX: usize = 64;
/// How long a connection to an address that was found may take, in milliseconds.
/// Limit for each address: the next one is tried.
const CONNECT_MS_MAX: u64 = 2_000;

/// What a look has found.
#[derive(Debug, Default)]
pub struct Looked {
    /// Those that are there, by name.
    pub found: Vec<Found>,
    /// What was refused, one by one up to a bound.
    pub refused: Vec<Refused>,
    /// How many answers were refused in all.
    pub refused_count: u64,
}

impl Looked {
    fn refuse(&mut self, refused: Refused) {
        self.refused_count += 1;
        if self.refused.len() < REFUSED_MAX {
            self.refused.push(refused);
        }
    }
}

/// Asks who is there of a kind, at addresses that `may` be, and waits for answers: for `at_least`, and while nobody has
/// answered for `at_most`; or until `is_enough` says so of one.
///
/// What others say meanwhile is kept until this returns, and no longer.
///
/// # Errors
/// Multicast DNS cannot be used here.
pub async fn look(
    kind: Kind,
    at_least: Duration,
    at_most: Duration,
    may: impl Fn(IpAddr) -> bool,
    is_enough: impl Fn(&Found) -> bool,
) -> Result<Looked, DiscoveryError> {
    let listener = Listener(ServiceDaemon::new()?);
    let daemon = &listener.0;
    daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
    let domain = kind.domain();
    let events = daemon.browse(&domain)?;
    let began = Instant::now();
    let mut looked = Looked::default();
    let mut by_name = BTreeMap::new();
    let mut answers = 0;
    loop {
        let until = began + if by_name.is_empty() { at_most.max(at_least) } else { at_least };
        let event = match timeout_at(until, events.recv_async()).await {
            Ok(event) => event,
            Err(_) => break,
        };
        answers += 1;
        // Its queue was full, or would soon be: whoever floods takes the answers of the others.
        let Some(event) = event.ok().filter(|_| answers <= ANSWERS_MAX) else {
            looked.refuse(too_many());
            break;
        };
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let whole = service.get_fullname().to_owned();
                match judge(answer(&service, &domain), &may) {
                    Ok(_) if by_name.len() >= FOUND_MAX && !by_name.contains_key(&whole) => {
                        looked.refuse(too_many());
                    }
                    Ok(found) => {
                        let ends = is_enough(&found);
                        by_name.insert(whole, found);
                        if ends {
                            break;
                        }
                    }
                    Err(refused) => looked.refuse(refused),
                }
            }
            ServiceEvent::ServiceRemoved(_, whole) => {
                by_name.remove(&whole);
            }
            _ => {}
        }
    }
    looked.found = by_name.into_values().collect();
    Ok(looked)
}

/// What hears answers, until it is dropped.
struct Listener(ServiceDaemon);

impl Drop for Listener {
    fn drop(&mut self) {
        // It has nothing to say goodbye for, and ends by itself.
        let _ = self.0.shutdown();
    }
}

fn too_many() -> Refused {
    Refused { name: String::new(), address: None, why: "there are more answers than are heard" }
}

fn answer(service: &ResolvedService, domain: &str) -> Answer {
    let entries = service.get_properties().iter();
    Answer {
        name: instance_of(service.get_fullname(), domain).unwrap_or_default(),
        addresses: service.get_addresses().iter().map(mdns_sd::ScopedIp::to_ip_addr).collect(),
        port: service.get_port(),
        txt: entries.map(|entry| (entry.key().to_owned(), entry.val().map(<[u8]>::to_vec))).collect(),
    }
}

/// The first of the addresses at which somebody listens, which proves nothing of who it is.
pub async fn reachable(found: &Found) -> Option<SocketAddr> {
    for address in &found.addresses {
        let address = SocketAddr::new(*address, found.port);
        let connecting = timeout(Duration::from_millis(CONNECT_MS_MAX), TcpStream::connect(address));
        if matches!(connecting.await, Ok(Ok(_))) {
            return Some(address);
        }
    }
    None
}
