//! `cargo xtask simulate`: runs simulations from their seeds and says which of them broke a rule.

use std::io::Write as _;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use covey_simulate::{Outcome, Plan, SimulationError, run};

/// A whole server with many devices under a simulated clock and network, repeatable from a seed.
#[derive(Parser)]
#[command(name = "cargo xtask simulate")]
struct Arguments {
    /// The seed of one run
    #[arg(long, default_value_t = 1, conflicts_with = "seeds")]
    seed: u64,
    /// Many runs, one for each seed from A up to, and without, B
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// How many devices there are, 1 to 16,777,216
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=0x0100_0000))]
    devices: u32,
    /// How many requests applications make for each device, on average
    #[arg(long, default_value_t = 5)]
    requests: u32,
    /// Print each outcome as a line of JSON
    #[arg(long)]
    json: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let form = || "two numbers with two dots between, such as 0..50".to_owned();
    let (first, end) = text.split_once("..").ok_or_else(form)?;
    let number = |text: &str| text.parse().map_err(|_| form());
    let range = number(first)?..number(end)?;
    if range.is_empty() { Err("the first must be smaller than the second".to_owned()) } else { Ok(range) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = arguments.seeds.clone().unwrap_or(arguments.seed..arguments.seed.saturating_add(1));
    let (begin, mut failed) = (Instant::now(), 0_u64);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let plan = Plan { seed, devices: arguments.devices, requests_per_device: arguments.requests };
        let (seed_begin, mut told) = (Instant::now(), Instant::now());
        let outcome = run(plan, &mut |simulated_s| {
            if told.elapsed().as_secs() >= 5 {
                told = Instant::now();
                let took_s = seed_begin.elapsed().as_secs();
                eprintln!("seed {seed}: {simulated_s} s simulated in {took_s} s");
            }
        });
        match outcome {
            Ok(outcome) => tell(&outcome, arguments.json, seed_begin),
            Err(error) => {
                failed += 1;
                tell_failure(&error, &arguments, seed);
            }
        }
    }
    if count > 1 {
        eprintln!("{count} seeds, {failed} of them broke a rule, in {} s", begin.elapsed().as_secs());
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(outcome: &Outcome, as_json: bool, begin: Instant) {
    let line = if as_json {
        // Numbers and texts always serialise.
        serde_json::to_string(outcome).unwrap_or_default()
    } else {
        let Outcome { seed, devices, simulated_s, events, digest, connections, tasks, finished, .. } =
            outcome;
        format!(
            "seed {seed}: {devices} devices, {connections} connections, {tasks} tasks, {finished} finished, \
             {events} events, {simulated_s} s in {:.1} s, digest {digest}",
            begin.elapsed().as_secs_f64()
        )
    };
    // Who has closed the pipe reads no more.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn tell_failure(error: &SimulationError, arguments: &Arguments, seed: u64) {
    let Arguments { devices, requests, json, .. } = arguments;
    if *json {
        let line = serde_json::json!({ "seed": seed, "devices": devices, "error": error.to_string() });
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    eprintln!("seed {seed} failed: {error}");
    if let SimulationError::Broken(broken) = error {
        for event in &broken.last {
            eprintln!("  {event}");
        }
    }
    eprintln!("again: cargo xtask simulate --seed {seed} --devices {devices} --requests {requests}");
}
