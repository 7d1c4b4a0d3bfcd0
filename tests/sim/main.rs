//! Two nodes in one thread: cores, disks with volatile caches, a network that breaks, operators who
//! meddle, all driven by one number. A failing seed replays exactly. README.md tells how to read one.
//!
//! ```text
//! make sim SEEDS=5000 SEED_START=1000    these seeds, on all cores
//! make sim SIM_SECONDS=600               as many as fit into that time
//! make sim SEED=42 SIM_TRACE=1           one, with all that happens
//! make sim-mutants                       the deliberate defects, and the seed that finds each
//! ```

mod application;
mod checks;
mod disk;
mod judge;
#[cfg(feature = "mutants")]
mod mutants;
mod network;
mod node;
mod plan;
mod report;
mod runner;
mod script;
mod shrink;
mod table;
mod world;

use plan::Plan;
use runner::{run, run_range, Range};
use std::time::Duration;
use world::Trace;

/// Seeds that run unless the environment says otherwise: few, for a core that is not optimised.
const SEEDS: u64 = 40;
/// Failures that are enough.
const FAILURES_MAX: usize = 10;
/// Failures that are made shorter.
const EXPLAINED_MAX: usize = 3;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

pub(crate) fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The seeds that the environment asks for, on all cores.
pub(crate) fn range(count: u64) -> Range {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let seconds = number("SIM_SECONDS");
    let count = number("SEEDS").unwrap_or(if seconds.is_some() { u64::MAX } else { count });
    Range {
        first: number("SEED_START").unwrap_or(1),
        step: number("SEED_STEP").unwrap_or(1).max(1),
        count,
        limit: seconds.map_or(Duration::MAX, Duration::from_secs),
        failures_max: FAILURES_MAX,
        threads: number("SIM_THREADS").unwrap_or(cores).max(1) as usize,
    }
}

#[test]
fn clusters_survive_what_seeds_do_to_them() {
    #[cfg(feature = "mutants")]
    mutants::activate_by_environment();
    match number("SEED") {
        Some(seed) => replay(Plan::from_environment(seed)),
        None => many(range(SEEDS)),
    }
}

/// One run. What goes wrong is not made shorter if the plan is that of a run that was.
fn replay(plan: Plan) {
    let trace = is_set("SIM_TRACE");
    let outcome = run(&plan, if trace { Trace::Print } else { Trace::Off });
    eprintln!("{plan}: {} steps, {} writes, {:?}", outcome.steps, outcome.writes, outcome.stats);
    let Some(failure) = outcome.failure else { return };
    if !trace && plan.keep.is_none() {
        report::explain(&plan, &failure);
    }
    panic!("{plan} fails at step {}: {}: {}", failure.step, failure.place, failure.text);
}

fn many(range: Range) {
    let total = run_range(range, |seed, failure| {
        eprintln!("FAILED: seed {seed} at step {}: {}: {}", failure.step, failure.place, failure.line());
    });
    for (seed, failure) in total.failures.iter().take(EXPLAINED_MAX) {
        report::explain(&Plan::new(*seed), failure);
    }
    eprintln!(
        "sim: {} seeds from {} on, {} steps, {} writes, {:?}, {:.1} s, {:.0} seeds/s, {} failed",
        total.seeds,
        range.first,
        total.steps,
        total.writes,
        total.stats,
        total.seconds,
        total.seeds as f64 / total.seconds.max(0.001),
        total.failures.len()
    );
    for (seed, failure) in &total.failures {
        eprintln!("{}    # {}", report::command(&Plan::new(*seed)), failure.line());
    }
    assert!(total.failures.is_empty(), "{} seeds failed", total.failures.len());
}
