//! Where RabbitMQ is, and how this server speaks to it.

use std::fmt;
use std::sync::Arc;

use covey_wire::downlink::ResponseForm;
use lapin::uri::{AMQPScheme, AMQPUri};
use reqwest::Url;

use crate::amqp::AmqpError;
use crate::amqp::broker_clock::BrokerClock;
use crate::tls::TlsFiles;

/// After how many seconds without a sign of life a connection is given up.
const HEARTBEAT_S: u16 = 10;
/// How many messages of devices may be under way at a time, per queue.
const PREFETCH: u16 = 256;
/// How many hosts an address may name.
const HOSTS_MAX: usize = 16;

/// Where RabbitMQ is, and how this server speaks to it.
#[derive(Clone)]
pub struct Options {
    /// One address a host, all alike in the rest.
    pub(crate) uris: Vec<AMQPUri>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) management: Option<Url>,
    pub(crate) server: String,
    /// What is heard of the broker's clock by the way.
    pub(crate) clock: Arc<BrokerClock>,
    /// How many messages of devices may be under way at a time, per queue.
    pub prefetch: u16,
    /// What the body of an `rsp` with a task is.
    pub response_form: ResponseForm,
}

impl fmt::Debug for Options {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("hosts", &self.hosts())
            .field("vhost", &self.vhost())
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Reads `amqps://user:password@host[:port][,host…]/vhost` and the address
    /// of the management API, `https://user:password@host:port`. `server` is
    /// the name of this server among those of its deployment.
    ///
    /// # Errors
    /// [`AmqpError::Url`] or [`AmqpError::ManagementUrl`]; neither repeats the
    /// address.
    pub fn new(
        url: &str,
        management: Option<&str>,
        tls: Option<TlsFiles>,
        server: &str,
    ) -> Result<Self, AmqpError> {
        let uris = uris(url).map_err(|problem| AmqpError::Url { problem })?;
        let management = management
            .filter(|text| !text.is_empty())
            .map(management_url)
            .transpose()
            .map_err(|problem| AmqpError::ManagementUrl { problem })?;
        Ok(Self {
            uris,
            tls,
            management,
            server: server.to_owned(),
            clock: Arc::default(),
            prefetch: PREFETCH,
            response_form: ResponseForm::default(),
        })
    }

    /// The virtual host of this deployment.
    #[must_use]
    pub fn vhost(&self) -> &str {
        self.uris.first().map_or("/", |uri| &uri.vhost)
    }

    /// The user of this server.
    pub(crate) fn user(&self) -> &str {
        self.uris.first().map_or("", |uri| &uri.authority.userinfo.username)
    }

    /// The hosts, for messages.
    pub(crate) fn hosts(&self) -> String {
        let hosts = self.uris.iter().map(|uri| format!("{}:{}", uri.authority.host, uri.authority.port));
        hosts.collect::<Vec<_>>().join(", ")
    }

    /// Whether any host is spoken to over TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.uris.iter().any(|uri| uri.scheme == AMQPScheme::AMQPS)
    }
}

fn uris(url: &str) -> Result<Vec<AMQPUri>, String> {
    let (scheme, rest) = url.trim().split_once("://").ok_or("it has no ://")?;
    if !matches!(scheme, "amqp" | "amqps") {
        return Err("it must begin with amqps:// or amqp://".to_owned());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (userinfo, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let at = if userinfo.is_empty() { "" } else { "@" };
    let uris: Vec<_> = hosts
        .split(',')
        .map(|host| one_uri(&format!("{scheme}://{userinfo}{at}{}{path}", host.trim())))
        .collect();
    if uris.len() > HOSTS_MAX {
        return Err(format!("it names more than {HOSTS_MAX} hosts"));
    }
    uris.into_iter().collect()
}

fn one_uri(text: &str) -> Result<AMQPUri, String> {
    let mut uri: AMQPUri = text.parse()?;
    if uri.authority.host.is_empty() {
        return Err("a host is missing".to_owned());
    }
    if uri.vhost.is_empty() {
        return Err("the virtual host is missing; for the one named / write %2F".to_owned());
    }
    // What AMQP can say of a name (AMQP 0-9-1 §4.2.5.3).
    if uri.vhost.len() > 255 {
        return Err("the name of the virtual host is too long".to_owned());
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
    Ok(uri)
}

fn management_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("it must begin with https:// or http:// and name a host".to_owned());
    }
    if url.username().is_empty() || url.password().is_none() {
        return Err("it must name a user and a password".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(url: &str) -> Result<Options, AmqpError> {
        Options::new(url, Some("http://covey.admin:secret@localhost:15672"), None, "s1")
    }

    #[test]
    fn an_address_may_name_several_hosts() {
        let read = options("amqps://covey.server:p%40ss@a,b:1234,c/site?heartbeat=5").unwrap();
        assert_eq!(read.hosts(), "a:5671, b:1234, c:5671");
        assert_eq!((read.vhost(), read.user()), ("site", "covey.server"));
        assert!(read.is_tls());
        assert!(read.uris.iter().all(|uri| uri.authority.userinfo.password == "p@ss"));
        assert!(read.uris.iter().all(|uri| uri.query.heartbeat == Some(5)));
        let read = options("amqp://u:p@localhost/%2F").unwrap();
        assert_eq!((read.vhost(), read.hosts().as_str()), ("/", "localhost:5672"));
        assert_eq!(read.uris.first().unwrap().query.heartbeat, Some(HEARTBEAT_S));
    }

    #[test]
    fn a_wrong_address_is_refused_without_being_repeated() {
        for wrong in [
            "",
            "localhost",
            "http://secret@a/v",
            "amqp://u:secret@a,,b/v",
            "amqp://u:secret@/v",
            "amqp://u:secret@a/",
        ] {
            let error = options(wrong).unwrap_err();
            assert!(matches!(error, AmqpError::Url { .. }), "{wrong}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        for wrong in ["localhost:15672", "amqp://u:secret@h", "http://h:1", "http://u@h:1"] {
            let error = Options::new("amqp://h/v", Some(wrong), None, "s").unwrap_err();
            assert!(matches!(error, AmqpError::ManagementUrl { .. }), "{wrong}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_password_is_not_in_what_is_logged() {
        let text = format!("{:?}", options("amqp://u:verysecret@h/v").unwrap());
        assert!(!text.contains("secret"), "{text}");
    }
}
