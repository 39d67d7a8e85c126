//! RabbitMQ's management API, as far as it is needed: accounts, rights,
//! connections and bindings.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::header::DATE;
use reqwest::{Client, Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::amqp::broker_clock::BrokerClock;
use crate::amqp::{AmqpError, Options};
use crate::tls::{self, TlsFiles};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take. A list of 10,000 accounts takes well below one second.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection without a request is kept. RabbitMQ closes it after 5 s, and a request that is sent just
/// then is lost.
const IDLE_MAX: Duration = Duration::from_secs(2);
/// How long a client is used before the TLS files are read anew.
const CLIENT_LIFE: Duration = Duration::from_secs(600);
/// How many entries a page of a list has; the most that the broker gives.
pub(super) const PAGE_SIZE: u32 = 500;
/// How many pages a list may have.
const PAGES_MAX: u32 = 10_000;

/// The management API of a broker, for one virtual host.
pub(super) struct Management {
    base: Url,
    user: String,
    password: String,
    vhost: String,
    tls: Option<TlsFiles>,
    clock: Arc<BrokerClock>,
    client: Mutex<Option<(Instant, Client)>>,
}

/// A user of the broker.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct User {
    /// Its name; a device's is its serial number.
    pub(super) name: String,
    /// By these ours are recognised.
    #[serde(default)]
    pub(super) tags: Vec<String>,
    /// Empty if it has no password.
    #[serde(default)]
    pub(super) password_hash: String,
}

/// What a user may do in a virtual host: three regular expressions.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(super) struct Permission {
    pub(super) user: String,
    pub(super) vhost: String,
    pub(super) configure: String,
    pub(super) write: String,
    pub(super) read: String,
}

/// What a user may do with the topics of an exchange.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(super) struct TopicPermission {
    pub(super) user: String,
    pub(super) vhost: String,
    pub(super) exchange: String,
    pub(super) write: String,
    pub(super) read: String,
}

/// A client's connection.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ClientConnection {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) user: String,
    #[serde(default)]
    pub(super) vhost: String,
    #[serde(default)]
    pub(super) protocol: String,
    #[serde(default)]
    pub(super) connected_at: i64,
    #[serde(default)]
    pub(super) peer_host: String,
    #[serde(default)]
    pub(super) node: String,
}

/// A binding of an exchange.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Binding {
    pub(super) destination: String,
    pub(super) destination_type: String,
    pub(super) routing_key: String,
}

/// What the broker says of itself.
#[derive(Deserialize)]
struct Overview {
    #[serde(default)]
    disable_stats: bool,
}

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    page_count: u32,
    filtered_count: usize,
}

/// Accounts with their rights, as one request makes or changes them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Definitions {
    pub(super) users: Vec<NewUser>,
    pub(super) permissions: Vec<Permission>,
    pub(super) topic_permissions: Vec<TopicPermission>,
}

/// A user to be made, without a password: it comes with a certificate.
#[derive(Debug, Serialize)]
pub(super) struct NewUser {
    pub(super) name: String,
    pub(super) password_hash: &'static str,
    pub(super) hashing_algorithm: &'static str,
    pub(super) tags: Vec<String>,
}

impl Management {
    /// The API of the broker that the options name, if they name one.
    pub(super) fn new(options: &Options) -> Option<Self> {
        let mut base = options.management.clone()?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (decoded(base.username()), decoded(base.password().unwrap_or_default()));
        // Both only fail for addresses without a host, and this one has one.
        let _ = (base.set_username(""), base.set_password(None));
        let (vhost, tls) = (options.vhost().to_owned(), options.tls.clone());
        let clock = Arc::clone(&options.clock);
        Some(Self { base, user, password, vhost, tls, clock, client: Mutex::default() })
    }

    /// The virtual host that all of this is about.
    pub(super) fn vhost(&self) -> &str {
        &self.vhost
    }

    fn client(&self) -> Result<Client, AmqpError> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, client)) = kept.as_ref().filter(|(made, _)| made.elapsed() < CLIENT_LIFE) {
            let _ = made;
            return Ok(client.clone());
        }
        let is_local = self.base.host_str().is_some_and(|host| {
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        });
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .pool_idle_timeout(IDLE_MAX)
            .tcp_nodelay(true)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none());
        if is_local {
            builder = builder.no_proxy();
        }
        // Reading the certificates of the machine takes time that plain HTTP need not spend.
        let config = if self.base.scheme() == "https" {
            tls::client_config(self.tls.as_ref())?
        } else {
            tls::no_tls()?
        };
        let client = builder
            .tls_backend_preconfigured(config)
            .build()
            .map_err(|error| failed("setting up", error.to_string(), None))?;
        *kept = Some((Instant::now(), client.clone()));
        Ok(client)
    }

    async fn send<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<reqwest::Response, AmqpError> {
        let what = || format!("{method} {}", path.split('?').next().unwrap_or_default());
        let url = format!("{}/api/{path}", self.base.as_str().trim_end_matches('/'));
        let mut request =
            self.client()?.request(method.clone(), url).basic_auth(&self.user, Some(&self.password));
        if let Some(body) = body {
            request = request.json(body);
        }
        let began = Instant::now();
        // Without the address: it is known, and an error must not show more than that.
        let answer = request.send().await.map_err(|error| {
            let error = error.without_url();
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            // The innermost says what it was: a port that is closed, a CA that is not ours.
            let cause = causes.last().map(|cause| format!(": {cause}")).unwrap_or_default();
            let place = self.base.host_str().unwrap_or_default();
            let port = self.base.port_or_known_default().unwrap_or_default();
            failed(&what(), format!("{place}:{port}: {error}{cause}"), None)
        })?;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        if let Some(date) = date {
            self.clock.heard(date, began.elapsed());
        }
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said = answer.text().await.unwrap_or_default();
        let said: String = said.chars().take(300).collect();
        let problem = match status {
            StatusCode::UNAUTHORIZED => {
                "the user or the password is wrong, or the user lacks the tag administrator".to_owned()
            }
            _ => format!("{status} {said}"),
        };
        Err(failed(&what(), problem, Some(status.as_u16())))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AmqpError> {
        let answer = self.send::<()>(Method::GET, path, None).await?;
        let what = format!("GET {}", path.split('?').next().unwrap_or_default());
        answer.json().await.map_err(|error| failed(&what, error.without_url().to_string(), None))
    }

    /// Deletes; what is already gone counts as deleted.
    async fn delete(&self, path: &str) -> Result<(), AmqpError> {
        match self.send::<()>(Method::DELETE, path, None).await {
            Ok(_) | Err(AmqpError::Management { status: Some(404), .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All pages of a list. While entries come and go, one may slip from a page
    /// to the one before; `is_whole` says whether that can be ruled out.
    async fn pages<T: DeserializeOwned>(&self, path: &str, rest: &str) -> Result<(Vec<T>, bool), AmqpError> {
        let mut items = Vec::new();
        let (mut number, mut counts) = (1, Vec::new());
        loop {
            let page: Page<T> = self
                .get(&format!("{path}?page={number}&page_size={PAGE_SIZE}&pagination=true{rest}"))
                .await?;
            items.extend(page.items);
            counts.push(page.filtered_count);
            if number >= page.page_count || number >= PAGES_MAX {
                break;
            }
            number += 1;
        }
        let is_whole = counts.iter().all(|count| *count == items.len());
        Ok((items, is_whole))
    }

    /// A user, if there is one of this name.
    pub(super) async fn user(&self, name: &str) -> Result<Option<User>, AmqpError> {
        match self.get(&format!("users/{}", encoded(name))).await {
            Ok(user) => Ok(Some(user)),
            Err(AmqpError::Management { status: Some(404), .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All users of the broker.
    pub(super) async fn users(&self) -> Result<Vec<User>, AmqpError> {
        self.get("users?columns=name,tags,password_hash").await
    }

    /// All rights in the virtual host.
    pub(super) async fn permissions(&self) -> Result<Vec<Permission>, AmqpError> {
        self.get(&format!("vhosts/{}/permissions", encoded(&self.vhost))).await
    }

    /// All rights on topics in the virtual host.
    pub(super) async fn topic_permissions(&self) -> Result<Vec<TopicPermission>, AmqpError> {
        self.get(&format!("vhosts/{}/topic-permissions", encoded(&self.vhost))).await
    }

    /// Makes or changes accounts, all in one request.
    pub(super) async fn define(&self, definitions: &Definitions) -> Result<(), AmqpError> {
        self.send(Method::POST, "definitions", Some(definitions)).await.map(drop)
    }

    /// Deletes a user.
    pub(super) async fn delete_user(&self, name: &str) -> Result<(), AmqpError> {
        self.delete(&format!("users/{}", encoded(name))).await
    }

    /// Deletes users, all in one request.
    pub(super) async fn delete_users(&self, names: &[String]) -> Result<(), AmqpError> {
        let body = serde_json::json!({ "users": names });
        self.send(Method::POST, "users/bulk-delete", Some(&body)).await.map(drop)
    }

    /// Takes a user's rights in the virtual host.
    pub(super) async fn delete_permissions(&self, name: &str) -> Result<(), AmqpError> {
        let (vhost, name) = (encoded(&self.vhost), encoded(name));
        self.delete(&format!("topic-permissions/{vhost}/{name}")).await?;
        self.delete(&format!("permissions/{vhost}/{name}")).await
    }

    /// Sets the tags of a user that has no password.
    pub(super) async fn set_tags(&self, name: &str, tags: &[String]) -> Result<(), AmqpError> {
        let body = serde_json::json!({ "password_hash": "", "tags": tags.join(",") });
        self.send(Method::PUT, &format!("users/{}", encoded(name)), Some(&body)).await.map(drop)
    }

    /// Closes all connections of a user.
    pub(super) async fn close_connections(&self, user: &str) -> Result<(), AmqpError> {
        self.delete(&format!("connections/username/{}", encoded(user))).await
    }

    /// Whether the broker collects metrics. Without, it tells less of connections.
    pub(super) async fn has_metrics(&self) -> Result<bool, AmqpError> {
        let overview: Overview = self.get("overview").await?;
        Ok(!overview.disable_stats)
    }

    /// The connections of one user, by name; none of a user that does not exist.
    pub(super) async fn connections_of(&self, user: &str) -> Result<Vec<ClientConnection>, AmqpError> {
        match self.get(&format!("connections/username/{}", encoded(user))).await {
            Err(AmqpError::Management { status: Some(404), .. }) => Ok(Vec::new()),
            answer => answer,
        }
    }

    /// The connections of clients, of all virtual hosts, oldest first; and
    /// whether none can be missing.
    pub(super) async fn connections(&self) -> Result<(Vec<ClientConnection>, bool), AmqpError> {
        let columns = "&columns=name,user,vhost,protocol,connected_at,peer_host,node&sort=connected_at";
        self.pages("connections", columns).await
    }

    /// What is bound to the exchange of MQTT.
    pub(super) async fn bindings(&self) -> Result<Vec<Binding>, AmqpError> {
        let columns = "columns=destination,destination_type,routing_key";
        let vhost = encoded(&self.vhost);
        self.get(&format!("exchanges/{vhost}/amq.topic/bindings/source?{columns}")).await
    }
}

/// A name as a part of a path.
fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

fn failed(what: &str, problem: String, status: Option<u16>) -> AmqpError {
    AmqpError::Management { what: what.to_owned(), problem, status }
}
