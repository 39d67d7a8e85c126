//! What every request passes, in one layer: it gets an id, a slot and a time limit; panics are
//! caught; names that nobody knows are told of; an unread body is drained; a problem document is
//! written; and the request is measured and logged, without headers, bodies or queries.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, CONTENT_LENGTH};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tokio::time::timeout;

use crate::answer::MadeFrom;
use crate::api::Api;
use crate::asked_by::AskedBy;
use crate::connection::{Connection, STALL_MS_MAX};
use crate::metrics::RouteName;
use crate::problem::{Kind, Problem};
use crate::request_id::REQUEST_ID;
use crate::unknown_names::UnknownNames;
use crate::unread_body::lend;

/// How long a request may take, in milliseconds: longer than the longest wait for a task.
/// Limit for each request: 503.
const REQUEST_MS_MAX: u64 = 75_000;

/// What is answered however many requests run: whether the server is well is asked most when it is busy.
const RESERVED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// In the extensions of an answer: the log says what is wrong already.
#[derive(Clone, Copy)]
pub(crate) struct Logged;

/// Gives a request its id before anything answers it: a preflight comes no further than to what
/// knows of other origins.
pub(crate) async fn with_request_id(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = api.request_ids.of(request.headers());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Serves a request within these bounds.
pub(crate) async fn request_middleware(
    State(api): State<Arc<Api>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let id = api.request_ids.of(request.headers());
    let method = request.method().clone();
    let route = RouteName(request.extensions().get::<MatchedPath>().cloned());
    let unknown = UnknownNames::new(request.headers());
    if let Some(query) = request.uri().query()
        && let Some(known) = api.parameters.of_operation(route.as_str(), &method)
    {
        unknown.parameters(query, known);
    }
    let uri = request.uri().clone();
    let (mut request, unread) = lend(request);
    request.extensions_mut().insert(unknown.clone());
    let asked_by = AskedBy::default();
    request.extensions_mut().insert(asked_by.clone());

    let connection = request.extensions().get::<Arc<Connection>>();
    let room = match connection.filter(|connection| !connection.has_room()).map(Arc::clone) {
        Some(connection) => room(&connection).await,
        None => Ok(()),
    };
    let mut response = if let Err(problem) = room {
        problem.into_response()
    } else if RESERVED.contains(&route.as_str()) {
        run(request, next).await
    } else {
        match api.shares.request() {
            Ok(_slot) => run(request, next).await,
            Err(full) => {
                api.metrics.share_was_full(full);
                Problem::from(full).into_response()
            }
        }
    };
    // Of an operation that needs no credential, and only reads. Any other has refused by itself, once
    // it knew the caller and before it did anything.
    if response.status().is_success()
        && let Some(refusal) = unknown.refusal()
    {
        response = refusal.into_response();
    }
    asked_by.answered(&api, &method, route.as_str(), &uri, &response);
    asked_by.say_rates(&mut response);
    unknown.tell(&mut response).await;
    write_problem(&mut response, &id);
    response.headers_mut().insert(REQUEST_ID, id.clone());
    if let Some(unread) = unread
        && !unread.drain().await
    {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }

    // It may be compressed on its way.
    if let Some(made_from) = MadeFrom::body(response.body()) {
        response.extensions_mut().insert(made_from);
    }
    let (status, duration) = (response.status(), began.elapsed());
    let (name, id, duration_us) = (route.as_str(), id.to_str().unwrap_or(""), duration.as_micros());
    if status.is_server_error() && response.extensions_mut().remove::<Logged>().is_none() {
        tracing::info!(%method, route = name, status = status.as_u16(), duration_us, request_id = id, "request failed");
    } else {
        tracing::debug!(%method, route = name, status = status.as_u16(), duration_us, request_id = id, "request served");
    }
    api.metrics.request(&method, route, status, duration.as_secs_f64());
    response
}

/// Waits until the connection holds few enough answers that its client did not take: none is made before it can be sent.
async fn room(connection: &Connection) -> Result<(), Problem> {
    let room = timeout(Duration::from_millis(STALL_MS_MAX), connection.room()).await;
    room.map_err(|_| {
        Problem::new(Kind::Unavailable, "take the answers that are there for this connection first")
    })
}

async fn run(request: Request, next: Next) -> Response {
    // Unwind safe: whatever a handler leaves half done is dropped with it.
    let served = AssertUnwindSafe(next.run(request)).catch_unwind();
    match timeout(Duration::from_millis(REQUEST_MS_MAX), served).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            tracing::error!(panic = panic_text(&*panic), "handler panicked");
            Problem::new(Kind::Internal, "the server made a mistake; its log has more").into_response()
        }
        Err(_) => Problem::new(Kind::Unavailable, "the request took longer than 75 seconds").into_response(),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

/// Writes a problem document: only here is the id of the request known.
fn write_problem(response: &mut Response, id: &HeaderValue) {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let document = problem.document(id.to_str().unwrap_or(""));
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(document.len()));
        *response.body_mut() = Body::from(document);
    }
}
