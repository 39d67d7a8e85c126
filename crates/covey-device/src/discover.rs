//! Finding the server on the local network (`docs/discovery.md`).

use std::time::Duration;

use covey_discovery::found::is_local;
use covey_discovery::{Found, Kind, LOOK_MS, LOOK_MS_MAX, NotChosen, choose, fingerprint, look, reachable};

use crate::error::Error;
use crate::identity::Identity;

/// The entry of the TXT record that says for whom a broker is, and its value where that is devices.
const ROLE: (&str, &str) = ("role", "devices");

/// Finds the broker of a server that announces itself on the local network (`covey up --mdns`), as `mqtts://host:port`:
/// the one of this name, else the only one that announces the CA of the identity. Nothing is proven by that: a device that
/// connects there checks the server's certificate against the same CA, as it always does.
///
/// Answers are waited for two seconds, and for ten while there are none.
///
/// # Errors
/// [`Error::NotChosen`] if there is none, or more than one; [`Error::Discovery`] where multicast DNS cannot be used.
pub async fn discover(identity: &Identity, name: Option<&str>) -> Result<String, Error> {
    let trusted: Vec<String> = identity.ca().iter().map(|certificate| fingerprint(certificate)).collect();
    let is_broker = |found: &Found| found.txt(ROLE.0) == Some(ROLE.1);
    let is_wanted =
        |found: &Found| is_broker(found) && name.is_some_and(|name| name.eq_ignore_ascii_case(&found.name));
    let (at_least, at_most) = (Duration::from_millis(LOOK_MS), Duration::from_millis(LOOK_MS_MAX));
    let mut looked = look(Kind::SecureMqtt, at_least, at_most, is_local, is_wanted)
        .await
        .map_err(|source| Error::Discovery { source })?;
    looked.found.retain(is_broker);
    let found = choose(&looked.found, name, &trusted).map_err(|why| Error::NotChosen { why })?;
    // Where nobody can be reached now, somebody may be later: a device tries again for ever.
    let address = reachable(found).await.or_else(|| found.first());
    let address = address.ok_or(Error::NotChosen { why: NotChosen::Nobody })?;
    Ok(format!("mqtts://{address}"))
}
