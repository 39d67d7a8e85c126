//! What the port is told, in which order, and what of it together.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::node::{Confirmation, Outcome, Verdict, Write};
use crate::port::Later;

const TOGETHER_MS: u64 = 20;

/// What the port was told: which nodes said something together, which one went, and what came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Reports(Vec<String>),
    Went(String),
    Finished(u16),
}

/// A port to which every node may come, and that writes down what it is told. It refuses what is called `bad`.
#[derive(Default)]
pub(crate) struct Diary {
    told: Mutex<Vec<Told>>,
    pub(crate) to_write: Mutex<Option<Write<()>>>,
}

impl Diary {
    fn note(&self, told: Told) {
        self.told.lock().unwrap().push(told);
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

fn ready<T: Send + 'static>(what: T) -> Later<T> {
    Box::pin(std::future::ready(what))
}

impl Port for Diary {
    type Node = Uid;
    type Write = ();

    fn join(&self, newcomer: Newcomer) -> Later<Verdict<Uid>> {
        ready(Verdict::Joined(newcomer.uid))
    }

    fn came(&self, _: &Uid, _: &Uid, _: u64, _: &str) {}

    fn report(&self, reports: Vec<Report<Uid>>) -> Later<Vec<Reported>> {
        let is_bad = |report: &Report<Uid>| report.values.iter().any(|(resource, _)| resource == "bad");
        self.note(Told::Reports(reports.iter().map(|report| report.node.to_string()).collect()));
        let reported = |report| if is_bad(report) { Reported::Refused } else { Reported::Stored };
        ready(reports.iter().map(reported).collect())
    }

    fn went(&self, node: &Uid, _: u64, _: Gone) -> Later<()> {
        self.note(Told::Went(node.to_string()));
        ready(())
    }

    fn next_write(&self, _: &Uid, _: u64) -> Later<Option<Write<()>>> {
        ready(self.to_write.lock().unwrap().take())
    }

    fn finish(&self, _: &Uid, (): (), outcome: Outcome) -> Later<()> {
        self.note(Told::Finished(outcome.status));
        ready(())
    }

    fn next_hint(&self) -> Later<Hint> {
        Box::pin(std::future::pending())
    }
}

/// A protocol whose nodes take each value at once.
struct Obedient(Arc<Gateway<Diary>>);

impl Protocol for Obedient {
    fn discover(&self, _: &Arc<str>, _: bool) {}

    fn set(&self, uid: &Arc<str>, number: u64, _: &str, value: &Arc<str>) {
        self.0.written(uid, number, Answer::Set(Arc::clone(value)));
    }

    fn forget(&self, _: &Arc<str>) {}

    fn close(&self, _: &Arc<str>) {}

    fn is_passing(&self, _: &Arc<str>) -> bool {
        false
    }
}

/// A gateway with these nodes, of which none has said anything.
async fn with(names: &[&str], together_ms: u64) -> (Arc<Diary>, Arc<Gateway<Diary>>, Arc<Obedient>) {
    let habits = Habits {
        silence_ms_max: None,
        confirmation: Confirmation::Answer,
        reports_are_life: false,
        together_ms,
    };
    let port = Arc::new(Diary::default());
    let gateway = Gateway::new(Arc::clone(&port), habits);
    let protocol = Arc::new(Obedient(Arc::clone(&gateway)));
    gateway.speak(&protocol);
    for name in names {
        gateway.seen(name, "192.0.2.1");
    }
    // On a clock that stands still as long as anything can be done, all of it is done.
    sleep(Duration::from_millis(1)).await;
    (port, gateway, protocol)
}

fn reports(names: &[&str]) -> Told {
    Told::Reports(names.iter().map(|name| (*name).to_owned()).collect())
}

#[tokio::test(start_paused = true)]
async fn one_report_is_told_at_once_and_those_that_come_soon_after_it_together() {
    let (port, gateway, _protocol) = with(&["a", "b", "c"], TOGETHER_MS).await;
    let mut heard = Vec::new();
    for (uid, resource) in [("a", "led"), ("b", "bad"), ("c", "led"), ("a", "led")] {
        heard.push(gateway.begin_saying(uid, resource, Arc::from("1")));
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(port.told(), [reports(&["a"])]);
    sleep(Duration::from_millis(TOGETHER_MS)).await;
    assert_eq!(port.told(), [reports(&["b", "c", "a"])]);
    let mut each = Vec::new();
    for one in heard {
        each.push(one.await.unwrap());
    }
    assert_eq!(each, [Heard::Done, Heard::Refused, Heard::Done, Heard::Done]);
    // After a silence it is as at first.
    sleep(Duration::from_millis(3 * TOGETHER_MS)).await;
    gateway.said("c", "led", Arc::from("2"));
    assert_eq!(port.told(), [reports(&["c"])]);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_gathered_each_is_told_at_once() {
    let (port, gateway, _protocol) = with(&["a", "b"], 0).await;
    gateway.said("a", "led", Arc::from("1"));
    gateway.said("b", "led", Arc::from("1"));
    assert_eq!(port.told(), [reports(&["a"]), reports(&["b"])]);
}

#[tokio::test(start_paused = true)]
async fn so_many_as_may_be_told_together_do_not_wait() {
    let names: Vec<String> = (0..=REPORTS_TOGETHER_MAX).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (port, gateway, _protocol) = with(&[], TOGETHER_MS).await;
    for name in &names {
        gateway.seen(name, "192.0.2.1");
    }
    sleep(Duration::from_secs(1)).await;
    for name in &names {
        gateway.said(name, "led", Arc::from("1"));
    }
    assert_eq!(port.told(), [reports(&names[..1]), reports(&names[1..])]);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_said_is_told_before_it_is_gone_and_before_its_write_is_over() {
    let (port, gateway, _protocol) = with(&["a", "b", "c"], TOGETHER_MS).await;
    gateway.said("a", "led", Arc::from("1"));
    gateway.said("b", "led", Arc::from("1"));
    gateway.gone("b", Gone::Lost);
    assert_eq!(port.told(), [reports(&["a"]), reports(&["b"]), Told::Went("b".to_owned())]);
    *port.to_write.lock().unwrap() =
        Some(Write { id: (), values: vec![("led".to_owned(), Arc::from("1"))], until_ms: 1_000_000 });
    gateway.hear(Hint::Wanted(vec![Arc::from("c")]));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(port.told(), [reports(&["c"]), Told::Finished(200)]);
}
