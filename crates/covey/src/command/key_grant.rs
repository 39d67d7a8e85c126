//! Grants of API keys, as they are typed.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Result, anyhow};
use covey_client::{DeviceTag, Grant, GrantMethod};
use covey_core::access::{GRANTABLE, Rights};
use covey_core::record::RecordKind;

/// Reads `RIGHT[,RIGHT] [tag:NAME=VALUE] [method:NUMBER|NAME] [kind:KIND] [type:NUMBER]`, in any number.
pub fn parse(text: &str) -> Result<Grant, String> {
    let mut words = text.split_whitespace();
    let rights: Vec<String> = words.next().unwrap_or("").split(',').map(str::to_owned).collect();
    let known = Rights::parse(rights.iter().map(String::as_str)).ok();
    if known.is_none_or(|rights| !GRANTABLE.contains(rights)) {
        let grantable: Vec<_> = GRANTABLE.names().collect();
        return Err(format!("begins with rights and commas between them, of {}", grantable.join(", ")));
    }
    let mut grant = Grant { rights, ..Grant::default() };
    for word in words {
        let (what, value) = word.split_once(':').unwrap_or((word, ""));
        match what {
            "tag" => {
                let (tag, value) = value.split_once('=').ok_or("a tag is tag:NAME=VALUE")?;
                let [tag, value] = [tag, value].map(|text| Cow::Owned(text.to_owned()));
                grant.tags.push(DeviceTag { tag, value });
            }
            "method" if !value.is_empty() => {
                let name = || GrantMethod::Name(value.to_owned());
                grant.methods.push(value.parse().map_or_else(|_| name(), GrantMethod::Code));
            }
            "kind" if RecordKind::from_name(value).is_some() => grant.kinds.push(value.to_owned()),
            "kind" => return Err("a kind is task, result, event, presence or twin".to_owned()),
            "type" => {
                grant.event_types.push(value.parse().map_err(|_| "a type of events is a number")?);
            }
            _ => {
                return Err(format!(
                    "{word} is none of tag:NAME=VALUE, method:NUMBER or NAME, kind:KIND, type:NUMBER"
                ));
            }
        }
    }
    Ok(grant)
}

/// Grants of a file.
pub fn read(file: &Path) -> Result<Vec<Grant>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| anyhow!("cannot read the grants of {}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| {
        anyhow!("{} is no JSON array of grants: {error}; docs/keys.md shows one", file.display())
    })
}

/// Rights and grants in a line.
pub fn shown(rights: &[Cow<'_, str>], grants: &[Grant]) -> String {
    let mut parts = Vec::new();
    if !rights.is_empty() || grants.is_empty() {
        parts.push(rights.join(" "));
    }
    match grants {
        [_, _, _, _, ..] => parts.push(format!("{} grants", grants.len())),
        few => parts.extend(few.iter().map(words)),
    }
    parts.join("; ")
}

/// A grant as it is typed.
pub fn words(grant: &Grant) -> String {
    let mut words = vec![grant.rights.join(",")];
    words.extend(grant.tags.iter().map(|tag| format!("tag:{}={}", tag.tag, tag.value)));
    words.extend(grant.methods.iter().map(|method| match method {
        GrantMethod::Code(code) => format!("method:{code}"),
        GrantMethod::Name(name) => format!("method:{name}"),
    }));
    words.extend(grant.kinds.iter().map(|kind| format!("kind:{kind}")));
    words.extend(grant.event_types.iter().map(|code| format!("type:{code}")));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_grant_is_shown_as_it_is_typed() {
        for text in [
            "tasks:read,tasks:write tag:site=berlin tag:site=a=b method:20 method:open",
            "events:read kind:event type:44",
        ] {
            assert_eq!(words(&parse(text).unwrap()), text);
        }
    }

    #[test]
    fn what_is_no_grant_is_refused() {
        for text in [
            "",
            "keys:write tag:a=b",
            "tasks:read tag:a",
            "tasks:read method:",
            "tasks:read kind:x",
            "events:read type:x",
            "tasks:read site=berlin",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
