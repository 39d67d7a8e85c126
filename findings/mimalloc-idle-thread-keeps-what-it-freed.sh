#!/bin/sh
# mimalloc: a thread that has freed everything and then sleeps keeps all of it, for as long as it sleeps.
#
# The allocator gives pages back 10 ms after they became empty (MIMALLOC_PURGE_DELAY). That is looked at by calls of the
# thread that owns them, and only after some thousands of calls that do not end in its fast path: there is no thread
# that looks, and no time at which it must be done. A server whose threads are busy once an hour has the memory of its
# busiest minute.
#
# Guessed: within a second the memory is the system's. Seen: 200 MiB of blocks of 16 KiB are resident 20 s after they
# were freed, and after a hundred small calls more; gone after 10,000 calls for 2 KiB each.
# Way out: whoever goes to sleep makes these calls, or calls mi_collect, which is unsafe.
#
# Needs cargo and /proc. Builds in a temporary folder. Takes half a minute.
set -eu
MIMALLOC=0.1.52     # the crate
MIMALLOC_SYS=0.1.49 # with the library's source
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<TOML
[package]
name = "look"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
mimalloc = "=$MIMALLOC"
libmimalloc-sys = "=$MIMALLOC_SYS"
TOML
cat > src/main.rs <<'RUST'
use std::hint::black_box;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

fn main() {
    let before = resident_mib();
    let blocks: Vec<Vec<u8>> = (0..12_800).map(|number| vec![number as u8; 16 * 1024]).collect();
    let full = resident_mib();
    drop(black_box(blocks));
    std::thread::sleep(Duration::from_secs(20));
    let asleep = resident_mib();
    (0..100).for_each(|_| drop(black_box(vec![1_u8; 64])));
    let awake = resident_mib();
    (0..10_000).for_each(|_| drop(black_box(Vec::<u8>::with_capacity(2 * 1024))));
    let busy = resident_mib();
    println!(
        "MiB: {before} at first, {full} with all, {asleep} 20 s after all was freed, {awake} after 100 calls, {busy} after 10,000"
    );
    assert!(full >= before + 200, "the blocks were not there");
    assert!(asleep >= before + 190 && awake >= before + 190, "it is given back by itself now");
    assert!(busy <= before + 20, "it is not given back by calls any more");
}
RUST
cargo run --quiet --release
echo "seen with mimalloc $MIMALLOC: what an idle thread has freed stays with it"
