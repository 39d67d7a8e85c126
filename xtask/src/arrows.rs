//! The arrows between crates point one way (ARCHITECTURE.md "Arrows").

use anyhow::{Result, bail};

use crate::step::{cargo_command, output};

/// What a crate must not depend on, however indirectly.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("covey-core", &["tokio", "serde", "rusqlite", "tokio-postgres", "lapin", "axum", "rmqtt", "rustls"]),
    ("covey-store", &["axum", "rmqtt", "lapin", "rumqttc-v5-next", "covey-http", "covey-link", "covey-pki"]),
    (
        "covey-link",
        &["rusqlite", "tokio-postgres", "axum", "covey-store", "covey-http", "covey-pki", "covey-webhook"],
    ),
    ("covey-pki", &["tokio", "rusqlite", "axum", "rmqtt", "covey-store", "covey-http", "covey-link"]),
    ("covey-http", &["rusqlite", "rmqtt", "covey-store", "covey-link", "covey-pki", "covey-webhook"]),
    ("covey-webhook", &["rusqlite", "axum", "rmqtt", "covey-store", "covey-link", "covey-http", "covey-pki"]),
    ("covey-client", &["covey-core", "covey-store", "covey-link", "covey-http", "covey-pki"]),
    ("covey-device", &["covey-core", "covey-store", "covey-link", "covey-http", "covey-pki"]),
    ("covey-sim", &["covey-core", "covey-store", "covey-link", "covey-http", "covey-pki"]),
];

/// Dependencies that must be found: a check that finds nothing anywhere proves nothing.
const EXPECTED: &[(&str, &str)] = &[
    ("covey", "tokio"),
    ("covey-store", "rusqlite"),
    ("covey-store", "tokio-postgres"),
    ("covey-link", "rmqtt"),
    ("covey-link", "lapin"),
    ("covey-webhook", "reqwest"),
];

pub fn check() -> Result<()> {
    for (from, to) in EXPECTED {
        if !depends(from, to)? {
            bail!("{from} should depend on {to}: is the check still looking at the right thing?");
        }
    }
    for (from, forbidden) in FORBIDDEN {
        for to in *forbidden {
            if depends(from, to)? {
                bail!("{from} must not depend on {to}; see: cargo tree -p {from} -e normal -i {to}");
            }
        }
    }
    Ok(())
}

/// Whether a crate depends on another in what it is built from, tests aside.
fn depends(from: &str, to: &str) -> Result<bool> {
    let tree = output(cargo_command().args([
        "tree",
        "--locked",
        "--package",
        from,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    Ok(tree.lines().any(|line| line.split_whitespace().next() == Some(to)))
}
