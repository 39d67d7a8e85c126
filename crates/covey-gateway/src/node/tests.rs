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

const BY_REPORT: Habits = Habits {
    silence_ms_max: None,
    confirmation: Confirmation::Report { ms_max: 5_000 },
    reports_are_life: true,
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
    roster.next_write("lamp", visit, None, &mut actions);
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
    roster.next_write("lamp", visit, Some(write(5, &[("led", "1")])), &mut actions);
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
    roster.next_write("lamp", visit, Some(write(5, &[("led", "1"), ("dim", "9")])), &mut actions);
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
    roster.next_write("lamp", visit, Some(write(5, &[("led", "1")])), &mut actions);
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
    let (mut roster, visit) = with_lamp(BY_REPORT);
    let mut actions = VecDeque::new();
    roster.next_write("lamp", visit, Some(write(1, &[("led", "1")])), &mut actions);
    let number = set(&mut actions);
    roster.sent("lamp", number, 5, &mut actions);
    roster.said("lamp", "temperature", value("20"), None, 10, &mut actions);
    roster.said("lamp", "led", value("1"), None, 10, &mut actions);
    let told = all(&mut actions);
    let is_done =
        |action: &TestAction| matches!(action, Action::Finish { outcome, .. } if outcome.status == 200);
    assert_eq!(told.iter().filter(|action| is_done(action)).count(), 1, "{told:?}");
    roster.next_write("lamp", visit, Some(write(2, &[("led", "0")])), &mut actions);
    let number = set(&mut actions);
    roster.sent("lamp", number, 10, &mut actions);
    roster.tick(5_009, &mut actions);
    assert!(!all(&mut actions).iter().any(|action| matches!(action, Action::Finish { .. })));
    roster.tick(5_010, &mut actions);
    let told = all(&mut actions);
    let [Action::Finish { outcome, .. }, ..] = &told[..] else { unreachable!("it is over: {told:?}") };
    assert_eq!((outcome.status, &*outcome.body), (202, r#"{"sent":{"led":"0"}}"#));
}

/// The number of the value that is to be written, which there is.
fn set(actions: &mut VecDeque<TestAction>) -> u64 {
    let told = all(actions);
    let number = told.iter().find_map(|action| match action {
        Action::Set { number, .. } => Some(*number),
        _ => None,
    });
    let Some(number) = number else { unreachable!("nothing is to be written: {told:?}") };
    number
}

/// With which status a write is over, which it is.
fn finished(actions: &mut VecDeque<TestAction>) -> u16 {
    let told = all(actions);
    let status = told.iter().find_map(|action| match action {
        Action::Finish { outcome, .. } => Some(outcome.status),
        _ => None,
    });
    let Some(status) = status else { unreachable!("no write is over: {told:?}") };
    status
}

#[test]
fn a_write_stays_open_until_its_value_has_left() {
    let (mut roster, visit) = with_lamp(BY_REPORT);
    let mut actions = VecDeque::new();
    roster.next_write("lamp", visit, Some(write(1, &[("led", "1")])), &mut actions);
    let number = set(&mut actions);
    // Its node sleeps, and says what it has before it knows.
    roster.said("lamp", "led", value("0"), None, 1_000, &mut actions);
    roster.reported("lamp", visit, &mut actions);
    assert!(matches!(all(&mut actions)[..], [Action::Report { .. }]));
    roster.tick(299_000, &mut actions);
    assert!(actions.is_empty(), "it has not left: {actions:?}");
    roster.sent("lamp", number, 300_000, &mut actions);
    roster.tick(304_999, &mut actions);
    assert!(actions.is_empty(), "{actions:?}");
    roster.tick(305_000, &mut actions);
    assert_eq!(finished(&mut actions), 202);
}

#[test]
fn an_answer_that_comes_before_it_is_known_that_the_value_has_left_is_one() {
    let (mut roster, visit) = with_lamp(BY_REPORT);
    let mut actions = VecDeque::new();
    roster.next_write("lamp", visit, Some(write(1, &[("led", "1")])), &mut actions);
    let number = set(&mut actions);
    roster.said("lamp", "led", value("1"), None, 1_000, &mut actions);
    roster.sent("lamp", number, 1_001, &mut actions);
    assert_eq!(finished(&mut actions), 200);
}

#[test]
fn a_value_that_did_not_arrive_is_written_again_when_the_node_is_back() {
    let (mut roster, visit) = with_lamp(BY_REPORT);
    let mut actions = VecDeque::new();
    roster.next_write("lamp", visit, Some(write(1, &[("led", "1")])), &mut actions);
    let number = set(&mut actions);
    roster.written("lamp", number, Answer::None, 60_000, &mut actions);
    assert!(actions.is_empty());
    roster.seen("lamp", "192.0.2.1", 61_000, &mut actions);
    let again = set(&mut actions);
    roster.written(
        "lamp",
        again,
        Answer::Refused { status: 502, text: "no".to_owned() },
        61_000,
        &mut actions,
    );
    assert_eq!(finished(&mut actions), 502);
}

#[test]
fn a_write_that_could_not_leave_in_time_is_asked_for_again() {
    let (mut roster, visit) = with_lamp(BY_REPORT);
    let mut actions = VecDeque::new();
    roster.next_write("lamp", visit, Some(write(1, &[("led", "1")])), &mut actions);
    let number = set(&mut actions);
    roster.tick(1_000_000, &mut actions);
    let told = all(&mut actions);
    let [
        Action::Withdraw { number: withdrawn, .. },
        Action::GiveBack { write: 1, .. },
        Action::NextWrite { .. },
    ] = told[..]
    else {
        unreachable!("{told:?}")
    };
    assert_eq!(withdrawn, number);
    // What becomes of the old one is that of no write.
    roster.next_write("lamp", visit, Some(write(1, &[("led", "1")])), &mut actions);
    let again = set(&mut actions);
    roster.sent("lamp", number, 1_000_001, &mut actions);
    roster.written("lamp", number, Answer::None, 1_000_001, &mut actions);
    assert!(actions.is_empty());
    roster.sent("lamp", again, 1_000_001, &mut actions);
    roster.said("lamp", "led", value("1"), None, 1_000_002, &mut actions);
    assert_eq!(finished(&mut actions), 200);
}

#[test]
fn a_write_waits_for_a_node_that_speaks_before_it_listens() {
    let (mut roster, visit) = with_lamp(BY_REPORT);
    let mut actions = VecDeque::new();
    roster.next_write("lamp", visit, Some(write(1, &[("led", "1")])), &mut actions);
    for now_ms in 0..2_000 {
        let number = set(&mut actions);
        roster.written(
            "lamp",
            number,
            Answer::NotListening { connected_ms: Some(now_ms) },
            now_ms,
            &mut actions,
        );
        roster.seen("lamp", "192.0.2.1", now_ms, &mut actions);
        roster.said("lamp", "led", value("0"), None, now_ms, &mut actions);
        roster.reported("lamp", visit, &mut actions);
        roster.tick(now_ms, &mut actions);
        let is_reported = all(&mut actions).iter().all(|action| matches!(action, Action::Report { .. }));
        assert!(is_reported, "no attempt, and no end");
        // It listens, to something else most often.
        roster.listens("lamp", &mut actions);
    }
    let number = set(&mut actions);
    roster.sent("lamp", number, 2_000, &mut actions);
    roster.said("lamp", "led", value("1"), None, 2_001, &mut actions);
    assert_eq!(finished(&mut actions), 200);
}

#[test]
fn a_node_that_does_not_listen_for_ten_seconds_hears_no_writes_and_the_next_one_ends_at_once() {
    let (mut roster, visit) = with_lamp(BY_REPORT);
    let mut actions = VecDeque::new();
    let deaf = |roster: &mut TestRoster, actions: &mut VecDeque<TestAction>, connected_ms, now_ms| {
        let number = set(actions);
        // A protocol that hands values over at once says so before it knows.
        roster.sent("lamp", number, now_ms, actions);
        roster.written("lamp", number, Answer::NotListening { connected_ms }, now_ms, actions);
    };
    roster.next_write("lamp", visit, Some(write(1, &[("led", "1")])), &mut actions);
    // Its connection is old: it may have lost a subscription, or hear by another that is about to come.
    deaf(&mut roster, &mut actions, Some(60_000), 0);
    roster.tick(9_999, &mut actions);
    assert!(actions.is_empty());
    // It has connected anew.
    roster.tick(10_000, &mut actions);
    deaf(&mut roster, &mut actions, Some(4_000), 10_000);
    roster.tick(15_999, &mut actions);
    assert!(actions.is_empty());
    roster.tick(16_000, &mut actions);
    deaf(&mut roster, &mut actions, Some(10_000), 16_000);
    assert_eq!(finished(&mut actions), 409);
    roster.next_write("lamp", visit, Some(write(2, &[("led", "1")])), &mut actions);
    deaf(&mut roster, &mut actions, Some(14_000), 20_000);
    assert_eq!(finished(&mut actions), 409);
}

#[test]
fn a_node_that_is_not_connected_is_written_to_when_it_is_heard_of_however_long_that_takes() {
    let (mut roster, visit) = with_lamp(BY_REPORT);
    let mut actions = VecDeque::new();
    roster.next_write("lamp", visit, Some(write(1, &[("led", "1")])), &mut actions);
    for attempt in 0..10 {
        let number = set(&mut actions);
        roster.written(
            "lamp",
            number,
            Answer::NotListening { connected_ms: None },
            attempt * 60_000,
            &mut actions,
        );
        roster.tick(attempt * 60_000 + 59_000, &mut actions);
        assert!(actions.is_empty(), "{actions:?}");
        roster.seen("lamp", "192.0.2.1", (attempt + 1) * 60_000, &mut actions);
    }
    let number = set(&mut actions);
    roster.written("lamp", number, Answer::NotListening { connected_ms: None }, 600_000, &mut actions);
    roster.tick(1_000_000, &mut actions);
    assert_eq!(finished(&mut actions), 409);
}

#[test]
fn a_node_that_begins_to_listen_while_it_is_looked_who_does_is_written_to() {
    for is_said_to_be_sent in [false, true] {
        let (mut roster, visit) = with_lamp(BY_REPORT);
        let mut actions = VecDeque::new();
        roster.next_write("lamp", visit, Some(write(1, &[("led", "1")])), &mut actions);
        let number = set(&mut actions);
        if is_said_to_be_sent {
            roster.sent("lamp", number, 0, &mut actions);
        }
        roster.all_listen(&mut actions);
        assert!(actions.is_empty());
        roster.written("lamp", number, Answer::NotListening { connected_ms: Some(0) }, 0, &mut actions);
        assert_ne!(set(&mut actions), number);
    }
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
    Sent(u8),
    Listens(u8),
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
        (0..3_u8).prop_map(Step::Sent),
        (0..4_u8).prop_map(Step::Listens),
        (0..60_000_u32).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever comes in whatever order: of a node at most one write is under way, and one report but for those that the
    /// ends of writes did not wait for; each who waits hears once what became of it, and values of a resource are told in
    /// the order in which they came. No write is said to be handed over of which no value has left, and each that is handed
    /// out comes to its end, is given back, or is left with its node. Each node is asked about once at a time, none is refused by an answer that is older
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
        // Writes that were handed out, each with its node and whether a value of it has left.
        let mut open: HashMap<u64, (Uid, bool)> = HashMap::new();
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
                Step::Sent(node) => {
                    let uid = uids[usize::from(node)];
                    let under_way = roster.nodes.get(uid).and_then(|node| node.write.as_ref());
                    if let Some((id, number)) = under_way.map(|under_way| (under_way.write.id, under_way.number)) {
                        if number > 0 && let Some((_, has_left)) = open.get_mut(&id) {
                            *has_left = true;
                        }
                        roster.sent(uid, number, now_ms, &mut actions);
                    }
                }
                Step::Listens(node) => match uids.get(usize::from(node)) {
                    Some(uid) => roster.listens(uid, &mut actions),
                    None => roster.all_listen(&mut actions),
                },
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
                                open.insert(next_write, (Arc::clone(&uid), false));
                            }
                            roster.next_write(&uid, visit, write, &mut actions);
                        }
                        Action::Set { uid, number, value, .. } => {
                            let answer = match which % 5 {
                                0 => Answer::Set(value),
                                1 => Answer::Refused { status: 400, text: "no".to_owned() },
                                2 => Answer::NotListening { connected_ms: None },
                                3 => Answer::NotListening { connected_ms: Some(u64::from(which) * 100) },
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
                if let Action::Finish { write, node, outcome } = &action {
                    writing.retain(|_, id| id != write);
                    *ended.entry(node).or_default() += 1;
                    let Some((_, has_left)) = open.remove(write) else {
                        return Err(TestCaseError::fail("a write ends once"));
                    };
                    prop_assert!(outcome.status != 202 || has_left, "what is handed over has left");
                }
                if let Action::GiveBack { write, .. } = &action {
                    prop_assert!(is_by_report);
                    prop_assert!(open.remove(write).is_some(), "what is given back was handed out");
                }
                if let Action::Went { node, .. } = &action {
                    open.retain(|_, (uid, _)| **uid != **node);
                }
                pending.push(action);
            }
            let waiting = roster.nodes.values().map(|node| node.waiting_bytes + node.waiting.len() * VALUE_WAITING_BYTES);
            prop_assert_eq!(roster.waiting_bytes, waiting.sum::<usize>());
            let under_way = roster.nodes.values().filter_map(|node| node.write.as_ref());
            let mut left: Vec<u64> = under_way.map(|under_way| under_way.write.id).collect();
            let mut expected: Vec<u64> = open.keys().copied().collect();
            left.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(left, expected, "no write is lost");
            for (uid, node) in &roster.nodes {
                if let Some(under_way) = &node.write {
                    let is_asked = !is_by_report && under_way.waits == Waits::Protocol;
                    prop_assert!(is_asked || roster.writing.contains(uid), "time ends each write");
                    prop_assert!(under_way.attempts <= ATTEMPTS_MAX);
                }
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
