//! What is believed of an answer: a place to look at, if it is on a private network and of a sane size. Everything else
//! is refused, with a reason.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::fingerprint::is_fingerprint;
use crate::service::TXT_VERSION;

/// How many addresses an answer may have.
/// Limit for each answer: it is refused.
pub const ADDRESSES_MAX: usize = 16;
/// How many entries its TXT record may have.
/// Limit for each answer: it is refused.
pub const TXT_ENTRIES_MAX: usize = 32;
/// How many bytes they may have together (RFC 6763 §6.2: what fits into one packet).
/// Limit for each answer: it is refused.
pub const TXT_BYTES_MAX: usize = 1_300;
/// Longest name of an instance, in bytes: that of a label (RFC 1035 §2.3.4).
/// Limit for each answer: it is refused.
pub const NAME_BYTES_MAX: usize = 63;
/// How much of a name is shown of an answer that was refused, in characters.
const SHOWN_CHARS: usize = 64;

/// An answer as it came.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The instance's name, without its type.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
    /// The entries of its TXT record.
    pub txt: Vec<(String, Option<Vec<u8>>)>,
}

/// Something that was found, and not proven to be what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The instance's name.
    pub name: String,
    /// Where it says that it is: private or link-local addresses, those of IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
    /// What its TXT record says: keys in lower case. Entries that are no text are left out.
    pub txt: BTreeMap<String, String>,
}

impl Found {
    /// The first place to look at.
    #[must_use]
    pub fn first(&self) -> Option<SocketAddr> {
        self.addresses.first().map(|address| SocketAddr::new(*address, self.port))
    }

    /// An entry of the TXT record.
    #[must_use]
    pub fn txt(&self, key: &str) -> Option<&str> {
        self.txt.get(key).map(String::as_str)
    }
}

/// An answer that is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The instance's name, escaped and cut.
    pub name: String,
    /// The first of its addresses.
    pub address: Option<IpAddr>,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Whether answers may name an address: those that are reached without a router, or are private (RFC 1918, RFC 3927,
/// RFC 4193). An IPv6 address that is link-local says nothing without an interface, and cannot stand in a URL.
#[must_use]
pub fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// Judges an answer. `may` says which addresses there may be.
///
/// # Errors
/// What is wrong with it.
pub fn judge(answer: Answer, may: impl Fn(IpAddr) -> bool) -> Result<Found, Refused> {
    let refused = |why| {
        let shown: String = answer.name.escape_debug().take(SHOWN_CHARS).collect();
        Refused { name: shown, address: answer.addresses.iter().min().copied(), why }
    };
    if answer.name.is_empty()
        || answer.name.len() > NAME_BYTES_MAX
        || answer.name.chars().any(char::is_control)
    {
        return Err(refused("its name is empty, longer than 63 bytes, or has control characters"));
    }
    if answer.port == 0 {
        return Err(refused("its port is 0"));
    }
    if answer.addresses.len() > ADDRESSES_MAX {
        return Err(refused("it has more than 16 addresses"));
    }
    let bytes = |(key, value): &(String, Option<Vec<u8>>)| 2 + key.len() + value.as_ref().map_or(0, Vec::len);
    if answer.txt.len() > TXT_ENTRIES_MAX || answer.txt.iter().map(bytes).sum::<usize>() > TXT_BYTES_MAX {
        return Err(refused("its TXT record has more than 32 entries or 1300 bytes"));
    }
    let mut txt = BTreeMap::new();
    for (key, value) in &answer.txt {
        let value = String::from_utf8(value.clone().unwrap_or_default());
        let Ok(value) = value else { continue };
        if !value.chars().any(char::is_control) {
            // RFC 6763 §6.4: case does not matter, and the first of one name counts.
            txt.entry(key.to_ascii_lowercase()).or_insert(value);
        }
    }
    if txt.get(TXT_VERSION.0).is_some_and(|version| version != TXT_VERSION.1) {
        return Err(refused("its TXT record has a version that is not 1"));
    }
    if txt.get("ca").is_some_and(|ca| !is_fingerprint(ca)) {
        return Err(refused("its TXT record has a ca that is not 64 hexadecimal digits"));
    }
    let mut addresses: Vec<IpAddr> =
        answer.addresses.iter().map(IpAddr::to_canonical).filter(|address| may(*address)).collect();
    if addresses.is_empty() {
        return Err(refused("it has no address at which it may be"));
    }
    // IPv4 comes first, and what was given without a DHCP server last.
    addresses.sort_by_key(|address| (matches!(address, IpAddr::V4(v4) if v4.is_link_local()), *address));
    addresses.dedup();
    Ok(Found { name: answer.name, addresses, port: answer.port, txt })
}

/// The name of an instance, out of its whole name: what stands before its type, without escapes (RFC 6763 §4.3).
pub(crate) fn instance_of(whole: &str, domain: &str) -> Option<String> {
    let escaped = whole.strip_suffix(domain)?.strip_suffix('.')?;
    let mut name = String::new();
    let mut characters = escaped.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => name.push(characters.next()?),
            other => name.push(other),
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn answer() -> Answer {
        Answer {
            name: "attic".to_owned(),
            addresses: vec!["169.254.1.1".parse().unwrap(), "192.168.1.7".parse().unwrap()],
            port: 8443,
            txt: vec![("txtvers".to_owned(), Some(b"1".to_vec()))],
        }
    }

    fn why(change: impl FnOnce(&mut Answer)) -> &'static str {
        let mut changed = answer();
        change(&mut changed);
        judge(changed, is_local).unwrap_err().why
    }

    #[test]
    fn an_answer_is_a_place_to_look_at() {
        let mut said = answer();
        said.txt.extend([
            ("API".to_owned(), Some(b"/api/v1".to_vec())),
            ("api".to_owned(), Some(b"/other".to_vec())),
            ("flag".to_owned(), None),
            ("bytes".to_owned(), Some(vec![0xff])),
            ("lines".to_owned(), Some(b"a\nb".to_vec())),
        ]);
        said.addresses.extend(["203.0.113.1".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
        let found = judge(said, is_local).unwrap();
        assert_eq!(found.addresses, ["192.168.1.7", "169.254.1.1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!((found.txt("api"), found.txt("flag")), (Some("/api/v1"), Some("")));
        assert_eq!((found.txt("bytes"), found.txt("lines")), (None, None));
    }

    #[test]
    fn an_answer_that_cannot_be_true_or_is_too_much_is_refused_with_the_reason() {
        assert!(why(|said| said.name.clear()).contains("name"));
        assert!(why(|said| said.name = "x".repeat(64)).contains("63 bytes"));
        assert!(why(|said| said.name = "a\u{1b}[2J".to_owned()).contains("control"));
        assert!(why(|said| said.port = 0).contains("port"));
        assert!(why(|said| said.addresses = vec![[10, 0, 0, 1].into(); 17]).contains("16 addresses"));
        assert!(why(|said| said.txt = vec![(String::new(), None); 33]).contains("32 entries"));
        assert!(why(|said| said.txt.push(("k".to_owned(), Some(vec![b'v'; 1_300])))).contains("1300 bytes"));
        assert!(why(|said| said.txt[0].1 = Some(b"2".to_vec())).contains("version"));
        assert!(why(|said| said.txt.push(("ca".to_owned(), Some(b"00".to_vec())))).contains("ca"));
        for address in
            ["127.0.0.1", "::1", "203.0.113.7", "2001:db8::1", "fe80::1", "0.0.0.0", "::ffff:8.8.8.8"]
        {
            let why = why(|said| said.addresses = vec![address.parse().unwrap()]);
            assert!(why.contains("no address"), "{address}: {why}");
        }
        assert!(why(|said| said.addresses.clear()).contains("no address"));
    }

    #[test]
    fn a_name_comes_without_its_type_and_without_escapes() {
        let domain = "_covey._tcp.local.";
        assert_eq!(instance_of("attic._covey._tcp.local.", domain).unwrap(), "attic");
        assert_eq!(instance_of(r"a\.b\\c (2)._covey._tcp.local.", domain).unwrap(), r"a.b\c (2)");
        for whole in ["attic._other._tcp.local.", "_covey._tcp.local.", r"a\._covey._tcp.local."] {
            let name = instance_of(whole, domain);
            assert!(name.is_none_or(|name| name.is_empty()), "{whole}");
        }
    }

    proptest! {
        /// Whatever comes, what is believed is bounded and local, and what is refused is fit to be shown.
        #[test]
        fn nothing_that_is_believed_is_larger_than_it_may_be(
            name in ".{0,80}",
            octets in proptest::collection::vec(any::<[u8; 4]>(), 0..20),
            port in any::<u16>(),
            txt in proptest::collection::vec(("[ -~]{0,20}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60))), 0..40),
        ) {
            let answer = Answer { name, addresses: octets.into_iter().map(IpAddr::from).collect(), port, txt };
            match judge(answer, is_local) {
                Ok(found) => {
                    prop_assert!(found.name.len() <= NAME_BYTES_MAX && found.port > 0);
                    prop_assert!((1..=ADDRESSES_MAX).contains(&found.addresses.len()));
                    prop_assert!(found.addresses.iter().all(|address| is_local(*address)));
                    prop_assert!(found.txt.len() <= TXT_ENTRIES_MAX);
                    prop_assert!(found.txt.values().all(|value| !value.chars().any(char::is_control)));
                }
                Err(refused) => {
                    prop_assert!(refused.name.chars().count() <= SHOWN_CHARS);
                    prop_assert!(!refused.name.chars().any(char::is_control));
                }
            }
        }
    }
}
