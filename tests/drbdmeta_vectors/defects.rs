//! Defects of DRBD's releases that are not copied (spec/metadata.md 14, and where it says "defect"): what happens
//! instead. Others are in the replayed vectors, in `crash.rs`, `conversion.rs` and `activity_logs.rs`, and at the
//! functions in `src/meta`.

use super::bench::{words, Bench};
use super::case::{unhex, Stdin};
use super::prepare::super_block_at;
use drbdbox::meta::activity_log::transaction_83::Transaction83;
use drbdbox::meta::activity_log::{transaction_84, LogWriter, SlotUpdate};
use drbdbox::meta::LogGeometry;

const DEVICE_BYTES: u64 = 67_108_864;
const LOG: u64 = 67_072_000;
const BITMAP: u64 = 67_067_904;

fn created() -> Bench {
    let bench = Bench::new(DEVICE_BYTES).expect("room for the device");
    bench.done("0 v08 DEV internal create-md");
    bench
}

/// In use, with these flags.
fn used(flags: u8) -> Bench {
    let bench = created();
    let at = super_block_at(&bench);
    bench.write(at, &130_992u64.to_be_bytes());
    bench.write(at + 8, &unhex("6f1b3a2c4d5e6f70"));
    bench.write(at + 59, &[flags]);
    bench
}

/// Trap 1: 8.4's tools look at the first blocks only and forget what 8.3 wrote there. Whoever empties the log here
/// empties all of it.
#[test]
fn nothing_of_an_8_4_log_is_left_for_8_3_to_write_into() {
    for command in ["apply-al", "create-md"] {
        let bench = used(0x13);
        bench.write(LOG, &transaction_84::initialized_block().repeat(8));
        let mut transaction = Transaction83::empty(0);
        transaction.entries[0] = (126, 5);
        bench.write(LOG, &transaction.encode());
        bench.done(&format!("--force 0 v08 DEV internal {command}"));
        assert!(bench.read(LOG, 32768).iter().all(|byte| *byte == 0), "{command}");
        let marked = bench.read(BITMAP + 5 * 128, 128) == vec![0xff; 128];
        assert_eq!(marked, command == "apply-al");
    }
}

/// Trap 2: 8.3 takes what 8.4 uses for no meta data, and overwrites it without a question.
#[test]
fn meta_data_in_use_by_8_4_are_not_overwritten_without_a_question() {
    let bench = used(0x13);
    bench.write(super_block_at(&bench) + 63, &[0x6c]);
    let before = bench.image(0);
    let outcome = bench.call("0 v08 DEV internal create-md");
    assert_eq!(outcome.exit, 1);
    assert!(outcome.stderr.contains("There appears to be a v08 flexible-size internal meta data block"));
    assert!(bench.image(0) == before);
    assert!(bench.done("0 v08 DEV internal get-gi").stdout.starts_with("6F1B3A2C4D5E6F70:"));
}

/// Trap 3: AL_CLEAN of a dump says nothing about the log that is on the disk.
#[test]
fn a_restored_super_block_does_not_call_a_hot_log_clean() {
    for (hot, flags) in [(false, "0x00000091"), (true, "0x00000011")] {
        let bench = used(0x91);
        let dump = bench.done("0 v08 DEV internal dump-md").stdout;
        std::fs::write(bench.path("dump.txt"), dump).expect("dump file");
        if hot {
            let mut writer = LogWriter::new(LogGeometry::CLASSIC, 257, 512);
            let write = writer.transaction(&[SlotUpdate { slot: 3, extent: 5 }]).expect("one update");
            bench.write(LOG + write.offset, &write.bytes);
        }
        bench.done("--force 0 v08 DEV internal restore-md dump.txt");
        let dump = bench.done("0 v08 DEV internal dump-md").stdout;
        assert!(dump.contains(&format!("flags {flags};")), "{dump}");
    }
}

/// Trap 4: 8.3.16's restore-md and move leave bitmap words in reserved bytes and in the stripe fields.
#[test]
fn reserved_bytes_and_stripe_fields_stay_zero() {
    let bench = used(0x11);
    bench.write(BITMAP, &[0xa5; 2048]);
    let dump = bench.done("0 v08 DEV internal dump-md").stdout;
    std::fs::write(bench.path("dump.txt"), dump).expect("dump file");
    let check = |bench: &Bench, after: &str| {
        let block = bench.read(super_block_at(bench), 4096);
        assert!(block[48..56].iter().chain(&block[88..]).all(|byte| *byte == 0), "{after}");
    };
    bench.done("--force 0 v08 DEV internal restore-md dump.txt");
    check(&bench, "restore-md");
    bench.resize(2 * DEVICE_BYTES).expect("resize");
    bench.done("0 v08 DEV internal check-resize");
    check(&bench, "check-resize");
}

/// ... and what they left is read as what it is, also by apply-al.
#[test]
fn garbage_in_the_stripe_fields_hides_no_meta_data() {
    let bench = used(0x11);
    bench.write(super_block_at(&bench) + 88, &[0xa5; 12]);
    assert!(bench.done("0 v08 DEV internal get-gi").stdout.starts_with("6F1B3A2C4D5E6F70:"));
    bench.done("0 v08 DEV internal apply-al");
}

/// Trap 5: 9.22 loses the flags in a dump.
#[test]
fn a_dump_keeps_every_flag() {
    let bench = used(0x77);
    let before = bench.done("0 v08 DEV internal get-gi").stdout;
    let dump = bench.done("0 v08 DEV internal dump-md").stdout;
    assert!(dump.contains("flags 0x00000077;"));
    std::fs::write(bench.path("dump.txt"), dump).expect("dump file");
    bench.done("--force 0 v08 DEV internal create-md");
    bench.done("--force 0 v08 DEV internal restore-md dump.txt");
    assert_eq!(bench.done("0 v08 DEV internal get-gi").stdout, before);
}

/// 9.22's restore-md cannot read a pipe.
#[test]
fn a_dump_comes_through_a_pipe() {
    let bench = used(0x11);
    let dump = bench.done("0 v08 DEV internal dump-md").stdout;
    let outcome = bench.run(&words("0 v08 DEV internal verify-dump"), &Stdin::Pipe(dump.clone()));
    assert_eq!((outcome.exit, outcome.stdout.as_str()), (0, "input file parsed ok\n"));
    let outcome = bench.run(&words("0 v08 DEV internal restore-md"), &Stdin::Pipe(format!("yes\n{dump}")));
    assert_eq!(outcome.exit, 0, "{}", outcome.stderr);
}

/// Trap 6: bits behind the end of the data may be set on disk. Trap 7: the last 64 bits count.
#[test]
fn the_last_bits_count_and_those_behind_do_not() {
    // 16374 bits, and 16384 bits: a multiple of 64.
    for (sectors, expected) in [(130_992u64, "88 KB"), (131_072, "128 KB")] {
        let bench = Bench::new(DEVICE_BYTES).expect("room for the device");
        bench.done("0 v08 DEV flex-external create-md");
        bench.write(0, &sectors.to_be_bytes());
        bench.write(59, &[0x11]);
        // Bits 16352 to 16415.
        bench.write(36864 + 2044, &[0xff; 8]);
        let table = bench.done("scan DEV").stdout;
        assert!(table.contains(&format!("  clean  {expected}  ")), "{table}");
    }
}

/// 9.22 ends with an assertion.
#[test]
fn a_wrong_granularity_is_an_error() {
    let bench = used(0x11);
    bench.write(super_block_at(&bench) + 80, &5000u32.to_be_bytes());
    bench.done("0 v08 DEV internal get-gi");
    let dump = bench.done("0 v08 DEV internal dump-md").stdout;
    std::fs::write(bench.path("dump.txt"), dump).expect("dump file");
    let outcome = bench.call("--force 0 v08 DEV internal restore-md dump.txt");
    assert_eq!(outcome.exit, 10);
    assert!(outcome.stderr.contains("Invalid value for bm-byte-per-bit"), "{}", outcome.stderr);
}

/// 9.22 finds the old bitmap by the new one's length, once that grows.
#[test]
fn bits_stay_where_they_are_when_the_bitmap_grows() {
    let bench = Bench::new(120 << 20).expect("room for the device");
    bench.done("0 v08 DEV internal create-md");
    let at = super_block_at(&bench);
    bench.write(at, &245_000u64.to_be_bytes());
    bench.write(at + 59, &[0x11]);
    bench.write(at - 32768 - 4096 + 16, &[0x5a]);
    bench.resize(300 << 20).expect("resize");
    bench.done("0 v08 DEV internal check-resize");
    let bitmap = super_block_at(&bench) - 32768 - 3 * 4096;
    let mut expected = vec![0; 3 * 4096];
    expected[16] = 0x5a;
    assert_eq!(bench.read(bitmap, 3 * 4096), expected);
}

/// The log goes along when apply-al has to move the meta data first.
#[test]
fn apply_al_after_growing_moves_first() {
    let bench = used(0x13);
    let mut writer = LogWriter::new(LogGeometry::CLASSIC, 257, 512);
    let write = writer.transaction(&[SlotUpdate { slot: 3, extent: 5 }]).expect("one update");
    bench.write(LOG + write.offset, &write.bytes);
    bench.resize(2 * DEVICE_BYTES).expect("resize");
    let outcome = bench.done("0 v08 DEV internal apply-al");
    assert_eq!(
        outcome.stderr,
        "Moving the internal meta data to its proper location\n\
         5 corrupt or uninitialized AL transactions found\n\
         You can safely ignore this if this node was cleanly stopped (no crash).\n\
         Marked additional 4096 KB as out-of-sync based on AL.\n"
    );
    assert_eq!(bench.read(BITMAP + DEVICE_BYTES + 5 * 128, 128), vec![0xff; 128]);
}
