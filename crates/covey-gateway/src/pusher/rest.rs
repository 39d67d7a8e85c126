//! The REST API of an app, as server libraries of Pusher call it (Pusher, "HTTP API"): each request is signed with the app's
//! secret.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, Path, RawPathParams, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use covey_core::access::Caller;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::App;
use super::channel::{Channel, Kind, REQUESTS};
use super::channels::Counted;
use super::message::{EVENT_DATA_BYTES_MAX, EVENT_NAME_BYTES_MAX};
use super::requests::{UPDATE_REQUEST, UpdateRequest, Whose};
use super::signature::{is_same, md5_hex, of_request};
use super::web::{Shared, failed};
use crate::web::Held;

/// How far the time in a signature may be from the server's, in seconds.
/// Limit for each request: 401.
const TIMESTAMP_S_MAX: i64 = 600;
/// In how many channels an event may be published at once.
/// Limit for each event: 400.
const CHANNELS_PER_EVENT_MAX: usize = 100;
/// How many events a batch may have.
/// Limit for each batch: 400.
const BATCH_MAX: usize = 10;
/// How many parameters a request may have.
/// Limit for each request: 400.
const PARAMETERS_MAX: usize = 32;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let router = Router::new()
        .route("/apps/{id}/events", post(events))
        .route("/apps/{id}/batch_events", post(batch))
        .route("/apps/{id}/channels", get(channels))
        .route("/apps/{id}/channels/{channel}", get(channel))
        .route("/apps/{id}/channels/{channel}/users", get(users));
    router.with_state(shared)
}

/// Why a request is refused.
enum Refused {
    /// With this text.
    With(StatusCode, &'static str),
    /// As the server says.
    As(Box<Response>),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::With(status, text) => (status, format!("{text}\n")).into_response(),
            Self::As(response) => *response,
        }
    }
}

const fn bad(text: &'static str) -> Refused {
    Refused::With(StatusCode::BAD_REQUEST, text)
}

const fn unauthorised(text: &'static str) -> Refused {
    Refused::With(StatusCode::UNAUTHORIZED, text)
}

/// A request that the secret of an app has signed.
struct Signed {
    app: Arc<App>,
    owner: Caller,
    parameters: Vec<(String, String)>,
    body: Bytes,
    _running: Held,
}

impl Signed {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl FromRequest<Arc<Shared>> for Signed {
    type Rejection = Response;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let names = RawPathParams::from_request_parts(&mut parts, shared).await;
        let names = names.map_err(IntoResponse::into_response)?;
        let id = names.iter().find(|(name, _)| *name == "id").map_or("", |(_, id)| id).to_owned();
        let Ok(uri) = OriginalUri::from_request_parts(&mut parts, shared).await;
        let method = parts.method.clone();
        let body = Bytes::from_request(Request::from_parts(parts, body), shared).await;
        let body = body.map_err(IntoResponse::into_response)?;
        signed(shared, &id, &method, &uri, body).await.map_err(IntoResponse::into_response)
    }
}

/// Finds out whether the secret of an app has signed a request.
async fn signed(
    shared: &Shared,
    id: &str,
    method: &Method,
    OriginalUri(uri): &OriginalUri,
    body: Bytes,
) -> Result<Signed, Refused> {
    let query = uri.query().unwrap_or("");
    let parameters: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .take(PARAMETERS_MAX + 1)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    if parameters.len() > PARAMETERS_MAX {
        return Err(bad("a request has at most 32 parameters"));
    }
    let of = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let app = shared.pusher.app_of_id(id).ok_or(unauthorised("there is no app with this id"))?;
    if !of("auth_key").is_some_and(|key| is_same(key, &app.config.key)) {
        return Err(unauthorised("auth_key is not the key of this app"));
    }
    if of("auth_version") != Some("1.0") {
        return Err(unauthorised("auth_version must be 1.0"));
    }
    let signature = of("auth_signature").ok_or(unauthorised("auth_signature is missing"))?;
    let text = of_request(method.as_str(), uri.path(), &parameters);
    if !app.config.secret.has_signed(text.as_bytes(), signature) {
        return Err(unauthorised("auth_signature is not what the secret of this app gives for this request"));
    }
    let timestamp: i64 = of("auth_timestamp")
        .and_then(|text| text.parse().ok())
        .ok_or(unauthorised("auth_timestamp must be seconds since 1970"))?;
    let now_s = shared.pusher.parts.engine.now().0 / 1_000;
    if timestamp.abs_diff(now_s) > TIMESTAMP_S_MAX.unsigned_abs() {
        return Err(unauthorised("auth_timestamp is more than 600 s away from this server's time"));
    }
    let digest = of("body_md5");
    if (!body.is_empty() || digest.is_some()) && digest.is_none_or(|digest| !is_same(digest, &md5_hex(&body)))
    {
        return Err(unauthorised("body_md5 is not the MD5 digest of the body"));
    }
    let owner = shared.pusher.owner(app).await.map_err(|refusal| {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN);
        Refused::As(Box::new((status, format!("{}\n", refusal.text)).into_response()))
    })?;
    let running = shared.door.request(&owner).map_err(Refused::As)?;
    Ok(Signed { app: Arc::clone(app), owner, parameters, body, _running: running })
}

fn answer(json: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], json.to_string()).into_response()
}

/// What is asked of a channel beside whether it is occupied.
#[derive(Clone, Copy)]
struct Info {
    users: bool,
    subscriptions: bool,
}

impl Info {
    fn read(text: Option<&str>) -> Self {
        let has = |name| text.is_some_and(|text| text.split(',').any(|one| one.trim() == name));
        Self { users: has("user_count"), subscriptions: has("subscription_count") }
    }

    const fn is_wanted(self) -> bool {
        self.users || self.subscriptions
    }

    fn of(self, channel: &Channel, counted: Counted) -> Map<String, Value> {
        let mut said = Map::new();
        if self.users && channel.kind() == Kind::Presence {
            said.insert("user_count".to_owned(), counted.users.into());
        }
        if self.subscriptions {
            said.insert("subscription_count".to_owned(), counted.subscriptions.into());
        }
        said
    }
}

/// An event as a library sends it.
#[derive(Deserialize)]
struct Triggered {
    name: String,
    data: String,
    channel: Option<String>,
    channels: Option<Vec<String>>,
    socket_id: Option<String>,
    info: Option<String>,
}

/// An event that may be published.
struct Checked {
    name: String,
    data: String,
    channels: Vec<Channel>,
    socket_id: Option<String>,
    info: Option<String>,
}

impl Checked {
    /// What it asks of a unit.
    fn request(&self) -> Option<UpdateRequest> {
        let is_request =
            self.name == UPDATE_REQUEST && self.channels.iter().any(|channel| channel.as_str() == REQUESTS);
        is_request.then(|| UpdateRequest::parse(&self.data))?
    }
}

impl Triggered {
    fn check(self) -> Result<Checked, Refused> {
        let Self { name, data, channel, channels, socket_id, info } = self;
        let is_of_protocol = name.starts_with("pusher:") || name.starts_with("pusher_internal:");
        if !(1..=EVENT_NAME_BYTES_MAX).contains(&name.len()) || is_of_protocol {
            return Err(bad("name must be 1 to 200 bytes, and must not begin with pusher:"));
        }
        if data.len() > EVENT_DATA_BYTES_MAX {
            let text = "data must be at most 10240 bytes";
            return Err(Refused::With(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        let names = match (channel, channels) {
            (Some(channel), None) => vec![channel],
            (None, Some(channels)) => channels,
            _ => return Err(bad("give either channel or channels")),
        };
        if !(1..=CHANNELS_PER_EVENT_MAX).contains(&names.len()) {
            return Err(bad("an event is published in 1 to 100 channels"));
        }
        let channels = names.iter().map(|name| Channel::parse(name)).collect::<Result<Vec<_>, _>>();
        let channels = channels
            .map_err(|_| bad("a channel has a name of 1 to 200 characters of A-Z a-z 0-9 _ - = @ , . ;"))?;
        if channels.iter().any(Channel::is_ours) {
            let text = "Covey alone writes the channels private-device-*";
            return Err(Refused::With(StatusCode::FORBIDDEN, text));
        }
        Ok(Checked { name, data, channels, socket_id, info })
    }
}

/// Publishes events that were checked: first what they ask of units is stored, all of it or nothing, then all who are
/// subscribed are told.
async fn publish(shared: &Shared, signed: &Signed, events: &[Checked]) -> Result<(), Refused> {
    let requests: Vec<_> = events.iter().filter_map(Checked::request).collect();
    if let Err(error) = shared.pusher.request(&signed.owner, &requests, Whose::Anybodys).await {
        let units: Vec<_> = requests.iter().map(|request| &request.ip).collect();
        tracing::warn!(app = %signed.app.config.id, ?units, %error, "requests for units were not stored");
        return Err(Refused::As(Box::new(failed(&error))));
    }
    signed.app.change(|channels, effects| {
        for Checked { name, data, channels: told, socket_id, .. } in events {
            told.iter()
                .for_each(|channel| channels.publish(channel, name, data, socket_id.as_deref(), effects));
        }
    });
    Ok(())
}

async fn events(State(shared): State<Arc<Shared>>, signed: Signed) -> Result<Response, Refused> {
    let event: Triggered = serde_json::from_slice(&signed.body)
        .map_err(|_| bad("the body must be a JSON object with name, data (a string) and channels"))?;
    let event = event.check()?;
    let info = Info::read(event.info.as_deref());
    publish(&shared, &signed, std::slice::from_ref(&event)).await?;
    if !info.is_wanted() {
        return Ok(answer(&json!({})));
    }
    let state = signed.app.state();
    let told = event.channels.iter().map(|channel| {
        let said = info.of(channel, state.channels.counted(channel));
        (channel.as_str().to_owned(), Value::Object(said))
    });
    Ok(answer(&json!({"channels": told.collect::<Map<_, _>>()})))
}

#[derive(Deserialize)]
struct Batch {
    batch: Vec<Triggered>,
}

async fn batch(State(shared): State<Arc<Shared>>, signed: Signed) -> Result<Response, Refused> {
    let Batch { batch } = serde_json::from_slice(&signed.body)
        .map_err(|_| bad("the body must be a JSON object with batch, a list of events"))?;
    if batch.len() > BATCH_MAX {
        return Err(bad("a batch has at most 10 events"));
    }
    let events = batch.into_iter().map(Triggered::check).collect::<Result<Vec<_>, _>>()?;
    publish(&shared, &signed, &events).await?;
    if events.iter().all(|event| !Info::read(event.info.as_deref()).is_wanted()) {
        return Ok(answer(&json!({})));
    }
    let state = signed.app.state();
    let told = events.iter().map(|event| {
        let info = Info::read(event.info.as_deref());
        // One channel each.
        let said = event.channels.first().map(|channel| info.of(channel, state.channels.counted(channel)));
        Value::Object(said.unwrap_or_default())
    });
    Ok(answer(&json!({"batch": told.collect::<Vec<_>>()})))
}

async fn channels(signed: Signed) -> Result<Response, Refused> {
    let prefix = signed.parameter("filter_by_prefix").unwrap_or("");
    let info = Info::read(signed.parameter("info"));
    if info.users && !prefix.starts_with("presence-") {
        return Err(bad("user_count needs filter_by_prefix=presence-"));
    }
    let state = signed.app.state();
    let told = state
        .channels
        .occupied(prefix)
        .map(|(channel, counted)| (channel.as_str().to_owned(), Value::Object(info.of(channel, counted))));
    Ok(answer(&json!({"channels": told.collect::<Map<_, _>>()})))
}

fn named(name: &str) -> Result<Channel, Refused> {
    Channel::parse(name).map_err(|_| bad("there is no channel with such a name"))
}

async fn channel(Path((_, name)): Path<(String, String)>, signed: Signed) -> Result<Response, Refused> {
    let channel = named(&name)?;
    let info = Info::read(signed.parameter("info"));
    if info.users && channel.kind() != Kind::Presence {
        return Err(bad("user_count is known of presence channels alone"));
    }
    let counted = signed.app.state().channels.counted(&channel);
    let mut said = info.of(&channel, counted);
    said.insert("occupied".to_owned(), (counted.subscriptions > 0).into());
    Ok(answer(&Value::Object(said)))
}

async fn users(Path((_, name)): Path<(String, String)>, signed: Signed) -> Result<Response, Refused> {
    let channel = named(&name)?;
    if channel.kind() != Kind::Presence {
        return Err(bad("users are known of presence channels alone"));
    }
    let state = signed.app.state();
    let users: Vec<Value> = state.channels.members(&channel).map(|id| json!({"id": &**id})).collect();
    Ok(answer(&json!({"users": users})))
}
