//! `covey-testbed`: services for tests from a shell, and from tests in other languages.

use std::process::ExitCode;

use clap::Parser;
use covey_testbed::command::Arguments;

fn main() -> ExitCode {
    match Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
