//! The id of a request: `x-request-id`, in the answer, in the log, and in a problem document.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::header::HeaderName;
use axum::http::{HeaderMap, HeaderValue};
use uuid::Uuid;

/// The header that holds the id of a request.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that a caller may choose, in bytes. A longer one is replaced.
/// Limit for each request: one is made in its place.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Makes ids of requests: a random part for this process, and a counter.
pub(crate) struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self { process: Uuid::new_v4().as_u64_pair().1, next: AtomicU64::new(1) }
    }

    /// The caller's own id if it is printable ASCII of acceptable length, else a new id.
    pub(crate) fn of(&self, headers: &HeaderMap) -> HeaderValue {
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
}
