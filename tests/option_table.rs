//! The one table of options: nothing else lists options, and the manual is made from it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use drbdbox::conf::manual;
use drbdbox::conf::options::{self, Section};
use drbdbox::core::handlers::Handler;

/// Files that name more than [`NAMES_MAX`] options, and why that is no list of options.
const SPECIAL: &[(&str, &str)] = &[
    ("src/conf/option_table.rs", "the table"),
    ("src/conf/access.rs", "ties rows to fields; its own test: every row, nothing else"),
    ("src/conf/validate.rs", "rules about single options: after, split brain, protocol"),
    ("src/conf/audit/network.rs", "a check names the options that it compares"),
    ("src/conf/audit/policies.rs", "a check names the options that it compares"),
    ("src/conf/audit/values.rs", "a check names the options that it compares"),
    ("src/core/handlers.rs", "the handlers that core calls; below: all of them"),
    ("applets/drbdadm/table.rs", "commands: each handler is one; its own test: all of them"),
    ("applets/drbdsetup/wait.rs", "what the timeouts mean"),
];

/// Most options that a file may name: those that it treats in a special way.
const NAMES_MAX: usize = 3;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Every word that means an option somewhere.
fn names() -> BTreeSet<&'static str> {
    let words = Section::ALL.into_iter().flat_map(options::words_of);
    words.chain(options::forgotten().iter().map(|f| f.name)).collect()
}

/// The options that a source names in texts of their own, outside of comments and tests.
fn named(source: &str) -> BTreeSet<&'static str> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or(source);
    let code: String =
        code.lines().filter(|l| !l.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect();
    names().into_iter().filter(|name| code.contains(&format!("\"{name}\""))).collect()
}

#[test]
fn nothing_else_lists_options() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    sources(&root().join("applets"), &mut files);
    assert!(files.len() > 100);
    let mut special: BTreeSet<&str> = SPECIAL.iter().map(|(file, _)| *file).collect();
    for path in files {
        let shown = path.strip_prefix(root()).expect("below the root").display().to_string();
        let is_test = shown.ends_with("tests.rs");
        let found = named(&std::fs::read_to_string(&path).expect("text"));
        if special.remove(shown.as_str()) {
            assert!(found.len() > NAMES_MAX, "{shown} is not special any more: {found:?}");
        } else {
            assert!(is_test || found.len() <= NAMES_MAX, "{shown} lists options: {found:?}");
        }
    }
    assert!(special.is_empty(), "no such files: {special:?}");
}

#[test]
fn core_calls_the_handlers_of_the_table() {
    let rows = options::all().iter().filter(|row| row.section == Section::Handlers).map(|row| row.name);
    let called: BTreeSet<&str> = Handler::ALL.iter().map(|handler| handler.name()).collect();
    assert_eq!(rows.collect::<BTreeSet<_>>(), called);
}

/// Every row of the table can be written into a file under each of its names.
#[test]
fn every_row_has_all_that_a_row_must_have() {
    for row in options::all() {
        assert!(!row.help.is_empty() && !row.help.contains('\n') && !row.help.contains('|'), "{}", row.name);
        assert!(row.since.starts_with("8."), "{}", row.name);
        for name in row.older.iter().chain(&[row.name]) {
            assert_eq!(options::lookup(name).map(|(found, _)| found.name), Some(row.name));
        }
    }
}

/// `docs/drbd.conf.md`: each table is what the program makes of its own. `UPDATE_DOCS=1` writes it anew.
#[test]
fn the_manual_has_the_tables_of_the_program() {
    let path = root().join("docs/drbd.conf.md");
    let text = std::fs::read_to_string(&path).expect("the manual");
    let mut made = String::new();
    let mut in_table = false;
    let mut parts = BTreeSet::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("<!-- table: ").and_then(|l| l.strip_suffix(" -->")) {
            let part = manual::part(name).unwrap_or_else(|| panic!("no table {name}"));
            made += &format!("{line}\n\n{part}");
            parts.insert(name.to_string());
            in_table = true;
        } else if in_table && (line.is_empty() || line.starts_with('|')) {
            // What stood there before.
        } else {
            if in_table {
                made += "\n";
            }
            in_table = false;
            made += &format!("{line}\n");
        }
    }
    for section in Section::ALL.iter().filter(|s| **s != Section::Syncer) {
        assert!(parts.contains(section.word()), "no table of {}", section.word());
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).expect("written");
        return;
    }
    assert!(text == made, "docs/drbd.conf.md is old: UPDATE_DOCS=1 cargo test --test option_table");
}
