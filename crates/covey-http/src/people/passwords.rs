//! Passwords: hashed with Argon2id (RFC 9106), a few at a time, beside what else the server does. Each costs 19 MiB and some
//! twenty milliseconds of a core, which is what makes guessing expensive; so it is bounded how many are under way.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::problem::{Kind, Problem};

/// How many passwords are hashed at a time.
/// Limit for the server: others wait.
const HASHES_MAX: usize = 2;
/// How many wait to be hashed, those that are being hashed included.
/// Limit for the server: 429.
const WAITING_MAX: usize = 32;
/// Shortest password, in characters (NIST SP 800-63B demands 8, and no rules beside the length).
const CHARS_MIN: usize = 10;
/// Longest password, in bytes.
/// Limit for each password: 422.
const BYTES_MAX: usize = 256;
/// Memory in KiB and passes of a hash (OWASP "Password Storage": Argon2id).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;

/// A hash of a password that nobody has: checked where there is no other, so that it takes as long.
static OF_NOBODY: LazyLock<Option<String>> = LazyLock::new(|| hash("a password that nobody has").ok());

/// Those who hash.
pub(super) struct Passwords {
    hashing: Semaphore,
    waiting: AtomicUsize,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { hashing: Semaphore::new(HASHES_MAX), waiting: AtomicUsize::new(0) }
    }
}

/// A place among those that wait; free when it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn hasher() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &str) -> Result<String, Problem> {
    let failed = || Problem::new(Kind::Internal, "the password cannot be hashed");
    let hasher = hasher().ok_or_else(failed)?;
    hasher.hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(|_| failed())
}

fn is_right(password: &str, hash: Option<&str>) -> bool {
    // Made with the first try, whichever that is.
    let of_nobody = OF_NOBODY.as_deref();
    let known = hash.or(of_nobody).unwrap_or_default();
    let Ok(parsed) = PasswordHash::new(known) else { return false };
    let Some(hasher) = hasher() else { return false };
    // In constant time; its cost is that of the hash.
    hasher.verify_password(password.as_bytes(), &parsed).is_ok() && hash.is_some()
}

/// Checks whether something can be a password.
///
/// # Errors
/// What it must be.
pub(super) fn validate(password: &str) -> Result<(), Problem> {
    let is_good = password.chars().count() >= CHARS_MIN && password.len() <= BYTES_MAX;
    let problem = "must be 10 characters or more, and 256 bytes at most";
    if is_good { Ok(()) } else { Err(Problem::invalid("password", problem)) }
}

impl Passwords {
    /// The hash of a password.
    ///
    /// # Errors
    /// One that is out of range, or too many that wait.
    pub(super) async fn hash(&self, password: &str) -> Result<String, Problem> {
        validate(password)?;
        let password = password.to_owned();
        self.run(move || hash(&password)).await?
    }

    /// Whether a password is right. It takes as long where there is none.
    ///
    /// # Errors
    /// Too many that wait.
    pub(super) async fn is_right(&self, password: &str, hash: Option<String>) -> Result<bool, Problem> {
        // A longer one is nobody's, and is not hashed whole.
        let is_possible = password.len() <= BYTES_MAX;
        let password = if is_possible { password.to_owned() } else { String::new() };
        let is_right = self.run(move || is_right(&password, hash.as_deref())).await?;
        Ok(is_right && is_possible)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if waiting >= WAITING_MAX {
            return Err(Problem::new(Kind::LimitReached, "too many sign in at once; try again later"));
        }
        let stopping = |_| Problem::new(Kind::Unavailable, "the server is stopping");
        let _hashing = self.hashing.acquire().await.map_err(stopping)?;
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| Problem::new(Kind::Internal, "the password cannot be hashed"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_password_is_right_or_not_and_that_of_nobody_never_is() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse battery").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.is_right("correct horse battery", Some(hash.clone())).await.unwrap());
        for (password, hash) in [
            ("correct horse batterY", Some(hash.clone())),
            ("", Some(hash.clone())),
            ("correct horse battery", Some("rubbish".to_owned())),
            ("a password that nobody has", None),
            (&"x".repeat(BYTES_MAX + 1), Some(hash)),
        ] {
            assert!(!passwords.is_right(password, hash).await.unwrap(), "{password}");
        }
        assert!(passwords.hash("123456789").await.is_err());
        assert!(passwords.hash(&"ü".repeat(BYTES_MAX / 2 + 1)).await.is_err());
    }

    #[tokio::test]
    async fn so_many_wait_and_no_more() {
        let passwords = Passwords::default();
        let all = (0..WAITING_MAX + 8).map(|_| passwords.is_right("nobody has this", None));
        let done = futures_util::future::join_all(all).await;
        assert_eq!(done.iter().filter(|one| one.is_err()).count(), 8);
        assert!(!passwords.is_right("nobody has this", None).await.unwrap(), "and then there is room again");
    }
}
