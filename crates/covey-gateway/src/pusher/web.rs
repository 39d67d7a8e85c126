//! The routes that do not belong to signed REST: the WebSocket of clients, the endpoint that signs for them, and what a base
//! unit tells of its units.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts as Head;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use covey_core::access::{Caller, KeyBounds, Rights};
use covey_core::error::Error;
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::sync::Semaphore;

use super::channel::{Channel, Kind, REQUESTS};
use super::error::Refusal;
use super::signature::of_subscription;
use super::{App, Pusher, session, socket};
use crate::web::{Door, Held, upgrade};

/// How many Pusher clients may be told at a time why they may not connect.
/// Limit for the server: 503 without a reason.
const REFUSED_MAX: usize = 256;
/// What the path of a reading begins with, with and without the prefix of a dashboard's API.
const READING: &str = "/webhook/update-unit/";

/// What all routes share.
pub(super) struct Shared {
    pub(super) pusher: Arc<Pusher>,
    pub(super) door: Arc<dyn Door>,
    refused: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(pusher: Arc<Pusher>, door: Arc<dyn Door>) -> Self {
        Self { pusher, door, refused: Arc::new(Semaphore::new(REFUSED_MAX)) }
    }
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let router = Router::new()
        .route("/app/{key}", get(connect))
        .route("/webhook/update-unit/{unit}/{*value}", put(reading))
        .route("/api/webhook/update-unit/{unit}/{*value}", put(reading))
        .route("/broadcasting/auth", post(sign))
        .route("/api/broadcasting/auth", post(sign));
    router.with_state(shared)
}

/// A caller by its credential, with its place among the requests that run.
pub(super) struct Visitor(Caller, #[allow(dead_code)] Held);

impl FromRequestParts<Arc<Shared>> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Head, shared: &Arc<Shared>) -> Result<Self, Response> {
        let (caller, held) = shared.door.visitor(head, false).await?;
        Ok(Self(caller, held))
    }
}

/// A client connects. Why it may not is said over the WebSocket, as the protocol has it.
async fn connect(State(shared): State<Arc<Shared>>, Path(key): Path<String>, request: Request) -> Response {
    let pusher = &shared.pusher;
    if !upgrade::is_wanted(request.headers()) {
        let hint = [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade")];
        return (StatusCode::UPGRADE_REQUIRED, hint, "Pusher clients connect here with a WebSocket\n")
            .into_response();
    }
    // The request itself is of one thread.
    let query = request.uri().query().unwrap_or("").to_owned();
    let let_in = async {
        let app = pusher.by_key.get(&key).ok_or(Refusal::NO_APP)?;
        session::check_protocol(&query)?;
        let owner = pusher.owner(app).await?;
        let held = shared.door.stream(&owner).map_err(|_| Refusal::TOO_MANY)?;
        Ok::<_, Refusal>((Arc::clone(app), held))
    };
    let let_in = let_in.await;
    let address = shared.door.address(request.extensions());
    let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
    let pusher = Arc::clone(pusher);
    let tasks = pusher.tasks.clone();
    match let_in {
        Ok((app, held)) => upgrade::accept(request, socket::config(), &tasks, move |websocket| {
            socket::serve(pusher, app, websocket, address, held)
        }),
        Err(refusal) => {
            tracing::info!(%address, code = refusal.code, "a Pusher client may not connect: {}", refusal.text);
            let Ok(place) = Arc::clone(&shared.refused).try_acquire_owned() else {
                return (StatusCode::SERVICE_UNAVAILABLE, "too many may not connect\n").into_response();
            };
            upgrade::accept(request, socket::config(), &tasks, async move |websocket| {
                socket::refuse(websocket, refusal).await;
                drop(place);
            })
        }
    }
}

/// What an error of the core is in HTTP, as JSON that Laravel's clients show.
pub(super) fn failed(error: &Error) -> Response {
    let status = match error {
        Error::Invalid { .. } => StatusCode::BAD_REQUEST,
        Error::NotFound { .. } => StatusCode::NOT_FOUND,
        Error::Conflict { .. } | Error::SnTaken | Error::LastKey | Error::Precondition { .. } => {
            StatusCode::CONFLICT
        }
        Error::Gone { .. } => StatusCode::GONE,
        Error::Forbidden { .. } | Error::NotGranted { .. } => StatusCode::FORBIDDEN,
        Error::Exhausted { .. } | Error::OverQuota { .. } | Error::OverBudget { .. } => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Error::TookTooLong | Error::Blocked | Error::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
    };
    said(status, &error.to_string())
}

fn said(status: StatusCode, text: &str) -> Response {
    let mut response = (status, json!({"message": text}).to_string()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// `PUT …/webhook/update-unit/{unit}/{value}`: 204 when the value is stored. Base units send it without encoding it.
async fn reading(
    State(shared): State<Arc<Shared>>,
    Visitor(caller, _running): Visitor,
    request: Request,
) -> Response {
    let Some((unit, value)) = reading_in(request.uri().path(), request.uri().query()) else {
        return said(StatusCode::BAD_REQUEST, "unit and value must be UTF-8, and neither may be empty");
    };
    match shared.pusher.reading(&caller, &unit, &value).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            tracing::info!(%unit, %error, "a reading of a unit was refused");
            failed(&error)
        }
    }
}

/// Unit and value of a path. What a sender did not encode is what it is: a percent sign that begins nothing, a slash, a
/// question mark.
fn reading_in(path: &str, query: Option<&str>) -> Option<(String, String)> {
    let (_, rest) = path.split_once(READING)?;
    let (unit, value) = rest.split_once('/')?;
    let raw = match query {
        None => value.to_owned(),
        Some(query) => format!("{value}?{query}"),
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
    let (unit, value) = (decoded(unit)?, decoded(&raw)?);
    (!unit.is_empty() && !value.is_empty()).then_some((unit, value))
}

/// `POST …/broadcasting/auth`: signs a subscription for whoever has a key of the app's organisation that may read it.
async fn sign(
    State(shared): State<Arc<Shared>>,
    Visitor(caller, _running): Visitor,
    body: Bytes,
) -> Response {
    let mut channel_name = None;
    let mut socket_id = None;
    for (name, value) in form_urlencoded::parse(&body) {
        match &*name {
            "channel_name" => channel_name = Some(value.into_owned()),
            "socket_id" => socket_id = Some(value.into_owned()),
            _ => {}
        }
    }
    let (Some(channel), Some(socket_id)) = (channel_name, socket_id) else {
        return said(StatusCode::BAD_REQUEST, "send channel_name and socket_id as a form");
    };
    match shared.pusher.sign(&caller, &channel, &socket_id).await {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body)
            .into_response(),
        Err(refusal) => {
            tracing::info!(key = %caller.name, %channel, "a subscription was not signed: {}", refusal.text);
            let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN);
            said(status, &refusal.text)
        }
    }
}

impl Pusher {
    /// The answer that opens a channel for a connection, as JSON.
    async fn sign(&self, caller: &Caller, channel: &str, socket_id: &str) -> Result<String, Refusal> {
        let channel = Channel::parse(channel).map_err(|_| Refusal::NO_CHANNEL)?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_socket_id = socket_id
            .split_once('.')
            .is_some_and(|(one, other)| is_number(one) && is_number(other) && socket_id.len() <= 64);
        if !is_socket_id {
            return Err(Refusal::no_message("socket_id must be as pusher:connection_established has it"));
        }
        // The subscription lasts as long as its connection, wherever that is from.
        if caller.bounds != KeyBounds::default() {
            return Err(Refusal::KEY_BOUND);
        }
        let wanted = if channel.as_str() == REQUESTS { Rights::TASKS_READ } else { Rights::EVENTS_READ };
        caller.require(wanted).map_err(|_| Refusal::KEY_FORBIDDEN)?;
        if channel.is_ours() {
            self.may_hear(caller, &channel).await?;
        }
        let app = self.app_for(caller, socket_id).await.ok_or(Refusal::NO_APP_OF_KEY)?;
        let (key, secret) = (&app.config.key, &app.config.secret);
        let signed = |data: Option<&str>| {
            format!("{key}:{}", secret.sign(of_subscription(socket_id, channel.as_str(), data).as_bytes()))
        };
        Ok(match channel.kind() {
            Kind::Public | Kind::Private => json!({"auth": signed(None)}),
            Kind::Presence => {
                let user_info = json!({"name": &*caller.name});
                let data = json!({"user_id": caller.id.0.to_string(), "user_info": user_info}).to_string();
                json!({"auth": signed(Some(&data)), "channel_data": data})
            }
        }
        .to_string())
    }

    /// The app of the caller's organisation that has this connection; else, as another server may have it, the only one
    /// that the organisation has.
    async fn app_for(&self, caller: &Caller, socket_id: &str) -> Option<&Arc<App>> {
        let mut of_org = Vec::new();
        for app in self.by_key.values() {
            if self.owner(app).await.is_ok_and(|owner| owner.org == caller.org) {
                of_org.push(app);
            }
        }
        let has = |app: &&Arc<App>| app.state().channels.has(socket_id);
        match (of_org.iter().copied().find(has), &of_org[..]) {
            (None, [only]) => Some(only),
            (found, _) => found,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reading_is_taken_encoded_and_raw() {
        for (path, query, unit, value) in [
            ("/webhook/update-unit/192.0.2.7/512", None, "192.0.2.7", "512"),
            ("/api/webhook/update-unit/192.0.2.7/%2300ff00", None, "192.0.2.7", "#00ff00"),
            ("/webhook/update-unit/::1/a%20b", None, "::1", "a b"),
            ("/webhook/update-unit/%3A%3A1/50%", None, "::1", "50%"),
            ("/webhook/update-unit/a/1/2", None, "a", "1/2"),
            ("/webhook/update-unit/a/1%2F2", None, "a", "1/2"),
            ("/webhook/update-unit/a/1+1", Some("x=%20"), "a", "1+1?x= "),
        ] {
            assert_eq!(reading_in(path, query), Some((unit.to_owned(), value.to_owned())), "{path}");
        }
        for bad in ["/webhook/update-unit//1", "/webhook/update-unit/a/", "/webhook/update-unit/a/%ff"] {
            assert_eq!(reading_in(bad, None), None, "{bad}");
        }
    }
}
