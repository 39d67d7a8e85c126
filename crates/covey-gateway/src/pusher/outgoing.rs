//! The port through which requests over HTTP leave: webhooks of channels, readings of units, and the question for a
//! signature. Whoever implements it sees to it that they go to no address that the operator does not allow.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use url::Url;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// POST.
    Post,
    /// PUT without a body.
    Put,
}

/// A request.
#[derive(Clone, Debug)]
pub struct ToSend {
    /// What is asked.
    pub method: Method,
    /// Where.
    pub url: Url,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

/// The answer, of which no more was read than it takes.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
}

impl Answered {
    /// Whether it says that all is well.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

/// Who sends requests.
pub trait Outgoing: Send + Sync + 'static {
    /// Sends a request, and answers within some seconds: what came, or why nothing did.
    fn send(&self, request: ToSend) -> BoxFuture<'static, Result<Answered, String>>;
}
