//! What is looked at after reading: which section is this machine's, which the peer's. spec/config.md 11, 13.4.
//! Validity is in `validate`.

use super::model::{Config, HostKind, HostSection, Resource};
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
pub(super) struct Report<'a> {
    pub messages: &'a mut String,
    pub invalid: bool,
}

impl Report<'_> {
    pub fn invalid(&mut self, place: &str, text: &str) {
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

/// The first letter of the protocol is a capital from here on.
pub(super) fn upper_case_protocol(resource: &mut Resource) {
    for setting in &mut resource.settings {
        if setting.row.name == "protocol" {
            let mut chars = setting.value.chars();
            if let Some(first) = chars.next() {
                setting.value = first.to_ascii_uppercase().to_string() + chars.as_str();
            }
        }
    }
}
