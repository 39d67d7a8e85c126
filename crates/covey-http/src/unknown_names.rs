//! Names in a request that nobody knows: members of its body and parameters of its query.
//! They are passed over, but not in silence: the answer names them, and a caller who asks for
//! `Prefer: handling=strict` (RFC 7240 §4.4) is refused.
//!
//! This is the one place for all operations. The middleware compares the query with what the
//! OpenAPI document has of the operation; [`RawBody`](crate::extract::RawBody) reports what the
//! type of the body did not take.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::Response;
use covey_api::UnknownName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_ignored::Path;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use crate::answers::{Room, body_in};
use crate::problem::{Kind, Lists, Problem};

/// How a caller says how it wants to be treated (RFC 7240 §2).
pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");
/// How the server says that it did so (RFC 7240 §3).
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// What an answer says beside the point: one header for each unknown name, as an item of RFC 9651.
pub(crate) const WARNING: HeaderName = HeaderName::from_static("covey-warning");
/// The one preference that is known.
pub(crate) const STRICT: &str = "handling=strict";

/// How many unknown names are told.
/// Limit for each request: further ones are counted.
const NAMES_MAX: usize = 10;
/// How long an unknown name is at most as it is told, in bytes.
/// Limit for each name: it is cut.
const NAME_BYTES_MAX: usize = 200;
/// What ends a name that was cut.
const CUT: &str = "...";
/// What needs no escape in the fragment of a URI (RFC 3986 §2.3); all else is escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The unknown names of one request.
#[derive(Clone, Debug)]
pub(crate) struct UnknownNames(Arc<Found>);

#[derive(Debug)]
struct Found {
    is_strict: bool,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    told: Vec<UnknownName<'static>>,
    /// The first of them as problem documents have it in `field`.
    first: String,
    /// How many there are beyond those.
    more: usize,
}

impl UnknownNames {
    /// None found yet, in a request with these headers.
    pub(crate) fn new(headers: &HeaderMap) -> Self {
        Self(Arc::new(Found { is_strict: wants_strict(headers), names: Mutex::default() }))
    }

    /// Whether the caller wants unknown names to be refused.
    pub(crate) fn is_strict(&self) -> bool {
        self.0.is_strict
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the parameters of a query that are not among the known ones.
    pub(crate) fn parameters(&self, query: &str, known: &[String]) {
        for (name, _) in form_urlencoded::parse(query.as_bytes()) {
            if !known.iter().any(|known| *known == name) {
                let told = || UnknownName::parameter(escaped([&*name].into_iter(), ""));
                self.names().add(told, || name.clone().into_owned());
            }
        }
    }

    /// Takes note of a member that the reader of a body passed over.
    pub(crate) fn member(&self, path: &Path<'_>) {
        let mut steps = Vec::new();
        steps_of(path, &mut steps);
        let told = || UnknownName::member(format!("#{}", pointer(&steps)));
        self.names().add(told, || dotted(&steps));
    }

    /// The refusal of a request that wants to be handled strictly and has an unknown name.
    pub(crate) fn refusal(&self) -> Option<Problem> {
        let mut names = self.names();
        if !self.is_strict() || names.told.is_empty() {
            return None;
        }
        let others = names.told.len() - 1 + names.more;
        let first = std::mem::take(&mut names.first);
        let detail = match others {
            0 => "is not known".to_owned(),
            1 => "is not known, and neither is another name".to_owned(),
            others => format!("is not known, and neither are {others} other names"),
        };
        let problem = Problem::of_field(Kind::Unknown, first, &detail);
        let lists = Lists { errors: names.take(), ..Lists::default() };
        Some(Problem { lists: Some(Box::new(lists)), ..problem })
    }

    /// Names them in an answer.
    pub(crate) async fn tell(&self, response: &mut Response) {
        if self.is_strict() {
            response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static(STRICT));
        }
        let warnings = self.names().take();
        if warnings.is_empty() {
            return;
        }
        for warning in &warnings {
            if let Ok(value) = HeaderValue::try_from(item(warning)) {
                response.headers_mut().append(WARNING, value);
            }
        }
        if let Some(problem) = response.extensions_mut().get_mut::<Problem>() {
            problem.lists.get_or_insert_default().warnings = warnings;
        } else if response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json") {
            add_member(response, &warnings).await;
        }
    }
}

impl Names {
    fn add(&mut self, told: impl FnOnce() -> UnknownName<'static>, first: impl FnOnce() -> String) {
        if self.told.len() == NAMES_MAX {
            self.more += 1;
            return;
        }
        if self.told.is_empty() {
            self.first = first();
        }
        self.told.push(told());
    }

    fn take(&mut self) -> Vec<UnknownName<'static>> {
        let mut told = std::mem::take(&mut self.told);
        let more = std::mem::take(&mut self.more);
        if more > 0 {
            told.push(UnknownName::more(u32::try_from(more).unwrap_or(u32::MAX)));
        }
        told
    }
}

/// Whether a caller prefers strict handling. Of several wishes the first counts (RFC 7240 §2).
fn wants_strict(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(PREFER).iter().filter_map(|line| line.to_str().ok());
    let mut wishes = lines.flat_map(|line| line.split(',')).filter_map(|wish| {
        let (name, value) = wish.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("handling").then_some(value.trim())
    });
    wishes.next().is_some_and(|value| value.trim_matches('"').eq_ignore_ascii_case("strict"))
}

/// The steps from the root to a member, as they were sent.
fn steps_of<'a>(path: &'a Path<'_>, steps: &mut Vec<Step<'a>>) {
    let parent = match path {
        Path::Root => return,
        Path::Seq { parent, .. }
        | Path::Map { parent, .. }
        | Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => parent,
    };
    steps_of(parent, steps);
    match path {
        Path::Seq { index, .. } => steps.push(Step::Index(*index)),
        Path::Map { key, .. } => steps.push(Step::Name(key)),
        _ => {}
    }
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// A JSON pointer as the fragment of a URI (RFC 6901 §6).
fn pointer(steps: &[Step<'_>]) -> String {
    let steps = steps.iter().map(|step| match step {
        // RFC 6901 §3: `~` before `/`.
        Step::Name(name) => Cow::Owned(name.replace('~', "~0").replace('/', "~1")),
        Step::Index(index) => Cow::Owned(index.to_string()),
    });
    escaped::<Cow<'_, str>>(steps, "/")
}

/// The same as problem documents have it in `field`: `parts[1].name`.
fn dotted(steps: &[Step<'_>]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Name(name) if path.is_empty() => path.push_str(name),
            Step::Name(name) => path.extend([".", name]),
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

/// Steps in visible ASCII without quotes, each behind a separator, and cut where they are too long.
fn escaped<T: AsRef<str>>(steps: impl Iterator<Item = T>, separator: &str) -> String {
    let mut text = String::new();
    for step in steps {
        // A step may be empty.
        for piece in std::iter::once(separator).chain(utf8_percent_encode(step.as_ref(), ESCAPED)) {
            text.push_str(piece);
            if text.len() > NAME_BYTES_MAX {
                return cut(&text);
            }
        }
    }
    text
}

/// What is left of a text that is too long. An escape is not cut in two.
fn cut(text: &str) -> String {
    let mut end = NAME_BYTES_MAX - CUT.len();
    // An escape is `%` and two digits.
    if let Some(begin) = text[..end].rfind('%').filter(|begin| begin + 3 > end) {
        end = begin;
    }
    format!("{}{CUT}", &text[..end])
}

/// An unknown name as an item with a parameter (RFC 9651 §3.3). Names are escaped already.
fn item(warning: &UnknownName<'_>) -> String {
    let UnknownName { kind, pointer, parameter, count, .. } = warning;
    let text = |name: &str, value: &Option<Cow<'_, str>>| {
        value.as_ref().map_or_else(String::new, |value| format!(";{name}=\"{value}\""))
    };
    let count = count.map_or_else(String::new, |count| format!(";count={count}"));
    format!("{kind}{}{}{count}", text("pointer", pointer), text("name", parameter))
}

/// Puts the member `warnings` at the end of an object. Anything else stays as it is.
async fn add_member(response: &mut Response, warnings: &[UnknownName<'_>]) {
    // Our own answers are in memory.
    let Ok(body) = to_bytes(std::mem::take(response.body_mut()), usize::MAX).await else { return };
    let text = body.trim_ascii();
    let written = match (
        text.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")),
        serde_json::to_vec(warnings),
    ) {
        (Some(members), Ok(list)) => {
            let comma: &[u8] = if members.trim_ascii().is_empty() { b"" } else { b"," };
            let whole = [b"{", members, comma, b"\"warnings\":", &list[..], b"}"].concat();
            match response.extensions().get::<Arc<Room>>() {
                Some(room) => body_in(Arc::clone(room), whole),
                None => Body::from(whole),
            }
        }
        _ => Body::from(body),
    };
    if let Some(bytes) = axum::body::HttpBody::size_hint(&written).exact() {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    *response.body_mut() = written;
}

/// The parameters that each operation takes in its query, out of the OpenAPI document.
#[derive(Debug, Default)]
pub(crate) struct KnownParameters(HashMap<String, Vec<(Method, Vec<String>)>>);

impl KnownParameters {
    pub(crate) fn of(document: &OpenApi) -> Self {
        let paths = document.paths.paths.iter().map(|(path, item)| {
            let operations = [
                (Method::GET, &item.get),
                (Method::PUT, &item.put),
                (Method::POST, &item.post),
                (Method::DELETE, &item.delete),
                (Method::PATCH, &item.patch),
            ];
            let known = operations
                .into_iter()
                .filter_map(|(method, operation)| Some((method, in_query(operation.as_ref()?))));
            (path.clone(), known.collect())
        });
        Self(paths.collect())
    }

    /// Those of an operation; none if there is no such operation in the document.
    pub(crate) fn of_operation(&self, route: &str, method: &Method) -> Option<&[String]> {
        // HEAD is GET without a body (RFC 9110 §9.3.2).
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let operations = self.0.get(route)?;
        operations.iter().find(|(known, _)| known == method).map(|(_, names)| &names[..])
    }
}

fn in_query(operation: &Operation) -> Vec<String> {
    let parameters = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        // Those that operations share are headers.
        RefOr::Ref(_) => None,
    });
    let in_query = parameters.filter(|parameter| parameter.parameter_in == ParameterIn::Query);
    in_query.map(|parameter| parameter.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    fn preferring(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PREFER, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn strict_handling_is_preferred_as_rfc_7240_writes_it() {
        for lines in [
            &["handling=strict"][..],
            &["Handling=STRICT"],
            &["handling = \"strict\""],
            &["wait=10, handling=strict; reason=\"x\""],
            &["respond-async", "handling=strict"],
            &["handling=strict, handling=lenient"],
        ] {
            assert!(wants_strict(&preferring(lines)), "{lines:?}");
        }
        for lines in [
            &[][..],
            &[""],
            &["strict"],
            &["handling"],
            &["handling=lenient"],
            &["handling=lenient, handling=strict"],
            &["handling=stricter"],
            &["x-handling=strict"],
            &["return=minimal; handling=strict"],
        ] {
            assert!(!wants_strict(&preferring(lines)), "{lines:?}");
        }
    }

    #[test]
    fn many_names_are_counted_and_not_listed() {
        let unknown = UnknownNames::new(&preferring(&["handling=strict"]));
        let query: Vec<_> = (0..NAMES_MAX + 3).map(|number| format!("p{number}=1")).collect();
        unknown.parameters(&format!("page=2&{}", query.join("&")), &["page".to_owned()]);
        let problem = unknown.refusal().unwrap();
        assert_eq!((problem.kind, problem.field.as_deref()), (Kind::Unknown, Some("p0")));
        assert_eq!(problem.detail, "p0: is not known, and neither are 12 other names");
        let errors = problem.lists.unwrap().errors;
        assert_eq!(errors.len(), NAMES_MAX + 1);
        assert_eq!(errors.last(), Some(&UnknownName::more(3)));
        assert!(unknown.refusal().is_none(), "they are told once");
    }

    async fn told(body: &'static str, content_type: &'static str) -> (Vec<String>, String) {
        let unknown = UnknownNames::new(&HeaderMap::new());
        unknown.parameters("siez=1", &[]);
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        unknown.tell(&mut response).await;
        let headers =
            response.headers().get_all(WARNING).iter().map(|value| value.to_str().unwrap().to_owned());
        let headers = headers.collect();
        let length =
            response.headers().get(CONTENT_LENGTH).map(|length| length.to_str().unwrap().parse().unwrap());
        let written = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(length.is_none_or(|length: usize| length == written.len()));
        (headers, String::from_utf8(written.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn an_object_gets_a_member_and_anything_else_stays_as_it_is() {
        let list =
            r#"[{"kind":"unknown-parameter","detail":"this parameter is not known","parameter":"siez"}]"#;
        for (body, expected) in [
            ("{}", format!(r#"{{"warnings":{list}}}"#)),
            (" {\"a\":1} ", format!(r#"{{"a":1,"warnings":{list}}}"#)),
            ("[{}]", "[{}]".to_owned()),
            ("", String::new()),
        ] {
            let (headers, written) = told(body, "application/json").await;
            assert_eq!(headers, ["unknown-parameter;name=\"siez\""]);
            assert_eq!(written, expected);
        }
        assert_eq!(told("{}", "text/plain").await.1, "{}");
    }

    /// Reads a pointer as RFC 6901 §6 says.
    fn read_pointer(fragment: &str) -> Vec<String> {
        let pointer = fragment.strip_prefix('#').unwrap();
        let steps = pointer.split('/').skip(1).map(|step| {
            let step = percent_decode_str(step).decode_utf8().unwrap();
            step.replace("~1", "/").replace("~0", "~")
        });
        steps.collect()
    }

    proptest! {
        /// Whatever a member is called, the header is an item of RFC 9651 with one parameter, bounded,
        /// and says where the member is.
        #[test]
        fn a_header_names_any_member_and_cannot_be_broken_out_of(
            names in prop::collection::vec("\\PC*|[ -~]{0,300}|(?s).{0,20}|[\"\\\\~/#;,%\r\n\u{0}]{0,80}", 1..5)
        ) {
            let steps: Vec<_> = names.iter().map(|name| Step::Name(name)).collect();
            let warning = UnknownName::member(format!("#{}", pointer(&steps)));
            let value = HeaderValue::try_from(item(&warning)).unwrap();
            let text = value.to_str().unwrap();
            let inner = text.strip_prefix("unknown-member;pointer=\"").unwrap().strip_suffix('"').unwrap();
            prop_assert!(inner.len() <= NAME_BYTES_MAX + 1, "{}", inner.len());
            prop_assert!(inner.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'));
            match inner.strip_suffix(CUT).filter(|_| inner.len() > NAME_BYTES_MAX - 8) {
                None => prop_assert_eq!(read_pointer(inner), names),
                // Its beginning, where no escape was cut in two.
                Some(begin) => {
                    let whole: String = format!("#{}", names.iter().map(|name| {
                        let name = name.replace('~', "~0").replace('/', "~1");
                        format!("/{}", utf8_percent_encode(&name, ESCAPED))
                    }).collect::<String>());
                    prop_assert!(whole.starts_with(begin), "{begin} {whole}");
                    let rest = &whole[begin.len()..];
                    prop_assert!(!begin.ends_with('%') && !begin[..begin.len() - 1].ends_with('%'), "{begin} {rest}");
                }
            }
        }
    }
}
