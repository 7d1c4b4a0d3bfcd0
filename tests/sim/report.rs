//! What is printed about a failing seed.

use crate::plan::Plan;
use crate::runner::{run, Failure};
use crate::shrink::shrink;
use crate::world::Trace;
use std::path::PathBuf;

/// Lines of a trace that are printed, without pings; the whole is in a file.
const TAIL: usize = 60;

/// The command that runs a plan again, with all that happens.
pub fn command(plan: &Plan) -> String {
    let mutant = std::env::var("MUTANT").ok().filter(|name| !name.is_empty());
    let mutant = mutant.map_or(String::new(), |name| format!(" MUTANT={name}"));
    format!("make sim {plan}{mutant} SIM_TRACE=1")
}

fn trace_file(seed: u64) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-{seed}.trace"))
}

/// Looks for the shortest run that fails as this one does, and prints it.
pub fn explain(plan: &Plan, failure: &Failure) {
    let shrunk = shrink(plan.clone(), failure.clone());
    let outcome = run(&shrunk.plan, Trace::Collect(Default::default()));
    let file = trace_file(plan.seed);
    let whole = outcome.lines.join("\n") + "\n";
    let written = std::fs::write(&file, whole);
    eprintln!(
        "\nseed {}: from {} steps with {} events from outside to {} steps with {} ({} runs)",
        plan.seed,
        failure.step,
        failure.planned.len(),
        shrunk.failure.step,
        shrunk.failure.planned.len(),
        shrunk.runs
    );
    for line in outcome.lines.iter().filter(|line| line.contains(" !! ")) {
        eprintln!("{line}");
    }
    eprintln!("--- the end of its trace:");
    let is_ping = |line: &&String| line.ends_with("Ping") || line.ends_with("PingAck");
    let told: Vec<_> = outcome.lines.iter().filter(|line| !is_ping(line)).collect();
    for line in &told[told.len().saturating_sub(TAIL)..] {
        eprintln!("{line}");
    }
    eprintln!("--- {}: {}", shrunk.failure.place, shrunk.failure.text);
    match written {
        Ok(()) => eprintln!("the whole trace: {} ({} lines)", file.display(), outcome.lines.len()),
        Err(error) => eprintln!("the trace could not be written to {}: {error}", file.display()),
    }
    eprintln!("again, all of it: {}\n", command(&shrunk.plan));
}
