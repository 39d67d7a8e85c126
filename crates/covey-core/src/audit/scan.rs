//! Finding entries among rows, newest first.

use crate::audit::{AuditActor, AuditEntry, AuditOutcome, AuditRow};
use crate::id::{OrgId, UnixMs};

/// How many entries a page has at most.
/// Limit for each page of the audit log: 422.
pub const PAGE_MAX: u32 = 1_000;
/// How many bytes of entries are looked at for a page.
/// Limit for each page of the audit log: the page is shorter, its cursor goes on.
pub const SCAN_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Which entries are wanted; all, if nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Those of this organisation.
    pub org: Option<OrgId>,
    /// Those from this instant on.
    pub since: Option<UnixMs>,
    /// Those before this instant.
    pub until: Option<UnixMs>,
    /// Those of an actor of this name, kind, or kind and number (`key 7`).
    pub actor: Option<String>,
    /// Those of this action, or of all that begin with it and a dot.
    pub action: Option<String>,
    /// Those with a device of this serial number, or this number for applications.
    pub device: Option<String>,
    /// Those with this object, such as `key 7`, or with all of this kind.
    pub object: Option<String>,
    /// Those with this outcome.
    pub outcome: Option<AuditOutcome>,
    /// Those in which this text is part of a name, an object, an address or a detail.
    pub text: Option<String>,
}

/// A place among all entries: those before it are older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditPlace {
    /// The instant of its row.
    pub at: UnixMs,
    /// The chain of its row.
    pub chain: i64,
    /// The number of its row.
    pub number: i64,
    /// Its place in the row, from 0.
    pub line: usize,
}

/// A page of entries that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRequest {
    /// Which entries.
    pub filter: AuditFilter,
    /// Those before this place; the newest if there is none.
    pub before: Option<AuditPlace>,
    /// How many at most.
    pub size: u32,
}

/// An entry, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedEntry {
    /// Where.
    pub place: AuditPlace,
    /// The entry.
    pub entry: AuditEntry,
}

/// A page of entries, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries.
    pub items: Vec<PlacedEntry>,
    /// Behind which place to go on, if there may be more.
    pub next: Option<AuditPlace>,
}

impl AuditFilter {
    /// Whether an entry is wanted, as far as it does not depend on its row.
    fn wants(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &Option<String>, holds: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(holds);
        let is_of_kind = |text: &str, kind: &str, end: char| {
            text == kind || text.strip_prefix(kind).is_some_and(|rest| rest.starts_with(end))
        };
        is(&self.actor, &|wanted| is_actor(&entry.actor, wanted))
            && is(&self.action, &|wanted| is_of_kind(&entry.action, wanted, '.'))
            && is(&self.device, &|wanted| {
                entry.device.as_ref().is_some_and(|(id, sn)| sn == wanted || id.to_string() == wanted)
            })
            && is(&self.object, &|wanted| is_of_kind(&entry.object, wanted, ' '))
            && self.outcome.is_none_or(|wanted| wanted == entry.outcome)
            && is(&self.text, &|wanted| has_text(entry, wanted))
    }
}

fn is_actor(actor: &AuditActor, wanted: &str) -> bool {
    let is_number = || {
        let number = wanted.strip_prefix(&*actor.kind).and_then(|rest| rest.strip_prefix(' '));
        number.is_some_and(|number| number == actor.id.to_string())
    };
    *actor.name == *wanted || actor.kind == wanted || is_number()
}

fn has_text(entry: &AuditEntry, wanted: &str) -> bool {
    entry.actor.name.contains(wanted)
        || entry.object.contains(wanted)
        || entry.device.as_ref().is_some_and(|(_, sn)| sn.contains(wanted))
        || entry.details.iter().any(|(_, text)| text.contains(wanted))
        || entry.from.is_some_and(|from| from.to_string() == wanted)
}

/// Goes through rows, the newest first, in the order of instant, chain and number.
#[derive(Debug)]
pub struct AuditScan {
    request: AuditRequest,
    page: AuditPage,
    looked_bytes: usize,
    last: Option<AuditPlace>,
    is_full: bool,
}

impl AuditScan {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(request: AuditRequest) -> Self {
        Self { request, page: AuditPage::default(), looked_bytes: 0, last: None, is_full: false }
    }

    /// Looks at the next row; answers whether another one is wanted.
    pub fn row(&mut self, row: &AuditRow) -> bool {
        if self.is_full {
            return false;
        }
        let lines: Vec<&str> = row.entries.lines().collect();
        for (line, text) in lines.iter().enumerate().rev() {
            let place = AuditPlace { at: row.at, chain: row.chain, number: row.number, line };
            if self.request.before.is_some_and(|before| place >= before) {
                continue;
            }
            if self.page.items.len() >= self.request.size as usize || self.looked_bytes >= SCAN_BYTES_MAX {
                self.is_full = true;
                return false;
            }
            self.looked_bytes += text.len();
            self.last = Some(place);
            let entry = AuditEntry::read(row.org, text).unwrap_or_else(|| unreadable(row.org, text));
            if self.request.filter.wants(&entry) {
                self.page.items.push(PlacedEntry { place, entry });
            }
        }
        true
    }

    /// The page.
    #[must_use]
    pub fn done(mut self) -> AuditPage {
        self.page.next = self.last.filter(|_| self.is_full);
        self.page
    }
}

/// A line that nobody wrote so: it is shown and not left out.
fn unreadable(org: OrgId, text: &str) -> AuditEntry {
    AuditEntry {
        org,
        action: "unreadable".into(),
        actor: AuditActor::stranger(""),
        from: None,
        outcome: AuditOutcome::Done,
        count: 1,
        device: None,
        object: "entry".to_owned(),
        details: Vec::new(),
    }
    .detail("line", text)
}
