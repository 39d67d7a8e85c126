//! PostgreSQL: a cluster of its own, apart from any that the system has.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::package::{self, output_of};
use crate::pki::Identity;
use crate::process::{Kind, Process, wait_until};
use crate::secret;
use crate::state::{Database, Locked, Login, Postgresql};

pub const PROCESS: &str = "postgresql";
/// Debian keeps the programs of each version apart.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Whom PostgreSQL runs as when we are root, which it refuses.
const SYSTEM_USER: &str = "postgres";
const ADMIN: &str = "covey_admin";
const START_SECONDS_MAX: Duration = Duration::from_secs(30);
/// sockaddr_un holds 108 bytes, the last of which is zero (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Installs what is missing.
pub fn install() -> Result<PathBuf> {
    if let Some(programs) = newest_programs() {
        return Ok(programs);
    }
    package::install(&["postgresql"])?;
    newest_programs().with_context(|| format!("no programs of PostgreSQL in {VERSIONS}, though installed"))
}

/// The folder of the newest server's programs.
fn newest_programs() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.flatten();
    versions
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("postgres").is_file() && bin.join("psql").is_file())
        .max()
        .map(|(_, bin)| bin)
}

/// Makes the cluster if there is none, and starts the server without waiting for it.
pub fn begin(locked: &mut Locked, tls: &Identity) -> Result<()> {
    if !locked.state.processes.contains_key(PROCESS) {
        let (server, process) = create(locked, tls)?;
        locked.state.postgresql = Some(server);
        locked.state.processes.insert(PROCESS.to_owned(), process);
        locked.save()?;
    }
    restart(locked)
}

/// Starts the server on what it has, if it does not run, without waiting for it.
pub fn restart(locked: &mut Locked) -> Result<()> {
    let process = locked.state.process(PROCESS)?;
    if !process.is_running() {
        clear_after_kill(&process.folder, process.ports.get(PROCESS).copied().unwrap_or_default())?;
        process.spawn()?;
        locked.save()?;
    }
    Ok(())
}

/// A server that was killed leaves lock files, and refuses to start while a process of the pid
/// in them is to be seen: also one that has ended and whose parent has not yet asked for it.
/// The files go once none of its processes, all of which work in the data folder, is left.
fn clear_after_kill(folder: &Path, port: u16) -> Result<()> {
    let data = folder.join("data");
    let socket_lock = PathBuf::from(format!("{}.lock", socket_path(folder, port)));
    for file in [data.join("postmaster.pid"), socket_lock] {
        if !file.exists() {
            continue;
        }
        if !wait_until(START_SECONDS_MAX, || !is_worked_in(&data)) {
            bail!("processes of PostgreSQL still work in {}, though it was ended", data.display());
        }
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

/// Whether a process has this folder as its working directory.
fn is_worked_in(folder: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok()).any(|cwd| cwd == folder)
}

/// Waits until the server answers.
pub fn wait(locked: &mut Locked) -> Result<()> {
    let server = facts(locked)?;
    let probe = server.programs.join("pg_isready");
    let port = server.port.to_string();
    let process = locked.state.process(PROCESS)?;
    process.wait_until_ready("PostgreSQL", START_SECONDS_MAX, || {
        let mut ask = Command::new(&probe);
        output_of(ask.args(["--quiet", "--host", "127.0.0.1", "--port", &port])).is_ok()
    })?;
    locked.save()
}

/// What is known of the server.
pub fn facts(locked: &Locked) -> Result<Postgresql> {
    locked
        .state
        .postgresql
        .clone()
        .context("PostgreSQL is not there; start it: cargo xtask services up postgresql")
}

fn create(locked: &Locked, tls: &Identity) -> Result<(Postgresql, Process)> {
    let programs = install()?;
    let folder = locked.state.dir.join(PROCESS);
    let data = folder.join("data");
    // What a first start left when it was cut short.
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    secret::folder(&folder)?;
    own(&folder)?;
    check_reach(&folder)?;
    let admin = Login { user: ADMIN.to_owned(), password: secret::password()? };
    let password_file = folder.join("password");
    secret::write(&password_file, &admin.password, 0o600)?;
    own(&password_file)?;
    let mut initdb = as_system_user(&programs.join("initdb"));
    initdb.extend(["--username", ADMIN, "--encoding", "UTF8"].map(str::to_owned));
    // The socket is in our folder, to which nobody else comes.
    initdb.extend(["--auth-local", "trust", "--auth-host", "scram-sha-256"].map(str::to_owned));
    // Only the making of it is not flushed to disk; what it does later is.
    initdb.extend(["--locale", "C.UTF-8", "--no-sync", "--pwfile"].map(str::to_owned));
    initdb.push(password_file.to_string_lossy().into_owned());
    initdb.extend(["--pgdata".to_owned(), data.to_string_lossy().into_owned()]);
    output_of(Command::new(&initdb[0]).args(&initdb[1..]).current_dir(&folder))?;
    fs::remove_file(&password_file)?;
    for (from, name) in [(&tls.certificate, "server.pem"), (&tls.key, "server.key")] {
        let to = folder.join(name);
        secret::write(&to, &fs::read_to_string(from)?, 0o600)?;
        own(&to)?;
    }
    let port = locked.state.free_ports().take()?;
    let socket_dir = (socket_path(&folder, port).len() <= SOCKET_PATH_BYTES_MAX).then(|| folder.clone());
    let settings = data.join("postgresql.conf");
    let mut text = fs::read_to_string(&settings)?;
    text.push_str(&configuration(&folder, port, socket_dir.as_deref()));
    // Of two lines about one setting the later holds.
    text.extend(locked.state.postgresql_settings.iter().map(|line| format!("{line}\n")));
    secret::write(&settings, &text, 0o600)?;
    own(&settings)?;
    let mut command = as_system_user(&programs.join("postgres"));
    command.extend(["-D".to_owned(), data.to_string_lossy().into_owned()]);
    let process = Process {
        kind: Kind::Postgresql,
        command,
        environment: BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]),
        log: locked.state.dir.join("postgresql.log"),
        folder,
        ports: BTreeMap::from([("postgresql".to_owned(), port)]),
        id: None,
        is_ready: false,
    };
    Ok((Postgresql { programs, port, admin, socket_dir }, process))
}

/// The settings that differ from the defaults, or that must not be changed.
fn configuration(folder: &Path, port: u16, socket_dir: Option<&Path>) -> String {
    let quoted = |path: &Path| path.display().to_string().replace('\'', "''");
    let sockets = socket_dir.map(quoted).unwrap_or_default();
    let folder = quoted(folder);
    format!(
        "\n# What Covey's tests need\n\
         listen_addresses = '127.0.0.1'\n\
         port = {port}\n\
         unix_socket_directories = '{sockets}'\n\
         unix_socket_permissions = 0700\n\
         password_encryption = 'scram-sha-256'\n\
         max_connections = 400\n\
         max_prepared_transactions = 16\n\
         # Tests kill it: what was committed must be there afterwards.\n\
         fsync = on\n\
         synchronous_commit = on\n\
         full_page_writes = on\n\
         ssl = on\n\
         ssl_cert_file = '{folder}/server.pem'\n\
         ssl_key_file = '{folder}/server.key'\n\
         log_line_prefix = '%m [%p] %q%u@%d '\n\
         log_lock_waits = on\n\
         timezone = 'UTC'\n\
         log_timezone = 'UTC'\n"
    )
}

fn socket_path(folder: &Path, port: u16) -> String {
    format!("{}/.s.PGSQL.{port}", folder.display())
}

/// The beginning of a command line that runs a program as PostgreSQL's user when we are root.
fn as_system_user(program: &Path) -> Vec<String> {
    let program = program.to_string_lossy().into_owned();
    if !package::is_root() {
        return vec![program];
    }
    let words = ["setpriv", "--reuid", SYSTEM_USER, "--regid", SYSTEM_USER, "--init-groups", "--"];
    let mut command: Vec<String> = words.map(str::to_owned).to_vec();
    if let Some(setpriv) = package::find_program("setpriv") {
        command[0] = setpriv;
    }
    command.push(program);
    command
}

/// Gives a file to the user whom the server runs as.
fn own(path: &Path) -> Result<()> {
    if package::is_root() {
        let user = package::user_id(SYSTEM_USER)?;
        chown(path, Some(user), None)
            .with_context(|| format!("cannot give {} to {SYSTEM_USER}", path.display()))?;
    }
    Ok(())
}

/// Some folders, such as those of tests, are closed to other users further up.
fn check_reach(folder: &Path) -> Result<()> {
    let test = as_system_user(Path::new("/usr/bin/test"));
    let can_reach = Command::new(&test[0]).args(&test[1..]).arg("-w").arg(folder).status()?.success();
    if !can_reach {
        bail!(
            "the user {SYSTEM_USER} cannot reach {}: choose a folder with --dir whose parents are open to others (mode 0755)",
            folder.display()
        );
    }
    Ok(())
}

/// A database that is to be made, with an owner who can log in and is nothing else.
pub fn plan_database(name: &str) -> Result<Database> {
    let name = format!("covey_{name}");
    Ok(Database { owner: Login { user: name.clone(), password: secret::password()? }, name, is_made: false })
}

/// Makes it. What an unfinished call left is made anew.
pub fn create_database(server: &Postgresql, database: &Database) -> Result<()> {
    let Database { name, owner: Login { user, password }, .. } = database;
    // The names hold a-z, 0-9 and _ only, the password hexadecimal digits: nothing needs quoting.
    query(
        server,
        &[
            &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            &format!("DROP ROLE IF EXISTS {user}"),
            &format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'"),
            &format!("CREATE DATABASE {name} OWNER {user}"),
            &format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
        ],
    )
}

/// Removes a database with its owner, though somebody may be connected.
pub fn drop_database(server: &Postgresql, database: &Database) -> Result<()> {
    query(
        server,
        &[
            &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", database.name),
            &format!("DROP ROLE IF EXISTS {}", database.owner.user),
        ],
    )
}

/// The address of a database as `covey up --store` takes it.
pub fn url(server: &Postgresql, database: &Database) -> String {
    let Login { user, password } = &database.owner;
    format!("postgres://{user}:{password}@127.0.0.1:{}/{}", server.port, database.name)
}

/// The address of any database for the administrator, by the socket where there is one.
pub fn admin_url(server: &Postgresql, database: &str) -> String {
    let Login { user, password } = &server.admin;
    match &server.socket_dir {
        Some(folder) => {
            format!("postgres:///{database}?host={}&port={}&user={user}", folder.display(), server.port)
        }
        None => format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", server.port),
    }
}

/// Runs statements as the administrator, each in a transaction of its own.
fn query(server: &Postgresql, statements: &[&str]) -> Result<()> {
    let text = format!("{};\n", statements.join(";\n"));
    let mut psql = Command::new(server.programs.join("psql"))
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--host", "127.0.0.1"])
        .args(["--port", &server.port.to_string(), "--username", ADMIN, "--dbname", "postgres"])
        .env("PGPASSWORD", &server.admin.password)
        .env("PGOPTIONS", "-c client_min_messages=warning")
        // The statements come this way, and not among the arguments that all users of the machine can read.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run psql")?;
    psql.stdin.take().context("psql without an input")?.write_all(text.as_bytes())?;
    let done = psql.wait_with_output()?;
    if !done.status.success() {
        bail!("psql ended with {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

/// Writes a file into the server's data folder, for the server to read.
pub fn write_data(locked: &mut Locked, name: &str, text: &str) -> Result<()> {
    let path = locked.state.process(PROCESS)?.folder.join("data").join(name);
    secret::write(&path, text, 0o600)?;
    own(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_keeps_commits_safe_and_listens_on_loopback_only() {
        let text = configuration(Path::new("/it's"), 11_111, None);
        for line in [
            "listen_addresses = '127.0.0.1'",
            "port = 11111",
            "unix_socket_directories = ''",
            "fsync = on",
            "synchronous_commit = on",
            "ssl_key_file = '/it''s/server.key'",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }

    #[test]
    fn the_url_holds_what_a_client_needs() {
        let login = |user: &str| Login { user: user.to_owned(), password: "ab12".to_owned() };
        let server =
            Postgresql { programs: PathBuf::new(), port: 5, admin: login("admin"), socket_dir: None };
        let database = Database { name: "covey_x".to_owned(), owner: login("covey_x"), is_made: true };
        assert_eq!(url(&server, &database), "postgres://covey_x:ab12@127.0.0.1:5/covey_x");
        assert_eq!(admin_url(&server, "d"), "postgres://admin:ab12@127.0.0.1:5/d");
        let server = Postgresql { socket_dir: Some("/s".into()), ..server };
        assert_eq!(admin_url(&server, "d"), "postgres:///d?host=/s&port=5&user=admin");
    }
}
