//! Replays what real drbdmeta printed and left on disk (tests/vectors/metadata/README.md).

mod activity_logs;
mod bad_input;
mod bench;
mod case;
mod conversion;
mod counters;
mod crash;
mod defects;
mod failing_requests;
mod module;
mod prepare;
mod rescue;
mod special_files;
mod tables;

use bench::{mask_pwrite, Bench};
use case::{Case, Stdin, Step};

/// Steps that are not replayed: file, part of the title, part of the command line, why.
const SKIPPED: &[(&str, &str, &str, &str)] = &[
    ("02", "usage-and-argument-errors", "PLAINFILE", "regular files are accepted as devices"),
    ("02", "usage-and-argument-errors", "- v08 DEV internal get-gi", "`-` is accepted as DEVICE, as in 9.22"),
    ("02", "usage-and-argument-errors", "DEV v08 DEV", "needs a block device; the test's is a regular file"),
    ("04", "v07 create flex-internal 8.3.16", "v08", "8.3.16 wipes what it has just converted"),
    ("04", "v08 to v07", "", "a conversion that is broken, as 8.3.16 says itself; refused"),
    (
        "04",
        "v09 internal seen by 8.3.16",
        "",
        "v09 is recognized, as in 9.22, instead of overwritten without a question",
    ),
    ("06", "8.4 dump 8.3.16", "restore-md", "dumps of all releases are read"),
    (
        "06",
        "bitmap longer than the area",
        "restore-md",
        "a bitmap that is too long is cut instead of overwriting the activity log",
    ),
    ("06", "verify-dump: comments and odd spacing", "verify-dump", "dumps of all releases are read"),
    (
        "07",
        "apply-al after growing moves first",
        "",
        "8.3's empty log is reported once, where 9.22 finds the log of its own create-md",
    ),
    (
        "10",
        "8.3.16 tools on 8.4 meta data, unclean mark",
        "",
        "magic 6c is recognized instead of taken for no meta data",
    ),
    ("10", "9.22 dump-md", "", "dump-md follows 8.3.16, which does not refuse"),
    ("11", "device held exclusively", "", "regular files are locked, block devices need root"),
    (
        "14",
        "8.3.9: create-md and dump-md",
        "internal dump-md",
        "dump-md prints 8.3.16's form, which has one more line",
    ),
    ("14", "8.3.9: create-md and dump-md", "check-resize", "8.3.16 prints nothing"),
    ("14", "8.3.9: create-md and dump-md", "--peer-max-bio-size", "an option of 8.3.16"),
];

/// Usage texts that the vectors do not repeat.
const TEXT_NOT_SHOWN: &[&str] = &["0 v08 DEV", "--bogus 0 v08 DEV internal get-gi"];

fn skip_reason(case: &Case, step: &Step, bench: &Bench) -> Option<&'static str> {
    let line = step.words.join(" ");
    let needs_block_device = line.starts_with("DEV v08 DEV") || case.title.contains("held exclusively");
    if bench.is_block_device() && needs_block_device {
        return None;
    }
    SKIPPED
        .iter()
        .find(|(file, title, words, _)| {
            case.file.starts_with(file) && case.title.contains(title) && line.contains(words)
        })
        .map(|(_, _, _, reason)| *reason)
}

/// create-md prints 8.3.16's lines also where the vector is of 9.22; what is on disk counts.
fn has_texts_of_9_22(case: &Case, step: &Step) -> bool {
    case.title.ends_with(" 9.22") && step.exit == 0 && step.words.iter().any(|word| word == "create-md")
}

/// The texts of a terminal have the typed answers in them.
fn without_echo(text: &str, answers: &[String]) -> String {
    const PROMPT: &str = "[need to type 'yes' to confirm] ";
    let mut text = text.to_string();
    for answer in answers {
        text = text.replacen(&format!("{PROMPT}{answer}\n"), PROMPT, 1);
    }
    text
}

/// Replays one case; returns how many steps were compared, and why others were not.
fn replay(case: &Case, bench: &Bench) -> (usize, Vec<String>) {
    let _lock = case.initial.contains("a process holds a write lock").then(|| prepare::hold_lock(bench));
    let is_held = case.initial.contains("has the device open with O_EXCL") && bench.is_block_device();
    let _holder = is_held.then(|| prepare::hold_device(bench));
    let mut compared = 0;
    let mut skipped = Vec::new();
    for step in &case.steps {
        let line = step.words.join(" ");
        if let Some(reason) = skip_reason(case, step, bench) {
            skipped.push(format!("{} [{}] drbdmeta {line}: {reason}", case.file, case.title));
            continue;
        }
        for note in &step.notes {
            prepare::follow_note(case, bench, note);
        }
        let outcome = bench.run(&step.words, &step.stdin);
        let context = format!("{} [{}] drbdmeta {line}", case.file, case.title);
        if let (Some(expected), Stdin::Terminal(answers)) = (&step.terminal, &step.stdin) {
            assert_eq!(outcome.merged, without_echo(expected, answers), "{context}: terminal");
        } else if !TEXT_NOT_SHOWN.contains(&line.as_str()) && !has_texts_of_9_22(case, step) {
            assert_eq!(outcome.stdout, step.stdout, "{context}: stdout");
            let stderr: Vec<String> = step.stderr.lines().map(mask_pwrite).collect();
            assert_eq!(
                outcome.stderr.trim_end_matches('\n'),
                stderr.join("\n").trim_end_matches('\n'),
                "{context}: stderr"
            );
        }
        assert_eq!(outcome.exit, step.exit, "{context}: exit status");
        if let Some(expected) = &step.record {
            let found = std::fs::read_to_string(bench.record()).ok();
            let found = found.map(|text| bench.mask(&text));
            assert_eq!(&found, expected, "{context}: last known device");
        }
        if let Some(expected) = &step.disk {
            let mut expected = expected.clone();
            let mut found = bench.image(0);
            prepare::forgive(case, step, &mut expected, &mut found);
            let places: Vec<&u64> = expected.keys().collect();
            assert_eq!(found.keys().collect::<Vec<_>>(), places, "{context}: blocks in use");
            for (offset, block) in &expected {
                assert!(found[offset] == *block, "{context}: block at {offset}");
            }
        }
        compared += 1;
    }
    (compared, skipped)
}

/// Replays all ordinary cases of a file. `at_least`: steps that must be compared, so that none gets
/// lost unseen.
fn replay_file(file: &str, at_least: usize) {
    replay_file_on(file, at_least, Bench::new);
}

/// As [`replay_file`], on devices of this kind.
fn replay_file_on(file: &str, at_least: usize, device: impl Fn(u64) -> Option<Bench>) {
    let mut compared = 0;
    let mut skipped = Vec::new();
    for case in case::read(file) {
        if tables::has_own_form(&case) || activity_logs::has_own_form(&case) {
            continue;
        }
        let Some(bench) = device(case.device_bytes) else {
            skipped.push(format!(
                "{file} [{}]: no room for a device of {} bytes",
                case.title, case.device_bytes
            ));
            continue;
        };
        match prepare::initial(&case, &bench) {
            Ok(()) => {
                let (count, reasons) = replay(&case, &bench);
                compared += count;
                skipped.extend(reasons);
            }
            Err(reason) => skipped.push(format!("{file} [{}]: {reason}", case.title)),
        }
    }
    for line in &skipped {
        eprintln!("not replayed: {line}");
    }
    eprintln!("{file}: {compared} steps compared, {} not", skipped.len());
    assert!(compared >= at_least, "{file}: only {compared} steps compared");
}

/// Once more on block devices, which real meta data lie on.
#[test]
fn on_block_devices() {
    if !nix::unistd::geteuid().is_root() || Bench::on_block_device(1 << 20).is_none() {
        eprintln!("skipped: loop devices need root");
        return;
    }
    for (file, at_least) in [
        ("01-create-layouts.txt", 39),
        ("02-usage-and-errors.txt", 33),
        ("03-existing-data.txt", 30),
        ("04-overwrite-and-conversion.txt", 33),
        ("05-generation-identifiers-flags-validity.txt", 23),
        ("06-dump-and-restore.txt", 30),
        ("07-last-known-device-and-resize.txt", 37),
        ("11-locking-and-exclusive-open.txt", 8),
    ] {
        replay_file_on(file, at_least, Bench::on_block_device);
    }
}

#[test]
fn create_layouts() {
    replay_file("01-create-layouts.txt", 39);
}

#[test]
fn usage_and_errors() {
    replay_file("02-usage-and-errors.txt", 32);
}

#[test]
fn existing_data() {
    replay_file("03-existing-data.txt", 30);
}

#[test]
fn overwrite_and_conversion() {
    replay_file("04-overwrite-and-conversion.txt", 33);
}

#[test]
fn generation_identifiers() {
    replay_file("05-generation-identifiers-flags-validity.txt", 23);
}

#[test]
fn dump_and_restore() {
    replay_file("06-dump-and-restore.txt", 30);
}

#[test]
fn last_known_device() {
    replay_file("07-last-known-device-and-resize.txt", 37);
}

/// The cases with another form are those of `activity_logs`.
#[test]
fn both_generations_on_one_disk() {
    replay_file("10-mixed-8.3-and-8.4.txt", 2);
}

#[test]
fn locking() {
    replay_file("11-locking-and-exclusive-open.txt", 2);
}

#[test]
fn older_release() {
    replay_file("14-8.3.9-and-v06.txt", 11);
}
