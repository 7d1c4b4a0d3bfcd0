//! Every request of every command fails once: sectors that cannot be read, writes and flushes that fail. Needs strace,
//! which makes the system call fail.

use super::bench::{strace, words, Bench, Outcome};
use super::case::{unhex, Image};
use super::prepare::super_block_at;
use drbdbox::meta::activity_log::{LogWriter, SlotUpdate};
use drbdbox::meta::LogGeometry;

const DEVICE_BYTES: u64 = 67_108_864;
/// No command needs more requests of a kind on such a device.
const REQUESTS_MAX: usize = 40;

/// Command, and whether it writes.
const COMMANDS: &[(&str, bool)] = &[
    ("get-gi", false),
    ("show-gi", false),
    ("dump-md", false),
    ("dstate", false),
    ("hexdump-superblock", false),
    ("read-dev-uuid", false),
    ("restore-md dump.txt", true),
    ("create-md", true),
    ("wipe-md", true),
    ("outdate", true),
    ("invalidate", true),
    ("check-resize", false),
    ("apply-al", true),
    ("write-dev-uuid 1", true),
    ("set-gi 6", true),
];

/// Of v07, which has fewer.
const COMMANDS_V07: &[(&str, bool)] = &[
    ("get-gi", false),
    ("show-gi", false),
    ("dump-md", false),
    ("dstate", false),
    ("hexdump-superblock", false),
    ("restore-md dump.txt", true),
    ("wipe-md", true),
    ("invalidate", true),
    ("apply-al", true),
    ("set-gi 0", true),
];

/// A disk of a Primary that crashed, with extent 5 in its log and two bits set; its dump has others. `grown`: its device
/// is larger now.
struct Setup {
    /// All of the command line in front of the command.
    place: &'static str,
    commands: &'static [(&'static str, bool)],
    grown: bool,
}

impl Setup {
    fn bench(&self) -> Bench {
        let bench = Bench::new(DEVICE_BYTES).expect("room for the device");
        let is_v07 = self.place.contains("v07");
        bench.done(&format!("{} create-md", self.place));
        let at = super_block_at(&bench);
        if is_v07 {
            bench.done(&format!("--force {} set-gi 1:2:3:4:5:1:0:0", self.place));
            bench.write(at, &65_000u64.to_be_bytes());
        } else {
            bench.write(at, &130_000u64.to_be_bytes());
            bench.write(at + 8, &unhex("6f1b3a2c4d5e6f70"));
            bench.write(at + 59, &[0x13]);
        }
        let dump = bench.done(&format!("{} dump-md", self.place)).stdout;
        std::fs::write(
            bench.path("dump.txt"),
            dump.replace("0x0000000000000000;\n", "0x00000000000000F0;\n"),
        )
        .expect("dump file");
        let mut writer = LogWriter::new(LogGeometry::CLASSIC, 257, 512);
        let write = writer.transaction(&[SlotUpdate { slot: 3, extent: 5 }]).expect("one update");
        bench.write(at - 32768 + write.offset, &write.bytes);
        bench.write(at - 32768 - 4096, &[3]);
        if self.grown {
            bench.resize(2 * DEVICE_BYTES).expect("resize");
        }
        bench
    }

    /// What the meta data say, wherever they are: the dump without its comments and the log; `None`: there are none.
    fn state(&self, bench: &Bench) -> Option<String> {
        let line = format!("-v -v -v -v -v -v -v -v -v -v {} dump-md", self.place);
        let outcome = bench.call(&line);
        let start = outcome.stdout.find("version")?;
        let text = &outcome.stdout[start..];
        let lines = text.lines().filter(|line| !line.starts_with('#') || line.starts_with("# \t 0:"));
        Some(lines.map(|line| format!("{line}\n")).collect())
    }
}

/// The bitmap of a state does not count.
fn is_given_up(state: &str) -> bool {
    let flags = state.split("flags 0x").nth(1).and_then(|rest| u32::from_str_radix(&rest[..8], 16).ok());
    let counters =
        state.split("gc {\n    ").nth(1).and_then(|rest| rest.split(';').next()?.parse::<u32>().ok());
    flags.or(counters).is_some_and(|flags| flags & 8 != 0)
}

fn has_strace() -> bool {
    let is_here = strace().is_some();
    if !is_here {
        eprintln!("skipped: needs strace, and the right to trace");
    }
    is_here
}

const SETUPS: &[Setup] = &[
    Setup { place: "0 v08 DEV internal", commands: COMMANDS, grown: false },
    Setup {
        place: "0 v08 DEV internal",
        commands: &[("check-resize", true), ("apply-al", true)],
        grown: true,
    },
    Setup { place: "0 v07 DEV flex-internal", commands: COMMANDS_V07, grown: false },
];

/// Calls `check` after each failing request of this system call: what the command said, with the device as it was, and the
/// states before and after an undisturbed run.
fn each_failure(call: &str, mut check: impl FnMut(&Setup, &str, bool, &Bench, &Outcome, &Image)) -> usize {
    let mut failures = 0;
    for setup in SETUPS {
        for (command, writes) in setup.commands {
            let line = words(&format!("--force {} {command}", setup.place));
            for number in 1..=REQUESTS_MAX {
                let bench = setup.bench();
                let before = bench.image(0);
                let (outcome, has_failed) = bench.run_with_failing_call(call, number, &line);
                if !has_failed {
                    // It needs fewer: this was an undisturbed run.
                    assert!(number > 1 || !writes || call == "pread64", "{command}: no {call} at all");
                    break;
                }
                assert!(number < REQUESTS_MAX, "{command} has no end");
                assert!([0, 10, 20, 255].contains(&outcome.exit), "{command} {number}: {}", outcome.exit);
                assert!(!outcome.stderr.contains("panicked"), "{command} {number}: {}", outcome.stderr);
                check(setup, command, *writes, &bench, &outcome, &before);
                failures += 1;
            }
        }
    }
    failures
}

#[test]
fn sectors_that_cannot_be_read() {
    if !has_strace() {
        return;
    }
    let failures = each_failure("pread64", |setup, command, _, bench, outcome, before| {
        let context = format!("{} {command}: {} {}", setup.place, outcome.exit, outcome.stderr);
        // Some can do without the sector, such as a dump without a page of the bitmap.
        if outcome.exit != 0 {
            assert!(outcome.stderr.contains("Input/output error"), "{context}");
            if setup.grown {
                // apply-al may have moved them, and says so.
                assert_eq!(setup.state(bench), setup.state(&setup.bench()), "{context}");
            } else {
                assert!(!outcome.stdout.contains("uccessfully"), "{context}");
                assert!(bench.image(0) == *before, "{context}");
            }
        }
    });
    assert!(failures > 40, "{failures}");
}

/// What is left of meta data in use is the old, the new, or such that a resync copies everything.
#[test]
fn writes_and_flushes_that_fail() {
    if !has_strace() {
        return;
    }
    for call in ["pwrite64", "fdatasync"] {
        let failures = each_failure(call, |setup, command, _, bench, outcome, _| {
            let context = format!("{} {command}: {} {}", setup.place, outcome.exit, outcome.stderr);
            assert_eq!(outcome.exit, 10, "{context}");
            assert!(outcome.stderr.contains("Input/output error"), "{context}");
            let has_moved = setup.grown && command == "apply-al";
            assert!(has_moved || !outcome.stdout.contains("uccessfully"), "{context}");
            let old = setup.state(&setup.bench()).expect("meta data");
            let undisturbed = setup.bench();
            undisturbed.done(&format!("--force {} {command}", setup.place));
            let new = setup.state(&undisturbed);
            match setup.state(bench) {
                // A flush that fails may have written all the same.
                None => assert_eq!(new, None, "{context}"),
                Some(state) if is_given_up(&state) => {}
                Some(state) => {
                    // apply-al: what is in the log may be in the bitmap as well.
                    let both = command == "apply-al" && state.contains("times 0xFFFFFFFFFFFFFFFF");
                    assert!(
                        state == old || Some(&state) == new.as_ref() || both,
                        "{context}: {state}\nold {old}"
                    );
                }
            }
        });
        assert!(failures > 15, "{call}: {failures}");
    }
}
