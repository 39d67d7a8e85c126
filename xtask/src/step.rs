//! Running things and saying so.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Does one step of a longer work, and says how long it took.
pub fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("xtask: {name} …");
    let began = Instant::now();
    work().with_context(|| format!("{name} failed"))?;
    eprintln!("xtask: {name}: done in {:.1} s", began.elapsed().as_secs_f32());
    Ok(())
}

/// Runs a command from the root of the workspace to its end.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status =
        command.current_dir(crate::root()).status().with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// Runs cargo.
pub fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new("cargo").args(arguments))
}

/// What a command prints.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output =
        command.current_dir(crate::root()).output().with_context(|| format!("cannot run {shown}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program is found on the PATH.
pub fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
