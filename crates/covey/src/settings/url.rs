//! The URL of a service, which may hold a password: it is never printed whole.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// A URL as it was given. `Display`, `Debug` and what is serialised leave the
/// password out.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct ServiceUrl(String);

impl ServiceUrl {
    /// The URL with its password. Never log it.
    pub fn exposed(&self) -> &str {
        &self.0
    }

    /// What comes before `://`, or all of it if there is none.
    pub fn scheme(&self) -> &str {
        self.0.split_once("://").map_or(self.0.as_str(), |(scheme, _)| scheme)
    }

    /// Whether there is no telling where the password ends: it has a slash in it.
    fn is_ambiguous(&self) -> bool {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let after_authority = rest.split('?').next().and_then(|rest| rest.split_once(['/', '#']));
        after_authority.is_some_and(|(_, path)| path.contains('@'))
    }

    /// Whether a password is in it.
    pub fn has_password(&self) -> bool {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let of_user = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
        let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters);
        of_user || self.is_ambiguous() || parameters.split('&').any(|one| one.starts_with("password="))
    }

    /// Host and port, without user and path.
    pub fn host_and_port(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        if self.is_ambiguous() {
            return "";
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit_once('@').map_or(authority, |(_, host)| host)
    }
}

impl FromStr for ServiceUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str(&self.0) };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if self.is_ambiguous() {
            return write!(f, "{scheme}://***");
        }
        let shown = match authority.rsplit_once('@') {
            None => authority.to_owned(),
            Some((user, host)) => match user.split_once(':') {
                None => format!("{user}@{host}"),
                Some((name, _)) => format!("{name}:***@{host}"),
            },
        };
        // A password may also stand among the parameters.
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        write!(f, "{scheme}://{shown}{path}")
    }
}

impl fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ServiceUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (given, shown, host) in [
            ("postgres://covey:p%40ss@db:5432/covey", "postgres://covey:***@db:5432/covey", "db:5432"),
            ("postgres://covey:a:b@c@db/covey?password=x", "postgres://covey:***@db/covey", "db"),
            ("amqps://mq:5671/covey", "amqps://mq:5671/covey", "mq:5671"),
            ("postgres://covey:p@s/s#w@db/covey", "postgres://***", ""),
            ("embedded", "embedded", ""),
        ] {
            let url: ServiceUrl = given.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.host_and_port()), (shown, host));
            assert_eq!(url.has_password(), given.contains(['@', '=']), "{given}");
            assert_eq!(format!("{url:?}"), shown);
            assert_eq!(serde_json::to_string(&url).unwrap(), format!("\"{shown}\""));
        }
    }
}
