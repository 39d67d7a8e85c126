//! The file of `--pusher`: the apps of this server, and the services of others at which it takes a base unit's place. It may
//! be the `config.json` of a base unit.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use super::signature::Secret;

/// Largest file of `--pusher`, in bytes.
/// Limit for the server: the file is refused.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How many Pusher apps there may be.
/// Limit for the server: the file is refused.
const APPS_MAX: usize = 100;
/// How many dashboards' Pusher services there may be.
/// Limit for the server: the file is refused.
const SERVICES_MAX: usize = 16;
/// How many webhooks of channels a Pusher app may have.
/// Limit for each app: the file is refused.
const WEBHOOKS_MAX: usize = 4;
/// Longest id, key or secret of a Pusher app, in bytes.
/// Limit for each app: the file is refused.
const NAME_BYTES_MAX: usize = 128;

/// An app.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// Its id, in the paths of the REST API.
    pub id: String,
    /// Its key, which clients know.
    pub key: String,
    /// What signatures are made with.
    pub secret: Secret,
    /// The number of the API key to which it belongs (`covey key list`).
    pub api_key: i64,
    /// Who is told of its channels.
    pub webhooks: Vec<Url>,
}

/// A service of others.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// Where its WebSocket is, with the key of the app in the path.
    pub url: Url,
    /// Where a signature is asked for.
    pub auth: Url,
    /// Where readings of units are told.
    pub api: Url,
    /// What is shown there.
    pub token: Token,
    /// Certificates to trust instead of those that this machine trusts, in PEM.
    pub ca: Option<PathBuf>,
}

/// A token, which is never shown.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// As a header has it.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// What the file says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The apps of this server.
    pub apps: Vec<AppConfig>,
    /// The services of others.
    pub services: Vec<ServiceConfig>,
}

/// Why the file cannot be used. What is in it is not part of it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {source} (--pusher)", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{} holds secrets and others may read it: chmod 600 it (--pusher)", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
    },
    /// It says something else than it may.
    #[error("{}: {problem} (--pusher; docs/pusher.md says what it holds)", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    #[serde(default)]
    apps: Vec<App>,
    #[serde(default)]
    services: Vec<Service>,
    // The members of a base unit's file.
    #[serde(default, rename = "clients")]
    _clients: Option<IgnoredAny>,
    api: Option<Api>,
    pusher: Option<Upstream>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct App {
    id: String,
    key: String,
    secret: String,
    api_key: i64,
    #[serde(default)]
    webhooks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    api: Api,
    pusher: Upstream,
    ca: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Api {
    url: String,
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upstream {
    #[serde(rename = "app-key")]
    app_key: String,
    cluster: Option<String>,
    url: Option<String>,
    auth: String,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(ConfigError::Open { path: path.to_owned() });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        let parsed = if text.len() as u64 > FILE_BYTES_MAX {
            Err("it has more than 1 MiB".to_owned())
        } else {
            Self::parse(&text)
        };
        parsed.map_err(|problem| ConfigError::Content { path: path.to_owned(), problem })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let Listed { apps, mut services, api, pusher, .. } = serde_json::from_str(text).map_err(told)?;
        match (api, pusher) {
            (Some(api), Some(pusher)) => services.push(Service { api, pusher, ca: None }),
            (None, None) => {}
            _ => return Err("a base unit's api and pusher go together".to_owned()),
        }
        if apps.len() > APPS_MAX || services.len() > SERVICES_MAX {
            return Err(format!("there may be {APPS_MAX} apps and {SERVICES_MAX} services"));
        }
        if apps.is_empty() && services.is_empty() {
            return Err("it has neither apps nor services".to_owned());
        }
        let mut names = HashSet::new();
        for App { id, key, .. } in &apps {
            if !names.insert(("id", id)) || !names.insert(("key", key)) {
                return Err(format!("two apps have the id {id} or its key"));
            }
        }
        let apps = apps.iter().map(app).collect::<Result<_, _>>()?;
        Ok(Self { apps, services: services.into_iter().map(service).collect::<Result<_, _>>()? })
    }
}

/// What is wrong, without the text around it, which may be a secret.
fn told(error: serde_json::Error) -> String {
    use serde_json::error::Category;
    let at = format!("line {} column {}", error.line(), error.column());
    match error.classify() {
        Category::Data => {
            let text = error.to_string();
            let named = ["missing field", "unknown field", "duplicate field"];
            match named.iter().any(|what| text.starts_with(what)) {
                true => text,
                false => format!("a member is of a wrong type at {at}"),
            }
        }
        _ => format!("it is not JSON at {at}"),
    }
}

fn app(app: &App) -> Result<AppConfig, String> {
    let is_name = |name: &str| {
        (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    if !is_name(&app.id) || !is_name(&app.key) {
        return Err(format!("id and key of an app must be 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 _ - ."));
    }
    let of = &app.id;
    if !(16..=NAME_BYTES_MAX).contains(&app.secret.len()) {
        return Err(format!("the secret of app {of} must have 16 to {NAME_BYTES_MAX} bytes"));
    }
    if app.webhooks.len() > WEBHOOKS_MAX {
        return Err(format!("app {of} may have {WEBHOOKS_MAX} webhooks"));
    }
    let webhooks = app.webhooks.iter().map(|text| web(text, "a webhook")).collect::<Result<_, _>>()?;
    Ok(AppConfig {
        id: app.id.clone(),
        key: app.key.clone(),
        secret: Secret::new(&app.secret),
        api_key: app.api_key,
        webhooks,
    })
}

fn web(text: &str, what: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.filter(|url| url.has_host() && url.username().is_empty() && url.password().is_none());
    url.ok_or_else(|| format!("{what} must be a URL such as https://dashboard.example/api"))
}

fn service(service: Service) -> Result<ServiceConfig, String> {
    let Service { api: Api { url: api, token }, pusher, ca } = service;
    let mut api = web(&api, "the url of an api")?;
    // Its path goes on behind it.
    if !api.path().ends_with('/') {
        api.set_path(&format!("{}/", api.path()));
    }
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the token of an api must be printable ASCII without spaces".to_owned());
    }
    let Upstream { app_key, cluster, url, auth } = pusher;
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    let base = match (url, cluster) {
        (Some(url), None) => url,
        (None, Some(cluster)) if is_name(&cluster) && !cluster.contains('.') => {
            format!("wss://ws-{cluster}.pusher.com")
        }
        _ => {
            return Err(
                "a pusher has a cluster, such as eu, or a url, such as wss://covey.example".to_owned()
            );
        }
    };
    let url = Url::parse(&base).ok().filter(|url| matches!(url.scheme(), "ws" | "wss") && url.has_host());
    let url =
        url.filter(|url| url.username().is_empty() && url.password().is_none() && url.query().is_none());
    let mut url = url.ok_or("the url of a pusher must be like wss://covey.example:8443")?;
    if !is_name(&app_key) {
        return Err("the app-key of a pusher must be of A-Z a-z 0-9 _ - .".to_owned());
    }
    url.set_path(&format!("{}/app/{app_key}", url.path().trim_end_matches('/')));
    url.set_query(Some(concat!("protocol=7&client=covey&version=", env!("CARGO_PKG_VERSION"))));
    let auth = api.join(&auth).ok().filter(|auth| matches!(auth.scheme(), "http" | "https"));
    let auth = auth.ok_or("the auth of a pusher must be a path, such as /api/broadcasting/auth")?;
    Ok(ServiceConfig { url, auth, api, token: Token(token), ca })
}

#[cfg(test)]
impl AppConfig {
    /// An app of a test.
    pub(super) fn for_tests() -> Self {
        Self {
            id: "1".to_owned(),
            key: "key".to_owned(),
            secret: Secret::new("0123456789abcdef"),
            api_key: 1,
            webhooks: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{self, Permissions};

    use super::*;

    const BASE_UNIT: &str = r#"{"clients": ["192.0.2.1"],
        "api": {"url": "https://dash.example/api", "token": "t-1"},
        "pusher": {"app-key": "abc", "cluster": "eu", "auth": "/api/broadcasting/auth"}}"#;

    #[test]
    fn the_file_of_a_base_unit_names_a_service() {
        let Config { apps, services } = Config::parse(BASE_UNIT).unwrap();
        let [service] = &services[..] else { unreachable!() };
        assert!(apps.is_empty());
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            service.url.as_str(),
            format!("wss://ws-eu.pusher.com/app/abc?protocol=7&client=covey&version={version}")
        );
        assert_eq!(service.auth.as_str(), "https://dash.example/api/broadcasting/auth");
        assert_eq!(service.api.as_str(), "https://dash.example/api/");
        assert_eq!(service.token.bearer(), "Bearer t-1");
        assert!(!format!("{services:?}").contains("t-1"));
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_without_its_secrets() {
        let app = r#"{"id": "1", "key": "k", "secret": "SECRETSECRETSECRET", "api_key": 2}"#;
        assert_eq!(Config::parse(&format!(r#"{{"apps": [{app}]}}"#)).unwrap().apps[0].api_key, 2);
        for (text, expected) in [
            ("{".to_owned(), "not JSON"),
            ("{}".to_owned(), "neither apps nor services"),
            (format!(r#"{{"apps": [{app}, {app}]}}"#), "two apps"),
            (format!(r#"{{"apps": [{app}], "more": 1}}"#), "unknown field `more`"),
            (r#"{"apps": [{"id": "1"}]}"#.to_owned(), "missing field `key`"),
            (r#"{"apps": ["SECRETSECRETSECRET"]}"#.to_owned(), "wrong type"),
            (format!(r#"{{"apps": [{}]}}"#, app.replace("SECRETSECRETSECRET", "SECRET")), "16 to 128"),
            (format!(r#"{{"apps": [{}]}}"#, app.replace(r#""k""#, r#""a b""#)), "A-Z a-z 0-9"),
            (
                format!(r#"{{"apps": [{}]}}"#, app.replace('}', r#", "webhooks": ["ftp://x"]}"#)),
                "a webhook must be a URL",
            ),
            (BASE_UNIT.replace(r#""cluster": "eu","#, ""), "cluster"),
            (BASE_UNIT.replace("\"eu\"", "\"evil.example/\""), "cluster"),
            (BASE_UNIT.replace(r#""cluster": "eu""#, r#""url": "http://a""#), "wss://"),
            (BASE_UNIT.replace("https://dash.example/api", "dash.example"), "the url of an api"),
        ] {
            let problem = Config::parse(&text).unwrap_err();
            assert!(problem.contains(expected) && !problem.contains("SECRET"), "{text}: {problem}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), BASE_UNIT).unwrap();
        fs::set_permissions(file.path(), Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Config::read(file.path()), Err(ConfigError::Open { .. })));
        fs::set_permissions(file.path(), Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Config::read(file.path()).unwrap().services.len(), 1);
    }
}
