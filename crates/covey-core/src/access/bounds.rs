//! Until when, and from where, a credential may be used.

use std::net::IpAddr;
use std::sync::Arc;

use crate::access::{Grants, Rights};
use crate::address::{IpNet, parse_range};
use crate::error::{Error, Result};
use crate::id::UnixMs;

/// How many ranges of addresses an API key may have.
/// Limit for each API key: 422.
pub const KEY_ADDRESSES_MAX: usize = 16;

/// Until when, and from where, a credential may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyBounds {
    /// From this instant on it is not valid; none if it does not expire.
    pub expires_at: Option<UnixMs>,
    /// The addresses from which it is valid; from anywhere if there are none.
    pub addresses: Arc<[IpNet]>,
}

/// What a credential is good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// What may be done with it in the whole organisation.
    pub rights: Rights,
    /// What may be done with it with some devices alone.
    pub grants: Grants,
    /// Until when, and from where.
    pub bounds: KeyBounds,
}

impl From<Rights> for Access {
    /// In the whole organisation, always, and from anywhere.
    fn from(rights: Rights) -> Self {
        Self { rights, ..Self::default() }
    }
}

impl KeyBounds {
    /// Reads ranges of addresses, such as `10.1.0.0/16`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `addresses`.
    pub fn addresses_of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Arc<[IpNet]>> {
        let problem = "must be up to 16 ranges such as 10.1.0.0/16, or addresses";
        let ranges = texts.into_iter().map(parse_range).collect::<Option<Arc<[_]>>>();
        let ranges = ranges.filter(|ranges| ranges.len() <= KEY_ADDRESSES_MAX);
        ranges.ok_or(Error::invalid("addresses", problem))
    }

    /// Whether the credential has expired.
    #[must_use]
    pub fn is_over_at(&self, now: UnixMs) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether the credential may be used from an address. What comes from no address that is known may use one that is
    /// valid from anywhere.
    #[must_use]
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        let is_among = |address: IpAddr| {
            let address = address.to_canonical();
            self.addresses.iter().any(|range| range.contains(&address))
        };
        self.addresses.is_empty() || address.is_some_and(is_among)
    }

    /// Whether who has a credential with these bounds may make one with others: one that is valid no longer, and from
    /// no other address.
    pub(super) fn require(&self, wanted: &Self) -> Result<()> {
        let is_longer =
            self.expires_at.is_some_and(|own| wanted.expires_at.is_none_or(|wanted| wanted > own));
        if is_longer {
            return Err(Error::invalid(
                "expires_at",
                "must be no later than that of the key that makes this one",
            ));
        }
        let is_covered = |wanted: &IpNet| self.addresses.iter().any(|own| own.contains(wanted));
        let is_wider = !self.addresses.is_empty()
            && (wanted.addresses.is_empty() || !wanted.addresses.iter().all(is_covered));
        if is_wider {
            return Err(Error::invalid("addresses", "must be among those of the key that makes this one"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bounds(expires_at: Option<i64>, addresses: &[&str]) -> KeyBounds {
        let addresses = KeyBounds::addresses_of(addresses.iter().copied()).unwrap();
        KeyBounds { expires_at: expires_at.map(UnixMs), addresses }
    }

    #[test]
    fn a_credential_is_used_until_it_expires_and_from_its_addresses_alone() {
        let free = bounds(None, &[]);
        assert!(free.admits(None) && !free.is_over_at(UnixMs(i64::MAX)));
        let bound = bounds(Some(10), &["10.0.0.0/8", "::1"]);
        assert!(!bound.is_over_at(UnixMs(9)) && bound.is_over_at(UnixMs(10)));
        for (address, may) in
            [("10.9.9.9", true), ("::ffff:10.1.1.1", true), ("::1", true), ("11.0.0.1", false)]
        {
            assert_eq!(bound.admits(Some(address.parse().unwrap())), may, "{address}");
        }
        assert!(!bound.admits(None));
    }

    #[test]
    fn nobody_makes_a_credential_that_may_be_used_longer_or_from_elsewhere() {
        let own = bounds(Some(10), &["10.0.0.0/8"]);
        assert!(bounds(None, &[]).require(&own).is_ok());
        assert!(own.require(&bounds(Some(10), &["10.1.0.0/16"])).is_ok());
        for wider in [
            bounds(None, &["10.1.0.0/16"]),
            bounds(Some(11), &["10.1.0.0/16"]),
            bounds(Some(9), &[]),
            bounds(Some(9), &["10.1.0.0/16", "11.0.0.1"]),
        ] {
            assert!(own.require(&wider).is_err(), "{wider:?}");
        }
        assert!(KeyBounds::addresses_of(["10.0.0.0/8"; KEY_ADDRESSES_MAX + 1]).is_err());
        assert!(KeyBounds::addresses_of(["example.com"]).is_err());
    }
}
