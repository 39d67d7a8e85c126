//! What can go wrong with a request, said in terms of what the caller may do.

use std::borrow::Cow;
use std::path::PathBuf;

use covey_api::Problem;
use serde::Deserialize;

/// The result of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Longest part of an answer that is no problem document and is told all the
/// same, in characters.
const FOREIGN_TEXT_CHARS_MAX: usize = 200;

/// Why a request was not carried out, or why nobody knows whether it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Start a server, or say where one is.
    #[error("no server found in {}: start one with \"covey up\", or give --url and --key", data_dir.display())]
    NoServer {
        /// Where its addresses should be.
        data_dir: PathBuf,
    },
    /// Give access to the file, or say address and key another way.
    #[error("cannot read {}: give access to it, or give --url and --key", path.display())]
    LocalFile {
        /// A file of a server on this machine.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Start the server anew: what it wrote cannot be understood.
    #[error("{} does not say where the server is: start the server anew, or give --url and --key", path.display())]
    LocalAddresses {
        /// The file with the server's addresses.
        path: PathBuf,
    },
    /// Fix the address.
    #[error("{url:?} is not the address of a server: give one like https://covey.example:8443")]
    BaseUrl {
        /// The address that was given.
        url: String,
    },
    /// Fix the key: a header cannot carry it.
    #[error("the API key holds characters that no key has: give it in one line, as it was shown")]
    ApiKey,
    /// Fix the CA certificate.
    #[error("the CA certificate cannot be used: give one or more certificates in PEM")]
    Ca,
    /// Fix the certificates of this machine, or give a CA certificate.
    #[error("TLS cannot be set up: give the server's CA certificate with --ca")]
    Tls {
        /// What the TLS library says.
        source: rustls::Error,
    },
    /// Give up: the HTTP client could not be set up, or the request not be made.
    #[error("the request cannot be made")]
    Setup {
        /// What the HTTP library says.
        source: reqwest::Error,
    },
    /// Fix the request: it cannot be written, or holds no JSON where it should.
    #[error("the request holds no JSON where it should")]
    Request {
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Try again when the server can be reached: the request never left.
    #[error("no server answers at {url}")]
    Unreachable {
        /// The server's address.
        url: String,
        /// What the HTTP library says.
        source: reqwest::Error,
    },
    /// Give the CA certificate of the server, if it is the right server: the
    /// one that answers there is not trusted. The request never left.
    #[error("the certificate of {url} is not trusted")]
    Untrusted {
        /// The server's address.
        url: String,
        /// What the HTTP library says.
        source: reqwest::Error,
    },
    /// Look whether it was done before trying again, or try again with the same
    /// idempotency key: the connection ended before the answer came.
    #[error("the connection to {url} ended before the answer came")]
    Interrupted {
        /// The server's address.
        url: String,
        /// What the HTTP library says.
        source: reqwest::Error,
    },
    /// Fix the request; or, from status 429 and 503, try again later; from 507, first see to room on the
    /// server's disk.
    #[error("{detail} (HTTP {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The kind of the problem, in words.
        title: String,
        /// What is wrong, in words.
        detail: String,
        /// The field or parameter that is out of its range.
        field: Option<String>,
        /// Under which the request is found in the server's log.
        request_id: Option<String>,
    },
    /// Give up: this is no Covey server, or one of another version.
    #[error("the answer of {url} is not that of a Covey server: check the address")]
    Answer {
        /// The server's address.
        url: String,
        /// What cannot be understood.
        source: serde_json::Error,
    },
    /// Open it again: a stream has said nothing for too long.
    #[error("the stream of {url} has fallen silent; open it again with its cursor")]
    Silent {
        /// The server's address.
        url: String,
    },
    /// Ask for less: the answer is larger than a client takes.
    #[error("the answer of {url} is larger than {bytes_max} bytes: ask for a smaller page")]
    AnswerTooLarge {
        /// The server's address.
        url: String,
        /// The limit.
        bytes_max: usize,
    },
}

/// A problem document of somebody else, such as a proxy: every member may be missing (RFC 9457 §3.1).
#[derive(Default, Deserialize)]
#[serde(default)]
struct ForeignProblem {
    title: Option<String>,
    detail: Option<String>,
}

impl Error {
    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether there is no such thing, or it belongs to another organisation.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Reads a refusal. What stands between client and server may answer in
    /// its own way, so anything is taken.
    pub(crate) fn refused(status: u16, reason: &str, body: &[u8]) -> Self {
        if let Ok(Problem { title, detail, field, request_id, .. }) = serde_json::from_slice(body) {
            let (title, detail) = (title.into_owned(), detail.into_owned());
            let (field, request_id) = (field.map(Cow::into_owned), Some(request_id.into_owned()));
            return Self::Refused { status, title, detail, field, request_id };
        }
        let foreign: ForeignProblem = serde_json::from_slice(body).unwrap_or_default();
        let title = foreign.title.unwrap_or_else(|| reason.to_owned());
        let detail = foreign.detail.or_else(|| foreign_text(body)).unwrap_or_else(|| title.clone());
        Self::Refused { status, title, detail, field: None, request_id: None }
    }

    /// Sorts what the HTTP library says by what it means for the caller.
    pub(crate) fn from_transport(url: &str, source: reqwest::Error) -> Self {
        let url = url.to_owned();
        // The address is told by us; the library would tell it again, with its query.
        let source = source.without_url();
        if source.is_builder() {
            Self::Setup { source }
        } else if source.is_connect() && causes(&source).any(is_about_certificate) {
            Self::Untrusted { url, source }
        } else if source.is_connect() {
            Self::Unreachable { url, source }
        } else {
            Self::Interrupted { url, source }
        }
    }

    /// What lies at the bottom of it, in the words of the system or of TLS.
    #[must_use]
    pub fn root_cause(&self) -> Option<String> {
        causes(self).skip(1).last().map(ToString::to_string)
    }

    /// Whether nobody listened at the address, so that the request cannot have
    /// arrived anywhere.
    pub(crate) fn is_connection_refused(&self) -> bool {
        let Self::Unreachable { source, .. } = self else { return false };
        causes(source)
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|io| io.kind() == std::io::ErrorKind::ConnectionRefused)
    }
}

type Cause<'a> = &'a (dyn std::error::Error + 'static);

/// An error and what is below it, topmost first.
fn causes(error: Cause<'_>) -> impl Iterator<Item = Cause<'_>> {
    std::iter::successors(Some(error), |error| match error.downcast_ref::<std::io::Error>() {
        // What an I/O error wraps is not its source but beside it.
        Some(io) => io.get_ref().map(|inner| inner as Cause<'_>),
        None => error.source(),
    })
}

fn is_about_certificate(cause: Cause<'_>) -> bool {
    matches!(cause.downcast_ref::<rustls::Error>(), Some(rustls::Error::InvalidCertificate(_)))
}

/// The beginning of a plain text; a page of HTML says nothing in a terminal.
fn foreign_text(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_plain = !text.is_empty() && !text.starts_with(['<', '{', '[']);
    is_plain.then(|| text.chars().take(FOREIGN_TEXT_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &str) -> (String, Option<String>, Option<String>) {
        match Error::refused(422, "Unprocessable Entity", body.as_bytes()) {
            Error::Refused { detail, field, request_id, .. } => (detail, field, request_id),
            other => (other.to_string(), None, None),
        }
    }

    #[test]
    fn a_problem_document_is_told_with_field_and_request() {
        let body = r#"{"type":"urn:covey:problem:invalid","title":"A value is out of its range or form",
            "status":422,"detail":"ttl: must be 0 to 44639 minutes","field":"ttl","request_id":"r-1","more":[1]}"#;
        let field = Some("ttl".to_owned());
        assert_eq!(told(body), ("ttl: must be 0 to 44639 minutes".to_owned(), field, Some("r-1".to_owned())));
    }

    #[test]
    fn a_refusal_that_is_no_problem_document_is_told_all_the_same() {
        let plain = |text: &str| (text.to_owned(), None, None);
        assert_eq!(told("too busy\n"), plain("too busy"));
        assert_eq!(told(r#"{"title":"Too busy"}"#), plain("Too busy"));
        for nothing in ["", "<html><body>502</body></html>", "{", "[]", r#"{"detail":7}"#, "\u{0}"] {
            let (detail, _, _) = told(nothing);
            assert!(detail == "Unprocessable Entity" || detail == "\u{0}", "{nothing:?}: {detail:?}");
        }
        let bytes = Error::refused(502, "Bad Gateway", &[0xff, 0xfe]);
        assert_eq!(bytes.to_string(), "Bad Gateway (HTTP 502)");
        assert!(told(&"x".repeat(10_000)).0.len() <= FOREIGN_TEXT_CHARS_MAX);
    }
}
