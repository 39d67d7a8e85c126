//! The suite of tests with clients that others wrote, and what it needs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::{self, built, output, run, step};
use crate::{root, testbed};

/// The binary that is tested: `COVEY_BIN`, else the one that cargo builds.
pub fn binary() -> PathBuf {
    std::env::var_os("COVEY_BIN").map_or_else(|| built("covey"), PathBuf::from)
}

/// The shape that needs no services; it runs the whole suite.
const EMBEDDED: &str = "sqlite+embedded";
/// The others run what makes sense in them (`FULL_SHAPES` of `conformance/conftest.py`).
const DISTRIBUTED: [&str; 5] =
    ["postgres+rabbitmq", "sqlite+mosquitto", "postgres+embedded", "sqlite+rabbitmq", "postgres+mosquitto"];
/// What stands for all of them.
const ALL: &str = "all";
/// The oldest Node that the libraries of `conformance/package.json` run on.
const NODE_MIN: (u32, u32) = (20, 19);

/// What `cargo xtask conformance` was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    shapes: Vec<String>,
    has_faults: bool,
    pytest: Vec<String>,
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut request = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--shape" => match rest.next().map(String::as_str) {
                    Some(ALL) => request.shapes.extend(every_shape().map(str::to_owned)),
                    Some(shape) if every_shape().any(|known| known == shape) => {
                        request.shapes.push(shape.to_owned());
                    }
                    other => bail!(
                        "{} is no shape; they are: {ALL}, {}",
                        other.unwrap_or("nothing"),
                        every_shape().collect::<Vec<_>>().join(", ")
                    ),
                },
                "--faults" => request.has_faults = true,
                _ => request.pytest.push(argument.clone()),
            }
        }
        if request.shapes.is_empty() && !request.has_faults {
            request.shapes.push(EMBEDDED.to_owned());
        }
        Ok(request)
    }
}

/// The one that needs no services comes last: what its runner says is what a reader looks for.
fn every_shape() -> impl Iterator<Item = &'static str> {
    DISTRIBUTED.into_iter().chain([EMBEDDED])
}

/// Runs the suite in the shapes that are asked for, the embedded one if none is.
pub fn run_suite(arguments: &[String]) -> Result<()> {
    let Request { shapes, has_faults, pytest } = Request::parse(arguments)?;
    prepare_and_build()?;
    let (embedded, distributed): (Vec<_>, Vec<_>) = shapes.iter().partition(|shape| *shape == EMBEDDED);
    let mut failures = Failures::default();
    if has_faults {
        failures.note("faults", run_faults(&pytest));
    }
    if !distributed.is_empty() {
        testbed::while_shared(|| {
            for shape in distributed {
                failures.note(shape, run_shape(shape, &pytest));
            }
            Ok(())
        })?;
    }
    if !embedded.is_empty() {
        failures.note(EMBEDDED, run_shape(EMBEDDED, &pytest));
    }
    failures.end()
}

/// Runs everything that needs services of other makers, and the suite in the
/// embedded shape. Nothing is said after the last runner, if it says no failure.
pub fn run_everything() -> Result<()> {
    prepare_and_build()?;
    let mut failures = Failures::default();
    std::thread::scope(|scope| {
        // Faults break services of their own, and mostly wait for what comes of it.
        let faults = scope.spawn(run_faults_beside);
        let shapes = testbed::while_shared(|| {
            for shape in DISTRIBUTED {
                failures.note(shape, run_shape(shape, &[]));
            }
            Ok(())
        });
        let outcome = faults.join().unwrap_or_else(|_| bail!("the thread that runs them panicked"));
        failures.note("faults", outcome);
        shapes
    })?;
    failures.note(EMBEDDED, run_shape(EMBEDDED, &[]));
    failures.end()
}

/// What failed. The rest runs all the same, so that one run tells everything.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn note(&mut self, what: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            eprintln!("xtask: {what}: {error:#}");
            self.0.push(what.to_owned());
        }
    }

    fn end(self) -> Result<()> {
        if !self.0.is_empty() {
            bail!("failed: {}", self.0.join(", "));
        }
        Ok(())
    }
}

fn prepare_and_build() -> Result<()> {
    step::build()?;
    step("what the conformance suite needs", || prepare().map(drop))
}

fn run_faults(arguments: &[String]) -> Result<()> {
    let mut pytest = pytest_under_faults()?;
    step("the suite under faults", || run(pytest.args(arguments)))
}

/// Says nothing before its end: what other tests say meanwhile stays readable.
fn run_faults_beside() -> Result<()> {
    step("the suite under faults, beside the others", || step::run_and_say_after(&mut pytest_under_faults()?))
}

/// One fault after the other: each starts services that take a good part of the machine.
fn pytest_under_faults() -> Result<Command> {
    let mut pytest = pytest(EMBEDDED)?;
    pytest.env("COVEY_FAULTS", "1").args(fault_tests()?).args(["-n", "0"]);
    Ok(pytest)
}

fn run_shape(shape: &str, arguments: &[String]) -> Result<()> {
    eprintln!("xtask: the suite as {shape} …");
    // Most tests wait. Those of RabbitMQ wait for RabbitMQ, which has enough to do with three at a time.
    let at_a_time = if shape.ends_with("+rabbitmq") { "3" } else { "5" };
    run(pytest(shape)?.args(["conformance", "-n", at_a_time]).args(arguments))
}

fn pytest(shape: &str) -> Result<Command> {
    let mut command = Command::new(venv().join("bin/pytest"));
    command.env("COVEY_SHAPE", shape).env("COVEY_BIN", binary()).env("COVEY_TESTBED", testbed::binary());
    Ok(command)
}

/// The files of the tests that break things.
fn fault_tests() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join("conformance"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("test_faults_") && name.ends_with(".py") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn venv() -> PathBuf {
    root().join("target/conformance-venv")
}

/// Installs what is missing. Answers the interpreter that has the clients that others wrote: tests of crates speak with
/// them, too (`COVEY_PYTHON`).
pub fn prepare() -> Result<PathBuf> {
    run(Command::new(testbed::binary()).arg("install"))?;
    prepare_node()?;
    let python = venv().join("bin/python");
    let requirements = root().join("conformance/requirements.txt");
    let unpackaged = root().join("conformance/testbed/unpackaged.py");
    let wanted = [std::fs::read(&requirements)?, std::fs::read(&unpackaged)?].concat();
    let stamp = venv().join("requirements.installed");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(venv()))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&requirements))?;
    run(Command::new(&python).arg(&unpackaged).arg(venv().join("micropython")))?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}

/// Installs the libraries for Node that are missing.
fn prepare_node() -> Result<()> {
    let version = output(Command::new("node").arg("--version"))?;
    if !is_new_enough(&version) {
        let (major, minor) = NODE_MIN;
        bail!(
            "Node {} is too old for the tests: they need {major}.{minor} or newer (https://nodejs.org)",
            version.trim()
        );
    }
    let folder = root().join("conformance");
    let wanted = std::fs::read(folder.join("package-lock.json"))?;
    let stamp = folder.join("node_modules/lock.installed");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"];
    run(Command::new("npm").args(options).arg(&folder))?;
    Ok(std::fs::write(stamp, wanted)?)
}

/// Whether Node, which says `v20.19.5`, is as new as its libraries want.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim().trim_start_matches('v').split('.').map(str::parse);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= NODE_MIN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(line: &str) -> Result<Request> {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn an_old_node_is_told_from_a_new_one() {
        assert!(["v20.19.0", "v20.20.2\n", "v22.1.0"].iter().all(|version| is_new_enough(version)));
        assert!(["v18.20.4", "v20.18.9", "", "20"].iter().all(|version| !is_new_enough(version)));
    }

    #[test]
    fn without_a_shape_it_is_the_embedded_one() {
        let request = parsed("-k push -x").unwrap();
        assert_eq!(
            (request.shapes, request.pytest),
            (vec![EMBEDDED.to_owned()], vec!["-k".to_owned(), "push".to_owned(), "-x".to_owned()])
        );
        assert_eq!(parsed("--faults").unwrap(), Request { has_faults: true, ..Request::default() });
    }

    #[test]
    fn shapes_are_those_that_are_named_and_the_embedded_one_is_last_of_all() {
        let request = parsed("--shape sqlite+rabbitmq -v --shape postgres+embedded").unwrap();
        assert_eq!(request.shapes, ["sqlite+rabbitmq", "postgres+embedded"]);
        assert_eq!(request.pytest, ["-v"]);
        let all = parsed("--shape all").unwrap().shapes;
        assert_eq!((all.len(), all.last().unwrap().as_str()), (6, EMBEDDED));
        assert!(parsed("--shape mysql+embedded").is_err() && parsed("--shape").is_err());
    }
}
