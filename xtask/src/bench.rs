//! The same calls in every shape, one after the other on the same machine:
//! `cargo xtask bench`. Each figure beside that of the embedded shape.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::step::{cargo, step};
use crate::{root, testbed};

/// What is compared with.
const EMBEDDED: &str = "sqlite+embedded";
const SHAPES: [&str; 6] = [
    EMBEDDED,
    "postgres+embedded",
    "sqlite+mosquitto",
    "postgres+mosquitto",
    "sqlite+rabbitmq",
    "postgres+rabbitmq",
];
/// Names a binary to measure in place of the one that is built.
const BINARY: &str = "COVEY_BIN";
/// The deployment that is made for each measurement, and dropped after it.
const DEPLOYMENT: &str = "bench";
const SECONDS_DEFAULT: &str = "15";

/// One measurement.
struct Measured {
    p50_ms: f64,
    p99_ms: f64,
    calls_per_s: f64,
    errors: u64,
    /// Processor time for each call, in microseconds, by process.
    cpu_us: BTreeMap<String, f64>,
}

/// Measures the shapes that are named, else all, for `--seconds N` each.
pub fn run(arguments: &[String]) -> Result<()> {
    let (mut seconds, mut shapes) = (SECONDS_DEFAULT.to_owned(), Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seconds" => seconds.clone_from(rest.next().context("--seconds needs a number")?),
            shape if SHAPES.contains(&shape) => shapes.push(shape.to_owned()),
            other => bail!("{other} is no shape; they are: {}", SHAPES.join(", ")),
        }
    }
    if shapes.is_empty() {
        shapes = SHAPES.map(str::to_owned).to_vec();
    }
    crate::step::build()?;
    if std::env::var_os(BINARY).is_none() {
        step("building the release binary", || {
            cargo(&["build", "--release", "--package", "covey", "--locked", "--quiet"])
        })?;
    }
    let mut table = String::from(
        "| shape | one caller p50, p99 (ms) | 64 callers, 200 devices (calls/s, p99 ms) | CPU a call (µs, 64 callers) |\n\
         | --- | --- | --- | --- |\n",
    );
    for shape in &shapes {
        let one = measure(shape, &seconds, "1", "1")?;
        let many = measure(shape, &seconds, "200", "64")?;
        let cpu: Vec<_> = many.cpu_us.iter().map(|(name, us)| format!("{name} {us:.0}")).collect();
        let errors = one.errors + many.errors;
        let told = if errors == 0 { String::new() } else { format!(" ({errors} errors)") };
        let row = format!(
            "| {shape}{told} | {:.2}, {:.2} | {:.0}, {:.1} | {} |\n",
            one.p50_ms,
            one.p99_ms,
            many.calls_per_s,
            many.p99_ms,
            cpu.join(", ")
        );
        eprint!("{row}");
        table.push_str(&row);
    }
    print!("{table}");
    Ok(())
}

fn measure(shape: &str, seconds: &str, devices: &str, callers: &str) -> Result<Measured> {
    let environment = if shape == EMBEDDED { BTreeMap::new() } else { deployment(shape)? };
    let before = services_cpu_s()?;
    let binary = release_binary();
    let output = Command::new(&binary)
        .args(["bench", "--own-server", "--json", "calls", "--devices", devices, "--callers", callers])
        .args(["--duration", &format!("{seconds}s")])
        .envs(&environment)
        .current_dir(root())
        .output()
        .with_context(|| format!("cannot run {}", binary.display()))?;
    if !output.status.success() {
        bail!("{shape}: covey bench failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let after = services_cpu_s()?;
    if shape != EMBEDDED {
        testbed::output(&["drop", DEPLOYMENT])?;
    }
    let report: Value = serde_json::from_slice(&output.stdout).context("covey bench printed no JSON")?;
    let calls = &report["measurements"][0];
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let completed = number(&calls["completed"]);
    let mut cpu_us = BTreeMap::from([
        ("covey".to_owned(), number(&calls["server_cpu_us_per_call"])),
        ("devices and callers".to_owned(), number(&calls["own_cpu_us_per_call"])),
    ]);
    for (name, seconds) in after {
        // The warm-up and the joining of devices are in it, so this is a little much.
        let spent_us = (seconds - before.get(&name).copied().unwrap_or(0.0)) * 1e6 / completed;
        if spent_us > 5.0 {
            cpu_us.insert(name, spent_us);
        }
    }
    Ok(Measured {
        p50_ms: number(&calls["latency"]["p50_us"]) / 1e3,
        p99_ms: number(&calls["latency"]["p99_us"]) / 1e3,
        calls_per_s: number(&calls["calls_per_s"]),
        errors: calls["errors"]
            .as_object()
            .map_or(0, |errors| errors.values().filter_map(Value::as_u64).sum()),
        cpu_us,
    })
}

/// The environment of a deployment without any data.
fn deployment(shape: &str) -> Result<BTreeMap<String, String>> {
    let printed = testbed::output(&["env", "--shape", shape, "--for", DEPLOYMENT, "--json"])?;
    let mut printed: Value = serde_json::from_str(&printed).context("services env printed no JSON")?;
    serde_json::from_value(printed["environment"].take()).context("services env printed no environment")
}

fn release_binary() -> PathBuf {
    std::env::var_os(BINARY).map_or_else(|| root().join("target/release/covey"), PathBuf::from)
}

/// The processor time that each service has used so far, its children
/// included, in seconds.
fn services_cpu_s() -> Result<BTreeMap<String, f64>> {
    let Ok(printed) = testbed::output(&["status", "--json"]) else { return Ok(BTreeMap::new()) };
    let status: Value = serde_json::from_str(&printed).unwrap_or_default();
    let mut spent = BTreeMap::new();
    for (name, process) in status["processes"].as_object().into_iter().flatten() {
        if let Some(pid) = process["pid"].as_u64() {
            spent.insert(name.clone(), tree_cpu_s(pid)?);
        }
    }
    Ok(spent)
}

/// The processor time of a process and all below it (proc(5), `/proc/PID/stat`).
fn tree_cpu_s(root_pid: u64) -> Result<f64> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // What follows the name, which may hold blanks and brackets itself.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<f64> = rest.split(' ').skip(1).filter_map(|field| field.parse().ok()).collect();
        let (Some(parent), Some(ticks)) = (fields.first(), fields.get(10..14)) else { continue };
        parents.insert(pid, (*parent, ticks.iter().sum::<f64>()));
    }
    let is_below = |mut pid: u64| {
        for _ in 0..64 {
            if pid == root_pid {
                return true;
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a process id
            match parents.get(&pid) {
                Some((parent, _)) => pid = *parent as u64,
                None => return false,
            }
        }
        false
    };
    /// Ticks a second, as Linux shows them to programs (`USER_HZ`).
    const TICKS_PER_S: f64 = 100.0;
    let ticks: f64 = parents.iter().filter(|(pid, _)| is_below(**pid)).map(|(_, (_, ticks))| ticks).sum();
    Ok(ticks / TICKS_PER_S)
}
