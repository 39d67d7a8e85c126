//! What each holder keeps, as far as this server knows: what the store said when it was last asked, and what
//! came since.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::{DeviceKey, OrgId};
use crate::quota::{DayKept, KeptAdd, OrgDay, PARTS, PARTS_ALL, part_of};

/// After so long the store is asked again for what a device keeps, in milliseconds: days have become too old, and
/// other servers have stored something.
const KNOWN_MS: u64 = 600_000;
/// From so many rows on they are written, and further parts with the next transaction.
const ROWS_ENOUGH: usize = 500;

/// A device and its organisation.
pub(crate) type Holder = (OrgId, DeviceKey);

/// What was counted and is not written.
type Unwritten<W> = HashMap<W, Vec<DayKept>>;

fn count<W: std::hash::Hash + Eq>(unwritten: &mut Unwritten<W>, of: W, kept: DayKept) {
    // Most have one, and there are as many as devices.
    let days = unwritten.entry(of).or_insert_with(|| Vec::with_capacity(1));
    match days.iter_mut().find(|known| known.class == kept.class && known.day == kept.day) {
        Some(known) => known.bytes = known.bytes.saturating_add(kept.bytes),
        None => days.push(kept),
    }
}

fn bytes_of<W: std::hash::Hash + Eq>(unwritten: &Unwritten<W>, of: W) -> i64 {
    unwritten.get(&of).map_or(0, |days| days.iter().map(|kept| kept.bytes).sum())
}

fn rows<W: Copy>(unwritten: &Unwritten<W>) -> impl Iterator<Item = (W, DayKept)> + '_ {
    unwritten.iter().flat_map(|(of, days)| days.iter().map(|kept| (*of, *kept)))
}

fn positive(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

/// A device that was heard of a short while ago.
struct OfDevice {
    org: OrgId,
    /// All that it keeps, if the store was asked.
    bytes: Option<i64>,
    /// When that was.
    asked_at_ms: u64,
    /// It is to be asked.
    is_wanted: bool,
}

/// Some of the devices.
#[derive(Default)]
struct Part {
    known: HashMap<DeviceKey, OfDevice>,
    unwritten: Unwritten<DeviceKey>,
    /// Those of whom the store is to be asked.
    wanted: Vec<DeviceKey>,
}

#[derive(Default)]
struct OfOrg {
    name: String,
    /// All that it keeps, if the store was asked.
    bytes: Option<i64>,
}

#[derive(Default)]
struct Orgs {
    by_id: HashMap<OrgId, OfOrg>,
    unwritten: Unwritten<OrgId>,
    /// What some may keep in place of what all may.
    own_bytes_max: HashMap<OrgId, u64>,
    /// The store was asked: who is not here has stored nothing before.
    is_known: bool,
}

impl Orgs {
    fn of(&mut self, org: OrgId) -> &mut OfOrg {
        let bytes = self.is_known.then_some(0);
        self.by_id.entry(org).or_insert_with(|| OfOrg { bytes, ..OfOrg::default() })
    }
}

/// What is being written.
struct Writing {
    of_devices: Vec<Unwritten<DeviceKey>>,
    of_orgs: Unwritten<OrgId>,
    /// How many parts the store has.
    parts: u8,
}

/// What all holders keep.
pub(crate) struct Holdings {
    device_bytes_max: u64,
    org_bytes_max: u64,
    /// An organisation may keep something else.
    is_any_own: AtomicBool,
    parts: [Mutex<Part>; PARTS as usize],
    orgs: Mutex<Orgs>,
    writing: Mutex<Option<Writing>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Holdings {
    /// Nothing is known of anybody. 0 is for as much as there is room for.
    pub(crate) fn new(device_bytes_max: u64, org_bytes_max: u64) -> Self {
        Self {
            device_bytes_max,
            org_bytes_max,
            is_any_own: AtomicBool::new(false),
            parts: std::array::from_fn(|_| Mutex::default()),
            orgs: Mutex::default(),
            writing: Mutex::default(),
        }
    }

    fn part(&self, device: DeviceKey) -> MutexGuard<'_, Part> {
        locked(&self.parts[usize::from(part_of(device))])
    }

    /// Something was stored of a device.
    pub(crate) fn add(&self, (org, device): Holder, kept: DayKept) {
        {
            let mut part = self.part(device);
            count(&mut part.unwritten, device, kept);
            if let Some(bytes) = part.known.get_mut(&device).and_then(|known| known.bytes.as_mut()) {
                *bytes = bytes.saturating_add(kept.bytes);
            }
        }
        let mut orgs = locked(&self.orgs);
        count(&mut orgs.unwritten, org, kept);
        if let Some(bytes) = orgs.of(org).bytes.as_mut() {
            *bytes = bytes.saturating_add(kept.bytes);
        }
    }

    /// Something of a device is no longer kept, and the store knows it.
    pub(crate) fn free(&self, (org, device): Holder, bytes: i64) {
        if let Some(known) = self.part(device).known.get_mut(&device) {
            known.bytes = known.bytes.map(|known| known.saturating_sub(bytes));
        }
        if let Some(known) = locked(&self.orgs).by_id.get_mut(&org) {
            known.bytes = known.bytes.map(|known| known.saturating_sub(bytes));
        }
    }

    /// What some organisations may keep in place of what all may.
    pub(crate) fn set_own(&self, own: HashMap<OrgId, u64>) {
        self.is_any_own.store(!own.is_empty(), Ordering::Relaxed);
        locked(&self.orgs).own_bytes_max = own;
    }

    /// Whether an organisation keeps as much as it may.
    pub(crate) fn is_org_full(&self, org: OrgId) -> bool {
        if self.org_bytes_max == 0 && !self.is_any_own.load(Ordering::Relaxed) {
            return false;
        }
        let orgs = locked(&self.orgs);
        let bytes_max = orgs.own_bytes_max.get(&org).copied().unwrap_or(self.org_bytes_max);
        let bytes = orgs.by_id.get(&org).and_then(|known| known.bytes).filter(|_| bytes_max > 0);
        bytes.is_some_and(|bytes| positive(bytes) >= bytes_max)
    }

    /// Whether a device keeps as much as it may. One of which nothing is known does not, and the store is asked
    /// soon.
    pub(crate) fn is_device_full(&self, org: OrgId, device: DeviceKey, now_ms: u64) -> bool {
        if self.device_bytes_max == 0 {
            return false;
        }
        let mut part = self.part(device);
        let Part { known, wanted, .. } = &mut *part;
        let new = || OfDevice { org, bytes: None, asked_at_ms: 0, is_wanted: false };
        let known = known.entry(device).or_insert_with(new);
        let is_fresh = known.bytes.is_some() && now_ms.saturating_sub(known.asked_at_ms) < KNOWN_MS;
        if !is_fresh && !known.is_wanted {
            known.is_wanted = true;
            wanted.push(device);
        }
        known.bytes.is_some_and(|bytes| positive(bytes) >= self.device_bytes_max)
    }

    /// Devices of which the store is to be asked, so many at most.
    pub(crate) fn wanted(&self, limit: usize) -> Vec<Holder> {
        let mut wanted = Vec::new();
        for part in &self.parts {
            let part = locked(part);
            let some = part.wanted.iter().take(limit - wanted.len());
            wanted.extend(some.filter_map(|device| Some((part.known.get(device)?.org, *device))));
        }
        wanted
    }

    /// Whether there are any.
    pub(crate) fn is_any_wanted(&self) -> bool {
        self.parts.iter().any(|part| !locked(part).wanted.is_empty())
    }

    /// What the store has said of a device. Nothing is being written meanwhile.
    pub(crate) fn set_device(&self, device: DeviceKey, stored: i64, now_ms: u64) {
        let mut part = self.part(device);
        let Part { known, unwritten, wanted } = &mut *part;
        if let Some(place) = wanted.iter().position(|wanted| *wanted == device) {
            wanted.swap_remove(place);
        }
        if let Some(known) = known.get_mut(&device) {
            known.bytes = Some(stored.saturating_add(bytes_of(unwritten, device)));
            (known.asked_at_ms, known.is_wanted) = (now_ms, false);
        }
    }

    /// What the store has said of all organisations. Nothing is being written meanwhile. A day of which more was deleted
    /// than was counted says nothing of other days.
    pub(crate) fn set_orgs(&self, days: Vec<OrgDay>, is_kept: impl Fn(&OrgDay) -> bool) {
        let mut orgs = locked(&self.orgs);
        orgs.is_known = true;
        let Orgs { by_id, unwritten, .. } = &mut *orgs;
        for (org, known) in by_id.iter_mut() {
            known.bytes = Some(bytes_of(unwritten, *org));
        }
        for day in days {
            let bytes = if is_kept(&day) { day.bytes.max(0) } else { 0 };
            let new = || OfOrg { bytes: Some(bytes_of(unwritten, day.org)), ..OfOrg::default() };
            let known = by_id.entry(day.org).or_insert_with(new);
            known.bytes = known.bytes.map(|known| known.saturating_add(bytes));
            known.name = day.name;
        }
    }

    /// Whether something is being written.
    pub(crate) fn is_writing(&self) -> bool {
        locked(&self.writing).is_some()
    }

    /// All that was counted until now is to be written; what comes is counted for the next time.
    pub(crate) fn begin_writing(&self) {
        let taken = |part: &Mutex<Part>| std::mem::take(&mut locked(part).unwritten);
        let of_devices = self.parts.iter().map(taken).collect();
        let of_orgs = std::mem::take(&mut locked(&self.orgs).unwritten);
        *locked(&self.writing) = Some(Writing { of_devices, of_orgs, parts: 0 });
    }

    /// What is to be written next, if anything is; it stays here until it is [`Self::written`].
    pub(crate) fn next_rows(&self) -> Option<KeptAdd> {
        let writing = locked(&self.writing);
        let writing = writing.as_ref()?;
        let from = writing.parts;
        let mut next = KeptAdd { of_devices: Vec::new(), of_orgs: Vec::new(), from, to: from };
        for part in writing.of_devices.iter().skip(usize::from(from)) {
            if next.of_devices.len() >= ROWS_ENOUGH {
                break;
            }
            next.of_devices.extend(rows(part));
            next.to += 1;
        }
        if next.to == PARTS && next.of_devices.len() < ROWS_ENOUGH {
            next.of_orgs = rows(&writing.of_orgs).collect();
            next.to = PARTS_ALL;
        }
        Some(next)
    }

    /// The store has the parts before this one.
    pub(crate) fn written(&self, parts: u8) {
        let mut writing = locked(&self.writing);
        match writing.as_mut() {
            Some(writing) if parts < PARTS_ALL => writing.parts = parts,
            _ => *writing = None,
        }
    }

    /// Forgets devices of which the store would be asked anyway.
    pub(crate) fn forget_silent(&self, now_ms: u64) {
        for part in &self.parts {
            locked(part)
                .known
                .retain(|_, known| known.is_wanted || now_ms.saturating_sub(known.asked_at_ms) < KNOWN_MS);
        }
    }

    /// What each organisation keeps, by its name.
    pub(crate) fn of_orgs(&self) -> Vec<(String, u64)> {
        let orgs = locked(&self.orgs);
        let named = orgs.by_id.values().filter(|known| !known.name.is_empty());
        named.map(|known| (known.name.clone(), positive(known.bytes.unwrap_or(0)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UnixMs;
    use crate::retention::RetentionClass;

    const ORG: OrgId = OrgId(1);
    const DEVICE: DeviceKey = DeviceKey(7);
    const DAY: UnixMs = UnixMs(20_000 * 86_400_000);

    fn holdings() -> Holdings {
        Holdings::new(1_000, 5_000)
    }

    fn add_of(holdings: &Holdings, device: DeviceKey, bytes: i64) {
        holdings.add((ORG, device), DayKept::at(RetentionClass::Events, DAY, bytes));
    }

    fn add(holdings: &Holdings, bytes: i64) {
        add_of(holdings, DEVICE, bytes);
    }

    /// Writes all; answers in how many transactions, and the bytes of devices and of organisations.
    fn write(holdings: &Holdings) -> (usize, i64, i64) {
        let (mut count, mut of_devices, mut of_orgs) = (0, 0, 0);
        while let Some(rows) = holdings.next_rows() {
            assert!(rows.from < rows.to, "each brings it on");
            of_devices += rows.of_devices.iter().map(|(_, kept)| kept.bytes).sum::<i64>();
            of_orgs += rows.of_orgs.iter().map(|(_, kept)| kept.bytes).sum::<i64>();
            holdings.written(rows.to);
            count += 1;
        }
        (count, of_devices, of_orgs)
    }

    #[test]
    fn of_whom_nothing_is_known_is_asked_and_is_not_full() {
        let holdings = holdings();
        add(&holdings, 2_000);
        assert!(!holdings.is_any_wanted());
        assert!(!holdings.is_device_full(ORG, DEVICE, 5));
        assert!(!holdings.is_device_full(ORG, DEVICE, 5));
        assert_eq!(holdings.wanted(10), [(ORG, DEVICE)]);
        holdings.set_device(DEVICE, 0, 5);
        assert!(holdings.is_device_full(ORG, DEVICE, 5) && !holdings.is_any_wanted());
        // What is no longer kept makes room.
        holdings.free((ORG, DEVICE), 1_500);
        assert!(!holdings.is_device_full(ORG, DEVICE, 5));
        assert!(!holdings.is_device_full(ORG, DEVICE, 5 + KNOWN_MS));
        assert_eq!(holdings.wanted(10), [(ORG, DEVICE)]);
    }

    #[test]
    fn what_is_written_counts_once() {
        let holdings = holdings();
        holdings.set_orgs(Vec::new(), |_| true);
        add(&holdings, 600);
        holdings.is_device_full(ORG, DEVICE, 5);
        holdings.set_device(DEVICE, 300, 5);
        assert!(!holdings.is_writing() && holdings.next_rows().is_none());
        holdings.begin_writing();
        // What comes now is for the next time.
        add(&holdings, 99);
        // The store has not answered, and is told the same again.
        let first = holdings.next_rows().map(|rows| (rows.of_devices, rows.of_orgs));
        assert_eq!(first, holdings.next_rows().map(|rows| (rows.of_devices, rows.of_orgs)));
        assert_eq!(write(&holdings), (1, 600, 600));
        assert!(!holdings.is_writing());
        assert!(!holdings.is_device_full(ORG, DEVICE, 5));
        holdings.set_device(DEVICE, 900, 6);
        assert!(!holdings.is_device_full(ORG, DEVICE, 6));
        add(&holdings, 1);
        assert!(holdings.is_device_full(ORG, DEVICE, 6));
        holdings.begin_writing();
        assert_eq!(write(&holdings), (1, 100, 100));
    }

    #[test]
    fn many_rows_are_written_part_by_part() {
        let holdings = holdings();
        (0..10_000).for_each(|device| add_of(&holdings, DeviceKey(device), 3));
        holdings.begin_writing();
        let (count, of_devices, of_orgs) = write(&holdings);
        assert_eq!((of_devices, of_orgs), (30_000, 30_000));
        assert!((10..=20).contains(&count), "{count}");
        holdings.begin_writing();
        assert_eq!(write(&holdings), (1, 0, 0), "that nothing came is noted, too");
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
        for _ in 0..2 {
            holdings.set_orgs(days.clone(), |day| day.class != Some(RetentionClass::Tasks));
            assert_eq!(holdings.of_orgs(), [("a".to_owned(), 4_900)]);
        }
        assert!(!holdings.is_org_full(ORG));
        add(&holdings, 100);
        assert!(holdings.is_org_full(ORG) && !holdings.is_org_full(OrgId(2)));
        holdings.free((ORG, DEVICE), 1);
        assert!(!holdings.is_org_full(ORG));
    }

    #[test]
    fn silent_devices_are_forgotten_and_nothing_that_is_not_written() {
        let holdings = holdings();
        add(&holdings, 1);
        holdings.is_device_full(ORG, DEVICE, 5);
        holdings.forget_silent(5 + KNOWN_MS);
        assert!(holdings.is_any_wanted(), "nobody has asked yet");
        holdings.set_device(DEVICE, 0, 5);
        holdings.forget_silent(5 + KNOWN_MS);
        assert!(holdings.part(DEVICE).known.is_empty());
        holdings.begin_writing();
        assert_eq!(write(&holdings), (1, 1, 1));
    }
}
