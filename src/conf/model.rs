//! What a configuration says: one model for both dialects. spec/config.md 5, 9.
//!
//! The model is 8.4's. Options of all sections stand in one list per place, in the order of the
//! file and under their table row; a dialect's sections are selections of that list.

use super::options::{Kind, OptionRow, Section};
use super::unique::Registry;
use super::Dialect;

/// A file, as messages name it and where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileName {
    /// As given on the command line or made by an `include`.
    pub display: String,
    /// Directory resolved, last component as it is.
    pub absolute: String,
}

/// One option as it stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Where it stands, in 8.4's terms: never `Syncer`.
    pub section: Section,
    /// Its row in the option table.
    pub row: &'static OptionRow,
    /// As typed; of a flag `yes` or `no` of the 8.4 flag.
    pub value: String,
    /// Carries `_is_default` (output of 8.3's `show`).
    pub is_default: bool,
    /// Line in its file, for messages.
    pub line: u32,
}

impl Setting {
    /// 8.4 flag: whether it says `yes`.
    pub fn is_yes(&self) -> bool {
        self.value == "yes"
    }

    /// The section in which `dialect` has it.
    pub fn section_in(&self, dialect: Dialect) -> Section {
        if self.section == Section::Proxy {
            Section::Proxy
        } else {
            self.row.section_in(dialect)
        }
    }

    /// How `dialect` prints it: name, and value unless it is a bare switch. None: 8.3 prints
    /// nothing, since the flag is in the state that 8.3 has anyhow. spec/decisions.md 3.3.
    pub fn printed(&self, dialect: Dialect) -> Option<(&'static str, Option<&str>)> {
        let name = self.row.name_in(dialect);
        let bare = self.row.kind == Kind::Flag
            && (self.row.name == "stacked-timeouts" || dialect == Dialect::V83 && self.row.old.is_some());
        if !bare {
            return Some((name, Some(&self.value)));
        }
        let inverted = dialect == Dialect::V83 && self.row.old.is_some_and(|old| old.inverted);
        (self.is_yes() != inverted).then_some((name, None))
    }
}

/// A list of options. Lookups find the first of a name, drbdsetup uses the last.
pub type Settings = Vec<Setting>;

/// The first option of this (8.4) name in a section.
pub fn lookup<'a>(settings: &'a [Setting], section: Section, name: &str) -> Option<&'a Setting> {
    settings.iter().find(|s| s.section == section && s.row.name == name)
}

/// The options of a section as `dialect` prints them, with their printed form.
pub fn section_of(
    settings: &[Setting],
    dialect: Dialect,
    section: Section,
) -> impl Iterator<Item = (&'static str, Option<&str>)> {
    settings
        .iter()
        .filter(move |s| s.section_in(dialect) == section)
        // In 8.3 the protocol is a statement of its own.
        .filter(move |s| dialect == Dialect::V84 || s.row.name != "protocol")
        .filter_map(move |s| s.printed(dialect))
}

/// `FAMILY ADDR:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `ipv4`, `ipv6`, `sdp` or `ssocks`.
    pub family: &'static str,
    /// Without brackets.
    pub address: String,
    /// As typed, may have a unit letter.
    pub port: String,
}

impl Address {
    /// `ADDR:PORT`, `[ADDR]:PORT` for IPv6.
    pub fn with_port(&self) -> String {
        if self.family == "ipv6" {
            format!("[{}]:{}", self.address, self.port)
        } else {
            format!("{}:{}", self.address, self.port)
        }
    }

    /// As drbdsetup wants it: `FAMILY:ADDR:PORT`.
    pub fn for_command(&self) -> String {
        format!("{}:{}", self.family, self.with_port())
    }
}

/// Where the meta data of a volume is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetaDisk {
    /// A device, or `internal`.
    pub device: String,
    /// `internal`, a number as typed, or `flexible`.
    pub index: String,
}

impl MetaDisk {
    /// Whether it is at the end of the data device.
    pub fn is_internal(&self) -> bool {
        self.device == "internal"
    }
}

/// A volume of a host, or at resource level.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Volume {
    /// Its number.
    pub number: u32,
    /// Written without `volume N { }`.
    pub implicit: bool,
    /// `/dev/…`; filled in by expansion.
    pub device: Option<String>,
    /// Minor number.
    pub minor: Option<u32>,
    /// Backing device.
    pub disk: Option<String>,
    /// Meta data.
    pub meta: Option<MetaDisk>,
    /// 8.4's `disk { }` of the volume.
    pub options: Settings,
}

impl Volume {
    /// The device on which the meta data is.
    pub fn meta_device(&self) -> &str {
        match &self.meta {
            Some(meta) if !meta.is_internal() => &meta.device,
            _ => self.disk.as_deref().unwrap_or(""),
        }
    }

    /// `internal`, N or `flexible`, as drbdsetup wants it.
    pub fn meta_index(&self) -> &str {
        self.meta.as_ref().map_or("internal", |m| &m.index)
    }

    /// `internal`, N or `flex-external`, as drbdmeta wants it.
    pub fn meta_index_for_drbdmeta(&self) -> &str {
        match self.meta_index() {
            "flexible" => "flex-external",
            index => index,
        }
    }
}

/// `proxy on HOSTS { }`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Proxy {
    /// Where the proxy runs.
    pub hosts: Vec<String>,
    /// Towards its own DRBD.
    pub inside: Option<Address>,
    /// Towards the other proxy.
    pub outside: Option<Address>,
    /// 8.4's `options { }` in it.
    pub options: Settings,
    /// `plugin { }` in these.
    pub plugins: Vec<String>,
}

/// How a host section names its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKind {
    /// `on NAME …`, also `_this_host` and `_remote_host`.
    On,
    /// `floating ADDRESS`: found by address.
    Floating,
    /// `stacked-on-top-of RESOURCE`.
    Stacked(String),
}

/// One end of a resource.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSection {
    /// How it is found.
    pub kind: HostKind,
    /// Host names; of a floating section one artificial name.
    pub hosts: Vec<String>,
    /// In order of their numbers after parsing.
    pub volumes: Vec<Volume>,
    /// Where DRBD listens.
    pub address: Option<Address>,
    /// 8.4 utils: a second link.
    pub alternate: Option<Address>,
    /// Its proxy.
    pub proxy: Option<Proxy>,
    /// 8.4's `options { }`: dumped, never used.
    pub options: Settings,
    /// Line of its start, for messages.
    pub line: u32,
}

impl HostSection {
    /// Whether it is `stacked-on-top-of`.
    pub fn lower(&self) -> Option<&str> {
        match &self.kind {
            HostKind::Stacked(lower) => Some(lower),
            _ => None,
        }
    }

    /// Host names joined by `separator`.
    pub fn names(&self, separator: &str) -> String {
        self.hosts.join(separator)
    }

    /// The volume that commands without volumes mean.
    pub fn first_volume(&self) -> Option<&Volume> {
        self.volumes.first()
    }
}

/// `resource NAME { }`, or `common { }`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resource {
    /// Its name; empty for `common`.
    pub name: String,
    /// Where it stands.
    pub file: FileName,
    /// Line of its `{`.
    pub line: u32,
    /// Options of all sections but volumes' own.
    pub settings: Settings,
    /// `become-primary-on`.
    pub become_primary_on: Vec<String>,
    /// `plugin { }` of the proxy, a line each.
    pub plugins: Vec<String>,
    /// Volumes at resource level, for host sections to inherit.
    pub volumes: Vec<Volume>,
    /// Host sections in order of the file.
    pub hosts: Vec<HostSection>,
    /// This machine's section; set after parsing.
    pub me: Option<usize>,
    /// The other one's.
    pub peer: Option<usize>,
    /// This machine's section is a stacked one.
    pub stacked: bool,
    /// No host section is this machine's.
    pub ignored: bool,
}

impl Resource {
    /// This machine's section.
    pub fn my_host(&self) -> Option<&HostSection> {
        self.me.and_then(|me| self.hosts.get(me))
    }

    /// The other machine's section.
    pub fn peer_host(&self) -> Option<&HostSection> {
        self.peer.and_then(|peer| self.hosts.get(peer))
    }

    /// The first option of this (8.4) name in a section.
    pub fn setting(&self, section: Section, name: &str) -> Option<&Setting> {
        lookup(&self.settings, section, name)
    }

    /// The protocol statement or option.
    pub fn protocol(&self) -> Option<&str> {
        self.setting(Section::Net, "protocol").map(|s| s.value.as_str())
    }

    /// Whether `stacked-timeouts` is set.
    pub fn stacked_timeouts(&self) -> bool {
        self.setting(Section::Startup, "stacked-timeouts").is_some()
    }

    /// Whether a volume stands in `volume N { }`.
    pub fn has_explicit_volumes(&self) -> bool {
        self.hosts.iter().flat_map(|h| &h.volumes).any(|v| !v.implicit)
    }
}

/// Whether the user agreed to be counted; read and not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsageCount {
    /// `yes`
    Yes,
    /// `no`
    No,
    /// `ask`, the default.
    #[default]
    Ask,
}

/// `global { }`. Access by row of the option table: `access`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// No check that the own address exists.
    pub disable_ip_verification: bool,
    /// 0: computed.
    pub minor_count: u32,
    /// Seconds between redraws of `wait-con-int`; 0: never.
    pub dialog_refresh: u32,
    /// `usage-count`.
    pub usage_count: UsageCount,
    /// Seconds that a called program may take; 0: no limit. spec/drbdadm.md 5.2.
    pub cmd_timeout_short: u32,
    /// The same for what waits for the peer or a disk.
    pub cmd_timeout_medium: u32,
    /// The same for drbdmeta and handlers.
    pub cmd_timeout_long: u32,
    /// `sh-udev` prints the volume also where it is implicit.
    pub udev_always_use_vnr: bool,
}

/// Everything that was read.
#[derive(Debug, Clone)]
pub struct Config {
    /// The main file.
    pub file: FileName,
    /// The dialect in force: by name, or 8.4 if there are volumes. spec/decisions.md 1.1.
    pub dialect: Dialect,
    /// `global { }`, or the defaults.
    pub global: Global,
    /// `common { }`.
    pub common: Option<Resource>,
    /// In order of the file.
    pub resources: Vec<Resource>,
    /// What has been used where.
    pub registry: Registry,
    /// Line of the last statement read, for conflicts found later.
    pub last_line: u32,
    /// Nothing was found that is reported only after reading.
    pub valid: bool,
}

impl Config {
    /// The resource of this name.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.name == name)
    }

    /// The file name that messages about a whole resource carry: 8.3 the display name, 8.4 the
    /// absolute one. spec/config.md 13.
    pub fn position(&self, resource: &Resource, line: u32) -> String {
        let name = match self.dialect {
            Dialect::V83 => &resource.file.display,
            Dialect::V84 => &resource.file.absolute,
        };
        format!("{name}:{line}")
    }
}
