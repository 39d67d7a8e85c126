//! `covey migrate-store`: moves a site from SQLite to PostgreSQL.

use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Result;
use clap::Args;
use covey_core::id::UnixMs;
use covey_pki::{Authority, CertificateLifetimes};
use covey_store::migrate::{self, MigrateError, Options, Progress, Report};
use covey_store::{postgres, sqlite};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::command::connection::shell_word;
use crate::deployment::{self, CA_FACT};
use crate::fault;
use crate::serve::data_dir::DataDir;
use crate::settings::ServiceUrl;

/// The name under which the database knows this program meanwhile.
const NAME: &str = "migrate-store";
/// Begins a source that is a file and no data directory.
const FILE_PREFIX: &str = "sqlite:";

/// Arguments of `covey migrate-store`.
#[derive(Args)]
#[command(
    after_help = "Example: covey migrate-store --from ./covey-data --to postgres://covey:PASSWORD@db/covey\n\n\
    Stop the server first. The SQLite database is only read; the PostgreSQL database must be empty. If the\n\
    command is interrupted, run it again: it continues where it was. No server starts on the target before\n\
    the command has compared both sides row by row and found them equal."
)]
pub struct MigrateStoreArgs {
    /// The data directory of the server to move, or sqlite:PATH for a file
    #[arg(long, env = "COVEY_DATA", value_name = "DIR", default_value = "covey-data")]
    from: String,
    /// The database to move it to, postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(long, env = "COVEY_STORE", value_name = "URL", hide_env_values = true)]
    to: ServiceUrl,
    /// Only compare both sides; change nothing
    #[arg(long)]
    verify_only: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// What is moved.
struct Origin {
    /// The data directory, if it is one.
    data: Option<PathBuf>,
    file: PathBuf,
    /// Keeps servers away from it until the end.
    _held: Option<DataDir>,
}

/// Runs the command.
pub fn run(args: MigrateStoreArgs) -> Result<()> {
    if !matches!(args.to.scheme(), "postgres" | "postgresql") {
        return Err(fault::setup("the target must be a URL that begins with postgres://; give it with --to"));
    }
    let to = postgres::Options::new(args.to.exposed(), NAME).map_err(fault::setup)?;
    let origin = Origin::open(&args.from)?;
    let now = OffsetDateTime::now_utc();
    let now_ms = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
    let mut options = Options::new(&origin.file, to, UnixMs(now_ms));
    let bar = Bar::new(args.json)?;
    let watch = |progress| bar.show(progress);
    let outcome = if args.verify_only {
        migrate::verify(&options, &watch)
    } else {
        options.facts = origin.facts(now)?;
        migrate::run(&options, &watch)
    };
    bar.bar.finish_and_clear();
    // Also where an earlier run was ended just before it left word.
    if !args.verify_only && matches!(outcome, Ok(_) | Err(MigrateError::Finished { .. })) {
        deployment::leave_moved(&origin.file, &args.to)?;
    }
    let report = outcome.map_err(explained)?;
    tell(&args, &origin, &report)
}

impl Origin {
    fn open(from: &str) -> Result<Self> {
        let (data, file) = match from.strip_prefix(FILE_PREFIX) {
            Some(path) => (None, PathBuf::from(path)),
            None => (Some(PathBuf::from(from)), sqlite::file_in(Path::new(from))),
        };
        if !file.is_file() {
            let shown = file.display();
            return Err(fault::setup(format!(
                "there is no database {shown}; name the data directory, or the file as sqlite:PATH, with --from"
            )));
        }
        // A file in a data directory is that server's, too.
        let folder = file.parent().unwrap_or(Path::new(""));
        let is_data = data.is_some() || (folder.join("lock").exists() && file == sqlite::file_in(folder));
        let held = if is_data { Some(hold(folder)?) } else { None };
        Ok(Self { data, file, _held: held })
    }

    /// What servers on the target must agree on.
    fn facts(&self, now: OffsetDateTime) -> Result<Vec<(String, String)>> {
        let Some(pki) = self.pki().filter(|pki| pki.join("ca.pem").exists()) else { return Ok(Vec::new()) };
        let authority =
            Authority::open_or_create(&pki, CertificateLifetimes::default(), now).map_err(fault::setup)?;
        Ok(vec![(CA_FACT.to_owned(), authority.fingerprint_sha256())])
    }

    fn pki(&self) -> Option<PathBuf> {
        self.data.as_ref().map(|data| data.join("pki"))
    }
}

/// Takes hold of the data directory as a server does.
fn hold(folder: &Path) -> Result<DataDir> {
    let shown = folder.display();
    DataDir::hold(folder)?.ok_or_else(|| {
        fault::setup(format!(
            "a server runs on {shown}; stop it, so that nothing changes while it is moved, and try again"
        ))
    })
}

/// A fault of what is stored ends with another code than one of the surroundings.
fn explained(error: MigrateError) -> anyhow::Error {
    match error {
        MigrateError::BadRow { .. }
        | MigrateError::Incomplete { .. }
        | MigrateError::Differs { .. }
        | MigrateError::Sequence { .. } => error.into(),
        _ => fault::setup(error),
    }
}

/// What is shown while it goes on.
struct Bar {
    bar: ProgressBar,
    stage: Mutex<Option<(&'static str, &'static str)>>,
}

impl Bar {
    fn new(is_json: bool) -> Result<Self> {
        let bar = if is_json || !stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            let template = "{msg:24} {wide_bar} {human_pos}/{human_len} rows, {per_sec}, {eta} left";
            ProgressBar::new(0).with_style(ProgressStyle::with_template(template)?)
        };
        Ok(Self { bar, stage: Mutex::new(None) })
    }

    fn show(&self, progress: Progress) {
        let (what, table, rows, of) = match progress {
            Progress::Checking => ("checking", "the source", 0, 0),
            Progress::Copying { table, rows, of } => ("copying", table, rows, of),
            Progress::Comparing { table, rows, of } => ("comparing", table, rows, of),
        };
        let mut stage = self.stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *stage != Some((what, table)) {
            *stage = Some((what, table));
            self.bar.reset();
            self.bar.set_message(format!("{what} {table}"));
            self.bar.set_length(of);
            // Rows of an earlier run do not count for the speed.
            self.bar.set_position(rows);
            self.bar.reset_eta();
        }
        self.bar.set_position(rows);
    }
}

/// What to do next, as commands.
fn next(args: &MigrateStoreArgs, origin: &Origin) -> Vec<String> {
    let store = shell_word(&args.to.to_string());
    let pki = origin.pki().map_or_else(String::new, |pki| shell_word(&pki.display().to_string()));
    let here = origin
        .data
        .as_ref()
        .map(|data| format!("covey up --data {} --store {store}", shell_word(&data.display().to_string())));
    let elsewhere = match pki.as_str() {
        "" => format!("covey up --data NEW_DIR --store {store} --pki-from PKI_OF_THE_SITE"),
        pki => format!("covey up --data NEW_DIR --store {store} --pki-from {pki}"),
    };
    here.into_iter().chain([elsewhere]).collect()
}

fn tell(args: &MigrateStoreArgs, origin: &Origin, report: &Report) -> Result<()> {
    let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
    let next = next(args, origin);
    if args.json {
        let table = |table: &migrate::MovedTable| -> Value {
            json!({
                "table": table.table, "rows": table.rows, "copied": table.copied, "checksum": table.checksum,
            })
        };
        let document = json!({
            "from": origin.file,
            "to": args.to.to_string(),
            "verify_only": args.verify_only,
            "resumed": report.is_resumed,
            "equal": true,
            "rows": rows,
            "tables": report.tables.iter().map(table).collect::<Vec<_>>(),
            "copy_ms": report.copy_ms,
            "compare_ms": report.compare_ms,
            "next": next,
        });
        println!("{document}");
        return Ok(());
    }
    for table in report.tables.iter().filter(|table| table.rows > 0) {
        println!("{:>12}  {:<13} sha256 {}", table.rows, table.table, table.checksum);
    }
    let compared = report.compare_ms.div_ceil(1000);
    if args.verify_only {
        println!("{rows} rows are the same in {} and {} ({compared} s)", origin.file.display(), args.to);
        return Ok(());
    }
    let copied = report.copy_ms.div_ceil(1000);
    println!("{rows} rows were moved to {} ({copied} s) and found equal there ({compared} s).", args.to);
    println!("Next, with the whole URL as it was given to --to:");
    let [first, rest @ ..] = next.as_slice() else { return Ok(()) };
    if rest.is_empty() {
        println!("  {first}");
    } else {
        println!("  {first}   (on this machine)");
        rest.iter().for_each(|command| println!("  {command}   (on others)"));
    }
    if let Some(data) = &origin.data {
        println!(
            "The API key in {} stays valid, as all keys and certificates do.",
            data.join("admin.key").display()
        );
    }
    println!(
        "Keep {} until you have a backup of the new database. No server starts on it any more.",
        origin.file.display()
    );
    Ok(())
}
