//! What is checked before commands on resources, and converted for them. spec/config.md 12, 13.3.

use std::collections::{HashMap, HashSet};

use super::check::{choose_peer, upper_case_protocol, Choice, Report, ThisHost};
use super::model::{Config, Resource};
use super::options::Section;
use super::parser::{Stop, EXIT_INVALID};
use super::Dialect;

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
