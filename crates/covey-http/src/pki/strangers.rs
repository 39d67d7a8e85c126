//! Who asks about certificates without a credential, bounded for all of them and for each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::api::Api;
use crate::auth;
use crate::pki::Pki;
use crate::problem::{Kind, Problem};

/// How many questions about certificates may be under way.
/// Limit for the server: 503.
const QUESTIONS_MAX: usize = 128;
/// How many of them may come from one address; of IPv6, from one network of 64 bits.
/// Limit for each address: 503.
const QUESTIONS_PER_ADDRESS_MAX: usize = 8;

/// How many questions are under way, by where they come from.
#[derive(Default)]
pub(super) struct Strangers(Mutex<HashMap<Option<IpAddr>, usize>>);

impl Strangers {
    fn counts(&self) -> MutexGuard<'_, HashMap<Option<IpAddr>, usize>> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for one more, which is counted then.
    fn enter(&self, from: Option<IpAddr>) -> bool {
        let mut counts = self.counts();
        let all: usize = counts.values().sum();
        let own = counts.get(&from).copied().unwrap_or(0);
        let is_free = all < QUESTIONS_MAX && own < QUESTIONS_PER_ADDRESS_MAX;
        if is_free {
            counts.insert(from, own + 1);
        }
        is_free
    }

    fn leave(&self, from: Option<IpAddr>) {
        let mut counts = self.counts();
        match counts.get_mut(&from) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&from)),
        }
    }
}

/// One who asks, counted for as long as it is kept.
pub(super) struct Stranger {
    api: Arc<Api>,
    from: Option<IpAddr>,
}

impl Stranger {
    /// The server's state.
    pub(super) fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// The server's state; none of what `/pki` is made of where nobody signs.
    pub(super) fn pki(&self) -> Result<(&Api, &Pki), Problem> {
        let pki = self.api.pki.as_ref();
        pki.map(|pki| (&*self.api, pki))
            .ok_or_else(|| Problem::new(Kind::NotFound, "there is nothing at this path"))
    }
}

impl FromRequestParts<Arc<Api>> for Stranger {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let from = auth::address_of(parts, api, api.engine.now()).map(network);
        let refused = || Problem::new(Kind::Unavailable, "many ask about certificates; try again later");
        match api.pki.as_ref().is_none_or(|pki| pki.strangers.enter(from)) {
            true => Ok(Self { api: Arc::clone(api), from }),
            false => Err(refused()),
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if let Some(pki) = &self.api.pki {
            pki.strangers.leave(self.from);
        }
    }
}

/// What one who has many addresses cannot change.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_and_all_together_have_theirs() {
        let strangers = Strangers::default();
        let from = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
        assert!((0..QUESTIONS_PER_ADDRESS_MAX).all(|_| strangers.enter(from(1))));
        assert!(!strangers.enter(from(1)));
        assert!(strangers.enter(from(2)), "another one is not in its way");
        strangers.leave(from(1));
        assert!(strangers.enter(from(1)));
        let others = (3..=255).map(|last| strangers.enter(from(last))).filter(|is_in| *is_in).count();
        assert_eq!(others, QUESTIONS_MAX - QUESTIONS_PER_ADDRESS_MAX - 1);
        (0..=255).for_each(|last| (0..QUESTIONS_PER_ADDRESS_MAX).for_each(|_| strangers.leave(from(last))));
        assert!(strangers.counts().is_empty(), "nobody who has left is remembered");
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let of = |text: &str| text.parse().map(network).ok();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
