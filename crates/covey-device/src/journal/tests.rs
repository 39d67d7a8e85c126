//! The journal against a model: random starts, results, commits, passing time, and crashes that
//! lose or tear whatever was not yet durable.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::log::COMPACT_BYTES_MIN;

const SN: &str = "lamp-1";

#[derive(Debug, Clone)]
enum Step {
    /// A task is delivered, with this life; it is started if the journal allows.
    Deliver {
        task: u8,
        life: u64,
    },
    /// The oldest running call ends with a body of this length.
    Finish {
        body_bytes: usize,
    },
    /// The server commits the oldest result not committed.
    Commit,
    Wait {
        seconds: u64,
    },
    /// The process is killed while it was writing something: of what was queued and not
    /// durable this share (of 256) reached the file.
    Crash {
        during: During,
        torn: u8,
    },
}

#[derive(Debug, Clone)]
enum During {
    Nothing,
    Begin { task: u8 },
    Finish,
}

fn step(tasks: u8) -> impl Strategy<Value = Step> {
    let during = prop_oneof![
        Just(During::Nothing),
        (0..tasks).prop_map(|task| During::Begin { task }),
        Just(During::Finish),
    ];
    prop_oneof![
        6 => (0..tasks, 1_u64..60).prop_map(|(task, life)| Step::Deliver { task, life }),
        4 => (0_usize..300).prop_map(|body_bytes| Step::Finish { body_bytes }),
        3 => Just(Step::Commit),
        2 => (1_u64..40).prop_map(|seconds| Step::Wait { seconds }),
        2 => (during, any::<u8>()).prop_map(|(during, torn)| Step::Crash { during, torn }),
    ]
}

/// What must be true of a task.
#[derive(Debug, Clone)]
struct Expected {
    keep_until: u64,
    /// `None` while it runs.
    answer: Option<Answer>,
    committed: bool,
}

struct Bench {
    dir: tempfile::TempDir,
    bounds: Bounds,
    journal: Option<Journal>,
    now: u64,
    known: HashMap<Uuid, Expected>,
    running: Vec<Uuid>,
}

impl Bench {
    fn new(bounds: Bounds) -> Self {
        let mut bench = Self {
            dir: tempfile::tempdir().unwrap(),
            bounds,
            journal: None,
            now: 1_000,
            known: HashMap::new(),
            running: Vec::new(),
        };
        bench.open();
        bench
    }

    fn open(&mut self) {
        self.journal = None;
        let place = Place { dir: self.dir.path().to_owned(), sync: false };
        let opened = Journal::open(&place, SN, self.bounds, false, self.now).unwrap();
        self.journal = Some(opened);
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().unwrap()
    }

    fn answer(&self, body_bytes: usize) -> Answer {
        Answer::text("\"".repeat(body_bytes)).with_ext_id(body_bytes as i64)
    }

    fn begin(&mut self, task: u8, life: u64) -> bool {
        let task_id = Uuid::from_u128(u128::from(task) + 1);
        let keep_until = self.now + life;
        if !self.journal().begin(task_id, keep_until, self.now) {
            return false;
        }
        self.known.insert(task_id, Expected { keep_until, answer: None, committed: false });
        self.running.push(task_id);
        true
    }

    fn finish(&mut self, body_bytes: usize) -> bool {
        if self.running.is_empty() {
            return false;
        }
        let task_id = self.running.remove(0);
        let answer = self.answer(body_bytes);
        let expected = self.known.get_mut(&task_id).unwrap();
        expected.answer = Some(answer.clone());
        let keep_until = expected.keep_until;
        self.journal().finish(task_id, keep_until, &answer, self.now);
        true
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Deliver { task, life } => {
                let task_id = Uuid::from_u128(u128::from(task) + 1);
                let alive_and_known =
                    self.known.get(&task_id).is_some_and(|known| known.keep_until > self.now);
                let started = self.begin(task, life);
                assert!(!(started && alive_and_known), "task {task} would run twice");
                self.journal().flush_now().unwrap();
            }
            Step::Finish { body_bytes } => {
                self.finish(body_bytes);
                self.journal().flush_now().unwrap();
            }
            Step::Commit => {
                let unsent = self.journal().unsent(self.now);
                if let Some(first) = unsent.first() {
                    assert!(self.journal().commit(first.task_id));
                    self.known.get_mut(&first.task_id).unwrap().committed = true;
                }
            }
            Step::Wait { seconds } => self.now += seconds,
            Step::Crash { during, torn } => self.crash(&during, torn),
        }
    }

    /// What was flushed stays. Of what was queued a prefix reaches the file. Every call that
    /// ran is gone; a commit that was lost is simply news again.
    fn crash(&mut self, during: &During, torn: u8) {
        let before = self.known.clone();
        let touched = match during {
            During::Nothing => None,
            During::Begin { task } => self.begin(*task, 30).then(|| Uuid::from_u128(u128::from(*task) + 1)),
            During::Finish => {
                let task_id = self.running.first().copied();
                self.finish(100);
                task_id
            }
        };
        let (bytes, rewrite) = self.journal().remembered().take();
        let path = self.dir.path().join(format!("{SN}.journal"));
        if !rewrite {
            let reached = bytes.len() * usize::from(torn) / 255;
            let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(&bytes[..reached]).unwrap();
        }
        self.running.clear();
        self.open();
        let interrupted = Answer::error(500, "interrupted");
        let unsent: HashSet<Uuid> =
            self.journal().unsent(0).into_iter().map(|unsent| unsent.task_id).collect();
        for (task_id, known) in &mut self.known {
            known.committed &= !unsent.contains(task_id);
            if known.answer.is_none() {
                known.answer = Some(interrupted.clone());
            }
        }
        // What was under way when the process died has happened or has not; nothing between.
        if let Some(task_id) = touched {
            match self.journal().seen(task_id) {
                Seen::Never => match before.get(&task_id) {
                    Some(earlier) if earlier.keep_until > self.now => {
                        panic!("a durable start was lost")
                    }
                    _ => {
                        self.known.remove(&task_id);
                    }
                },
                Seen::Running => panic!("nothing runs after a restart"),
                Seen::Finished(answer) => {
                    let known = self.known.get_mut(&task_id).unwrap();
                    assert!(Some(&answer) == known.answer.as_ref() || answer == interrupted);
                    known.answer = Some(answer);
                }
            }
        }
    }

    /// Nothing alive is forgotten, and nothing is remembered wrongly.
    fn check_all_known(&self) {
        for (task_id, known) in &self.known {
            if known.keep_until <= self.now {
                continue;
            }
            let expected = match &known.answer {
                None => Seen::Running,
                Some(answer) => Seen::Finished(answer.clone()),
            };
            assert_eq!(self.journal().seen(*task_id), expected);
        }
        let unsent = self.journal().unsent(self.now);
        let uncommitted = self
            .known
            .values()
            .filter(|known| known.keep_until > self.now && known.answer.is_some() && !known.committed)
            .count();
        assert_eq!(unsent.len(), uncommitted);
    }

    fn check_bounds(&self) {
        let state = self.journal().remembered();
        let finished = state.kept.len() - self.running.len();
        assert!(state.kept.len() <= self.bounds.entries_max || finished <= 1);
        assert!(state.kept.bytes() <= self.bounds.bytes_max || finished <= 1);
        for task_id in &self.running {
            assert_eq!(state.kept.seen(*task_id), Seen::Running, "running tasks stay");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_task_runs_twice_and_no_living_result_is_forgotten(
        steps in prop::collection::vec(step(12), 1..80)
    ) {
        let mut bench = Bench::new(Bounds { entries_max: 64, bytes_max: 1 << 20 });
        for step in steps {
            bench.apply(step);
            bench.check_all_known();
            bench.check_bounds();
        }
    }

    #[test]
    fn the_bounds_hold_and_what_runs_is_never_dropped(
        deliveries in prop::collection::vec((0_u8..200, 1_u64..60, 0_usize..600, any::<bool>()), 1..120)
    ) {
        let mut bench = Bench::new(Bounds { entries_max: 8, bytes_max: 4_096 });
        for (task, life, body_bytes, commit) in deliveries {
            if bench.running.len() < 3 {
                bench.begin(task, life);
            } else {
                bench.finish(body_bytes);
            }
            if commit && let Some(first) = bench.journal().unsent(0).first() {
                bench.journal().commit(first.task_id);
            }
            bench.journal().flush_now().unwrap();
            bench.now += 1;
            bench.check_bounds();
        }
        bench.running.clear();
        bench.open();
        bench.check_bounds();
    }
}

#[test]
fn committed_results_go_before_those_the_server_does_not_have() {
    let bounds = Bounds { entries_max: 3, bytes_max: 1 << 20 };
    let journal = Journal::in_memory(bounds);
    let id = |number: u128| Uuid::from_u128(number);
    for number in 1..=3 {
        journal.begin(id(number), 100, 0);
        journal.finish(id(number), 100, &Answer::empty(), 0);
    }
    journal.commit(id(2));
    journal.begin(id(4), 100, 0);
    assert_eq!(journal.seen(id(2)), Seen::Never);
    assert_ne!(journal.seen(id(1)), Seen::Never);
    // Expired ones go before all others, whatever their age.
    journal.finish(id(4), 100, &Answer::empty(), 0);
    journal.begin(id(5), 500, 200);
    assert_eq!(journal.seen(id(1)), Seen::Never);
    assert_eq!(journal.unsent(0).len(), 0);
}

#[test]
fn an_interrupted_task_is_answered_or_run_again_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { dir: dir.path().to_owned(), sync: true };
    let bounds = Bounds { entries_max: 10, bytes_max: 1 << 20 };
    let task_id = Uuid::from_u128(1);
    let open = |rerun| Journal::open(&place, SN, bounds, rerun, 0).unwrap();
    let journal = open(false);
    journal.begin(task_id, 100, 0);
    journal.flush_now().unwrap();
    drop(journal);

    let rerun = open(true);
    assert_eq!(rerun.seen(task_id), Seen::Never);
    rerun.begin(task_id, 100, 0);
    rerun.flush_now().unwrap();
    drop(rerun);

    let journal = open(false);
    let unsent = journal.unsent(0);
    assert_eq!(unsent[0].answer, Answer::error(500, "interrupted"));
    assert_eq!(unsent[0].answer.body(), b"{\"error\":\"interrupted\"}");
}

#[test]
fn a_journal_belongs_to_one_process_and_to_its_owner_alone() {
    let bench = Bench::new(Bounds { entries_max: 8, bytes_max: 4_096 });
    let place = Place { dir: bench.dir.path().to_owned(), sync: false };
    let second = Journal::open(&place, SN, bench.bounds, false, 0);
    assert!(matches!(second, Err(Error::JournalInUse { .. })));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = bench.dir.path().join(format!("{SN}.journal"));
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn the_file_is_compacted_while_it_grows() {
    let mut bench = Bench::new(Bounds { entries_max: 4, bytes_max: 4_096 });
    for round in 0..2_000_u32 {
        bench.begin((round % 250) as u8, 1);
        bench.finish(100);
        bench.journal().flush_now().unwrap();
        bench.now += 2;
    }
    let path = bench.dir.path().join(format!("{SN}.journal"));
    let bytes = std::fs::metadata(path).unwrap().len() as usize;
    assert!(bytes < 2 * COMPACT_BYTES_MIN, "{bytes}");
}
