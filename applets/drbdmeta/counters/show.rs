//! The counters as `get-gi` and `show-gi` print them.

use serde::Serialize;

use super::super::call::Call;
use super::super::json;
use super::super::ui::say;
use super::Home;
use drbdbox::core::log_lines::pretty_kib;
use drbdbox::meta::counters::{Counters, FLAGS};

/// Over the counters of show-gi.
const HEAD: &str = "
                                        WantFullSync |
                                  ConnectedInd |     |
                               lastState |     |     |
                      ArbitraryCnt |     |     |     |
                ConnectedCnt |     |     |     |     |
            TimeoutCnt |     |     |     |     |     |
        HumanCnt |     |     |     |     |     |     |
Consistent |     |     |     |     |     |     |     |
   --------+-----+-----+-----+-----+-----+-----+-----+
";

/// get-gi's line without its newline.
pub fn line(counters: &Counters) -> String {
    let flag = |flag| u32::from(counters.flags.contains(flag));
    let first = [flag(FLAGS[0])];
    let numbers = first.into_iter().chain(counters.counts).chain(FLAGS[1..].iter().map(|f| flag(*f)));
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(":")
}

/// The counters explained; as JSON if that is asked for.
pub fn show(call: &Call, (home, counters): &(Home, Counters)) {
    if call.options.json {
        return json::print(&CountersJson::new(call, home, counters));
    }
    let flag = |i: usize, set: &'static str, clear: &'static str| {
        if counters.flags.contains(FLAGS[i]) {
            set
        } else {
            clear
        }
    };
    let counts: Vec<String> = counters.counts.iter().map(|count| format!("{count:3}")).collect();
    say!(
        "{HEAD}       {} | {} | {} | {} | {}  \n",
        flag(0, "1/c", "0/i"),
        counts.join(" | "),
        flag(1, "1/p", "0/s"),
        flag(2, "1/c", "0/n"),
        flag(3, "1/y", "0/n"),
    );
    match home {
        Home::Block { block, .. } if block.effective_size_kib > 0 => {
            say!("last agreed size: {}", pretty_kib(block.effective_size_kib))
        }
        _ => say!("zero size device -- never seen peer yet?"),
    }
}

/// Of `show-gi --json`.
#[derive(Serialize)]
struct CountersJson {
    format: &'static str,
    human_count: u32,
    timeout_count: u32,
    connected_count: u32,
    arbitrary_count: u32,
    consistent: bool,
    primary_ind: bool,
    connected_ind: bool,
    full_sync: bool,
    /// Absent in v06.
    super_block_offset: Option<u64>,
    /// Absent in v06; 0: never attached.
    last_agreed_sectors: Option<u64>,
}

impl CountersJson {
    fn new(call: &Call, home: &Home, counters: &Counters) -> CountersJson {
        let [human_count, timeout_count, connected_count, arbitrary_count] = counters.counts;
        let [consistent, primary_ind, connected_ind, full_sync] =
            FLAGS.map(|flag| counters.flags.contains(flag));
        let (super_block_offset, last_agreed_sectors) = match home {
            Home::File(_) => (None, None),
            Home::Block { layout, block, .. } => {
                (Some(layout.md_offset), Some(block.effective_size_kib.saturating_mul(2)))
            }
        };
        CountersJson {
            format: call.format.name(),
            human_count,
            timeout_count,
            connected_count,
            arbitrary_count,
            consistent,
            primary_ind,
            connected_ind,
            full_sync,
            super_block_offset,
            last_agreed_sectors,
        }
    }
}
