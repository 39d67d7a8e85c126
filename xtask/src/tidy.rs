//! What keeps the tree tidy: files that open with what they are for, files
//! that stay readable, documents that name paths which exist.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::output;

/// No source file of ours is longer than this, in lines.
const FILE_LINES_MAX: usize = 1_000;
/// Folders that say nothing about what is in them.
const VAGUE_FOLDERS: [&str; 4] = ["common", "utils", "helpers", "manager"];
/// What would keep a test from being run: a test takes its services from the test bed, starts itself once
/// more where it needs a process to kill, and measures nothing, which is for `benches/`.
const IGNORED: &str = concat!("#[", "ignore");
/// Decisions of the past, which may name what is no more; every other document names paths that exist.
const DECISIONS: &str = "docs/adr/";
/// The first word of a path that a document names from the root.
const ROOMS: [&str; 8] =
    ["crates/", "xtask/", "conformance/", "docs/", "openapi/", "deploy/", "clients/", ".ci/"];

/// The crates that a server is made of, whose lines go through `crates/covey-log`: it bounds what a peer can
/// make them write.
const SERVER_CRATES: [&str; 13] = [
    "covey-api",
    "covey-core",
    "covey-discovery",
    "covey-doctor",
    "covey-gateway",
    "covey-http",
    "covey-link",
    "covey-net",
    "covey-pki",
    "covey-store",
    "covey-token",
    "covey-webhook",
    "covey-wire",
];
/// What would write past it; and names of fields under which it would not know a peer.
const PAST_THE_LOG: [&str; 10] = [
    "eprint!(",
    "eprintln!(",
    "print!(",
    "println!(",
    "tracing_subscriber::",
    "%addr,",
    "%peer,",
    "%remote",
    "serial_number = %",
    "%ip,",
];

/// What stands for a noun of the core in a path.
const NOUN: &str = "<noun>";

pub fn check(root: &Path) -> Result<()> {
    let mut problems = Vec::new();
    for file in
        output(Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]))?.lines()
    {
        if !root.join(file).exists() {
            continue;
        }
        if file.split('/').any(|folder| VAGUE_FOLDERS.contains(&folder)) {
            problems.push(format!("{file}: the folder's name says nothing about what is in it"));
        }
        if file.ends_with(".rs") {
            check_source(root, file, &mut problems)?;
        }
        if file.ends_with(".md") && !file.starts_with(DECISIONS) {
            check_document(root, file, &mut problems)?;
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("the tree is not tidy:\n  {}", problems.join("\n  "))
}

fn check_source(root: &Path, file: &str, problems: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string(root.join(file))?;
    if !text.starts_with("//!") {
        problems.push(format!("{file}: must open with //! and what it is for"));
    }
    if let Some(line) = text.lines().position(|line| line.contains(IGNORED)) {
        problems.push(format!("{file}:{}: no test is ignored", line + 1));
    }
    let is_of_server = |name: &&str| file.starts_with(&format!("crates/{name}/src/"));
    if SERVER_CRATES.iter().any(is_of_server) {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().starts_with("//")) {
            if let Some(past) = PAST_THE_LOG.iter().find(|past| line.contains(*past)) {
                let number = number + 1;
                problems.push(format!(
                    "{file}:{number}: {past} goes past crates/covey-log, or hides a peer from it"
                ));
            }
        }
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        problems.push(format!("{file}: {lines} lines, at most {FILE_LINES_MAX}"));
    }
    Ok(())
}

/// Every path in backquotes that begins with one of our rooms must exist; one with [`NOUN`] in
/// it must do so for a noun of the core, and one with a test behind it (`PATH::NAME`) must have that test.
fn check_document(root: &Path, document: &str, problems: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string(root.join(document))?;
    let nouns = nouns(root)?;
    for quoted in text.split('`').skip(1).step_by(2) {
        let is_path = ROOMS.iter().any(|room| quoted.starts_with(room));
        if is_path && !quoted.replace(NOUN, "").contains([' ', '*', '<']) && !exists(root, quoted, &nouns) {
            problems.push(format!("{document}: names {quoted}, which does not exist"));
        }
    }
    Ok(())
}

/// Whether a path is there, with some noun in the place of [`NOUN`].
fn exists(root: &Path, path: &str, nouns: &[String]) -> bool {
    if let Some((file, test)) = path.split_once("::") {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        return ["fn ", "def "].iter().any(|word| text.contains(&format!("{word}{test}(")));
    }
    if path.contains(NOUN) {
        nouns.iter().any(|noun| root.join(path.replace(NOUN, noun)).exists())
    } else {
        root.join(path).exists()
    }
}

/// The folders of the core that have a part of the store port.
fn nouns(root: &Path) -> Result<Vec<String>> {
    let mut nouns = Vec::new();
    for entry in std::fs::read_dir(root.join("crates/covey-core/src"))? {
        let entry = entry?;
        if entry.path().join("port.rs").exists() {
            nouns.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(nouns)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_with_a_placeholder_exists_for_a_noun_of_the_core() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let nouns = nouns(root).unwrap();
        assert!(nouns.iter().any(|noun| noun == "task"), "{nouns:?}");
        assert!(exists(root, "crates/covey-core/src/<noun>/port.rs", &nouns));
        assert!(!exists(root, "crates/covey-core/src/<noun>/nothing.rs", &nouns));
    }

    #[test]
    fn a_test_that_a_document_names_is_in_the_file_that_it_names() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let own = "a_test_that_a_document_names_is_in_the_file_that_it_names";
        assert!(exists(root, &format!("xtask/src/tidy.rs::{own}"), &[]));
        assert!(exists(root, "conformance/test_access.py::test_a_missing_right_is_403", &[]));
        assert!(!exists(root, "xtask/src/tidy.rs::is_not_there", &[]));
    }
}
