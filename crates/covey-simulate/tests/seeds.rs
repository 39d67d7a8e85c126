//! Runs of the simulator that are short enough for every change.
#![allow(clippy::unwrap_used, clippy::panic)]

use covey_simulate::{Outcome, Plan, SimulationError, run};

fn simulated(seed: u64, devices: u32) -> Outcome {
    match run(Plan { seed, devices, requests_per_device: 6 }, &mut |_| ()) {
        Ok(outcome) => outcome,
        Err(SimulationError::Broken(broken)) => {
            let last: Vec<_> = broken.last.iter().map(ToString::to_string).collect();
            panic!("seed {seed}, {devices} devices: {broken}\n{}", last.join("\n"));
        }
        Err(other) => panic!("seed {seed}, {devices} devices: {other}"),
    }
}

#[test]
fn no_rule_is_broken_from_a_dozen_seeds() {
    let mut all = [0; 6];
    for seed in 0..12 {
        let outcome = simulated(seed, 12);
        // A run in which nothing happens would break no rule either.
        assert!(outcome.finished > 5 && outcome.connections > 20, "{outcome:?}");
        let Outcome { stored_events, repeated_events, wills, wishes, kills, left_open, .. } = outcome;
        let counts = [stored_events, repeated_events, wills, wishes, kills, left_open];
        all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    assert!(all.iter().all(|sum| *sum > 4), "{all:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_gives_another() {
    let (first, again, other) = (simulated(77, 30), simulated(77, 30), simulated(78, 30));
    assert_eq!(first.digest, again.digest, "{first:?} {again:?}");
    assert_eq!(first.events, again.events);
    assert_ne!(first.digest, other.digest);
}
