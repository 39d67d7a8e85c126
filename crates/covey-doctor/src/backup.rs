//! The trace that a backup leaves in the data directory, and backups that are too old.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use covey_core::finding::{Code, Finding};
use serde::{Deserialize, Serialize};

use crate::words::{self, DAY_S};

/// The name of the file.
pub const TRACE: &str = "backup.json";
/// More than a trace takes; a longer file is none.
const TRACE_BYTES_MAX: u64 = 16 * 1024;

/// What is known of the last backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// When what it holds was so, in Unix seconds.
    pub at: i64,
    /// Where it is; none if it was made by another program.
    pub to: Option<PathBuf>,
    /// The version of Covey that left the trace.
    pub version: String,
}

impl Trace {
    /// Leaves it in a data directory, for the owner of that alone, whole or not at all.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn leave(&self, data: &Path) -> io::Result<()> {
        let unfinished = data.join(TRACE).with_extension("unfinished");
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
        let owner = fs::metadata(data)?;
        if owner.uid() != file.metadata()?.uid() {
            // Whoever may not give it away is not root, and made it as the user that he is.
            let _ = fchown(&file, Some(owner.uid()), Some(owner.gid()));
        }
        file.write_all(serde_json::to_string(self)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, data.join(TRACE))?;
        File::open(data)?.sync_all()
    }

    /// Reads that of a data directory; none if there is none, or none that can be read: then no backup is known.
    #[must_use]
    pub fn read(data: &Path) -> Option<Self> {
        let mut text = String::new();
        File::open(data.join(TRACE)).ok()?.take(TRACE_BYTES_MAX).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// How old the backup is, in seconds.
    #[must_use]
    pub fn age_s(&self, now_s: i64) -> i64 {
        now_s.saturating_sub(self.at).max(0)
    }
}

/// What is known of the backups of a data directory.
#[derive(Clone, Debug)]
pub struct Backups<'a> {
    /// The data directory.
    pub data: &'a Path,
    /// The last one.
    pub last: Option<Trace>,
    /// Since when there is something to back up, in Unix seconds; none where others than `covey backup` do it.
    pub since_s: Option<i64>,
    /// How many days old it may be; 0 for any.
    pub days_max: u32,
}

impl Backups<'_> {
    /// What is wrong with them.
    #[must_use]
    pub fn finding(&self, now_s: i64) -> Option<Finding> {
        let (days_max, max_s) = (self.days_max, i64::from(self.days_max).saturating_mul(DAY_S));
        if days_max == 0 {
            return None;
        }
        let data = words::path(self.data);
        let remedy = format!(
            "covey backup --data {data} --to NEW_FOLDER, each night; if another program makes them: covey backup --data \
             {data} --made-elsewhere after each (--backup-days-max says how old one may be, 0 that nobody asks)"
        );
        let about = self.data.display();
        match (&self.last, self.since_s) {
            (Some(last), _) if last.age_s(now_s) > max_s => {
                let seen = format!(
                    "the last backup is of {}, {} ago; it may be {days_max} days old",
                    words::instant(last.at),
                    words::length(last.age_s(now_s))
                );
                Some(Finding::warning(Code::BackupOld, about, seen, remedy))
            }
            (None, Some(since_s)) if now_s.saturating_sub(since_s) > max_s => {
                let age = words::length(now_s.saturating_sub(since_s));
                let seen = format!("no backup was made in {age}; the last one may be {days_max} days old");
                Some(Finding::warning(Code::BackupMissing, about, seen, remedy))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_backup_that_is_too_old_or_was_never_made_is_told_of() {
        let trace = |at| Trace { at, to: None, version: "1".to_owned() };
        let found = |last: Option<i64>, since_s, days_max| {
            let backups = Backups { data: Path::new("data"), last: last.map(trace), since_s, days_max };
            backups.finding(100 * DAY_S).map(|found| found.code)
        };
        assert_eq!(found(Some(93 * DAY_S), Some(0), 7), None);
        assert_eq!(found(Some(93 * DAY_S - 1), Some(0), 7), Some(Code::BackupOld));
        assert_eq!(found(Some(0), None, 7), Some(Code::BackupOld));
        assert_eq!(found(Some(i64::MAX), None, 7), None, "a clock that was set back");
        assert_eq!(found(None, Some(93 * DAY_S), 7), None);
        assert_eq!(found(None, Some(93 * DAY_S - 1), 7), Some(Code::BackupMissing));
        assert_eq!((found(None, None, 7), found(Some(0), Some(0), 0)), (None, None));
    }

    #[test]
    fn a_trace_is_its_owners_alone_and_what_is_none_is_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Trace::read(dir.path()), None);
        let trace = Trace { at: 7, to: Some("/b".into()), version: "1".to_owned() };
        trace.leave(dir.path()).unwrap();
        assert_eq!(Trace::read(dir.path()), Some(trace));
        let path = dir.path().join(TRACE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for text in ["", "{}", "[", r#"{"at":"x"}"#] {
            fs::write(&path, text).unwrap();
            assert_eq!(Trace::read(dir.path()), None, "{text}");
        }
    }
}
