//! How connections to the database are made and set up.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::StoreError;
use crate::postgres::options::{Options, said};
use crate::postgres::tls;

/// The pause between attempts to reach the database when a store is opened.
const OPEN_PAUSE: Duration = Duration::from_millis(200);
/// The oldest PostgreSQL that will do, as `server_version_num` has it.
const SERVER_VERSION_MIN: i32 = 140_000;

/// What every connection is told first, so that no setting of the role, the
/// database or the server decides what our statements mean or for how long they
/// may run. The plans of our statements must not depend on how old the statistics
/// are: each has its index, so scans, hash joins and compilation are never what we
/// want, and one plan serves all values. A commit returns after the write-ahead
/// log is flushed, whatever the role's default; `local` and `remote_apply` are the
/// operator's to choose. A server that is gone without a word must lose its locks,
/// hence the keepalives; one that is idle must not. Not every version knows
/// `transaction_timeout`. `default_transaction_read_only` stays as it is: an
/// operator keeps writers off with it.
pub(super) const SET_UP: &str = "SET statement_timeout = '30s'; SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '60s'; SET idle_session_timeout = 0; \
     SELECT set_config('transaction_timeout', '0', false) \
         WHERE current_setting('transaction_timeout', true) IS NOT NULL; \
     SET search_path = public, pg_catalog; SET standard_conforming_strings = on; \
     SET default_transaction_isolation = 'read committed'; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
     SET plan_cache_mode = force_generic_plan; SET jit = off; \
     SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
     SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
     SET tcp_user_timeout = 20000; SET client_min_messages = 'warning'";

/// Makes connections; shared by all who need one.
#[derive(Clone)]
pub(super) struct Connector {
    options: Options,
    tls: MakeRustlsConnect,
}

impl Connector {
    pub(super) fn new(options: &Options) -> Result<Self, StoreError> {
        Ok(Self { options: options.clone(), tls: tls::connector(&options.tls)? })
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// A connection, with the task that moves its bytes still to be spawned.
    pub(super) async fn connect_raw(
        &self,
    ) -> Result<
        (
            Client,
            tokio_postgres::Connection<
                tokio_postgres::Socket,
                <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>>::Stream,
            >,
        ),
        tokio_postgres::Error,
    > {
        self.options.config.connect(self.tls.clone()).await
    }

    /// A connection that is set up, its task spawned on the present runtime.
    pub(super) async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.connect_raw().await?;
        tokio::spawn(async move {
            // Whoever uses the client meets the same error.
            if let Err(error) = connection.await {
                tracing::debug!(error = %said(&error), "a connection to PostgreSQL ended");
            }
        });
        self.set_up(&client).await?;
        Ok(client)
    }

    /// Tells a new connection how we want to work.
    pub(super) async fn set_up(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        client.batch_execute(SET_UP).await
    }

    /// Asks the database to end what a connection is doing; what comes of it, nobody says.
    pub(super) async fn cancel(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        client.cancel_token().cancel_query(self.tls.clone()).await
    }

    /// A connection, as soon as the database can be reached.
    pub(super) async fn connect_patiently(&self) -> Result<Client, StoreError> {
        let begun = Instant::now();
        loop {
            let problem = match timeout(self.options.open_timeout, self.connect()).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(error)) if !is_refusal(&error) && begun.elapsed() < self.options.open_timeout => {
                    tracing::warn!(error = %said(&error), "PostgreSQL cannot be reached yet");
                    sleep(OPEN_PAUSE).await;
                    continue;
                }
                Ok(Err(error)) => said(&error),
                Err(_) => "it does not answer".to_owned(),
            };
            return Err(StoreError::Unreachable { place: self.options.place(), problem });
        }
    }

    /// Refuses a server or a database that will not do.
    pub(super) async fn check(&self, client: &Client) -> Result<(), StoreError> {
        let sql = "SELECT current_setting('server_version_num')::int4, \
             current_setting('server_version'), current_setting('server_encoding'), \
             current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on', \
             pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'";
        let row = client.query_one(sql, &[]).await.map_err(|error| asked("tell its version", &error))?;
        let get = |error: tokio_postgres::Error| asked("tell its version", &error);
        let unsuitable = |problem: String| StoreError::Unsuitable { place: self.options.place(), problem };
        if row.try_get::<_, i32>(0).map_err(get)? < SERVER_VERSION_MIN {
            let version: &str = row.try_get(1).map_err(get)?;
            return Err(unsuitable(format!("PostgreSQL {version} is too old; use 14 or newer")));
        }
        let encoding: &str = row.try_get(2).map_err(get)?;
        if encoding != "UTF8" {
            let problem =
                format!("its encoding is {encoding}; create it with ENCODING 'UTF8' TEMPLATE template0");
            return Err(unsuitable(problem));
        }
        let problem = match (row.try_get(4).map_err(get)?, row.try_get(5).map_err(get)?) {
            (true, _) => {
                "it may only be read; give the address of the primary, or target_session_attrs=read-write"
            }
            (false, true) => {
                "it may only be read: default_transaction_read_only is on for this user, this database or the \
                 server; set it off"
            }
            (false, false) => "",
        };
        if !problem.is_empty() {
            return Err(unsuitable(problem.to_owned()));
        }
        if !row.try_get::<_, bool>(3).map_err(get)? {
            tracing::warn!(
                "PostgreSQL runs with fsync or full_page_writes off: a power cut may lose the database"
            );
        }
        Ok(())
    }
}

/// Whether another attempt would meet the same: a wrong password, no such database.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| ["28", "3D", "42"].iter().any(|class| code.code().starts_with(class)))
}

/// A refusal, with what was asked for.
pub(super) fn asked(what: &'static str, error: &tokio_postgres::Error) -> StoreError {
    StoreError::Postgres { what, problem: said(error) }
}
