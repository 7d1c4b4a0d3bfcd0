//! Makes a failing run shorter: fewer steps, and of what comes from outside only what is needed.

use crate::plan::Plan;
use crate::runner::{run, Failure};
use crate::world::Trace;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long, and how many runs, it may take.
const RUNS_MAX: u32 = 600;
const TIME_MAX: Duration = Duration::from_secs(30);

/// A shorter run that fails in the same way.
pub struct Shrunk {
    pub plan: Plan,
    pub failure: Failure,
    /// How many runs it took to find it.
    pub runs: u32,
}

struct Shrinker {
    kind: String,
    best: Plan,
    failure: Failure,
    runs: u32,
    begun: Instant,
}

/// Shortens the run of `plan`, which fails with `failure`.
pub fn shrink(plan: Plan, failure: Failure) -> Shrunk {
    let mut shrinker = Shrinker { kind: failure.kind(), best: plan, failure, runs: 0, begun: Instant::now() };
    shrinker.look_closely();
    shrinker.fewer_steps();
    shrinker.fewer_events();
    shrinker.fewer_steps();
    shrinker.fewer_events();
    Shrunk { plan: shrinker.best, failure: shrinker.failure, runs: shrinker.runs }
}

impl Shrinker {
    fn may_go_on(&self) -> bool {
        self.runs < RUNS_MAX && self.begun.elapsed() < TIME_MAX
    }

    /// Adopts a plan if it fails in the same way.
    fn adopt(&mut self, plan: Plan) -> bool {
        if plan == self.best || !self.may_go_on() {
            return false;
        }
        self.runs += 1;
        match run(&plan, Trace::Off).failure {
            Some(failure) if failure.kind() == self.kind && self.is_shorter(&failure) => {
                (self.best, self.failure) = (plan, failure);
                true
            }
            _ => false,
        }
    }

    fn is_shorter(&self, failure: &Failure) -> bool {
        let length = |failure: &Failure| (failure.planned.len(), failure.step);
        length(failure) < length(&self.failure)
    }

    /// What the expensive checks find, they may find earlier.
    fn look_closely(&mut self) {
        self.adopt(Plan { closely: true, ..self.best.clone() });
    }

    /// Faults are over earlier.
    fn fewer_steps(&mut self) {
        let last = self.failure.planned.last().copied().unwrap_or(0);
        let (mut fails, mut passes) = (self.best.steps.unwrap_or(u64::MAX).min(self.failure.step), 0);
        // Not a search in an ordered range, but mostly like one.
        for first in [last + 1, last + 50] {
            if first < fails && self.adopt(Plan { steps: Some(first), ..self.best.clone() }) {
                fails = first;
            }
        }
        while passes + 1 < fails && self.may_go_on() {
            let middle = passes + (fails - passes) / 2;
            if self.adopt(Plan { steps: Some(middle), ..self.best.clone() }) {
                fails = middle;
            } else {
                passes = middle;
            }
            if fails - passes < 20 {
                break;
            }
        }
    }

    /// Leaves out as much as possible of what applications, operators and faults did: halves, quarters, and so on.
    fn fewer_events(&mut self) {
        let mut chunk = self.failure.planned.len().div_ceil(2).max(1);
        loop {
            let mut first = 0;
            let mut smaller = false;
            while first < self.failure.planned.len() && self.may_go_on() {
                let planned = &self.failure.planned;
                let end = (first + chunk).min(planned.len());
                let keep: BTreeSet<u64> = planned[..first].iter().chain(&planned[end..]).copied().collect();
                if self.adopt(Plan { keep: Some(keep), ..self.best.clone() }) {
                    smaller = true;
                } else {
                    first = end;
                }
            }
            if !self.may_go_on() || chunk == 1 && !smaller {
                return;
            }
            if !smaller {
                chunk = chunk.div_ceil(2);
            } else {
                chunk = chunk.min(self.failure.planned.len().div_ceil(2)).max(1);
            }
        }
    }
}
