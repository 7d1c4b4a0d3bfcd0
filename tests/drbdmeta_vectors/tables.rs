//! Cases that are tables: one line a value, what the commands say about it.

use super::bench::Bench;
use super::case::{self, Case};
use super::prepare::super_block_at;

/// True for cases that this module replays.
pub fn has_own_form(case: &Case) -> bool {
    case.steps.is_empty() || case.initial.contains("with several lkbd contents")
}

fn bench(bytes: u64) -> Bench {
    let bench = Bench::new(bytes).expect("room for the device");
    let outcome = bench.call("0 v08 DEV internal create-md");
    assert_eq!(outcome.exit, 0, "{}", outcome.stderr);
    bench
}

fn find(file: &str, title: &str) -> Case {
    case::read(file).into_iter().find(|case| case.title.starts_with(title)).expect("case")
}

/// Lines that begin with `start`, each with the lines up to the next one.
fn groups<'a>(case: &'a Case, start: &str) -> Vec<&'a [String]> {
    let starts: Vec<usize> = (0..case.lines.len()).filter(|i| case.lines[*i].starts_with(start)).collect();
    let count = case.lines.len();
    let ends = starts.iter().skip(1).chain([&count]);
    starts.iter().zip(ends).map(|(start, end)| &case.lines[*start..*end]).collect()
}

const FILE_05: &str = "05-generation-identifiers-flags-validity.txt";

#[test]
fn flags_and_their_texts() {
    let case = find(FILE_05, "dstate and the flags line");
    let groups = groups(&case, "flags 0x");
    assert_eq!(groups.len(), 12);
    let bench = bench(case.device_bytes);
    let at = super_block_at(&bench);
    bench.write(at, &130_000u64.to_be_bytes());
    for group in groups {
        let (flags, rest) = group[0].split_once(": dstate rc 0 ").expect("form");
        bench.write(at + 56, &case::unhex(&flags["flags 0x".len()..]));
        let quoted: Vec<&str> = rest.split('"').collect();
        let dstate = bench.call("0 v08 DEV internal dstate");
        assert_eq!(dstate.stdout, format!("{}\n", quoted[1]), "{flags}");
        let get_gi = bench.call("0 v08 DEV internal get-gi");
        assert_eq!(get_gi.stdout, format!("{}\n", quoted[3]), "{flags}");
        let show_gi = bench.call("0 v08 DEV internal show-gi");
        // The mark of 8.4 is shown where it is set.
        let shown = show_gi.stdout.replace("meta-data: clean\n", "");
        let tail = group[1..].join("\n") + "\n";
        assert!(shown.ends_with(&tail), "{flags}: {shown}");
        assert_eq!(shown != show_gi.stdout, flags.ends_with("80") || flags.contains("0x0000009"));
    }
}

#[test]
fn last_agreed_sizes() {
    let case = find(FILE_05, "last agreed size");
    let groups = groups(&case, "la ");
    assert_eq!(groups.len(), 10);
    let bench = bench(case.device_bytes);
    let at = super_block_at(&bench);
    bench.write(at + 59, &[0x11]);
    for group in groups {
        let value = group[0].split(' ').nth(1).expect("value").trim_matches(':');
        bench.write(at, &value.parse::<u64>().expect("number").to_be_bytes());
        let outcome = bench.call("0 v08 DEV internal show-gi");
        let (fixed, tail): (Vec<_>, Vec<_>) =
            group[1..].iter().partition(|line| line.starts_with("la-size-sect"));
        for line in fixed {
            assert!(outcome.stdout.starts_with(line.as_str()), "{value}");
        }
        let tail: String = tail.iter().map(|line| format!("{line}\n")).collect();
        assert!(outcome.stdout.ends_with(&tail), "{value}: {}", outcome.stdout);
    }
}

/// What "name of the change" of the vector does to a super block.
fn change(name: &str) -> Option<(u64, Vec<u8>)> {
    let be = |at, value: i32| Some((at, value.to_be_bytes().to_vec()));
    match name {
        "magic 0" => be(60, 0),
        "magic v07" => be(60, 0x8374026au32 as i32),
        "magic v09" => be(60, 0x8374026du32 as i32),
        "md_size_sect +8" => be(64, 88),
        "al_offset 8" => be(68, 8),
        "bm_offset -80" => be(76, -80),
        "al_nr_extents 0" => be(72, 0),
        "bm_bytes_per_bit 0" => be(80, 0),
        "bm_bytes_per_bit 8192" => be(80, 8192),
        "bm_bytes_per_bit 5000" => be(80, 5000),
        "garbage in bytes 96..4095" => Some((96, vec![0xa5; 4000])),
        _ => {
            let (stripes, blocks) = name.strip_prefix("al_stripes ")?.split_once(", al_stripe_size_4k ")?;
            let mut bytes = stripes.parse::<u32>().ok()?.to_be_bytes().to_vec();
            bytes.extend(blocks.parse::<u32>().ok()?.to_be_bytes());
            Some((88, bytes))
        }
    }
}

#[test]
fn validity_of_super_blocks() {
    let case = find(FILE_05, "super block validity checks");
    let mut compared = 0;
    let mut group: Option<(String, i32)> = None;
    let mut texts: Vec<String> = Vec::new();
    let mut check = |group: &Option<(String, i32)>, texts: &[String]| {
        let Some((name, exit)) = group else { return };
        // Magic 6c is accepted, unlike in 8.3.16.
        let Some((offset, bytes)) = change(name) else {
            assert_eq!(name, "magic 8.4 unclean 0x8374026c");
            return;
        };
        let bench = bench(case.device_bytes);
        std::fs::remove_file(bench.record()).expect("record");
        bench.write(super_block_at(&bench) + offset, &bytes);
        let outcome = bench.call("-v 0 v08 DEV internal get-gi");
        assert_eq!(outcome.exit, *exit, "{name}");
        let lines = |prefix: &str| -> String {
            let lines = texts.iter().filter_map(|text| text.strip_prefix(prefix));
            lines.map(|line| format!("{line}\n")).collect()
        };
        assert_eq!(outcome.stdout, lines("  out: "), "{name}");
        // A hint about v09 is ours.
        let stderr: String = outcome
            .stderr
            .lines()
            .filter(|line| !line.contains("DRBD 9"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(stderr, lines("  err: "), "{name}");
        compared += 1;
    };
    for line in &case.lines {
        if let Some((name, exit)) = line.split_once(": exit ") {
            check(&group, &texts);
            texts.clear();
            group = Some((name.to_string(), exit.parse().expect("exit status")));
        } else {
            texts.push(line.clone());
        }
    }
    check(&group, &texts);
    assert_eq!(compared, 15);
}

#[test]
fn forms_of_the_last_known_record() {
    let case = find("07-last-known-device-and-resize.txt", "lkbd file forms");
    let groups = groups(&case, "lkbd content ");
    assert_eq!(groups.len(), 10);
    let bench = bench(case.device_bytes);
    let outcome = bench.call("0 v08 DEV internal write-dev-uuid 0123456789ABCDEF");
    assert_eq!(outcome.exit, 0);
    bench.resize(104_857_600).expect("resize");
    for group in groups {
        let (content, exit) = group[0].rsplit_once(": exit ").expect("form");
        let content =
            content["lkbd content ".len()..].trim_matches('\'').replace("\\n", "\n").replace("\\t", "\t");
        std::fs::write(bench.record(), &content).expect("record");
        let outcome = bench.call("-v 0 v08 DEV internal get-gi");
        assert_eq!(outcome.exit.to_string(), exit, "{content:?}");
        let expected: String =
            group[1..].iter().map(|line| format!("{}\n", line.trim_start_matches("  err: "))).collect();
        // Leading blanks belong to the text of some lines.
        let found: String = outcome.stderr.lines().map(|line| format!("{}\n", line.trim_start())).collect();
        let expected: String = expected.lines().map(|line| format!("{}\n", line.trim_start())).collect();
        assert_eq!(found, expected, "{content:?}");
    }
}
