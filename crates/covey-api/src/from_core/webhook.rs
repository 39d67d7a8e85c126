//! Webhooks, and what became of their messages.

use std::borrow::Cow;

use covey_core::record::RecordFilter;
use covey_core::webhook::{DeadLetter, Endpoint, EndpointState, LoggedAttempt, TestReport};

use crate::{
    Record, Webhook, WebhookDeadLetter, WebhookDelivery, WebhookFilter, WebhookState, WebhookTested,
};

impl<'a> Webhook<'a> {
    /// How a webhook looks, with how it fares and the newest record, and with
    /// its secret if that is to be shown.
    #[must_use]
    pub fn of(
        endpoint: &'a Endpoint,
        state: Option<(&'a EndpointState, i64)>,
        secret: Option<&'a str>,
    ) -> Self {
        let spec = &endpoint.spec;
        let headers = spec.headers.0.iter();
        Self {
            id: endpoint.id.0,
            org_id: endpoint.org.0,
            event_type: Cow::Borrowed(spec.webhook_type.name()),
            is_default: endpoint.is_default,
            url: Cow::Borrowed(&spec.url.0),
            headers: headers.map(|(name, value)| (Cow::Borrowed(&**name), Cow::Borrowed(&**value))).collect(),
            is_active: spec.is_active,
            filter: WebhookFilter::of(&spec.filter),
            format: Cow::Borrowed(spec.format.name()),
            concurrency: spec.concurrency,
            device_id_in_path: spec.device_id_in_path,
            created_at: endpoint.created_at.into(),
            updated_at: endpoint.updated_at.into(),
            old_secret_until: endpoint.old_secret.as_ref().map(|(_, until)| (*until).into()),
            secret: secret.map(Cow::Borrowed),
            state: state.map(|(state, head)| WebhookState::of(state, head)),
        }
    }
}

impl<'a> WebhookState<'a> {
    fn of(state: &'a EndpointState, head: i64) -> Self {
        let open_since = state.circuit.open_since;
        Self {
            circuit: Cow::Borrowed(if open_since.is_some() { "open" } else { "closed" }),
            open_since: open_since.map(Into::into),
            failures: state.circuit.failures,
            last_error: state.last_error.as_deref().map(Cow::Borrowed),
            last_delivered_at: state.last_delivered_at.map(Into::into),
            position: state.position.0,
            head,
            waiting: state.deferred,
            dead: state.dead,
            server: state.server.as_deref().map(Cow::Borrowed),
        }
    }
}

impl WebhookFilter {
    /// A filter as it is shown.
    fn of(filter: &RecordFilter) -> Self {
        let tag = |(tag, value): &(String, Option<String>)| match value {
            Some(value) => format!("{tag}:{value}"),
            None => tag.clone(),
        };
        Self {
            device_id: filter.devices.iter().map(|device| device.0).collect(),
            tag: filter.tags.iter().map(tag).collect(),
            event_type_code: filter.event_types.clone(),
        }
    }
}

impl<'a> WebhookTested<'a> {
    /// How the outcome of a test looks.
    #[must_use]
    pub fn of(report: &'a TestReport) -> Self {
        let attempt = &report.attempt;
        Self {
            delivered: attempt.is_delivered(),
            message_id: Cow::Borrowed(&report.message_id),
            at: attempt.at.into(),
            duration_ms: attempt.duration_ms,
            status: attempt.status,
            error: attempt.error.as_deref().map(Cow::Borrowed),
        }
    }
}

impl<'a> WebhookDelivery<'a> {
    /// How an attempt looks.
    #[must_use]
    pub fn of(logged: &'a LoggedAttempt) -> Self {
        let attempt = &logged.attempt;
        Self {
            id: logged.seq,
            number: attempt.number.map(|number| number.0),
            device_id: attempt.device_id.map(|device| device.0),
            attempt: attempt.attempt,
            at: attempt.at.into(),
            duration_ms: attempt.duration_ms,
            status: attempt.status,
            error: attempt.error.as_deref().map(Cow::Borrowed),
            outcome: Cow::Borrowed(attempt.outcome.name()),
        }
    }
}

impl<'a> WebhookDeadLetter<'a> {
    /// How a message that was given up looks.
    #[must_use]
    pub fn of(dead: &'a DeadLetter) -> Self {
        let kept = &dead.delivery;
        Self {
            number: kept.delivery.number.0,
            device_id: kept.delivery.device_id.0,
            attempts: kept.delivery.attempts,
            last_status: kept.status,
            last_error: kept.error.as_deref().map(Cow::Borrowed),
            died_at: dead.died_at.into(),
            record: dead.record.as_ref().map(Record::of),
        }
    }
}
