//! The topics of MQTT nodes (`docs/gateways.md` "MQTT nodes").

/// What a node tells to one and all when somebody asks who is there.
pub(crate) const CHECK: &str = "gateway/check";
/// Its second level.
pub(crate) const CHECK_LEVEL: &str = "check";
/// What stands for a filter whose second level may be anything.
pub(crate) const ANY_LEVEL: &str = "+";
/// Longest uid of a node, in bytes.
/// Limit for each node: 0x99.
pub(crate) const UID_BYTES_MAX: usize = 128;
/// Longest name of a resource, in bytes.
/// Limit for each value: 0x90.
pub(crate) const RESOURCE_BYTES_MAX: usize = 128;

/// What a topic of a node is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic<'a> {
    /// `node/check`.
    Check,
    /// `node/<id>/resources`.
    Resources { uid: &'a str },
    /// `node/<id>/<resource>`; a resource may have slashes.
    Value { uid: &'a str, resource: &'a str },
}

impl<'a> Topic<'a> {
    pub(crate) fn parse(topic: &'a str) -> Option<Self> {
        let rest = topic.strip_prefix("node/")?;
        if rest == "check" {
            return Some(Self::Check);
        }
        let (uid, resource) = rest.split_once('/')?;
        let is_uid = (1..=UID_BYTES_MAX).contains(&uid.len());
        let is_resource = (1..=RESOURCE_BYTES_MAX).contains(&resource.len());
        match resource {
            _ if !is_uid || !is_resource => None,
            "resources" => Some(Self::Resources { uid }),
            resource => Some(Self::Value { uid, resource }),
        }
    }
}

/// `gateway/<id>/discover`.
pub(crate) fn discover(uid: &str) -> String {
    format!("gateway/{uid}/discover")
}

/// `gateway/<id>/<resource>/set`.
pub(crate) fn set(uid: &str, resource: &str) -> String {
    format!("gateway/{uid}/{resource}/set")
}

/// Whether a filter asks for what gateways say, or for all.
pub(crate) fn may_subscribe(filter: &str) -> bool {
    matches!(filter.split('/').next(), Some("gateway" | "+" | "#"))
}

/// The second level of what a filter asks for, `+` if that may be anything.
pub(crate) fn listened(filter: &str) -> &str {
    match filter.split('/').nth(1) {
        None | Some("+" | "#") => ANY_LEVEL,
        Some(level) => level,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_nodes_are_told_apart() {
        assert_eq!(Topic::parse("node/check"), Some(Topic::Check));
        assert_eq!(Topic::parse("node/7/resources"), Some(Topic::Resources { uid: "7" }));
        assert_eq!(Topic::parse("node/7/led"), Some(Topic::Value { uid: "7", resource: "led" }));
        assert_eq!(Topic::parse("node/7/a/b"), Some(Topic::Value { uid: "7", resource: "a/b" }));
        for foreign in ["node", "node/", "node//led", "node/7/", "node/7", "gateway/check", "dev/7/evt", ""] {
            assert_eq!(Topic::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn nodes_hear_gateways_alone() {
        for filter in ["gateway/check", "gateway/7/+/set", "gateway/#", "#", "+/7/discover"] {
            assert!(may_subscribe(filter), "{filter}");
        }
        assert_eq!(listened("gateway/7/+/set"), "7");
        assert_eq!(listened("+/7/discover"), "7");
        for any in ["#", "gateway/#", "gateway/+/led/set"] {
            assert_eq!(listened(any), ANY_LEVEL, "{any}");
        }
        for filter in ["node/#", "dev/7/tsk", "$SYS/#", ""] {
            assert!(!may_subscribe(filter), "{filter}");
        }
    }
}
