//! Devices and dumps that are not as they should be: an error that says what, and a disk that is as before.

use super::bench::{words, Bench};
use super::case::Stdin;
use super::prepare::super_block_at;
use nix::fcntl::{Flock, FlockArg};

const DEVICE_BYTES: u64 = 67_108_864;

/// Every command with what it needs.
pub const COMMANDS: &[&str] = &[
    "get-gi",
    "show-gi",
    "dump-md",
    "restore-md dump.txt",
    "create-md",
    "wipe-md",
    "outdate",
    "invalidate",
    "dstate",
    "hexdump-superblock",
    "check-resize",
    "apply-al",
    "read-dev-uuid",
    "write-dev-uuid 1",
    "set-gi 6",
];

/// Of those, the ones that only read.
const READERS: &[&str] = &["get-gi", "show-gi", "dump-md", "dstate", "hexdump-superblock", "read-dev-uuid"];

pub const DUMP: &str = "version \"v08\";\n\
    uuid {\n\
    0x6F1B3A2C4D5E6F70; 0x0000000000000001;\n\
    0x0000000000000002; 0x0000000000000003;\n\
    flags 0x00000011;\n\
    }\n\
    la-size-sect 130992;\n\
    bm-byte-per-bit 4096;\n\
    device-uuid 0x0000000000000001;\n\
    la-peer-max-bio-size 131072;\n\
    bm {\n\
    256 times 0x0000000000000001;\n\
    }\n";

fn bench(bytes: u64) -> Bench {
    let bench = Bench::new(bytes).expect("room for the device");
    std::fs::write(bench.path("dump.txt"), DUMP).expect("dump file");
    bench
}

/// Meta data of a disk that was in use.
fn used() -> Bench {
    let bench = bench(DEVICE_BYTES);
    assert_eq!(bench.call("0 v08 DEV internal create-md").exit, 0);
    let at = super_block_at(&bench);
    bench.write(at, &130_992u64.to_be_bytes());
    bench.write(at + 59, &[0x13]);
    bench
}

#[test]
fn devices_that_are_too_short() {
    for bytes in [0, 1, 511, 512, 4095, 36863] {
        let bench = bench(bytes);
        for index in ["internal", "flex-external", "0"] {
            for command in COMMANDS {
                let outcome = bench.call(&format!("--force 0 v08 DEV {index} {command}"));
                assert_eq!(outcome.exit, 10, "{bytes} {index} {command}");
                assert_eq!(outcome.stderr, format!("DEV is only {bytes} bytes. That's not enough.\n"));
            }
        }
    }
    for bytes in [36864, 40960, 69631] {
        let bench = bench(bytes);
        for command in ["create-md", "restore-md dump.txt"] {
            let outcome = bench.call(&format!("--force 0 v08 DEV internal {command}"));
            assert_eq!(outcome.exit, 10, "{bytes} {command}: {}", outcome.stderr);
            assert!(!outcome.stderr.is_empty(), "{bytes} {command}");
            assert!(bench.image(0).is_empty(), "{bytes} {command}");
        }
    }
    let bench = bench(1 << 20);
    let outcome = bench.call("0 v08 DEV 1 create-md");
    assert_eq!(outcome.exit, 10);
    assert_eq!(
        outcome.stderr,
        "Device too small: expecting meta data block at\nbyte offset 134217728, but DEV is only 1048576 bytes.\n"
    );
}

/// 9.22 ends with an assertion.
#[test]
fn a_device_that_is_too_large() {
    let Some(bench) = Bench::new((1 << 50) + 4096) else {
        eprintln!("skipped: no file system here holds a file of 1 PiB");
        return;
    };
    std::fs::write(bench.path("dump.txt"), DUMP).expect("dump file");
    for command in COMMANDS {
        let outcome = bench.call(&format!("--force 0 v08 DEV internal {command}"));
        assert_eq!(outcome.exit, 10, "{command}");
        assert_eq!(outcome.stderr, "Device too large. We only support up to 1024 TB.\n", "{command}");
    }
    assert!(bench.image(0).is_empty());
}

#[test]
fn a_file_that_somebody_else_has_locked() {
    let bench = used();
    let before = bench.image(0);
    let file = std::fs::File::open(bench.device()).expect("device");
    let _held = Flock::lock(file, FlockArg::LockExclusive).expect("lock");
    for command in COMMANDS {
        let outcome = bench.call(&format!("0 v08 DEV internal {command}"));
        assert_eq!(outcome.exit, 20, "{command}");
        assert_eq!(outcome.stderr, "open(DEV) failed: Device or resource busy\n", "{command}");
        assert!(bench.image(0) == before);
    }
}

/// Only what reads works on a device that cannot be written.
#[test]
fn a_device_that_is_read_only() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: loop devices need root");
        return;
    }
    let Some(bench) = used().into_read_only_block_device() else {
        eprintln!("skipped: losetup does not work here");
        return;
    };
    let before = bench.image(0);
    for command in COMMANDS {
        let outcome = bench.call(&format!("--force 0 v08 DEV internal {command}"));
        let is_reader = READERS.contains(command);
        assert_eq!(outcome.exit, if is_reader { 0 } else { 20 }, "{command}: {}", outcome.stderr);
        if !is_reader {
            assert_eq!(outcome.stderr, "open(DEV) failed: Read-only file system\n", "{command}");
        }
    }
    assert_eq!(bench.call("scan DEV").exit, 0);
    assert_eq!(bench.call("--dry-run --force 0 v08 DEV internal create-md").exit, 0);
    assert!(bench.image(0) == before);
}

/// The writes of a command fail one after the other: with which ever of them the device begins to fail, the command
/// says so, does not claim success, and what it had not reached is as before.
#[test]
fn a_device_that_fails_to_write() {
    let ends = [0u64, 4096, 36864, 40960];
    for command in
        ["create-md", "restore-md dump.txt", "wipe-md", "outdate", "invalidate", "set-gi 6", "apply-al"]
    {
        for end in ends {
            let bench = bench(DEVICE_BYTES);
            assert_eq!(bench.call("0 v08 DEV flex-external create-md").exit, 0);
            bench.write(0, &130_992u64.to_be_bytes());
            bench.write(59, &[0x13]);
            // One hot extent.
            let mut writer = drbdbox::meta::activity_log::LogWriter::new(Default::default(), 257, 512);
            let update = drbdbox::meta::activity_log::SlotUpdate { slot: 3, extent: 1 };
            let write = writer.transaction(&[update]).expect("one update");
            bench.write(4096 + write.offset, &write.bytes);
            let before = bench.image(end);
            let words = words(&format!("--force 0 v08 DEV flex-external {command}"));
            let outcome = bench.run_with_writes_failing_from(end, &words, &Stdin::Empty);
            let is_done = outcome.exit == 0;
            assert!(is_done || !outcome.stdout.contains("successfully"), "{command} {end}");
            assert!(bench.image(end) == before, "{command} {end}: wrote behind the limit");
            let needs = match command {
                "restore-md dump.txt" | "apply-al" => 40960,
                "create-md" => 36864,
                _ => 4096,
            };
            assert_eq!(is_done, end >= needs, "{command} {end}: {} {}", outcome.exit, outcome.stderr);
            assert!(
                is_done || outcome.stderr.contains("failed: File too large"),
                "{command} {end}: {}",
                outcome.stderr
            );
        }
    }
}

#[test]
fn garbage_in_every_field() {
    let bench = used();
    let at = super_block_at(&bench);
    let log_at = at - 32768;
    let good = bench.read(at, 4096);
    let mut judged = 0;
    for word in 0..26 {
        for value in [0u32, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1000] {
            let mut block = good.clone();
            block[word * 4..word * 4 + 4].copy_from_slice(&value.to_be_bytes());
            bench.write(at, &block);
            let before = bench.image(0);
            for command in READERS.iter().chain(&["scan"]) {
                let line = match *command {
                    "scan" => "scan DEV".to_string(),
                    command => format!("-v 0 v08 DEV internal {command}"),
                };
                let outcome = bench.call(&line);
                let context = format!("word {word} = {value:#x}: {command}: {}", outcome.stderr);
                assert!([0, 10, 255].contains(&outcome.exit), "{context}");
                assert!(!outcome.stderr.contains("panicked"), "{context}");
                assert!(bench.image(0) == before, "{context}");
                judged += 1;
            }
            let outcome = bench.call("0 v08 DEV internal apply-al");
            let context = format!("word {word} = {value:#x}: apply-al {} {}", outcome.exit, outcome.stderr);
            assert!([0, 10, 255].contains(&outcome.exit), "{context}");
            assert!(outcome.exit == 0 || bench.image(0) == before, "{context}");
            // What apply-al wrote besides the super block is wiped for the next round.
            bench.write(log_at, &[0; 32768]);
        }
    }
    assert_eq!(judged, 26 * 6 * (READERS.len() + 1));
}

/// A dump with `dump` as its text is refused as such, and nothing is written.
fn refused(bench: &Bench, dump: &str, context: &str) {
    std::fs::write(bench.path("dump.txt"), dump).expect("dump file");
    let before = bench.image(0);
    let verified = bench.call("0 v08 DEV internal verify-dump dump.txt");
    assert_eq!(verified.exit, 10, "{context}");
    assert!(
        verified.stderr.contains("arse error in line") || verified.stderr.contains("dump is"),
        "{context}"
    );
    assert_eq!(verified.stdout, "", "{context}");
    let restored = bench.call("--force 0 v08 DEV internal restore-md dump.txt");
    assert_eq!(restored.exit, 10, "{context}");
    assert!(restored.stderr.ends_with(&verified.stderr), "{context}: {}", restored.stderr);
    assert!(bench.image(0) == before, "{context}");
}

#[test]
fn dumps_with_a_line_missing_doubled_or_cut() {
    let bench = used();
    let lines: Vec<&str> = DUMP.lines().collect();
    let text = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    for (i, line) in lines.iter().enumerate() {
        // These may be left out, or be there more than once.
        let is_optional = line.starts_with("la-peer") || line.contains("times");
        let mut missing = lines.clone();
        missing.remove(i);
        if !is_optional {
            refused(&bench, &text(&missing), &format!("without '{line}'"));
        }
        let mut doubled = lines.clone();
        doubled.insert(i, line);
        if !line.contains("times") {
            refused(&bench, &text(&doubled), &format!("twice '{line}'"));
        }
        refused(&bench, &text(&lines[..i]), &format!("ends before '{line}'"));
        let half = format!("{}{}", text(&lines[..i]), &line[..line.len() / 2]);
        refused(&bench, &half, &format!("ends within '{line}'"));
    }
}

#[test]
fn dumps_with_values_out_of_range() {
    let bench = used();
    for (old, new) in [
        ("\"v08\"", "\"v09\""),
        ("\"v08\"", "\"v07\""),
        ("\"v08\"", "\"a name that is far too long\""),
        ("0x6F1B3A2C4D5E6F70", "0x6F1B3A2C4D5E6F7"),
        ("0x6F1B3A2C4D5E6F70", "0x6F1B3A2C4D5E6F700"),
        ("0x6F1B3A2C4D5E6F70", "0x6F1B3A2C4D5E6F7G"),
        ("0x00000011", "0x0000000000000011"),
        ("130992", "-1"),
        ("130992", "99999999999999999999"),
        ("256 times", "99999999999999999999 times"),
        ("256 times", "-256 times"),
        ("4096", "0x1000"),
    ] {
        refused(&bench, &DUMP.replacen(old, new, 1), new);
    }
    // These can be read, and still make no meta data.
    for (old, new, error) in [
        ("4096", "5000", "Invalid value for bm-byte-per-bit: value must be a power-of-two multiple of 4096"),
        ("4096", "0", "Invalid value for bm-byte-per-bit: value must be a power-of-two multiple of 4096"),
        ("131072;", "131072; al-stripes 0; al-stripe-size-4k 7;", "invalid al-stripe* settings"),
        ("131072;", "131072; al-stripes 4294967297; al-stripe-size-4k 8;", "invalid al-stripe* settings"),
    ] {
        std::fs::write(bench.path("dump.txt"), DUMP.replacen(old, new, 1)).expect("dump file");
        let before = bench.image(0);
        let restored = bench.call("--force 0 v08 DEV internal restore-md dump.txt");
        assert_eq!((restored.exit, restored.stdout.contains("Successfully")), (10, false), "{new}");
        assert!(restored.stderr.ends_with(&format!("{error}\n")), "{new}: {}", restored.stderr);
        assert!(bench.image(0) == before, "{new}");
    }
}

/// More words than there is room for, and a size that no device has: cut, so that the log is not overwritten.
#[test]
fn dumps_of_a_larger_device() {
    let bench = used();
    let dump =
        DUMP.replace("256 times", "9000000000000000000 times").replace("130992", "9000000000000000000");
    std::fs::write(bench.path("dump.txt"), dump).expect("dump file");
    let outcome = bench.call("--force 0 v08 DEV internal restore-md dump.txt");
    assert_eq!(outcome.exit, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("Bitmap info too large, truncated!\n"), "{}", outcome.stderr);
    assert!(bench.read(67_072_000, 32768).iter().all(|byte| *byte == 0));
    let shown = bench.call("0 v08 DEV internal dump-md");
    assert_eq!(shown.exit, 0, "{}", shown.stderr);
}

#[test]
fn a_dump_file_that_is_not_there() {
    let bench = used();
    for command in ["restore-md", "verify-dump"] {
        let outcome = bench.call(&format!("0 v08 DEV internal {command} nowhere.txt"));
        assert_eq!(outcome.exit, 20);
        assert_eq!(outcome.stderr, "open of 'nowhere.txt' failed.\n");
    }
}

/// A bitmap without any pattern, and less memory than it has. From a file it is read twice; from a pipe it needs a place,
/// and without one the disk is as before.
#[test]
fn a_dump_that_does_not_fit_into_memory() {
    const WORDS: u64 = 1 << 18;
    let bench = bench((WORDS * 64 * 4096) + (64 << 20));
    let mut dump = DUMP.replace("256 times 0x0000000000000001;\n}\n", "");
    let word = |i: u64| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for line in 0..WORDS / 4 {
        let words: Vec<String> = (0..4).map(|i| format!(" 0x{:016X};", word(line * 4 + i))).collect();
        dump += &format!("   {}\n", words.concat());
    }
    dump += "}\n";
    std::fs::write(bench.path("dump.txt"), &dump).expect("dump file");
    let bitmap: Vec<u8> = (0..WORDS).flat_map(|i| word(i).to_le_bytes()).collect();
    let place = bench.path("place");
    // Memory in KiB; the text has 5 MiB.
    for (line, stdin, has_place, memory, exit) in [
        ("--force 0 v08 DEV internal restore-md dump.txt", Stdin::Empty, false, 3072, 0),
        ("--force 0 v08 DEV internal restore-md", Stdin::Pipe(dump.clone()), false, 7168, 10),
        ("--force 0 v08 DEV internal restore-md", Stdin::Pipe(dump.clone()), true, 7168, 0),
        ("0 v08 DEV internal verify-dump", Stdin::Pipe(dump.clone()), false, 3072, 0),
    ] {
        if has_place {
            std::fs::create_dir_all(&place).expect("place");
        }
        bench.call("--force 0 v08 DEV internal create-md");
        let at = super_block_at(&bench) - 32768 - (bench.size().div_ceil(128 << 20)) * 4096;
        bench.write(at, &[0; 4096]);
        let before = bench.read(super_block_at(&bench), 4096);
        let outcome = bench.run_with_memory(memory, &place, &words(line), &stdin);
        assert_eq!(outcome.exit, exit, "{line}: {}", outcome.stderr);
        if exit == 0 && line.contains("restore") {
            assert!(bench.read(at, bitmap.len()) == bitmap, "{line}");
        } else {
            assert!(bench.read(at, 4096).iter().all(|byte| *byte == 0), "{line}");
            assert!(bench.read(super_block_at(&bench), 4096) == before, "{line}");
        }
        if exit != 0 {
            assert!(
                outcome
                    .stderr
                    .contains("cannot be kept in DIR/place: No such file or directory; name its file"),
                "{line}: {}",
                outcome.stderr
            );
        }
        if has_place {
            assert_eq!(std::fs::read_dir(&place).expect("place").count(), 0);
        }
    }
}
