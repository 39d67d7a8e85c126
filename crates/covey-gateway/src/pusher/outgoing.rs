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

/// A URL as it may stand in a log: what follows its path, or stands before its host, may be a credential.
pub(super) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// Who sends requests.
pub trait Outgoing: Send + Sync + 'static {
    /// Sends a request, and answers within some seconds: what came, or why nothing did.
    fn send(&self, request: ToSend) -> BoxFuture<'static, Result<Answered, String>>;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_a_credential() {
        for (url, expected) in [
            ("https://hooks.example/a/b?token=secret", "https://hooks.example/a/b"),
            ("https://user:secret@hooks.example:8443/#secret", "https://hooks.example:8443/"),
            ("http://[2001:db8::1]:80/a?secret", "http://[2001:db8::1]/a"),
        ] {
            assert_eq!(shown(&Url::parse(url).unwrap()), expected);
        }
    }
}
