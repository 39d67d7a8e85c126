//! How long certificates live, from when to when one is valid, and when it must be renewed.

use std::time::Duration;

use time::OffsetDateTime;
use time::macros::datetime;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Server and device certificates start this much before `now`: a peer whose clock is a little
/// behind accepts them at once.
pub(crate) const LEAF_BACKDATE: time::Duration = time::Duration::minutes(5);

/// CA certificates start a day back, for devices that only know the date.
pub(crate) const CA_BACKDATE: time::Duration = time::Duration::days(1);

/// The end of "no well-defined expiration date" (RFC 5280 section 4.1.2.5).
const LAST_MOMENT: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);

/// How long each kind of certificate lives, counted from the moment of issue, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateLifetimes {
    /// The root CA, from the first start. Default 20 years.
    pub root: Duration,
    /// The issuing CA, from the first start; never past the root's end. Default 10 years.
    pub issuing: Duration,
    /// The server certificate; never past the issuing CA's end. Default 397 days, the most that
    /// browsers accept.
    pub server: Duration,
    /// A device certificate; never past the issuing CA's end. Default 10 years.
    pub device: Duration,
}

impl Default for CertificateLifetimes {
    fn default() -> Self {
        Self { root: DAY * 7305, issuing: DAY * 3652, server: DAY * 397, device: DAY * 3652 }
    }
}

/// The time span in which a certificate is valid, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

impl Validity {
    /// What a self-signed root may claim.
    pub(crate) fn unbounded() -> Self {
        Self { not_before: OffsetDateTime::UNIX_EPOCH, not_after: LAST_MOMENT }
    }

    /// A span of `lifetime` from `now`, begun `backdate` earlier, within the issuer's span.
    pub(crate) fn within(self, now: OffsetDateTime, backdate: time::Duration, lifetime: Duration) -> Self {
        let now = whole_seconds(now);
        let start = now.checked_sub(backdate).unwrap_or(self.not_before);
        let end = time::Duration::try_from(lifetime)
            .ok()
            .and_then(|lifetime| now.checked_add(lifetime))
            .unwrap_or(self.not_after);
        Self { not_before: start.max(self.not_before), not_after: whole_seconds(end).min(self.not_after) }
    }

    pub(crate) fn contains(self, now: OffsetDateTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// When a leaf must be renewed: when a third of its life is left, counted without the
    /// backdating (else a life of seconds would be due at birth). One that already ends with its
    /// issuer gains nothing from an earlier renewal, so it is due at its end.
    pub(crate) fn renew_at(self, issuer: Self) -> OffsetDateTime {
        if self.not_after >= issuer.not_after {
            return self.not_after;
        }
        let life = self.not_after - self.not_before - LEAF_BACKDATE;
        self.not_after - life.max(time::Duration::ZERO) / 3
    }

    /// Whether less than a tenth is left: for a CA the time to tell the operator.
    pub(crate) fn is_near_end(self, now: OffsetDateTime) -> bool {
        self.not_after - now < (self.not_after - self.not_before) / 10
    }
}

/// `moment` in UTC without its fraction: X.509 times have whole seconds (RFC 5280 section
/// 4.1.2.5.2).
pub(crate) fn whole_seconds(moment: OffsetDateTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(moment.unix_timestamp()).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use proptest::prelude::*;

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00:00.5 UTC);

    fn issuer() -> Validity {
        Validity::unbounded().within(NOW, CA_BACKDATE, DAY * 3652)
    }

    #[test]
    fn renewal_is_due_when_a_third_of_the_life_is_left() {
        let leaf = issuer().within(NOW, LEAF_BACKDATE, Duration::from_secs(90));
        assert_eq!(leaf.not_before, datetime!(2026-03-01 11:55:00 UTC));
        assert_eq!(leaf.renew_at(issuer()), datetime!(2026-03-01 12:01:00 UTC));
    }

    #[test]
    fn a_leaf_that_ends_with_its_issuer_is_not_renewed_early() {
        let leaf = issuer().within(NOW, LEAF_BACKDATE, DAY * 9000);
        assert_eq!(leaf.not_after, issuer().not_after);
        assert_eq!(leaf.renew_at(issuer()), issuer().not_after);
    }

    proptest! {
        #[test]
        fn a_leaf_stays_within_its_issuer_and_is_not_due_at_birth(
            lifetime_s in 3_u64..=u64::MAX,
            age_s in 0_i64..3652 * 24 * 3600,
        ) {
            let now = NOW + time::Duration::seconds(age_s);
            let leaf = issuer().within(now, LEAF_BACKDATE, Duration::from_secs(lifetime_s));
            prop_assert!(leaf.not_before >= issuer().not_before);
            prop_assert!(leaf.not_after <= issuer().not_after);
            prop_assert!(leaf.contains(whole_seconds(now)));
            prop_assert!(whole_seconds(now) < leaf.renew_at(issuer()) || now >= leaf.not_after);
        }
    }
}
