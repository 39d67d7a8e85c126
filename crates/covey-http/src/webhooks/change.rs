//! Adding and changing webhooks, and their secrets.

use axum::http::StatusCode;
use covey_api::{SecretRotation, Webhook, WebhookChange, WebhookNew, WebhookSet};
use covey_core::webhook::{EndpointRef, SECRET_OVERLAP_S};

use crate::auth::Asked;
use crate::docs::{BodyProblems, ConflictProblem, GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::{RawBody, Segment};
use crate::problem::Answer;
use crate::shares;
use crate::webhooks::key::WebhookKey;
use crate::webhooks::request::{change_onto, new_spec, secret_of, set_onto};
use crate::webhooks::secret;
use crate::wire::{Whole, json};

/// Adds a webhook to those that there are
///
/// Its URL is probed with a GET first, and refused with 400 if no answer below 500 comes within 5 seconds.
#[utoipa::path(
    post, path = "/api/v1/webhooks", tag = "webhooks",
    request_body(content = WebhookNew, content_type = "application/json",
        example = json!({"event_type": "msg-event", "url": "https://receiver.example/covey",
            "filter": {"tag": ["site:north"], "event_type_code": [13, 14]}})),
    responses(
        (status = 201, description = "The webhook is added. Keep its secret: it is not shown again.",
            body = Webhook, headers(("Cache-Control" = String, description = "Always `no-store`."))),
        BodyProblems, GuardProblems,
    )
)]
pub(super) async fn webhook_add(asked: Asked, body: RawBody) -> Answer {
    let wanted = body.read::<WebhookNew>()?;
    let given = secret_of(wanted.secret.as_deref());
    let spec = new_spec(wanted)?;
    let _probing = asked.take(shares::Kind::Probes)?;
    let added = asked.engine().webhook_add(spec, given).await?;
    let view = Webhook::of(&added, None, Some(added.secret.exposed()));
    Ok(secret(json(StatusCode::CREATED, &view)))
}

/// Sets the default webhook of a type, or all of one by its number
///
/// Its URL is probed with a GET first, and refused with 400 if no answer below 500 comes within 5 seconds.
/// Its secret is shown if it is made by this call.
#[utoipa::path(
    put, path = "/api/v1/webhooks/{key}", tag = "webhooks", params(WebhookKey),
    request_body(content = WebhookSet, content_type = "application/json",
        example = json!({"url": "https://receiver.example/covey", "headers": {}, "is_active": true})),
    responses(
        (status = 200, description = "The webhook is set.", body = Webhook),
        BodyProblems, NotFoundProblem, ConflictProblem, GuardProblems,
    )
)]
pub(super) async fn webhook_put(
    asked: Asked,
    Segment(WebhookKey(wanted)): Segment<WebhookKey>,
    body: RawBody,
) -> Answer {
    let set = body.read::<WebhookSet>()?;
    let given = secret_of(set.secret.as_deref());
    let of = match wanted {
        EndpointRef::Default(webhook_type) => Some(webhook_type),
        EndpointRef::Id(_) => None,
    };
    let _probing = asked.take(shares::Kind::Probes)?;
    let changed = asked.engine().webhook_set(wanted, |stored| set_onto(set, stored, of), given);
    let changed = changed.await?;
    let shown = changed.is_new.then(|| changed.endpoint.secret.exposed());
    Ok(secret(json(StatusCode::OK, &Webhook::of(&changed.endpoint, None, shown))))
}

/// Changes some of a webhook
///
/// If it is active then, its URL is probed as with PUT.
#[utoipa::path(
    patch, path = "/api/v1/webhooks/{key}", tag = "webhooks", params(WebhookKey),
    request_body(content = WebhookChange, content_type = "application/json", example = json!({"is_active": false})),
    responses(
        (status = 200, description = "The webhook is changed.", body = Webhook),
        BodyProblems, NotFoundProblem, ConflictProblem, GuardProblems,
    )
)]
pub(super) async fn webhook_patch(
    asked: Asked,
    Segment(WebhookKey(wanted)): Segment<WebhookKey>,
    body: RawBody,
) -> Answer {
    let change = body.read::<WebhookChange>()?;
    let given = secret_of(change.secret.as_deref());
    let _probing = asked.take(shares::Kind::Probes)?;
    let changed = asked.engine().webhook_set(wanted, |stored| change_onto(change, stored), given);
    Ok(json(StatusCode::OK, &Webhook::of(&changed.await?.endpoint, None, None)))
}

/// Gives a webhook a new secret
///
/// For a day, or as long as asked for, messages are signed with both: a receiver that knows either can check them.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{key}/rotate-secret", tag = "webhooks", params(WebhookKey),
    request_body(content = Option<SecretRotation>, content_type = "application/json", example = json!({})),
    responses(
        (status = 200, description = "The secret is new. Keep it: it is not shown again.",
            body = Webhook, headers(("Cache-Control" = String, description = "Always `no-store`."))),
        BodyProblems, InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
pub(super) async fn webhook_rotate(
    asked: Asked,
    Segment(WebhookKey(wanted)): Segment<WebhookKey>,
    body: RawBody,
) -> Answer {
    let rotation = if body.is_none() { SecretRotation::default() } else { body.read()? };
    let given = secret_of(rotation.secret.as_deref());
    let overlap_s = rotation.overlap_seconds.map_or(SECRET_OVERLAP_S, |Whole(seconds)| seconds);
    let rotated = asked.engine().webhook_rotate(wanted, given, overlap_s);
    let rotated = rotated.await?;
    let view = Webhook::of(&rotated, None, Some(rotated.secret.exposed()));
    Ok(secret(json(StatusCode::OK, &view)))
}
