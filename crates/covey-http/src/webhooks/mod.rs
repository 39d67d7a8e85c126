//! `/api/v1/webhooks`: where an application is told of changes (rest-api
//! "Webhooks"), and what became of it.

mod change;
mod dead_letters;
mod deliveries;
mod key;
mod request;

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::Response;
use covey_api::{Webhook, WebhookDeleted, WebhookTested};
use covey_core::webhook::SetError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::Segment;
use crate::problem::{Answer, Kind, Problem};
use crate::wire::json;
use key::WebhookKey;

/// What a task came to that goes on without its caller.
fn ended<T>(joined: Result<covey_core::Result<T>, tokio::task::JoinError>) -> Result<T, Problem> {
    let outcome = joined.map_err(|error| {
        tracing::error!(%error, "webhook request panicked");
        Problem::new(Kind::Internal, "the server failed; its log says why")
    })?;
    Ok(outcome?)
}

/// The routes of webhooks.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([
        routes!(webhook_list, change::webhook_add),
        routes!(webhook_get, change::webhook_put, change::webhook_patch, webhook_delete),
        routes!(webhook_test),
        routes!(change::webhook_rotate),
        routes!(deliveries::webhook_deliveries),
        routes!(dead_letters::dead_letter_list),
        routes!(dead_letters::dead_letter_resend_all),
        routes!(dead_letters::dead_letter_get),
        routes!(dead_letters::dead_letter_resend),
    ])
}

impl From<SetError> for Problem {
    fn from(error: SetError) -> Self {
        match error {
            SetError::Refused(error) => error.into(),
            SetError::Probe(fault) => Self::new(Kind::ProbeFailed, fault.to_string()),
        }
    }
}

/// A response that holds a secret.
fn secret(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Up to which record there is something to tell.
async fn head(api: &Api) -> Result<i64, Problem> {
    Ok(api.engine.server().record_span_of_every_org().await?.settled.0)
}

/// All webhooks of the organisation
#[utoipa::path(
    get, path = "/api/v1/webhooks", tag = "webhooks",
    responses((status = 200, description = "The webhooks, in the order of their numbers.", body = Vec<Webhook>), GuardProblems)
)]
async fn webhook_list(asked: Asked) -> Answer {
    let found = asked.engine().webhook_list().await?;
    let head = head(&asked.api).await?;
    let views: Vec<_> =
        found.iter().map(|(endpoint, state)| Webhook::of(endpoint, Some((state, head)), None)).collect();
    Ok(json(StatusCode::OK, &views))
}

/// One webhook, and how it fares
#[utoipa::path(
    get, path = "/api/v1/webhooks/{key}", tag = "webhooks", params(WebhookKey),
    responses(
        (status = 200, description = "The webhook.", body = Webhook),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn webhook_get(asked: Asked, Segment(WebhookKey(wanted)): Segment<WebhookKey>) -> Answer {
    let (endpoint, state) = asked.engine().webhook_get(wanted).await?;
    let head = head(&asked.api).await?;
    Ok(json(StatusCode::OK, &Webhook::of(&endpoint, Some((&state, head)), None)))
}

/// Deletes a webhook, with its log and its dead letters
#[utoipa::path(
    delete, path = "/api/v1/webhooks/{key}", tag = "webhooks", params(WebhookKey),
    responses(
        (status = 200, description = "The webhook is deleted.", body = WebhookDeleted),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn webhook_delete(asked: Asked, Segment(WebhookKey(wanted)): Segment<WebhookKey>) -> Answer {
    asked.engine().webhook_delete(wanted).await?;
    Ok(json(StatusCode::OK, &WebhookDeleted { message: Cow::Borrowed("Webhook deleted") }))
}

/// Sends a sample to a webhook, once, and says what the receiver answered
#[utoipa::path(
    post, path = "/api/v1/webhooks/{key}/test", tag = "webhooks", params(WebhookKey),
    responses(
        (status = 200, description = "The sample was sent; `delivered` says how that went.", body = WebhookTested),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn webhook_test(asked: Asked, Segment(WebhookKey(wanted)): Segment<WebhookKey>) -> Answer {
    // In a task of its own: what was sent is logged, also when the caller has gone.
    let testing = tokio::spawn(async move { asked.engine().webhook_test(wanted).await });
    let report = ended(testing.await)?;
    Ok(json(StatusCode::OK, &WebhookTested::of(&report)))
}
