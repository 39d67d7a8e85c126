//! Which clients may connect: users with a password, as `mosquitto_passwd` writes them, and those who have shown a
//! certificate.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use covey_net::{NetError, ServerTls, certificates_from_pem};
use rustls::server::ResolvesServerCert;
use sha2::Sha512;
use subtle::ConstantTimeEq;

/// How a line says that its hash is PBKDF2 with HMAC-SHA-512.
const PBKDF2: &str = "7";
/// How many users there may be.
/// Limit for each password file: it is refused.
const USERS_MAX: usize = 10_000;
/// How many iterations a hash may have: each login costs as many.
/// Limit for each password file: it is refused.
const ITERATIONS_MAX: u32 = 100_000;
/// Longest salt, in bytes.
/// Limit for each password file: it is refused.
const SALT_BYTES_MAX: usize = 64;
/// How many bytes a hash has.
const HASH_BYTES: usize = 64;

/// What a listener of MQTT nodes asks of them; by default nothing.
#[derive(Clone, Default)]
pub struct Access {
    /// TLS; without it bytes travel unencrypted.
    pub tls: Option<Arc<ServerTls>>,
    /// Who may connect with a password.
    pub passwords: Option<Arc<Passwords>>,
    /// Whether nobody may connect without a certificate that TLS has verified, or a password.
    pub takes_certificates: bool,
}

impl Access {
    /// Whether everybody may connect.
    pub(super) fn is_open(&self) -> bool {
        self.passwords.is_none() && !self.takes_certificates
    }
}

/// TLS with the certificate of a resolver, for nodes that need none; they may show one that leads to those in `trusted`, a
/// text of PEM.
///
/// # Errors
/// Certificates that cannot be used.
pub fn tls(
    certificate: Arc<dyn ResolvesServerCert>,
    trusted: Option<&[u8]>,
) -> Result<Arc<ServerTls>, NetError> {
    let trusted = trusted.map(certificates_from_pem).transpose()?;
    ServerTls::for_anyone(certificate, trusted.unwrap_or_default())
}

/// A hash of a password.
#[derive(Clone)]
struct Hashed {
    iterations: u32,
    salt: Box<[u8]>,
    hash: [u8; HASH_BYTES],
}

/// Users, each with the hash of a password.
pub struct Passwords {
    users: HashMap<Box<str>, Hashed>,
}

impl Passwords {
    /// Reads a password file: lines of `user:$7$ITERATIONS$SALT$HASH`, salt and hash in Base64, as `mosquitto_passwd` writes
    /// them. Empty lines and those that begin with `#` are none.
    ///
    /// # Errors
    /// What is wrong, for the operator; without the line's text, which is a secret.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim_end()));
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let wrong = |why: &str| format!("line {number}: {why}");
            let (user, hashed) = line
                .split_once(':')
                .filter(|(user, _)| !user.is_empty())
                .ok_or_else(|| wrong("it must be USER:HASH, as mosquitto_passwd writes it"))?;
            let hashed = Hashed::read(hashed).map_err(wrong)?;
            if users.insert(Box::from(user), hashed).is_some() {
                return Err(wrong("this user was there before"));
            }
            if users.len() > USERS_MAX {
                return Err(wrong("there are more than 10000 users"));
            }
        }
        if users.is_empty() {
            return Err("there is no user in it; make one with mosquitto_passwd FILE USER".to_owned());
        }
        Ok(Self { users })
    }

    /// Whether this is the password of that user. It takes as long for one who does not exist.
    pub fn are(&self, user: &str, password: &[u8]) -> bool {
        let known = self.users.get(user);
        // There is at least one.
        let Some(hashed) = known.or_else(|| self.users.values().next()) else { return false };
        let is_password = hashed.is_of(password);
        known.is_some() && is_password
    }
}

impl Hashed {
    fn read(text: &str) -> Result<Self, &'static str> {
        let mut parts = text.strip_prefix('$').unwrap_or_default().split('$');
        let (kind, iterations, salt, hash) = (parts.next(), parts.next(), parts.next(), parts.next());
        if kind != Some(PBKDF2) || parts.next().is_some() {
            return Err(
                "the hash must begin with $7$ (PBKDF2 with SHA-512): make it with mosquitto_passwd -H sha512-pbkdf2",
            );
        }
        let iterations = iterations.and_then(|text| text.parse().ok());
        let iterations = iterations.filter(|iterations| (1..=ITERATIONS_MAX).contains(iterations));
        let iterations = iterations.ok_or("the iterations must be 1 to 100000")?;
        let decoded = |text: Option<&str>| text.and_then(|text| BASE64.decode(text).ok());
        let salt = decoded(salt).filter(|salt| (1..=SALT_BYTES_MAX).contains(&salt.len()));
        let salt = salt.ok_or("the salt must be 1 to 64 bytes in Base64")?.into();
        let hash = decoded(hash).and_then(|hash| <[u8; HASH_BYTES]>::try_from(hash).ok());
        Ok(Self { iterations, salt, hash: hash.ok_or("the hash must be 64 bytes in Base64")? })
    }

    fn is_of(&self, password: &[u8]) -> bool {
        let mut hash = [0; HASH_BYTES];
        pbkdf2::pbkdf2_hmac::<Sha512>(password, &self.salt, self.iterations, &mut hash);
        hash.ct_eq(&self.hash).into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As mosquitto_passwd 2.0.11 wrote it for the password `geheim`.
    const LINE: &str = "node:$7$101$xuynZ2AEwXEct1yS$VVCINKw6wNjTDAc9P0PHX5fOFUVg3lfPuA41uwfzBBYeoMv26Zr1Z+8c1Q0KI1BoeMHb+kFaGjPuEf32tLDiTg==";

    #[test]
    fn a_password_that_mosquitto_passwd_has_hashed_is_known_and_no_other() {
        let passwords = Passwords::read(&format!("# users\n\n{LINE}\n")).unwrap();
        assert!(passwords.are("node", b"geheim"));
        for (user, password) in [("node", "Geheim"), ("node", ""), ("other", "geheim"), ("", "geheim")] {
            assert!(!passwords.are(user, password.as_bytes()), "{user} {password}");
        }
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_without_its_text() {
        let hash = LINE.split_once(':').unwrap().1;
        for (text, why) in [
            (String::new(), "no user"),
            ("node".to_owned(), "line 1: it must be USER:HASH"),
            (format!(":{hash}"), "USER:HASH"),
            ("node:geheim".to_owned(), "$7$"),
            (LINE.replace("$7$", "$6$"), "$7$"),
            (LINE.replace("$101$", "$0$"), "iterations"),
            (LINE.replace("$101$", "$100001$"), "iterations"),
            (LINE.replace("xuyn", "????"), "salt"),
            (LINE.replace("DiTg==", ""), "64 bytes"),
            (format!("{LINE}$x"), "$7$"),
            (format!("{LINE}\n{LINE}"), "line 2: this user was there before"),
        ] {
            let error = Passwords::read(&text).err().unwrap();
            assert!(error.contains(why) && !error.contains("geheim") && !error.contains("VVCI"), "{error}");
        }
    }
}
