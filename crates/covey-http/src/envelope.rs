//! What every request gets, in one layer: an id, a bound on how many run and
//! for how long, a stop to panics, an end to its body, the text of problems,
//! measurement, and a line in the log that holds neither headers nor bodies nor queries.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tokio::time::timeout;
use uuid::Uuid;

use crate::app::Api;
use crate::metrics::RouteName;
use crate::problem::{Kind, Problem};
use crate::unread_body::lend;

/// The header with the id of a request.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over from a caller, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// How many requests run at a time; one more is answered 503.
const REQUESTS_MAX: usize = 10_000;
/// How long a request may take, in milliseconds: the longest wait and then some.
const REQUEST_MS_MAX: u64 = 75_000;

/// Makes ids for requests: one part for this process, one that counts.
pub(crate) struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self { process: Uuid::new_v4().as_u64_pair().1, next: AtomicU64::new(1) }
    }

    /// The caller's own id if it has a sane one, or a new one.
    fn of(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(REQUEST_ID) {
            Some(id) if is_sane(id) => id.clone(),
            _ => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                let text = format!("{:016x}-{number:x}", self.process);
                HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown"))
            }
        }
    }
}

fn is_sane(id: &HeaderValue) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// How many requests run.
#[derive(Default)]
pub(crate) struct Running(AtomicUsize);

/// One of them.
struct Place<'a>(&'a Running);

impl Running {
    fn enter(&self) -> Option<Place<'_>> {
        let place = Place(self);
        (self.0.fetch_add(1, Ordering::Relaxed) < REQUESTS_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The layer.
pub(crate) async fn envelope(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = api.request_ids.of(request.headers());
    let method = request.method().clone();
    let route = RouteName(request.extensions().get::<MatchedPath>().cloned());
    let (request, unread) = lend(request);

    let mut response = match api.running.enter() {
        Some(_place) => run(request, next).await,
        None => Problem::new(Kind::Unavailable, "too many requests run at this time").into_response(),
    };
    write_problem(&mut response, &id);
    response.headers_mut().insert(REQUEST_ID, id.clone());
    if let Some(unread) = unread
        && !unread.drain().await
    {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }

    let (status, duration) = (response.status(), began.elapsed());
    let (name, id, duration_us) = (route.as_str(), id.to_str().unwrap_or(""), duration.as_micros());
    if status.is_server_error() {
        tracing::info!(%method, route = name, status = status.as_u16(), duration_us, request_id = id, "failed");
    } else {
        tracing::debug!(%method, route = name, status = status.as_u16(), duration_us, request_id = id, "served");
    }
    api.metrics.request(&method, route, status, duration.as_secs_f64());
    response
}

async fn run(request: Request, next: Next) -> Response {
    // What a handler leaves half done when it panics is dropped with it.
    let served = AssertUnwindSafe(next.run(request)).catch_unwind();
    match timeout(Duration::from_millis(REQUEST_MS_MAX), served).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            tracing::error!(panic = panic_text(&*panic), "a handler has panicked");
            Problem::new(Kind::Internal, "the server made a mistake; its log has more").into_response()
        }
        Err(_) => Problem::new(Kind::Unavailable, "the request took longer than 75 seconds").into_response(),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

/// Problems are written here, where the id of the request is known.
fn write_problem(response: &mut Response, id: &HeaderValue) {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let document = problem.document(id.to_str().unwrap_or(""));
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(document.len()));
        *response.body_mut() = Body::from(document);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sane_id_is_taken_over_and_any_other_is_replaced() {
        let ids = RequestIds::new();
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            ids.of(&headers)
        };
        assert_eq!(of(b"my-id.1"), "my-id.1");
        for bad in [b"".as_slice(), b"a b", b"\xff", &[b'x'; 129]] {
            assert!(is_sane(&of(bad)), "{bad:?}");
            assert_ne!(of(bad).as_bytes(), bad);
        }
        assert_ne!(ids.of(&HeaderMap::new()), ids.of(&HeaderMap::new()));
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let running = Running::default();
        let places: Vec<_> = (0..REQUESTS_MAX).map(|_| running.enter().unwrap()).collect();
        assert!(running.enter().is_none());
        drop(places);
        assert_eq!(running.0.load(Ordering::Relaxed), 0);
    }
}
