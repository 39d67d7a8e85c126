//! The CoRE link format (RFC 6690): what `.well-known/core` says of a node's resources.
//!
//! Reading takes what nodes write in the field: values in quotes or not, blanks, links without attributes. What
//! is no link is left out and counted, and the links behind it are read.

use std::borrow::Cow;
use std::fmt::Write as _;

/// How many links of one text are read.
/// Limit for each node's list of resources: further ones are left out, and counted as such.
pub const LINKS_MAX: usize = 256;
/// How many attributes of one link are read.
/// Limit for each link: further ones are left out.
pub const ATTRIBUTES_MAX: usize = 32;

/// A link: its target, and what is said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// What stands between the angle brackets.
    pub target: String,
    /// Names and values, in their order; one without `=` has no value.
    pub attributes: Vec<(String, Option<String>)>,
}

/// What was read of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// In their order.
    pub links: Vec<Link>,
    /// How many parts of the text were left out: those that are no links, and those above [`LINKS_MAX`].
    pub left_out: usize,
}

impl Link {
    /// A link without attributes.
    #[must_use]
    pub fn new(target: impl Into<String>) -> Self {
        Self { target: target.into(), attributes: Vec::new() }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: Option<&str>) -> Self {
        self.attributes.push((name.into(), value.map(str::to_owned)));
        self
    }

    /// The first value of this attribute.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes.find(|(found, _)| found.eq_ignore_ascii_case(name))?.1.as_deref()
    }

    /// Whether the resource may be observed: `obs`, with whatever value (RFC 7641 §6).
    #[must_use]
    pub fn is_observable(&self) -> bool {
        self.attributes.iter().any(|(name, _)| name.eq_ignore_ascii_case("obs"))
    }

    /// `rt`: what the resource is; several, separated by blanks.
    pub fn resource_types(&self) -> impl Iterator<Item = &str> {
        self.value("rt").unwrap_or_default().split_ascii_whitespace()
    }

    /// `if`: how it is used; several, separated by blanks.
    pub fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.value("if").unwrap_or_default().split_ascii_whitespace()
    }

    /// `ct`: what its representations are; several, separated by blanks (RFC 7252 §7.2.1).
    pub fn content_formats(&self) -> impl Iterator<Item = u16> {
        self.value("ct").unwrap_or_default().split_ascii_whitespace().filter_map(|format| format.parse().ok())
    }

    /// `sz`: about how large it is, in bytes.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.value("sz")?.trim().parse().ok()
    }

    /// The path on the node that said this, without the first slash and with its percent signs decoded: the name
    /// of a resource, and what a [`Request`](super::exchange::Request) has.
    ///
    /// None for a target elsewhere (one with a scheme or an authority), for the root, and for one whose path
    /// cannot be said so: it is not UTF-8, has a query, a control character, or a slash within a part of it.
    #[must_use]
    pub fn path(&self) -> Option<String> {
        let target = self.target.split('#').next().unwrap_or_default();
        if target.starts_with("//") || target.contains('?') {
            return None;
        }
        let relative = target.strip_prefix('/').unwrap_or(target);
        let first = relative.split('/').next().unwrap_or_default();
        let has_scheme = !target.starts_with('/') && first.contains(':');
        if relative.is_empty() || has_scheme {
            return None;
        }
        let mut path = String::with_capacity(relative.len());
        for (index, part) in relative.split('/').enumerate() {
            let part = percent_decoded(part)?;
            if part.contains('/') || part.chars().any(char::is_control) || part == "." || part == ".." {
                return None;
            }
            if index > 0 {
                path.push('/');
            }
            path.push_str(&part);
        }
        Some(path)
    }
}

/// A resource of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its path without the first slash.
    pub path: String,
    /// Whether it may be observed.
    pub is_observable: bool,
}

/// The resources that a node has according to its `.well-known/core`: each once, without `.well-known/core`
/// itself and without links elsewhere.
#[must_use]
pub fn resources(text: &[u8]) -> Vec<Resource> {
    let mut resources: Vec<Resource> = Vec::new();
    for link in parse(text).links {
        let Some(path) = link.path().filter(|path| path != ".well-known/core") else { continue };
        if resources.iter().all(|resource| resource.path != path) {
            resources.push(Resource { path, is_observable: link.is_observable() });
        }
    }
    resources
}

/// Reads links.
#[must_use]
pub fn parse(text: &[u8]) -> Links {
    let text = String::from_utf8_lossy(text);
    let mut links = Links::default();
    let mut rest = text.as_ref();
    while !rest.trim_ascii_start().is_empty() {
        let (link, after) = next_link(rest.trim_ascii_start());
        rest = after;
        match link {
            Some(link) if links.links.len() < LINKS_MAX => links.links.push(link),
            _ => links.left_out += 1,
        }
    }
    links
}

/// The first link, if it is one, and what follows the comma behind it.
fn next_link(text: &str) -> (Option<Link>, &str) {
    let Some((target, mut rest)) = text.strip_prefix('<').and_then(|text| text.split_once('>')) else {
        return (None, behind_comma(text));
    };
    let mut link = Link::new(target);
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(';') {
            let (attribute, after) = next_attribute(after.trim_ascii_start());
            if let Some(attribute) = attribute
                && link.attributes.len() < ATTRIBUTES_MAX
            {
                link.attributes.push(attribute);
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix(',') {
            return (Some(link), after);
        } else if rest.is_empty() {
            return (Some(link), rest);
        } else {
            // What stands here belongs to no attribute.
            return (Some(link), behind_comma(rest));
        }
    }
}

/// The first attribute, if it has a name, and what follows it, from a semicolon or a comma on.
fn next_attribute(text: &str) -> (Option<(String, Option<String>)>, &str) {
    let end = text.find(['=', ';', ',']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let name = name.trim_ascii_end();
    let named = |value| (!name.is_empty()).then(|| (name.to_owned(), value));
    let Some(value) = rest.strip_prefix('=') else { return (named(None), rest) };
    let value = value.trim_ascii_start();
    if let Some(quoted) = value.strip_prefix('"') {
        let (value, rest) = quoted_string(quoted);
        return (named(Some(value)), rest);
    }
    let end = value.find([';', ',']).unwrap_or(value.len());
    let (value, rest) = value.split_at(end);
    (named(Some(value.trim_ascii_end().to_owned())), rest)
}

/// What stands up to the closing quote, and what follows it; all of it if there is none. A backslash quotes the
/// character behind it (RFC 2616 §2.2).
fn quoted_string(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, text.get(index + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, quoted)| quoted)),
            _ => value.push(character),
        }
    }
    (value, "")
}

/// What follows the first comma that is not in quotes.
fn behind_comma(text: &str) -> &str {
    let mut rest = text;
    while let Some(index) = rest.find([',', '"']) {
        let (_, after) = rest.split_at(index);
        if let Some(after) = after.strip_prefix(',') {
            return after;
        }
        rest = quoted_string(after.get(1..).unwrap_or_default()).1;
    }
    ""
}

/// None if what comes out is not UTF-8. A percent sign that stands for itself stays.
fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().filter(|_| *first == b'%');
        let decoded = digits.and_then(|digits| {
            let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
            u8::try_from(high? << 4 | low?).ok()
        });
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Writes links. Values are quoted, unless they are numbers.
#[must_use]
pub fn print(links: &[Link]) -> String {
    let mut text = String::new();
    for (index, link) in links.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        // Nothing else would end a target.
        _ = write!(text, "<{}>", link.target.replace('>', "%3E"));
        for (name, value) in &link.attributes {
            text.push(';');
            text.push_str(name);
            let Some(value) = value else { continue };
            text.push('=');
            if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
                text.push_str(value);
            } else {
                _ = write!(text, "\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
            }
        }
    }
    text
}
