//! Replays what real drbdadm programs of 8.3.16 and 8.4.4 printed, executed and left behind.
//!
//! A case is a folder of `tests/vectors/drbdadm`: input files, `run.tsv` (one line a run) and
//! `expect.RELEASE`. 8.3.16 is compared with the plain name, 8.4.4 with `drbdadm-84`.
//! spec/decisions.md 8 says which runs do not apply; they stand in [`NOT_REPLAYED`].

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs that do not apply, with the number of the rule in spec/decisions.md: release, case prefix, runs (none: all).
/// Section 8 names them; `c-syncer`, `c-status`, `syncer`, `cmdtimeout` and g64 refuse a word of the other release, too.
/// A run that comes out as recorded must leave the list.
const NOT_REPLAYED: &[(&str, &str, &[&str], &str)] = &[
    (
        "8.3.16",
        "g01",
        &["dwis84", "apply-al", "disk-options"],
        "1.5, 1.6: 8.4's options and words are accepted",
    ),
    ("8.3.16", "g26", &["help-up", "primary-help", "help-opt", "up-help"], "1.5: 8.4's help is accepted"),
    ("8.3.16", "g06b", &[], "1.2: 8.4's meta-disk form is accepted"),
    ("8.3.16", "g60", &[], "1.1: volumes, as 8.4.4"),
    ("8.3.16", "g61", &[], "1.2: 8.4's options are accepted"),
    ("8.3.16", "g62", &[], "1.2: 8.4's words are accepted"),
    ("8.3.16", "g63", &[], "1.1: volumes, as 8.4.4"),
    ("8.3.16", "g64", &[], "1.2: words of later tools are accepted"),
    ("8.3.16", "g65", &[], "1.1: volumes, as 8.4.4"),
    ("8.3.16", "g66", &[], "1.1: volumes, as 8.4.4"),
    ("8.3.16", "b51", &["noindex"], "1.2: 8.4's meta-disk form is accepted"),
    ("8.3.16", "b62", &[], "1.1: volumes, as 8.4.4"),
    ("8.3.16", "b63", &[], "1.2: 8.4's words are accepted"),
    ("8.3.16", "b25", &["r-al2"], "3.5: 8.4's range is accepted"),
    ("8.4.4", "g01", &["c-syncer", "c-status"], "1.5: commands of 8.3 and of later tools are accepted"),
    ("8.4.4", "g19", &["syncer", "syncer0"], "1.5: 8.3's command is accepted"),
    ("8.4.4", "b63", &["cmdtimeout"], "1.2: words of later 8.4 tools are accepted"),
    ("8.4.4", "g64", &[], "1.2: words of later 8.4 tools are accepted"),
    ("8.4.4", "b26", &["mc"], "1.2: 8.3's range is accepted"),
    ("8.4.4", "b70", &["isdef"], "1.2: 8.3's word is accepted"),
    ("8.4.4", "g04", &[], "1.2: 8.3's words are accepted"),
    ("8.4.4", "g22", &[], "1.2: 8.3's words are accepted"),
];

/// Runs that are compared but for one line: release, case prefix, runs, what that line starts with, what ours is.
/// 8.3.16 reads an empty string as a quote, and lets a later success hide a failure.
const COMPARED_IN_PART: &[(&str, &str, &[&str], &str, &str)] = &[
    ("8.3.16", "b70", &["emptyq"], "o|drbdsetup 0 net ", "--shared-secret= "),
    ("8.3.16", "g15", &["dump"], "o|        cpu-mask ", " \"\";"),
    ("8.3.16", "g15", &["dumpxml"], "o|            <option name=\"cpu-mask\" ", "value=\"\"/>"),
    ("8.3.16", "g15", &["up"], "o|drbdsetup 0 syncer ", " --cpu-mask= "),
    ("8.3.16", "g23", &["up-two"], "@ ", "@ 3"),
];

struct Run {
    id: String,
    host: String,
    environment: Vec<(String, String)>,
    stdin: Option<String>,
    arguments: Vec<Vec<u8>>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn runs(case: &Path) -> Vec<Run> {
    let table = fs::read(case.join("run.tsv")).expect("run.tsv");
    table
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut fields = line.split(|b| *b == b'\t');
            let mut field = || text(fields.next().unwrap_or_default());
            let (id, host, variables, stdin) = (field(), field(), field(), field());
            let environment = variables
                .split(' ')
                .filter_map(|v| v.split_once('='))
                .map(|(n, v)| (n.to_string(), v.to_string()))
                .collect();
            Run {
                id,
                host,
                environment,
                stdin: (stdin != "-").then_some(stdin),
                arguments: fields.map(<[u8]>::to_vec).collect(),
            }
        })
        .collect()
}

/// Expected lines of each run, the exit status first.
fn expected(case: &Path, release: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = String::new();
    let bytes = fs::read(case.join(format!("expect.{release}"))).expect("expectations");
    for line in bytes.split(|b| *b == b'\n') {
        let line = escape(line);
        if let Some(head) = line.strip_prefix("@ ") {
            let (id, status) = head.rsplit_once(' ').expect("ID RC");
            current = id.to_string();
            all.insert(current.clone(), vec![format!("@ {status}")]);
        } else if !line.is_empty() {
            all.entry(current.clone()).or_default().push(line);
        }
    }
    all
}

/// One text for any bytes.
fn escape(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|b| match b {
            b' '..=b'~' => char::from(*b).to_string(),
            other => format!("\\x{other:02x}"),
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    for entry in fs::read_dir(from).expect("case folder") {
        let entry = entry.expect("entry");
        let name = entry.file_name();
        let name_text = name.to_string_lossy();
        if name_text == "run.tsv" || name_text.starts_with("expect.") {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(from) {
            result.extend_from_slice(to);
            at += from.len();
        } else {
            result.push(bytes[at]);
            at += 1;
        }
    }
    result
}

/// Lines of a stream in the notation of the expectations.
fn stream(letter: char, bytes: &[u8]) -> Vec<String> {
    let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    let last = lines.pop().unwrap_or_default();
    let mut all: Vec<String> = lines.iter().map(|l| format!("{letter}|{}", escape(l))).collect();
    if !last.is_empty() {
        all.push(format!("{letter}-{}", escape(last)));
    }
    all
}

fn hide_uuid(line: String) -> String {
    const WORD: &str = "write-dev-uuid ";
    match line.find(WORD) {
        Some(at) if line.len() >= at + WORD.len() + 16 => {
            let start = at + WORD.len();
            format!("{}{}{}", &line[..start], "#".repeat(16), &line[start + 16..])
        }
        _ => line,
    }
}

/// Version lines are ours; token numbers are 8.3.16's in both dialects.
fn comparable(lines: &[String], mask_tokens: bool) -> Vec<String> {
    lines
        .iter()
        .filter(|l| !l.starts_with("o|Version: ") && !l.starts_with("o|GIT-hash: "))
        .map(|l| match (mask_tokens, l.find(" (TK ")) {
            (true, Some(at)) => l[..at].to_string(),
            _ => l.clone(),
        })
        .collect()
}

fn links(directory: &Path, shown: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut lines: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let target = fs::read_link(entry.path()).ok()?;
            Some(format!("l|{shown}/{name} -> {}", target.display()))
        })
        .collect();
    lines.sort();
    lines
}

fn replay(case: &Path, run: &Run, name: &str) -> Vec<String> {
    let place = tempfile::tempdir().expect("a folder");
    let work = fs::canonicalize(place.path()).expect("path").join("case");
    let state = fs::canonicalize(place.path()).expect("path");
    copy(case, &work);
    let stdin = match &run.stdin {
        Some(file) => Stdio::from(fs::File::open(work.join(file)).expect("input")),
        None => Stdio::null(),
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_drbdbox"));
    for (variable, _) in std::env::vars().filter(|(n, _)| n.starts_with("DRBD")) {
        command.env_remove(variable);
    }
    let output = command
        .arg0(name)
        .args(run.arguments.iter().map(|a| {
            use std::os::unix::ffi::OsStringExt;
            std::ffi::OsString::from_vec(a.clone())
        }))
        .current_dir(&work)
        .env("LC_ALL", "C")
        .env("__DRBD_NODE__", &run.host)
        .env("DRBDBOX_LIBDIR", state.join("lib"))
        .env("DRBDBOX_RUNDIR", state.join("run"))
        .env("DRBDBOX_LOCKDIR", state.join("lock"))
        .envs(run.environment.iter().map(|(n, v)| (n, v)))
        .stdin(stdin)
        .output()
        .expect("drbdadm runs");
    let calls = fs::read(work.join("calls")).unwrap_or_default();
    let path = work.to_string_lossy().into_owned();
    let mut lines = vec![format!("@ {}", output.status.code().unwrap_or(-1))];
    for (letter, bytes) in [('o', &output.stdout), ('e', &output.stderr), ('c', &calls)] {
        let bytes = replace(bytes, path.as_bytes(), b"/case");
        lines.extend(stream(letter, &bytes).into_iter().map(hide_uuid));
    }
    let mut left = links(&state.join("lib"), "/var/lib/drbd");
    left.extend(links(&state.join("run"), "/var/run/drbd"));
    lines.extend(left.into_iter().map(|l| l.replace(&path, "/case")));
    lines
}

fn excluded(release: &str, case: &str, id: &str) -> bool {
    NOT_REPLAYED.iter().any(|(r, prefix, ids, _)| {
        *r == release && case.split('-').next() == Some(prefix) && (ids.is_empty() || ids.contains(&id))
    })
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/drbdadm");
    let mut all: Vec<PathBuf> =
        fs::read_dir(root).expect("vectors").map(|e| e.expect("entry").path()).collect();
    all.sort();
    all
}

/// Takes a line out of both that is known to differ, if ours is what it must be.
fn in_part(release: &str, case: &str, id: &str, got: &mut Vec<String>, wanted: &mut Vec<String>) {
    for (_, _, _, start, ours) in COMPARED_IN_PART.iter().filter(|(r, prefix, ids, _, _)| {
        *r == release && case.split('-').next() == Some(prefix) && ids.contains(&id)
    }) {
        let line = got.iter().position(|l| l.starts_with(start)).expect("the line that differs");
        assert!(got[line].contains(ours), "{case} {id}: {}", got[line]);
        assert_ne!(got[line], wanted[line], "{case} {id}: as recorded, take it from the list");
        got.remove(line);
        wanted.remove(line);
    }
}

fn check(release: &str, name: &str) {
    let (mut passed, mut skipped) = (0, 0);
    let mut failures = Vec::new();
    let filter = std::env::var("VECTORS").unwrap_or_default();
    for case in cases() {
        let case_name = case.file_name().expect("name").to_string_lossy().into_owned();
        if !case_name.contains(&filter) {
            continue;
        }
        let expectations = expected(&case, release);
        for run in runs(&case) {
            let Some(expectation) = expectations.get(&run.id) else {
                continue;
            };
            let mask = release == "8.4.4";
            let mut got = comparable(&replay(&case, &run, name), mask);
            let mut wanted = comparable(expectation, mask);
            in_part(release, &case_name, &run.id, &mut got, &mut wanted);
            match (got == wanted, excluded(release, &case_name, &run.id)) {
                (true, false) => passed += 1,
                (false, true) => skipped += 1,
                (true, true) => {
                    failures.push(format!("{case_name} {}: passes, take it from the list", run.id))
                }
                (false, false) => failures.push(format!(
                    "{case_name} {}:\n--- wanted\n{}\n--- got\n{}",
                    run.id,
                    wanted.join("\n"),
                    got.join("\n")
                )),
            }
        }
    }
    println!("{release}: {passed} runs as the original, {skipped} do not apply, {} fail", failures.len());
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

#[test]
fn as_drbdadm_8_3_16() {
    check("8.3.16", "drbdadm");
}

/// What only the 8.4 tool of drbd-utils knows. It prints no blank at the end of a dry run's line;
/// its dump has the time limits of its own defect.
#[test]
fn words_of_later_8_4_tools() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/drbdadm");
    let case = root.join("g64-84-extras");
    let expectations = expected(&case, "utils84");
    let mut seen = 0;
    for run in runs(&case) {
        if run.id == "dump" {
            continue;
        }
        let got: Vec<String> = comparable(&replay(&case, &run, "drbdadm-84"), true)
            .iter()
            .map(|l| l.trim_end().to_string())
            .collect();
        assert_eq!(got, expectations[&run.id], "{}", run.id);
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn as_drbdadm_8_4_4() {
    check("8.4.4", "drbdadm-84");
}

/// A file with volumes makes the plain name speak 8.4.
#[test]
fn volumes_make_the_plain_name_speak_8_4() {
    let mut seen = 0;
    for case in cases() {
        let case_name = case.file_name().expect("name").to_string_lossy().into_owned();
        if !["g60-volumes", "g63-adjust-volumes", "g65-84-after", "g66-84-stacked", "b62-volumes"]
            .contains(&case_name.as_str())
        {
            continue;
        }
        let expectations = expected(&case, "8.4.4");
        for run in runs(&case) {
            let got = comparable(&replay(&case, &run, "drbdadm"), true);
            let wanted = comparable(&expectations[&run.id], true);
            assert_eq!(got, wanted, "{case_name} {}", run.id);
            seen += 1;
        }
    }
    assert!(seen > 30);
}
