//! Everything that the API refuses, as RFC 9457 problem documents, and the one
//! table that turns an error of the core into an HTTP status.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use covey_api::{ServerPart, UnknownName};
use covey_core::Error;
use covey_core::error::{FieldFault, StorageFault};

/// The content type of a problem document (RFC 9457 §3).
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// How a caller may say who it is (RFC 9110 §11.6.1; a bearer's challenge has a
/// parameter, RFC 6750 §3).
pub(crate) const CHALLENGES: &str = "ApiKey, Bearer realm=\"covey\"";

/// Longest text of a problem, in bytes; a refused value may be part of it.
/// Limit for each problem: the text is cut.
const DETAIL_BYTES_MAX: usize = 300;

/// What a handler comes to.
pub(crate) type Answer = Result<Response, Problem>;

/// The kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    NotJson,
    Unauthenticated,
    InvalidToken,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    SnTaken,
    LastKey,
    Gone,
    Precondition,
    ProbeFailed,
    NotWebSocket,
    TooLarge,
    Invalid,
    WrongType,
    Missing,
    Unknown,
    Contradictory,
    LimitReached,
    QuotaReached,
    Internal,
    Unavailable,
    NoRoom,
    TookTooLong,
    Foreign,
    NoAnswer,
}

impl Kind {
    /// Status, last part of the type's name, and title.
    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::NotJson => (StatusCode::BAD_REQUEST, "not-json", "The body is not JSON"),
            Self::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, "unauthenticated", "A valid credential is needed")
            }
            Self::InvalidToken => (StatusCode::UNAUTHORIZED, "invalid-token", "The token is not valid"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "A right is missing"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here")
            }
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "The request contradicts what is stored"),
            Self::SnTaken => (StatusCode::CONFLICT, "sn_taken", "The serial number is taken"),
            Self::LastKey => (StatusCode::CONFLICT, "last_key", "It is the last key of its kind"),
            Self::Gone => (StatusCode::GONE, "gone", "It is not kept any more"),
            Self::Precondition => {
                (StatusCode::PRECONDITION_FAILED, "precondition", "It is not as was demanded")
            }
            Self::ProbeFailed => (StatusCode::BAD_REQUEST, "probe-failed", "The URL did not pass its probe"),
            Self::NotWebSocket => {
                (StatusCode::BAD_REQUEST, "not-websocket", "The upgrade is not one to WebSocket")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::Invalid => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "A value is out of its range or form")
            }
            Self::WrongType => {
                (StatusCode::UNPROCESSABLE_ENTITY, "wrong-type", "A value is of the wrong type")
            }
            Self::Missing => (StatusCode::UNPROCESSABLE_ENTITY, "missing", "A value is missing"),
            Self::Unknown => (StatusCode::UNPROCESSABLE_ENTITY, "unknown", "A name is not known"),
            Self::Contradictory => {
                (StatusCode::UNPROCESSABLE_ENTITY, "contradictory", "A value contradicts another")
            }
            Self::LimitReached => (StatusCode::TOO_MANY_REQUESTS, "limit-reached", "A limit was reached"),
            Self::QuotaReached => (StatusCode::TOO_MANY_REQUESTS, "quota", "As much is kept as may be"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server made a mistake"),
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The server cannot do this now")
            }
            Self::NoRoom => {
                (StatusCode::INSUFFICIENT_STORAGE, "no-room", "There is too little room on the disk")
            }
            Self::TookTooLong => {
                (StatusCode::GATEWAY_TIMEOUT, "took-too-long", "It takes too long; ask for less")
            }
            Self::Foreign => (StatusCode::FORBIDDEN, "foreign", "The request is not one of a client program"),
            Self::NoAnswer => (StatusCode::GATEWAY_TIMEOUT, "no-answer", "The device did not answer"),
        }
    }

    /// Whether it refuses a credential, or how it was shown.
    pub(crate) const fn is_of_credential(self) -> bool {
        matches!(self, Self::Unauthenticated | Self::InvalidToken | Self::Forbidden)
    }

    /// After how many seconds a repetition makes sense.
    const fn retry_after_s(self) -> Option<u16> {
        match self {
            Self::LimitReached => Some(5),
            // Room comes by deleting, and with the end of a day.
            Self::QuotaReached => Some(60),
            Self::Unavailable => Some(1),
            Self::NoRoom => Some(10),
            _ => None,
        }
    }
}

/// A refusal on its way to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    pub(crate) detail: Cow<'static, str>,
    pub(crate) field: Option<Cow<'static, str>>,
    /// What few problems have. In a box, so that every result stays small.
    pub(crate) lists: Option<Box<Lists>>,
}

/// What few problems have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    /// How the parts of the server are, where that is what is wrong.
    pub(crate) parts: Vec<ServerPart>,
    /// The names that are not known, where that is what is wrong.
    pub(crate) errors: Vec<UnknownName<'static>>,
    /// The names that are not known and were passed over.
    pub(crate) warnings: Vec<UnknownName<'static>>,
    /// After how many seconds a repetition makes sense, where the kind of problem does not say that.
    pub(crate) retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem that concerns no single field.
    pub(crate) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: shortened(detail.into()), field: None, lists: None }
    }

    /// A field that is out of its range.
    pub(crate) fn invalid(field: impl Into<Cow<'static, str>>, problem: &str) -> Self {
        Self::of_field(Kind::Invalid, field, problem)
    }

    /// A problem with one field.
    pub(crate) fn of_field(kind: Kind, field: impl Into<Cow<'static, str>>, problem: &str) -> Self {
        let field = field.into();
        let detail = format!("{field}: {problem}");
        Self { field: Some(shortened(field)), ..Self::new(kind, detail) }
    }

    /// The same, where it is known when a repetition makes sense.
    pub(crate) fn after_s(mut self, seconds: u32) -> Self {
        self.lists.get_or_insert_default().retry_after_s = Some(seconds);
        self
    }

    /// Its status.
    pub(crate) const fn status(&self) -> StatusCode {
        self.kind.row().0
    }

    /// After how many seconds a repetition makes sense, as a header.
    pub(crate) fn retry_after(&self) -> Option<(HeaderName, HeaderValue)> {
        let known = self.lists.as_ref().and_then(|lists| lists.retry_after_s);
        let seconds = known.or(self.kind.retry_after_s().map(u32::from))?;
        Some((RETRY_AFTER, HeaderValue::from(seconds)))
    }

    /// Writes the document. Only the request middleware knows the id of the request, so it
    /// calls this.
    pub(crate) fn document(&self, request_id: &str) -> Vec<u8> {
        let (status, name, title) = self.kind.row();
        let Lists { parts, errors, warnings, .. } = self.lists.as_deref().cloned().unwrap_or_default();
        let document = covey_api::Problem {
            problem_type: Cow::Owned(format!("urn:covey:problem:{name}")),
            title: Cow::Borrowed(title),
            status: status.as_u16(),
            detail: Cow::Borrowed(&self.detail),
            field: self.field.as_deref().map(Cow::Borrowed),
            request_id: Cow::Borrowed(request_id),
            parts,
            errors,
            warnings,
        };
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

fn shortened(text: Cow<'static, str>) -> Cow<'static, str> {
    if text.len() <= DETAIL_BYTES_MAX {
        return text;
    }
    let end = text.floor_char_boundary(DETAIL_BYTES_MAX - '…'.len_utf8());
    Cow::Owned(format!("{}…", &text[..end]))
}

/// The table: what each error of the core is over HTTP. The texts of the core
/// are made for callers; those of a database never get into them.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Invalid { field, problem, fault } => {
                let kind = match fault {
                    FieldFault::OutOfRange => Kind::Invalid,
                    FieldFault::Missing => Kind::Missing,
                    FieldFault::Contradiction => Kind::Contradictory,
                };
                return Self::of_field(kind, *field, problem);
            }
            Error::NotFound { .. } => Kind::NotFound,
            Error::Conflict { .. } => Kind::Conflict,
            Error::SnTaken => Kind::SnTaken,
            Error::LastKey => Kind::LastKey,
            Error::Gone { .. } => Kind::Gone,
            Error::Precondition { .. } => Kind::Precondition,
            Error::Forbidden { .. } | Error::NotGranted { .. } => Kind::Forbidden,
            Error::Exhausted { .. } | Error::OverBudget { .. } => Kind::LimitReached,
            Error::OverQuota { .. } => Kind::QuotaReached,
            Error::Unavailable { reason: StorageFault::Full | StorageFault::Short } => Kind::NoRoom,
            Error::Unavailable { .. } | Error::Blocked => Kind::Unavailable,
            Error::TookTooLong => Kind::TookTooLong,
        };
        Self::new(kind, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, ..) = self.kind.row();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.extend(self.retry_after());
        match self.kind {
            Kind::Unauthenticated => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGES));
            }
            Kind::InvalidToken => {
                // RFC 6750 §3. The text is of the server alone.
                let challenge =
                    format!("{CHALLENGES}, error=\"invalid_token\", error_description=\"{}\"", self.detail);
                let challenge = HeaderValue::try_from(challenge);
                headers.insert(WWW_AUTHENTICATE, challenge.unwrap_or(HeaderValue::from_static(CHALLENGES)));
            }
            _ => {}
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_error_of_the_core_has_its_status() {
        let statuses = [
            (Error::invalid("ttl", "must be 0 to 44639 minutes"), 422),
            (Error::missing("device_id", "must be given"), 422),
            (Error::contradiction("after", "does not go with before"), 422),
            (Error::not_found("task"), 404),
            (Error::Conflict { problem: "taken" }, 409),
            (Error::SnTaken, 409),
            (Error::LastKey, 409),
            (Error::Forbidden { right: "tasks:read" }, 403),
            (Error::Exhausted { limit: "the device has too many open tasks" }, 429),
            (Error::OverQuota { limit: "the device keeps as much as it may" }, 429),
            (Error::OverBudget { limit: "the API key asks more than it may" }, 429),
            (Error::Unavailable { reason: StorageFault::Io }, 503),
            (Error::Unavailable { reason: StorageFault::Full }, 507),
            (Error::Unavailable { reason: StorageFault::Short }, 507),
            (Error::TookTooLong, 504),
        ];
        for (error, status) in statuses {
            let response = Problem::from(error.clone()).into_response();
            assert_eq!(response.status().as_u16(), status, "{error}");
            let is_repeatable = matches!(status, 429 | 503 | 507);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), is_repeatable, "{error}");
        }
    }

    #[test]
    fn a_document_names_the_field_and_the_request() {
        let problem = Problem::from(Error::invalid("ttl", "must be 0 to 44639 minutes"));
        let document: serde_json::Value = serde_json::from_slice(&problem.document("r-1")).unwrap();
        assert_eq!(
            document,
            serde_json::json!({
                "type": "urn:covey:problem:invalid", "title": "A value is out of its range or form", "status": 422,
                "detail": "ttl: must be 0 to 44639 minutes", "field": "ttl", "request_id": "r-1",
            })
        );
    }

    #[test]
    fn what_is_told_of_a_refused_value_is_bounded() {
        for text in ["x", "ü", "\u{1f9a4}"] {
            let problem = Problem::invalid("status", &text.repeat(100_000));
            let cut = DETAIL_BYTES_MAX - text.len() < problem.detail.len();
            assert!(cut && problem.detail.len() <= DETAIL_BYTES_MAX, "{text}: {}", problem.detail.len());
            assert!(problem.detail.ends_with(&format!("{text}…")), "{text}");
        }
        assert_eq!(Problem::new(Kind::Invalid, "x".repeat(DETAIL_BYTES_MAX)).detail.len(), DETAIL_BYTES_MAX);
    }
}
