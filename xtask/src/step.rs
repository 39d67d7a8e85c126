//! Running things and saying so.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The profile that cargo builds with in this run; `dev` if none is set.
static PROFILE: OnceLock<&str> = OnceLock::new();

/// Builds for one run of everything, not for the next edit: what is built goes to a folder of its own.
pub fn build_for_ci() {
    let _ = PROFILE.set("ci");
}

/// The profile that cargo builds with.
pub fn profile() -> &'static str {
    PROFILE.get().copied().unwrap_or("dev")
}

/// A program of the workspace, as cargo builds it with the profile of this run.
pub fn built(program: &str) -> PathBuf {
    let folder = if profile() == "dev" { "debug" } else { profile() };
    crate::root().join("target").join(folder).join(program)
}

/// Builds all programs and all tests of the workspace. Always all of them, because cargo chooses the
/// features of the dependencies for what it builds at a time: for fewer crates it builds them again.
pub fn build() -> Result<()> {
    let arguments = ["build", "--workspace", "--all-targets", "--locked", "--quiet", "--profile", profile()];
    step("building programs and tests", || cargo(&arguments))
}

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

/// Runs a command from the root of the workspace to its end, and only then prints what it said.
pub fn run_and_say_after(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let output =
        command.current_dir(crate::root()).output().with_context(|| format!("cannot run {shown}"))?;
    let mut ours = std::io::stdout().lock();
    ours.write_all(&output.stdout)?;
    ours.write_all(&output.stderr)?;
    if !output.status.success() {
        bail!("{shown} ended with {}", output.status);
    }
    Ok(())
}

/// Runs cargo.
pub fn cargo(arguments: &[&str]) -> Result<()> {
    run(cargo_command().args(arguments))
}

/// Cargo, without what the cargo that runs us says of us: the build script of `ring` asks to be
/// run again when one of these variables changes, and half of the workspace is built after it.
pub fn cargo_command() -> Command {
    let mut cargo = Command::new("cargo");
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    }) {
        cargo.env_remove(name);
    }
    cargo
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
