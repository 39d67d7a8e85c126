//! The client: whom it speaks to, and the one way that every request takes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderValue, IF_MATCH};
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::local::LocalServer;
use crate::transport;

/// How long a request that does not wait may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long to wait between two attempts at a server that refuses connections.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// Repeating a request with the same key does nothing twice (rest-api "Tasks").
const IDEMPOTENCY_KEY_HEADER: &str = "idempotency-key";

/// A client of one server, under one API key. Cheap to clone; clones share
/// their connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Arc<Url>,
    refused_retry: Duration,
}

/// Shows whom it speaks to, and never the key.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server at `base_url`, such as `https://covey.example:8443`
    /// (with or without `/api/v1`).
    ///
    /// With `ca_pem` only servers whose certificate comes from that CA are
    /// believed; without it, those that this machine believes. A token (JWT) may stand in
    /// place of the key. An empty `api_key` sends none, which is enough for [`Client::ready`], and over plain
    /// HTTP for [`Client::metrics`].
    ///
    /// # Errors
    /// [`Error::BaseUrl`], [`Error::ApiKey`], [`Error::Ca`] or [`Error::Tls`].
    pub fn new(base_url: &str, api_key: &str, ca_pem: Option<&str>) -> Result<Self> {
        let base = transport::base_url(base_url)?;
        let http = transport::http_client(&base, api_key, ca_pem)?;
        Ok(Self { http, base: Arc::new(base), refused_retry: Duration::ZERO })
    }

    /// A client of the server that runs on this machine with this data
    /// directory, under its first API key.
    ///
    /// # Errors
    /// [`Error::NoServer`] if none runs there, and those of [`LocalServer`].
    pub fn local(data_dir: impl AsRef<Path>) -> Result<Self> {
        let server = LocalServer::find(data_dir)?;
        let key = server.admin_key()?;
        Self::of_local(&server, &key)
    }

    /// A client of a server on this machine, under the given API key.
    ///
    /// # Errors
    /// Those of [`Client::new`] and [`LocalServer`].
    pub fn of_local(server: &LocalServer, api_key: &str) -> Result<Self> {
        let base_url = server.base_url()?;
        let ca_pem = base_url.starts_with("https:").then(|| server.ca_pem()).transpose()?;
        Self::new(base_url, api_key, ca_pem.as_deref())
    }

    /// Tries again, for this long, when the server refuses connections: it is
    /// being started. No request can have arrived then, so none is done twice.
    #[must_use]
    pub fn with_refused_retry(mut self, at_most: Duration) -> Self {
        self.refused_retry = at_most;
        self
    }

    /// The server's address, without the path of the API.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Begins a request for a path of the server, each segment as it is meant.
    pub(crate) fn request(&self, method: Method, path: &[&str]) -> Request<'_> {
        let mut url = (*self.base).clone();
        // Fails only for addresses that cannot be a base, which are refused above.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let timeout = REQUEST_TIMEOUT;
        Request { client: self, method, url, body: Ok(None), idempotency_key: None, if_match: None, timeout }
    }
}

/// A request that is being put together.
pub(crate) struct Request<'a> {
    client: &'a Client,
    method: Method,
    url: Url,
    body: Result<Option<Vec<u8>>, serde_json::Error>,
    idempotency_key: Option<&'a str>,
    if_match: Option<&'a str>,
    timeout: Duration,
}

/// An answer that is no refusal.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) is_replayed: bool,
    pub(crate) total_count: Option<u64>,
    base_url: String,
    body: Vec<u8>,
}

impl<'a> Request<'a> {
    /// Adds a parameter.
    pub(crate) fn query(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.url.query_pairs_mut().append_pair(name, &value.to_string());
        self
    }

    /// Adds a parameter if there is a value for it.
    pub(crate) fn query_if(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Gives it a body of JSON.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(body).map(Some);
        self
    }

    /// Makes it one that can be repeated without doing anything twice.
    pub(crate) fn idempotency_key(mut self, key: Option<&'a str>) -> Self {
        self.idempotency_key = key;
        self
    }

    /// Makes it conditional (RFC 9110 §13.1.1).
    pub(crate) fn if_match(mut self, etag: Option<&'a str>) -> Self {
        self.if_match = etag;
        self
    }

    /// Asks the server to answer when the task is final, for at most this long.
    pub(crate) fn wait(mut self, wait_s: u64) -> Self {
        self.timeout += Duration::from_secs(wait_s);
        self.query("wait", wait_s)
    }

    /// Sends it, and reads the answer whole.
    pub(crate) async fn send(self) -> Result<Answer> {
        let client = self.client;
        let base_url = client.base_url();
        let timeout = self.timeout;
        let response = self.accepted(Some(timeout)).await?;
        let status = response.status();
        let is_replayed = response.headers().contains_key("idempotent-replayed");
        let total_count = response.headers().get("x-total-count");
        let total_count =
            total_count.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        let body = read_body(response, base_url).await?;
        Ok(Answer { status, is_replayed, total_count, base_url: base_url.to_owned(), body })
    }

    /// Sends it, and leaves the answer to be read as it comes: it may never end.
    pub(crate) async fn open(self) -> Result<reqwest::Response> {
        self.accepted(None).await
    }

    /// Sends it, and makes an error of a refusal.
    async fn accepted(self, timeout: Option<Duration>) -> Result<reqwest::Response> {
        let client = self.client;
        let base_url = client.base_url();
        let mut builder = client.http.request(self.method, self.url);
        if let Some(timeout) = timeout {
            builder = builder.timeout(timeout);
        }
        if let Some(body) = self.body.map_err(|source| Error::Request { source })? {
            builder = builder.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        }
        if let Some(key) = self.idempotency_key {
            builder = builder.header(IDEMPOTENCY_KEY_HEADER, key);
        }
        if let Some(etag) = self.if_match {
            builder = builder.header(IF_MATCH, etag);
        }
        let request = builder.build().map_err(|source| Error::from_transport(base_url, source))?;
        let response = client.execute(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let reason = status.canonical_reason().unwrap_or("refused");
        let body = read_body(response, base_url).await?;
        Err(Error::refused(status.as_u16(), reason, &body))
    }
}

impl Client {
    async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response> {
        let until = Instant::now() + self.refused_retry;
        let mut next = Some(request);
        while let Some(request) = next.take() {
            let again = if self.refused_retry.is_zero() { None } else { request.try_clone() };
            let error = match self.http.execute(request).await {
                Ok(response) => return Ok(response),
                Err(source) => Error::from_transport(self.base_url(), source),
            };
            if again.is_none() || !error.is_connection_refused() || Instant::now() >= until {
                return Err(error);
            }
            tokio::time::sleep(REFUSED_PAUSE).await;
            next = again;
        }
        // Not reached: the loop goes on only with a request.
        Err(Error::BaseUrl { url: self.base_url().to_owned() })
    }
}

async fn read_body(mut response: reqwest::Response, base_url: &str) -> Result<Vec<u8>> {
    let announced = response.content_length().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
    let mut body = Vec::with_capacity(announced.min(ANSWER_BYTES_MAX));
    let failed = |source| Error::from_transport(base_url, source);
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Error::AnswerTooLarge { url: base_url.to_owned(), bytes_max: ANSWER_BYTES_MAX });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

impl Answer {
    /// Reads the body as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|source| Error::Answer { url: self.base_url.clone(), source })
    }

    /// Reads the body as text.
    pub(crate) fn into_text(self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
