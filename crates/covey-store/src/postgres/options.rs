//! How a store on PostgreSQL is run: the address, and what bounds it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::error::StoreError;
use crate::queue::Readers;

/// How long one attempt to connect to one host may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After how long without a word the kernel asks whether the database is there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// How long it waits between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How many remain unanswered before the connection is given up.
const KEEPALIVE_RETRIES: u32 = 3;
/// How long what was sent may stay without the other side's receipt.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest `application_name` (PostgreSQL "NAMEDATALEN").
const APPLICATION_NAME_BYTES_MAX: usize = 63;

/// How the database is reached over TLS, in libpq's words ("SSL Support",
/// table "SSL Mode Descriptions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server offers it, whoever it is. The default, as with libpq;
    /// it protects from nobody who can change what is sent.
    Prefer,
    /// TLS, whoever the server is; with a root certificate the same as `verify-ca`.
    Require,
    /// TLS with a server whose certificate is of a CA that we trust.
    VerifyCa,
    /// The same, and the certificate is for the host that we asked for.
    VerifyFull,
}

/// What a URL says of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) mode: TlsMode,
    /// The CA to trust; those of the system if none is given.
    pub(super) root: Option<PathBuf>,
    /// Our own certificate, and its key.
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// How a store on PostgreSQL is run.
#[derive(Clone)]
pub struct Options {
    /// This server's name among those on the database, stable over restarts.
    pub server: String,
    /// Under which name it writes into the audit log: one chain of rows for each.
    pub audit_chain: String,
    /// How many connections read, each made when it is first needed. Beside them a server has one that writes,
    /// one to the other servers, and one of its clock.
    pub readers: Readers,
    /// How many jobs, and how many reads, may wait before more are refused; those of one organisation
    /// at most half of it.
    pub queue_max: usize,
    /// How many jobs may share one commit.
    pub group_max: usize,
    /// How long [`super::Postgres::open`] tries to reach the database.
    pub open_timeout: Duration,
    pub(super) config: Config,
    pub(super) tls: Tls,
}

impl Options {
    /// The defaults, for the database at `url` and a server of this name.
    ///
    /// The URL is libpq's (`postgres://user:password@host:port/database`, or
    /// `postgres:///database?host=/socket/folder&user=name`), with `sslmode`,
    /// `sslrootcert`, `sslcert` and `sslkey` as libpq has them.
    ///
    /// # Errors
    /// [`StoreError::Address`], which never repeats the URL.
    pub fn new(url: &str, server: &str) -> Result<Self, StoreError> {
        if url.split('?').next().is_some_and(|address| address.matches('@').count() > 1) {
            let problem = "its password holds an @; write @ / # ? : % in it as %40 %2F %23 %3F %3A %25";
            return Err(StoreError::Address { problem: problem.to_owned() });
        }
        let (address, tls) = split_tls(url)?;
        let mut config: Config = address
            .parse()
            .map_err(|error: tokio_postgres::Error| StoreError::Address { problem: said(&error) })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(StoreError::Address { problem: "it names no host".to_owned() });
        }
        if config.get_dbname().is_none() {
            return Err(StoreError::Address { problem: "it names no database".to_owned() });
        }
        if server.is_empty() || server.len() > 256 || server.chars().any(char::is_control) {
            return Err(StoreError::Address {
                problem: "the name of this server is empty or too long".to_owned(),
            });
        }
        let is_local = config.get_hosts().iter().all(|host| !matches!(host, Host::Tcp(_)));
        // libpq ignores `sslmode` on a Unix socket.
        config.ssl_mode(match tls.mode {
            _ if is_local && config.get_hostaddrs().is_empty() => SslMode::Disable,
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
        let mut name = format!("covey/{server}");
        while name.len() > APPLICATION_NAME_BYTES_MAX {
            name.pop();
        }
        config.application_name(name);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(TCP_USER_TIMEOUT);
        Ok(Self {
            server: server.to_owned(),
            audit_chain: server.to_owned(),
            readers: Readers { points: 3, pages: 2, scans: 2 },
            queue_max: 40_000,
            group_max: 512,
            open_timeout: Duration::from_secs(30),
            config,
            tls,
        })
    }

    /// Host and database, for the log.
    #[must_use]
    pub fn place(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => self.config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        format!("{host}:{port}/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("place", &self.place())
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// An error of the driver with what lies behind it.
pub(crate) fn said(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Takes what concerns TLS out of a URL: the driver knows other words for it.
fn split_tls(url: &str) -> Result<(String, Tls), StoreError> {
    let problem = |problem: &str| StoreError::Address { problem: problem.to_owned() };
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(problem("it does not begin with postgres://"));
    }
    let mut tls = Tls { mode: TlsMode::Prefer, root: None, certificate: None, key: None };
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        match name {
            "sslmode" => {
                tls.mode = match value.as_str() {
                    "disable" => TlsMode::Disable,
                    "prefer" => TlsMode::Prefer,
                    "require" => TlsMode::Require,
                    "verify-ca" => TlsMode::VerifyCa,
                    "verify-full" => TlsMode::VerifyFull,
                    _ => {
                        return Err(problem(
                            "sslmode must be disable, prefer, require, verify-ca or verify-full",
                        ));
                    }
                }
            }
            "sslrootcert" if value == "system" => tls.root = None,
            "sslrootcert" => tls.root = Some(value.into()),
            "sslcert" => tls.certificate = Some(value.into()),
            "sslkey" => tls.key = Some(value.into()),
            _ => rest.push(pair),
        }
    }
    if tls.mode == TlsMode::Require && tls.root.is_some() {
        tls.mode = TlsMode::VerifyCa;
    }
    if tls.certificate.is_some() != tls.key.is_some() {
        return Err(problem("sslcert and sslkey belong together"));
    }
    let rest = rest.join("&");
    Ok((if rest.is_empty() { address.to_owned() } else { format!("{address}?{rest}") }, tls))
}

/// Percent-decoded; a plus sign is itself, as in libpq.
fn decoded(value: &str) -> String {
    let pair = format!("v={}", value.replace('+', "%2B"));
    form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read_as_libpq_reads_them() {
        let tcp = Options::new("postgres://u:p%40ss@db.example:5433/covey?sslmode=verify-full", "a").unwrap();
        assert_eq!(tcp.place(), "db.example:5433/covey");
        assert_eq!((tcp.tls.mode, tcp.config.get_ssl_mode()), (TlsMode::VerifyFull, SslMode::Require));
        assert_eq!(tcp.config.get_password(), Some(&b"p@ss"[..]));
        let socket = Options::new("postgres:///covey?host=/run/pg&user=u&sslmode=require", "a").unwrap();
        assert_eq!(
            (socket.place().as_str(), socket.config.get_ssl_mode()),
            ("/run/pg:5432/covey", SslMode::Disable)
        );
        let plain = Options::new("postgresql://u@h/d", "a").unwrap();
        assert_eq!(plain.tls.mode, TlsMode::Prefer);
        let with_root = Options::new("postgres://u@h/d?sslmode=require&sslrootcert=/a%20b.pem", "a").unwrap();
        assert_eq!((with_root.tls.mode, with_root.tls.root), (TlsMode::VerifyCa, Some("/a b.pem".into())));
    }

    #[test]
    fn a_refused_address_does_not_show_its_password() {
        for bad in [
            "mysql://u:secret@h/d",
            "postgres://u:secret@h:port/d",
            "postgres://u:secret@h/d?sslmode=maybe",
            "postgres://u:secret@h/d?secret=1&nothing=secret",
            "postgres://u:secret@h",
            "postgres://u:secret@h/d?sslcert=secret",
        ] {
            let error = Options::new(bad, "a").unwrap_err();
            assert!(
                !error.to_string().contains("secret@") && !format!("{error:?}").contains("u:secret"),
                "{error}"
            );
        }
        let good = Options::new("postgres://u:secret@h/d", "a").unwrap();
        assert!(!format!("{good:?}").contains("secret"));
    }
}
