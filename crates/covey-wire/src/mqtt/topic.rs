//! Topic names and topic filters (MQTT 5 §4.7, §4.8): what they may look like, and which match.

use super::{ProtocolVersion, ReasonCode, Violation};

/// What a shared subscription begins with (MQTT 5 §4.8.2).
const SHARE: &str = "$share/";

/// That a topic name has at least one character \[MQTT-4.7.3-1\] and no wildcard \[MQTT-3.3.2-2\].
/// U+0000 and the length are checked with the string.
///
/// # Errors
/// Which of the two rules is broken; 0x90.
pub fn check_topic_name(name: &str) -> Result<(), Violation> {
    let invalid = |rule, text| Err(Violation::new(ReasonCode::TopicNameInvalid, rule, text));
    if name.is_empty() {
        return invalid("MQTT-4.7.3-1", "the topic name is empty");
    }
    if has_wildcard(name) {
        return invalid("MQTT-3.3.2-2", "the topic name has a wildcard character");
    }
    Ok(())
}

/// Whether a string has `+` or `#`.
pub(super) fn has_wildcard(name: &str) -> bool {
    name.bytes().any(|byte| byte == b'+' || byte == b'#')
}

/// That a topic filter has at least one character \[MQTT-4.7.3-1\], wildcards only where they may be
/// \[MQTT-4.7.1-1, MQTT-4.7.1-2\], and in MQTT 5, if it begins with `$share/`, a share name and a filter
/// behind it \[MQTT-4.8.2-1, MQTT-4.8.2-2\].
///
/// # Errors
/// Which rule is broken; 0x8F.
pub fn check_topic_filter(filter: &str, version: ProtocolVersion) -> Result<(), Violation> {
    let filter = match (version, filter.strip_prefix(SHARE)) {
        (ProtocolVersion::V5, Some(shared)) => {
            let Some((name, filter)) = shared.split_once('/') else {
                return invalid_filter("MQTT-4.8.2-2", "a shared subscription names no topic filter");
            };
            if name.is_empty() {
                return invalid_filter("MQTT-4.8.2-1", "a shared subscription has no share name");
            }
            if has_wildcard(name) {
                return invalid_filter("MQTT-4.8.2-2", "a share name has a wildcard character");
            }
            filter
        }
        _ => filter,
    };
    if filter.is_empty() {
        return invalid_filter("MQTT-4.7.3-1", "a topic filter is empty");
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        match level {
            "#" if levels.peek().is_some() => {
                return invalid_filter("MQTT-4.7.1-1", "# is not the last level of a topic filter");
            }
            "#" | "+" => {}
            _ if level.contains('#') => {
                return invalid_filter("MQTT-4.7.1-1", "# is not a level of its own in a topic filter");
            }
            _ if level.contains('+') => {
                return invalid_filter("MQTT-4.7.1-2", "+ is not a level of its own in a topic filter");
            }
            _ => {}
        }
    }
    Ok(())
}

fn invalid_filter(rule: &'static str, text: &'static str) -> Result<(), Violation> {
    Err(Violation::new(ReasonCode::TopicFilterInvalid, rule, text))
}

/// The share name and the topic filter of a shared subscription of MQTT 5, or none if it is not one.
#[must_use]
pub fn shared_subscription(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix(SHARE)?.split_once('/')
}

/// Whether a topic filter (not a shared one) matches a topic name, character by character
/// \[MQTT-4.7.3-4\]. A wildcard at the front does not match a name with `$` at its front \[MQTT-4.7.2-1\].
#[must_use]
pub fn filter_matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut levels, mut names) = (filter.split('/'), name.split('/'));
    loop {
        match (levels.next(), names.next()) {
            // `#` stands for the level above it too (MQTT 5 §4.7.1.2).
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(name)) if level == name => {}
            _ => return false,
        }
    }
}
