//! The archive of devices that are registered in bulk: a folder for each with `ca.pem`, `cert.pem` and `key.pem`, and at its
//! end an index in CSV. It grows device by device, so that an end at any moment loses none that is in it: beside it a list
//! says up to where it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use tar::{Builder, Header};

use crate::command::device::identity_folder::{CA_FILE, CERTIFICATE_FILE, KEY_FILE};
use crate::fault;

/// After how many devices the archive is brought to the disk.
const SYNC_EVERY: usize = 256;
/// The blocks of zeros at the end of an archive (POSIX.1-2017, pax).
const END_BYTES: usize = 1024;
/// The first line of the index.
const CSV_HEAD: &str = "sn,device_id,certificate_sha256,folder\n";
const INDEX_FILE: &str = "index.csv";

/// Which devices an archive is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Tells one batch from all others: the value of a tag of its devices.
    pub id: String,
    pub prefix: String,
    pub from: u32,
    pub count: u32,
}

/// A device in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub sn: String,
    pub device_id: i64,
    pub certificate_sha256: String,
}

/// What a device gets.
pub struct Files<'a> {
    pub ca: &'a str,
    pub certificate: &'a str,
    pub key: &'a str,
}

/// An archive that is being written.
pub struct Archive {
    path: PathBuf,
    partial: PathBuf,
    list_path: PathBuf,
    tar: File,
    list: File,
    /// Up to where each is whole. What a write that failed has left behind it is written over.
    end: u64,
    list_end: u64,
    pub batch: Batch,
    pub rows: Vec<Row>,
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn cannot(path: &Path, error: &io::Error) -> anyhow::Error {
    fault::setup(format!("cannot write {}: {error}", path.display()))
}

fn new_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| cannot(path, &error))
}

/// Brings to the disk which files are in the folder of this one.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

impl Archive {
    /// Begins an archive.
    pub fn begin(path: &Path, batch: Batch) -> Result<Self> {
        let (partial, list_path) = (beside(path, ".partial"), beside(path, ".list"));
        if path.exists() {
            return Err(fault::setup(format!(
                "{} is there already: give another file with --out",
                path.display()
            )));
        }
        if partial.exists() {
            let shown = partial.display();
            return Err(fault::setup(format!(
                "{shown} was left unfinished: go on with the same command and --resume, or remove it"
            )));
        }
        let tar = new_file(&partial)?;
        // Of an archive that was removed by hand.
        let _ = fs::remove_file(&list_path);
        let list = new_file(&list_path)?;
        let head = batch_line(&batch);
        // The batch is known whatever happens: its devices are found by it.
        let written = list.write_all_at(head.as_bytes(), 0).and_then(|()| list.sync_all());
        written.and_then(|()| sync_folder(&list_path)).map_err(|error| cannot(&list_path, &error))?;
        let (path, list_end) = (path.to_owned(), head.len() as u64);
        Ok(Self { path, partial, list_path, tar, list, end: 0, list_end, batch, rows: Vec::new() })
    }

    /// Goes on with one that was left unfinished.
    pub fn resume(path: &Path, prefix: &str, from: u32, count: u32) -> Result<Self> {
        let (partial, list_path) = (beside(path, ".partial"), beside(path, ".list"));
        let open = |path: &Path| {
            OpenOptions::new().read(true).write(true).open(path).map_err(|error| {
                let shown = path.display();
                fault::setup(format!("there is no unfinished archive to go on with ({shown}: {error})"))
            })
        };
        let (tar, mut list) = (open(&partial)?, open(&list_path)?);
        let damaged =
            || fault::setup(format!("{} cannot be read: remove it and begin anew", list_path.display()));
        let length = tar.metadata().map_err(|error| cannot(&partial, &error))?.len();
        let mut text = String::new();
        list.read_to_string(&mut text).map_err(|_| damaged())?;
        // A line that is not whole may end in a number that is not, either.
        let mut lines = text.split_inclusive('\n').map_while(|line| line.strip_suffix('\n'));
        let head = lines.next().and_then(read_batch).ok_or_else(damaged)?;
        if (head.prefix.as_str(), head.from, head.count) != (prefix, from, count) {
            return Err(fault::setup(format!(
                "{} was begun with --prefix {} --from {} --count {}: go on with these",
                partial.display(),
                head.prefix,
                head.from,
                head.count
            )));
        }
        let (mut rows, mut end, mut list_end) = (Vec::new(), 0, batch_line(&head).len() as u64);
        // What the last line tells of may not have come to the archive.
        for line in lines {
            let Some((row, row_end)) = read_row(line) else { break };
            if row_end > length {
                break;
            }
            list_end += row_line(&row, row_end).len() as u64;
            end = row_end;
            rows.push(row);
        }
        let cut = |file: &File, to: u64, path: &Path| file.set_len(to).map_err(|error| cannot(path, &error));
        cut(&tar, end, &partial)?;
        cut(&list, list_end, &list_path)?;
        Ok(Self { path: path.to_owned(), partial, list_path, tar, list, end, list_end, batch: head, rows })
    }

    /// The unfinished archive.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Adds a device: first to the archive, then to the list.
    pub fn add(&mut self, row: Row, files: &Files<'_>) -> Result<()> {
        let bytes = folder(&row.sn, files).map_err(|error| cannot(&self.partial, &error))?;
        self.tar.write_all_at(&bytes, self.end).map_err(|error| cannot(&self.partial, &error))?;
        let end = self.end + bytes.len() as u64;
        let line = row_line(&row, end);
        let listed = self.list.write_all_at(line.as_bytes(), self.list_end);
        listed.map_err(|error| cannot(&self.list_path, &error))?;
        (self.end, self.list_end) = (end, self.list_end + line.len() as u64);
        self.rows.push(row);
        if self.rows.len().is_multiple_of(SYNC_EVERY) { self.sync() } else { Ok(()) }
    }

    /// Brings all of it to the disk.
    pub fn sync(&self) -> Result<()> {
        self.tar.sync_data().map_err(|error| cannot(&self.partial, &error))?;
        self.list.sync_data().map_err(|error| cannot(&self.list_path, &error))
    }

    /// Ends the archive with its index, and gives it its name.
    pub fn finish(mut self) -> Result<()> {
        self.rows.sort_by(|one, other| one.sn.cmp(&other.sn));
        let mut index = CSV_HEAD.to_owned();
        for Row { sn, device_id, certificate_sha256 } in &self.rows {
            index.push_str(&format!("{sn},{device_id},{certificate_sha256},{sn}\n"));
        }
        let written = (|| {
            let mut end = entry(INDEX_FILE, index.as_bytes())?;
            end.extend([0; END_BYTES]);
            self.tar.write_all_at(&end, self.end)?;
            self.tar.set_len(self.end + end.len() as u64)?;
            self.tar.sync_all()?;
            fs::rename(&self.partial, &self.path)?;
            // Before the list is removed: one of both is there at every moment.
            sync_folder(&self.path)
        })();
        written.map_err(|error| cannot(&self.partial, &error))?;
        fs::remove_file(&self.list_path).map_err(|error| anyhow!("{}: {error}", self.list_path.display()))
    }
}

/// The folder of a device, as bytes of an archive.
fn folder(sn: &str, files: &Files<'_>) -> io::Result<Vec<u8>> {
    let each = [(CA_FILE, files.ca), (CERTIFICATE_FILE, files.certificate), (KEY_FILE, files.key)];
    let each = each.into_iter().map(|(name, text)| entry(&format!("{sn}/{name}"), text.as_bytes()));
    each.collect::<io::Result<Vec<_>>>().map(|entries| entries.concat())
}

/// An entry, without the end of an archive behind it.
fn entry(name: &str, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    header.set_mtime(u64::try_from(now).unwrap_or(0));
    let mut builder = Builder::new(Vec::new());
    builder.append_data(&mut header, name, content)?;
    let mut bytes = builder.into_inner()?;
    bytes.truncate(bytes.len().saturating_sub(END_BYTES));
    Ok(bytes)
}

fn batch_line(Batch { id, prefix, from, count }: &Batch) -> String {
    format!("{id},{prefix},{from},{count}\n")
}

fn read_batch(line: &str) -> Option<Batch> {
    let mut parts = line.split(',');
    let (id, prefix) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let (from, count) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(Batch { id, prefix, from, count })
}

fn row_line(row: &Row, end: u64) -> String {
    format!("{},{},{},{end}\n", row.sn, row.device_id, row.certificate_sha256)
}

fn read_row(line: &str) -> Option<(Row, u64)> {
    let mut parts = line.split(',');
    let (sn, device_id) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
    let (certificate_sha256, end) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
    Some((Row { sn, device_id, certificate_sha256 }, end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::io::{Seek, SeekFrom};

    use super::*;

    const FILES: Files<'static> = Files { ca: "ca", certificate: "certificate", key: "key" };

    fn row(number: i64) -> Row {
        Row { sn: format!("LAMP-{number}"), device_id: number, certificate_sha256: "ab".to_owned() }
    }

    fn begun(path: &Path) -> Archive {
        let batch = Batch { id: "b-1".to_owned(), prefix: "LAMP-".to_owned(), from: 1, count: 3 };
        Archive::begin(path, batch).unwrap()
    }

    fn entries(path: &Path) -> BTreeMap<String, String> {
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let read = |entry: io::Result<tar::Entry<'_, File>>| {
            let mut entry = entry.unwrap();
            let (name, mut text) = (entry.path().unwrap().to_string_lossy().into_owned(), String::new());
            entry.read_to_string(&mut text).unwrap();
            (name, text)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn an_archive_that_was_cut_anywhere_goes_on_with_the_devices_that_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lamps.tar");
        let mut archive = begun(&path);
        archive.add(row(1), &FILES).unwrap();
        let after_one = archive.end;
        archive.add(row(2), &FILES).unwrap();
        drop(archive);
        let (partial, list) = (beside(&path, ".partial"), beside(&path, ".list"));
        let whole = (fs::read(&partial).unwrap(), fs::read(&list).unwrap());
        let head = whole.1.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in (0..=whole.0.len()).step_by(97) {
            for list_cut in head..=whole.1.len() {
                fs::write(&partial, &whole.0[..cut]).unwrap();
                fs::write(&list, &whole.1[..list_cut]).unwrap();
                let resumed = Archive::resume(&path, "LAMP-", 1, 3).unwrap();
                let known = resumed.rows.len();
                assert!(known as u64 * after_one <= cut as u64, "{cut} {list_cut}");
                assert_eq!(fs::metadata(&partial).unwrap().len(), resumed.end);
                if cut == whole.0.len() && list_cut == whole.1.len() {
                    assert_eq!(known, 2);
                }
            }
        }
        let mut resumed = Archive::resume(&path, "LAMP-", 1, 3).unwrap();
        let known = resumed.rows.len();
        (known as i64 + 1..=3).for_each(|number| resumed.add(row(number), &FILES).unwrap());
        resumed.finish().unwrap();
        let entries = entries(&path);
        assert_eq!(entries.len(), 3 * 3 + 1);
        assert_eq!(entries["LAMP-3/key.pem"], "key");
        assert_eq!(entries["index.csv"].lines().count(), 4);
        assert!(!partial.exists() && !list.exists());
    }

    #[test]
    fn what_a_write_that_failed_has_left_is_not_in_the_archive() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lamps.tar");
        let mut archive = begun(&path);
        archive.add(row(1), &FILES).unwrap();
        // A folder that has come to the archive half and a line that has come to the list half, and then the disk is full.
        archive.tar.seek(SeekFrom::End(0)).unwrap();
        archive.list.seek(SeekFrom::End(0)).unwrap();
        archive.tar.write_all(&[b'x'; 9_000]).unwrap();
        archive.list.write_all(b"LAMP-2,2,abcd").unwrap();
        let list = std::mem::replace(&mut archive.list, File::open(beside(&path, ".list")).unwrap());
        assert!(archive.add(row(2), &FILES).is_err());
        archive.list = list;
        archive.add(row(3), &FILES).unwrap();
        drop(archive);
        let resumed = Archive::resume(&path, "LAMP-", 1, 3).unwrap();
        assert_eq!(resumed.rows, [row(1), row(3)]);
        resumed.finish().unwrap();
        let entries = entries(&path);
        assert_eq!(entries.len(), 2 * 3 + 1, "{entries:?}");
    }

    #[test]
    fn an_archive_is_not_replaced_and_goes_on_as_it_was_begun() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lamps.tar");
        drop(begun(&path));
        let batch = Batch { id: "b-2".to_owned(), prefix: "LAMP-".to_owned(), from: 1, count: 3 };
        assert!(Archive::begin(&path, batch.clone()).is_err(), "one was left unfinished");
        assert!(Archive::resume(&path, "LAMP-", 1, 4).is_err());
        Archive::resume(&path, "LAMP-", 1, 3).unwrap().finish().unwrap();
        assert!(Archive::begin(&path, batch).is_err(), "it is finished");
        assert!(Archive::resume(&path, "LAMP-", 1, 3).is_err());
    }
}
