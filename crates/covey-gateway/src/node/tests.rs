//! The roster by hand, and by what comes in whatever order.

use super::*;
use proptest::prelude::*;

type TestRoster = Roster<&'static str, u64, u64>;
type TestAction = Action<&'static str, u64, u64>;

const BY_ANSWER: Habits = Habits {
    silence_ms_max: Some(120_000),
    confirmation: Confirmation::Answer,
    reports_are_life: false,
    together_ms: 0,
};

fn value(text: &str) -> Arc<str> {
    Arc::from(format!("\"{text}\""))
}

fn all(actions: &mut VecDeque<TestAction>) -> Vec<TestAction> {
    actions.drain(..).collect()
}

/// A roster with one node that has joined.
fn with_lamp(habits: Habits) -> (TestRoster, u64) {
    let (mut roster, mut actions) = (TestRoster::new(habits), VecDeque::new());
    assert_eq!(roster.seen("lamp", "192.0.2.1", 0, &mut actions), Seen::New);
    let Some(Action::Ask { visit, .. }) = actions.pop_front() else { unreachable!("it is asked about") };
    roster.joined("lamp", visit, Verdict::Joined("lamp"), 0, &mut actions);
    let told = all(&mut actions);
    assert!(
        matches!(told[..], [Action::Came { .. }, Action::Discover { .. }, Action::NextWrite { .. }]),
        "{told:?}"
    );
    roster.next_write("lamp", visit, None, 0, &mut actions);
    assert!(actions.is_empty());
    (roster, visit)
}

fn write(id: u64, values: &[(&str, &str)]) -> Write<u64> {
    let values = values.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
    Write { id, values, until_ms: 1_000_000 }
}

#[test]
fn what_a_node_says_while_it_is_asked_about_is_told_when_it_joins() {
    let (mut roster, mut actions) = (TestRoster::new(BY_ANSWER), VecDeque::new());
    roster.seen("lamp", "192.0.2.1", 0, &mut actions);
    roster.said("lamp", "led", value("0"), Some(7), 0, &mut actions);
    assert_eq!(actions.len(), 1, "nothing is told before it has joined");
    roster.joined("lamp", 1, Verdict::Joined("lamp"), 0, &mut actions);
    let told = all(&mut actions);
    let reported = told.iter().any(
        |action| matches!(action, Action::Report { values, acks, .. } if values.len() == 1 && acks == &[7]),
    );
    assert!(reported, "{told:?}");
}

#[test]
fn what_comes_during_a_report_is_told_together_with_the_next_one() {
    let (mut roster, visit) = with_lamp(BY_ANSWER);
    let mut actions = VecDeque::new();
    for (ack, text) in ["0", "1", "2"].into_iter().enumerate() {
        roster.said("lamp", "led", value(text), Some(ack as u64), 0, &mut actions);
    }
    assert!(matches!(&all(&mut actions)[..], [Action::Report { values, .. }] if values.len() == 1));
    roster.reported("lamp", visit, &mut actions);
    let told = all(&mut actions);
    assert!(
        matches!(&told[..], [Action::Report { values, acks, .. }] if values.len() == 2 && acks == &[1, 2]),
        "{told:?}"
    );
}

#[test]
fn what_a_write_has_set_is_told_before_it_is_over_also_while_an_older_report_is_under_way() {
    let (mut roster, visit) = with_lamp(BY_ANSWER);
    let mut actions = VecDeque::new();
    roster.said("lamp", "led", value("0"), None, 0, &mut actions);
    roster.said("lamp", "dim", value("7"), None, 0, &mut actions);
    assert!(matches!(all(&mut actions)[..], [Action::Report { .. }]));
    roster.write_wanted("lamp", &mut actions);
    roster.next_write("lamp", visit, Some(write(5, &[("led", "1")])), 0, &mut actions);
    let [Action::NextWrite { .. }, Action::Set { number, .. }] = all(&mut actions)[..] else {
        unreachable!("the value")
    };
    roster.written("lamp", number, Answer::Set(value("1")), 0, &mut actions);
    let told = all(&mut actions);
    let [Action::Report { values, .. }, Action::Finish { write: 5, .. }, Action::NextWrite { .. }] =
        &told[..]
    else {
        unreachable!("its value, then its end: {told:?}")
    };
    assert_eq!(values[..], [("dim".to_owned(), value("7")), ("led".to_owned(), value("1"))]);
    // Both are over before the next one.
    roster.said("lamp", "led", value("2"), None, 0, &mut actions);
    roster.reported("lamp", visit, &mut actions);
    assert!(actions.is_empty());
    roster.reported("lamp", visit, &mut actions);
    assert!(matches!(all(&mut actions)[..], [Action::Report { .. }]));
}

#[test]
fn a_node_has_one_write_at_a_time_and_the_next_when_it_is_over() {
    let (mut roster, visit) = with_lamp(BY_ANSWER);
    let mut actions = VecDeque::new();
    roster.write_wanted("lamp", &mut actions);
    roster.write_wanted("lamp", &mut actions);
    assert!(matches!(all(&mut actions)[..], [Action::NextWrite { .. }]));
    roster.next_write("lamp", visit, Some(write(5, &[("led", "1"), ("dim", "9")])), 0, &mut actions);
    let [Action::Set { number, .. }] = all(&mut actions)[..] else { unreachable!("the first value") };
    roster.write_wanted("lamp", &mut actions);
    assert!(actions.is_empty(), "one is under way");
    roster.written("lamp", number, Answer::Set(value("1")), 0, &mut actions);
    let told = all(&mut actions);
    let [Action::Report { .. }, Action::Set { number, .. }] = told[..] else {
        unreachable!("the second value: {told:?}")
    };
    roster.written("lamp", number, Answer::Set(value("9")), 0, &mut actions);
    roster.written("lamp", number, Answer::Set(value("9")), 0, &mut actions);
    let told = all(&mut actions);
    let [Action::Report { .. }, Action::Finish { write: 5, outcome, .. }, Action::NextWrite { .. }] =
        &told[..]
    else {
        unreachable!("it is over, once: {told:?}")
    };
    assert_eq!((outcome.status, &*outcome.body), (200, r#"{"led":"1","dim":"9"}"#));
}

#[test]
fn a_write_that_is_not_answered_is_tried_when_the_node_is_heard_of_and_ends_after_three() {
    let (mut roster, visit) = with_lamp(BY_ANSWER);
    let mut actions = VecDeque::new();
    roster.write_wanted("lamp", &mut actions);
    roster.next_write("lamp", visit, Some(write(5, &[("led", "1")])), 0, &mut actions);
    for attempt in 1..=3 {
        let set = all(&mut actions).into_iter().find_map(|action| match action {
            Action::Set { number, .. } => Some(number),
            _ => None,
        });
        let Some(number) = set else { unreachable!("attempt {attempt}") };
        roster.written("lamp", number, Answer::None, attempt * 1_000, &mut actions);
        roster.seen("lamp", "192.0.2.1", attempt * 1_000, &mut actions);
    }
    let told = all(&mut actions);
    assert!(matches!(&told[0], Action::Finish { outcome, .. } if outcome.status == 504), "{told:?}");
}

#[test]
fn a_report_confirms_a_write_and_its_absence_is_said() {
    let habits = Habits {
        silence_ms_max: None,
        confirmation: Confirmation::Report { ms_max: 5_000 },
        reports_are_life: true,
        together_ms: 0,
    };
    let (mut roster, visit) = with_lamp(habits);
    let mut actions = VecDeque::new();
    roster.next_write("lamp", visit, Some(write(1, &[("led", "1")])), 0, &mut actions);
    roster.said("lamp", "temperature", value("20"), None, 10, &mut actions);
    roster.said("lamp", "led", value("1"), None, 10, &mut actions);
    let told = all(&mut actions);
    let is_done =
        |action: &TestAction| matches!(action, Action::Finish { outcome, .. } if outcome.status == 200);
    assert_eq!(told.iter().filter(|action| is_done(action)).count(), 1, "{told:?}");
    roster.next_write("lamp", visit, Some(write(2, &[("led", "0")])), 10, &mut actions);
    roster.tick(5_009, &mut actions);
    assert!(!all(&mut actions).iter().any(|action| matches!(action, Action::Finish { .. })));
    roster.tick(5_010, &mut actions);
    let told = all(&mut actions);
    let [Action::Finish { outcome, .. }, ..] = &told[..] else { unreachable!("it is over: {told:?}") };
    assert_eq!((outcome.status, &*outcome.body), (202, r#"{"sent":{"led":"0"}}"#));
}

#[test]
fn a_silent_node_is_out_and_one_that_may_not_join_is_asked_about_again() {
    let (mut roster, _) = with_lamp(BY_ANSWER);
    let mut actions = VecDeque::new();
    roster.tick(120_000, &mut actions);
    assert!(actions.is_empty());
    roster.tick(120_001, &mut actions);
    assert!(matches!(all(&mut actions)[..], [Action::Went { why: Gone::Silent, .. }, Action::Forget { .. }]));
    roster.seen("stranger", "192.0.2.2", 0, &mut actions);
    roster.joined("stranger", 2, Verdict::Refused("waits"), 0, &mut actions);
    roster.said("stranger", "led", value("1"), Some(1), 0, &mut actions);
    let told = all(&mut actions);
    assert!(
        matches!(told[..], [Action::Ask { .. }, Action::Tell { ack: 1, heard: Heard::Done }]),
        "{told:?}"
    );
    roster.seen("stranger", "192.0.2.2", 1, &mut actions);
    assert!(actions.is_empty(), "not at each sign of life");
    roster.ask_again(2, &mut actions);
    assert!(matches!(all(&mut actions)[..], [Action::Ask { .. }]));
}

#[test]
fn a_node_that_is_approved_while_it_is_asked_about_need_not_wait() {
    let (mut roster, mut actions) = (TestRoster::new(BY_ANSWER), VecDeque::new());
    roster.seen("lamp", "192.0.2.1", 0, &mut actions);
    assert!(matches!(all(&mut actions)[..], [Action::Ask { .. }]));
    roster.ask_again(1, &mut actions);
    assert!(actions.is_empty(), "the first answer is waited for");
    roster.joined("lamp", 1, Verdict::Refused("waits"), 2, &mut actions);
    assert!(matches!(all(&mut actions)[..], [Action::Ask { visit: 1, .. }]));
    roster.joined("lamp", 1, Verdict::Refused("waits"), 3, &mut actions);
    assert!(actions.is_empty(), "once for each change");
}

#[test]
fn newcomers_are_asked_about_a_few_at_a_time_and_each_in_the_end() {
    let (mut roster, mut actions) = (TestRoster::new(BY_ANSWER), VecDeque::new());
    for number in 0..100 {
        roster.seen(&format!("n{number}"), "x", 0, &mut actions);
    }
    assert_eq!(actions.len(), ASKED_MAX);
    roster.gone("n0", Gone::Lost, &mut actions);
    let mut asked = Vec::new();
    while let Some(action) = actions.pop_front() {
        if let Action::Ask { uid, visit, .. } = action {
            roster.joined(&uid, visit, Verdict::Refused("no"), 0, &mut actions);
            asked.push(uid);
        }
    }
    assert_eq!((asked.len(), roster.asked), (100, 0));
}

#[test]
fn of_newcomers_that_come_and_go_nothing_is_kept() {
    let (mut roster, mut actions) = (TestRoster::new(BY_ANSWER), VecDeque::new());
    // They wait before the others.
    for number in 0..1_000 {
        roster.seen(&format!("n{number}"), "x", 0, &mut actions);
    }
    for number in 0..100_000 {
        let uid = format!("guest-{number}");
        roster.seen(&uid, "x", 0, &mut actions);
        roster.said(&uid, "led", value("1"), None, 0, &mut actions);
        roster.gone(&uid, Gone::Lost, &mut actions);
    }
    assert!(roster.to_ask.len() <= 2_002, "{}", roster.to_ask.len());
    assert_eq!(roster.waiting_bytes, 0);
}

#[test]
fn newcomers_that_say_much_take_no_more_than_half_and_others_are_heard() {
    let (mut roster, visit) = with_lamp(BY_ANSWER);
    let mut actions = VecDeque::new();
    let large = value(&"x".repeat(60_000));
    for number in 0..1_000 {
        let uid = format!("n{number}");
        roster.seen(&uid, "x", 0, &mut actions);
        (0..4)
            .for_each(|one| roster.said(&uid, &format!("r{one}"), Arc::clone(&large), None, 0, &mut actions));
    }
    assert!(roster.waiting_bytes <= VALUES_WAITING_OF_ALL_BYTES_MAX / 2, "{}", roster.waiting_bytes);
    all(&mut actions);
    // One that has joined has the other half, and what is told at once waits for nobody.
    for text in ["0", "1"] {
        roster.said("lamp", "led", value(text), None, 0, &mut actions);
    }
    roster.waiting_bytes += VALUES_WAITING_OF_ALL_BYTES_MAX;
    roster.said("lamp", "led", value("2"), Some(7), 0, &mut actions);
    roster.reported("lamp", visit, &mut actions);
    roster.reported("lamp", visit, &mut actions);
    roster.said("lamp", "led", value("3"), Some(8), 0, &mut actions);
    roster.waiting_bytes -= VALUES_WAITING_OF_ALL_BYTES_MAX;
    let told = all(&mut actions);
    let [
        Action::Report { .. },
        Action::Tell { ack: 7, heard: Heard::Later },
        Action::Report { values, .. },
        last,
    ] = &told[..]
    else {
        unreachable!("{told:?}")
    };
    assert_eq!(&**values, [("led".to_owned(), value("1"))]);
    assert!(matches!(last, Action::Report { acks, .. } if acks == &[8]), "{last:?}");
    roster.all_gone(Gone::Stopped, &mut actions);
    assert_eq!(roster.waiting_bytes, 0);
}

#[test]
fn a_newcomer_of_whom_something_was_not_heard_is_asked_for_all_when_it_joins() {
    let (mut roster, mut actions) = (TestRoster::new(BY_ANSWER), VecDeque::new());
    roster.seen("lamp", "192.0.2.1", 0, &mut actions);
    roster.waiting_bytes += VALUES_WAITING_OF_ALL_BYTES_MAX / 2;
    roster.said("lamp", "led", value("0"), None, 0, &mut actions);
    roster.waiting_bytes -= VALUES_WAITING_OF_ALL_BYTES_MAX / 2;
    roster.joined("lamp", 1, Verdict::Joined("lamp"), 0, &mut actions);
    let told = all(&mut actions);
    assert!(told.iter().any(|action| matches!(action, Action::Discover { is_missed: true, .. })), "{told:?}");
}

#[test]
fn no_more_wait_to_hear_of_a_node_than_may() {
    let (mut roster, mut actions) = (TestRoster::new(BY_ANSWER), VecDeque::new());
    roster.seen("lamp", "192.0.2.1", 0, &mut actions);
    for ack in 0..1_000_u64 {
        roster.said("lamp", &format!("r{}", ack % 256), value("0"), Some(ack), 0, &mut actions);
    }
    assert_eq!(roster.nodes["lamp"].acks.len(), ACKS_WAITING_MAX);
    let told = all(&mut actions);
    let later = |action: &&TestAction| matches!(action, Action::Tell { heard: Heard::Later, .. });
    assert_eq!(told.iter().filter(later).count(), 1_000 - ACKS_WAITING_MAX);
}

#[derive(Clone, Debug)]
enum Step {
    Seen(u8),
    Said(u8, u8),
    Gone(u8),
    Revoked(u8),
    Changed,
    Wanted(u8),
    Answer(u8),
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_u8).prop_map(Step::Seen),
        (0..3_u8, 0..3_u8).prop_map(|(node, resource)| Step::Said(node, resource)),
        (0..3_u8).prop_map(Step::Gone),
        (0..3_u8).prop_map(Step::Revoked),
        Just(Step::Changed),
        (0..3_u8).prop_map(Step::Wanted),
        any::<u8>().prop_map(Step::Answer),
        (0..60_000_u32).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever comes in whatever order: of a node at most one write is under way, and one report but for those that the
    /// ends of writes did not wait for; each who waits hears once what became of it, and values of a resource are told in
    /// the order in which they came. Each node is asked about once at a time, none is refused by an answer that is older
    /// than a change of who may join, and none that is revoked is known.
    #[test]
    fn one_report_and_one_write_at_a_time_and_every_ack_once(
        steps in proptest::collection::vec(step(), 1..200),
        is_by_report in any::<bool>(),
    ) {
        let confirmation =
            if is_by_report { Confirmation::Report { ms_max: 5_000 } } else { Confirmation::Answer };
        let habits = Habits { silence_ms_max: Some(120_000), confirmation, reports_are_life: is_by_report, together_ms: 0 };
        let (mut roster, mut actions) = (TestRoster::new(habits), VecDeque::new());
        let uids = ["a", "b", "c"];
        let (mut now_ms, mut next_ack, mut next_write) = (0_u64, 0_u64, 0_u64);
        let mut heard: HashMap<u64, u32> = HashMap::new();
        let mut pending: Vec<TestAction> = Vec::new();
        let mut told: HashMap<(Uid, String), u64> = HashMap::new();
        let mut writing: HashMap<(Uid, u64), u64> = HashMap::new();
        let mut ended: HashMap<&str, usize> = HashMap::new();
        let (mut changes, mut asked_after): (u64, HashMap<u64, u64>) = (0, HashMap::new());
        let end = [Step::Gone(0), Step::Gone(1), Step::Gone(2)];
        for step in steps.into_iter().chain(end) {
            match step {
                Step::Seen(node) => {
                    roster.seen(uids[usize::from(node)], "x", now_ms, &mut actions);
                }
                Step::Said(node, resource) => {
                    let resource = format!("r{resource}");
                    let value = Arc::from(next_ack.to_string());
                    roster.said(uids[usize::from(node)], &resource, value, Some(next_ack), now_ms, &mut actions);
                    next_ack += 1;
                }
                Step::Gone(node) => roster.gone(uids[usize::from(node)], Gone::Lost, &mut actions),
                Step::Revoked(node) => {
                    roster.revoked(uids[usize::from(node)], &mut actions);
                    prop_assert!(!roster.nodes.contains_key(uids[usize::from(node)]));
                }
                Step::Changed => {
                    changes += 1;
                    roster.ask_again(now_ms, &mut actions);
                }
                Step::Wanted(node) => roster.write_wanted(uids[usize::from(node)], &mut actions),
                Step::Pass(ms) => {
                    now_ms += u64::from(ms);
                    roster.tick(now_ms, &mut actions);
                }
                Step::Answer(which) if !pending.is_empty() => {
                    match pending.swap_remove(usize::from(which) % pending.len()) {
                        Action::Ask { uid, visit, .. } => {
                            prop_assert!(roster.asked <= ASKED_MAX);
                            let verdict = match which % 3 {
                                0 => Verdict::Refused("no"),
                                1 => Verdict::Failed,
                                _ => Verdict::Joined(uids.into_iter().find(|known| **known == *uid).unwrap_or("")),
                            };
                            roster.joined(&uid, visit, verdict, now_ms, &mut actions);
                        }
                        Action::Report { uid, visit, acks, .. } => {
                            for ack in acks {
                                *heard.entry(ack).or_default() += 1;
                            }
                            roster.reported(&uid, visit, &mut actions);
                        }
                        Action::NextWrite { uid, visit, .. } => {
                            next_write += 1;
                            let write = (which % 2 == 0).then(|| write(next_write, &[("r0", "1"), ("r1", "2")]));
                            if write.is_some() && roster.nodes.get(&uid).is_some_and(|node| node.visit == visit) {
                                writing.insert((Arc::clone(&uid), visit), next_write);
                            }
                            roster.next_write(&uid, visit, write, now_ms, &mut actions);
                        }
                        Action::Set { uid, number, value, .. } => {
                            let answer = match which % 3 {
                                0 => Answer::Set(value),
                                1 => Answer::Refused { status: 400, text: "no".to_owned() },
                                _ => Answer::None,
                            };
                            roster.written(&uid, number, answer, now_ms, &mut actions);
                        }
                        _ => {}
                    }
                }
                Step::Answer(_) => {}
            }
            for action in actions.drain(..) {
                if let Action::Tell { ack, .. } = &action {
                    *heard.entry(*ack).or_default() += 1;
                    continue;
                }
                if let Action::Ask { visit, .. } = &action {
                    asked_after.insert(*visit, changes);
                }
                if let Action::Report { uid, values, .. } = &action {
                    for (resource, value) in values {
                        let Ok(number) = value.parse::<u64>() else { continue };
                        if let Some(before) = told.insert((Arc::clone(uid), resource.clone()), number) {
                            prop_assert!(before < number, "values keep their order");
                        }
                    }
                }
                if let Action::Finish { write, node, .. } = &action {
                    writing.retain(|_, id| id != write);
                    *ended.entry(node).or_default() += 1;
                }
                pending.push(action);
            }
            let waiting = roster.nodes.values().map(|node| node.waiting_bytes + node.waiting.len() * VALUE_WAITING_BYTES);
            prop_assert_eq!(roster.waiting_bytes, waiting.sum::<usize>());
            for (uid, node) in &roster.nodes {
                let asks = |action: &&TestAction| matches!(action, Action::Ask { visit, .. } if *visit == node.visit);
                let asks = pending.iter().filter(asks).count()
                    + roster.to_ask.iter().filter(|(_, visit)| *visit == node.visit).count();
                match node.stage {
                    Stage::Asking { .. } => prop_assert_eq!(asks, 1, "it is asked about once at a time"),
                    Stage::Refused { .. } => {
                        prop_assert_eq!(asked_after.get(&node.visit), Some(&changes), "it is refused as of now");
                        prop_assert_eq!(asks, 0);
                    }
                    Stage::Joined(_) => prop_assert_eq!(asks, 0),
                }
                let of_node = |action: &&TestAction| match action {
                    Action::NextWrite { uid: of, visit, .. } => of == uid && *visit == node.visit,
                    _ => false,
                };
                prop_assert!(pending.iter().filter(of_node).count() <= 1, "one write is asked for");
                prop_assert!(node.waiting.len() <= VALUES_WAITING_MAX);
                let reports = pending.iter().filter(|action| {
                    matches!(action, Action::Report { uid: of, visit, .. } if of == uid && *visit == node.visit)
                });
                let count = reports.count();
                prop_assert!(count <= 1 + ended.get(&**uid).copied().unwrap_or(0), "one report is under way");
                prop_assert_eq!(count, node.reporting as usize);
            }
        }
        for action in pending {
            if let Action::Report { acks, .. } = action {
                for ack in acks {
                    *heard.entry(ack).or_default() += 1;
                }
            }
        }
        for ack in 0..next_ack {
            prop_assert_eq!(heard.get(&ack), Some(&1), "who waits hears once");
        }
    }
}

#[test]
fn no_more_newcomers_are_asked_about_in_a_second_than_may_be() {
    let (mut roster, mut actions) = (TestRoster::new(BY_ANSWER), VecDeque::new());
    for number in 0..2 * ASKED_A_SECOND_MAX {
        roster.seen(&format!("n{number}"), "x", 0, &mut actions);
    }
    let mut asked_by = [0, 0];
    for (second, asked) in asked_by.iter_mut().enumerate() {
        let now_ms = second as u64 * 1_000;
        roster.tick(now_ms, &mut actions);
        while let Some(action) = actions.pop_front() {
            if let Action::Ask { uid, visit, .. } = action {
                roster.joined(&uid, visit, Verdict::Refused("no"), now_ms, &mut actions);
                *asked += 1;
            }
        }
    }
    assert_eq!(asked_by, [ASKED_A_SECOND_MAX; 2]);
}
