//! Webhooks whose receivers do not take what they are sent.

use covey_core::finding::{Audience, Code, Finding};
use covey_core::id::UnixMs;
use covey_core::webhook::{EndpointId, EndpointTrouble};

use crate::words;

/// Of how many webhooks is told one by one.
/// Limit for each kind of trouble: further ones are counted in one finding.
const TOLD_MAX: usize = 20;

/// What is wrong with webhooks, of all organisations, by their numbers; each is told to its own organisation.
#[must_use]
pub fn findings(troubles: &[EndpointTrouble], now: UnixMs) -> Vec<Finding> {
    let mut open: Vec<_> = troubles.iter().filter(|one| one.state.circuit.open_since.is_some()).collect();
    let mut dead: Vec<_> = troubles.iter().filter(|one| one.state.dead > 0).collect();
    open.sort_by_key(|one| one.id.0);
    dead.sort_by_key(|one| (std::cmp::Reverse(one.state.dead), one.id.0));
    let told = open.iter().take(TOLD_MAX).map(|one| circuit(one, now));
    let told = told.chain(dead.iter().take(TOLD_MAX).map(|one| dead_letters(one)));
    let rest = [(Code::WebhookCircuitOpen, open.len()), (Code::WebhookDeadLetters, dead.len())];
    told.chain(rest.into_iter().filter_map(|(code, count)| others(code, count))).collect()
}

fn circuit(EndpointTrouble { org, id: EndpointId(id), state }: &EndpointTrouble, now: UnixMs) -> Finding {
    let since = state.circuit.open_since.map_or(0, |since| now.0.saturating_sub(since.0) / 1_000);
    let error = state.last_error.as_deref().unwrap_or("no answer");
    let seen = format!(
        "its receiver has failed {} times in a row, for {}: {}",
        state.circuit.failures,
        words::length(since),
        error.escape_debug()
    );
    let remedy = format!(
        "have the receiver mended: covey webhooks deliveries {id} (with a key of its organisation); what waits is sent then"
    );
    let found = Finding::warning(Code::WebhookCircuitOpen, format!("webhook {id}"), seen, remedy);
    found.told_to(Audience::Org(*org))
}

fn dead_letters(EndpointTrouble { org, id: EndpointId(id), state }: &EndpointTrouble) -> Finding {
    let seen = format!("{} messages were given up", state.dead);
    let remedy = format!(
        "when its receiver works, send them again: covey webhooks resend {id} --all (with a key of its organisation)"
    );
    let found = Finding::warning(Code::WebhookDeadLetters, format!("webhook {id}"), seen, remedy);
    found.told_to(Audience::Org(*org))
}

fn others(code: Code, count: usize) -> Option<Finding> {
    let more = count.checked_sub(TOLD_MAX).filter(|more| *more > 0)?;
    let remedy = "see all of them in /metrics: covey_webhook_circuit_open, covey_webhook_dead";
    Some(Finding::warning(code, "other webhooks", format!("the same holds for {more} more"), remedy))
}

#[cfg(test)]
mod tests {
    use covey_core::id::OrgId;
    use covey_core::webhook::EndpointState;
    use covey_core::webhook::circuit::CircuitState;

    use super::*;

    #[test]
    fn each_webhook_in_trouble_is_named_and_very_many_are_counted() {
        assert_eq!(findings(&[], UnixMs(0)), []);
        let circuit = CircuitState { open_since: Some(UnixMs(0)), failures: 5 };
        let ill = |id| {
            let last_error = Some("connect\u{1b}".to_owned());
            let state = EndpointState { circuit, dead: 3, last_error, ..EndpointState::default() };
            EndpointTrouble { org: OrgId(4), id: EndpointId(id), state }
        };
        let found = findings(&[ill(7)], UnixMs(600_000));
        assert_eq!(
            found.iter().map(|found| (found.code, found.audience)).collect::<Vec<_>>(),
            [
                (Code::WebhookCircuitOpen, Audience::Org(OrgId(4))),
                (Code::WebhookDeadLetters, Audience::Org(OrgId(4)))
            ]
        );
        assert!(
            found[0].seen.contains("for 10 minutes") && !found[0].seen.contains('\u{1b}'),
            "{:?}",
            found[0]
        );
        let many: Vec<_> = (0..1_000).map(ill).collect();
        let found = findings(&many, UnixMs(0));
        assert_eq!(found.len(), 2 * TOLD_MAX + 2);
        assert!(found.last().is_some_and(|last| last.seen.contains("980 more")));
    }
}
