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
/// Limit for each organisation, and for all strangers: the rest is counted in one entry.
pub const DIFFERENT_MAX: usize = 64;
/// How many entries about refusals may come at once, after a silence.
/// Limit for each organisation, and for all strangers: the rest is counted in one entry a minute.
pub const REFUSED_BURST: u64 = 512;
/// In how many milliseconds another one may come: 43,200 a day.
const REFUSED_EVERY_MS: u64 = 2_000;
/// How often what is not told one by one is told as a number, in milliseconds.
const OTHERS_EVERY_MS: u64 = 60_000;
/// How many organisations have refusals of their own at a time.
/// Limit for the server: those of more organisations are counted with those of strangers.
pub const ORGS_APART_MAX: usize = 256;
/// How many bytes are told of the path that was asked for.
/// Limit for each refusal: it is cut, and `…` stands at its end.
pub const PATH_BYTES_MAX: usize = 96;

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
    /// Of which thing, in words of the one who asked, such as `/api/v1/devices/7`: [`PATH_BYTES_MAX`] bytes at most.
    pub path: String,
    /// Why, in the words of the answer.
    pub why: String,
}

/// What was refused and is not written yet.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Book>);

/// What was refused to strangers, and what to each organisation: nobody hides what is refused to others.
#[derive(Debug, Default)]
struct Book {
    strangers: Bucket,
    orgs: HashMap<OrgId, Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    calls: HashMap<RefusedCall, u64>,
    /// How many different ones there are of each peer.
    peers: HashMap<Option<IpAddr>, u32>,
    /// How many were not told one by one, by status.
    others: HashMap<u16, u64>,
    others_told_ms: Option<u64>,
    /// When all of the burst is there again, by the clock that never goes back.
    full_ms: u64,
}

/// What was refused and may be written now.
#[derive(Debug, Default)]
pub struct Refused {
    calls: Vec<(RefusedCall, u64)>,
    /// What is not told one by one, by status, of strangers or an organisation.
    others: Vec<(Option<OrgId>, HashMap<u16, u64>)>,
}

impl Refused {
    /// As entries.
    #[must_use]
    pub fn entries(&self) -> Vec<AuditEntry> {
        let calls = self.calls.iter().map(|(call, count)| entry_of(call, *count));
        calls.chain(self.others.iter().map(|(org, others)| entry_of_others(*org, others))).collect()
    }
}

impl Book {
    /// Where what is refused to callers of this organisation is counted.
    fn bucket(&mut self, org: Option<OrgId>) -> &mut Bucket {
        match org {
            Some(org) if self.orgs.len() < ORGS_APART_MAX || self.orgs.contains_key(&org) => {
                self.orgs.entry(org).or_default()
            }
            _ => &mut self.strangers,
        }
    }
}

impl Bucket {
    fn note(&mut self, call: RefusedCall) {
        if let Some(count) = self.calls.get_mut(&call) {
            *count += 1;
            return;
        }
        let of_peer = self.peers.get(&peer(call.from)).copied().unwrap_or(0);
        if of_peer >= PEER_DIFFERENT_MAX || self.calls.len() >= DIFFERENT_MAX {
            *self.others.entry(call.status).or_default() += 1;
            return;
        }
        self.peers.insert(peer(call.from), of_peer + 1);
        self.calls.insert(call, 1);
    }

    fn take(&mut self, org: Option<OrgId>, now_ms: u64, taken: &mut Refused) {
        self.peers.clear();
        for (call, count) in std::mem::take(&mut self.calls) {
            let full_ms = self.full_ms.max(now_ms) + REFUSED_EVERY_MS;
            if full_ms - now_ms > REFUSED_BURST * REFUSED_EVERY_MS {
                *self.others.entry(call.status).or_default() += count;
                continue;
            }
            self.full_ms = full_ms;
            taken.calls.push((call, count));
        }
        let is_due =
            self.others_told_ms.is_none_or(|told_ms| now_ms.saturating_sub(told_ms) >= OTHERS_EVERY_MS);
        if is_due && !self.others.is_empty() {
            self.others_told_ms = Some(now_ms);
            taken.others.push((org, std::mem::take(&mut self.others)));
        }
    }

    /// Whether it is as if nothing had been refused.
    fn is_idle(&self, now_ms: u64) -> bool {
        let is_told =
            self.others_told_ms.is_none_or(|told_ms| now_ms.saturating_sub(told_ms) >= OTHERS_EVERY_MS);
        self.calls.is_empty() && self.others.is_empty() && self.full_ms <= now_ms && is_told
    }
}

impl Refusals {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Whole whenever it is unlocked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one.
    pub fn note(&self, call: RefusedCall) {
        self.book().bucket(call.org).note(call);
    }

    /// Takes out what may be written at this instant of the clock that never goes back; none if there is nothing.
    #[must_use]
    pub fn take(&self, now_ms: u64) -> Option<Refused> {
        let mut book = self.book();
        let mut taken = Refused::default();
        book.strangers.take(None, now_ms, &mut taken);
        book.orgs.iter_mut().for_each(|(org, bucket)| bucket.take(Some(*org), now_ms, &mut taken));
        book.orgs.retain(|_, bucket| !bucket.is_idle(now_ms));
        (!taken.calls.is_empty() || !taken.others.is_empty()).then_some(taken)
    }

    /// Takes back what could not be written.
    pub fn put_back(&self, refused: Refused) {
        let mut book = self.book();
        for (call, count) in refused.calls {
            let bucket = book.bucket(call.org);
            bucket.full_ms = bucket.full_ms.saturating_sub(REFUSED_EVERY_MS);
            if bucket.calls.len() >= DIFFERENT_MAX && !bucket.calls.contains_key(&call) {
                *bucket.others.entry(call.status).or_default() += count;
            } else {
                *bucket.calls.entry(call).or_default() += count;
            }
        }
        for (org, others) in refused.others {
            let bucket = book.bucket(org);
            bucket.others_told_ms = None;
            for (status, count) in others {
                *bucket.others.entry(status).or_default() += count;
            }
        }
    }
}

/// Who is taken for one peer.
fn peer(from: Option<IpAddr>) -> Option<IpAddr> {
    from.map(|from| match from.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    })
}

fn entry_of(call: &RefusedCall, count: u64) -> AuditEntry {
    let RefusedCall { org, actor, from, status, call, path, why } = call;
    let org = org.unwrap_or(OrgId(0));
    let entry = AuditEntry::by(actor.clone(), org, AuditAction::RequestRefuse, "request");
    let entry = AuditEntry { from: *from, outcome: AuditOutcome::Refused, count, ..entry };
    entry.detail("status", &status.to_string()).detail("call", call).detail("path", path).detail("why", why)
}

fn entry_of_others(org: Option<OrgId>, others: &HashMap<u16, u64>) -> AuditEntry {
    let mut statuses: Vec<_> = others.iter().collect();
    statuses.sort_unstable();
    let text: Vec<_> = statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
    let actor = AuditActor::stranger("others");
    let entry = AuditEntry::by(actor, org.unwrap_or(OrgId(0)), AuditAction::RequestRefuse, "request");
    let count = others.values().sum();
    let entry = AuditEntry { outcome: AuditOutcome::Refused, count, ..entry };
    entry.detail("statuses", &text.join(", "))
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

    fn of_org(org: i64, path: usize) -> RefusedCall {
        RefusedCall { org: Some(OrgId(org)), status: 403, ..call(1, path) }
    }

    fn entries(refusals: &Refusals, now_ms: u64) -> Vec<AuditEntry> {
        refusals.take(now_ms).map_or_else(Vec::new, |refused| refused.entries())
    }

    #[test]
    fn a_day_of_refusals_to_strangers_is_at_most_35_megabytes() {
        let refused = RefusedCall {
            from: Some(IpAddr::V6(Ipv6Addr::from_bits(u128::MAX))),
            actor: AuditActor::stranger(&format!("certificate {}", "a".repeat(40))),
            call: "DELETE /api/v1/devices/{device_id}/certificates/revoke".to_owned(),
            path: "/".repeat(PATH_BYTES_MAX),
            why: "x".repeat(100),
            ..call(1, 0)
        };
        let mut line = String::new();
        entry_of(&refused, 1_000_000).write(&mut line);
        // Each a row by itself: its numbers, its hash, its key and two indexes.
        let row_bytes = line.len() as u64 + 32 + 4 * 8 + 3 * 40;
        let day_ms = 24 * 3_600_000;
        assert!(row_bytes * day_ms / REFUSED_EVERY_MS < 35_000_000, "{row_bytes}");
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
        let found = entries(&refusals, 0);
        assert_eq!(found.len(), 1 + PEER_DIFFERENT_MAX as usize + 1);
        assert_eq!(told(&found), 2_000, "none is lost");
        assert_eq!(found.iter().map(|entry| entry.count).max(), Some(1_000));
        assert!(refusals.take(1).is_none());
    }

    #[test]
    fn however_many_are_refused_in_a_day_little_is_written_and_all_are_counted() {
        let refusals = Refusals::default();
        let (mut written, mut count, mut noted) = (0, 0, 0);
        let day_ms = 24 * 3_600_000;
        for now_ms in (0..day_ms).step_by(2_000) {
            for peer in 0..10 {
                refusals.note(call(peer, now_ms as usize));
                noted += 1;
            }
            let found = entries(&refusals, now_ms);
            written += found.len() as u64;
            count += told(&found);
        }
        count += told(&entries(&refusals, day_ms + OTHERS_EVERY_MS));
        assert!(written <= day_ms / REFUSED_EVERY_MS + REFUSED_BURST + day_ms / OTHERS_EVERY_MS, "{written}");
        assert_eq!(count, noted);
    }

    #[test]
    fn a_flood_of_one_hides_nothing_that_is_refused_to_others() {
        let refusals = Refusals::default();
        for now_ms in (0..1_400_000).step_by(2_000) {
            // Of strangers from everywhere, and of one organisation.
            for place in 0..100 {
                refusals.note(call(place, now_ms as usize));
                let flood = of_org(1, now_ms as usize + place as usize);
                refusals.note(RefusedCall { from: call(place, 0).from, ..flood });
            }
            refusals.note(of_org(2, 7));
            let found = entries(&refusals, now_ms);
            let of_other: Vec<_> = found.iter().filter(|entry| entry.org == OrgId(2)).collect();
            assert!(matches!(of_other[..], [entry] if entry.details[2].1 == "7"), "{now_ms}: {of_other:?}");
        }
        // Organisations that are refused nothing any more are forgotten, and more than there may be are counted.
        assert!(refusals.take(100_000_000).is_some_and(|refused| refused.entries().len() == 2));
        assert!(refusals.take(200_000_000).is_none() && refusals.book().orgs.is_empty());
        for org in 1..=2 * ORGS_APART_MAX as i64 {
            refusals.note(of_org(org, 1));
        }
        assert_eq!(refusals.book().orgs.len(), ORGS_APART_MAX);
        assert_eq!(told(&entries(&refusals, 200_000_000)), 2 * ORGS_APART_MAX as u64);
    }

    #[test]
    fn what_could_not_be_written_is_told_later() {
        let refusals = Refusals::default();
        let (mut noted, mut now_ms) = (0, 0);
        for _ in 0..300 {
            now_ms += 2_000;
            for place in 0..100 {
                refusals.note(call(place, now_ms as usize));
                refusals.note(of_org(1, 0));
                noted += 2;
            }
            refusals.take(now_ms).into_iter().for_each(|refused| refusals.put_back(refused));
            assert!(refusals.book().strangers.calls.len() <= DIFFERENT_MAX);
        }
        let found = entries(&refusals, now_ms);
        assert_eq!(told(&found), noted);
        assert!(found.len() > DIFFERENT_MAX / 2, "what was not written has used up nothing: {}", found.len());
    }
}
