//! A test that starts itself once more, as a process that does the work and may be killed.

use std::process::Command;

/// Says to the process that it is a child, and what it works on, one thing a line.
const CHILD: &str = "COVEY_TEST_CHILD";

/// What the test that started this process has said to it; nothing if nobody did.
pub fn orders() -> Option<Vec<String>> {
    std::env::var(CHILD).ok().map(|orders| orders.lines().map(str::to_owned).collect())
}

/// The program and the arguments that run one test of this program.
pub fn words(test: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    [program.as_str(), "--exact", test, "--nocapture"].map(ToOwned::to_owned).to_vec()
}

/// Makes a command run a test as a child with its orders.
pub fn order<'a>(command: &'a mut Command, orders: &[&str]) -> &'a mut Command {
    command.env(CHILD, orders.join("\n"))
}

/// A test as a process of its own.
pub fn command(test: &str, orders: &[&str]) -> Command {
    let words = words(test);
    let mut command = Command::new(&words[0]);
    order(command.args(&words[1..]), orders);
    command
}
