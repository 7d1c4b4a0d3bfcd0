//! The drbd.conf that somebody finds in an old how-to works, or is told exactly why not.
//!
//! `tests/old_configurations` has a file an idiom. Lines with `#!` at its start say what must come out:
//! `accepted` or `refused: TEXT` of `drbdadm check`, `advice: TEXT` beside it, `finds: CHECK` of a warning, and
//! `line: TEXT` of `drbdadm -d up all`.

#[path = "support/drbdadm_place.rs"]
mod drbdadm_place;

use drbdadm_place::Place;

/// What a file says about itself.
struct Expected<'a> {
    accepted: bool,
    refused: Vec<&'a str>,
    advice: Vec<&'a str>,
    finds: Vec<&'a str>,
    lines: Vec<&'a str>,
}

fn expected(text: &str) -> Expected<'_> {
    let of = |kind: &str| -> Vec<&str> {
        let marked = text.lines().filter_map(|line| line.strip_prefix("#! "));
        marked.filter_map(|line| line.strip_prefix(kind)).collect()
    };
    Expected {
        accepted: !of("accepted").is_empty(),
        refused: of("refused: "),
        advice: of("advice: "),
        finds: of("finds: "),
        lines: of("line: "),
    }
}

/// What of a file's expectations does not hold.
fn differences(text: &str) -> Vec<String> {
    let wanted = expected(text);
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    must(wanted.accepted == wanted.refused.is_empty(), "accepted or refused?".to_string());
    // A file has one global section; those without get one that lets alice have any address.
    let global = "global { disable-ip-verification; }\n";
    let place = Place::new(&match text.contains("\nglobal {") {
        true => text.replacen("\nglobal {", "\nglobal { disable-ip-verification; ", 1),
        false => format!("{text}{global}"),
    });
    let check = place.run("drbdadm", &["check", "drbd.conf"]);
    for what in wanted.refused.iter().chain(&wanted.advice) {
        must(check.stdout.contains(what), format!("not said: {what}"));
    }
    for name in &wanted.finds {
        must(check.stdout.contains(&format!(" [{name}]\n")), format!("not found: {name}"));
    }
    let mut refused: Vec<&str> = check.stdout.lines().filter(|line| line.starts_with("\tbut got ")).collect();
    refused.sort_unstable();
    refused.dedup();
    must(refused.len() <= wanted.refused.len(), "more is refused".to_string());
    let up = place.run("drbdadm", &["-c", "drbd.conf", "-d", "up", "all"]);
    if wanted.accepted {
        let here = !wanted.finds.contains(&"not-here");
        must(up.status == if here { 0 } else { 3 }, format!("up: {}", up.status));
        for line in &wanted.lines {
            must(up.stdout.lines().any(|l| l == *line), format!("no line {line}"));
        }
    } else {
        must((check.status, up.status) == (10, 10), format!("statuses {} {}", check.status, up.status));
        // In a pipe: the first of them in DRBD's words, and nothing else.
        let complaint = up.complaint();
        must(
            check.stdout.starts_with(complaint) && complaint.lines().count() == 2,
            "up says more".to_string(),
        );
    }
    if !wrong.is_empty() {
        wrong.push(format!("--- check\n{}\n--- up\n{}{}", check.stdout, up.stdout, up.stderr));
    }
    wrong
}

#[test]
fn an_old_file_works_or_is_told_why_not() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/old_configurations");
    let mut failures = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("files") {
        let path = entry.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let wrong = differences(&text);
        if !wrong.is_empty() {
            failures.push(format!("{}:\n{}", path.display(), wrong.join("\n")));
        }
        seen += 1;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(seen >= 20, "{seen} files");
}
