//! What a person sees when a command fails: one line that says what to do.

use std::io::Write;
use std::process::ExitCode;

/// A fault of the surroundings: a port in use, a folder that cannot be read, a
/// configuration that is wrong. The command ends with [`SETUP_EXIT_CODE`].
#[derive(Debug)]
pub struct SetupFault(pub String);

/// The exit code for a fault of the surroundings.
pub const SETUP_EXIT_CODE: u8 = 2;

impl std::fmt::Display for SetupFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SetupFault {}

/// A fault of the surroundings, as the error of a command.
pub fn setup(problem: impl std::fmt::Display) -> anyhow::Error {
    anyhow::Error::new(SetupFault(problem.to_string()))
}

/// Prints an error and answers the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let text = format!("{error:#}").replace('\n', " ");
    let _ = writeln!(std::io::stderr(), "covey: {text}");
    if error.downcast_ref::<SetupFault>().is_some() {
        ExitCode::from(SETUP_EXIT_CODE)
    } else {
        ExitCode::FAILURE
    }
}

/// Whoever read our output has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
