//! The command line of drbdadm in both dialects: GNU long options with permutation.
//! spec/drbdadm.md 1, 3, 14.1; spec/decisions.md 1.5, 1.6.

use drbdbox::conf::options::{self, Kind, OptionRow, Scope as OptionScope, Section};
use drbdbox::conf::Dialect;

use super::table::{self, Command, Options as Allowed};

/// drbdadm's own options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    Stacked,
    DryRun,
    Verbose,
    ConfigFile,
    ConfigToTest,
    Drbdsetup,
    Drbdmeta,
    ProxyCtl,
    ShVarname,
    Force,
    Peer,
    Version,
    SetupOption,
    Help,
    /// Our own: `status --watch`.
    Watch,
}

/// One of them: long name, letter, whether it takes an argument, and which usage shows it.
#[derive(Debug)]
pub struct OwnOption {
    pub own: Own,
    pub long: &'static str,
    pub short: char,
    pub argument: bool,
    /// Shown by 8.3, by 8.4. Both know all of them.
    pub shown: (bool, bool),
}

const fn own(own: Own, long: &'static str, short: char, argument: bool, shown: (bool, bool)) -> OwnOption {
    OwnOption { own, long, short, argument, shown }
}

/// In the order of the usage texts.
#[rustfmt::skip]
pub const OWN: &[OwnOption] = &[
    own(Own::Stacked, "stacked", 'S', false, (true, true)),
    own(Own::DryRun, "dry-run", 'd', false, (true, true)),
    own(Own::Verbose, "verbose", 'v', false, (true, true)),
    own(Own::ConfigFile, "config-file", 'c', true, (true, true)),
    own(Own::ConfigToTest, "config-to-test", 't', true, (true, true)),
    own(Own::Drbdsetup, "drbdsetup", 's', true, (true, true)),
    own(Own::Drbdmeta, "drbdmeta", 'm', true, (true, true)),
    own(Own::ProxyCtl, "drbd-proxy-ctl", 'p', true, (true, true)),
    own(Own::ShVarname, "sh-varname", 'n', true, (true, true)),
    own(Own::Force, "force", 'f', false, (true, false)),
    own(Own::Peer, "peer", 'P', true, (true, true)),
    own(Own::Version, "version", 'V', false, (true, true)),
    own(Own::SetupOption, "setup-option", 'W', true, (false, true)),
    own(Own::Help, "help", 'h', false, (false, true)),
    own(Own::Watch, "watch", '\0', false, (false, false)),
];

/// What was found, in the order of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// drbdadm's own option.
    Own(Own, String),
    /// An option of drbdsetup: its name, and how it was written, in words.
    Setup(String, Vec<String>),
    /// Anything else.
    Word(String),
}

/// Why a line is refused: what getopt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOption(pub String);

/// Whether a command takes an option of drbdsetup.
pub fn allows(command: &Command, name: &str) -> bool {
    let of = |section: Section, which: &[OptionScope]| {
        options::lookup(name).is_some_and(|(row, _)| {
            row.section == section && which.contains(&row.scope) && row.name != "use-bmbv"
        })
    };
    use OptionScope::{Any, Creation, OneShot};
    match command.options {
        Allowed::None => false,
        Allowed::Any => true,
        Allowed::Attach => of(Section::Disk, &[Any, Creation]),
        Allowed::Disk => of(Section::Disk, &[Any]),
        Allowed::Connect => of(Section::Net, &[Any, OneShot]),
        Allowed::Net => of(Section::Net, &[Any]),
        Allowed::Resource => of(Section::Options, &[Any]),
        Allowed::Switches => crate::drbdsetup::switches(command.name, None).contains(&name),
    }
}

/// The names that `allows` knows for a command, as the help of 8.4 shows them.
pub fn allowed_options(command: &Command) -> Vec<(&'static str, bool)> {
    let sections: &[Section] = match command.options {
        Allowed::None | Allowed::Any => return Vec::new(),
        Allowed::Switches => {
            let switches = crate::drbdsetup::switches(command.name, Some(Dialect::V84));
            return switches.into_iter().map(|name| (name, true)).collect();
        }
        Allowed::Attach | Allowed::Disk => &[Section::Disk],
        Allowed::Connect | Allowed::Net => &[Section::Net],
        Allowed::Resource => &[Section::Options],
    };
    options::all()
        .iter()
        .filter(|row| sections.contains(&row.section) && allows(command, row.name))
        .map(|row| (row.name, row.kind == Kind::Flag))
        .collect()
}

fn setup_option(name: &str) -> Option<bool> {
    let with_switches = table::COMMANDS.iter().filter(|c| c.options == Allowed::Switches);
    if with_switches.clone().any(|c| allows(c, name)) {
        return Some(true);
    }
    let known = |row: &OptionRow| row.scope != OptionScope::FileOnly;
    let (row, _) = options::lookup(name).filter(|(row, _)| known(row))?;
    Some(row.kind == Kind::Flag)
}

/// Splits a command line into items. `program`: name in messages.
///
/// Options of drbdsetup are recognised behind the command word in 8.3, everywhere in 8.4; `force`
/// before it is 8.3's own.
///
/// # Errors
/// An unknown option, or one with a wrong argument.
pub fn split(program: &str, words: &[String], dialect: Dialect) -> Result<Vec<Item>, BadOption> {
    let mut items = Vec::new();
    let mut rest = words.iter();
    let mut command_seen = false;
    while let Some(word) = rest.next() {
        let bad = |text: String| BadOption(format!("{program}: {text}"));
        if word == "--" {
            items.extend(rest.by_ref().cloned().map(Item::Word));
        } else if let Some(body) = word.strip_prefix("--") {
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_string())),
                None => (body, None),
            };
            let own = name != "force" && OWN.iter().any(|o| o.long == name);
            let with_setup = !own && (command_seen || dialect == Dialect::V84);
            // Behind the command word, options of drbdsetup go first: `primary --force`.
            if with_setup {
                if let Some(is_flag) = setup_option(name) {
                    let mut written = vec![word.clone()];
                    if !is_flag && value.is_none() {
                        let text = format!("option '--{name}' requires an argument");
                        written.push(rest.next().ok_or_else(|| bad(text))?.clone());
                    }
                    items.push(Item::Setup(name.to_string(), written));
                    continue;
                }
            }
            let option = find_long(name).map_err(bad)?;
            let value = match (option.argument, value) {
                (false, Some(_)) => {
                    let text = format!("option '--{}' doesn't allow an argument", option.long);
                    return Err(bad(text));
                }
                (true, None) => {
                    let text = format!("option '--{}' requires an argument", option.long);
                    rest.next().ok_or_else(|| bad(text))?.clone()
                }
                (_, value) => value.unwrap_or_default(),
            };
            items.push(Item::Own(option.own, value));
        } else if word.len() > 1 && word.starts_with('-') {
            let letters: Vec<char> = word.chars().skip(1).collect();
            let mut at = 0;
            while at < letters.len() {
                let letter = letters[at];
                at += 1;
                let option = OWN
                    .iter()
                    .find(|o| o.short == letter)
                    .ok_or_else(|| bad(format!("invalid option -- '{letter}'")))?;
                let mut value = String::new();
                if option.argument {
                    value = letters[at..].iter().collect();
                    at = letters.len();
                    if value.is_empty() {
                        let text = format!("option requires an argument -- '{letter}'");
                        value = rest.next().ok_or_else(|| bad(text))?.clone();
                    }
                }
                items.push(Item::Own(option.own, value));
            }
        } else {
            command_seen |= table::find(word).is_some();
            items.push(Item::Word(word.clone()));
        }
    }
    Ok(items)
}

fn find_long(name: &str) -> Result<&'static OwnOption, String> {
    if let Some(exact) = OWN.iter().find(|o| o.long == name) {
        return Ok(exact);
    }
    let similar: Vec<_> = OWN.iter().filter(|o| o.long.starts_with(name)).collect();
    match similar.as_slice() {
        [one] if !name.is_empty() => Ok(one),
        [] | [_] => Err(format!("unrecognized option '--{name}'")),
        many => {
            let names: String = many.iter().map(|o| format!(" '--{}'", o.long)).collect();
            Err(format!("option '--{name}' is ambiguous; possibilities:{names}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_string).collect()
    }

    #[test]
    fn options_stand_anywhere() {
        let items = split("drbdadm", &words("up r0 -dvc x --dry"), Dialect::V83);
        assert_eq!(
            items,
            Ok(vec![
                Item::Word("up".into()),
                Item::Word("r0".into()),
                Item::Own(Own::DryRun, String::new()),
                Item::Own(Own::Verbose, String::new()),
                Item::Own(Own::ConfigFile, "x".into()),
                Item::Own(Own::DryRun, String::new()),
            ])
        );
    }

    #[test]
    fn force_belongs_to_who_stands_before_it() {
        let before = split("drbdadm", &words("--force primary r0"), Dialect::V83);
        assert!(matches!(before.as_deref(), Ok([Item::Own(Own::Force, _), ..])));
        let behind = split("drbdadm", &words("primary --force r0"), Dialect::V83);
        assert!(matches!(behind.as_deref(), Ok([_, Item::Setup(_, _), _])));
    }

    #[test]
    fn messages_of_getopt() {
        for (line, text) in [
            ("--frob", "drbdadm: unrecognized option '--frob'"),
            ("-x", "drbdadm: invalid option -- 'x'"),
            ("-c", "drbdadm: option requires an argument -- 'c'"),
            ("--stacked=1", "drbdadm: option '--stacked' doesn't allow an argument"),
        ] {
            let error = split("drbdadm", &words(line), Dialect::V83);
            assert_eq!(error, Err(BadOption(text.to_string())));
        }
    }
}
