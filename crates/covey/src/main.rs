//! The command line of Covey, and the only place where its parts are wired
//! together.
// What documents the command line is its help text, where a URL stands bare.
#![allow(rustdoc::bare_urls)]

mod backup;
mod cli;
mod command;
mod deployment;
mod doctor;
mod fault;
mod logging;
mod memory;
mod migrate_store;
mod serve;
mod settings;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

/// Thousands of sessions make many small allocations of many sizes; this
/// allocator gives their memory back (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli::run(cli) {
        Ok(code) => code,
        Err(error) => fault::report(&error),
    }
}
