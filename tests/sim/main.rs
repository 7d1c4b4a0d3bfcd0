//! Two nodes in one thread: cores, disks with volatile caches, a network that breaks, operators who
//! meddle, all driven by one number. A failing seed replays exactly.
//!
//! ```text
//! cargo test --test sim                                        seeds 1 to 150
//! SEED_START=1000 SEEDS=5000 cargo test --release --test sim   others
//! SIM_SECONDS=600 ...                                          at most so long
//! SEED=42 SIM_TRACE=1 cargo test --test sim -- --nocapture     one, with all that happens
//! SIM_ALL=1 ...                                                goes on after a failure
//! ```

mod application;
mod checks;
mod disk;
mod judge;
mod network;
mod node;
mod script;
mod world;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};
use world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn clusters_survive_what_seeds_do_to_them() {
    let trace = std::env::var_os("SIM_TRACE").is_some();
    let keep_going = std::env::var_os("SIM_ALL").is_some();
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (number("SEED_START").unwrap_or(1), number("SEEDS").unwrap_or(150)),
    };
    let limit = number("SIM_SECONDS").map_or(Duration::MAX, Duration::from_secs);
    let begun = Instant::now();
    let mut failed = Vec::new();
    let mut total = world::Stats::default();
    let mut steps = 0;
    let mut writes = 0;
    let mut done = 0;
    for seed in first..first + count {
        if begun.elapsed() > limit {
            break;
        }
        let mut world = World::new(seed, trace);
        let result = catch_unwind(AssertUnwindSafe(|| world.run()));
        done += 1;
        steps += world.step;
        writes += world.judge.acknowledged;
        total.add(&world.stats);
        if result.is_err() {
            eprintln!("FAILED at step {}: SEED={seed} cargo test --test sim -- --nocapture", world.step);
            failed.push(seed);
            if !keep_going {
                break;
            }
        }
    }
    eprintln!(
        "{done} seeds, {steps} steps, {writes} writes, {total:?}, {:.1} s, {} failed",
        begun.elapsed().as_secs_f64(),
        failed.len()
    );
    assert!(
        failed.is_empty(),
        "failed seeds: {failed:?}; SEED=... cargo test --test sim -- --nocapture replays one"
    );
}
