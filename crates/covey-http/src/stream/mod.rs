//! `/api/v1/stream`: every change as it happens, as server-sent events (WHATWG
//! HTML §9.2) or over WebSocket (RFC 6455), from any cursor on that is kept.

pub(crate) mod caller;
mod events;
mod frames;
mod on_their_way;
pub(crate) mod open_stream;
mod query;
mod socket;

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::http::header::UPGRADE;
use covey_api::Record;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::docs::{GoneProblem, GuardProblems, InvalidProblem, UpgradeProblem};
use crate::extract::Parameters;
use crate::problem::{Answer, Kind, Problem};
use crate::shares;
use caller::StreamCaller;
use query::StreamQuery;

/// The route of the stream.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(stream)])
}

/// Everything that happens, as it happens
///
/// Answers with server-sent events, or over WebSocket to a request that asks for an upgrade. Each message is one
/// change; its `id` is the cursor after it. A stream that begins with a cursor (`Last-Event-ID`, which browsers send by
/// themselves when they connect again, or `cursor`) goes on after it, without a gap and without a repetition, as long
/// as the changes are kept. A reader that is too slow gets a last message `end` with the reason and its cursor.
/// Browsers cannot send headers with an `EventSource` or a `WebSocket`: they give the key as `api_key`.
#[utoipa::path(
    get, path = "/api/v1/stream", tag = "stream",
    params(StreamQuery, ("Last-Event-ID" = Option<String>, Header, description = "The cursor to go on after.")),
    responses(
        (status = 200, description = "The stream: `id:`, `event:` (the kind) and `data:` (a change as JSON) for each \
            change; a line `id:` alone every 15 seconds on which nothing happens.",
            body = Record, content_type = "text/event-stream"),
        (status = 101, description = "The stream goes on over WebSocket: each text message is a change as JSON."),
        InvalidProblem, GoneProblem, UpgradeProblem, GuardProblems,
    )
)]
async fn stream(
    StreamCaller(asked): StreamCaller,
    headers: HeaderMap,
    Parameters(query): Parameters<StreamQuery>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer {
    let is_wanted =
        headers.get(UPGRADE).is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if let (Err(rejection), true) = (&upgrade, is_wanted) {
        return Err(Problem::new(Kind::NotWebSocket, rejection.body_text()));
    }
    let cursor = query.cursor(&headers)?;
    // Before anything is read for it.
    let slot = asked.take(shares::Kind::Streams)?;
    let follower = asked.engine().record_follow(query.into_filter(), cursor).await?;
    let api = &asked.api;
    let stream = api.streams.open(&api.engine, &asked.caller, follower, slot, &api.shutdown);
    Ok(match upgrade {
        Ok(upgrade) => socket::answer(upgrade, stream),
        Err(_) => events::answer(stream),
    })
}
