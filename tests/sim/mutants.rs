//! The proof that the judge can fail: the simulation finds each deliberate defect of core.

use crate::plan::Plan;
use crate::runner::{run, run_range, Failure, Range};
use crate::world::Trace;
use crate::{is_set, range, report};
use drbdbox::core::mutants::{activate, all, Mutant};
use std::time::Instant;

/// Seeds that may be tried for one.
const SEEDS: u64 = 10_000;
/// Seeds of one turn, after which it is asked whether what was found is there without the defect, too.
const TURN: u64 = 200;

/// `MUTANT`: the core has this defect.
pub fn activate_by_environment() {
    let name = std::env::var("MUTANT").ok().filter(|name| !name.is_empty());
    assert!(activate(name.as_deref()), "MUTANT={}: there is none of this name", name.unwrap_or_default());
}

/// The seeds for a mutant: as many numbers, if only those of a special kind count.
fn seeds_for(kind: Option<u64>, range: Range) -> Range {
    let Some(kind) = kind else { return range };
    let first = range.first + (8 + kind - range.first % 8) % 8;
    let end = range.first.saturating_add(range.count);
    Range { first, step: 8, count: end.saturating_sub(first).div_ceil(8), ..range }
}

/// The first seed whose run fails with the defect and not without it, and how.
fn find(mutant: &Mutant, range: Range) -> Option<(u64, Failure)> {
    let end = range.first.saturating_add(range.count.saturating_mul(range.step));
    let mut first = range.first;
    while first < end {
        let left = (end - first).div_ceil(range.step);
        let turn = Range { first, count: TURN.min(left), failures_max: 1, ..range };
        activate(Some(mutant.name));
        let found = run_range(turn, |_, _| {}).failures.into_iter().next();
        activate(None);
        match found {
            Some((seed, failure)) if run(&Plan::new(seed), Trace::Off).failure.is_none() => {
                return Some((seed, failure));
            }
            Some((seed, _)) => first = seed + range.step,
            None => first += turn.count * range.step,
        }
    }
    None
}

#[test]
fn every_mutant_is_found() {
    let only = std::env::var("MUTANT").ok().filter(|name| !name.is_empty());
    let range = range(SEEDS);
    let mut missed = Vec::new();
    eprintln!("{:<31} {:<18} {:>6} {:>6}  what the judge said", "mutant", "where", "seed", "tried");
    let begun = Instant::now();
    for (kind, mutant) in all().filter(|(_, mutant)| only.as_deref().is_none_or(|only| only == mutant.name)) {
        let range = seeds_for(kind, range);
        let (seed, tried, said) = match find(mutant, range) {
            Some((seed, failure)) => {
                if only.is_some() && !is_set("SEEDS") {
                    activate(Some(mutant.name));
                    report::explain(&Plan::new(seed), &failure);
                    activate(None);
                }
                let place = failure.place.rsplit('/').next().unwrap_or_default().to_owned();
                (
                    seed.to_string(),
                    (seed - range.first) / range.step + 1,
                    format!("{place}: {}", failure.line()),
                )
            }
            None => {
                missed.push(mutant.name);
                ("-".to_owned(), range.count, format!("nothing. {}", mutant.what))
            }
        };
        eprintln!("{:<31} {:<18} {seed:>6} {tried:>6}  {said}", mutant.name, mutant.file);
    }
    eprintln!("{:.0} s", begun.elapsed().as_secs_f64());
    assert!(missed.is_empty(), "not found: {missed:?}");
}
