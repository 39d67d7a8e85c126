//! The bodies of requests on the listener of microcontrollers: JSON objects, those of GET too.

use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use covey_core::id::Sn;
use covey_core::microcontroller::{Api as Call, Request as CallRequest};
use serde_json::value::RawValue;

use crate::microcontrollers::Shared;
use crate::problem::{Kind, Problem};

/// Largest body of a request, in bytes.
/// Limit for each request to the listener of microcontrollers: 413.
const BODY_BYTES_MAX: usize = 8 * 1024;
/// The member that names the device.
const DEVICE_NAME: &str = "device_name";

/// A body that was sent as JSON.
pub(super) struct JsonBody(Bytes);

impl FromRequest<Arc<Shared>> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<Shared>) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            // A page in a browser can send a form or text to everybody, and JSON only to whom lets it.
            return Err(Problem::new(
                Kind::Foreign,
                "the Content-Type of the request is not application/json",
            ));
        }
        let body = to_bytes(request.into_body(), BODY_BYTES_MAX).await;
        body.map(Self)
            .map_err(|_| Problem::new(Kind::TooLarge, "the body must be whole, and at most 8192 bytes"))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let essence = only.to_str().ok().and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The members of an object, in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Visitor).map(Members)
    }
}

/// The name of a device out of a body, and what else there is as a JSON object.
fn read(body: &JsonBody) -> Result<(Sn, String), Problem> {
    let not_json = |error: serde_json::Error| {
        Problem::new(Kind::NotJson, format!("the body is not such an object: {error}"))
    };
    let Members(members) = serde_json::from_slice(&body.0).map_err(not_json)?;
    let named = members.iter().rfind(|(name, _)| name == DEVICE_NAME);
    let (_, name) = named.ok_or(Problem::new(Kind::NotJson, "device_name is missing"))?;
    let name: String = serde_json::from_str(name.get())
        .map_err(|_| Problem::new(Kind::NotJson, "device_name must be a string"))?;
    let sn = Sn::parse(&name).map_err(|_| {
        Problem::new(Kind::NotJson, "device_name must be 1 to 64 characters of A-Z a-z 0-9 _ -")
    })?;
    let rest = members
        .iter()
        .filter(|(name, _)| name != DEVICE_NAME)
        .map(|(name, value)| serde_json::to_string(name).map(|name| format!("{name}:{}", value.get())));
    let rest: Vec<_> = rest.collect::<Result<_, _>>().map_err(not_json)?;
    Ok((sn, format!("{{{}}}", rest.join(","))))
}

/// The device that is called, and what it is to be told.
pub(super) fn read_call(call: Call, body: &JsonBody) -> Result<(Sn, CallRequest), Problem> {
    let (sn, parameters) = read(body)?;
    let request =
        CallRequest::read(call, Some(&parameters)).map_err(|why| Problem::new(Kind::NotJson, why))?;
    Ok((sn, request))
}

/// A body that names a device.
pub(super) struct NameBody(pub(super) Sn);

impl FromRequest<Arc<Shared>> for NameBody {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let body = JsonBody::from_request(request, shared).await?;
        Ok(Self(read(&body)?.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::response::IntoResponse;

    use super::*;

    fn called(call: Call, body: &str) -> Result<(String, String), u16> {
        let body = JsonBody(Bytes::copy_from_slice(body.as_bytes()));
        let read = read_call(call, &body).map_err(|problem| problem.into_response().status().as_u16());
        read.map(|(sn, request)| (sn.to_string(), request.parameters))
    }

    #[test]
    fn a_body_names_a_device_and_what_it_is_told() {
        let told = |name: &str, parameters: &str| Ok((name.to_owned(), parameters.to_owned()));
        let body = r#"{"device_name": "ft900device1", "number": "12", "value": 1}"#;
        assert_eq!(called(Call::SetGpio, body), told("ft900device1", r#"{"number": 12, "value": 1}"#));
        let body = "{\"number\": 12, \"device_name\": \"a\", \"device_name\": \"b\"}\n";
        assert_eq!(called(Call::GetGpio, body), told("b", r#"{"number": 12}"#));
        assert_eq!(called(Call::GetRtc, r#"{"device_name":"\u0061-1"}"#), told("a-1", "{}"));
        for bad in [
            "",
            "x",
            "[]",
            r#"["a"]"#,
            "{}",
            r#"{"device_name": 1}"#,
            r#"{"device_name": ""}"#,
            r#"{"device_name": "a/b"}"#,
            r#"{"device_name": "a.b"}"#,
            r#"{"device_name": "a"} x"#,
            r#"{"device_name": "a", "number": 1"#,
            r#"{"device_name": "a"}"#,
        ] {
            assert_eq!(called(Call::GetGpio, bad), Err(400), "{bad}");
        }
    }

    #[test]
    fn json_says_so() {
        let of = |types: &[&str]| {
            let mut headers = HeaderMap::new();
            for one in types {
                headers.append(CONTENT_TYPE, one.parse().unwrap());
            }
            is_json(&headers)
        };
        assert!(of(&["application/json"]) && of(&["Application/JSON; charset=utf-8"]));
        for bad in
            [vec![], vec!["text/plain"], vec!["application/jsonp"], vec!["application/json", "text/plain"]]
        {
            assert!(!of(&bad), "{bad:?}");
        }
    }
}
