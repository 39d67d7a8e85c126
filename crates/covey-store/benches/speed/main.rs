//! How fast the stores are: `cargo bench -p covey-store --bench speed`, or one measurement of
//! `calls`, `events`, `migration`, `reports` and `turns`: `cargo bench -p covey-store --bench speed -- calls`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
#[path = "../../tests/all/database.rs"]
mod database;
#[path = "../../tests/all/migrate/mass.rs"]
mod mass;
mod migration;
#[allow(dead_code, unused_imports)]
#[path = "../../src/queue/mod.rs"]
mod queue;
#[allow(dead_code)]
#[path = "../../tests/all/migrate/random.rs"]
mod random;
mod stores;
mod turns;
#[path = "../../../covey-core/tests/all/world/mod.rs"]
mod world;

const MEASUREMENTS: [(&str, fn()); 5] = [
    ("calls", stores::calls),
    ("events", stores::events),
    ("migration", migration::migration),
    ("reports", stores::reports),
    ("turns", turns::turns),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this as well, and says no such word: that it starts is enough then.
    if !words.iter().any(|word| word == "--bench") {
        return;
    }
    let is_named = |name: &str| words.iter().any(|word| word == name);
    let is_any_named = MEASUREMENTS.iter().any(|(name, _)| is_named(name));
    for (name, measure) in MEASUREMENTS {
        if !is_any_named || is_named(name) {
            measure();
        }
    }
}
