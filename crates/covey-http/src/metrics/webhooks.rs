//! How each webhook fares, as it is stored.

use covey_core::id::RecordNumber;
use covey_core::webhook::{EndpointId, EndpointState};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Of how many webhooks is told at most.
/// Limit for each look at `/metrics`: further ones are not told one by one.
const WEBHOOKS_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Webhook {
    webhook: i64,
}

/// One line for each webhook.
#[derive(Default)]
pub(super) struct Webhooks {
    open: Family<Webhook, Gauge>,
    behind: Family<Webhook, Gauge>,
    waiting: Family<Webhook, Gauge>,
    dead: Family<Webhook, Gauge>,
}

impl Webhooks {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("covey_webhook_circuit_open", "Whether only probes are sent", self.open.clone());
        r.register("covey_webhook_behind", "Changes that were not looked at yet", self.behind.clone());
        r.register("covey_webhook_waiting", "Messages that wait for another try", self.waiting.clone());
        r.register("covey_webhook_dead", "Messages that were given up", self.dead.clone());
    }

    /// Takes note of how they fare, and of the newest change.
    pub(super) fn set(&self, states: &[(EndpointId, EndpointState)], head: RecordNumber) {
        [&self.open, &self.behind, &self.waiting, &self.dead].into_iter().for_each(Family::clear);
        for (id, state) in states.iter().take(WEBHOOKS_MAX) {
            let label = Webhook { webhook: id.0 };
            let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            self.open.get_or_create(&label).set(state.circuit.open_since.is_some().into());
            self.behind.get_or_create(&label).set(head.0 - state.position.0);
            self.waiting.get_or_create(&label).set(count(state.deferred));
            self.dead.get_or_create(&label).set(count(state.dead));
        }
    }
}
