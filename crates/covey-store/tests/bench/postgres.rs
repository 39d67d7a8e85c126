//! The bench for the store on PostgreSQL: a server of the test program's own,
//! shared by its tests, and a database for each of them.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use covey_core::port::{Clock, Observer, Store};
use covey_store::postgres::{Options, Postgres};
use tempfile::TempDir;

use super::Bench;
use super::SERVER;
use super::parts::{Counts, TestClock};

/// The URL of a server to use in place of one of the test's own.
const URL_VARIABLE: &str = "COVEY_TEST_POSTGRES";
/// Where Debian, and others, put the programs of PostgreSQL.
const PROGRAM_FOLDERS: [&str; 3] = ["/usr/lib/postgresql", "/usr/local/pgsql", "/usr/pgsql"];

/// A PostgreSQL that ends with the test program.
pub struct Server {
    pub folder: TempDir,
    programs: PathBuf,
    /// The user under which it runs, if this program is root's.
    user: Option<(u32, u32)>,
    settings: Vec<String>,
    process: Option<Child>,
    /// Ends the server when this program ends, in whichever way.
    watchdog: Option<Child>,
}

impl Server {
    /// Starts one; `settings` as for `postgres -c`.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_with(settings, |_| {})
    }

    /// The same, with something done to its folder before it runs.
    pub fn start_with(settings: &[&str], prepare: impl FnOnce(&Self)) -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("covey-pg-").tempdir_in("/tmp").unwrap();
        let user = (fs::metadata("/proc/self").unwrap().uid() == 0).then(postgres_user);
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { folder, programs, user, settings, process: None, watchdog: None };
        let mut initdb = server.command("initdb");
        initdb.args(["-D", "data", "-U", "covey", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        prepare(&server);
        server.run();
        server
    }

    /// Writes a file that the server alone may read.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = self.user {
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs it on what is there.
    pub fn run(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = self.command("postgres");
        command.args(["-D", "data", "-k"]).arg(self.folder.path()).args(["-c", "listen_addresses="]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let script = format!("cat >/dev/null; kill -INT {} 2>/dev/null", child.id());
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.watchdog = Some(watchdog.spawn().unwrap());
        self.process = Some(child);
        let begun = Instant::now();
        while !self.answers() {
            assert!(begun.elapsed() < Duration::from_secs(60), "PostgreSQL did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let mut command = self.command("pg_isready");
        command.args(["-q", "-p", self.port(), "-h"]).arg(self.folder.path()).status().unwrap().success()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Ends all of it at once, as a power cut would.
    pub fn kill(&mut self) {
        let Some(mut child) = self.process.take() else { return };
        let pid = child.id().to_string();
        // The children first, lest they outlive it.
        let children = Command::new("pgrep").args(["-P", &pid]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        let _ = Command::new("kill").arg("-STOP").arg(&pid).status();
        let _ = Command::new("kill").arg("-KILL").args(children.split_whitespace()).status();
        child.kill().unwrap();
        child.wait().unwrap();
        self.end_watchdog();
        let _ = fs::remove_file(self.folder.path().join("data/postmaster.pid"));
    }

    fn end_watchdog(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            let _ = watchdog.kill();
            let _ = watchdog.wait();
        }
    }

    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres:///{database}?host={}&port={}&user=covey",
            self.folder.path().display(),
            self.port()
        )
    }

    fn port(&self) -> &str {
        self.settings.iter().find_map(|setting| setting.strip_prefix("port=")).unwrap_or("5432")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
            let _ = child.wait();
        }
        self.end_watchdog();
    }
}

/// The folder of the newest PostgreSQL that is installed.
fn programs() -> PathBuf {
    let versions = PROGRAM_FOLDERS.iter().flat_map(|folder| {
        let inside = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        inside.chain([PathBuf::from(folder)])
    });
    let mut found: Vec<_> =
        versions.map(|path| path.join("bin")).filter(|path| path.join("initdb").exists()).collect();
    found.sort();
    found.pop().expect("PostgreSQL is not installed: apt-get install postgresql, or set COVEY_TEST_POSTGRES")
}

/// PostgreSQL refuses to be root.
fn postgres_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("no user postgres");
    let fields: Vec<_> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// The server that the tests of one program share. Its databases do not outlive
/// it, so nothing of them is flushed. It is never dropped: the watchdog ends it
/// with the program.
struct Shared {
    url: Box<dyn Fn(&str) -> String + Send + Sync>,
    folder: Option<PathBuf>,
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let shared = match std::env::var(URL_VARIABLE) {
            Ok(url) => Shared { url: Box::new(move |database| with_database(&url, database)), folder: None },
            Err(_) => {
                let server = Server::start(&[
                    "fsync=off",
                    "full_page_writes=off",
                    "max_connections=400",
                    "autovacuum=off",
                    "shared_buffers=64MB",
                ]);
                let folder = server.folder.path().to_owned();
                let url = server.url("#");
                std::mem::forget(server);
                Shared { url: Box::new(move |database| url.replace('#', database)), folder: Some(folder) }
            }
        };
        remove_after(shared.folder.as_deref());
        let template = TEMPLATE.replace('#', &std::process::id().to_string());
        admin(&shared, &[&format!("CREATE DATABASE {template}")]);
        let options = Options::new(&(shared.url)(&template), SERVER).unwrap();
        drop(Postgres::open(&options, Arc::new(TestClock::default()), Arc::new(Counts::default())).unwrap());
        // A template may have no connection; those of the store end a moment later.
        admin(
            &shared,
            &[&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{template}'"
            )],
        );
        shared
    })
}

const TEMPLATE: &str = "covey_template_#";

/// The temporary folder of a server that is never dropped.
fn remove_after(folder: Option<&Path>) {
    let Some(folder) = folder else { return };
    let pid = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap();
    let script =
        format!("while kill -0 {pid} 2>/dev/null; do sleep 0.2; done; rm -rf '{}'", folder.display());
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    drop(command.process_group(0).spawn().unwrap());
}

fn with_database(url: &str, database: &str) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = address.rsplit_once('/').unwrap();
    format!("{server}/{database}?{query}")
}

/// Says something to the server, outside any store.
fn admin(shared: &Shared, statements: &[&str]) {
    say(&(shared.url)("postgres"), statements);
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

/// A database of a test's own.
pub struct PostgresBench {
    pub options: Options,
    url: String,
    database: String,
}

impl PostgresBench {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let shared = shared();
        let pid = std::process::id();
        let database = format!("covey_{pid}_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let template = TEMPLATE.replace('#', &pid.to_string());
        // Copying is refused while someone else copies from the template by files.
        admin(shared, &[&format!("CREATE DATABASE {database} TEMPLATE {template}")]);
        let url = (shared.url)(&database);
        Self { options: Options::new(&url, SERVER).unwrap(), url, database }
    }

    pub fn url(&self) -> String {
        self.url.clone()
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

impl PostgresBench {
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
        admin(shared(), &[&sql]);
    }
}

/// A server of another name on a database that is someone else's to remove.
pub struct Another(pub Options);

impl Another {
    pub fn new(url: &str, server: &str) -> Self {
        Self(Options::new(url, server).unwrap())
    }
}

impl Bench for Another {
    fn open(&self, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<dyn Store> {
        Arc::new(Postgres::open(&self.0, clock, observer).unwrap())
    }
}

impl PostgresBench {
    /// On a database without anything in it.
    pub fn empty() -> Self {
        let bench = Self::new();
        admin(
            shared(),
            &[
                &format!("DROP DATABASE {} WITH (FORCE)", bench.database),
                &format!("CREATE DATABASE {}", bench.database),
            ],
        );
        bench
    }
}

impl Drop for PostgresBench {
    fn drop(&mut self) {
        admin(shared(), &[&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database)]);
    }
}

impl Bench for PostgresBench {
    fn open(&self, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<dyn Store> {
        Arc::new(Postgres::open(&self.options, clock, observer).unwrap())
    }
}
