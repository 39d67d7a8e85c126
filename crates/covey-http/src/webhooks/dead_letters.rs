//! Messages that a webhook was not able to deliver: listed, looked at, and
//! sent again.

use axum::http::StatusCode;
use covey_api::{DeadLettersResent, WebhookDeadLetter};
use covey_core::id::RecordNumber;
use covey_core::webhook::EndpointRef;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::{Parameters, Segment};
use crate::problem::Answer;
use crate::webhooks::deliveries::from;
use crate::webhooks::ended;
use crate::webhooks::key::{DeadLetterKey, WebhookKey};
use crate::wire::{Whole, from_text, json};

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
    /// How many at most. Fewer are not the end: their bodies have at most 4 MiB in one answer. The end is where
    /// none come.
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
    asked: Asked,
    Segment(WebhookKey(wanted)): Segment<WebhookKey>,
    Parameters(query): Parameters<DeadLettersQuery>,
) -> Answer {
    let from = from(query.before, query.after, None, query.limit);
    let read = || async {
        let found = asked.engine().webhook_dead_letters(wanted, from).await?;
        let views: Vec<_> = found.iter().map(WebhookDeadLetter::of).collect();
        Ok(json(StatusCode::OK, &views))
    };
    asked.large(read).await
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
pub(super) async fn dead_letter_get(asked: Asked, DeadLetterKey(wanted, number): DeadLetterKey) -> Answer {
    let read = || async {
        let found = asked.engine().webhook_dead_letter(wanted, number).await?;
        Ok(json(StatusCode::OK, &WebhookDeadLetter::of(&found)))
    };
    asked.large(read).await
}

async fn resend(asked: Asked, wanted: EndpointRef, number: Option<RecordNumber>) -> Answer {
    // In a task of its own: all are sent again, also when the caller has gone.
    let resending = tokio::spawn(async move { asked.engine().webhook_resend(wanted, number).await });
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
pub(super) async fn dead_letter_resend(asked: Asked, DeadLetterKey(wanted, number): DeadLetterKey) -> Answer {
    resend(asked, wanted, Some(number)).await
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
    asked: Asked,
    Segment(WebhookKey(wanted)): Segment<WebhookKey>,
) -> Answer {
    resend(asked, wanted, None).await
}
