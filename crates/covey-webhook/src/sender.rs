//! Sends messages, one request each, and says what became of it.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use covey_core::Result;
use covey_core::id::UnixMs;
use covey_core::port::{BoxFuture, Clock};
use covey_core::record::Record;
use covey_core::webhook::address::AddressRule;
use covey_core::webhook::{Attempt, Endpoint, EndpointSpec, ProbeFault, WebhookSecret, WebhookSender};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::client::Clients;
use crate::error::WebhookError;
use crate::message::message;
use crate::resolver::{NameFault, Names, SystemNames};
use crate::secret;
use crate::target::target;

/// How many bytes of what is wrong with TLS are told, and stored with an attempt.
/// Limit for each attempt: the text ends there.
const PROBLEM_BYTES_MAX: usize = 500;
/// How long a receiver may take to answer a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);
/// How long it may take to answer a probe (rest-api "Webhooks").
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the rest of an answer is read, so that its connection can be used again.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of an answer is read, in bytes; of a longer one the connection is closed.
/// Limit for each request: the connection is closed; the status counts.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long whoever changes an endpoint waits until it is told as it is now.
/// Limit for each request: it is answered all the same.
const TAKEN_UP_MAX: Duration = Duration::from_secs(2);

/// What an operator decides of webhooks.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where messages may go.
    pub rule: AddressRule,
    /// More CA certificates, in PEM.
    pub ca_file: Option<PathBuf>,
}

/// Sends over HTTP.
pub struct HttpSender {
    clients: Clients,
    rule: Arc<AddressRule>,
    clock: Arc<dyn Clock>,
    changed: Notify,
    /// How often something was changed.
    changes: AtomicU64,
    /// How many of these are taken up; none while nobody tells.
    taken_up: watch::Sender<Option<u64>>,
}

/// Why a request brought no answer.
pub(crate) enum Fault {
    Timeout,
    Name(NameFault),
    Tls(String),
    Connect,
    Broken,
    Refused(covey_core::Error),
}

impl Fault {
    pub(crate) fn of(error: &reqwest::Error) -> Self {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(one) = cause {
            if let Some(name) = one.downcast_ref::<NameFault>() {
                return Self::Name(*name);
            }
            if let Some(tls) = one.downcast_ref::<rustls::Error>() {
                // A certificate has as many names as its owner likes, and the text all of them.
                let text = tls.to_string();
                return Self::Tls(text[..text.floor_char_boundary(PROBLEM_BYTES_MAX)].to_owned());
            }
            // An error of I/O hides what it carries from those who ask for its cause.
            let inner = one.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            cause = match inner {
                Some(inner) => Some(inner),
                None => one.source(),
            };
        }
        match () {
            () if error.is_timeout() => Self::Timeout,
            () if error.is_connect() => Self::Connect,
            () => Self::Broken,
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Timeout => "no answer within 15 seconds".to_owned(),
            Self::Name(fault) => fault.to_string(),
            Self::Tls(problem) => format!("no TLS connection: {problem}"),
            Self::Connect => "no connection".to_owned(),
            Self::Broken => "the connection broke".to_owned(),
            Self::Refused(error) => error.to_string(),
        }
    }
}

impl HttpSender {
    /// A sender.
    ///
    /// # Errors
    /// CA certificates that cannot be read, or a client that cannot be set up.
    pub fn new(options: &Options, clock: Arc<dyn Clock>) -> std::result::Result<Arc<Self>, WebhookError> {
        Self::with_names(options, clock, Arc::new(SystemNames))
    }

    pub(crate) fn with_names(
        options: &Options,
        clock: Arc<dyn Clock>,
        names: Arc<dyn Names>,
    ) -> std::result::Result<Arc<Self>, WebhookError> {
        let rule = Arc::new(options.rule.clone());
        let clients = Clients::new(&names, &rule, options.ca_file.as_deref())?;
        let (changed, changes, taken_up) = (Notify::new(), AtomicU64::new(0), watch::Sender::new(None));
        Ok(Arc::new(Self { clients, rule, clock, changed, changes, taken_up }))
    }

    /// How often something was changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// So many changes are taken up; none when nobody tells any more.
    pub(crate) fn take_up(&self, changes: Option<u64>) {
        self.taken_up.send_replace(changes);
    }

    /// Waits until endpoints, or what waits for them, were changed.
    pub(crate) async fn endpoints_changed(&self) {
        self.changed.notified().await;
    }

    fn client(&self, is_tls: bool) -> &Client {
        if is_tls { &self.clients.tls } else { &self.clients.plain }
    }

    async fn probe_once(&self, spec: &EndpointSpec) -> std::result::Result<(), ProbeFault> {
        let target = target(&spec.url.0, &self.rule).map_err(|_| ProbeFault::Forbidden)?;
        let mut request = self.client(target.is_tls).get(target.url);
        for (name, value) in &spec.headers.0 {
            request = request.header(name, value);
        }
        let response = match timeout(PROBE_TIMEOUT, request.send()).await {
            Err(_) => return Err(ProbeFault::Timeout),
            Ok(Err(error)) => {
                return Err(match Fault::of(&error) {
                    Fault::Timeout => ProbeFault::Timeout,
                    Fault::Name(NameFault::Unknown) => ProbeFault::Name,
                    Fault::Name(NameFault::Forbidden) => ProbeFault::Forbidden,
                    Fault::Tls(problem) => ProbeFault::Tls(problem),
                    Fault::Connect | Fault::Broken | Fault::Refused(_) => ProbeFault::Unreachable,
                });
            }
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        drain(response).await;
        // Receivers in the field know no GET, and answer with 404 or 405.
        if status.is_server_error() { Err(ProbeFault::Status(status.as_u16())) } else { Ok(()) }
    }

    async fn post(
        &self,
        endpoint: &Endpoint,
        record: &Record,
        id: &str,
        now: UnixMs,
    ) -> std::result::Result<Response, Fault> {
        let target = target(&endpoint.spec.url.0, &self.rule).map_err(Fault::Refused)?;
        let mut message = message(endpoint, &target.url, record, id);
        sign(&mut message.headers, endpoint, id, now, &message.body);
        let request =
            self.client(target.is_tls).post(message.url).headers(message.headers).body(message.body);
        match timeout(SEND_TIMEOUT, request.send()).await {
            Err(_) => Err(Fault::Timeout),
            Ok(answer) => answer.map_err(|error| Fault::of(&error)),
        }
    }
}

fn sign(headers: &mut HeaderMap, endpoint: &Endpoint, id: &str, now: UnixMs, body: &[u8]) {
    let signatures = secret::signatures(endpoint.secrets_at(now), id, now.seconds(), body);
    let values = [
        ("webhook-id", HeaderValue::try_from(id).ok()),
        ("webhook-timestamp", Some(HeaderValue::from(now.seconds()))),
        ("webhook-signature", HeaderValue::try_from(signatures).ok()),
    ];
    for (name, value) in values {
        headers.extend(value.map(|value| (HeaderName::from_static(name), value)));
    }
}

/// Reads the rest of an answer, within bounds.
async fn drain(mut response: Response) {
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            bytes += chunk.len();
            if bytes > ANSWER_BYTES_MAX {
                return;
            }
        }
    };
    // What does not end in time is closed.
    let _ = timeout(DRAIN_TIMEOUT, read).await;
}

/// What `Retry-After` asks for, in milliseconds (RFC 9110 §10.2.3).
fn asked_ms(response: &Response, now: UnixMs) -> Option<i64> {
    if !matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let until = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(i64::try_from(until.as_millis()).unwrap_or(i64::MAX).saturating_sub(now.0))
}

/// What a status that is no success means to whoever reads the log.
fn refusal(status: StatusCode) -> String {
    match status {
        StatusCode::GONE => {
            "status 410 Gone: if the receiver is gone for good, delete this webhook".to_owned()
        }
        status if status.is_redirection() => {
            format!("status {}: redirections are not followed; set the final URL", status.as_u16())
        }
        status => format!("status {}", status.as_u16()),
    }
}

impl WebhookSender for HttpSender {
    fn secret(&self) -> WebhookSecret {
        secret::new()
    }

    fn check(&self, url: &str, secret: Option<&WebhookSecret>) -> Result<()> {
        target(url, &self.rule)?;
        secret.map_or(Ok(()), secret::check)
    }

    fn probe(&self, spec: EndpointSpec) -> BoxFuture<'_, std::result::Result<(), ProbeFault>> {
        Box::pin(async move { self.probe_once(&spec).await })
    }

    fn send(&self, endpoint: Arc<Endpoint>, record: Arc<Record>, id: String) -> BoxFuture<'_, Attempt> {
        Box::pin(async move {
            let at = self.clock.now();
            let began_us = self.clock.monotonic_us();
            let sent = self.post(&endpoint, &record, &id, at).await;
            let took_us = self.clock.monotonic_us().saturating_sub(began_us);
            let duration_ms = i64::try_from(took_us / 1_000).unwrap_or(i64::MAX);
            let (status, error, asked_ms) = match sent {
                Ok(response) => {
                    let status = response.status();
                    let asked_ms = asked_ms(&response, at);
                    drain(response).await;
                    (Some(status.as_u16()), (!status.is_success()).then(|| refusal(status)), asked_ms)
                }
                Err(fault) => (None, Some(fault.text()), None),
            };
            Attempt { at, duration_ms, status, error: error.map(Arc::from), asked_ms, is_hopeless: false }
        })
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
    }

    fn taken_up(&self) -> BoxFuture<'_, ()> {
        let changes = self.changes();
        Box::pin(async move {
            let mut taken_up = self.taken_up.subscribe();
            let is_taken_up = taken_up.wait_for(|taken_up| taken_up.is_none_or(|count| count >= changes));
            // Whoever tells finds it with his next look in any case.
            let _ = timeout(TAKEN_UP_MAX, is_taken_up).await;
        })
    }
}

#[cfg(test)]
mod tests;
