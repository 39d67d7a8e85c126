//! The backend on PostgreSQL: the server that all tests share, with a database for each of them.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use covey_core::port::{Clock, Observer, Store};
use covey_store::postgres::{Options, Postgres};
use covey_testbed::Testbed;
use uuid::Uuid;

use crate::world::parts::{Counts, TestClock};
use crate::world::{Backend, SERVER};

/// The server that all tests share.
struct Shared {
    /// The address of its database `postgres`.
    url: String,
    /// A database in which the store has made its tables, and which the others are copied from.
    template: String,
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let testbed = Testbed::shared().unwrap();
        let url = testbed.postgresql_url("postgres").unwrap();
        let template = template_name();
        let make = || {
            make_template(&url, &template);
            Ok(())
        };
        testbed.once(&template, make).unwrap();
        Shared { url, template }
    })
}

/// Another for each build of this program, which may make other tables.
fn template_name() -> String {
    let built = std::env::current_exe().and_then(|program| program.metadata()?.modified()).unwrap();
    format!("template_{}", built.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos())
}

fn make_template(url: &str, template: &str) {
    // One that was made halfway is made anew.
    let statements = [format!("DROP DATABASE IF EXISTS {template}"), format!("CREATE DATABASE {template}")];
    say(url, &statements.each_ref().map(String::as_str));
    let options = Options::new(&with_database(url, template), SERVER).unwrap();
    drop(Postgres::open(&options, Arc::new(TestClock::default()), Arc::new(Counts::default())).unwrap());
    // A template may have no connection; those of the store end a moment later.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname =";
    say(url, &[&format!("{end} '{template}'")]);
}

fn with_database(url: &str, database: &str) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = address.rsplit_once('/').unwrap();
    format!("{server}/{database}?{query}")
}

/// Says something to the server, outside any store.
fn admin(statements: &[&str]) {
    say(&shared().url, statements);
}

/// Says something to a database, outside any store; whether it is done.
pub fn try_say(url: &str, statements: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(statements).await.is_ok()
    })
}

/// Says something to a database, outside any store; what the last statement answers.
pub fn say(url: &str, statements: &[&str]) -> Vec<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut answer = Vec::new();
        for statement in statements {
            let messages =
                client.simple_query(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
            answer = messages
                .into_iter()
                .filter_map(|message| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => Some(
                        (0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect(),
                    ),
                    _ => None,
                })
                .collect();
        }
        drop(client);
        let _ = connection.await;
        answer
    })
}

/// Whether transactions of a database of the shared server have waited for each other without an end.
pub fn has_deadlocked(url: &str) -> bool {
    let database = url.split(['/', '?']).nth(3).unwrap();
    let log = Testbed::shared().unwrap().log("postgresql").unwrap();
    // Each line of the log names the user and the database.
    let of_database = format!("@{database} ");
    log.lines().any(|line| line.contains(&of_database) && line.contains("deadlock detected"))
}

/// A database of a test's own, dropped with this.
pub struct PostgresBackend {
    pub options: Options,
    url: String,
    database: String,
}

impl PostgresBackend {
    /// With the tables of a store in it.
    pub fn new() -> Self {
        Self::made(&format!("TEMPLATE {}", shared().template))
    }

    /// Without anything in it.
    pub fn empty() -> Self {
        Self::made("")
    }

    fn made(how: &str) -> Self {
        let database = format!("test_{}", Uuid::new_v4().simple());
        admin(&[&format!("CREATE DATABASE {database} {how}")]);
        let url = with_database(&shared().url, &database);
        Self { options: Options::new(&url, SERVER).unwrap(), url, database }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Whose user's sessions in it begin with odd settings.
    #[must_use]
    pub fn with_odd_settings(self) -> Self {
        for (name, value) in ODD_SETTINGS {
            self.set_for_user(name, value);
        }
        self
    }

    /// Sets what sessions of our user begin with in this database.
    pub fn set_for_user(&self, name: &str, value: &str) {
        let sql = format!("ALTER ROLE CURRENT_USER IN DATABASE {} SET {name} = '{value}'", self.database);
        // A list is not one name.
        let sql = if value.contains(',') { sql.replace('\'', "") } else { sql };
        admin(&[&sql]);
    }
}

/// Settings that a database's owner may have made for its user, none of which
/// may matter to a store.
const ODD_SETTINGS: &[(&str, &str)] = &[
    ("standard_conforming_strings", "off"),
    ("backslash_quote", "off"),
    ("client_encoding", "LATIN1"),
    ("search_path", "nowhere"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("statement_timeout", "200ms"),
    ("lock_timeout", "1ms"),
    ("idle_in_transaction_session_timeout", "1ms"),
    ("idle_session_timeout", "200ms"),
    ("DateStyle", "SQL, DMY"),
    ("IntervalStyle", "sql_standard"),
    ("TimeZone", "Asia/Kathmandu"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("array_nulls", "off"),
    ("transform_null_equals", "on"),
    ("synchronous_commit", "off"),
    ("plan_cache_mode", "force_custom_plan"),
    ("row_security", "off"),
    ("quote_all_identifiers", "on"),
];

impl Drop for PostgresBackend {
    fn drop(&mut self) {
        admin(&[&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database)]);
    }
}

impl Backend for PostgresBackend {
    fn open(&self, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<dyn Store> {
        Arc::new(Postgres::open(&self.options, clock, observer).unwrap())
    }
}

/// A server of another name on a database that is someone else's to remove.
pub struct Another(pub Options);

impl Another {
    pub fn new(url: &str, server: &str) -> Self {
        Self(Options::new(url, server).unwrap())
    }
}

impl Backend for Another {
    fn open(&self, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<dyn Store> {
        Arc::new(Postgres::open(&self.0, clock, observer).unwrap())
    }
}
