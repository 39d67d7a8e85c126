//! Which calls are under way to which microcontroller, without I/O: one at a time for each answer, since an answer is
//! known by its topic alone.

use std::collections::{HashMap, HashSet};

use covey_core::device::DeviceIdentity;
use covey_core::id::{Sn, TaskId};
use covey_core::microcontroller::AnswerKey;

/// How many calls may be under way to a microcontroller.
/// Limit for each microcontroller: further ones wait.
const UNDER_WAY_PER_DEVICE_MAX: usize = 16;
/// How many calls may be under way to all microcontrollers.
/// Limit for the server: further ones wait.
const UNDER_WAY_MAX: usize = 16_384;

/// Somebody is to ask what a microcontroller is to be told next, and to say so ([`Calls::asked`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// The device.
    pub(super) device: DeviceIdentity,
    /// The answers that are waited for.
    pub(super) busy: Vec<AnswerKey>,
}

/// The calls of all microcontrollers that are connected here.
#[derive(Debug)]
pub(super) struct Calls {
    devices: HashMap<Sn, Talk>,
    under_way: usize,
    under_way_max: usize,
    /// Those that could be told more if there was room.
    without_room: HashSet<Sn>,
}

/// What is known of one.
#[derive(Debug)]
struct Talk {
    device: DeviceIdentity,
    /// Whether it listens.
    is_here: bool,
    /// Whether somebody asks for its next call.
    is_asking: bool,
    /// Whether there may be one that whoever asks does not find.
    is_wanted: bool,
    under_way: Vec<UnderWay>,
}

/// A call that it was told.
#[derive(Debug)]
struct UnderWay {
    key: AnswerKey,
    task: TaskId,
    /// Nobody waits any more: the end of its task is about to be stored. Until then no other call with this answer
    /// begins.
    is_over: bool,
}

impl Default for Calls {
    fn default() -> Self {
        Self::with_room_for(UNDER_WAY_MAX)
    }
}

impl Calls {
    fn with_room_for(under_way_max: usize) -> Self {
        Self { devices: HashMap::new(), under_way: 0, under_way_max, without_room: HashSet::new() }
    }

    /// A microcontroller listens from now on.
    pub(super) fn listens(&mut self, device: &DeviceIdentity) -> Option<Ask> {
        if self.devices.get(&device.sn).is_some_and(|talk| talk.device != *device) {
            self.forget(&device.sn);
        }
        let talk = self.devices.entry(device.sn.clone()).or_insert_with(|| Talk {
            device: device.clone(),
            is_here: true,
            is_asking: false,
            is_wanted: false,
            under_way: Vec::new(),
        });
        talk.is_here = true;
        self.wanted(&device.sn)
    }

    /// It listens no longer. What it was told it may still answer.
    pub(super) fn gone(&mut self, device: &DeviceIdentity) {
        if let Some(talk) = self.devices.get_mut(&device.sn).filter(|talk| talk.device == *device) {
            talk.is_here = false;
            self.tidy(&device.sn);
        }
    }

    /// It is registered no longer.
    pub(super) fn forget(&mut self, sn: &Sn) -> Option<Ask> {
        if let Some(talk) = self.devices.remove(sn) {
            self.under_way -= talk.under_way.len();
        }
        self.without_room.remove(sn);
        self.next_without_room()
    }

    /// There may be something to tell it.
    pub(super) fn wanted(&mut self, sn: &Sn) -> Option<Ask> {
        let talk = self.devices.get_mut(sn).filter(|talk| talk.is_here)?;
        if talk.is_asking {
            talk.is_wanted = true;
            return None;
        }
        if talk.under_way.len() >= UNDER_WAY_PER_DEVICE_MAX {
            return None;
        }
        if self.under_way >= self.under_way_max {
            self.without_room.insert(sn.clone());
            return None;
        }
        talk.is_asking = true;
        talk.is_wanted = false;
        let busy = talk.under_way.iter().map(|call| call.key).collect();
        Some(Ask { device: talk.device.clone(), busy })
    }

    /// What came of asking: a call that is under way from now on, if it is answered true.
    pub(super) fn asked(&mut self, ask: &Ask, call: Option<(AnswerKey, TaskId)>) -> (bool, Option<Ask>) {
        let Some(talk) = self.devices.get_mut(&ask.device.sn).filter(|talk| talk.device == ask.device) else {
            return (false, None);
        };
        talk.is_asking = false;
        let is_more = call.is_some() || talk.is_wanted;
        let is_kept = call.is_some();
        if let Some((key, task)) = call {
            talk.under_way.push(UnderWay { key, task, is_over: false });
            self.under_way += 1;
        }
        self.tidy(&ask.device.sn);
        let next = if is_more { self.wanted(&ask.device.sn) } else { None };
        (is_kept, next.or_else(|| self.next_without_room()))
    }

    /// It has answered: the task that this ends, until which is [stored](Self::ended). None if no call waits for that.
    pub(super) fn answered(&mut self, device: &DeviceIdentity, key: AnswerKey) -> Option<TaskId> {
        self.over(device, |call| call.key == key)
    }

    /// The time for an answer is over. Whether it was still waited for; then its task [ends](Self::ended).
    pub(super) fn is_overdue(&mut self, device: &DeviceIdentity, task: TaskId) -> bool {
        self.over(device, |call| call.task == task).is_some()
    }

    fn over(&mut self, device: &DeviceIdentity, is_it: impl Fn(&UnderWay) -> bool) -> Option<TaskId> {
        let talk = self.devices.get_mut(&device.sn).filter(|talk| talk.device == *device)?;
        let call = talk.under_way.iter_mut().find(|call| !call.is_over && is_it(call))?;
        call.is_over = true;
        Some(call.task)
    }

    /// The end of a task is stored, or cannot be.
    pub(super) fn ended(&mut self, device: &DeviceIdentity, task: TaskId) -> Option<Ask> {
        let talk = self.devices.get_mut(&device.sn).filter(|talk| talk.device == *device)?;
        let place = talk.under_way.iter().position(|call| call.task == task)?;
        talk.under_way.swap_remove(place);
        self.under_way -= 1;
        self.tidy(&device.sn);
        self.wanted(&device.sn)
    }

    /// There is room: who is to be asked for, of those that had none.
    pub(super) fn next_without_room(&mut self) -> Option<Ask> {
        while self.under_way < self.under_way_max {
            let sn = self.without_room.iter().next().cloned()?;
            self.without_room.remove(&sn);
            if let Some(ask) = self.wanted(&sn) {
                return Some(ask);
            }
        }
        None
    }

    /// Forgets one that is gone and answers nothing any more.
    fn tidy(&mut self, sn: &Sn) {
        let is_over = |talk: &Talk| !talk.is_here && !talk.is_asking && talk.under_way.is_empty();
        if self.devices.get(sn).is_some_and(is_over) {
            self.devices.remove(sn);
            self.without_room.remove(sn);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{BTreeMap, VecDeque};

    use covey_core::id::{DeviceId, DeviceKey, OrgId};
    use covey_core::microcontroller::Api;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn device(number: i64) -> DeviceIdentity {
        DeviceIdentity {
            org: OrgId(1),
            device: DeviceKey(number),
            device_id: DeviceId(number),
            sn: Sn::parse(&format!("d{}", number % 10)).unwrap(),
        }
    }

    fn pin(number: u32) -> AnswerKey {
        AnswerKey { api: Api::GetGpio, number: Some(number) }
    }

    fn task(number: u128) -> TaskId {
        TaskId(Uuid::from_u128(number))
    }

    #[test]
    fn an_answer_ends_the_call_that_waits_for_it_once() {
        let mut calls = Calls::default();
        let lamp = device(1);
        let ask = calls.listens(&lamp).unwrap();
        let (is_kept, next) = calls.asked(&ask, Some((pin(12), task(1))));
        assert!(is_kept);
        assert_eq!(next.unwrap().busy, [pin(12)]);
        assert_eq!(calls.answered(&lamp, pin(13)), None);
        assert_eq!(calls.answered(&device(2), pin(12)), None);
        assert_eq!(calls.answered(&lamp, pin(12)), Some(task(1)));
        assert_eq!(calls.answered(&lamp, pin(12)), None, "it answers twice");
        assert!(!calls.is_overdue(&lamp, task(1)));
        // Somebody asks already, with what was under way then.
        assert_eq!(calls.ended(&lamp, task(1)), None);
        let (_, again) = calls.asked(&Ask { device: lamp, busy: vec![pin(12)] }, None);
        assert_eq!(again.unwrap().busy, []);
    }

    #[test]
    fn what_is_registered_anew_gets_nothing_of_what_was_under_way() {
        let mut calls = Calls::default();
        let (lamp, anew) = (device(1), device(11));
        assert_eq!(lamp.sn, anew.sn);
        let ask = calls.listens(&lamp).unwrap();
        calls.asked(&ask, Some((pin(1), task(1))));
        let before = calls.wanted(&lamp.sn);
        assert_eq!(before, None, "somebody asks");
        assert_eq!(calls.listens(&anew).unwrap().busy, []);
        assert_eq!(calls.answered(&anew, pin(1)), None);
        assert_eq!(calls.answered(&lamp, pin(1)), None);
        assert_eq!(calls.under_way, 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Listens(i64),
        Gone(i64),
        Forget(i64),
        Create(i64, u32),
        Asked,
        Answer(i64, u32),
        Overdue(i64),
        Stored,
    }

    fn step() -> impl Strategy<Value = Step> {
        let (device, pin) = (0..4_i64, 0..3_u32);
        prop_oneof![
            device.clone().prop_map(Step::Listens),
            device.clone().prop_map(Step::Gone),
            device.clone().prop_map(Step::Forget),
            (device.clone(), pin.clone()).prop_map(|(device, pin)| Step::Create(device, pin)),
            Just(Step::Asked),
            Just(Step::Asked),
            Just(Step::Stored),
            Just(Step::Stored),
            (device.clone(), pin).prop_map(|(device, pin)| Step::Answer(device, pin)),
            device.prop_map(Step::Overdue),
        ]
    }

    proptest! {
        /// No two calls wait for one answer, no bound is passed, and once everything was asked for, nothing waits
        /// that could be told.
        #[test]
        fn no_call_is_forgotten_and_none_takes_the_answer_of_another(
            steps in proptest::collection::vec(step(), 0..80),
        ) {
            let mut calls = Calls::with_room_for(4);
            let mut asks: VecDeque<Ask> = VecDeque::new();
            let mut stored: BTreeMap<i64, Vec<(u32, TaskId)>> = BTreeMap::new();
            // With whether it was answered, or its time is over.
            let mut under_way: Vec<(i64, u32, TaskId, bool)> = Vec::new();
            let mut here: HashSet<i64> = HashSet::new();
            let mut numbers = 1..;
            let last = [Step::Stored, Step::Asked].into_iter().cycle().take(400);
            let all = steps.into_iter().chain(last);
            for step in all {
                match step {
                    Step::Listens(number) => {
                        here.insert(number);
                        asks.extend(calls.listens(&device(number)));
                    }
                    Step::Gone(number) => {
                        here.remove(&number);
                        calls.gone(&device(number));
                    }
                    Step::Forget(number) => {
                        here.remove(&number);
                        stored.remove(&number);
                        under_way.retain(|(of, ..)| *of != number);
                        asks.retain(|ask| ask.device != device(number));
                        asks.extend(calls.forget(&device(number).sn));
                    }
                    Step::Create(number, pin) => {
                        stored.entry(number).or_default().push((pin, task(numbers.next().unwrap())));
                        asks.extend(calls.wanted(&device(number).sn));
                    }
                    Step::Asked => {
                        let Some(ask) = asks.pop_front() else { continue };
                        let number = ask.device.device.0;
                        let waiting = stored.entry(number).or_default();
                        let place = waiting.iter().position(|(number, _)| !ask.busy.contains(&pin(*number)));
                        let call = place.map(|place| waiting.remove(place));
                        let (is_kept, next) = calls.asked(&ask, call.map(|(number, task)| (pin(number), task)));
                        if let Some((number_of_pin, task)) = call.filter(|_| is_kept) {
                            prop_assert!(!under_way.iter().any(|(of, known, ..)| (*of, *known) == (number, number_of_pin)));
                            under_way.push((number, number_of_pin, task, false));
                        }
                        asks.extend(next);
                    }
                    Step::Answer(number, of_pin) => {
                        let waits = under_way.iter_mut().find(|(of, known, _, is_over)| {
                            (*of, *known) == (number, of_pin) && !is_over
                        });
                        let expected = waits.map(|(.., task, is_over)| {
                            *is_over = true;
                            *task
                        });
                        prop_assert_eq!(calls.answered(&device(number), pin(of_pin)), expected);
                    }
                    Step::Overdue(number) => {
                        let Some((.., task, is_over)) = under_way.iter_mut().find(|(of, ..)| *of == number) else {
                            continue;
                        };
                        prop_assert_eq!(calls.is_overdue(&device(number), *task), !*is_over);
                        *is_over = true;
                    }
                    Step::Stored => {
                        let Some(place) = under_way.iter().position(|(.., is_over)| *is_over) else { continue };
                        let (number, _, task, _) = under_way.remove(place);
                        asks.extend(calls.ended(&device(number), task));
                        asks.extend(calls.next_without_room());
                    }
                }
                prop_assert_eq!(calls.under_way, under_way.len());
                // Who asks when the last place is taken has one more.
                prop_assert!(under_way.len() <= 4 + 4);
            }
            prop_assert!(asks.is_empty());
            if under_way.len() < 4 {
                for number in here {
                    for (waits, _) in stored.get(&number).into_iter().flatten() {
                        let is_busy = under_way.iter().any(|(of, known, ..)| *of == number && known == waits);
                        prop_assert!(is_busy, "pin {} of {} is free", waits, number);
                    }
                }
            }
        }
    }
}
