//! How the parts of a server are.

use std::borrow::Cow;

use covey_core::finding as found;
use covey_core::health as core;
use covey_core::id::UnixMs;

use crate::{Finding, Findings, Readiness, ServerPart};

impl Readiness {
    /// What a server says that can do its work.
    #[must_use]
    pub fn of(health: &core::Health) -> Self {
        Self { status: Cow::Borrowed("ok"), parts: ServerPart::all_of(health) }
    }
}

impl ServerPart {
    /// How the parts look: the store and its room, then the links.
    #[must_use]
    pub fn all_of(health: &core::Health) -> Vec<Self> {
        let store = Self {
            part: Cow::Borrowed("store"),
            name: None,
            state: Cow::Borrowed(if health.store_fault.is_some() { "down" } else { "up" }),
            why: health.store_fault.map(|fault| Cow::Owned(fault.to_string())),
        };
        let disk = Self {
            part: Cow::Borrowed("disk"),
            name: None,
            state: Cow::Borrowed(health.room.name()),
            why: health.room.why().map(Cow::Borrowed),
        };
        let links = health.links.iter().map(|link| Self {
            part: Cow::Borrowed("link"),
            name: Some(Cow::Borrowed(link.name)),
            state: Cow::Borrowed(link.state.status.name()),
            why: link.state.status.why().map(Cow::Borrowed),
        });
        [store, disk].into_iter().chain(links).collect()
    }
}

impl<'a> Findings<'a> {
    /// How what the last look found looks; there may have been none yet.
    #[must_use]
    pub fn of(looked_at: Option<UnixMs>, findings: &'a [found::Finding], server_time: UnixMs) -> Self {
        let status = match (looked_at, found::worst(findings)) {
            (_, Some(worst)) => worst.name(),
            (None, None) => "unknown",
            (Some(_), None) => "ok",
        };
        Self {
            status: Cow::Borrowed(status),
            server_time: server_time.into(),
            looked_at: looked_at.map(Into::into),
            findings: findings.iter().map(Finding::of).collect(),
        }
    }
}

impl<'a> Finding<'a> {
    /// How a finding looks.
    #[must_use]
    pub fn of(finding: &'a found::Finding) -> Self {
        Self {
            code: Cow::Borrowed(finding.code.name()),
            severity: Cow::Borrowed(finding.severity.name()),
            about: Cow::Borrowed(&finding.about),
            seen: Cow::Borrowed(&finding.seen),
            remedy: Cow::Borrowed(&finding.remedy),
        }
    }
}
