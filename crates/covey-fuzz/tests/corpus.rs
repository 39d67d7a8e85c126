//! Every target over its corpus, and over mutations of it.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use covey_fuzz::{TARGETS, mutated};

/// How many inputs of each target are tried; `COVEY_FUZZ_INPUTS=20000000 cargo test --release -p covey-fuzz` tries more.
const INPUTS: u64 = 100_000;
/// After so many inputs a target has taken what memory it takes.
const WARM: u64 = 2_000;
/// What all inputs of a target may add to the memory of the process, in KiB: what two of them leave behind for each tenth.
const GROWTH_KIB: u64 = 4 * 1024;

fn inputs() -> u64 {
    std::env::var("COVEY_FUZZ_INPUTS").map_or(INPUTS, |count| count.parse().unwrap())
}

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn what_a_corpus_holds_is_read_unless_its_name_says_that_it_is_wrong() {
    let mut otherwise = Vec::new();
    for (name, target) in TARGETS {
        let paths = corpus(name);
        assert!(paths.len() > 2, "{name} has a corpus");
        otherwise.extend(paths.into_iter().filter(|path| {
            let is_wrong = path.file_name().unwrap().to_str().unwrap().starts_with("wrong");
            target(&std::fs::read(path).unwrap()) == is_wrong
        }));
    }
    assert!(otherwise.is_empty(), "{otherwise:?}");
}

/// The most memory that the process has had, in KiB, since it was last asked to forget.
fn most_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn no_input_makes_a_target_panic_or_keep_memory() {
    for (name, target) in TARGETS {
        let corpus: Vec<_> = corpus(name).iter().map(|path| std::fs::read(path).unwrap()).collect();
        mutated(&corpus, WARM, 1, |input| {
            target(input);
        });
        let before = most_memory_kib();
        let mut read = 0;
        mutated(&corpus, inputs(), 2, |input| read += u64::from(target(input)));
        // What is never read is no test of what reads.
        assert!(read > inputs() / 1_000 && read < inputs(), "{name} read {read}");
        let grown = most_memory_kib() - before;
        assert!(grown < GROWTH_KIB, "{name} has grown by {grown} KiB");
    }
}
