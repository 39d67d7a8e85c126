//! The audit log.

use std::borrow::Cow;

use covey_core::audit as core;
use covey_core::audit::{PlacedEntry, hash_text};

use crate::{AuditActor, AuditChain, AuditChains, AuditEntry, AuditPage, AuditRow, AuditRows};

impl<'a> AuditEntry<'a> {
    /// How an entry looks.
    #[must_use]
    pub fn of(placed: &'a PlacedEntry) -> Self {
        let PlacedEntry { place, entry } = placed;
        let actor = &entry.actor;
        Self {
            at: place.at.into(),
            org: entry.org.0,
            by: AuditActor {
                kind: Cow::Borrowed(&actor.kind),
                id: actor.id,
                name: Cow::Borrowed(&actor.name),
            },
            from: entry.from.map(|from| Cow::Owned(from.to_string())),
            action: Cow::Borrowed(&entry.action),
            outcome: Cow::Borrowed(entry.outcome.name()),
            count: entry.count,
            device_id: entry.device.as_ref().map(|(id, _)| *id),
            sn: entry.device.as_ref().map(|(_, sn)| Cow::Borrowed(sn.as_str())),
            object: Cow::Borrowed(&entry.object),
            details: entry
                .details
                .iter()
                .map(|(name, text)| (Cow::Borrowed(&**name), Cow::Borrowed(text.as_str())))
                .collect(),
            chain: place.chain,
            number: place.number,
        }
    }
}

impl<'a> AuditPage<'a> {
    /// How a page of entries looks.
    #[must_use]
    pub fn of(page: &'a core::AuditPage) -> Self {
        let cursor = |place: core::AuditPlace| {
            format!("{}-{}-{}-{}", place.at.0, place.chain, place.number, place.line)
        };
        Self { items: page.items.iter().map(AuditEntry::of).collect(), next_cursor: page.next.map(cursor) }
    }
}

impl<'a> AuditChains<'a> {
    /// How chains look.
    #[must_use]
    pub fn of(chains: &'a [core::AuditChain]) -> Self {
        let chain = |chain: &'a core::AuditChain| AuditChain {
            chain: chain.head.chain,
            server: Cow::Borrowed(&chain.server),
            anchor: chain.anchor,
            anchor_hash: Cow::Owned(hash_text(&chain.anchor_hash)),
            head: chain.head.number,
            head_hash: Cow::Owned(hash_text(&chain.head.hash)),
        };
        Self { items: chains.iter().map(chain).collect() }
    }
}

impl<'a> AuditRows<'a> {
    /// How rows look.
    #[must_use]
    pub fn of(rows: &'a [core::AuditRow]) -> Self {
        let row = |row: &'a core::AuditRow| AuditRow {
            number: row.number,
            org: row.org.0,
            at_ms: row.at.0,
            entries: Cow::Borrowed(&row.entries),
            hash: Cow::Owned(hash_text(&row.hash)),
        };
        Self { items: rows.iter().map(row).collect() }
    }
}
