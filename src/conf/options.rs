//! What a row of the one table of options is, and how rows are found.
//!
//! Parser, checks, dump, drbdsetup's arguments, `show`, `help` and the manual read this table and
//! nothing else lists options. spec/decisions.md 3, spec/config.md 6, spec/drbdsetup.md 3.1 and 6.3.

use super::number::Unit;
use super::option_table::{FORGOTTEN, TABLE};
use super::Dialect;

/// Largest size of a device: 1 PiB in sectors.
pub const SECTORS_MAX: i64 = 2_199_023_255_552;

/// A section of the configuration that holds options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// `global`, read by drbdadm only.
    Global,
    /// `options` (8.4), of a resource.
    Options,
    /// `net`, of a connection.
    Net,
    /// `disk`, of a volume.
    Disk,
    /// `syncer` (8.3).
    Syncer,
    /// `startup`, read by drbdadm only.
    Startup,
    /// `proxy`, handed to drbd-proxy-ctl.
    Proxy,
    /// `handlers`, shell commands.
    Handlers,
}

impl Section {
    /// All sections, in the order of the manual.
    pub const ALL: [Section; 8] = [
        Section::Global,
        Section::Options,
        Section::Net,
        Section::Disk,
        Section::Syncer,
        Section::Startup,
        Section::Handlers,
        Section::Proxy,
    ];

    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Section::Global => "global",
            Section::Options => "options",
            Section::Net => "net",
            Section::Disk => "disk",
            Section::Syncer => "syncer",
            Section::Startup => "startup",
            Section::Proxy => "proxy",
            Section::Handlers => "handlers",
        }
    }
}

/// One word of an enumeration and its number on the wire and in replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// As in the configuration; case sensitive, except for `protocol`.
    pub text: &'static str,
    /// spec/drbdsetup.md 2.6.
    pub number: u8,
}

/// The type of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number; a bare one counts the unit.
    Number(Unit),
    /// One of some words, in the order of usage texts.
    Choice(&'static [Word]),
    /// 8.4: `yes` or `no`; 8.3: there or not there.
    Flag,
    /// At most so many bytes; 0: any length, not checked.
    Text(u16),
    /// One or more host names (`become-primary-on`).
    Hosts,
}

/// Inclusive limits in the option's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
}

/// Where an option may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In the file, when the object is made, and to change it later.
    Any,
    /// In the file and when the object is made, not later (`size`, `max-bio-bvecs`).
    Creation,
    /// Only on the command line that makes the connection, never stored or shown.
    OneShot,
    /// Read from the file by drbdadm only: no setting of a running resource.
    FileOnly,
    /// 8.3's word without any effect in 8.4 (`use-bmbv`).
    Historic,
}

/// How 8.3 spells an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldForm {
    /// 8.3's name.
    pub name: &'static str,
    /// 8.3's section, which is also the drbdsetup command.
    pub section: Section,
    /// drbdsetup's short option; NUL: none.
    pub short: char,
    /// Place in usage texts and `show` of 8.3, within the section.
    pub rank: u8,
    /// The switch means `no` of the 8.4 flag (`no-disk-barrier`).
    pub inverted: bool,
}

/// One option. Use the accessors for what depends on the dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionRow {
    /// 8.4's name; 8.3's if 8.4 has none.
    pub name: &'static str,
    /// 8.4's section.
    pub section: Section,
    /// 8.3's spelling; none if 8.3 has no such option.
    pub old: Option<OldForm>,
    /// Names of releases before 8.3, under which it is still read.
    pub older: &'static [&'static str],
    /// May stand in `proxy` as well as in its own section.
    pub in_proxy: bool,
    /// Its number in parse errors; 0: that of its section and type.
    pub(super) token: u16,
    /// Type of the value.
    pub kind: Kind,
    pub(super) range_83: Option<Range>,
    pub(super) range_84: Option<Range>,
    /// Where drbdadm 8.4.4 knows other limits than drbdsetup.
    pub(super) range_adm84: Option<Range>,
    pub(super) default_83: i64,
    pub(super) default_84: i64,
    /// Text behind a printed number, such as `1/10 seconds`; empty: none.
    pub(super) unit_text: &'static str,
    /// First release.
    pub since: &'static str,
    /// drbdadm checks the range while it reads the file.
    pub checked: bool,
    /// Where it may be used.
    pub scope: Scope,
    /// One line of help.
    pub help: &'static str,
}

/// How a name was spelt, relative to the row that it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// The row's own (8.4) name.
    New,
    /// 8.3's name, which differs from 8.4's but means the same.
    Old,
    /// 8.3's `no-X`: a switch that means `X no`.
    Inverted,
}

impl OptionRow {
    /// The name that `dialect` prints. spec/decisions.md 3.3.
    pub fn name_in(&self, dialect: Dialect) -> &'static str {
        match (dialect, self.old) {
            (Dialect::V83, Some(old)) => old.name,
            _ => self.name,
        }
    }

    /// The section, which is also the command, that `dialect` uses. 8.4 options without 8.3 name
    /// go to `disk`, `net` and `syncer` (for `options`). spec/decisions.md 3.3.
    pub fn section_in(&self, dialect: Dialect) -> Section {
        match (dialect, self.old) {
            (Dialect::V84, _) => self.section,
            (Dialect::V83, Some(old)) => old.section,
            (Dialect::V83, None) if self.section == Section::Options => Section::Syncer,
            (Dialect::V83, None) => self.section,
        }
    }

    /// The range that `dialect` prints; that of the other dialect if it has none itself.
    /// None: not a number, or a number without limits.
    pub fn range(&self, dialect: Dialect) -> Option<Range> {
        match dialect {
            Dialect::V83 => self.range_83.or(self.range_84),
            Dialect::V84 => self.range_84.or(self.range_83),
        }
    }

    /// As [`range`](Self::range), but what drbdadm prints: 8.4.4's where it differs.
    /// spec/decisions.md 3.5.
    pub fn range_of_drbdadm(&self, dialect: Dialect) -> Option<Range> {
        match dialect {
            Dialect::V84 => self.range_adm84.or_else(|| self.range(dialect)),
            Dialect::V83 => self.range(dialect),
        }
    }

    /// Whether a value is inside the range of either release. Compared signed.
    pub fn accepts(&self, value: i64) -> bool {
        let ranges = [self.range_83, self.range_84, self.range_adm84];
        let mut known = ranges.iter().flatten().peekable();
        known.peek().is_none() || known.any(|r| (r.min..=r.max).contains(&value))
    }

    /// The unit of a bare number.
    pub fn unit(&self) -> Unit {
        match self.kind {
            Kind::Number(unit) => unit,
            _ => Unit::One,
        }
    }

    /// The text behind a printed number, such as `1/10 seconds`; empty: none.
    /// 8.3 says `byte` for `congestion-fill`.
    pub fn unit_text(&self, dialect: Dialect) -> &'static str {
        match (dialect, self.name) {
            (Dialect::V83, "congestion-fill") => "byte",
            _ => self.unit_text,
        }
    }

    /// 8.3's short option letter.
    pub fn short(&self) -> Option<char> {
        self.old.map(|old| old.short).filter(|c| *c != '\0')
    }
}

/// The whole table: 8.4's order within each section, which is the order of `show` and `help`.
pub fn all() -> &'static [OptionRow] {
    TABLE
}

/// The row of an option by its own (8.4) name.
pub fn find(name: &str) -> Option<&'static OptionRow> {
    TABLE.iter().find(|row| row.name == name)
}

/// The row of an option by any of its names.
pub fn lookup(name: &str) -> Option<(&'static OptionRow, Spelling)> {
    if let Some(row) = find(name) {
        return Some((row, Spelling::New));
    }
    let row =
        TABLE.iter().find(|row| row.old.is_some_and(|old| old.name == name) || row.older.contains(&name))?;
    let inverted = row.old.is_some_and(|old| old.inverted && old.name == name);
    let spelling = if inverted { Spelling::Inverted } else { Spelling::Old };
    Some((row, spelling))
}

/// The options that drbdsetup's commands and `show` know in a section of a dialect, in the
/// dialect's order. File-only options are left out; one-shot ones are in (spec/drbdsetup.md 3.1).
pub fn in_section(dialect: Dialect, section: Section) -> Vec<&'static OptionRow> {
    let mut rows: Vec<&OptionRow> = TABLE
        .iter()
        .filter(|row| row.scope != Scope::FileOnly)
        .filter(|row| match dialect {
            Dialect::V83 => row.old.is_some_and(|old| old.section == section),
            Dialect::V84 => row.section == section && row.scope != Scope::Historic,
        })
        .collect();
    if dialect == Dialect::V83 {
        rows.sort_by_key(|row| row.old.map(|old| old.rank));
    }
    rows
}

/// A word that 8.3 reads and forgets, with a value, in every section. spec/config.md 6.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// The word.
    pub name: &'static str,
    /// First release.
    pub since: &'static str,
    /// One line of help.
    pub help: &'static str,
}

/// All words that are read and forgotten.
pub fn forgotten() -> &'static [Forgotten] {
    FORGOTTEN
}

/// Whether a word is read and forgotten.
pub fn is_forgotten(word: &str) -> bool {
    FORGOTTEN.iter().any(|forgotten| forgotten.name == word)
}

/// The row that a word of the file means in a section, if the section may have it.
/// spec/decisions.md 3.2.
pub fn in_file(section: Section, word: &str) -> Option<(&'static OptionRow, Spelling)> {
    let (row, spelling) = lookup(word)?;
    let allowed = match section {
        Section::Syncer => row.old.is_some_and(|old| old.section == section && old.name == word),
        Section::Proxy => row.section == section || row.in_proxy,
        _ => row.section == section && row.scope != Scope::OneShot,
    };
    allowed.then_some((row, spelling))
}

/// Every word that stands for an option in a section of the file, in the order of the table.
pub fn words_of(section: Section) -> Vec<&'static str> {
    let mut words: Vec<&'static str> = Vec::new();
    for row in TABLE {
        let names = [Some(row.name), row.old.map(|old| old.name)];
        for name in names.into_iter().flatten().chain(row.older.iter().copied()) {
            if in_file(section, name).is_some() && !words.contains(&name) {
                words.push(name);
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_in_each_dialect() {
        for (i, row) in TABLE.iter().enumerate() {
            for other in &TABLE[i + 1..] {
                assert_ne!(row.name, other.name);
                if let (Some(a), Some(b)) = (row.old, other.old) {
                    assert_ne!(a.name, b.name);
                    assert!(a.section != b.section || a.rank != b.rank || a.rank == 0);
                    assert!(a.section != b.section || a.short != b.short || a.short == '\0');
                }
            }
        }
    }

    #[test]
    fn defaults_are_inside_their_ranges() {
        for row in TABLE {
            if row.name == "minor-count" {
                // 0 stands for what is computed, and cannot be written.
                continue;
            }
            for (range, default) in [(row.range_83, row.default_83), (row.range_84, row.default_84)] {
                if let Some(range) = range {
                    assert!((range.min..=range.max).contains(&default), "{}", row.name);
                }
            }
        }
    }

    #[test]
    fn order_of_help_in_8_3() {
        let names = |section| {
            in_section(Dialect::V83, section)
                .iter()
                .map(|row| row.name_in(Dialect::V83))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            names(Section::Disk),
            "size on-io-error fencing use-bmbv no-disk-barrier no-disk-flushes no-disk-drain \
             no-md-flushes max-bio-bvecs disk-timeout"
        );
        assert_eq!(
            names(Section::Syncer),
            "rate after al-extents csums-alg verify-alg cpu-mask use-rle on-no-data-accessible \
             c-plan-ahead c-delay-target c-fill-target c-max-rate c-min-rate"
        );
        assert_eq!(
            names(Section::Net),
            "timeout max-epoch-size max-buffers unplug-watermark connect-int ping-int sndbuf-size \
             rcvbuf-size ko-count allow-two-primaries cram-hmac-alg shared-secret after-sb-0pri \
             after-sb-1pri after-sb-2pri always-asbp rr-conflict ping-timeout discard-my-data \
             data-integrity-alg no-tcp-cork dry-run on-congestion congestion-fill \
             congestion-extents"
        );
    }
}
