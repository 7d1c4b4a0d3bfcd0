//! The option table, the checks and the retired words as tables of the manual.

use super::audit::CHECKS;
use super::options::{self, Kind, OptionRow, Scope, Section};
use super::retired;
use super::value::Value;
use super::Dialect;

/// A table in Markdown.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace("||", "|"));
    let head: Vec<String> = head.iter().map(|cell| cell.to_string()).collect();
    let rule: Vec<String> = head.iter().map(|_| "---".to_string()).collect();
    let rows: String = rows.into_iter().map(|cells| line(&cells)).collect();
    line(&head) + &line(&rule) + &rows
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// What may stand behind an option.
fn values(row: &OptionRow) -> String {
    match row.kind {
        Kind::Number(_) => {
            let limits = |dialect| row.range_of_drbdadm(dialect).map(|r| format!("{}..{}", r.min, r.max));
            let (old, new) = (limits(Dialect::V83), limits(Dialect::V84));
            let range = match (old, new) {
                (Some(old), Some(new)) if old != new => format!("{old}; 8.4: {new}"),
                (old, new) => old.or(new).unwrap_or_else(|| "number".to_string()),
            };
            let unit = match (row.unit().letter(), row.unit_text(Dialect::V84)) {
                ("k", _) => "KiB/s".to_string(),
                ("s", _) => "sectors of 512 bytes".to_string(),
                (_, text) => text.to_string(),
            };
            match unit.is_empty() {
                true => range,
                false => format!("{range} ({unit})"),
            }
        }
        Kind::Choice(words) => words.iter().map(|word| code(word.text)).collect::<Vec<_>>().join(" "),
        Kind::Flag => "switch".to_string(),
        Kind::Text(0) => "text".to_string(),
        Kind::Text(max) => format!("text, at most {max} bytes"),
        Kind::Hosts => "host names, or `both`".to_string(),
    }
}

fn default(row: &OptionRow, dialect: Dialect) -> String {
    match row.default_value(dialect) {
        Value::Text(_) => "none".to_string(),
        Value::Number(-1) => "none".to_string(),
        Value::Number(number) => number.to_string(),
        value => row.format(&value),
    }
}

/// What the manual says about an option. Words that are typed stand between backticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 8.4's name.
    pub name: &'static str,
    /// How 8.3 and older releases spell it, with the section if it is another one; empty: the same.
    pub old: String,
    /// What may stand behind it.
    pub values: String,
    /// One of 8.3, or one of each dialect.
    pub default: String,
    /// First release.
    pub since: &'static str,
    /// One line.
    pub help: &'static str,
}

impl Entry {
    fn cells(self) -> Vec<String> {
        vec![
            code(self.name),
            self.old,
            self.values,
            self.default,
            self.since.to_string(),
            self.help.to_string(),
        ]
    }
}

/// The options of one section, under their 8.4 names, as they may stand in the file.
pub fn entries(section: Section) -> impl Iterator<Item = Entry> {
    options::all().iter().filter(move |row| row.section == section && row.scope != Scope::OneShot).map(option)
}

fn option(row: &OptionRow) -> Entry {
    let (old, new) = (default(row, Dialect::V83), default(row, Dialect::V84));
    let mut spelt: Vec<String> = Vec::new();
    if let Some(form) = row.old {
        let place =
            if form.section == row.section { String::new() } else { format!("{} ", form.section.word()) };
        if form.name != row.name || form.section != row.section {
            spelt.push(format!("{place}{}", form.name));
        }
    } else {
        spelt.push("–".to_string());
    }
    spelt.extend(row.older.iter().map(|name| name.to_string()));
    Entry {
        name: row.name,
        old: spelt.join(", "),
        values: values(row),
        default: if old == new { old } else { format!("{old}; 8.4: {new}") },
        since: row.since,
        help: row.help,
    }
}

/// The options of one section as a table.
pub fn section(section: Section) -> String {
    let head = ["option", "in 8.3", "values", "default", "since", "meaning"];
    table(&head, entries(section).map(Entry::cells))
}

/// The checks of `drbdadm check`: name, kind, what it finds.
pub fn check_rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    CHECKS.iter().map(|c| (c.name, c.severity.word(), c.help))
}

/// The same as a table.
pub fn checks() -> String {
    let rows = check_rows().map(|(name, kind, help)| vec![code(name), kind.to_string(), help.to_string()]);
    table(&["check", "kind", "what it finds"], rows)
}

/// Words of other releases, and what to write instead.
pub fn retired_words() -> String {
    let rows = retired::TABLE.iter().map(|r| vec![code(r.word), r.of.to_string(), r.advice.to_string()]);
    table(&["word", "of", "what to do"], rows)
}

/// Words that are read and forgotten: word, first release, one line.
pub fn forgotten() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    options::forgotten().iter().map(|f| (f.name, f.since, f.help))
}

/// The same as a table.
pub fn forgotten_words() -> String {
    let rows = forgotten().map(|(word, since, help)| vec![code(word), since.to_string(), help.to_string()]);
    table(&["word", "since", "meaning"], rows)
}

/// The text of a part of the manual by its name: a section, `checks`, `retired` or `forgotten`.
pub fn part(name: &str) -> Option<String> {
    match name {
        "checks" => Some(checks()),
        "retired" => Some(retired_words()),
        "forgotten" => Some(forgotten_words()),
        _ => Section::ALL.into_iter().find(|s| s.word() == name && *s != Section::Syncer).map(section),
    }
}
