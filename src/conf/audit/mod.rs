//! `drbdadm check`: everything that can be said about a configuration at once.
//!
//! An *error* is what drbdadm, drbdsetup or the daemon would refuse. A *warning* is accepted, and
//! dangerous or without effect. Each check is a row of [`CHECKS`]; help and manual read it.
//!
//! | file | checks about |
//! |---|---|
//! | `values` | single options: values, options given twice or in vain |
//! | `policies` | options that must fit together: protocol, fencing, split brain, handlers |
//! | `network` | addresses, ports, authentication |
//! | `disks` | backing devices, meta data, minors |
//! | `host` | what concerns this machine and the configuration as a whole |

mod disks;
mod host;
mod network;
mod policies;
mod values;

use std::collections::{HashMap, HashSet};

use super::check::{self, Choice, ThisHost};
use super::model::{Config, HostSection, Resource, Setting, Volume};
use super::options::Section;
use super::{inherit, Dialect};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// drbdadm, drbdsetup or the daemon would refuse it.
    Error,
    /// Accepted, and dangerous or in vain.
    Warning,
}

impl Severity {
    /// The word in front of a finding.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// What a path leads to on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// Nothing.
    Missing,
    /// A block device, by its number.
    Block(u64),
    /// A regular file, by file system and number.
    File(u64, u64),
    /// Something on which no data can be kept.
    Other,
}

/// What the checks want to know of this machine.
pub trait Machine {
    /// What a path leads to.
    fn node(&self, path: &str) -> Node;
    /// Where a device is mounted, or what else of the system uses it now; nothing of DRBD's own.
    fn use_of(&self, path: &str) -> Option<String>;
    /// Whether a program can be executed.
    fn is_executable(&self, path: &str) -> bool;
    /// Whether other users than root can read a file.
    fn is_readable_by_others(&self, path: &str) -> bool;
    /// Whether a digest is known.
    fn knows_digest(&self, name: &str) -> bool;
    /// Whether a digest can prove who somebody is.
    fn authenticates(&self, name: &str) -> bool;
    /// Names of all known digests.
    fn digests(&self) -> Vec<&'static str>;
    /// The ports that the kernel gives to outgoing connections.
    fn outgoing_ports(&self) -> Option<(u16, u16)>;
}

/// One check.
pub struct Check {
    /// Its name, in brackets behind what it found.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it looks for, in one line.
    pub help: &'static str,
    run: fn(&Subject, &mut Report),
}

const fn error(name: &'static str, help: &'static str, run: fn(&Subject, &mut Report)) -> Check {
    Check { name, severity: Severity::Error, help, run }
}

const fn warning(name: &'static str, help: &'static str, run: fn(&Subject, &mut Report)) -> Check {
    Check { name, severity: Severity::Warning, help, run }
}

/// Every check, beyond what reading the file tells.
#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    error("refused", "drbdadm refuses the resource: protocol, hosts, become-primary-on, after, proxy", host::refused),
    error("value", "drbdsetup refuses a value: an unknown word, a text that is too long", values::refused),
    error("digest", "an algorithm that drbdbox has not", values::digests),
    error("cpu-mask", "cpu-mask is not hexadecimal", values::cpu_masks),
    error("two-primaries-protocol", "allow-two-primaries needs protocol C", policies::two_primaries_protocol),
    error("stonith-protocol", "protocol A cannot have fencing resource-and-stonith", policies::stonith_protocol),
    error("congestion-protocol", "on-congestion other than block needs protocol A", policies::congestion_protocol),
    error("after-cycle", "resources that wait for each other with after", policies::after_cycle),
    error("minor", "a minor above 1048575, or a volume above 65535", disks::numbers),
    error("same-device", "disk and meta-disk are the same device, and the meta data not internal", disks::same_device),
    error("meta-disk-overlap", "meta data that overlap: flexible beside an index, one index in two spellings, on another's disk", disks::overlap),
    error("disk-twice", "one disk for two volumes of a host", disks::twice),
    error("address", "an address that is none", network::address),
    error("address-twice", "one address and port in two spellings for two resources of a host", network::twice),
    error("address-here", "this host does not have the address of its section", network::address_here),
    warning("no-authentication", "an address that is not private, and neither cram-hmac-alg nor shared-secret", network::no_authentication),
    warning("half-authentication", "only one of cram-hmac-alg and shared-secret: no authentication", network::half_authentication),
    warning("readable-secret", "a shared-secret in a file that other users can read", network::readable_secret),
    warning("loopback", "one host has a loopback address, the other has not", network::loopback),
    warning("address-family", "hosts with addresses of different families", network::families),
    warning("outgoing-port", "a port that the kernel gives to outgoing connections too", network::outgoing_port),
    warning("timeouts", "timeouts that contradict each other", network::timeouts),
    warning("protocol-a-fencing", "protocol A with fencing: the peer that takes over may lack acknowledged writes", policies::protocol_a_fencing),
    warning("two-primaries-fencing", "allow-two-primaries without fencing", policies::two_primaries_fencing),
    warning("fencing-handler", "fencing without a handler fence-peer", policies::fencing_handler),
    warning("handler-in-vain", "a handler fence-peer without fencing", policies::handler_in_vain),
    warning("policy-handler", "a policy that calls a handler which is not there", policies::policy_handler),
    warning("automatic-loss", "split brain policies that throw away data without asking", policies::automatic_loss),
    warning("proxy-protocol", "DRBD Proxy with another protocol than A", policies::proxy_protocol),
    warning("volatile-writes", "flushes that are off: safe only with a cache that survives a power failure", policies::volatile_writes),
    warning("full-resync", "al-updates no: a full resync after each crash of a Primary", policies::full_resync),
    warning("slow-resync", "no resync rate and no controller: 250 KiB/s", policies::slow_resync),
    warning("al-extents", "more al-extents than the log on the disk holds", values::al_extents),
    warning("option-twice", "an option twice in one section: the last one holds", values::twice),
    warning("in-vain", "an option without effect", values::in_vain),
    warning("handler-program", "a handler whose program is not there", host::handler_program),
    warning("device-name", "the number in a device's name is another one than its minor", disks::device_name),
    warning("drbd-disk", "the disk is a device of DRBD, without stacked-on-top-of", disks::drbd_disk),
    warning("disk-missing", "the disk or meta-disk does not exist on this host, or cannot hold data", disks::missing),
    warning("disk-in-use", "the disk or meta-disk is mounted or used as swap on this host", disks::in_use),
    warning("one-host", "a resource with one host only", host::one_host),
    warning("many-hosts", "more than two hosts that could be connected: commands need --peer", host::many_hosts),
    warning("not-here", "no resource, or none with a section for this host", host::not_here),
    warning("host-name", "a host name that is almost this host's", host::almost),
];

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `FILE:LINE`.
    pub place: String,
    /// How bad it is.
    pub severity: Severity,
    /// Name of the check.
    pub check: &'static str,
    /// What it is, and what to do. DRBD's own message, if it has one.
    pub text: String,
}

impl Finding {
    /// As it is printed, with the line end.
    pub fn line(&self) -> String {
        let Finding { place, severity, check, text } = self;
        format!("{place}: {}: {text} [{check}]\n", severity.word())
    }
}

/// Collects the findings of a check.
pub struct Report {
    check: &'static str,
    severity: Severity,
    findings: Vec<Finding>,
    seen: HashSet<(String, String)>,
}

impl Report {
    fn add(&mut self, place: String, text: impl Into<String>) {
        let text = text.into();
        // What stands in common may come up for every resource.
        if self.seen.insert((place.clone(), text.clone())) {
            self.findings.push(Finding { place, severity: self.severity, check: self.check, text });
        }
    }
}

/// What is checked: the configuration as it was read, and with everything inherited.
pub struct Subject<'a> {
    raw: Config,
    full: Config,
    this: &'a ThisHost,
    machine: &'a dyn Machine,
    /// What drbdadm says after reading.
    messages: String,
    /// Place of a resource in both, by name.
    by_name: HashMap<String, usize>,
}

/// Runs every check over a configuration that was read, even if with errors.
pub fn run(config: Config, this: &ThisHost, machine: &dyn Machine) -> Vec<Finding> {
    let mut raw = config;
    let mut messages = String::new();
    let choice = Choice { no_terminal: true, ..Choice::default() };
    // A conflict of stacked sections; it has been said.
    let _ = check::find_this_host(&mut raw, this, &choice, &mut messages);
    let mut full = raw.clone();
    inherit::expand(&mut full);
    let by_name = raw.resources.iter().enumerate().map(|(at, r)| (r.name.clone(), at)).collect();
    let subject = Subject { raw, full, this, machine, messages, by_name };
    let mut findings = Vec::new();
    for check in CHECKS {
        let mut report = Report {
            check: check.name,
            severity: check.severity,
            findings: Vec::new(),
            seen: HashSet::new(),
        };
        (check.run)(&subject, &mut report);
        findings.append(&mut report.findings);
    }
    findings.sort_by_key(|finding| finding.severity == Severity::Warning);
    findings
}

impl Subject<'_> {
    /// Every resource, with everything inherited.
    fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.full.resources.iter()
    }

    fn dialect(&self) -> Dialect {
        self.full.dialect
    }

    /// `FILE:LINE` of a resource.
    fn place(&self, resource: &Resource) -> String {
        format!("{}:{}", resource.file.display, resource.line)
    }

    fn host_place(&self, resource: &Resource, host: &HostSection) -> String {
        format!("{}:{}", resource.file.display, host.line)
    }

    /// `FILE:LINE` of an option that a resource has; it may stand in `common`.
    fn setting_place(&self, resource: &Resource, setting: &Setting) -> String {
        let same = |s: &Setting| {
            s.section == setting.section && s.row.name == setting.row.name && s.line == setting.line
        };
        let own = self.by_name.get(&resource.name).and_then(|at| self.raw.resources.get(*at));
        let lists = own.into_iter().flat_map(|r| {
            let volumes = r.volumes.iter().chain(r.hosts.iter().flat_map(|h| &h.volumes));
            volumes.map(|v| &v.options).chain(std::iter::once(&r.settings))
        });
        let is_own = lists.flatten().any(same);
        match (&self.raw.common, is_own) {
            (Some(common), false) => format!("{}:{}", common.file.display, setting.line),
            _ => format!("{}:{}", resource.file.display, setting.line),
        }
    }

    /// The place of an option, or of the resource if it has none.
    fn option_place(&self, resource: &Resource, section: Section, name: &str) -> String {
        match last(&resource.settings, section, name) {
            Some(setting) => self.setting_place(resource, setting),
            None => self.place(resource),
        }
    }

    /// The protocol that is in force.
    fn protocol(&self, resource: &Resource) -> String {
        match (resource.protocol(), self.dialect()) {
            (Some(protocol), _) => protocol.to_ascii_uppercase(),
            (None, Dialect::V84) => "C".to_string(),
            (None, Dialect::V83) => String::new(),
        }
    }

    /// Host sections that are not stacked, with their volumes.
    fn volumes<'r>(&self, resource: &'r Resource) -> impl Iterator<Item = (&'r HostSection, &'r Volume)> {
        let hosts = resource.hosts.iter().filter(|h| h.lower().is_none());
        hosts.flat_map(|host| host.volumes.iter().map(move |volume| (host, volume)))
    }

    /// The fencing policy in force for some volume, with the option; none if there is none.
    fn fencing<'r>(&self, resource: &'r Resource) -> Option<&'r Setting> {
        let mut volumes = resource.hosts.iter().flat_map(|h| &h.volumes);
        let of_volume = volumes.find_map(|v| last(&v.options, Section::Disk, "fencing"));
        let setting = of_volume.or_else(|| last(&resource.settings, Section::Disk, "fencing"))?;
        (setting.value != "dont-care").then_some(setting)
    }

    /// Whether a handler is configured.
    fn handler(&self, resource: &Resource, name: &str) -> bool {
        last(&resource.settings, Section::Handlers, name).is_some()
    }
}

/// The option that counts: drbdsetup uses the last of a name.
fn last<'a>(settings: &'a [Setting], section: Section, name: &str) -> Option<&'a Setting> {
    settings.iter().rfind(|s| s.section == section && s.row.name == name)
}

/// The value that counts; empty if there is none.
fn value<'a>(settings: &'a [Setting], section: Section, name: &str) -> &'a str {
    last(settings, section, name).map_or("", |s| &s.value)
}

/// Whether a flag of a resource says yes.
fn flag(resource: &Resource, section: Section, name: &str) -> bool {
    value(&resource.settings, section, name) == "yes"
}

#[cfg(test)]
mod tests;
