//! `/api/v1/stream`: every change as it happens, as server-sent events (WHATWG
//! HTML §9.2) or over WebSocket (RFC 6455), from any cursor on that is kept.

mod admission;
mod caller;
mod events;
mod frames;
mod message;
mod query;
mod socket;
mod tell;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::http::header::UPGRADE;
use axum::response::Response;
use covey_core::Engine;
use covey_core::id::CallerId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{Api, with_slash};
use crate::docs::{GoneProblem, GuardProblems, InvalidProblem, LimitProblem, UpgradeProblem};
use crate::extract::Parameters;
use crate::problem::{Kind, Problem};
use admission::Valid;
use caller::StreamCaller;
use frames::Frames;
pub(crate) use message::RecordView;
use query::StreamQuery;

/// How many streams may be open at a time.
const STREAMS_MAX: usize = 8_000;
/// How often a stream on which nothing happens says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often it is looked whether the credential that opened a stream is valid,
/// when the stream has something to say; before each sign of life otherwise.
const ADMITTED_FOR: Duration = Duration::from_secs(10);

/// The route of the stream.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash(OpenApiRouter::default(), routes!(stream))
}

/// The streams that are open: how many, and what they tell.
#[derive(Default)]
pub(crate) struct Streams {
    open: AtomicUsize,
    frames: Frames,
    valid: Valid,
}

/// One of them, until it is dropped.
struct Place {
    streams: Arc<Streams>,
    engine: Arc<Engine>,
    caller: CallerId,
    /// When the caller was last known to be one.
    admitted: Instant,
}

impl Streams {
    /// How many there are.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn enter(self: &Arc<Self>, engine: &Arc<Engine>, caller: CallerId) -> Option<Place> {
        let (streams, engine) = (Arc::clone(self), Arc::clone(engine));
        let place = Place { streams, engine, caller, admitted: Instant::now() };
        (self.open.fetch_add(1, Ordering::Relaxed) < STREAMS_MAX).then_some(place)
    }
}

impl Place {
    /// Whether the caller may hear more.
    async fn is_admitted(&mut self) -> bool {
        if self.admitted.elapsed() < ADMITTED_FOR {
            return true;
        }
        let is_admitted = self.streams.valid.contains(&self.engine, self.caller).await;
        if is_admitted {
            self.admitted = Instant::now();
        }
        is_admitted
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.open.fetch_sub(1, Ordering::Relaxed);
    }
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
            body = RecordView, content_type = "text/event-stream"),
        (status = 101, description = "The stream goes on over WebSocket: each text message is a change as JSON."),
        InvalidProblem, GoneProblem, LimitProblem, UpgradeProblem, GuardProblems,
    )
)]
async fn stream(
    State(api): State<Arc<Api>>,
    StreamCaller(caller): StreamCaller,
    headers: HeaderMap,
    Parameters(query): Parameters<StreamQuery>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let is_wanted =
        headers.get(UPGRADE).is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if let (Err(rejection), true) = (&upgrade, is_wanted) {
        return Err(Problem::new(Kind::NotWebSocket, rejection.body_text()));
    }
    let cursor = query.cursor(&headers)?;
    let follower = api.engine.record_follow(caller.scope, query.into_filter(), cursor).await?;
    let entered = api.streams.enter(&api.engine, caller.scope.caller);
    let place = entered.ok_or(Problem::new(Kind::LimitReached, "too many streams are open"))?;
    Ok(match upgrade {
        Ok(upgrade) => socket::answer(&api, upgrade, follower, place),
        Err(_) => events::answer(&api, follower, place),
    })
}
