//! Which run: a seed, and what is left out of what it brings about.
//!
//! Every step draws from a stream of random numbers of its own, and the choice among the possible events gives
//! each of them a number of its own. So what is left out at one step changes the others as little as it can, and a
//! failing run can be made shorter.

use crate::script::Random;
use std::collections::BTreeSet;
use std::fmt;

/// A run, exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    /// Steps before everything has to become well; none: as many as the seed says.
    pub steps: Option<u64>,
    /// The only steps at which applications, operators and faults may do anything; none: all.
    pub keep: Option<BTreeSet<u64>>,
    /// The expensive checks run at every step.
    pub closely: bool,
}

impl Plan {
    /// All of a seed.
    pub fn new(seed: u64) -> Plan {
        Plan { seed, ..Plan::default() }
    }

    /// Whether something may come from outside of the nodes at this step.
    pub fn allows(&self, step: u64) -> bool {
        self.keep.as_ref().is_none_or(|keep| keep.contains(&step))
    }

    /// The random numbers of a step.
    pub fn stream(&self, step: u64) -> Random {
        Random::new(Random::new(self.seed ^ step.wrapping_mul(0xd6e8_feb8_6659_fd93)).next())
    }

    /// The plan that the environment describes: `SEED`, `SIM_STEPS`, `SIM_KEEP`, `SIM_CLOSELY`.
    pub fn from_environment(seed: u64) -> Plan {
        let parse = |text: &str| -> u64 {
            text.trim().parse().unwrap_or_else(|_| panic!("SIM_STEPS and SIM_KEEP are numbers, not {text}"))
        };
        let keep = text("SIM_KEEP").map(|list| {
            let ranges = list.split(',').filter(|range| *range != "none").flat_map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                parse(first)..=parse(last)
            });
            ranges.collect()
        });
        Plan {
            seed,
            steps: text("SIM_STEPS").map(|text| parse(&text)),
            keep,
            closely: text("SIM_CLOSELY").is_some(),
        }
    }
}

/// A variable of the environment that is not empty.
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// As variables for `make sim`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SEED={}", self.seed)?;
        if let Some(steps) = self.steps {
            write!(f, " SIM_STEPS={steps}")?;
        }
        if let Some(keep) = &self.keep {
            write!(f, " SIM_KEEP={}", if keep.is_empty() { "none".to_owned() } else { ranges(keep) })?;
        }
        if self.closely {
            write!(f, " SIM_CLOSELY=1")?;
        }
        Ok(())
    }
}

/// "3,7-9"
fn ranges(numbers: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let text = |(first, last): &(u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}
