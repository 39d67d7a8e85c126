//! Extractors: the body, the query and the path of a request, with refusals
//! as problem documents. What is not JSON is 400, what is out of its range or
//! of a wrong type is 422, what is too large is 413 (rest-api, introduction).

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::connection::Connection;
use crate::problem::{Kind, Problem};
use crate::unknown_names::UnknownNames;

/// Largest body of a request, in bytes.
/// Limit for each request: 413.
pub(crate) const BODY_BYTES_MAX: usize = 256 * 1024;

/// The body of a request, as it was sent, where it is noted what nobody knows in it, and where it is counted
/// for as long as it is kept.
pub(crate) struct RawBody(pub(crate) Bytes, UnknownNames, #[allow(dead_code)] Kept);

/// What is kept of the body of a request that came in pieces, counted for its connection: who
/// sends many bodies and ends none has no memory for ever.
#[derive(Default)]
struct Kept {
    connection: Option<Arc<Connection>>,
    bytes: usize,
}

impl Kept {
    fn on(connection: Option<Arc<Connection>>) -> Self {
        Self { connection, bytes: 0 }
    }

    /// So many bytes from now on.
    fn set(&mut self, bytes: usize) {
        if let Some(connection) = self.connection.as_ref().filter(|_| bytes > self.bytes) {
            connection.keep(bytes - self.bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.as_ref().filter(|_| self.bytes > 0) {
            connection.let_go(self.bytes);
        }
    }
}

impl<S: Sync> FromRequest<S> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let of_request = request.extensions().get::<UnknownNames>().cloned();
        let unknown = of_request.unwrap_or_else(|| UnknownNames::new(request.headers()));
        let mut kept = Kept::on(request.extensions().get::<Arc<Connection>>().map(Arc::clone));
        let body = read(request.into_body(), &mut kept).await?;
        Ok(Self(body, unknown, kept))
    }
}

async fn read(body: Body, kept: &mut Kept) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Kind::TooLarge, "the body must be at most 262144 bytes");
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > BODY_BYTES_MAX {
        return Err(too_large());
    }
    let mut chunks = body.into_data_stream();
    let mut total = 0_usize;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Kind::NotJson, "the body ended too early"))?;
        total = total.saturating_add(chunk.len());
        if total > BODY_BYTES_MAX {
            return Err(too_large());
        } else if first.is_empty() {
            // A small body comes in one piece and is not copied.
            first = chunk;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.max(2 * total));
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&chunk);
            kept.set(rest.capacity());
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

impl RawBody {
    /// What was sent.
    pub(crate) fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Whether nothing was sent, where nothing need be.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self.0.trim_ascii(), b"" | b"null")
    }

    /// A body as a test sends it.
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        let unknown = UnknownNames::new(&axum::http::HeaderMap::new());
        Self(Bytes::copy_from_slice(text.as_bytes()), unknown, Kept::default())
    }

    /// Reads the body as a JSON object. Members that the type does not take are noted; with
    /// `Prefer: handling=strict` they are refused.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Problem> {
        let bytes: &'a [u8] = &self.0;
        // A derived reader would take an array for a list of the fields.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(match serde_json::from_slice::<IgnoredAny>(bytes) {
                Ok(_) => Problem::new(Kind::WrongType, "the body must be a JSON object"),
                Err(error) => not_json(&error),
            });
        }
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let read = serde_ignored::deserialize(&mut json, |path| self.1.member(&path));
        let read = read.and_then(|read| json.end().map(|()| read)).map_err(|error| {
            if error.is_data() { wrong_field::<T>(bytes, &error) } else { not_json(&error) }
        })?;
        self.1.refusal().map_or(Ok(read), Err)
    }
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::new(Kind::NotJson, format!("the body is not JSON: {error}"))
}

/// Reads once more, to learn which field it is. Slower, so only now.
fn wrong_field<'a, T: Deserialize<'a>>(bytes: &'a [u8], error: &serde_json::Error) -> Problem {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(located) => unreadable(located.path(), &located.inner().to_string()),
        Ok(_) => Problem::new(Kind::Invalid, error.to_string()),
    }
}

/// What serde says of a value that it cannot read, as a refusal that names the
/// field. The texts are those of the provided methods of `serde::de::Error`.
fn unreadable(path: &serde_path_to_error::Path, message: &str) -> Problem {
    let is_whole = path.iter().next().is_none();
    let member = |name: &str| if is_whole { name.to_owned() } else { format!("{path}.{name}") };
    let named = |what: &str| message.strip_prefix(what)?.strip_prefix('`')?.split_once('`');
    if let Some((name, _)) = named("missing field ") {
        Problem::of_field(Kind::Missing, member(name), "must be given")
    } else if let Some((name, expected)) = named("unknown field ") {
        // The path ends with the name already, unless nothing is around it.
        let field = if is_whole { name.to_owned() } else { path.to_string() };
        Problem::of_field(Kind::Unknown, field, &format!("is not known{expected}"))
    } else if let Some((name, _)) = named("duplicate field ") {
        Problem::of_field(Kind::Contradictory, member(name), "is given more than once")
    } else {
        let kind = if message.starts_with("invalid type: ") { Kind::WrongType } else { Kind::Invalid };
        if is_whole {
            Problem::new(kind, message.to_owned())
        } else {
            Problem::of_field(kind, path.to_string(), message)
        }
    }
}

/// The parameters in a request's query.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read_query(parts.uri.query().unwrap_or("")).map(Self)
    }
}

fn read_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = serde_html_form::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(pairs)
        .map_err(|error| unreadable(error.path(), &error.inner().to_string()))
}

/// The one parameter in a request's path.
pub(crate) struct Segment<T>(pub(crate) T);

impl<S: Send + Sync, T: FromStr<Err: Display>> FromRequestParts<S> for Segment<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let unreadable = |_| Problem::new(Kind::Invalid, "the path is not UTF-8");
        // With its name, so that a refusal can say which parameter is meant.
        let Path(mut named) =
            Path::<Vec<(String, String)>>::from_request_parts(parts, state).await.map_err(unreadable)?;
        let (name, text) = named.pop().unwrap_or_default();
        text.parse().map(Self).map_err(|error: T::Err| Problem::invalid(name, &error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::HeaderMap;

    use super::*;
    use crate::wire::{DeviceNumber, Whole, from_text};

    #[derive(Debug, Deserialize)]
    struct Shape {
        #[serde(default)]
        number: Option<Whole>,
        #[serde(default)]
        parts: Vec<Part>,
        #[serde(default)]
        one: Option<Part>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Part {
        name: String,
    }

    fn raw(body: &'static [u8]) -> RawBody {
        RawBody(Bytes::from_static(body), UnknownNames::new(&HeaderMap::new()), Kept::default())
    }

    fn refusal(body: &'static [u8]) -> Problem {
        raw(body).read::<Shape>().unwrap_err()
    }

    #[test]
    fn what_is_not_json_is_told_from_what_is_of_a_wrong_type() {
        for body in [b"".as_slice(), b"{", b"{]", b"nul", b"{\"number\":1}x", b"\xff", b"\"\\ud800\""] {
            let problem = refusal(Box::leak(body.to_vec().into_boxed_slice()));
            let is_string = body.starts_with(b"\"");
            assert_eq!(problem.kind, if is_string { Kind::WrongType } else { Kind::NotJson }, "{body:?}");
        }
        for body in [b"[]".as_slice(), b"[1]", b"null", b"7"] {
            let problem = refusal(Box::leak(body.to_vec().into_boxed_slice()));
            assert_eq!((problem.kind, problem.field), (Kind::WrongType, None), "{body:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_field_and_what_is_wrong_with_it() {
        let good = raw(b"{\"parts\":[{\"name\":\"a\"}],\"one\":{\"name\":\"b\"}}");
        let Shape { parts, one, .. } = good.read().unwrap();
        assert_eq!((parts[0].name.as_str(), one.unwrap().name.as_str()), ("a", "b"));
        for (body, kind, field) in [
            (b"{\"number\":true}".as_slice(), Kind::WrongType, "number"),
            (b"{\"number\":\"7\"}", Kind::WrongType, "number"),
            (b"{\"number\":7.5}", Kind::Invalid, "number"),
            (b"{\"number\":7,\"number\":7}", Kind::Contradictory, "number"),
            (b"{\"parts\":[{\"name\":\"a\"},{}]}", Kind::Missing, "parts[1].name"),
            (b"{\"parts\":[{\"name\":\"a\",\"nmae\":\"b\"}]}", Kind::Unknown, "parts[0].nmae"),
            (b"{\"one\":{\"name\":\"a\",\"nmae\":\"b\"}}", Kind::Unknown, "one.nmae"),
            (b"{\"one\":{}}", Kind::Missing, "one.name"),
            (b"{\"parts\":[{\"name\":1}]}", Kind::WrongType, "parts[0].name"),
        ] {
            let problem = refusal(body);
            assert_eq!((problem.kind, problem.field.as_deref()), (kind, Some(field)), "{problem:?}");
            assert!(problem.detail.starts_with(&format!("{field}: ")), "{problem:?}");
        }
    }

    #[test]
    fn unknown_members_are_passed_over_unless_the_caller_wants_them_refused() {
        let body = b" {\"number\":7,\"more\":[{\"a\":1}],\"mroe\":null}";
        assert_eq!(raw(body).read::<Shape>().unwrap().number, Some(Whole(7)));
        let mut headers = HeaderMap::new();
        headers.insert("prefer", "handling=strict".parse().unwrap());
        let strict = RawBody(Bytes::from_static(body), UnknownNames::new(&headers), Kept::default());
        let problem = strict.read::<Shape>().unwrap_err();
        assert_eq!((problem.kind, problem.field.as_deref()), (Kind::Unknown, Some("more")));
        let errors = problem.lists.unwrap().errors;
        let pointers: Vec<_> = errors.iter().filter_map(|error| error.pointer.as_deref()).collect();
        assert_eq!(pointers, ["#/more", "#/mroe"]);
    }

    #[derive(Debug, Deserialize)]
    struct Asked {
        #[serde(default, deserialize_with = "from_text")]
        device_id: Option<DeviceNumber>,
    }

    #[test]
    fn a_parameter_that_cannot_be_read_is_named() {
        assert_eq!(read_query::<Asked>("device_id=7&x=y").unwrap().device_id.unwrap().0.0, 7);
        for query in ["device_id=abc", "device_id=0", "device_id=", "device_id=9007199254740992"] {
            let problem = read_query::<Asked>(query).unwrap_err();
            assert_eq!((problem.kind, problem.field.as_deref()), (Kind::Invalid, Some("device_id")));
        }
        let twice = read_query::<Asked>("device_id=1&device_id=2").unwrap_err();
        assert_eq!((twice.kind, twice.field.as_deref()), (Kind::Invalid, Some("device_id")));
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let pieces = |count: usize| {
            let chunks = (0..count).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1024])));
            Body::from_stream(futures_util::stream::iter(chunks))
        };
        let connection = Connection::new(false, false, None, Arc::default());
        let mut kept = Kept::on(Some(Arc::clone(&connection)));
        assert_eq!(read(pieces(1), &mut kept).await.unwrap().len(), 1024);
        assert_eq!(connection.held_bytes(), 0, "one piece is not kept apart from what it came in");
        assert_eq!(read(pieces(256), &mut kept).await.unwrap().len(), BODY_BYTES_MAX);
        assert!(connection.held_bytes() >= BODY_BYTES_MAX);
        drop(kept);
        assert_eq!(connection.held_bytes(), 0);
        let mut kept = Kept::default();
        assert_eq!(read(pieces(257), &mut kept).await.unwrap_err().kind, Kind::TooLarge);
        let announced = Body::from(vec![b'x'; BODY_BYTES_MAX + 1]);
        assert_eq!(read(announced, &mut kept).await.unwrap_err().kind, Kind::TooLarge);
    }
}
