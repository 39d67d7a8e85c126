//! How a webhook looks to an application.

use std::collections::BTreeMap;

use covey_core::webhook::{Endpoint, EndpointState};
use serde::Serialize;
use utoipa::ToSchema;

use crate::webhooks::request::FilterForm;
use crate::wire::Time;

/// A webhook.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(super) struct WebhookView<'a> {
    /// Its number.
    id: i64,
    /// The organisation's number.
    org_id: i64,
    /// What it is told of.
    #[schema(example = "msg-event")]
    event_type: &'static str,
    /// Whether it is the one that its type names in a path.
    is_default: bool,
    /// Where it is.
    url: &'a str,
    /// What is sent with each message, by name.
    headers: BTreeMap<&'a str, &'a str>,
    /// Whether it is told anything.
    is_active: bool,
    /// Which changes are wanted, beside the type.
    filter: FilterForm,
    /// In which form: `contract` or `cloudevents`.
    format: &'static str,
    /// How many requests may be under way at once.
    concurrency: u32,
    /// When it was made.
    created_at: Time,
    /// When it was last changed.
    updated_at: Time,
    /// Until when the secret before this one is valid, too, if it is.
    #[schema(required = true)]
    old_secret_until: Option<Time>,
    /// The secret that messages are signed with. Shown when it is made and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret: Option<&'a str>,
    /// How it fares.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    state: Option<StateView<'a>>,
}

/// How a webhook fares.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookState)]
struct StateView<'a> {
    /// `closed` if messages are sent; `open` if, after failures in a row, there are only probes.
    #[schema(example = "closed")]
    circuit: &'static str,
    /// Since when it is open.
    #[schema(required = true)]
    open_since: Option<Time>,
    /// How many failures there were in a row.
    failures: u32,
    /// What the last failure was.
    #[schema(required = true)]
    last_error: Option<&'a str>,
    /// When a message was last delivered.
    #[schema(required = true)]
    last_delivered_at: Option<Time>,
    /// Up to this number of a change everything is settled: delivered, not wanted, waiting for another try, or
    /// given up.
    position: i64,
    /// The number of the newest change.
    head: i64,
    /// How many messages wait for another try.
    waiting: u64,
    /// How many messages were given up.
    dead: u64,
    /// The server that sends its messages.
    #[schema(required = true)]
    server: Option<&'a str>,
}

impl<'a> WebhookView<'a> {
    /// How a webhook looks, with how it fares and the newest record, and with
    /// its secret if that is to be shown.
    pub(super) fn of(
        endpoint: &'a Endpoint,
        state: Option<(&'a EndpointState, i64)>,
        secret: Option<&'a str>,
    ) -> Self {
        let spec = &endpoint.spec;
        Self {
            id: endpoint.id.0,
            org_id: endpoint.org.0,
            event_type: spec.webhook_type.name(),
            is_default: endpoint.is_default,
            url: &spec.url.0,
            headers: spec.headers.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            is_active: spec.is_active,
            filter: FilterForm::of(&spec.filter),
            format: spec.format.name(),
            concurrency: spec.concurrency,
            created_at: Time(endpoint.created_at),
            updated_at: Time(endpoint.updated_at),
            old_secret_until: endpoint.old_secret.as_ref().map(|(_, until)| Time(*until)),
            secret,
            state: state.map(|(state, head)| StateView::of(state, head)),
        }
    }
}

impl<'a> StateView<'a> {
    fn of(state: &'a EndpointState, head: i64) -> Self {
        let open_since = state.circuit.open_since;
        Self {
            circuit: if open_since.is_some() { "open" } else { "closed" },
            open_since: open_since.map(Time),
            failures: state.circuit.failures,
            last_error: state.last_error.as_deref(),
            last_delivered_at: state.last_delivered_at.map(Time),
            position: state.position.0,
            head,
            waiting: state.parked,
            dead: state.dead,
            server: state.server.as_deref(),
        }
    }
}
