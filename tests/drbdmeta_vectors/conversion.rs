//! Meta data of DRBD 0.7 and 9 under create-md, where no vector says what 8.3.16 should do.

use super::bench::{words, Bench};
use super::case::{unhex, Stdin};
use super::prepare::super_block_at;

const DEVICE_BYTES: u64 = 67_108_864;

fn answers(answers: &[&str]) -> Stdin {
    Stdin::Terminal(answers.iter().map(|answer| answer.to_string()).collect())
}

fn bench(super_block: &str) -> Bench {
    let bench = Bench::new(DEVICE_BYTES).expect("room for the device");
    bench.write(super_block_at(&bench), &unhex(super_block));
    bench
}

/// Flexible internal meta data of 0.7, with counters 2, 3, 4, 5 and flags 7.
fn v07() -> Bench {
    bench(
        "000000000000000000000007000000020000000300000004000000058374026a\
         00000028ffffffc000000101ffffffb8",
    )
}

/// Internal meta data of DRBD 9, current UUID 6, with room for `max_peers`.
fn v09(max_peers: u8) -> Bench {
    bench(&format!(
        "{}{}{}{max_peers:02x}ffffffff",
        // Size, current UUID, reserved, device UUID.
        "00000000000000000000000000000006".to_string() + &"00".repeat(40),
        // Flags and magic.
        "000000118374026d",
        // Area, log, slots, bitmap, bytes a bit, bio size, three bytes of the number of peers.
        "00000050ffffffc000000101ffffffb80000100000000000000000",
    ))
}

#[test]
fn v07_at_the_place_of_v08_is_converted() {
    let bench = v07();
    let outcome = bench.run(&words("0 v08 DEV internal create-md"), &answers(&["yes"]));
    assert_eq!(outcome.exit, 0, "{}", outcome.merged);
    let gi = bench.call("0 v08 DEV internal get-gi");
    assert_eq!(
        gi.stdout,
        "000200030009BABE:0000000000000000:000200030008BABE:000200030007BABE:1:0:1:1:0:0:0\n"
    );
}

#[test]
fn v09_is_not_overwritten_without_a_question() {
    let bench = v09(1);
    let before = bench.image(0);
    let outcome = bench.call("0 v08 DEV internal create-md");
    assert_eq!(outcome.exit, 1, "{}", outcome.stdout);
    assert!(bench.image(0) == before);
    let verbose = bench.call("-v 0 v08 DEV internal get-gi");
    assert_eq!(verbose.exit, 255);
    assert!(verbose.stderr.contains("DRBD 9"), "{}", verbose.stderr);
}

/// The bitmaps of several peers are interleaved: they must not be taken for one of v08.
#[test]
fn a_bitmap_of_several_peers_costs_a_full_sync() {
    for (max_peers, full_sync) in [(1, "0"), (7, "1")] {
        let bench = v09(max_peers);
        let outcome = bench.run(&words("0 v08 DEV internal create-md"), &answers(&["yes"]));
        assert_eq!(outcome.exit, 0, "{}", outcome.merged);
        assert_eq!(
            outcome.merged,
            "You want me to create a v08 style flexible-size internal meta data block.\n\
             There appears to be a v09 flexible-size internal meta data block\n\
             already in place on DEV at byte offset 67104768\n\n\
             Valid v09 meta-data found, convert to v08?\n\
             [need to type 'yes' to confirm] \n\
             Converting meta data...\nWriting meta data...\n\
             New drbd meta data block successfully created.\n"
        );
        let gi = bench.call("0 v08 DEV internal get-gi");
        let uuids = "0000000000000006:0000000000000000:0000000000000000:0000000000000000";
        assert_eq!(gi.stdout, format!("{uuids}:1:1:0:0:{full_sync}:0:0\n"));
    }
}
