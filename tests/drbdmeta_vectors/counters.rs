//! Meta data of DRBD 0.6 and 0.7: what the vectors do not show of them.

use super::bench::Bench;
use super::case::{unhex, Stdin};
use drbdbox::meta::activity_log::{LogWriter, SlotUpdate};
use drbdbox::meta::LogGeometry;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// Size of the device, INDEX, byte offset of super block, activity log and bitmap.
const PLACES: &[(u64, &str, u64, u64, u64)] = &[
    (256 * MIB, "internal", 134_217_728, 134_221_824, 134_254_592),
    (64 * MIB, "flex-internal", 67_104_768, 67_072_000, 67_067_904),
    (64 * MIB, "flex-external", 0, 4096, 36_864),
    (256 * MIB, "1", 134_217_728, 134_221_824, 134_254_592),
];

/// Of 130000 sectors, 1:2:3:4:5:1:1:0, extent 5 hot, two bits set.
fn used(&(bytes, index, block, log, bitmap): &(u64, &str, u64, u64, u64)) -> Bench {
    let bench = Bench::new(bytes).expect("room for the device");
    bench.done(&format!("0 v07 DEV {index} create-md"));
    bench.done(&format!("--force 0 v07 DEV {index} set-gi 1:2:3:4:5:1:1:0"));
    bench.write(block, &65_000u64.to_be_bytes());
    let mut writer = LogWriter::new(LogGeometry::CLASSIC, 257, 512);
    let write = writer.transaction(&[SlotUpdate { slot: 3, extent: 5 }]).expect("one update");
    bench.write(log + write.offset, &write.bytes);
    bench.write(bitmap, &[3]);
    bench
}

fn dump(bench: &Bench, place: &str) -> String {
    let text = bench.done(&format!("{place} dump-md")).stdout;
    std::fs::write(bench.path("dump.txt"), &text).expect("dump file");
    text
}

/// A dump without the lines that name time and command.
fn body(dump: &str) -> &str {
    &dump[dump.find("version").expect("a dump")..]
}

#[test]
fn a_dump_of_v07_goes_back() {
    for place in PLACES {
        let bench = used(place);
        let name = format!("0 v07 DEV {}", place.1);
        let text = dump(&bench, &name);
        assert!(text.contains("gc {\n    7; 2; 3; 4; 5;\n}\n"), "{text}");
        assert!(text.contains("la-size-sect 130000;\n") && text.contains("# bits-set 2;\n"), "{text}");
        let verified = bench.done(&format!("{name} verify-dump dump.txt"));
        assert_eq!(verified.stdout, "input file parsed ok\n");
        let before = bench.image(0);
        // Over meta data in place: asks, and leaves the log alone.
        let refused = bench.call(&format!("{name} restore-md dump.txt"));
        assert_eq!(refused.exit, 255);
        assert!(refused.stdout.contains("Valid meta-data in place, overwrite?\n"), "{}", refused.stdout);
        assert!(bench.image(0) == before);
        bench.write(place.4, &[0xff; 64]);
        bench.done(&format!("--force {name} set-gi 0:9:9:9:9:0:0:1"));
        let restored = bench.done(&format!("--force {name} restore-md dump.txt"));
        assert!(restored.stdout.ends_with("Successfully restored meta data\n"), "{}", restored.stdout);
        assert!(bench.image(0) == before);
        // Where there are none: with an empty log.
        let wiped = bench.done(&format!("--force {name} wipe-md"));
        assert!(wiped.stdout.ends_with("DRBD meta data block successfully wiped out.\n"), "{}", wiped.stdout);
        bench.write(place.3, &[0x5a; 512]);
        if place.2 == 0 {
            bench.write(0, &[0; 4096]);
            bench.write(4096, &[0; 65536]);
        }
        bench.done(&format!("--force {name} restore-md dump.txt"));
        assert_eq!(body(&dump(&bench, &name)), body(&text));
        assert!(bench.read(place.3, 32768).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_hot_log_of_v07_is_applied_once() {
    for place in PLACES {
        let bench = used(place);
        let name = format!("0 v07 DEV {}", place.1);
        let outcome = bench.done(&format!("{name} apply-al"));
        assert_eq!(
            outcome.stderr,
            "5 corrupt or uninitialized AL transactions found\n\
             You can safely ignore this if this node was cleanly stopped (no crash).\n\
             Marked additional 4096 KB as out-of-sync based on AL.\n"
        );
        assert_eq!(bench.read(place.4 + 5 * 128, 128), vec![0xff; 128]);
        assert!(bench.read(place.3, 32768).iter().all(|byte| *byte == 0));
        // The counters stay as they are, so the host is still a crashed Primary.
        assert_eq!(bench.done(&format!("{name} get-gi")).stdout, "1:2:3:4:5:1:1:0\n");
        let before = bench.image(0);
        let again = bench.done(&format!("{name} apply-al"));
        assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
        assert!(bench.image(0) == before);
    }
}

#[test]
fn wiped_counters_are_gone() {
    for place in PLACES {
        let bench = used(place);
        let name = format!("0 v07 DEV {}", place.1);
        let kept = bench.call(&format!("{name} wipe-md"));
        assert_eq!(kept.exit, 1);
        assert!(kept.stdout.ends_with("Operation cancelled.\n"), "{}", kept.stdout);
        bench.done(&format!("{name} get-gi"));
        bench.done(&format!("--force {name} wipe-md"));
        assert!(bench.read(place.2, 4096).iter().all(|byte| *byte == 0));
        let again = bench.done(&format!("{name} wipe-md"));
        assert_eq!(again.stderr, "There appears to be no drbd meta data to wipe out?\n");
        for command in ["get-gi", "show-gi", "dump-md", "outdate", "invalidate", "set-gi 1"] {
            let outcome = bench.call(&format!("{name} {command}"));
            assert_eq!((outcome.exit, outcome.stdout + &outcome.stderr), (255, String::new()), "{command}");
        }
        for command in ["dstate", "apply-al"] {
            let outcome = bench.call(&format!("{name} {command}"));
            assert_eq!(
                (outcome.exit, outcome.stderr.as_str()),
                (255, "No valid meta data found\n"),
                "{command}"
            );
        }
        let verbose = bench.call(&format!("-v {name} get-gi"));
        assert_eq!(verbose.stderr, "v07 Magic number not found\n");
    }
}

/// What a format does not have is refused, and nothing is written.
#[test]
fn commands_that_do_not_exist_for_a_format() {
    let bench = used(&PLACES[1]);
    std::fs::write(bench.counters_file(), unhex("000000070000000200000003000000040000000583740269"))
        .expect("file");
    let before = bench.image(0);
    let file = std::fs::read(bench.counters_file()).expect("file");
    let v07 = "0 v07 DEV flex-internal";
    let no_uuid = |command| format!("{command} does not work on meta data of DRBD");
    for (line, exit, start) in [
        (
            format!("{v07} check-resize"),
            255,
            "Operation only supported for v8 internal meta data\n".to_string(),
        ),
        ("0 v06 0 check-resize".into(), 255, "Operation only supported for v8 internal meta data\n".into()),
        (format!("{v07} read-dev-uuid"), 20, no_uuid("read-dev-uuid") + " 0.7."),
        (format!("{v07} write-dev-uuid 1"), 20, no_uuid("write-dev-uuid") + " 0.7."),
        ("0 v06 0 read-dev-uuid".into(), 20, no_uuid("read-dev-uuid") + " 0.6."),
        ("--force 0 v06 0 create-md".into(), 20, no_uuid("create-md") + " 0.6."),
        ("--force 0 v06 0 wipe-md".into(), 20, no_uuid("wipe-md") + " 0.6."),
        ("0 v06 0 apply-al".into(), 20, no_uuid("apply-al") + " 0.6."),
        ("0 v06 0 hexdump-superblock".into(), 20, no_uuid("hexdump-superblock") + " 0.6."),
        ("0 v09 DEV internal get-gi".into(), 20, "Unknown format 'v09'.\n".into()),
    ] {
        let outcome = bench.call(&line);
        assert_eq!((outcome.exit, outcome.stdout.as_str()), (exit, ""), "{line}");
        assert!(outcome.stderr.starts_with(&start), "{line}: {}", outcome.stderr);
        assert!(bench.image(0) == before, "{line}");
        assert_eq!(std::fs::read(bench.counters_file()).expect("file"), file, "{line}");
    }
}

#[test]
fn a_dump_of_v06_goes_back() {
    let bench = Bench::new(MIB).expect("room for the device");
    let file = unhex("000000070000000200000003000000040000000583740269");
    std::fs::write(bench.counters_file(), &file).expect("file");
    dump(&bench, "0 v06 0");
    bench.done("0 v06 0 verify-dump dump.txt");
    bench.done("--force 0 v06 0 set-gi 0:9");
    assert_eq!(bench.call("0 v06 0 restore-md dump.txt").exit, 255);
    assert_ne!(std::fs::read(bench.counters_file()).expect("file"), file);
    bench.done("--force 0 v06 0 restore-md dump.txt");
    assert_eq!(std::fs::read(bench.counters_file()).expect("file"), file);
    std::fs::remove_file(bench.counters_file()).expect("file");
    bench.done("--dry-run 0 v06 0 restore-md dump.txt");
    assert!(!bench.counters_file().exists());
    bench.done("0 v06 0 restore-md dump.txt");
    assert_eq!(std::fs::read(bench.counters_file()).expect("file"), file);
}

/// Neither generation is lost to the other without a question.
#[test]
fn one_generation_is_not_restored_over_another() {
    let v07 = used(&PLACES[1]);
    let v07_text = dump(&v07, "0 v07 DEV flex-internal");
    let v08 = Bench::new(64 * MIB).expect("room for the device");
    v08.done("0 v08 DEV internal create-md");
    let v08_text = dump(&v08, "0 v08 DEV internal");
    for (bench, text, line, exit, question) in [
        (&v07, &v08_text, "0 v08 DEV internal", 255, "Valid v07 meta-data in place, overwrite?"),
        (&v08, &v07_text, "--force 0 v07 DEV flex-internal", 10, ""),
        (&v07, &v08_text, "--force 0 v07 DEV flex-internal", 10, ""),
        (&v08, &v07_text, "--force 0 v08 DEV internal", 10, ""),
    ] {
        std::fs::write(bench.path("other.txt"), text).expect("dump file");
        let before = bench.image(0);
        let outcome = bench.call(&format!("{line} restore-md other.txt"));
        assert_eq!(outcome.exit, exit, "{line}: {}", outcome.stderr);
        assert!(outcome.stdout.contains(question), "{line}: {}", outcome.stdout);
        assert!(bench.image(0) == before, "{line}");
    }
    std::fs::write(v07.path("other.txt"), &v08_text).expect("dump file");
    v07.done("--force 0 v08 DEV internal restore-md other.txt");
    assert_eq!(body(&dump(&v07, "0 v08 DEV internal")), body(&v08_text));
}

/// A wrong size of the area is only reported; other wrong fields make it no meta data.
#[test]
fn fields_of_v07_that_do_not_fit_their_place() {
    for (at, value, exit, text) in [
        (32, 41u32, 0, "strange md_size_sect 82 (expected: 80)\n"),
        (36, 8, 255, "v07 Magic number (al_offset) not found\n\texpected: -64, found 8\n"),
        (44, 0xffff_ffb0, 255, "strange bm_offset -80 (expected: -72)\n"),
        (28, 0x8374_0269, 255, ""),
    ] {
        let bench = used(&PLACES[1]);
        bench.write(PLACES[1].2 + at, &value.to_be_bytes());
        let outcome = bench.call("0 v07 DEV flex-internal get-gi");
        assert_eq!((outcome.exit, outcome.stderr.as_str()), (exit, text));
    }
}

#[test]
fn garbage_in_every_field_of_v07() {
    let bench = used(&PLACES[0]);
    let good = bench.read(PLACES[0].2, 4096);
    for word in 0..13 {
        for value in [0u32, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1000] {
            let mut block = good.clone();
            block[word * 4..word * 4 + 4].copy_from_slice(&value.to_be_bytes());
            bench.write(PLACES[0].2, &block);
            let before = bench.image(0);
            for line in
                ["get-gi", "show-gi", "dump-md", "dstate", "hexdump-superblock", "--dry-run apply-al", "scan"]
            {
                let line = match line {
                    "scan" => "scan DEV".to_string(),
                    line => format!("-v 0 v07 DEV internal {line}"),
                };
                let outcome = bench.call(&line);
                let context = format!("word {word} = {value:#x}: {line}: {}", outcome.stderr);
                assert!([0, 10, 255].contains(&outcome.exit), "{context}");
                assert!(!outcome.stderr.contains("panicked"), "{context}");
                assert!(bench.image(0) == before, "{context}");
            }
        }
    }
}

/// As `bad_input::dumps_with_a_line_missing_doubled_or_cut`, for the other formats.
#[test]
fn dumps_of_counters_with_a_line_missing_doubled_or_out_of_range() {
    let bench = used(&PLACES[1]);
    let v07 = "version \"v07\";\ngc {\n7;\n2;\n3;\n4;\n5;\n}\nla-size-sect 130000;\nbm {\n256 times 0x0000000000000001;\n}\n";
    let v06 = "version \"v06\";\ngc {\n7;\n2;\n3;\n4;\n5;\n}\n";
    std::fs::write(bench.counters_file(), unhex("000000070000000200000003000000040000000583740269"))
        .expect("file");
    let before = (bench.image(0), std::fs::read(bench.counters_file()).expect("file"));
    for (whole, place) in [(v07, "0 v07 DEV flex-internal"), (v06, "0 v06 0")] {
        let lines: Vec<&str> = whole.lines().collect();
        let text = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let mut bad = vec![
            whole.replace("5;\n}", "4294967296;\n}"),
            whole.replace("5;\n}", "99999999999999999999;\n}"),
            whole.replace("5;\n}", "-5;\n}"),
            whole.replace("v0", "v1"),
        ];
        if whole == v07 {
            bad.push(whole.replace("130000", "0x1000"));
            bad.push(whole.replace("256 times", "99999999999999999999 times"));
        }
        for (i, line) in lines.iter().enumerate() {
            let is_optional = line.contains("times");
            let without = [&lines[..i], &lines[i + 1..]].concat();
            let twice = [&lines[..=i], &lines[i..]].concat();
            let half = format!("{}{}", text(&lines[..i]), &line[..line.len() / 2]);
            bad.extend([text(&lines[..i]), half]);
            if !is_optional {
                bad.extend([text(&without), text(&twice)]);
            }
        }
        for dump in bad {
            std::fs::write(bench.path("dump.txt"), &dump).expect("dump file");
            for command in ["verify-dump", "restore-md"] {
                let outcome = bench.call(&format!("--force {place} {command} dump.txt"));
                assert_eq!(outcome.exit, 10, "{command} {dump}");
                assert!(!outcome.stdout.contains("Successfully"), "{command} {dump}");
                assert!(
                    outcome.stderr.contains("line") || outcome.stderr.contains("dump is"),
                    "{}",
                    outcome.stderr
                );
                let now = (bench.image(0), std::fs::read(bench.counters_file()).expect("file"));
                assert!(now == before, "{command} {dump}");
            }
        }
        std::fs::write(bench.path("dump.txt"), whole).expect("dump file");
        bench.done(&format!("{place} verify-dump dump.txt"));
    }
}

/// With whichever write the device begins to fail: no success is claimed, and a bitmap that is only half there does not
/// count.
#[test]
fn a_device_that_fails_to_write_v07() {
    let place = &PLACES[2];
    for (command, needs) in [
        ("restore-md dump.txt", 40960),
        ("apply-al", 40960),
        ("wipe-md", 4096),
        ("invalidate", 4096),
        ("set-gi 0", 4096),
    ] {
        for end in [0u64, 4096, 36864, 40960] {
            let bench = used(place);
            dump(&bench, "0 v07 DEV flex-external");
            let before = bench.image(end);
            let words: Vec<String> =
                format!("--force 0 v07 DEV flex-external {command}").split(' ').map(str::to_string).collect();
            let outcome = bench.run_with_writes_failing_from(end, &words, &Stdin::Empty);
            let is_done = outcome.exit == 0;
            assert_eq!(is_done, end >= needs, "{command} {end}: {} {}", outcome.exit, outcome.stderr);
            assert!(is_done || outcome.stderr.contains("failed: File too large"), "{command} {end}");
            assert!(is_done || !outcome.stdout.contains("uccessfully"), "{command} {end}");
            assert!(bench.image(end) == before, "{command} {end}: wrote behind the limit");
            if !is_done && command.starts_with("restore") {
                let full_sync = if end >= 4096 { "1" } else { "0" };
                let gi = bench.done("0 v07 DEV flex-external get-gi").stdout;
                assert_eq!(gi, format!("1:2:3:4:5:1:1:{full_sync}\n"));
            }
        }
    }
}

#[test]
fn counters_as_json() {
    let bench = used(&PLACES[0]);
    let shown: Value =
        serde_json::from_str(&bench.done("--json 0 v07 DEV internal show-gi").stdout).expect("JSON");
    assert_eq!(shown["format"], "v07");
    assert_eq!((&shown["human_count"], &shown["arbitrary_count"]), (&Value::from(2), &Value::from(5)));
    assert_eq!((&shown["primary_ind"], &shown["full_sync"]), (&Value::from(true), &Value::from(false)));
    assert_eq!(shown["last_agreed_sectors"], 130_000);
    std::fs::write(bench.counters_file(), unhex("000000070000000200000003000000040000000583740269"))
        .expect("file");
    let shown: Value = serde_json::from_str(&bench.done("--json 0 v06 0 show-gi").stdout).expect("JSON");
    assert_eq!((&shown["format"], &shown["last_agreed_sectors"]), (&Value::from("v06"), &Value::Null));
}

/// What 8.3.16 makes of v08 is broken, as it says itself.
#[test]
fn v08_is_not_converted_back() {
    let bench = Bench::new(256 * MIB).expect("room for the device");
    bench.done("0 v08 DEV internal create-md");
    let before = bench.image(0);
    for index in ["flex-internal", "internal"] {
        let outcome = bench.call(&format!("--force 0 v07 DEV {index} create-md"));
        assert_eq!((outcome.exit, outcome.stdout.as_str()), (10, ""), "{index}");
        assert!(outcome.stderr.contains("It is not converted to v07"), "{}", outcome.stderr);
        assert!(bench.image(0) == before);
    }
}
