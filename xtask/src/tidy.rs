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
/// Decisions of the past, which may name what is no more; every other document names paths that exist.
const DECISIONS: &str = "docs/adr/";
/// The first word of a path that a document names from the root.
const ROOMS: [&str; 9] =
    ["crates/", "xtask/", "conformance/", "docs/", "openapi/", "vendor/", "deploy/", "clients/", ".ci/"];

pub fn check(root: &Path) -> Result<()> {
    let mut problems = Vec::new();
    for file in
        output(Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]))?.lines()
    {
        if file.starts_with("vendor/") || !root.join(file).exists() {
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
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        problems.push(format!("{file}: {lines} lines, at most {FILE_LINES_MAX}"));
    }
    Ok(())
}

/// Every path in backquotes that begins with one of our rooms must exist.
fn check_document(root: &Path, document: &str, problems: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string(root.join(document))?;
    for quoted in text.split('`').skip(1).step_by(2) {
        let is_path = ROOMS.iter().any(|room| quoted.starts_with(room)) && !quoted.contains([' ', '*', '<']);
        if is_path && !root.join(quoted).exists() {
            problems.push(format!("{document}: names {quoted}, which does not exist"));
        }
    }
    Ok(())
}
