//! What DRBD's drbdmeta does not have: scan, JSON, dumps of damaged meta data.

use serde_json::Value;

use super::bench::{Bench, Outcome};
use super::case::unhex;
use super::prepare::super_block_at;
use nix::fcntl::{Flock, FlockArg};

const DEVICE_BYTES: u64 = 67_108_864;

/// Internal meta data of a disk in use: 130992 sectors, ext3, two blocks out of sync.
fn used() -> Bench {
    let bench = Bench::new(DEVICE_BYTES).expect("room for the device");
    bench.done("0 v08 DEV internal create-md");
    bench.done("--force 0 v08 DEV internal set-gi 6F1B3A2C4D5E6F70:0:1:2:1:1:0:0:0:0:0");
    bench.write(super_block_at(&bench), &130_992u64.to_be_bytes());
    bench.write(67_067_904, &[0x03]);
    for (at, bytes) in [(0x404, vec![0, 0x3f]), (0x418, vec![2]), (0x438, vec![0x53, 0xef]), (0x45c, vec![4])]
    {
        bench.write(at, &bytes);
    }
    bench
}

/// The lines of a table after its headings, blanks as single ones.
fn table(outcome: &Outcome) -> Vec<String> {
    let lines = outcome.stdout.lines().take_while(|line| !line.is_empty()).skip(1);
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn scan_says_what_is_there_and_what_to_do() {
    let bench = used();
    let before = bench.image(0);
    let outcome = bench.done("scan DEV");
    assert_eq!(outcome.stderr, "");
    assert_eq!(
        table(&outcome),
        ["DEV v08 internal 64 MB Secondary UpToDate clean 8 KB 6F1B3A2C4D5E6F70 byte 0 drbdadm up"]
    );
    assert!(
        outcome.stdout.ends_with(
            "\nDEV, v08 internal\n\
             \x20 next: drbdadm up: nothing is to be done before\n\
             \x20 data: 67067904 bytes from byte 0 on, ext3 filesystem\n\
             \x20 to read the data without a daemon:\n\
             \x20     losetup --read-only --sizelimit 67067904 --find --show DEV\n\
             \x20     mount -t ext4 -o ro,noload LOOP-DEVICE DIRECTORY\n\
             \x20 Never write to the data this way: DRBD would not know of it, and would not copy it.\n"
        ),
        "{}",
        outcome.stdout
    );
    assert!(bench.image(0) == before);
}

/// Name of a flag byte, the words that the answer must have, the row's role, disk, log and amount.
#[test]
fn scan_names_the_dangers() {
    let bench = used();
    let at = super_block_at(&bench);
    for (flags, magic, row, danger) in [
        (0x10u8, 0x6bu8, "Secondary Inconsistent clean 8 KB", "! Inconsistent: "),
        (0x01, 0x6b, "Secondary Outdated clean 8 KB", "! Outdated: "),
        (0x13, 0x6b, "Primary UpToDate unclean 8 KB", "! Unclean: "),
        (0x11, 0x6c, "Secondary UpToDate unclean 8 KB", "! Unclean: "),
        (0x51, 0x6b, "Secondary UpToDate clean 8 KB", "! Unclean: "),
        (0x19, 0x6b, "Secondary UpToDate clean all", ""),
    ] {
        bench.write(at + 59, &[flags]);
        bench.write(at + 63, &[magic]);
        let outcome = bench.done("scan DEV");
        assert!(table(&outcome)[0].contains(row), "{flags:#x}: {}", outcome.stdout);
        assert_eq!(outcome.stdout.contains("  ! "), !danger.is_empty(), "{flags:#x}");
        assert!(outcome.stdout.contains(danger), "{flags:#x}: {}", outcome.stdout);
    }
}

#[test]
fn scan_finds_every_kind_of_meta_data() {
    let v07 = "000000000000000000000007000000020000000300000004000000058374026a00000028";
    let v09 = format!("{}0000000000000006{}000000118374026d", "00".repeat(8), "00".repeat(40));
    type Prepare<'a> = Box<dyn Fn(&Bench) + 'a>;
    let create = |line: &'static str| -> Prepare {
        Box::new(move |bench: &Bench| {
            bench.done(line);
        })
    };
    let at_end = |hex: String| -> Prepare {
        Box::new(move |bench: &Bench| bench.write(super_block_at(bench), &unhex(&hex)))
    };
    let cases: Vec<(Prepare, &str, &str)> = vec![
        (create("0 v08 DEV flex-external create-md"), "DEV v08 flex-external ", " elsewhere drbdadm up"),
        (create("0 v08 DEV 1 create-md"), "DEV v08 1 ", " elsewhere drbdadm up"),
        (create("-s 4 -z 16 0 v08 DEV internal create-md"), "DEV v08 internal ", " byte 0 drbdadm up"),
        (at_end(format!("{v07}ffffffc000000101ffffffb8")), "DEV v07 internal ", " byte 0 create-md"),
        (at_end(format!("{v09}00000050ffffffc000000101ffffffb8")), "DEV v09 internal ", " byte 0 create-md"),
        (
            Box::new(|bench: &Bench| {
                bench.done("0 v08 DEV internal create-md");
                bench.write(super_block_at(bench) + 64, &[9]);
            }),
            "DEV v08 internal, damaged ",
            " byte 0 dump-md",
        ),
        (
            Box::new(|bench: &Bench| {
                bench.done("0 v08 DEV internal create-md");
                bench.resize(5 * DEVICE_BYTES).expect("resize");
            }),
            "DEV v08 internal, old end ",
            " byte 0 check-resize",
        ),
    ];
    for (prepare, start, end) in cases {
        let bench = Bench::new(4 * DEVICE_BYTES).expect("room for the device");
        prepare(&bench);
        let before = bench.image(0);
        let rows = table(&bench.done("scan DEV"));
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert!(rows[0].starts_with(start) && rows[0].ends_with(end), "{rows:?}");
        assert!(bench.image(0) == before);
    }
}

#[test]
fn a_device_that_fails_does_not_hide_the_others() {
    let bench = used();
    std::fs::write(bench.path("short"), "x").expect("file");
    let outcome = bench.done("scan nonexistent DIR short DEV");
    assert_eq!(table(&outcome).len(), 1);
    assert!(
        outcome.stdout.ends_with("would not copy it.\n\nshort: no DRBD meta data found\n"),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stderr.contains("nonexistent: open(nonexistent) failed: No such file or directory\n"));
    let outcome = bench.call("scan nonexistent");
    assert_eq!((outcome.exit, outcome.stdout.as_str()), (10, ""));
    let outcome = bench.call("scan short");
    assert_eq!((outcome.exit, outcome.stdout.as_str()), (255, "short: no DRBD meta data found\n"));
    // All that this machine has: whatever it is, it is no usage error, and no crash.
    let outcome = bench.call("scan");
    assert!([0, 10, 255].contains(&outcome.exit), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}

#[test]
fn a_device_in_use_is_not_to_be_mounted() {
    let bench = used();
    let file = std::fs::File::open(bench.device()).expect("device");
    let _held = Flock::lock(file, FlockArg::LockExclusive).expect("lock");
    let outcome = bench.done("scan DEV");
    assert!(outcome.stdout.contains("  ! In use: "), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("losetup"), "{}", outcome.stdout);
}

#[test]
fn json_has_what_the_texts_have() {
    let bench = used();
    let shown: Value =
        serde_json::from_str(&bench.done("--json 0 v08 DEV internal show-gi").stdout).expect("JSON");
    assert_eq!(shown["current_uuid"], "6F1B3A2C4D5E6F70");
    assert_eq!(shown["history_uuids"][1], "0000000000000002");
    assert_eq!(shown["flags"]["was_up_to_date"], true);
    assert_eq!(shown["flags"]["primary_ind"], false);
    assert_eq!(shown["disk"], "UpToDate");
    assert_eq!(shown["last_agreed_sectors"], 130_992);
    let scanned: Value =
        serde_json::from_str(&bench.done("scan DEV nonexistent --json").stdout).expect("JSON");
    let (good, bad) = (&scanned["devices"][0], &scanned["devices"][1]);
    let found = &good["meta_data"][0];
    for (name, value) in shown.as_object().expect("object") {
        assert_eq!(&found[name], value, "{name}");
    }
    assert_eq!(found["out_of_sync"]["bytes"], 8192);
    assert_eq!(found["data"]["starts_at"], 0);
    assert_eq!(good["bytes"], DEVICE_BYTES);
    assert_eq!(bad["meta_data"], Value::Array(vec![]));
    assert!(bad["error"].as_str().is_some_and(|error| error.contains("No such file")), "{bad}");
    let refused = bench.call("--json 0 v08 DEV internal get-gi");
    assert_eq!(refused.exit, 10);
    assert_eq!(refused.stderr, "The --json option is only allowed with show-gi and scan\n");
}

#[test]
fn a_damaged_super_block_is_dumped_as_far_as_it_goes() {
    let bench = used();
    let at = super_block_at(&bench);
    bench.write(at + 60, &[0, 0, 0, 0]);
    bench.write(at + 76, &[0x7f]);
    let before = bench.image(0);
    // Two of the four fields that follow from the place are not enough without a magic.
    bench.write(at + 68, &[0x7f]);
    let nothing = bench.call("0 v08 DEV internal dump-md");
    assert_eq!((nothing.exit, nothing.stdout.as_str(), nothing.stderr.as_str()), (255, "", ""));
    bench.write(at + 68, &[0xff]);
    let dump = bench.call("0 v08 DEV internal dump-md");
    assert_eq!(dump.exit, 255);
    assert_eq!(
        dump.stderr,
        "The super block at byte 67104768 of DEV is damaged.\n\
         The dump shows what can be read of it; it is marked as not to be trusted.\n"
    );
    for line in [
        "This_is_a_dump_of_damaged_meta_data._Don't_trust_it.\n",
        "#   magic is 0x00000000, expected 0x8374026b\n",
        "#   bm_offset is 2147483576, expected -72\n",
        "    0x6F1B3A2C4D5E6F70; 0x0000000000000000; 0x0000000000000001; 0x0000000000000002;\n",
        "# bits-set 2;\n",
    ] {
        assert!(dump.stdout.contains(line), "{line}: {}", dump.stdout);
    }
    assert!(bench.image(0) == before);
    // Nobody takes it as it is; with the line gone it makes whole meta data again.
    std::fs::write(bench.path("dump.txt"), &dump.stdout).expect("dump file");
    assert_eq!(bench.call("--force 0 v08 DEV internal restore-md dump.txt").exit, 10);
    assert!(bench.image(0) == before);
    let corrected: String = dump
        .stdout
        .lines()
        .filter(|line| !line.starts_with("This_is"))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(bench.path("dump.txt"), corrected).expect("dump file");
    bench.done("--force 0 v08 DEV internal restore-md dump.txt");
    let gi = bench.done("0 v08 DEV internal get-gi").stdout;
    assert!(gi.starts_with("6F1B3A2C4D5E6F70:") && gi.ends_with(":1:1:0:0:0:0:0\n"), "{gi}");
}

#[test]
fn a_hexdump_shows_the_bytes_whatever_they_are() {
    let bench = used();
    let dump = bench.done("0 v08 DEV internal hexdump-superblock").stdout;
    assert!(
        dump.starts_with("# 4096 bytes at byte 67104768 of DEV\n00000000  00 00 00 00 00 01 ff b0  6f 1b"),
        "{dump}"
    );
    assert!(dump.contains("00 00 00 11 83 74 02 6b  |"), "{dump}");
    let nothing = bench.done("0 v08 DEV flex-external hexdump-superblock").stdout;
    assert!(nothing.contains("00000430  "), "{nothing}");
}

#[test]
fn help_names_what_8_3_16_does_not_have() {
    let bench = Bench::new(DEVICE_BYTES).expect("room for the device");
    let help = bench.done("--help");
    for word in ["USAGE: drbdmeta", "apply-al", "scan [--json] [DEVICE...]", "--al-stripe-size-kB KB"] {
        assert!(help.stdout.contains(word), "{word}");
    }
}

/// Meta data that were just created say nothing about the data in front of them.
#[test]
fn a_disk_that_was_never_in_use_is_not_called_half_copied() {
    for line in ["0 v08 DEV internal create-md", "0 v07 DEV flex-internal create-md"] {
        let bench = Bench::new(DEVICE_BYTES).expect("room for the device");
        bench.done(line);
        let outcome = bench.done("scan DEV");
        assert!(table(&outcome)[0].contains(" never attached Secondary Inconsistent "), "{}", outcome.stdout);
        assert!(!outcome.stdout.contains("  ! "), "{}", outcome.stdout);
    }
}

/// Where v07 has its parts, not where v08 would have them.
#[test]
fn scan_shows_the_places_of_v07() {
    let bench = Bench::new(4 * DEVICE_BYTES).expect("room for the device");
    bench.done("0 v07 DEV internal create-md");
    let scanned: Value = serde_json::from_str(&bench.done("scan --json DEV").stdout).expect("JSON");
    let found = &scanned["devices"][0]["meta_data"][0];
    assert_eq!((&found["format"], &found["index"]), (&Value::from("v07"), &Value::from("internal")));
    assert_eq!(found["super_block_offset"], 134_217_728);
    assert_eq!(found["activity_log"]["offset"], 134_221_824);
    assert_eq!(found["bitmap"]["offset"], 134_254_592);
    assert_eq!(found["data"]["bytes"], 134_217_728);
    let text = bench.done("scan DEV").stdout;
    assert!(text.contains("'drbdmeta - v08 DEV internal create-md' asks, and converts it to v08"), "{text}");
}
