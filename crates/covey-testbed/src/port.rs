//! Free ports on loopback: each set of services has a block of its own, so
//! that sets which start at the same time do not take each other's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Below the range from which the system gives ports to clients, so that no
/// client takes one while its service is down; and beside those that the
/// conformance suite keeps for its servers.
const PORTS: Range<u16> = 11_000..20_000;
/// A broker takes about thirty ports, a cluster forty, each deployment's Mosquitto one.
const BLOCK: u16 = 200;

/// A set's claim to a block; nobody else claims one while this lives, so the
/// set must have been written to its folder before it is dropped.
pub struct Claim {
    pub first: u16,
    _lock: File,
}

/// Claims the first block that belongs to no set of services that is still there.
pub fn claim(dir: &Path, state: &str) -> Result<Claim> {
    claim_in(&registry(), dir, state)
}

/// Where this user's claims are: a file for each block, which names the set's folder.
fn registry() -> PathBuf {
    PathBuf::from(format!("/tmp/covey-services-ports-{}", rustix::process::geteuid().as_raw()))
}

fn claim_in(registry: &Path, dir: &Path, state: &str) -> Result<Claim> {
    let cannot = || format!("cannot keep track of ports in {}", registry.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(registry).with_context(cannot)?;
    let lock = File::create(registry.join("lock")).with_context(cannot)?;
    lock.lock().with_context(cannot)?;
    for first in PORTS.step_by(BLOCK.into()) {
        let file = registry.join(first.to_string());
        let owner = fs::read_to_string(&file).unwrap_or_default();
        let is_free = owner.is_empty() || Path::new(&owner) == dir || !Path::new(&owner).join(state).exists();
        if is_free {
            fs::write(&file, dir.display().to_string()).with_context(cannot)?;
            return Ok(Claim { first, _lock: lock });
        }
    }
    bail!("too many sets of services; remove some with: cargo xtask services down --purge --dir DIR");
}

/// Gives out ports of a block that are free now, each once.
pub struct FreePorts {
    block: Range<u16>,
    given: BTreeSet<u16>,
}

impl FreePorts {
    /// Those of a block except for the kept ones, though nobody may listen on them now.
    pub fn new(first: u16, kept: impl IntoIterator<Item = u16>) -> Self {
        Self { block: first..first.saturating_add(BLOCK), given: kept.into_iter().collect() }
    }

    /// A port that is free now.
    pub fn take(&mut self) -> Result<u16> {
        let is_free = |port: &u16| {
            !self.given.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
        };
        let Some(port) = self.block.clone().find(is_free) else {
            bail!("no port from {} to {} is free", self.block.start, self.block.end - 1);
        };
        self.given.insert(port);
        Ok(port)
    }

    /// Several ports.
    pub fn take_many(&mut self, count: usize) -> Result<Vec<u16>> {
        (0..count).map(|_| self.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_port_is_given_twice_nor_one_that_is_kept_or_in_use() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let first = listener.local_addr().unwrap().port().min(u16::MAX - BLOCK);
        let mut ports = FreePorts::new(first, [first + 1]);
        let given: BTreeSet<u16> = ports.take_many(20).unwrap().into_iter().collect();
        assert_eq!(given.len(), 20);
        assert!(!given.contains(&listener.local_addr().unwrap().port()) && !given.contains(&(first + 1)));
        drop(listener);
    }

    #[test]
    fn two_sets_have_two_blocks_and_a_removed_set_gives_its_own_back() {
        let registry = std::env::temp_dir().join(format!("covey-ports-test-{}", std::process::id()));
        let sets = ["one", "two"].map(|name| registry.join(name));
        for set in &sets {
            fs::create_dir_all(set).unwrap();
        }
        let claim = |set: &PathBuf| {
            let claim = claim_in(&registry, set, "state").unwrap();
            fs::write(set.join("state"), "").unwrap();
            claim.first
        };
        let (one, two) = (claim(&sets[0]), claim(&sets[1]));
        assert_eq!((one, two), (PORTS.start, PORTS.start + BLOCK));
        fs::remove_file(sets[0].join("state")).unwrap();
        assert_eq!(claim(&sets[0]), one);
        fs::remove_dir_all(&registry).unwrap();
    }
}
