//! Checks and chores of the Covey workspace: `cargo xtask test` runs all of
//! the checks, as CI does; `cargo xtask services` runs PostgreSQL and brokers
//! for tests.

mod arrows;
mod bench;
mod conformance;
mod limits;
mod step;
mod testbed;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::step::{cargo, cargo_command, run, step};

const HELP: &str = "cargo xtask COMMAND

  test          everything below, then all tests (what CI runs)
  check         formatting, lints, docs, licences, arrows between crates, tidiness
  tidy          arrows between crates and tidiness alone, in seconds
  unit          the tests of the Rust crates
  conformance   the tests with clients that others wrote (makes a venv in target/), in the
                embedded shape, or in those named: cargo xtask conformance [--shape SHAPE]…
                [--faults] [PYTEST ARGUMENTS]; SHAPE: postgres+rabbitmq …, or all
  openapi       write openapi/covey.json anew from the code
  limits        write docs/limits.md anew from the code
  services      PostgreSQL, RabbitMQ 4, Mosquitto and nginx on free ports of loopback, for
                tests of the distributed shapes; more: cargo xtask services --help
  bench         the same calls in every shape, beside the embedded one: cargo xtask bench
                [--seconds N] [SHAPE…]
  simulate      a server with many devices under a simulated clock and network, repeatable from a
                seed: cargo xtask simulate [--seed N | --seeds A..B] [--devices D] [--json]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = arguments.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
    let outcome = match command {
        "test" => test(),
        "check" => check(),
        "tidy" => tidy(),
        "unit" => unit(),
        "conformance" => conformance::run_suite(rest),
        "openapi" => write_openapi(),
        "limits" => limits::write(&root()),
        "services" => testbed::build_and_run(rest),
        "bench" => bench::run(rest),
        "simulate" => simulate(rest),
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> Result<()> {
    step::build_for_ci();
    check()?;
    // One test that fails does not hide the others.
    let crates = unit();
    let program = conformance::run_everything();
    crates.and(program)
}

fn check() -> Result<()> {
    step("formatting", || cargo(&["fmt", "--all", "--check"]))?;
    let profile = step::profile();
    let clippy =
        ["clippy", "--workspace", "--all-targets", "--locked", "--profile", profile, "--", "-D", "warnings"];
    step("lints", || cargo(&clippy))?;
    step("documentation", || {
        let mut command = cargo_command();
        command.env("RUSTDOCFLAGS", "-D warnings");
        run(command.args(["doc", "--workspace", "--no-deps", "--locked", "--quiet", "--profile", profile]))
    })?;
    tidy()?;
    step("licences and sources", deny)?;
    step("openapi/covey.json", check_openapi)
}

fn tidy() -> Result<()> {
    step("arrows between crates", arrows::check)?;
    step("tidiness", || tidy::check(&root()))?;
    step("docs/limits.md", || limits::check(&root()))
}

fn unit() -> Result<()> {
    let arguments =
        ["test", "--workspace", "--locked", "--quiet", "--no-fail-fast", "--profile", step::profile()];
    step::build()?;
    step("tests of the crates", || {
        let python = conformance::prepare()?;
        let mut tests = cargo_command();
        tests.env("COVEY_PYTHON", python).env("RUST_TEST_THREADS", test_threads().to_string());
        run(tests.args(arguments))
    })
}

/// Many tests wait for a service or for an instant, so a few more than there are cores run at once.
fn test_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get) + 2
}

/// Runs cargo-deny, building it first where it is missing.
fn deny() -> Result<()> {
    let tools = root().join("target/tools");
    let ours = tools.join("bin/cargo-deny");
    let found = if step::is_installed("cargo-deny") { PathBuf::from("cargo-deny") } else { ours };
    if found.is_absolute() && !found.exists() {
        eprintln!("xtask: building cargo-deny into target/tools, once");
        let tools = tools.to_string_lossy().into_owned();
        cargo(&[
            "install",
            "cargo-deny",
            "--version",
            "0.20.2",
            "--locked",
            "--quiet",
            "--debug",
            "--root",
            &tools,
        ])?;
    }
    let check = |what: &[&str]| {
        let mut command = std::process::Command::new(&found);
        command.args(["--log-level", "error", "check"]).args(what);
        command
    };
    run(&mut check(&["bans", "licenses", "sources"]))?;
    let output = check(&["advisories"]).output().context("cannot run cargo-deny")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("failed to fetch advisory database") {
        eprintln!("xtask: advisories skipped: their database cannot be reached");
    } else if !output.status.success() {
        bail!("a library has a known fault, or was taken back:\n{said}");
    }
    Ok(())
}

/// Builds the simulator as a release and runs it: most of the time goes into many devices or many seeds.
fn simulate(arguments: &[String]) -> Result<()> {
    let mut command = cargo_command();
    command.args(["run", "--release", "--locked", "--quiet", "--package", "covey-simulate", "--"]);
    run(command.args(arguments))
}

fn openapi_now() -> Result<String> {
    step::build()?;
    let output = std::process::Command::new(conformance::binary())
        .arg("openapi")
        .output()
        .context("cannot run covey openapi")?;
    if !output.status.success() {
        bail!("covey openapi failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn openapi_path() -> PathBuf {
    root().join("openapi/covey.json")
}

fn check_openapi() -> Result<()> {
    let written = std::fs::read_to_string(openapi_path()).context("cannot read openapi/covey.json")?;
    if written != openapi_now()? {
        bail!(
            "openapi/covey.json is not what the code says; look at the difference after: cargo xtask openapi"
        );
    }
    Ok(())
}

fn write_openapi() -> Result<()> {
    Ok(std::fs::write(openapi_path(), openapi_now()?)?)
}

/// The root of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
