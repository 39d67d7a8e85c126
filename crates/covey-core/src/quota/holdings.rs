//! What each holder keeps, as far as this server knows: what the store said when it was last asked, and what
//! came since.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::{DeviceKey, OrgId, UnixMs};
use crate::quota::{DayKept, OrgDay, UNWRITTEN_BYTES_MAX, day_of};
use crate::retention::RetentionClass;

/// In how many parts devices are kept, so that those who ask at the same time seldom wait for each other.
const PARTS: usize = 16;
/// After so long the store is asked again for what a device keeps, in milliseconds: days have become too old, and
/// other servers have stored something.
const KNOWN_MS: u64 = 600_000;
/// How many rows are written at once.
const ROWS_MAX: usize = 500;

/// A device and its organisation.
pub(crate) type Holder = (OrgId, DeviceKey);

/// What one holder keeps.
#[derive(Default)]
struct Holding {
    /// What is in the store, if it was asked.
    stored: Option<i64>,
    /// What the store has not been told yet.
    unwritten: Vec<DayKept>,
}

impl Holding {
    fn add(&mut self, kept: DayKept) {
        let same = |known: &&mut DayKept| known.class == kept.class && known.day == kept.day;
        match self.unwritten.iter_mut().find(same) {
            Some(known) => known.bytes = known.bytes.saturating_add(kept.bytes),
            None => self.unwritten.push(kept),
        }
    }

    fn unwritten_bytes(&self) -> i64 {
        self.unwritten.iter().map(|kept| kept.bytes).sum()
    }

    /// All of it, if the store was asked.
    fn bytes(&self) -> Option<u64> {
        self.stored.map(|stored| u64::try_from(stored.saturating_add(self.unwritten_bytes())).unwrap_or(0))
    }

    /// What the store is to be told; from now on it counts as stored.
    fn take_unwritten(&mut self) -> Vec<DayKept> {
        let bytes = self.unwritten_bytes();
        self.stored = self.stored.map(|stored| stored.saturating_add(bytes));
        std::mem::take(&mut self.unwritten)
    }

    /// The store was not told after all.
    fn put_back(&mut self, kept: DayKept) {
        self.stored = self.stored.map(|stored| stored.saturating_sub(kept.bytes));
        self.add(kept);
    }
}

#[derive(Default)]
struct OfDevice {
    org: Option<OrgId>,
    holding: Holding,
    /// When the store was asked, or is to be asked for the first time.
    asked_at_ms: u64,
    /// It is to be asked.
    is_wanted: bool,
}

#[derive(Default)]
struct OfOrg {
    name: String,
    holding: Holding,
}

#[derive(Default)]
struct Orgs {
    by_id: HashMap<OrgId, OfOrg>,
    /// The store was asked: who is not here has stored nothing before.
    is_known: bool,
}

impl Orgs {
    fn of(&mut self, org: OrgId) -> &mut OfOrg {
        let stored = self.is_known.then_some(0);
        let new = || OfOrg { holding: Holding { stored, ..Holding::default() }, ..OfOrg::default() };
        self.by_id.entry(org).or_insert_with(new)
    }
}

/// What all holders keep.
pub(crate) struct Holdings {
    device_bytes_max: u64,
    org_bytes_max: u64,
    parts: [Mutex<HashMap<DeviceKey, OfDevice>>; PARTS],
    orgs: Mutex<Orgs>,
}

/// What the store is to be told.
#[derive(Clone, Default)]
pub(crate) struct Unwritten {
    pub(crate) of_devices: Vec<(DeviceKey, OrgId, DayKept)>,
    pub(crate) of_orgs: Vec<(OrgId, DayKept)>,
}

impl Unwritten {
    pub(crate) fn is_empty(&self) -> bool {
        self.of_devices.is_empty() && self.of_orgs.is_empty()
    }

    fn rows(&self) -> usize {
        self.of_devices.len() + self.of_orgs.len()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Holdings {
    /// Nothing is known of anybody. 0 is for as much as there is room for.
    pub(crate) fn new(device_bytes_max: u64, org_bytes_max: u64) -> Self {
        Self { device_bytes_max, org_bytes_max, parts: Default::default(), orgs: Mutex::default() }
    }

    fn part(&self, device: DeviceKey) -> MutexGuard<'_, HashMap<DeviceKey, OfDevice>> {
        // Numbers are given one after the other.
        let place = usize::try_from(device.0.unsigned_abs() % PARTS as u64).unwrap_or(0);
        locked(&self.parts[place])
    }

    /// Something was stored of a device, or taken back.
    pub(crate) fn add(&self, (org, device): Holder, class: RetentionClass, at: UnixMs, bytes: i64) {
        let kept = DayKept { class, day: day_of(at), bytes };
        {
            let mut part = self.part(device);
            let known = part.entry(device).or_default();
            known.org = Some(org);
            known.holding.add(kept);
        }
        locked(&self.orgs).of(org).holding.add(kept);
    }

    /// Whether an organisation keeps as much as it may.
    pub(crate) fn is_org_full(&self, org: OrgId) -> bool {
        if self.org_bytes_max == 0 {
            return false;
        }
        let bytes = locked(&self.orgs).by_id.get(&org).and_then(|known| known.holding.bytes());
        bytes.is_some_and(|bytes| bytes >= self.org_bytes_max)
    }

    /// Whether a device keeps as much as it may. One of which nothing is known does not, and the store is asked
    /// soon.
    pub(crate) fn is_device_full(&self, org: OrgId, device: DeviceKey, now_ms: u64) -> bool {
        if self.device_bytes_max == 0 {
            return false;
        }
        let mut part = self.part(device);
        let known = part.entry(device).or_default();
        if known.holding.stored.is_none() || now_ms.saturating_sub(known.asked_at_ms) >= KNOWN_MS {
            known.org = Some(org);
            known.is_wanted = true;
        }
        known.holding.bytes().is_some_and(|bytes| bytes >= self.device_bytes_max)
    }

    /// Devices of which the store is to be asked, so many at most.
    pub(crate) fn wanted(&self, limit: usize) -> Vec<(DeviceKey, OrgId)> {
        let mut wanted = Vec::new();
        for part in &self.parts {
            let part = locked(part);
            let some = part.iter().filter(|(_, known)| known.is_wanted);
            let some = some.filter_map(|(device, known)| Some((*device, known.org?)));
            wanted.extend(some.take(limit - wanted.len()));
        }
        wanted
    }

    /// Whether there are any.
    pub(crate) fn is_any_wanted(&self) -> bool {
        !self.wanted(1).is_empty()
    }

    /// What the store has said of a device.
    pub(crate) fn set_device(&self, device: DeviceKey, stored: i64, now_ms: u64) {
        if let Some(known) = self.part(device).get_mut(&device) {
            known.holding.stored = Some(stored);
            (known.asked_at_ms, known.is_wanted) = (now_ms, false);
        }
    }

    /// What the store has said of all organisations.
    pub(crate) fn set_orgs(&self, days: Vec<OrgDay>, is_kept: impl Fn(&OrgDay) -> bool) {
        let mut orgs = locked(&self.orgs);
        orgs.is_known = true;
        orgs.by_id.values_mut().for_each(|known| known.holding.stored = Some(0));
        for day in days {
            let bytes = if is_kept(&day) { day.bytes } else { 0 };
            let known = orgs.of(day.org);
            let stored = known.holding.stored.unwrap_or(0);
            known.holding.stored = Some(stored.saturating_add(bytes));
            known.name = day.name;
        }
    }

    /// What the store is to be told, as much as is written at once: all of it if it `is_due`, or else of those of
    /// whom it is much.
    pub(crate) fn take_unwritten(&self, is_due: bool) -> Unwritten {
        let mut taken = Unwritten::default();
        let is_much = |holding: &Holding| holding.unwritten_bytes().unsigned_abs() >= UNWRITTEN_BYTES_MAX;
        let is_wanted = |holding: &Holding| !holding.unwritten.is_empty() && (is_due || is_much(holding));
        for (org, known) in locked(&self.orgs).by_id.iter_mut().filter(|(_, known)| is_wanted(&known.holding))
        {
            if taken.rows() >= ROWS_MAX {
                return taken;
            }
            taken.of_orgs.extend(known.holding.take_unwritten().into_iter().map(|kept| (*org, kept)));
        }
        for part in &self.parts {
            for (device, known) in locked(part).iter_mut().filter(|(_, known)| is_wanted(&known.holding)) {
                if taken.rows() >= ROWS_MAX {
                    return taken;
                }
                let Some(org) = known.org else { continue };
                let rows = known.holding.take_unwritten().into_iter();
                taken.of_devices.extend(rows.map(|kept| (*device, org, kept)));
            }
        }
        taken
    }

    /// The store was not told after all.
    pub(crate) fn put_back(&self, unwritten: Unwritten) {
        for (device, org, kept) in unwritten.of_devices {
            let mut part = self.part(device);
            let known = part.entry(device).or_default();
            known.org = Some(org);
            known.holding.put_back(kept);
        }
        let mut orgs = locked(&self.orgs);
        for (org, kept) in unwritten.of_orgs {
            orgs.of(org).holding.put_back(kept);
        }
    }

    /// Forgets devices of which the store would be asked anyway.
    pub(crate) fn forget_silent(&self, now_ms: u64) {
        for part in &self.parts {
            locked(part).retain(|_, known| {
                let is_fresh = now_ms.saturating_sub(known.asked_at_ms) < KNOWN_MS;
                known.is_wanted || !known.holding.unwritten.is_empty() || is_fresh
            });
        }
    }

    /// What each organisation keeps, by name, and whether that is as much as it may.
    pub(crate) fn of_orgs(&self) -> Vec<(String, u64)> {
        let orgs = locked(&self.orgs);
        let named = orgs.by_id.values().filter(|known| !known.name.is_empty());
        named.map(|known| (known.name.clone(), known.holding.bytes().unwrap_or(0))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORG: OrgId = OrgId(1);
    const DEVICE: DeviceKey = DeviceKey(7);
    const DAY: UnixMs = UnixMs(20_000 * 86_400_000);

    fn holdings() -> Holdings {
        Holdings::new(1_000, 5_000)
    }

    fn add(holdings: &Holdings, bytes: i64) {
        holdings.add((ORG, DEVICE), RetentionClass::Events, DAY, bytes);
    }

    #[test]
    fn of_whom_nothing_is_known_is_asked_and_is_not_full() {
        let holdings = holdings();
        add(&holdings, 2_000);
        assert!(!holdings.is_device_full(ORG, DEVICE, 5));
        assert_eq!(holdings.wanted(10), [(DEVICE, ORG)]);
        holdings.set_device(DEVICE, 0, 5);
        assert!(holdings.is_device_full(ORG, DEVICE, 5) && holdings.wanted(10).is_empty());
        // What was taken back makes room.
        add(&holdings, -1_500);
        assert!(!holdings.is_device_full(ORG, DEVICE, 5));
        assert!(!holdings.is_device_full(ORG, DEVICE, 5 + KNOWN_MS));
        assert_eq!(holdings.wanted(10), [(DEVICE, ORG)]);
    }

    #[test]
    fn what_is_written_or_was_not_after_all_counts_once() {
        let holdings = holdings();
        holdings.set_orgs(Vec::new(), |_| true);
        add(&holdings, 600);
        holdings.is_device_full(ORG, DEVICE, 5);
        holdings.set_device(DEVICE, 300, 5);
        for _ in 0..3 {
            assert!(holdings.take_unwritten(false).is_empty(), "it is little");
            let taken = holdings.take_unwritten(true);
            assert_eq!((taken.of_devices.len(), taken.of_orgs.len()), (1, 1));
            assert!(!holdings.is_device_full(ORG, DEVICE, 5));
            holdings.put_back(taken);
        }
        add(&holdings, 99);
        holdings.take_unwritten(true);
        assert!(!holdings.is_device_full(ORG, DEVICE, 5));
        add(&holdings, 1);
        assert!(holdings.is_device_full(ORG, DEVICE, 5));
    }

    #[test]
    fn much_is_written_at_once() {
        let holdings = holdings();
        add(&holdings, 1 << 20);
        assert_eq!(holdings.take_unwritten(false).of_devices.len(), 1);
        assert!(holdings.take_unwritten(true).is_empty());
    }

    #[test]
    fn an_organisation_is_full_by_all_that_is_kept_of_it() {
        let holdings = holdings();
        let day = |class, bytes| OrgDay { org: ORG, name: "a".to_owned(), class, day: 20_000, bytes };
        add(&holdings, 1_000);
        assert!(!holdings.is_org_full(ORG), "the store was not asked");
        let days = vec![
            day(Some(RetentionClass::Tasks), 9_000),
            day(Some(RetentionClass::Events), 3_000),
            day(None, 900),
        ];
        holdings.set_orgs(days, |day| day.class != Some(RetentionClass::Tasks));
        assert_eq!(holdings.of_orgs(), [("a".to_owned(), 4_900)]);
        assert!(!holdings.is_org_full(ORG));
        add(&holdings, 100);
        assert!(holdings.is_org_full(ORG) && !holdings.is_org_full(OrgId(2)));
    }

    #[test]
    fn silent_devices_are_forgotten_and_nothing_that_is_not_written() {
        let holdings = holdings();
        add(&holdings, 1);
        holdings.set_device(DEVICE, 0, 5);
        holdings.forget_silent(5 + KNOWN_MS);
        assert_eq!(holdings.take_unwritten(true).of_devices.len(), 1);
        holdings.forget_silent(5 + KNOWN_MS);
        assert!(holdings.part(DEVICE).is_empty());
    }
}
