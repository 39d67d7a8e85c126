//! Where the keys of an issuer come from: a file, a URL, or what the issuer says of itself (OpenID Connect Discovery 1.0 §4).

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use serde_json::Value;
use url::{Host, Url};

use crate::key_set::{KEY_SET_BYTES_MAX, KeySet};

/// A document, or why there is none, for people.
pub type Fetched = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>>;

/// Where documents come from. One that is longer than [`KEY_SET_BYTES_MAX`] may be cut, and takes no time that has no end.
pub trait Fetch: Send + Sync + 'static {
    /// Gets what is at a URL.
    fn get(&self, url: Url) -> Fetched;
}

/// The same, where forms are sent as well.
pub trait Exchange: Fetch {
    /// Posts a form to a URL, with a header `Authorization` if there is one; answers the body, whatever the status.
    fn post_form(&self, url: Url, form: String, authorization: Option<String>) -> Fetched;
}

/// Where keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file: PEM, a JWK, or a set of them.
    File(PathBuf),
    /// A URL of a JWK or a set of them.
    Url(Url),
    /// The document of the issuer about itself at this URL, which names the URL of its keys.
    Discovery(Url),
}

impl KeySource {
    /// A file or a URL.
    ///
    /// # Errors
    /// What a URL must be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        Url::parse(text).ok().filter(is_safe).map(Self::Url).ok_or(Self::EXPECTED)
    }

    /// What an issuer says of itself, under its own URL.
    ///
    /// # Errors
    /// What the issuer must be.
    pub fn of_issuer(issuer: &str) -> Result<Self, &'static str> {
        let url = Url::parse(issuer).ok().filter(is_safe);
        let url =
            url.filter(|url| url.query().is_none() && url.fragment().is_none()).ok_or(Self::EXPECTED)?;
        let document = format!("{}/.well-known/openid-configuration", url.as_str().trim_end_matches('/'));
        Url::parse(&document).map(Self::Discovery).map_err(|_| Self::EXPECTED)
    }

    const EXPECTED: &str =
        "a URL that begins with https:// (http:// on loopback only), without a query for an issuer";

    /// What it is, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(url) | Self::Discovery(url) => url.to_string(),
        }
    }

    pub(crate) async fn read(&self, issuer: &str, fetch: &dyn Fetch) -> Result<KeySet, String> {
        let document = match self {
            Self::File(path) => read_file(path)?,
            Self::Url(url) => fetch.get(url.clone()).await?,
            Self::Discovery(url) => {
                let about = fetch.get(url.clone()).await?;
                fetch.get(keys_of(&about, issuer)?).await?
            }
        };
        KeySet::read(&document).map_err(|fault| format!("what is there {fault}"))
    }
}

/// No more of a file than may be used.
fn read_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut document = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(KEY_SET_BYTES_MAX as u64 + 1).read_to_end(&mut document).map_err(|error| error.to_string())?;
    Ok(document)
}

/// The URL of the keys, from an issuer's document about itself. Whoever serves another's document does not become that one (§4.3).
fn keys_of(about: &[u8], issuer: &str) -> Result<Url, String> {
    let about: Value = serde_json::from_slice(about).map_err(|_| "what is there is not JSON".to_owned())?;
    if about.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err("the document names another issuer".to_owned());
    }
    let url = about.get("jwks_uri").and_then(Value::as_str).and_then(|text| Url::parse(text).ok());
    url.filter(is_safe).ok_or_else(|| "the document names no jwks_uri that begins with https://".to_owned())
}

/// Whether nobody on the way can change what is at a URL.
pub(crate) fn is_safe(url: &Url) -> bool {
    let is_local = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.host().is_some() && (url.scheme() == "https" || url.scheme() == "http" && is_local)
}
