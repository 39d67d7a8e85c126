//! The key file: identities of nodes, each with a pre-shared key, as Mosquitto (`psk_file`) and GnuTLS (`psktool`) write it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::RngExt;

/// How many identities there may be.
/// Limit for each key file: it is refused.
const IDENTITIES_MAX: usize = 100_000;
/// Longest identity, in bytes: as long as every library must take one (RFC 4279 §5.3).
/// Limit for each identity: the key file is refused.
const IDENTITY_BYTES_MAX: usize = 128;
/// Shortest key, in bytes: one that is shorter can be found by trying (RFC 9257 §6).
/// Limit for each key: the key file is refused.
const KEY_BYTES_MIN: usize = 16;
/// Longest key, in bytes (RFC 4279 §5.3).
/// Limit for each key: the key file is refused.
const KEY_BYTES_MAX: usize = 64;
/// How many bytes a new key has: as many as that of the cipher.
const NEW_KEY_BYTES: usize = 16;
/// Largest key file, in bytes.
/// Limit for each key file: it is refused.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot read the key file {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write the key file {}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read it.
    #[error("others may read the key file {path}: chmod 600 {path}", path = path.display())]
    Open {
        /// Which file.
        path: PathBuf,
    },
    /// It is no key file.
    #[error(
        "{} is no key file of nodes: {problem}. Its lines are IDENTITY:KEY or IDENTITY:KEY:UID,UID, with the key in \
         hexadecimal digits (docs/nodes-coap.md)",
        path.display()
    )]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong, without the key.
        problem: String,
    },
}

/// Who may come, and as which node.
pub struct Identity {
    /// What it is called.
    pub name: Arc<str>,
    key: Box<[u8]>,
    /// The nodes that it speaks for; none: all that nobody else is named for.
    uids: Option<HashSet<Box<str>>>,
}

/// The key is not shown.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Identity {
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The node that it speaks for, if it is one alone.
    #[must_use]
    pub fn only_uid(&self) -> Option<&str> {
        let uids = self.uids.as_ref().filter(|uids| uids.len() == 1)?;
        uids.iter().next().map(|uid| &**uid)
    }
}

/// All identities of a key file.
#[derive(Debug)]
pub struct Keys {
    by_name: HashMap<Box<str>, Arc<Identity>>,
    /// The nodes that an identity is named for.
    named: HashSet<Box<str>>,
}

impl Keys {
    /// Reads a key file, which its owner alone may read.
    ///
    /// # Errors
    /// [`KeyFileError`], without a key.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
        let text = Self::text_of(path, &File::open(path).map_err(failed)?)?;
        let parsed = Self::parse(&text);
        parsed.map_err(|problem| KeyFileError::Content { path: path.to_owned(), problem })
    }

    /// Adds an identity with a new key to a key file, which is made if it is missing. Without uids it speaks for the node of
    /// its name.
    ///
    /// # Errors
    /// [`KeyFileError`]; nothing is written then, unless the disk failed.
    pub fn add(path: &Path, name: &str, uids: &[String]) -> Result<(), KeyFileError> {
        let failed = |source| KeyFileError::Write { path: path.to_owned(), source };
        let mut key = [0_u8; NEW_KEY_BYTES];
        rand::rng().fill(&mut key);
        let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let uids = if uids.is_empty() { String::new() } else { format!(":{}", uids.join(",")) };
        let mut file =
            File::options().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        let mut text = Self::text_of(path, &file)?;
        let before = text.len();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("{name}:{digits}{uids}\n"));
        let problem = |problem| KeyFileError::Content { path: path.to_owned(), problem };
        if name.contains([':', '#']) {
            return Err(problem("an identity has no : and no #".to_owned()));
        }
        Self::parse(&text).map_err(problem)?;
        let added = text.get(before..).unwrap_or_default();
        file.write_all(added.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// The text of a key file that its owner alone may read.
    fn text_of(path: &Path, file: &File) -> Result<String, KeyFileError> {
        let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
        if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(KeyFileError::Open { path: path.to_owned() });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            let problem = "it has more than 32 MiB".to_owned();
            return Err(KeyFileError::Content { path: path.to_owned(), problem });
        }
        Ok(text)
    }

    /// Reads the text of a key file. Empty lines and those that begin with `#` are none.
    ///
    /// # Errors
    /// What is wrong, without the line's text, which is a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut by_name, mut named) = (HashMap::new(), HashSet::new());
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim_end).enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let wrong = |why: &str| format!("line {}: {why}", number + 1);
            let mut parts = line.splitn(3, ':');
            let name = parts.next().unwrap_or_default();
            if !(1..=IDENTITY_BYTES_MAX).contains(&name.len()) || name.chars().any(char::is_control) {
                return Err(wrong("an identity has 1 to 128 bytes and no control characters"));
            }
            let key =
                parts.next().and_then(bytes_of).ok_or_else(|| wrong("the key is no hexadecimal digits"))?;
            if key.len() < KEY_BYTES_MIN {
                return Err(wrong(
                    "a key has 16 bytes (32 digits) at least: a shorter one can be found by trying",
                ));
            }
            if key.len() > KEY_BYTES_MAX {
                return Err(wrong("a key has 64 bytes (128 digits) at most"));
            }
            let uids = match parts.next().map(str::trim) {
                Some("*") => None,
                Some(uids) => {
                    Some(uids.split(',').map(str::trim).map(Box::from).collect::<HashSet<Box<str>>>())
                }
                // A node is called as its identity, unless somebody says otherwise.
                None => Some([Box::from(name)].into()),
            };
            for uid in uids.iter().flatten() {
                if uid.is_empty() {
                    return Err(wrong("a uid is missing"));
                }
                if !named.insert(uid.clone()) {
                    return Err(wrong("an identity before it is named for the same uid"));
                }
            }
            let identity = Arc::new(Identity { name: Arc::from(name), key, uids });
            if by_name.insert(Box::from(name), identity).is_some() {
                return Err(wrong("this identity was there before"));
            }
            if by_name.len() > IDENTITIES_MAX {
                return Err(wrong("there are more than 100000 identities"));
            }
        }
        if by_name.is_empty() {
            return Err("there is no identity in it; covey key psk IDENTITY --out FILE adds one".to_owned());
        }
        Ok(Self { by_name, named })
    }

    /// The identity of this name.
    pub(in crate::coap) fn find(&self, name: &[u8]) -> Option<&Arc<Identity>> {
        self.by_name.get(std::str::from_utf8(name).ok()?)
    }

    /// Whether an identity may speak for a node.
    #[must_use]
    pub fn may(&self, identity: &Identity, uid: &str) -> bool {
        match &identity.uids {
            Some(uids) => uids.contains(uid),
            None => !self.named.contains(uid),
        }
    }

    /// Whether an identity is named for a node, which is not heard without DTLS then.
    #[must_use]
    pub fn is_named(&self, uid: &str) -> bool {
        self.named.contains(uid)
    }

    /// How many identities there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none: never of a file that was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// The bytes that hexadecimal digits stand for.
fn bytes_of(digits: &str) -> Option<Box<[u8]>> {
    let digits = digits.trim().as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f";

    #[test]
    fn an_identity_speaks_for_the_node_of_its_name_for_those_it_is_named_for_or_for_those_of_nobody() {
        let text = format!("# nodes\n\n1234:{KEY}\nroof:{KEY}:20,21\nfleet:{KEY}:*\n");
        let keys = Keys::parse(&text).unwrap();
        let may = |name: &str, uid: &str| keys.may(keys.find(name.as_bytes()).unwrap(), uid);
        assert_eq!((may("1234", "1234"), may("1234", "20"), may("1234", "9")), (true, false, false));
        assert_eq!((may("roof", "21"), may("roof", "roof"), may("roof", "1234")), (true, false, false));
        assert_eq!((may("fleet", "9"), may("fleet", "1234"), may("fleet", "20")), (true, false, false));
        assert_eq!((keys.is_named("20"), keys.is_named("9")), (true, false));
        assert_eq!(keys.find(b"roof").unwrap().key(), (0..16).collect::<Vec<u8>>());
        assert!(keys.find(b"nobody").is_none() && keys.find(b"\xff").is_none());
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_with_its_line_and_without_its_key() {
        let long = "ab".repeat(KEY_BYTES_MAX + 1);
        for (text, says) in [
            (String::new(), "no identity"),
            ("1234".to_owned(), "line 1: the key"),
            ("1234:abcd".to_owned(), "16 bytes"),
            (format!("1234:{long}"), "64 bytes"),
            ("1234:not hexadecimal digits at all!".to_owned(), "line 1: the key"),
            (format!(":{KEY}"), "an identity"),
            (format!("a:{KEY}\na:{KEY}:b"), "line 2: this identity"),
            (format!("a:{KEY}\nb:{KEY}:a"), "line 2: an identity before"),
            (format!("a:{KEY}:b,,c"), "a uid is missing"),
        ] {
            let problem = Keys::parse(&text).unwrap_err();
            assert!(problem.contains(says), "{text:?}: {problem}");
            assert!(!problem.contains("0001") && !problem.contains("abab"), "{problem}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, format!("1234:{KEY}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Keys::read(&path), Err(KeyFileError::Open { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Keys::read(&path).unwrap().len(), 1);
    }

    #[test]
    fn an_identity_is_added_with_a_key_of_its_own_and_a_wrong_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        Keys::add(&path, "1234", &[]).unwrap();
        Keys::add(&path, "roof", &["20".to_owned(), "21".to_owned()]).unwrap();
        Keys::add(&path, "fleet", &["*".to_owned()]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (keys, text) = (Keys::read(&path).unwrap(), std::fs::read_to_string(&path).unwrap());
        assert_eq!(keys.len(), 3);
        assert!(keys.may(keys.find(b"roof").unwrap(), "21") && keys.may(keys.find(b"1234").unwrap(), "1234"));
        assert_ne!(keys.find(b"roof").unwrap().key(), keys.find(b"fleet").unwrap().key());
        for (name, uid) in [("1234", "5"), ("new", "20"), ("a:b", "5"), ("#a", "5"), ("", "5")] {
            assert!(Keys::add(&path, name, &[uid.to_owned()]).is_err(), "{name}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
