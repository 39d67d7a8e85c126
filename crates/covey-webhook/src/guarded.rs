//! Requests of other parts of the server, such as a gateway's, that may go where webhooks may and nowhere else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use covey_core::webhook::address::AddressRule;
use reqwest::Body;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::timeout;

use crate::client::Clients;
use crate::error::WebhookError;
use crate::resolver::SystemNames;
use crate::sender::Fault;
use crate::target::target;

/// How long a receiver may take to answer a request of a gateway, in milliseconds.
/// Limit for each request: it counts as not answered.
const ANSWER_MS_MAX: u64 = 15_000;
/// How much of an answer to a gateway is read, in bytes.
/// Limit for each request: the rest is left, and the connection is closed.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// POST.
    Post,
    /// PUT.
    Put,
}

/// What came.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The body, as far as it was read.
    pub body: Vec<u8>,
}

/// Sends requests.
pub struct GuardedClient {
    clients: Clients,
    rule: Arc<AddressRule>,
}

impl GuardedClient {
    /// One that goes where this rule allows; certificates of the file are trusted, too.
    ///
    /// # Errors
    /// [`WebhookError`].
    pub fn new(rule: AddressRule, ca_file: Option<&Path>) -> Result<Self, WebhookError> {
        let rule = Arc::new(rule);
        Ok(Self { clients: Clients::new(&(Arc::new(SystemNames) as _), &rule, ca_file)?, rule })
    }

    /// Gets a document of at most so many bytes; of a longer one the rest is left.
    ///
    /// # Errors
    /// Why there is no answer, for people.
    pub async fn get(&self, url: &str, accept: &'static str, bytes_max: usize) -> Result<Answered, String> {
        let headers = [("accept", accept.to_owned())];
        self.request(reqwest::Method::GET, url, &headers, Vec::new(), bytes_max).await
    }

    /// Sends a request. One without a body has no `Content-Length`. No redirection is followed.
    ///
    /// # Errors
    /// Why there is no answer, for people.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> Result<Answered, String> {
        let method = match method {
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        self.request(method, url, headers, body, ANSWER_BYTES_MAX).await
    }

    async fn request(
        &self,
        method: reqwest::Method,
        url: &str,
        headers: &[(&'static str, String)],
        body: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Answered, String> {
        let target = target(url, &self.rule).map_err(|error| error.to_string())?;
        let client = if target.is_tls { &self.clients.tls } else { &self.clients.plain };
        let mut fields = HeaderMap::new();
        for (name, value) in headers {
            let value =
                HeaderValue::from_str(value).map_err(|_| format!("the header {name} cannot be sent"))?;
            fields.insert(HeaderName::from_static(name), value);
        }
        let mut request = client.request(method, target.url).headers(fields);
        if !body.is_empty() {
            request = request.body(Body::from(body));
        }
        let answering = async {
            let mut response = request.send().await.map_err(|error| Fault::of(&error).text())?;
            let (status, mut body) = (response.status().as_u16(), Vec::new());
            while let Ok(Some(chunk)) = response.chunk().await {
                let room = bytes_max - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() >= room {
                    break;
                }
            }
            Ok(Answered { status, body })
        };
        let answered = timeout(Duration::from_millis(ANSWER_MS_MAX), answering).await;
        answered.unwrap_or_else(|_| Err(Fault::Timeout.text()))
    }
}
