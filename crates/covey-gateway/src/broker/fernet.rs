//! The key file that a broker and its gateways share: a secret, and the key (Fernet) with which a gateway encrypts it to show
//! that it has both. How old a token is is not looked at: gateways may have no clock.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fernet::Fernet;
use rand::distr::{Alphanumeric, SampleString};
use subtle::ConstantTimeEq;

/// Length of the secret, in characters of `A-Z a-z 0-9`. One of this length never makes a token that ends with `=`,
/// which a WebSocket subprotocol may not have.
const SECRET_CHARS: usize = 32;
/// Largest key file, in bytes.
/// Limit for each key file: it is refused.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Longest token, in bytes.
/// Limit for each gateway: 401.
const TOKEN_BYTES_MAX: usize = 1024;
/// A time at which no token comes from the future.
const NO_TIME: u64 = u64::MAX - 60;

/// A secret, and the key that it is encrypted with.
#[derive(Clone)]
pub struct Keys {
    secret: String,
    private: String,
    fernet: Fernet,
}

/// Neither is shown.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("cannot {what} the key file {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is there already.
    #[error(
        "there is a key file {} already, which a broker and its gateways may use: delete it, or give another name with --out",
        path.display()
    )]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// It is no key file.
    #[error(
        "{} is no key file: {problem}. It has a section [keys] with secret = 32 characters of A-Z a-z 0-9 and private = a \
         Fernet key; covey key fernet makes one",
        path.display()
    )]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Where the key file is unless somebody says otherwise; none without a home.
#[must_use]
pub fn default_path() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(".pyaiot/keys"))
}

impl Keys {
    /// New ones, from the system's source of randomness.
    #[must_use]
    pub fn generate() -> Self {
        let secret = Alphanumeric.sample_string(&mut rand::rng(), SECRET_CHARS);
        loop {
            let private = Fernet::generate_key();
            // What the library makes is a key.
            if let Some(fernet) = Fernet::new(&private) {
                return Self { secret, private, fernet };
            }
        }
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyFileError`]; the content is not part of it.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let failed = |source| KeyFileError::Io { what: "read", path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(file = %path.display(), "others may read the key file; chmod 600 it");
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text).map_err(|problem| KeyFileError::Content { path: path.to_owned(), problem })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (mut secret, mut private, mut is_inside) = (None, None, false);
        for (number, line) in text.trim_start_matches('\u{feff}').lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                is_inside = section == "keys";
                continue;
            }
            if !is_inside {
                continue;
            }
            let (name, value) = line
                .split_once(['=', ':'])
                .ok_or_else(|| format!("line {} is not a name and a value", number + 1))?;
            let place = match name.trim().to_ascii_lowercase().as_str() {
                "secret" => &mut secret,
                "private" => &mut private,
                _ => continue,
            };
            if place.replace(value.trim().to_owned()).is_some() {
                return Err(format!("line {} says a second time what one before has said", number + 1));
            }
        }
        let secret = secret.ok_or("it has no secret")?;
        let private: String = private.ok_or("it has no private key")?;
        if secret.len() != SECRET_CHARS || !secret.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err("its secret is not 32 characters of A-Z a-z 0-9".to_owned());
        }
        let fernet = Fernet::new(&private).filter(|_| private.len() == 44);
        let fernet = fernet.ok_or("its private key is not 44 characters of URL-safe base64")?;
        Ok(Self { secret, private, fernet })
    }

    /// Writes a key file that is not there yet, for its owner alone; the folder is made for him alone, too, if it is
    /// missing.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn write(&self, path: &Path) -> Result<(), KeyFileError> {
        let write = || {
            if let Some(folder) =
                path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
            {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(self.to_ini().as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
            _ => KeyFileError::Io { what: "write", path: path.to_owned(), source },
        })
    }

    fn to_ini(&self) -> String {
        format!("[keys]\nsecret = {}\nprivate = {}\n\n", self.secret, self.private)
    }

    /// What shows that somebody has these keys.
    #[must_use]
    pub fn token(&self) -> String {
        self.fernet.encrypt(self.secret.as_bytes())
    }

    /// Whether who made a token has these keys.
    #[must_use]
    pub fn open(&self, token: &str) -> bool {
        self.content(token).is_some_and(|secret| secret.ct_eq(self.secret.as_bytes()).into())
    }

    /// What a token holds. Stripped padding is refused, as the specification of Fernet and other brokers do.
    fn content(&self, token: &str) -> Option<Vec<u8>> {
        if token.len() > TOKEN_BYTES_MAX || !token.len().is_multiple_of(4) {
            return None;
        }
        self.fernet.decrypt_at_time(token, None, NO_TIME).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const INI: &str = "[keys]\nsecret = 0123456789abcdefghijABCDEFGHIJ01\n\
                       private = cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=\n";

    #[test]
    fn a_file_is_read_as_it_was_written_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/keys");
        let keys = Keys::generate();
        keys.write(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let read = Keys::read(&path).unwrap();
        assert!(read.open(&keys.token()) && keys.open(&read.token()));
        assert!(
            matches!(keys.write(&path), Err(KeyFileError::Exists { .. })),
            "nobody is shut out by accident"
        );
        assert!(!Keys::generate().open(&keys.token()));
        assert_eq!(format!("{keys:?}"), "Keys");
    }

    #[test]
    fn a_token_is_a_subprotocol_and_other_tokens_do_not_open() {
        let keys = Keys::parse(INI).unwrap();
        for _ in 0..100 {
            let token = keys.token();
            assert!(
                token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')),
                "{token}"
            );
        }
        // Another secret under the same key.
        let other = Fernet::new("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=").unwrap();
        for secret in ["", "0123456789abcdefghijABCDEFGHIJ02", "0123456789abcdefghijABCDEFGHIJ011"] {
            assert!(!keys.open(&other.encrypt(secret.as_bytes())), "{secret}");
        }
        let token = keys.token();
        let mut changed = token.clone().into_bytes();
        changed[20] ^= 1;
        for bad in
            ["", "gAAAA", &token[..token.len() - 4], &String::from_utf8(changed).unwrap(), &"A".repeat(2_000)]
        {
            assert!(!keys.open(bad), "{bad}");
        }
    }

    #[test]
    fn the_age_of_a_token_is_not_looked_at() {
        let keys = Keys::parse(INI).unwrap();
        for at in [0, 1 << 40] {
            assert!(keys.open(&keys.fernet.encrypt_at_time(keys.secret.as_bytes(), at)), "{at}");
        }
    }

    #[test]
    fn padding_must_be_there() {
        let keys = Keys::parse(INI).unwrap();
        let padded = keys.fernet.encrypt(b"short");
        assert!(padded.ends_with("=="));
        assert_eq!(keys.content(&padded).as_deref(), Some(&b"short"[..]));
        assert_eq!(keys.content(padded.trim_end_matches('=')), None);
    }

    #[test]
    fn files_of_others_are_read_and_what_is_wrong_is_named() {
        let spaced = format!(
            "; made by hand\r\n[other]\nsecret=x\n\n{}",
            INI.replace(" = ", ":").replace("secret", "Secret")
        );
        assert!(Keys::parse(&spaced).is_ok());
        for (text, problem) in [
            ("", "no secret"),
            ("secret = x", "no secret"),
            ("[keys]\nsecret = short\nprivate = x", "not 32 characters"),
            ("[keys]\nsecret = 0123456789abcdefghijABCDEFGHIJ01", "no private"),
            ("[keys]\nsecret = 0123456789abcdefghijABCDEFGHIJ01\nprivate = x", "not 44 characters"),
            ("[keys]\nrubbish", "line 2"),
            (&format!("{INI}secret = x"), "second time"),
        ] {
            let told = Keys::parse(text).unwrap_err();
            assert!(told.contains(problem), "{told}");
        }
    }
}
