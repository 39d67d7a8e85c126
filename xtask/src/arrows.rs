//! The arrows between crates point one way (ARCHITECTURE.md "Arrows"): what may depend on what is
//! listed here, and all else fails.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::step::{cargo_command, output};

/// Each crate of the workspace, with the others that it may depend on. A crate that is not here fails.
/// What tests alone depend on is free: those of the core need a store.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "covey",
        &[
            "covey-api",
            "covey-client",
            "covey-core",
            "covey-discovery",
            "covey-doctor",
            "covey-gateway",
            "covey-http",
            "covey-link",
            "covey-log",
            "covey-pki",
            "covey-sim",
            "covey-store",
            "covey-token",
            "covey-webhook",
        ],
    ),
    ("covey-api", &[]),
    ("covey-client", &["covey-api"]),
    ("covey-core", &[]),
    ("covey-device", &["covey-discovery", "covey-wire"]),
    ("covey-discovery", &[]),
    ("covey-doctor", &["covey-core"]),
    ("covey-fuzz", &["covey-api", "covey-core", "covey-gateway", "covey-pki", "covey-token", "covey-wire"]),
    ("covey-gateway", &["covey-api", "covey-core", "covey-net", "covey-wire"]),
    ("covey-http", &["covey-api", "covey-core", "covey-net", "covey-token"]),
    ("covey-link", &["covey-core", "covey-net", "covey-wire"]),
    ("covey-log", &[]),
    ("covey-net", &["covey-wire"]),
    ("covey-pki", &[]),
    ("covey-sim", &["covey-client", "covey-device", "covey-wire"]),
    ("covey-simulate", &["covey-core", "covey-link", "covey-net", "covey-store", "covey-wire"]),
    ("covey-store", &["covey-core"]),
    ("covey-testbed", &["covey-pki"]),
    ("covey-token", &["covey-core"]),
    ("covey-webhook", &["covey-api", "covey-core"]),
    ("covey-wire", &[]),
    ("xtask", &[]),
];

/// A runtime, a database or a protocol, and the crates that may have it among all that they are
/// built from. Each must be found in each of them: a check that finds nothing proves nothing.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("axum", &["covey", "covey-fuzz", "covey-gateway", "covey-http"]),
    ("lapin", &["covey", "covey-link", "covey-simulate"]),
    ("mdns-sd", &["covey", "covey-discovery", "covey-sim"]),
    ("reqwest", &["covey", "covey-client", "covey-link", "covey-sim", "covey-simulate", "covey-webhook"]),
    ("rumqttc-v5-next", &["covey", "covey-device", "covey-link", "covey-sim", "covey-simulate"]),
    ("rusqlite", &["covey", "covey-simulate", "covey-store"]),
    (
        "tokio",
        &[
            "covey",
            "covey-client",
            "covey-device",
            "covey-discovery",
            "covey-fuzz",
            "covey-gateway",
            "covey-http",
            "covey-link",
            "covey-net",
            "covey-sim",
            "covey-simulate",
            "covey-store",
            "covey-token",
            "covey-webhook",
        ],
    ),
    ("tokio-postgres", &["covey", "covey-simulate", "covey-store"]),
    ("utoipa", &["covey", "covey-http"]),
];

/// All that the core is built from, so that it stays without a runtime, a database, a protocol and JSON.
const CORE: &str = "covey-core";
const CORE_TREE: &[&str] = &[
    "block-buffer",
    "cfg-if",
    "const-oid",
    "covey-core",
    "cpufeatures",
    "crypto-common",
    "digest",
    "futures-channel",
    "futures-core",
    "getrandom",
    "hybrid-array",
    "ipnet",
    "libc",
    "proc-macro2",
    "quote",
    "sha2",
    "syn",
    "thiserror",
    "thiserror-impl",
    "typenum",
    "unicode-ident",
    "uuid",
];

/// What a crate is built from, tests aside.
struct Tree {
    /// What it names itself.
    direct: BTreeSet<String>,
    /// All of it, however indirect, itself included.
    all: BTreeSet<String>,
}

pub fn check() -> Result<()> {
    let members = members()?;
    let mut problems = Vec::new();
    for member in &members {
        problems.extend(problems_of(member, &members, &tree(member)?));
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("xtask/src/arrows.rs says otherwise:\n  {}", problems.join("\n  "))
}

fn problems_of(member: &str, members: &BTreeSet<String>, tree: &Tree) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == member) else {
        return vec![format!("{member} is not in the list of crates")];
    };
    let arrows = tree.direct.iter().filter(|name| members.contains(*name));
    let mut problems: Vec<String> = arrows
        .filter(|name| !allowed.contains(&name.as_str()))
        .map(|name| format!("{member} must not depend on {name}"))
        .collect();
    for (library, owners) in LIBRARIES {
        match (owners.contains(&member), tree.all.contains(*library)) {
            (false, true) => problems.push(format!(
                "{member} must not be built from {library}; see: cargo tree -p {member} -e normal -i {library}"
            )),
            (true, false) => problems.push(format!("{member} is built without {library}, which it may have")),
            _ => {}
        }
    }
    if member == CORE {
        let foreign = tree.all.iter().filter(|name| !CORE_TREE.contains(&name.as_str()));
        problems.extend(foreign.map(|name| format!("{CORE} must not be built from {name}")));
    }
    problems
}

/// The crates of the workspace.
fn members() -> Result<BTreeSet<String>> {
    let printed =
        output(cargo_command().args(["metadata", "--locked", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&printed).context("cargo metadata printed no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata told no packages")?;
    Ok(packages.iter().filter_map(|package| package["name"].as_str().map(str::to_owned)).collect())
}

fn tree(member: &str) -> Result<Tree> {
    let printed = output(cargo_command().args([
        "tree",
        "--locked",
        "--package",
        member,
        "--edges",
        "normal",
        "--prefix",
        "depth",
        "--format",
        "{p}",
    ]))?;
    let tree = read_tree(&printed);
    if !tree.all.contains(member) {
        bail!("cargo tree does not show {member} itself");
    }
    Ok(tree)
}

/// Reads lines such as `1covey-core v0.1.0 (/path)`: the depth, the name, the version.
fn read_tree(printed: &str) -> Tree {
    let mut tree = Tree { direct: BTreeSet::new(), all: BTreeSet::new() };
    for word in printed.lines().filter_map(|line| line.split_whitespace().next()) {
        let name = word.trim_start_matches(|character: char| character.is_ascii_digit());
        if word.strip_suffix(name) == Some("1") {
            tree.direct.insert(name.to_owned());
        }
        tree.all.insert(name.to_owned());
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(printed: &str) -> Vec<String> {
        let members = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let tree = read_tree(printed);
        let member = printed.trim_start_matches('0').split_whitespace().next().unwrap_or_default();
        problems_of(member, &members, &tree)
    }

    #[test]
    fn what_is_not_listed_fails() {
        assert!(problems("0covey-pki v0.1.0 (/p)\n1time v0.3.0\n").is_empty());
        assert_eq!(
            problems("0covey-pki v0.1.0\n1covey-core v0.1.0\n2uuid v1.0.0\n"),
            ["covey-pki must not depend on covey-core"]
        );
        // Through another crate of ours is no arrow of its own.
        assert!(problems("0covey-testbed v0.1.0\n1covey-pki v0.1.0\n2time v0.3.0\n").is_empty());
        assert_eq!(problems("0covey-new v0.1.0\n"), ["covey-new is not in the list of crates"]);
    }

    #[test]
    fn the_core_has_no_runtime_and_those_that_have_one_show_it() {
        assert!(problems("0covey-core v0.1.0\n1thiserror v2.0.0\n2syn v3.0.0 (*)\n").is_empty());
        assert_eq!(problems("0covey-core v0.1.0\n1uuid v1.0.0\n2tokio v1.0.0\n").len(), 2);
        assert_eq!(
            problems("0covey-core v0.1.0\n1serde v1.0.0\n"),
            ["covey-core must not be built from serde"]
        );
        let store = "0covey-store v0.1.0\n1covey-core v0.1.0\n1rusqlite v0.1.0\n1tokio-postgres v0.1.0\n";
        assert_eq!(problems(store), ["covey-store is built without tokio, which it may have"]);
    }
}
