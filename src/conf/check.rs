//! What is looked at after reading: which section is this machine's, the peer, validity.
//! spec/config.md 11, 12, 13.3, 13.4.

use std::collections::{HashMap, HashSet};

use super::model::{Config, HostKind, HostSection, Resource};
use super::options::Section;
use super::parser::{Stop, EXIT_INVALID};
use super::unique::is_loopback;
use super::Dialect;

/// What is known about this machine.
#[derive(Debug, Clone, Default)]
pub struct ThisHost {
    /// Node name.
    pub name: String,
    /// IPv4 addresses of interfaces that are up.
    pub ipv4: Vec<String>,
    /// IPv6 addresses.
    pub ipv6: Vec<std::net::Ipv6Addr>,
}

impl ThisHost {
    /// Whether an address is configured here. spec/config.md 11; sdp and ssocks: always.
    pub fn has_address(&self, family: &str, address: &str) -> bool {
        match family {
            "ipv4" => self.ipv4.iter().any(|known| known == address),
            "ipv6" => {
                let plain = address.split('%').next().unwrap_or(address);
                plain.parse().is_ok_and(|a| self.ipv6.contains(&a))
            }
            _ => true,
        }
    }
}

/// How the sections of this machine and the peer are chosen.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Match by the host names of the proxy sections (`proxy-up`, `proxy-down`).
    pub by_proxy: bool,
    /// `--peer NAME`.
    pub peer: Option<String>,
    /// `-d -d`: say why `--peer` is ignored.
    pub tell_ignored_peer: bool,
    /// Input or output is no terminal: an unknown `after` is dropped.
    pub no_terminal: bool,
}

/// Collects messages; `invalid` sets the exit status of commands that name resources.
struct Report<'a> {
    messages: &'a mut String,
    invalid: bool,
}

impl Report<'_> {
    fn invalid(&mut self, place: &str, text: &str) {
        self.invalid = true;
        let blank = if text.starts_with('\n') { "" } else { " " };
        self.messages.push_str(&format!("{place}:{blank}{text}\n"));
    }
}

/// Steps 1 to 4 after parsing: stacked sections, this machine's section of every resource.
/// Messages are appended; `config.valid` tells whether commands on resources may go on.
///
/// # Errors
/// A conflict that ends the program at once.
pub fn find_this_host(
    config: &mut Config,
    this: &ThisHost,
    choice: &Choice,
    messages: &mut String,
) -> Result<(), Stop> {
    let mut report = Report { messages, invalid: false };
    if config.dialect == Dialect::V84 {
        // 8.4 takes protocols in any letter case and prints capitals; 8.3 does so when it validates.
        config.common.iter_mut().for_each(upper_case_protocol);
        config.resources.iter_mut().for_each(upper_case_protocol);
    }
    name_stacked_sections(config, &mut report)?;
    // Normal resources first: a stacked section is this machine's if its lower resource is.
    for stacked in [false, true] {
        for at in 0..config.resources.len() {
            let has_stacked = config.resources[at].hosts.iter().any(|h| h.lower().is_some());
            if has_stacked == stacked {
                choose_me(config, at, this, choice, &mut report);
            }
        }
    }
    disks_of_stacked_sections(config, &mut report);
    if report.invalid {
        config.valid = false;
    }
    Ok(())
}

fn name_stacked_sections(config: &mut Config, report: &mut Report) -> Result<(), Stop> {
    for at in 0..config.resources.len() {
        for host_at in 0..config.resources[at].hosts.len() {
            let resource = &config.resources[at];
            let Some(lower) = resource.hosts[host_at].lower() else {
                continue;
            };
            let Some(found) = config.resource(lower) else {
                let place = config.position(resource, resource.line);
                let text =
                    format!("in resource {}, referenced resource '{lower}' not defined.", resource.name);
                report.invalid(&place, &text);
                continue;
            };
            let names: Vec<String> = found
                .hosts
                .iter()
                .filter(|h| h.lower().is_none())
                .flat_map(|h| h.hosts.iter().cloned())
                .collect();
            let keys = stacked_keys(&resource.hosts[host_at], &names);
            let (file, line) = (config.file.display.clone(), config.last_line);
            for (what, key) in keys {
                if let Err(text) = config.registry.register(what, &key, &file, line) {
                    report.messages.push_str(&text);
                    return Err(Stop(EXIT_INVALID));
                }
            }
            config.resources[at].hosts[host_at].hosts = names;
        }
    }
    Ok(())
}

fn stacked_keys(host: &HostSection, names: &[String]) -> Vec<(&'static str, String)> {
    let mut keys = Vec::new();
    for name in names {
        for volume in &host.volumes {
            if let Some(minor) = volume.minor {
                keys.push(("device-minor", format!("device-minor:{name}:{minor}")));
            }
            if let Some(device) = &volume.device {
                keys.push(("device", format!("device:{name}:{device}")));
            }
        }
        if let Some(address) = host.address.as_ref().filter(|a| is_loopback(&a.address)) {
            keys.push(("IP", format!("{name}:{}:{}", address.address, address.port)));
        }
    }
    keys
}

fn choose_me(config: &mut Config, at: usize, this: &ThisHost, choice: &Choice, report: &mut Report) {
    let mut me: Option<usize> = None;
    for host_at in 0..config.resources[at].hosts.len() {
        let resource = &config.resources[at];
        let host = &resource.hosts[host_at];
        if !is_me(config, host, this, choice) {
            continue;
        }
        if let Some(first) = me {
            let place = config.position(resource, host.line);
            let text = format!(
                "in resource {}, {} {{ ... }} ... {} {{ ... }}:\n\t\
                 There are multiple host sections for this node.",
                resource.name,
                section_title(&resource.hosts[first]),
                section_title(host)
            );
            report.invalid(&place, &text);
        }
        me = Some(host_at);
    }
    let resource = &mut config.resources[at];
    resource.me = me;
    resource.ignored = me.is_none();
    resource.stacked = me.is_some_and(|m| resource.hosts[m].lower().is_some());
}

/// How the message about two matching sections names one.
fn section_title(host: &HostSection) -> String {
    match &host.kind {
        HostKind::Stacked(lower) => format!("stacked-on-top-of {lower}"),
        _ => format!("on {}", host.names(" ")),
    }
}

fn is_me(config: &Config, host: &HostSection, this: &ThisHost, choice: &Choice) -> bool {
    if choice.by_proxy {
        return host.proxy.as_ref().is_some_and(|p| p.hosts.contains(&this.name));
    }
    match &host.kind {
        HostKind::Floating => host.address.as_ref().is_some_and(|address| {
            this.has_address(address.family, &address.address) || this.name == address.address
        }),
        HostKind::Stacked(lower) => config.resource(lower).is_some_and(|r| r.me.is_some()),
        HostKind::On => {
            host.hosts.contains(&this.name) || host.hosts.first().is_some_and(|h| h == "_this_host")
        }
    }
}

fn disks_of_stacked_sections(config: &mut Config, report: &mut Report) {
    for at in 0..config.resources.len() {
        for host_at in 0..config.resources[at].hosts.len() {
            let resource = &config.resources[at];
            let Some(lower_name) = resource.hosts[host_at].lower() else {
                continue;
            };
            let Some(lower) = config.resource(lower_name) else {
                continue;
            };
            let Some(lower_me) = lower.my_host() else {
                continue;
            };
            if lower.stacked && config.dialect == Dialect::V83 {
                let place = config.position(resource, resource.line);
                let text = format!(
                    "in resource {}, stacked-on-top-of {lower_name} {{ ... }}:\n\t\
                     FIXME. I won't stack stacked resources.",
                    resource.name
                );
                report.invalid(&place, &text);
                continue;
            }
            let mut disks = Vec::new();
            for volume in &resource.hosts[host_at].volumes {
                let below = lower_me.volumes.iter().find(|v| v.number == volume.number);
                if below.is_none() && config.dialect == Dialect::V84 {
                    let place = config.position(resource, resource.line);
                    let text = format!(
                        "in resource {}, stacked-on-top-of {lower_name} {{ ... }}:\n\t\
                         volume {} not defined on top of {lower_name}",
                        resource.name, volume.number
                    );
                    report.invalid(&place, &text);
                }
                disks.push(below.and_then(|v| match (&v.device, v.minor) {
                    (Some(device), _) => Some(device.clone()),
                    (None, Some(minor)) => Some(format!("/dev/drbd{minor}")),
                    (None, None) => None,
                }));
            }
            for (volume, disk) in config.resources[at].hosts[host_at].volumes.iter_mut().zip(disks) {
                volume.disk = disk;
                volume.meta = Some(super::model::MetaDisk {
                    device: "internal".to_string(),
                    index: "internal".to_string(),
                });
            }
        }
    }
}

/// Chooses the peer of a resource. `required`: the command needs one, say why there is none.
pub fn choose_peer(
    config: &mut Config,
    at: usize,
    this: &ThisHost,
    choice: &Choice,
    required: bool,
    messages: &mut String,
) {
    let resource = &config.resources[at];
    let Some(me) = resource.me else {
        return;
    };
    let place = config.position(resource, resource.line);
    let mut tell = |colon: &str, text: &str| {
        let name = &resource.name;
        messages.push_str(&format!("{place}: in resource {name}{colon}\n\t{text}\n"));
    };
    let others: Vec<usize> = (0..resource.hosts.len()).filter(|h| *h != me).collect();
    let mut peer = None;
    match (others.as_slice(), &choice.peer) {
        ([], _) if required => tell(":", "Missing section 'on <PEER> { ... }'."),
        ([], _) => {}
        ([only], wanted) => {
            peer = Some(*only);
            if let (Some(wanted), true, true) = (wanted, choice.tell_ignored_peer, required) {
                tell(":", &format!("Ignoring --peer '{wanted}': there are only two host sections."));
            }
        }
        (_, None) if required => tell(
            ":",
            "There are multiple host sections for the peer node.\n\t\
             Use the --peer option to select which peer section to use.",
        ),
        (_, None) => {}
        (_, Some(wanted)) => {
            let matching: Vec<usize> =
                (0..resource.hosts.len()).filter(|h| is_peer(&resource.hosts[*h], wanted, this)).collect();
            match matching.as_slice() {
                _ if matching.contains(&me) => {
                    tell("", &format!("Invoked with --peer '{wanted}', but that matches myself!"))
                }
                [one] => peer = Some(*one),
                [] if required => {
                    tell(":", &format!("No host ('on' or 'floating') section matches --peer '{wanted}'"))
                }
                [] => {}
                _ => tell(":", &format!("Invoked with --peer '{wanted}', but that matches multiple times!")),
            }
        }
    }
    if let Some(resource) = config.resources.get_mut(at) {
        resource.peer = peer;
    }
}

fn is_peer(host: &HostSection, wanted: &str, this: &ThisHost) -> bool {
    host.hosts.iter().any(|name| name == wanted)
        && host.proxy.as_ref().is_none_or(|proxy| proxy.hosts.contains(&this.name))
}

/// The checks before commands that name resources. The first resource with an error ends it.
///
/// # Errors
/// Something is wrong; the reasons have been appended.
pub fn validate(
    config: &mut Config,
    this: &ThisHost,
    choice: &Choice,
    messages: &mut String,
) -> Result<(), Stop> {
    let known: Known = config.resources.iter().map(|r| (r.name.clone(), r.ignored)).collect();
    for at in 0..config.resources.len() {
        let invalid = validate_resource(config, at, &known, this, choice, messages);
        if invalid {
            return Err(Stop(EXIT_INVALID));
        }
    }
    Ok(())
}

/// As [`validate`], but every resource is looked at, also behind one with an error.
pub fn validate_all(config: &mut Config, this: &ThisHost, choice: &Choice, messages: &mut String) {
    let known: Known = config.resources.iter().map(|r| (r.name.clone(), r.ignored)).collect();
    for at in 0..config.resources.len() {
        validate_resource(config, at, &known, this, choice, messages);
    }
}

fn validate_resource(
    config: &mut Config,
    at: usize,
    known: &Known,
    this: &ThisHost,
    choice: &Choice,
    messages: &mut String,
) -> bool {
    let mut report = Report { messages, invalid: false };
    let resource = &config.resources[at];
    let place = format!("{}: in resource {}", config.position(resource, resource.line), resource.name);
    let common_protocol = config.common.as_ref().and_then(|c| c.protocol());
    if config.dialect == Dialect::V83 {
        if resource.protocol().or(common_protocol).is_none() {
            report.invalid(&place, "\n\tprotocol definition missing.");
        }
        upper_case_protocol(&mut config.resources[at]);
    }
    check_dependencies(config, at, known, choice, &place, &mut report);
    if !config.resources[at].ignored {
        check_primary_on_both(config, at, &place, &mut report);
        choose_peer(config, at, this, choice, false, report.messages);
        check_with_peer(&config.resources[at], &place, &mut report);
    }
    report.invalid
}

fn upper_case_protocol(resource: &mut Resource) {
    for setting in &mut resource.settings {
        if setting.row.name == "protocol" {
            let mut chars = setting.value.chars();
            if let Some(first) = chars.next() {
                setting.value = first.to_ascii_uppercase().to_string() + chars.as_str();
            }
        }
    }
}

/// Names of all resources, and whether each is ignored on this host.
type Known = HashMap<String, bool>;

/// `after` must name a defined resource.
fn check_dependencies(
    config: &mut Config,
    at: usize,
    known: &Known,
    choice: &Choice,
    place: &str,
    report: &mut Report,
) {
    let dialect = config.dialect;
    let option = match dialect {
        Dialect::V83 => "after",
        Dialect::V84 => "resync-after",
    };
    let mut unknown = HashSet::new();
    for setting in &config.resources[at].settings {
        if setting.row.name != "resync-after" {
            continue;
        }
        let name = match dialect {
            Dialect::V83 => setting.value.as_str(),
            Dialect::V84 => setting.value.split('/').next().unwrap_or(""),
        };
        let here = match (known.get(name), dialect) {
            (Some(true), Dialect::V84) => " on this host",
            (Some(_), _) => continue,
            (None, _) => "",
        };
        report.messages.push_str(&format!(
            "{place}:\n\tresource '{name}' mentioned in '{option}' option is not known{here}.\n"
        ));
        unknown.insert(setting.value.clone());
    }
    if unknown.is_empty() {
        return;
    }
    if !choice.no_terminal {
        report.invalid = true;
        return;
    }
    let resource = &mut config.resources[at];
    let volumes = resource.hosts.iter_mut().flat_map(|h| &mut h.volumes);
    let lists = volumes.map(|v| &mut v.options).chain(std::iter::once(&mut resource.settings));
    for list in lists {
        list.retain(|s| s.row.name != "resync-after" || !unknown.contains(&s.value));
    }
}

fn check_primary_on_both(config: &Config, at: usize, place: &str, report: &mut Report) {
    let resource = &config.resources[at];
    let both = resource.become_primary_on.first().is_some_and(|h| h == "both");
    let allowed = resource.setting(Section::Net, "allow-two-primaries").is_some();
    if both && !allowed {
        report.invalid = true;
        report.messages.push_str(&format!(
            "{place}:\nbecome-primary-on is set to both, but allow-two-primaries is not set.\n"
        ));
    }
}

fn check_with_peer(resource: &Resource, place: &str, report: &mut Report) {
    let (Some(me), Some(peer)) = (resource.my_host(), resource.peer_host()) else {
        return;
    };
    if me.proxy.is_some() != peer.proxy.is_some() {
        report.invalid(place, "\n\tEither both 'on' sections must contain a proxy subsection, or none.");
    }
    for name in &resource.become_primary_on {
        let known = name == "both" || me.hosts.contains(name) || peer.hosts.contains(name);
        if !known {
            report.invalid(
                place,
                &format!(
                    "\n\tbecome-primary-on contains '{name}', which is not named with the 'on' \
                     sections."
                ),
            );
        }
    }
}

/// The address check of a resource: the message if this machine does not have its address.
/// spec/config.md 13.3, spec/drbdadm.md 3.
pub fn missing_address(config: &Config, resource: &Resource, this: &ThisHost) -> Option<String> {
    let me = resource.my_host()?;
    let address = me.address.as_ref()?;
    if this.has_address(address.family, &address.address) {
        return None;
    }
    let key = format!("{}:{}", address.address, address.port);
    let place = config.registry.place(&key).unwrap_or_else(|| resource.file.display.clone());
    Some(format!(
        "{place}: in resource {}, on {}:\n\tIP {} not found on this host.\n",
        resource.name,
        me.names(" "),
        address.address
    ))
}

/// What `after` and `resync-after` can name: the volumes of this host by resource.
struct Dependencies {
    dialect: Dialect,
    /// Of resources that are not ignored: number and minor of each volume.
    volumes: HashMap<String, Vec<(u32, u32)>>,
}

impl Dependencies {
    fn new(config: &Config) -> Self {
        let volumes = config
            .resources
            .iter()
            .filter_map(|resource| {
                let volumes = &resource.my_host()?.volumes;
                let numbers = volumes.iter().filter_map(|v| Some((v.number, v.minor?)));
                Some((resource.name.clone(), numbers.collect()))
            })
            .collect();
        Dependencies { dialect: config.dialect, volumes }
    }

    /// The minor that RES or RES/VNR means. `Err(Some(n))`: one of n volumes; `Err(None)`: nothing.
    fn minor(&self, value: &str) -> Result<u32, Option<usize>> {
        let (name, number) = match (self.dialect, value.split_once('/')) {
            (Dialect::V84, Some((name, number))) => (name, Some(number)),
            _ => (value, None),
        };
        let volumes = self.volumes.get(name).ok_or(None)?;
        match (number, volumes.as_slice()) {
            (Some(number), _) => {
                let number: u32 = number.parse().map_err(|_| None)?;
                let volume = volumes.iter().find(|(n, _)| *n == number);
                Ok(volume.ok_or(None)?.1)
            }
            (None, []) => Err(None),
            (None, [(_, minor)]) => Ok(*minor),
            (None, [(_, first), ..]) if self.dialect == Dialect::V83 => Ok(*first),
            (None, many) => Err(Some(many.len())),
        }
    }
}

/// Conversions for commands: `after` to minors, `discard-node-NAME` to local or remote.
/// spec/config.md 12.
///
/// # Errors
/// A resource with several volumes is named without one (8.4); it has been said.
pub fn convert_names(config: &mut Config, this: &ThisHost, messages: &mut String) -> Result<(), Stop> {
    let mut ambiguous = false;
    let dependencies = Dependencies::new(config);
    for at in 0..config.resources.len() {
        let place = {
            let resource = &config.resources[at];
            format!("{}: in resource {}", config.position(resource, resource.line), resource.name)
        };
        let resource = &mut config.resources[at];
        let volumes = resource.hosts.iter_mut().flat_map(|h| &mut h.volumes);
        let lists =
            volumes.map(|v| (&mut v.options, true)).chain(std::iter::once((&mut resource.settings, false)));
        for (list, of_host) in lists {
            list.retain_mut(|setting| {
                if setting.row.name == "resync-after" {
                    match dependencies.minor(&setting.value) {
                        Ok(minor) => setting.value = minor.to_string(),
                        Err(None) => return false,
                        // Said once a host section, which has inherited it.
                        Err(Some(_)) if !of_host => return false,
                        Err(Some(count)) => {
                            ambiguous = true;
                            messages.push_str(&format!(
                                "{place}:\n\tresync-after contains '{}', which is ambiguous, \
                                 since it contains {count} volumes\n",
                                setting.value
                            ));
                            return false;
                        }
                    }
                }
                if setting.row.name == "after-sb-0pri" {
                    if let Some(node) = setting.value.strip_prefix("discard-node-") {
                        setting.value = match node == this.name {
                            true => "discard-local".to_string(),
                            false => "discard-remote".to_string(),
                        };
                    }
                }
                true
            });
        }
    }
    match ambiguous {
        true => Err(Stop(EXIT_INVALID)),
        false => Ok(()),
    }
}
