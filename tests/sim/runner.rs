//! Runs seeds on all cores, and finds out how they end.

use crate::plan::Plan;
use crate::world::{Stats, Trace, World};
use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

/// A run that a check ended.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What the check said.
    pub text: String,
    /// Where the check is.
    pub place: String,
    pub step: u64,
    /// Steps at which something came from outside of the nodes.
    pub planned: Vec<u64>,
}

impl Failure {
    /// What stays the same when the run becomes shorter: where it failed, and the text without its numbers.
    pub fn kind(&self) -> String {
        let first = self.text.lines().next().unwrap_or_default();
        let words = first.split(|c: char| !c.is_alphabetic()).filter(|word| word.len() > 2);
        let words: Vec<_> = words.take(6).collect();
        format!("{} {}", self.place, words.join(" "))
    }

    /// The first line, not too long.
    pub fn line(&self) -> String {
        let line = self.text.lines().next().unwrap_or_default();
        let line = if line.ends_with(": ") { line.trim_end_matches(": ") } else { line };
        let mut short: String = line.chars().take(150).collect();
        if short.len() < line.len() {
            short += " ...";
        }
        short
    }
}

/// What one run did.
pub struct Outcome {
    pub steps: u64,
    pub writes: u64,
    pub stats: Stats,
    pub failure: Option<Failure>,
    /// What happened, if it was to be noted.
    pub lines: Vec<String>,
}

thread_local! {
    /// The message and the place of the last panic of this thread, while it runs a seed silently.
    static PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
    static SILENT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn keep_panics_silent() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let place = info.location().map_or(String::new(), |at| format!("{}:{}", at.file(), at.line()));
            PANIC.set(Some((text.unwrap_or_default(), place)));
            if !SILENT.get() {
                before(info);
            }
        }));
    });
}

/// Runs a plan to its end.
pub fn run(plan: &Plan, trace: Trace) -> Outcome {
    keep_panics_silent();
    let silent = !matches!(trace, Trace::Print);
    let before = SILENT.replace(silent);
    let mut world = World::new(plan.clone(), trace);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    SILENT.set(before);
    let failure = ended.is_err().then(|| {
        let (text, place) = PANIC.take().unwrap_or_default();
        Failure { text, place, step: world.step, planned: std::mem::take(&mut world.planned) }
    });
    Outcome {
        steps: world.step,
        writes: world.judge.acknowledged,
        stats: world.stats,
        failure,
        lines: world.take_lines(),
    }
}

/// What many runs did.
#[derive(Default)]
pub struct Total {
    pub seeds: u64,
    pub steps: u64,
    pub writes: u64,
    pub stats: Stats,
    pub seconds: f64,
    /// By seed.
    pub failures: Vec<(u64, Failure)>,
}

/// Which seeds, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub first: u64,
    /// From one seed to the next.
    pub step: u64,
    pub count: u64,
    pub limit: Duration,
    /// Stops after so many failures.
    pub failures_max: usize,
    pub threads: usize,
}

/// Runs a range of seeds. Where it stops for failures, those before the last one of them have all been run: the
/// first failing seed does not depend on the number of threads.
pub fn run_range(range: Range, told: impl Fn(u64, &Failure) + Sync) -> Total {
    let begun = Instant::now();
    let next = AtomicU64::new(range.first);
    let end = AtomicU64::new(range.first.saturating_add(range.count.saturating_mul(range.step)));
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..range.threads {
            scope.spawn(|| {
                while begun.elapsed() < range.limit {
                    let seed = next.fetch_add(range.step, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        break;
                    }
                    let outcome = run(&Plan::new(seed), Trace::Off);
                    let mut total = total.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    total.seeds += 1;
                    total.steps += outcome.steps;
                    total.writes += outcome.writes;
                    total.stats.add(&outcome.stats);
                    if let Some(failure) = outcome.failure {
                        told(seed, &failure);
                        total.failures.push((seed, failure));
                        if total.failures.len() >= range.failures_max {
                            end.fetch_min(seed, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let mut total = total.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    total.failures.sort_by_key(|(seed, _)| *seed);
    total.seconds = begun.elapsed().as_secs_f64();
    total
}
