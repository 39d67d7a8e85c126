//! How many connections of which kind a listener has: places that are given back when dropped.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::listener::Limits;
use crate::refusal::Refused;

/// The places of a listener.
pub(crate) struct Gate {
    limits: Limits,
    connections: Arc<Semaphore>,
    half_open: Arc<Semaphore>,
    handshakes: Semaphore,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of the connections.
pub(crate) struct Place {
    _connection: OwnedSemaphorePermit,
}

/// One of the half-open connections.
pub(crate) struct HalfOpen {
    _place: OwnedSemaphorePermit,
    /// With whom it is counted, once that is known.
    address: Option<IpAddr>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Self {
        let semaphore = |count: usize| Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS));
        Self {
            connections: Arc::new(semaphore(limits.connections_max)),
            half_open: Arc::new(semaphore(limits.half_open_max)),
            handshakes: semaphore(limits.handshakes_max),
            addresses: Arc::default(),
            limits,
        }
    }

    pub(crate) fn half_open_time(&self) -> Duration {
        Duration::from_millis(self.limits.half_open_ms_max)
    }

    /// Waits for a place among the half-open connections.
    pub(crate) async fn half_open(&self) -> HalfOpen {
        loop {
            // The semaphore is never closed, so this goes round once.
            if let Ok(place) = Arc::clone(&self.half_open).acquire_owned().await {
                return HalfOpen { _place: place, address: None, addresses: Arc::clone(&self.addresses) };
            }
        }
    }

    /// Gives a connection its place.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn place(
        &self,
        address: SocketAddr,
        mut half_open: HalfOpen,
    ) -> Result<(Place, HalfOpen), Refused> {
        let connection =
            Arc::clone(&self.connections).try_acquire_owned().map_err(|_| Refused::Connections)?;
        let address = network(address.ip());
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(address).or_default();
        if *count >= self.limits.half_open_per_address_max.max(1) {
            drop(addresses);
            return Err(Refused::Address);
        }
        *count += 1;
        drop(addresses);
        half_open.address = Some(address);
        Ok((Place { _connection: connection }, half_open))
    }

    /// Waits until one more handshake may be under way.
    pub(crate) async fn handshake(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.handshakes.acquire().await.ok()
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }
}

/// With what an address is counted. Who has one address of IPv6 has 2^64 (RFC 6177 §2).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn gate(connections_max: usize, half_open_per_address_max: usize) -> Gate {
        Gate::new(Limits { connections_max, half_open_per_address_max, ..Limits::default() })
    }

    fn from(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 1)
    }

    #[tokio::test]
    async fn an_address_has_its_share_and_gets_it_back() {
        let gate = gate(100, 2);
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(gate.place(from("192.0.2.1"), gate.half_open().await).unwrap());
        }
        let more = gate.place(from("192.0.2.1"), gate.half_open().await);
        assert_eq!(more.err(), Some(Refused::Address));
        // The same address in the form of IPv6 is the same client.
        let mapped = gate.place(from("::ffff:192.0.2.1"), gate.half_open().await);
        assert_eq!(mapped.err(), Some(Refused::Address));
        assert!(gate.place(from("192.0.2.2"), gate.half_open().await).is_ok());
        held.pop();
        assert!(gate.place(from("192.0.2.1"), gate.half_open().await).is_ok());
        held.clear();
        assert!(gate.addresses.lock().unwrap().is_empty(), "nothing is remembered of who is gone");
    }

    #[tokio::test]
    async fn a_network_of_ipv6_is_one_address() {
        let gate = gate(100, 1);
        let _held = gate.place(from("2001:db8::1"), gate.half_open().await).unwrap();
        let more = gate.place(from("2001:db8::ffff:2"), gate.half_open().await);
        assert_eq!(more.err(), Some(Refused::Address));
        assert!(gate.place(from("2001:db8:0:1::1"), gate.half_open().await).is_ok());
    }

    #[tokio::test]
    async fn connections_are_bounded_also_when_they_are_no_longer_half_open() {
        let gate = gate(1, 10);
        let (place, half_open) = gate.place(from("192.0.2.1"), gate.half_open().await).unwrap();
        drop(half_open);
        let more = gate.place(from("192.0.2.1"), gate.half_open().await);
        assert_eq!(more.err(), Some(Refused::Connections));
        drop(place);
        assert!(gate.place(from("192.0.2.1"), gate.half_open().await).is_ok());
    }
}
