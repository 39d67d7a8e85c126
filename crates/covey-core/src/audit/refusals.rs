//! What was refused, told as few entries: nobody may fill the disk with what is refused to it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::audit::{AuditAction, AuditActor, AuditEntry, AuditOutcome};
use crate::id::OrgId;

/// How many different refusals are told one by one that lie between two writes, from one peer.
/// Limit for each peer (an IPv4 address, or the first half of an IPv6 address): the rest is counted in one entry.
pub const PEER_DIFFERENT_MAX: u32 = 8;
/// The same from all.
/// Limit for the server: the rest is counted in one entry.
pub const DIFFERENT_MAX: usize = 64;
/// How many entries about refusals may come at once, after a silence.
/// Limit for the server: the rest is counted in one entry a minute.
pub const REFUSED_BURST: u64 = 512;
/// In how many milliseconds another one may come: 43,200 a day.
const REFUSED_EVERY_MS: u64 = 2_000;
/// How often what is not told one by one is told as a number, in milliseconds.
const OTHERS_EVERY_MS: u64 = 60_000;

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RefusedCall {
    /// In whose organisation, if that is known.
    pub org: Option<OrgId>,
    /// Who asked.
    pub actor: AuditActor,
    /// From where.
    pub from: Option<IpAddr>,
    /// The status of the answer.
    pub status: u16,
    /// What was asked for, such as `DELETE /api/v1/devices/{device_id}`.
    pub call: String,
    /// Of which thing, in words of the one who asked, such as `/api/v1/devices/7`.
    pub path: String,
    /// Why, in the words of the answer.
    pub why: String,
}

/// What was refused and is not written yet.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    calls: HashMap<RefusedCall, u64>,
    /// How many different ones there are of each peer.
    peers: HashMap<Option<IpAddr>, u32>,
    /// How many were not told one by one, by status.
    others: HashMap<u16, u64>,
    others_told_ms: Option<u64>,
    /// When all of the burst is there again, by the clock that never goes back.
    full_ms: u64,
}

/// Entries about refusals that may be written now.
pub type Refused = Vec<AuditEntry>;

impl Refusals {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Whole whenever it is unlocked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one.
    pub fn note(&self, call: RefusedCall) {
        let mut book = self.book();
        if let Some(count) = book.calls.get_mut(&call) {
            *count += 1;
            return;
        }
        let is_full = book.calls.len() >= DIFFERENT_MAX;
        let of_peer = book.peers.get(&peer(call.from)).copied().unwrap_or(0);
        if is_full || of_peer >= PEER_DIFFERENT_MAX {
            *book.others.entry(call.status).or_default() += 1;
            return;
        }
        book.peers.insert(peer(call.from), of_peer + 1);
        book.calls.insert(call, 1);
    }

    /// Takes out what may be written at this instant of the clock that never goes back.
    #[must_use]
    pub fn take(&self, now_ms: u64) -> Refused {
        let mut book = self.book();
        book.peers.clear();
        let mut entries = Vec::new();
        for (call, count) in std::mem::take(&mut book.calls) {
            let full_ms = book.full_ms.max(now_ms) + REFUSED_EVERY_MS;
            if full_ms - now_ms > REFUSED_BURST * REFUSED_EVERY_MS {
                *book.others.entry(call.status).or_default() += count;
                continue;
            }
            book.full_ms = full_ms;
            entries.push(entry_of(call, count));
        }
        let is_due =
            book.others_told_ms.is_none_or(|told_ms| now_ms.saturating_sub(told_ms) >= OTHERS_EVERY_MS);
        if is_due && !book.others.is_empty() {
            book.others_told_ms = Some(now_ms);
            let others = std::mem::take(&mut book.others);
            let count = others.values().sum();
            let mut statuses: Vec<_> = others.into_iter().collect();
            statuses.sort_unstable();
            let text: Vec<_> = statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
            let actor = AuditActor::stranger("others");
            let entry = AuditEntry {
                outcome: AuditOutcome::Refused,
                count,
                ..AuditEntry::by(actor, OrgId(0), AuditAction::RequestRefuse, "request")
            };
            entries.push(entry.detail("statuses", &text.join(", ")));
        }
        entries
    }
}

/// Who is taken for one peer.
fn peer(from: Option<IpAddr>) -> Option<IpAddr> {
    from.map(|from| match from.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    })
}

fn entry_of(call: RefusedCall, count: u64) -> AuditEntry {
    let RefusedCall { org, actor, from, status, call, path, why } = call;
    let entry = AuditEntry::by(actor, org.unwrap_or(OrgId(0)), AuditAction::RequestRefuse, "request");
    let entry = AuditEntry { from, outcome: AuditOutcome::Refused, count, ..entry };
    entry
        .detail("status", &status.to_string())
        .detail("call", &call)
        .detail("path", &path)
        .detail("why", &why)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn call(from: u32, path: usize) -> RefusedCall {
        RefusedCall {
            org: None,
            actor: AuditActor::stranger(""),
            from: Some(IpAddr::V4(Ipv4Addr::from_bits(from))),
            status: 401,
            call: "GET /api/v1/devices".to_owned(),
            path: path.to_string(),
            why: String::new(),
        }
    }

    fn told(entries: &[AuditEntry]) -> u64 {
        entries.iter().map(|entry| entry.count).sum()
    }

    #[test]
    fn equal_refusals_are_one_entry_and_a_peer_has_few_different_ones() {
        let refusals = Refusals::default();
        for round in 0..1_000 {
            refusals.note(call(1, 0));
            refusals.note(call(2, round));
        }
        let entries = refusals.take(0);
        assert_eq!(entries.len(), 1 + PEER_DIFFERENT_MAX as usize + 1);
        assert_eq!(told(&entries), 2_000, "none is lost");
        assert_eq!(entries.iter().map(|entry| entry.count).max(), Some(1_000));
        assert!(refusals.take(1).is_empty());
    }

    #[test]
    fn however_many_are_refused_in_a_day_little_is_written_and_all_are_counted() {
        let refusals = Refusals::default();
        let (mut entries, mut count, mut noted) = (0, 0, 0);
        let day_ms = 24 * 3_600_000;
        for now_ms in (0..day_ms).step_by(2_000) {
            for peer in 0..100 {
                refusals.note(call(peer, now_ms as usize));
                noted += 1;
            }
            let written = refusals.take(now_ms);
            entries += written.len() as u64;
            count += told(&written);
        }
        count += told(&refusals.take(day_ms + OTHERS_EVERY_MS));
        assert!(entries <= day_ms / REFUSED_EVERY_MS + REFUSED_BURST + day_ms / OTHERS_EVERY_MS, "{entries}");
        assert_eq!(count, noted);
    }
}
