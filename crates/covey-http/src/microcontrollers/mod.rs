//! The calls of microcontrollers over HTTP, on a listener of its own, for client programs that know nothing of tasks
//! (`docs/mcu-http.md`). Each call is a task; each answer has a length.

mod bounds;
mod guard;
mod request;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};
use covey_core::access::{Caller, Rights};
use covey_core::error::{Error, StorageFault};
use covey_core::id::{OrgId, Sn};
use covey_core::microcontroller::{ANSWER_MS_MAX, Api as Call};
use covey_core::task::{TaskDetail, TaskStatus};
use serde::Serialize;

use crate::api::Api;
use crate::app::App;
use crate::microcontrollers::bounds::{Bounds, Full};
use crate::microcontrollers::guard::guard;
pub use crate::microcontrollers::guard::{Hosts, Key};
use crate::microcontrollers::request::{NameBody, read_call};
use crate::problem::{Answer, Kind, Problem};
use crate::request_middleware::request_middleware;
use crate::wire::json;

/// As whom it makes tasks and devices.
const CALLER_NAME: &str = "mcu-http";
/// How much later than the end of a task its caller is answered that nobody else has told of it, in milliseconds.
const SLACK_MS: u64 = 50;

/// What the listener is to be.
pub struct Options {
    /// The organisation whose microcontrollers these are.
    pub org: OrgId,
    /// The hosts under which the listener is reached.
    pub hosts: Hosts,
    /// The key that requests must show, if any.
    pub key: Option<Key>,
}

/// The state that its handlers share.
struct Shared {
    api: Arc<Api>,
    caller: Caller,
    hosts: Hosts,
    key: Option<Key>,
    bounds: Arc<Bounds>,
}

impl App {
    /// The calls of microcontrollers alone, for a listener of their own.
    #[must_use]
    pub fn microcontrollers(&self, options: Options) -> Self {
        let Options { org, hosts, key } = options;
        let rights = Rights(Rights::DEVICES_READ.0 | Rights::DEVICES_WRITE.0 | Rights::TASKS_WRITE.0);
        let caller = Caller::server(org, CALLER_NAME, rights);
        let api = Arc::clone(&self.api);
        let shared = Arc::new(Shared { api, caller, hosts, key, bounds: Arc::default() });
        let router = Call::ALL.into_iter().fold(Router::new(), |router, call| {
            let handler = match call {
                Call::GetGpio | Call::GetRtc | Call::GetStatus => get(call_device),
                Call::SetGpio | Call::SetRtc | Call::SetStatus => post(call_device),
            };
            router.route(&format!("/{}", call.name()), handler.layer(Extension(call)))
        });
        let router = router
            .route("/", get(async || text("Hello, World!")))
            .route("/register_device", post(register))
            .route("/unregister_device", post(unregister))
            .fallback(async || Problem::new(Kind::NotFound, "there is nothing at this path"))
            .method_not_allowed_fallback(async || {
                Problem::new(Kind::MethodNotAllowed, "the header Allow names the methods of this path")
            })
            .layer(from_fn_with_state(Arc::clone(&shared), guard))
            .layer(from_fn_with_state(Arc::clone(&self.api), request_middleware))
            .with_state(shared);
        Self { router, api: Arc::clone(&self.api) }
    }
}

/// What a device needs to connect.
#[derive(Serialize)]
struct Registered<'a> {
    /// Its certificate and that of the CA that issued it, in PEM.
    cert: &'a str,
    /// Its private key, in PEM.
    pkey: &'a str,
    /// What it trusts, in PEM.
    ca: &'a str,
}

/// Registers a device, or gives one that is registered another certificate.
async fn register(State(shared): State<Arc<Shared>>, NameBody(sn): NameBody) -> Answer {
    let engine = &shared.api.engine;
    engine.for_caller(&shared.caller).microcontroller_may_register(&sn).await?;
    shared.bounds.registration(engine.now())?;
    // One key at a time: each takes as much of a processor as there is.
    let _turn = shared.bounds.key_turn().await;
    let making = (Arc::clone(engine), shared.caller.clone(), sn.clone());
    let issued = tokio::task::spawn_blocking(move || {
        let (engine, caller, sn) = making;
        engine.for_caller(&caller).microcontroller_certificate(&sn)
    });
    let issued = issued.await.unwrap_or(Err(Error::from(StorageFault::Stopped)))?;
    engine.for_caller(&shared.caller).microcontroller_register(sn.clone(), &issued).await?;
    tracing::info!(%sn, serial = issued.record.serial_hex, "a microcontroller was registered");
    let pkey = issued.private_key_pem.as_deref().unwrap_or_default();
    Ok(json(StatusCode::OK, &Registered { cert: &issued.certificate_pem, pkey, ca: &issued.ca_pem }))
}

/// Retires a device.
async fn unregister(State(shared): State<Arc<Shared>>, NameBody(sn): NameBody) -> Answer {
    shared.api.engine.for_caller(&shared.caller).microcontroller_retire(sn).await?;
    Ok(text("unregister_device"))
}

/// Calls a device, and answers what it answers.
async fn call_device(
    State(shared): State<Arc<Shared>>,
    Extension(call): Extension<Call>,
    body: request::JsonBody,
) -> Answer {
    let (sn, request) = read_call(call, &body)?;
    drop(body);
    let _place = shared.bounds.call(&sn)?;
    let engine = shared.api.engine.for_caller(&shared.caller);
    let device = engine.microcontroller(&sn).await?;
    let called = engine.microcontroller_call(shared.api.engine.task_id(), &device, request)?;
    let until = Duration::from_millis(u64::try_from(ANSWER_MS_MAX).unwrap_or_default() + SLACK_MS);
    let ended = tokio::select! {
        biased;
        ended = called.ended() => ended,
        () = tokio::time::sleep(until) => None,
        () = shared.api.shutdown.cancelled() => {
            return Err(Problem::new(Kind::Unavailable, "the server is stopping"));
        }
    };
    match ended {
        Some(detail) => answer_of(&detail, &sn),
        None => {
            // What kept it from being made, if anything did.
            called.created().await.map_err(|error| match error {
                Error::NotFound { .. } => Problem::new(Kind::Conflict, "the microcontroller was retired"),
                error => Problem::from(error),
            })?;
            Err(unanswered(&sn))
        }
    }
}

fn unanswered(sn: &Sn) -> Problem {
    Problem::new(Kind::NoAnswer, format!("{sn} is not connected, or did not answer within 5 s"))
}

/// What a device has answered, byte for byte.
fn answer_of(detail: &TaskDetail, sn: &Sn) -> Answer {
    let Some(stored) = detail.results.first().filter(|_| detail.task.status != TaskStatus::Expired) else {
        return Err(match detail.task.status {
            TaskStatus::Expired => unanswered(sn),
            _ => Problem::new(Kind::Conflict, "the task of the call was deleted"),
        });
    };
    let (status, body) = (stored.result.status_code, stored.result.body.text());
    if detail.task.status == TaskStatus::Done {
        return Ok(with_type("application/json", body.to_owned()));
    }
    Err(match status {
        400 => Problem::new(Kind::NotJson, body.to_owned()),
        _ => Problem::new(Kind::NoAnswer, format!("{sn}: {body}")),
    })
}

fn text(body: &'static str) -> Response {
    with_type("text/plain; charset=utf-8", body)
}

fn with_type(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        match full {
            Full::Calls => Self::new(Kind::Unavailable, "there are too many calls under way"),
            Full::CallsOfDevice => {
                Self::new(Kind::LimitReached, "there are too many calls of this device under way")
            }
            Full::Registrations => {
                Self::new(Kind::LimitReached, "there were too many registrations in a minute")
            }
        }
    }
}
