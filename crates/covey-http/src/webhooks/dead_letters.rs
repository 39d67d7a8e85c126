//! Messages that a webhook was not able to deliver: listed, looked at, and
//! sent again.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use covey_api::{DeadLettersResent, WebhookDeadLetter};
use covey_core::id::RecordNumber;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::Api;
use crate::auth::Authenticated;
use crate::docs::{GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::{Parameters, Segment};
use crate::problem::Problem;
use crate::webhooks::deliveries::from;
use crate::webhooks::ended;
use crate::webhooks::key::{DeadLetterKey, WebhookKey};
use crate::wire::{Whole, from_text, json};
use covey_core::access::Caller;

/// Which dead letters are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadLettersQuery {
    /// Those before this one, newest first.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false)]
    before: Option<Whole>,
    /// Those after this one, oldest first.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false)]
    after: Option<Whole>,
    /// How many at most.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    limit: Option<Whole>,
}

/// Messages that were not delivered and are not tried any more
///
/// They are kept for 30 days.
#[utoipa::path(
    get, path = "/api/v1/webhooks/{key}/dead-letters", tag = "webhooks", params(WebhookKey, DeadLettersQuery),
    responses(
        (status = 200, description = "The dead letters, newest first; with `after`, oldest first.",
            body = Vec<WebhookDeadLetter>),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
pub(super) async fn dead_letter_list(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    Segment(WebhookKey(wanted)): Segment<WebhookKey>,
    Parameters(query): Parameters<DeadLettersQuery>,
) -> Result<Response, Problem> {
    let from = from(query.before, query.after, None, query.limit);
    let found = api.engine.for_caller(&caller).webhook_dead_letters(wanted, from).await?;
    let views: Vec<_> = found.iter().map(WebhookDeadLetter::of).collect();
    Ok(json(StatusCode::OK, &views))
}

/// One message that was not delivered
#[utoipa::path(
    get, path = "/api/v1/webhooks/{key}/dead-letters/{number}", tag = "webhooks",
    params(WebhookKey, ("number" = i64, Path, description = "The number of the change.")),
    responses(
        (status = 200, description = "The dead letter.", body = WebhookDeadLetter),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
pub(super) async fn dead_letter_get(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    DeadLetterKey(wanted, number): DeadLetterKey,
) -> Result<Response, Problem> {
    let found = api.engine.for_caller(&caller).webhook_dead_letter(wanted, number).await?;
    Ok(json(StatusCode::OK, &WebhookDeadLetter::of(&found)))
}

async fn resend(
    api: &Api,
    caller: Caller,
    wanted: covey_core::webhook::EndpointRef,
    number: Option<RecordNumber>,
) -> Result<Response, Problem> {
    // In a task of its own: all are sent again, also when the caller has gone.
    let engine = Arc::clone(&api.engine);
    let resending =
        tokio::spawn(async move { engine.for_caller(&caller).webhook_resend(wanted, number).await });
    let resent = ended(resending.await)?;
    Ok(json(StatusCode::OK, &DeadLettersResent { resent }))
}

/// Sends one dead letter again, before what the same device has waiting
#[utoipa::path(
    post, path = "/api/v1/webhooks/{key}/dead-letters/{number}/resend", tag = "webhooks",
    params(WebhookKey, ("number" = i64, Path, description = "The number of the change.")),
    responses(
        (status = 200, description = "It will be tried again.", body = DeadLettersResent),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
pub(super) async fn dead_letter_resend(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    DeadLetterKey(wanted, number): DeadLetterKey,
) -> Result<Response, Problem> {
    resend(&api, caller, wanted, Some(number)).await
}

/// Sends all dead letters of a webhook again
#[utoipa::path(
    post, path = "/api/v1/webhooks/{key}/dead-letters/resend", tag = "webhooks", params(WebhookKey),
    responses(
        (status = 200, description = "They will be tried again.", body = DeadLettersResent),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
pub(super) async fn dead_letter_resend_all(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    Segment(WebhookKey(wanted)): Segment<WebhookKey>,
) -> Result<Response, Problem> {
    resend(&api, caller, wanted, None).await
}
