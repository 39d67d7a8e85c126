//! The file: whose it is, and when it is refused.

use std::path::Path;
use std::sync::Arc;

use covey_core::task::IdempotencyKey;
use covey_store::StoreError;
use covey_store::sqlite::{Options, Sqlite, verify};
use futures_executor::block_on;
use rusqlite::Connection;

use crate::child;
use crate::world::parts::{Counts, TestClock};
use crate::world::sqlite::SqliteBackend;
use crate::world::{World, result, spec};

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
    let backend = SqliteBackend::new();
    let path = backend.path();
    let world = World::new(backend);
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
    use std::process::Command;
    const TEST: &str = "sqlite::files::a_file_that_may_only_be_read_is_refused_with_its_reason";
    const NOBODY: u32 = 65_534;
    if let Some(orders) = child::orders() {
        let refused = open(Path::new(&orders[0])).err().unwrap();
        assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused:?}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("covey.db");
    drop(open(&path).unwrap());
    let programs = tempfile::tempdir().unwrap();
    let words = child::words(TEST);
    let mut command = Command::new(&words[0]);
    if std::fs::metadata(&path).unwrap().uid() == 0 {
        // Where nobody may read it; and by another process: a file that another thread's new process has open
        // for writing for a moment cannot be run.
        let program = programs.path().join("test");
        let copied = Command::new("cp").arg(&words[0]).arg(&program).status().unwrap();
        assert!(copied.success());
        command = Command::new(&program);
        command.uid(NOBODY).current_dir("/");
        for theirs in [programs.path(), folder.path(), &path] {
            chown(theirs, Some(NOBODY), None).unwrap();
        }
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
    let done = child::order(command.args(&words[1..]), &[path.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{}, {left:?}: {said}", done.status);
}

#[test]
fn idempotency_keys_do_not_stay_for_ever() {
    let backend = SqliteBackend::new();
    let path = backend.path();
    let world = World::new(backend);
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
