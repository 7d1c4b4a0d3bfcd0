//! The order of writes, as `-v -v` reports it: what must be on stable storage before what.

use super::bench::Bench;
use super::case::{unhex, Stdin};
use super::prepare::super_block_at;
use drbdbox::meta::activity_log::{LogWriter, SlotUpdate};
use drbdbox::meta::LogGeometry;

const DEVICE_BYTES: u64 = 67_108_864;
const SUPER_BLOCK: u64 = 67_104_768;
const LOG: u64 = 67_072_000;
const BITMAP: u64 = 67_067_904;

const DUMP: &str = "version \"v08\"; uuid { 0x0000000000000006; 0x0000000000000000; 0x0000000000000000; \
    0x0000000000000000; flags 0x00000011; } la-size-sect 130992; bm-byte-per-bit 4096; \
    device-uuid 0x0000000000000001; bm { 256 times 0x0000000000000001; }";

#[derive(Debug, PartialEq)]
enum Done {
    Write(u64),
    Sync,
}

/// Runs a command and returns its writes and syncs in their order.
fn trace(bench: &Bench, line: &str) -> Vec<Done> {
    let words: Vec<String> = format!("-v -v --force {line}").split(' ').map(str::to_string).collect();
    let outcome = bench.run(&words, &Stdin::Empty);
    assert_eq!(outcome.exit, 0, "{line}: {}", outcome.stderr);
    let lines = outcome.stderr.lines();
    lines
        .filter(|line| !line.contains("SKIPPED DUE TO --dry-run"))
        .filter_map(|line| {
            if line.contains(": fsync(") {
                return Some(Done::Sync);
            }
            let place = line.split(": pwrite(").nth(1)?;
            let offset = place.rsplit(',').next()?.trim_end_matches(')');
            Some(Done::Write(offset.trim().parse().expect("offset")))
        })
        .collect()
}

fn created() -> Bench {
    let bench = Bench::new(DEVICE_BYTES).expect("room for the device");
    trace(&bench, "0 v08 DEV internal create-md");
    bench
}

#[test]
fn create_md_makes_the_log_durable_before_the_super_block() {
    let bench = Bench::new(DEVICE_BYTES).expect("room for the device");
    let expected = [Done::Write(LOG), Done::Sync, Done::Write(SUPER_BLOCK), Done::Sync];
    assert_eq!(trace(&bench, "0 v08 DEV internal create-md"), expected);
}

/// After each step a crash must leave the hot extents in the log, or in the bitmap, or in both; and
/// the mark of 8.4 only once both are on disk.
#[test]
fn apply_al_makes_the_bitmap_durable_before_it_empties_the_log() {
    let bench = created();
    let at = super_block_at(&bench);
    bench.write(at, &130_992u64.to_be_bytes());
    bench.write(at + 59, &[0x13]);
    let mut writer = LogWriter::new(LogGeometry::CLASSIC, 257, 512);
    let update = SlotUpdate { slot: 3, extent: 5 };
    let write = writer.transaction(&[update]).expect("one update");
    bench.write(LOG + write.offset, &write.bytes);
    let expected = [
        Done::Write(BITMAP),
        Done::Sync,
        Done::Write(SUPER_BLOCK),
        Done::Sync,
        Done::Write(LOG),
        Done::Sync,
        Done::Write(SUPER_BLOCK),
        Done::Sync,
    ];
    assert_eq!(trace(&bench, "0 v08 DEV internal apply-al"), expected);
    assert_eq!(bench.read(BITMAP + 640, 128), vec![0xff; 128]);
    assert_eq!(bench.read(LOG, 32768), vec![0; 32768]);
    assert_eq!(bench.read(at + 56, 8), [0, 0, 0, 0x93, 0x83, 0x74, 0x02, 0x6b]);
    // The second time there is nothing to do.
    assert_eq!(trace(&bench, "0 v08 DEV internal apply-al"), []);
}

#[test]
fn a_move_writes_the_super_block_last() {
    let bench = created();
    bench.resize(2 * DEVICE_BYTES).expect("resize");
    let shift = DEVICE_BYTES;
    let expected = [
        Done::Write(BITMAP + shift),
        Done::Write(LOG + shift),
        Done::Sync,
        Done::Write(SUPER_BLOCK + shift),
        Done::Sync,
        Done::Write(SUPER_BLOCK),
        Done::Sync,
    ];
    assert_eq!(trace(&bench, "0 v08 DEV internal check-resize"), expected);
}

#[test]
fn restore_md_writes_the_super_block_last() {
    let bench = created();
    std::fs::write(bench.path("dump.txt"), DUMP).expect("dump file");
    let expected = [Done::Write(BITMAP), Done::Sync, Done::Write(SUPER_BLOCK), Done::Sync];
    assert_eq!(trace(&bench, "0 v08 DEV internal restore-md dump.txt"), expected);
}

/// Meta data in use: what is on the device before log or bitmap are overwritten must not count them.
fn used() -> Bench {
    let bench = created();
    bench.write(super_block_at(&bench), &130_992u64.to_be_bytes());
    bench
}

#[test]
fn meta_data_that_are_overwritten_are_given_up_first() {
    let bench = used();
    let start = [Done::Write(SUPER_BLOCK), Done::Sync];
    std::fs::write(bench.path("dump.txt"), DUMP).expect("dump file");
    let done = trace(&bench, "0 v08 DEV internal restore-md dump.txt");
    assert_eq!(done[..2], start);
    assert_eq!(done[2..], [Done::Write(BITMAP), Done::Sync, Done::Write(SUPER_BLOCK), Done::Sync]);
    let done = trace(&bench, "0 v08 DEV internal create-md");
    assert_eq!(done[..2], start);
    assert_eq!(done[2..], [Done::Write(LOG), Done::Sync, Done::Write(SUPER_BLOCK), Done::Sync]);
}

/// The last write that a failing device lets through is the one before the bitmap's.
#[test]
fn a_restore_that_fails_in_the_bitmap_leaves_a_full_sync() {
    let bench = Bench::new(DEVICE_BYTES).expect("room for the device");
    trace(&bench, "0 v08 DEV flex-external create-md");
    bench.write(0, &unhex("000000000001ffb06f1b3a2c4d5e6f70"));
    bench.write(59, &[0x11]);
    std::fs::write(bench.path("dump.txt"), DUMP).expect("dump file");
    let before = bench.image(4096);
    let words: Vec<String> =
        "--force 0 v08 DEV flex-external restore-md dump.txt".split(' ').map(str::to_string).collect();
    let outcome = bench.run_with_writes_failing_from(36864, &words, &Stdin::Empty);
    assert_eq!(outcome.exit, 10, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("pwrite(FD,...,2048,36864) in TAG failed: File too large"),
        "{}",
        outcome.stderr
    );
    assert!(!outcome.stdout.contains("Successfully"));
    assert!(bench.image(4096) == before);
    let words: Vec<String> = "0 v08 DEV flex-external get-gi".split(' ').map(str::to_string).collect();
    let gi = bench.run(&words, &Stdin::Empty).stdout;
    assert!(gi.starts_with("6F1B3A2C4D5E6F70:") && gi.ends_with(":1:1:0:0:1:0:0\n"), "{gi}");
}

#[test]
fn dry_run_leaves_the_device_alone() {
    let bench = created();
    let before = bench.image(0);
    for command in ["create-md", "invalidate", "wipe-md", "apply-al"] {
        trace(&bench, &format!("--dry-run 0 v08 DEV internal {command}"));
        assert!(bench.image(0) == before, "{command}");
    }
}
