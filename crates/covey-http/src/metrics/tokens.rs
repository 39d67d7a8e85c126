//! How the keys of token issuers are.

use std::sync::atomic::Ordering;

use covey_token::KeyState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerName {
    issuer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    issuer: String,
    outcome: &'static str,
}

/// One line for each issuer.
#[derive(Default)]
pub(super) struct Tokens {
    keys: Family<IssuerName, Gauge>,
    age: Family<IssuerName, Gauge>,
    reads: Family<Outcome, Counter>,
}

impl Tokens {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("covey_token_keys", "Keys of a token issuer that are used", self.keys.clone());
        let age = self.age.clone();
        r.register_with_unit(
            "covey_token_keys_age",
            "How old the keys of a token issuer are",
            Unit::Seconds,
            age,
        );
        r.register("covey_token_keys_reads", "Reads of the keys of a token issuer", self.reads.clone());
    }

    /// Takes note of how an issuer's keys are.
    pub(super) fn set(&self, issuer: &str, state: KeyState) {
        let label = IssuerName { issuer: issuer.to_owned() };
        self.keys.get_or_create(&label).set(i64::try_from(state.keys).unwrap_or(i64::MAX));
        if let Some(age) = state.age_seconds {
            self.age.get_or_create(&label).set(i64::try_from(age).unwrap_or(i64::MAX));
        }
        for (outcome, count) in [("read", state.reads), ("failed", state.failures)] {
            let label = Outcome { issuer: issuer.to_owned(), outcome };
            // The issuer counts, and never backwards.
            self.reads.get_or_create(&label).inner().store(count, Ordering::Relaxed);
        }
    }
}
