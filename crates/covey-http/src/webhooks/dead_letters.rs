//! Messages that a webhook was not able to deliver: listed, looked at, and
//! sent again.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use covey_core::id::RecordNumber;
use covey_core::webhook::DeadLetter;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::auth::Authenticated;
use crate::docs::{GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::{Parameters, Segment};
use crate::problem::Problem;
use crate::stream::RecordView;
use crate::webhooks::deliveries::from;
use crate::webhooks::key::{LetterKey, WebhookKey};
use crate::wire::{Time, Whole, from_text, json};
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

/// A message that was given up.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookDeadLetter)]
struct DeadLetterView<'a> {
    /// The number of the change.
    number: i64,
    /// The device's number.
    device_id: i64,
    /// How often it was tried.
    attempts: u32,
    /// The status of the last answer, if there was one.
    #[schema(required = true)]
    last_status: Option<u16>,
    /// What went wrong last.
    #[schema(required = true)]
    last_error: Option<&'a str>,
    /// When it was given up.
    died_at: Time,
    /// The change; null if it has been forgotten, and cannot be sent again then.
    #[schema(required = true)]
    record: Option<RecordView<'a>>,
}

impl<'a> DeadLetterView<'a> {
    fn of(dead: &'a DeadLetter) -> Self {
        let kept = &dead.letter;
        Self {
            number: kept.letter.number.0,
            device_id: kept.letter.device_id.0,
            attempts: kept.letter.attempts,
            last_status: kept.status,
            last_error: kept.error.as_deref(),
            died_at: Time(dead.died_at),
            record: dead.record.as_ref().map(RecordView::of),
        }
    }
}

/// Messages that were not delivered and are not tried any more
///
/// They are kept for 30 days.
#[utoipa::path(
    get, path = "/api/v1/webhooks/{key}/dead-letters", tag = "webhooks", params(WebhookKey, DeadLettersQuery),
    responses(
        (status = 200, description = "The dead letters, newest first; with `after`, oldest first.",
            body = Vec<DeadLetterView>),
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
    let views: Vec<_> = found.iter().map(DeadLetterView::of).collect();
    Ok(json(StatusCode::OK, &views))
}

/// One message that was not delivered
#[utoipa::path(
    get, path = "/api/v1/webhooks/{key}/dead-letters/{number}", tag = "webhooks",
    params(WebhookKey, ("number" = i64, Path, description = "The number of the change.")),
    responses(
        (status = 200, description = "The dead letter.", body = DeadLetterView),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
pub(super) async fn dead_letter_get(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    LetterKey(wanted, number): LetterKey,
) -> Result<Response, Problem> {
    let found = api.engine.for_caller(&caller).webhook_dead_letter(wanted, number).await?;
    Ok(json(StatusCode::OK, &DeadLetterView::of(&found)))
}

/// What is sent again.
#[derive(Serialize, ToSchema)]
struct DeadLettersResent {
    /// How many messages will be tried again, for another day.
    resent: u64,
}

async fn resend(
    api: &Api,
    caller: &Caller,
    wanted: covey_core::webhook::EndpointRef,
    number: Option<RecordNumber>,
) -> Result<Response, Problem> {
    let resent = api.engine.for_caller(caller).webhook_resend(wanted, number).await?;
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
    LetterKey(wanted, number): LetterKey,
) -> Result<Response, Problem> {
    resend(&api, &caller, wanted, Some(number)).await
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
    resend(&api, &caller, wanted, None).await
}
