//! The one table of drbdsetup's commands: names, arguments and options in both dialects. Help,
//! argument parsing and dispatch read it. spec/drbdsetup.md 2.2, 3.1, 6.2; the settings among the
//! options come from `conf::options`.

use drbdbox::conf::number::Unit;
use drbdbox::conf::options::{self, in_section, Kind, OptionRow, Scope, Section};
use drbdbox::conf::Dialect;

/// What a command does; the files beside this one hold one kind each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Sends one request (`configure`).
    Configure,
    /// `down` of 8.3: three requests.
    Down83,
    /// `role`, `cstate`, `dstate`, `status` and `sh-status` of a minor, `show`, `get-gi`, ...
    Query,
    /// `check-resize`.
    CheckResize,
    /// `events`.
    Events,
    /// `events2`.
    Events2,
    /// `wait-connect`, `wait-sync`.
    Wait,
}

/// What an 8.4 command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// `{minor}`.
    Minor,
    /// `{resource}`.
    Resource,
    /// No object of its own; two addresses follow.
    Addresses,
    /// `{resource}` and two addresses.
    ResourceAndAddresses,
    /// `{resource|minor|all}`.
    Any,
    /// `{resource|all}`.
    ResourceOrAll,
    /// None at all.
    Nothing,
}

/// An option of a command that is no setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// Long name.
    pub long: &'static str,
    /// Short option.
    pub short: Option<char>,
    /// Type.
    pub kind: OwnKind,
}

/// Type of an [`Own`] option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnKind {
    /// A flag; in 8.4 `--x`, `--x=yes` or `--x=no`.
    Switch,
    /// A flag without `=yes` in both.
    Plain,
    /// A number.
    Number {
        /// Unit of a bare number.
        unit: Unit,
        /// Limits.
        min: i64,
        /// Limits.
        max: i64,
        /// Printed by `xml`.
        default: i64,
        /// Printed by `xml`.
        unit_text: &'static str,
    },
    /// A text with a value that the command itself looks at (`--wfc-timeout=...`).
    Text,
    /// A text that may be absent (`--color[=...]`).
    OptionalText,
    /// An address, as `connect` has it; accepted, not used.
    Address,
}

/// One item of a command's list of options.
#[derive(Debug, Clone, Copy)]
enum Item {
    /// An option of its own.
    Own(Own),
    /// The options of the `startup` section that have a letter; the command looks at their texts.
    Startup,
    /// 8.3: all options of a section.
    Section83(Section),
    /// 8.4: the options of a section with one of these scopes.
    Section84(Section, &'static [Scope]),
}

/// A command in 8.3's form.
#[derive(Debug, Clone, Copy)]
pub struct Form83 {
    /// Names of the arguments behind the command word.
    pub arguments: &'static [&'static str],
    items: &'static [Item],
    /// Configuration commands know `--set-defaults` and `--create-device`.
    pub configures: bool,
}

/// A command in 8.4's form.
#[derive(Debug, Clone, Copy)]
pub struct Form84 {
    /// What it is about.
    pub object: Object,
    /// Names of the arguments behind the object (and addresses).
    pub arguments: &'static [&'static str],
    items: &'static [Item],
}

/// One command.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Its word.
    pub name: &'static str,
    /// What it does.
    pub action: Action,
    /// 8.3's form, if 8.3 has it.
    pub old: Option<Form83>,
    /// 8.4's form, if 8.4 has it.
    pub new: Option<Form84>,
    /// Listed in the general usage.
    pub listed: bool,
}

/// One option as the parser and the usage texts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Long name.
    pub long: &'static str,
    /// Short option.
    pub short: Option<char>,
    /// What it sets.
    pub target: Target,
    /// Belongs to the form that was called: may be abbreviated and is listed in usage texts.
    /// The other form's spelling is accepted in full only. spec/decisions.md 1.7.
    pub native: bool,
}

/// What an option sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// An option of the command itself.
    Own(Own),
    /// A setting; `inverted`: the switch means `no`.
    Setting {
        /// Row of the option table.
        row: &'static OptionRow,
        /// `no-disk-barrier` and its like.
        inverted: bool,
    },
}

impl Spec {
    /// Whether a value must, may or cannot follow.
    pub fn value(&self) -> ValueRule {
        match self.target {
            Target::Own(own) => match own.kind {
                OwnKind::Switch => ValueRule::Optional,
                OwnKind::Plain => ValueRule::None,
                OwnKind::OptionalText => ValueRule::Optional,
                OwnKind::Number { .. } | OwnKind::Text | OwnKind::Address => ValueRule::Required,
            },
            Target::Setting { row, .. } if row.kind == Kind::Flag => ValueRule::Optional,
            Target::Setting { .. } => ValueRule::Required,
        }
    }
}

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueRule {
    /// Never.
    None,
    /// Only as `--name=value`.
    Optional,
    /// As `--name=value` or as the next word.
    Required,
}

const fn switch(long: &'static str, short: char) -> Item {
    Item::Own(Own { long, short: Some(short), kind: OwnKind::Switch })
}

const fn plain(long: &'static str, short: Option<char>) -> Item {
    Item::Own(Own { long, short, kind: OwnKind::Plain })
}

const fn sectors(long: &'static str, short: char) -> Item {
    Item::Own(Own {
        long,
        short: Some(short),
        kind: OwnKind::Number {
            unit: Unit::Sector,
            min: 0,
            max: options::SECTORS_MAX,
            default: 0,
            unit_text: "bytes",
        },
    })
}

const fn number(long: &'static str, unit: Unit, min: i64, max: i64, default: i64) -> Item {
    Item::Own(Own { long, short: None, kind: OwnKind::Number { unit, min, max, default, unit_text: "" } })
}

const fn address(long: &'static str) -> Item {
    Item::Own(Own { long, short: None, kind: OwnKind::Address })
}

const SET_DEFAULTS: Item = plain("set-defaults", Some('('));

/// The two options of every configuration command of 8.3. spec/drbdsetup.md 2.4.4.
const GENERAL_83: [Own; 2] = [
    Own { long: "create-device", short: Some(')'), kind: OwnKind::Plain },
    Own { long: "set-defaults", short: Some('('), kind: OwnKind::Plain },
];

/// The options of drbdadm's `startup` section that the waiting commands take.
const WAIT: &[Item] = &[Item::Startup];

/// Settings that can be changed later.
const CHANGEABLE: &[Scope] = &[Scope::Any];
/// Settings when the object is made.
const AT_CREATION: &[Scope] = &[Scope::Creation, Scope::Any];

const fn old(arguments: &'static [&'static str], items: &'static [Item], configures: bool) -> Option<Form83> {
    Some(Form83 { arguments, items, configures })
}

const fn new(object: Object, arguments: &'static [&'static str], items: &'static [Item]) -> Option<Form84> {
    Some(Form84 { object, arguments, items })
}

const fn command(name: &'static str, action: Action, old: Option<Form83>, new: Option<Form84>) -> Command {
    Command { name, action, old, new, listed: true }
}

/// A configuration command of a minor without arguments, with the same options in both.
const fn of_minor(name: &'static str, items: &'static [Item]) -> Command {
    command(name, Action::Configure, old(&[], items, true), new(Object::Minor, &[], items))
}

/// A query of a minor, in both dialects.
const fn query(name: &'static str) -> Command {
    command(name, Action::Query, old(&[], &[], false), new(Object::Minor, &[], &[]))
}

/// Every command, in an order that is that of both dialects' lists.
pub const TABLE: &[Command] = &[
    command(
        "primary",
        Action::Configure,
        old(&[], &[switch("overwrite-data-of-peer", 'o'), switch("force", 'f')], true),
        new(Object::Minor, &[], &[switch("force", 'f')]),
    ),
    of_minor("secondary", &[]),
    command(
        "disk",
        Action::Configure,
        old(&["lower_dev", "meta_data_dev", "meta_data_index"], &[Item::Section83(Section::Disk)], true),
        None,
    ),
    command(
        "attach",
        Action::Configure,
        None,
        new(
            Object::Minor,
            &["lower_dev", "meta_data_dev", "meta_data_index"],
            &[Item::Section84(Section::Disk, AT_CREATION)],
        ),
    ),
    command(
        "disk-options",
        Action::Configure,
        None,
        new(Object::Minor, &[], &[SET_DEFAULTS, Item::Section84(Section::Disk, CHANGEABLE)]),
    ),
    of_minor("detach", &[switch("force", 'f')]),
    command(
        "net",
        Action::Configure,
        old(
            &["[af:]local_addr[:port]", "[af:]remote_addr[:port]", "protocol"],
            &[Item::Section83(Section::Net)],
            true,
        ),
        None,
    ),
    command(
        "connect",
        Action::Configure,
        None,
        new(
            Object::ResourceAndAddresses,
            &[],
            &[
                Item::Section84(Section::Net, &[Scope::OneShot]),
                address("alternate-address"),
                address("alternate-peer-address"),
                Item::Section84(Section::Net, CHANGEABLE),
            ],
        ),
    ),
    command(
        "net-options",
        Action::Configure,
        None,
        new(Object::Addresses, &[], &[SET_DEFAULTS, Item::Section84(Section::Net, CHANGEABLE)]),
    ),
    command(
        "disconnect",
        Action::Configure,
        old(&[], &[switch("force", 'F')], true),
        new(Object::Addresses, &[], &[switch("force", 'F')]),
    ),
    command(
        "resize",
        Action::Configure,
        old(
            &[],
            &[sectors("size", 's'), switch("assume-peer-has-space", 'f'), switch("assume-clean", 'c')],
            true,
        ),
        new(
            Object::Minor,
            &[],
            &[
                sectors("size", 's'),
                switch("assume-peer-has-space", 'f'),
                switch("assume-clean", 'c'),
                number("al-stripes", Unit::One, 1, 1024, 1),
                number("al-stripe-size-kB", Unit::Kibi, 4, 16_777_216, 32),
            ],
        ),
    ),
    command("syncer", Action::Configure, old(&[], &[Item::Section83(Section::Syncer)], true), None),
    command(
        "resource-options",
        Action::Configure,
        None,
        new(Object::Resource, &[], &[SET_DEFAULTS, Item::Section84(Section::Options, CHANGEABLE)]),
    ),
    of_minor("new-current-uuid", &[switch("clear-bitmap", 'c')]),
    of_minor("invalidate", &[]),
    of_minor("invalidate-remote", &[]),
    of_minor("pause-sync", &[]),
    of_minor("resume-sync", &[]),
    of_minor("suspend-io", &[]),
    of_minor("resume-io", &[]),
    of_minor("outdate", &[]),
    of_minor("verify", &[sectors("start", 's'), sectors("stop", 'S')]),
    command("down", Action::Down83, old(&[], &[], false), None),
    command("down", Action::Configure, None, new(Object::Resource, &[], &[])),
    command("state", Action::Query, None, new(Object::Minor, &[], &[])),
    query("role"),
    command("status", Action::Query, old(&[], &[], false), None),
    command("sh-status", Action::Query, old(&[], &[], false), new(Object::Any, &[], &[])),
    query("cstate"),
    query("dstate"),
    query("show-gi"),
    query("get-gi"),
    command(
        "show",
        Action::Query,
        old(&[], &[], false),
        new(Object::Any, &[], &[plain("show-defaults", None)]),
    ),
    command(
        "status",
        Action::Query,
        None,
        new(
            Object::ResourceOrAll,
            &[],
            &[
                plain("verbose", None),
                plain("statistics", None),
                Item::Own(Own { long: "color", short: None, kind: OwnKind::OptionalText }),
            ],
        ),
    ),
    command("check-resize", Action::CheckResize, old(&[], &[], false), new(Object::Minor, &[], &[])),
    command(
        "events",
        Action::Events,
        old(&[], &[plain("unfiltered", Some('u')), plain("all-devices", Some('a'))], false),
        new(Object::Any, &[], &[]),
    ),
    command(
        "events2",
        Action::Events2,
        None,
        new(
            Object::ResourceOrAll,
            &[],
            &[plain("timestamps", None), plain("statistics", None), plain("now", None)],
        ),
    ),
    command("wait-connect", Action::Wait, old(&[], WAIT, false), new(Object::Minor, &[], WAIT)),
    command("wait-sync", Action::Wait, old(&[], WAIT, false), new(Object::Minor, &[], WAIT)),
    command(
        "new-resource",
        Action::Configure,
        None,
        new(Object::Resource, &[], &[Item::Section84(Section::Options, CHANGEABLE)]),
    ),
    command(
        "new-minor",
        Action::Configure,
        None,
        // The original takes the resource for an argument here, not for the object.
        new(Object::Nothing, &["resource", "minor", "volume"], &[]),
    ),
    command("del-minor", Action::Configure, None, new(Object::Minor, &[], &[])),
    command("del-resource", Action::Configure, None, new(Object::Resource, &[], &[])),
    // Our own, in neither list: the text of /proc/drbd. spec/decisions.md 1.7.
    Command {
        name: "proc",
        action: Action::Query,
        old: None,
        new: new(Object::Nothing, &[], &[]),
        listed: false,
    },
];

/// The command of this name in this dialect's form.
pub fn find(name: &str, form: Dialect) -> Option<&'static Command> {
    TABLE.iter().find(|c| c.name == name && c.has(form))
}

impl Command {
    /// Whether the dialect has it.
    pub fn has(&self, form: Dialect) -> bool {
        match form {
            Dialect::V83 => self.old.is_some(),
            Dialect::V84 => self.new.is_some(),
        }
    }

    /// The options that the form itself has, in the order of usage texts.
    pub fn native_options(&self, form: Dialect) -> Vec<Spec> {
        let items = match form {
            Dialect::V83 => self.old.map_or(&[][..], |f| f.items),
            Dialect::V84 => self.new.map_or(&[][..], |f| f.items),
        };
        items.iter().flat_map(|item| expand(item, form)).collect()
    }

    /// All options that are accepted: the form's own, then the general ones of 8.3, then the
    /// other dialect's spellings of the same things.
    pub fn accepted_options(&self, form: Dialect) -> Vec<Spec> {
        let mut specs = self.native_options(form);
        if self.old.is_some_and(|f| f.configures) && form == Dialect::V83 {
            specs.extend(GENERAL_83.map(|own| own.spec(true)));
        }
        let mut foreign = Vec::new();
        // `primary --overwrite-data-of-peer` and its like, in 8.4's form.
        for command in TABLE.iter().filter(|c| c.name == self.name) {
            for other in [Dialect::V83, Dialect::V84] {
                if other != form {
                    foreign.extend(command.native_options(other));
                }
            }
        }
        // Settings by their other name, and those that only the other dialect has. `status` of
        // 8.3 shares its name with another command, but neither has settings.
        let (sections, scopes) = self.settings_kinds(form);
        for section in sections {
            for dialect in [Dialect::V83, Dialect::V84] {
                let known = in_section(dialect, section).into_iter();
                let more = options::all().iter().filter(|row| row.section_in(dialect) == section);
                for row in known.chain(more).filter(|row| scopes.contains(&row.scope)) {
                    let without_short = |spec| Spec { short: None, ..spec };
                    foreign.extend(spellings(row).into_iter().map(without_short));
                }
            }
        }
        for mut spec in foreign {
            if specs.iter().all(|have| have.long != spec.long) {
                spec.native = false;
                let taken = |c| specs.iter().any(|have| have.short == Some(c));
                spec.short = spec.short.filter(|&c| !taken(c));
                specs.push(spec);
            }
        }
        specs
    }

    /// The sections whose settings it takes, and with which scopes.
    fn settings_kinds(&self, form: Dialect) -> (Vec<Section>, Vec<Scope>) {
        let items = match form {
            Dialect::V83 => self.old.map_or(&[][..], |f| f.items),
            Dialect::V84 => self.new.map_or(&[][..], |f| f.items),
        };
        let mut sections = Vec::new();
        let mut scopes = vec![Scope::Historic];
        for item in items {
            match item {
                Item::Section83(section) => {
                    sections.push(*section);
                    scopes.extend([Scope::Any, Scope::Creation, Scope::OneShot]);
                }
                Item::Section84(section, known) => {
                    sections.push(*section);
                    scopes.extend_from_slice(known);
                }
                Item::Own(_) | Item::Startup => {}
            }
        }
        sections.dedup();
        (sections, scopes)
    }
}

impl Own {
    fn spec(self, native: bool) -> Spec {
        Spec { long: self.long, short: self.short, target: Target::Own(self), native }
    }
}

/// Both names of a setting.
fn spellings(row: &'static OptionRow) -> Vec<Spec> {
    let mut specs = vec![setting(row, Dialect::V84)];
    if row.old.is_some() {
        specs.push(setting(row, Dialect::V83));
    }
    specs
}

fn setting(row: &'static OptionRow, form: Dialect) -> Spec {
    let inverted = form == Dialect::V83 && row.old.is_some_and(|old| old.inverted);
    // In 8.4's form, the letters of 8.3's command that corresponds.
    let moved = row.old.is_some_and(|old| old.section != row.section);
    let short = row.short().filter(|_| form == Dialect::V83 || !moved);
    Spec { long: row.name_in(form), short, target: Target::Setting { row, inverted }, native: true }
}

fn expand(item: &Item, form: Dialect) -> Vec<Spec> {
    match *item {
        Item::Own(own) => vec![own.spec(true)],
        Item::Startup => options::all()
            .iter()
            .filter(|row| row.section == Section::Startup && row.short().is_some())
            .map(|row| {
                let kind = if row.kind == Kind::Flag { OwnKind::OptionalText } else { OwnKind::Text };
                Own { long: row.name, short: row.short(), kind }.spec(true)
            })
            .collect(),
        Item::Section83(section) => {
            in_section(Dialect::V83, section).into_iter().map(|row| setting(row, form)).collect()
        }
        Item::Section84(section, scopes) => in_section(Dialect::V84, section)
            .into_iter()
            .filter(|row| scopes.contains(&row.scope))
            .map(|row| setting(row, form))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_has_two_options_of_one_name() {
        for command in TABLE {
            for form in [Dialect::V83, Dialect::V84] {
                let specs = command.accepted_options(form);
                for (i, spec) in specs.iter().enumerate() {
                    for other in &specs[i + 1..] {
                        assert_ne!(spec.long, other.long, "{}", command.name);
                        let same = spec.short.is_some() && spec.short == other.short;
                        assert!(!same, "{}: -{:?}", command.name, spec.short);
                    }
                }
            }
        }
    }

    #[test]
    fn both_dialects_spellings_are_accepted() {
        for (command, form, name) in [
            ("disk", Dialect::V83, "disk-barrier"),
            ("disk", Dialect::V83, "read-balancing"),
            ("syncer", Dialect::V83, "resync-rate"),
            ("net", Dialect::V83, "socket-check-timeout"),
            ("attach", Dialect::V84, "no-disk-barrier"),
            ("disk-options", Dialect::V84, "rate"),
            ("primary", Dialect::V84, "overwrite-data-of-peer"),
        ] {
            let found = find(command, form).map(|c| c.accepted_options(form));
            let known = found.is_some_and(|specs| specs.iter().any(|s| s.long == name));
            assert!(known, "{command} --{name}");
        }
    }
}
