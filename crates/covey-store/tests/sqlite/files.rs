//! The file: whose it is, and when it is refused.

use std::path::Path;
use std::sync::Arc;

use covey_core::task::IdempotencyKey;
use covey_store::StoreError;
use covey_store::sqlite::{Options, Sqlite, verify};
use futures_executor::block_on;
use rusqlite::Connection;

use crate::bench::parts::{Counts, TestClock};
use crate::bench::sqlite::SqliteBench;
use crate::bench::{World, result, spec};

fn open(path: &Path) -> Result<Sqlite, StoreError> {
    Sqlite::open(&Options::new(path), Arc::<TestClock>::default(), Arc::<Counts>::default())
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("covey.db");
    drop(open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
    assert!(matches!(open(&path), Err(StoreError::Newer { found: 999, .. })));
    assert!(matches!(verify(&path), Err(StoreError::Newer { found: 999, .. })));
}

#[test]
fn a_foreign_file_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(open(&path), Err(StoreError::Foreign { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let text = folder.path().join("letter.txt");
    std::fs::write(&text, "Dear reader, this is no database. ".repeat(100)).unwrap();
    assert!(matches!(open(&text), Err(StoreError::Foreign { .. })));
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = open(&folder.path().join("nowhere/covey.db")).err().unwrap().to_string();
    assert!(refused.contains("nowhere"), "{refused}");
}

#[cfg(unix)]
#[test]
fn the_file_and_its_log_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let bench = SqliteBench::new();
    let path = bench.path();
    let world = World::new(bench);
    world.create(spec(&world.device(0)));
    let copy = path.with_extension("copy");
    covey_store::sqlite::backup(&path, &copy).unwrap();
    for file in [path.clone(), path.with_extension("db-wal"), path.with_extension("db-shm"), copy] {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

/// Runs as another user where root runs the tests, for whom no file is read-only.
#[cfg(unix)]
#[test]
fn a_file_that_may_only_be_read_is_refused_with_its_reason() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("covey.db");
    drop(open(&path).unwrap());
    let mut command = crate::child("files::child_that_opens_a_read_only_file", folder.path());
    if std::fs::metadata(&path).unwrap().uid() == 0 {
        let program = std::env::temp_dir().join(format!("covey-store-test-{}", std::process::id()));
        std::fs::copy(command.get_program(), &program).unwrap();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = std::process::Command::new(&program);
        command.args(arguments).env(crate::CHILD_FOLDER, folder.path()).uid(NOBODY).current_dir("/");
        chown(folder.path(), Some(NOBODY), None).unwrap();
        chown(&path, Some(NOBODY), None).unwrap();
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let done = command.output().unwrap();
    let _ =
        std::fs::remove_file(std::env::temp_dir().join(format!("covey-store-test-{}", std::process::id())));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

#[test]
#[ignore = "a process that another test starts"]
fn child_that_opens_a_read_only_file() {
    let Some(folder) = std::env::var_os(crate::CHILD_FOLDER) else { return };
    let refused = open(&Path::new(&folder).join("covey.db")).err().unwrap();
    assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused}");
}

#[test]
fn idempotency_keys_do_not_stay_for_ever() {
    let bench = SqliteBench::new();
    let path = bench.path();
    let world = World::new(bench);
    let device = world.device(0);
    // More than one sweep forgets. Finished tasks never expire, so that nothing
    // but the keys themselves asks for a sweep.
    let create = &|number: u32| {
        let key = Some(IdempotencyKey { key: number.to_string(), request_digest: [0; 32] });
        let id = world.engine().task_id();
        block_on(world.engine().for_caller(world.org(0)).task_create(id, spec(&device), key)).unwrap();
        world.finish(&device, id, result(200, 0, "")).unwrap();
    };
    std::thread::scope(|scope| {
        for part in 0..15 {
            scope.spawn(move || (part * 100..(part + 1) * 100).for_each(create));
        }
    });
    let connection = Connection::open(path).unwrap();
    let count =
        || connection.query_row("SELECT count(*) FROM idempotency", [], |row| row.get::<_, u32>(0)).unwrap();
    world.sweep();
    assert_eq!(count(), 1_500);
    world.pass_ms(world.limits.idempotency_ms + 60_000);
    world.sweep();
    assert_eq!(count(), 0);
}
