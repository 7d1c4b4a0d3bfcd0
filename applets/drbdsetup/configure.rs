//! Commands that send one request, and 8.3's `down`, which sends three.
//! spec/drbdsetup.md 2.4, 3 and 6.2.

use super::daemon::{report, Asker};
use super::device;
use super::failure::{err, Failure, Outcome};
use super::table::{find, Command, Object};
use super::usage;
use super::values::{self, Parsed, Values};
use drbdbox::conf::value::Value;
use drbdbox::conf::Dialect;
use drbdbox::control::message::{ConnectionOf, Request, SettingChange};
use drbdbox::core::codes::ConfigCode;
use drbdbox::status::AddressPair;
use drbdbox::sys::minor_lock::MinorLock;
use drbdbox::sys::paths;

/// Commands that keep drbdmeta away from the minor. spec/decisions.md 6.6.
const LOCKED: [&str; 6] = ["disk", "attach", "detach", "resize", "syncer", "disk-options"];

fn lock(command: &str, minor: u32) -> Result<Option<MinorLock>, Failure> {
    if !LOCKED.contains(&command) {
        return Ok(None);
    }
    MinorLock::take(minor).map(Some).map_err(Failure::refused)
}

/// What the words behind the object say.
enum Arguments {
    None,
    Disk { lower: String, meta: String, index: i32 },
    Net { addresses: AddressPair, protocol: Option<Value> },
    NewMinor { resource: String, minor: u32, volume: u32 },
}

fn too_big_to_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Converts the positional arguments, each at once. spec/drbdsetup.md 2.7.
fn arguments(command: &str, words: &[String]) -> Result<Arguments, Failure> {
    Ok(match (command, words) {
        ("disk" | "attach", [lower, meta, index]) => {
            device::check_backing(lower)?;
            device::check_backing(meta)?;
            Arguments::Disk { lower: lower.clone(), meta: meta.clone(), index: device::meta_index(index)? }
        }
        ("net", [local, peer, protocol]) => {
            let addresses = AddressPair { local: device::address(local)?, peer: device::address(peer)? };
            let row = drbdbox::conf::options::find("protocol");
            let value = row.and_then(|row| row.parse(protocol, Dialect::V83).ok());
            if value.is_none() {
                return Err(Failure::refused(format!("'{protocol}' is no valid protocol.")));
            }
            Arguments::Net { addresses, protocol: value }
        }
        ("new-minor", [resource, minor, volume]) => {
            check_resource_name(resource)?;
            Arguments::NewMinor {
                resource: resource.clone(),
                minor: device::minor_84(minor)?,
                volume: too_big_to_u32(device::plain_number(volume)?),
            }
        }
        _ => Arguments::None,
    })
}

/// What a request is about.
enum About<'a> {
    Minor(u32),
    Resource(&'a str),
    Nothing,
}

/// Puts a request together. `None`: the table has a command that this does not know.
fn request(
    command: &str,
    about: &About,
    arguments: Arguments,
    addresses: Option<AddressPair>,
    values: Values,
) -> Option<Request> {
    let set_defaults = values.has("set-defaults");
    let force = values.has("force");
    let unsigned = |name: &str| values.number(name).and_then(|n| u64::try_from(n).ok());
    let small = |name: &str| unsigned(name).map(too_big_to_u32);
    Some(match (command, about, arguments) {
        ("disk" | "attach", &About::Minor(minor), Arguments::Disk { lower, meta, index }) => {
            Request::Attach {
                minor,
                lower_device: lower,
                meta_device: meta,
                meta_index: index,
                changes: values.changes,
            }
        }
        ("net", &About::Minor(minor), Arguments::Net { addresses, protocol }) => {
            let protocol = protocol.map(|value| SettingChange { option: "protocol".to_string(), value });
            Request::Connect {
                connection: ConnectionOf::Minor(minor),
                addresses,
                changes: protocol.into_iter().chain(values.changes).collect(),
            }
        }
        ("connect", About::Resource(name), _) => Request::Connect {
            connection: ConnectionOf::Resource(name.to_string()),
            addresses: addresses?,
            changes: values.changes,
        },
        ("net-options", _, _) => {
            Request::NetOptions { addresses: addresses?, set_defaults, changes: values.changes }
        }
        ("disconnect", &About::Minor(minor), _) => {
            Request::Disconnect { connection: ConnectionOf::Minor(minor), force }
        }
        ("disconnect", _, _) => {
            Request::Disconnect { connection: ConnectionOf::Addresses(addresses?), force }
        }
        ("new-minor", _, Arguments::NewMinor { resource, minor, volume }) => {
            Request::NewMinor { resource, minor, volume }
        }
        ("new-resource", About::Resource(name), _) => {
            Request::NewResource { name: name.to_string(), changes: values.changes }
        }
        ("resource-options", About::Resource(name), _) => {
            Request::ResourceOptions { name: name.to_string(), set_defaults, changes: values.changes }
        }
        ("del-resource", About::Resource(name), _) => Request::DeleteResource { name: name.to_string() },
        ("down", About::Resource(name), _) => Request::Down { resource: name.to_string() },
        (_, &About::Minor(minor), _) => match command {
            "del-minor" => Request::DeleteMinor { minor },
            "disk-options" => Request::DiskOptions { minor, set_defaults, changes: values.changes },
            "syncer" => Request::Syncer { minor, set_defaults, changes: values.changes },
            "detach" => Request::Detach { minor, force },
            "primary" => Request::Primary { minor, force: force || values.has("overwrite-data-of-peer") },
            "secondary" => Request::Secondary { minor },
            "outdate" => Request::Outdate { minor },
            "invalidate" => Request::Invalidate { minor },
            "invalidate-remote" => Request::InvalidateRemote { minor },
            "pause-sync" => Request::PauseSync { minor },
            "resume-sync" => Request::ResumeSync { minor },
            "suspend-io" => Request::SuspendIo { minor },
            "resume-io" => Request::ResumeIo { minor },
            "verify" => Request::Verify { minor, start: unsigned("start"), stop: unsigned("stop") },
            "resize" => Request::Resize {
                minor,
                size: unsigned("size").unwrap_or(0),
                assume_peer_has_space: values.has("assume-peer-has-space"),
                assume_clean: values.has("assume-clean"),
                al_stripes: small("al-stripes"),
                al_stripe_size_kib: small("al-stripe-size-kB"),
            },
            "new-current-uuid" => Request::NewCurrentUuid { minor, clear_bitmap: values.has("clear-bitmap") },
            _ => return None,
        },
        _ => return None,
    })
}

/// A configuration command in 8.3's form: `DEV COMMAND WORDS`. spec/drbdsetup.md 2.4.
pub fn run_83(program: &str, command: &Command, device: &str, minor: u32, words: &[String]) -> Outcome {
    let lock = lock(command.name, minor)?;
    let (request, create_device) = prepare_83(program, command, minor, words)?;
    let asker = Asker { object: device, form: Dialect::V83 };
    let outcome = asker.configure(request, create_device);
    drop(lock);
    outcome
}

fn prepare_83(
    program: &str,
    command: &Command,
    minor: u32,
    words: &[String],
) -> Result<(Request, bool), Failure> {
    let names = command.old.map_or(&[][..], |f| f.arguments);
    if let Some(missing) = names.get(words.len()) {
        // Those that are there are converted first.
        for (i, _) in words.iter().enumerate() {
            check_one(command.name, i, &words[i])?;
        }
        let text = usage::command(command, Dialect::V83) + "\n";
        return Err(Failure::refused(format!("Missing argument '{missing}'")).with_out(text));
    }
    let arguments = arguments(command.name, &words[..names.len()])?;
    let parsed = values::parse(program, command, words, Dialect::V83)?;
    let create_device = parsed.values.has("create-device");
    let request = request(command.name, &About::Minor(minor), arguments, None, parsed.values);
    let request = request.ok_or_else(|| unknown_command(command.name))?;
    Ok((request, create_device))
}

/// Converts one positional argument only for its error.
fn check_one(command: &str, index: usize, word: &str) -> Result<(), Failure> {
    match (command, index) {
        ("disk" | "attach", 0 | 1) => device::check_backing(word),
        ("net", 0 | 1) => device::address(word).map(drop),
        _ => Ok(()),
    }
}

fn unknown_command(name: &str) -> Failure {
    Failure::refused(format!("{name}: not a configuration command"))
}

/// 8.3's `down`: secondary, disconnect, detach. spec/drbdsetup.md 3.2.
pub fn down_83(program: &str, device: &str, minor: u32, words: &[String]) -> Outcome {
    let asker = Asker { object: device, form: Dialect::V83 };
    if !words.is_empty() {
        err("Ignoring excess arguments\n");
    }
    // Each step looks at the words on its own, under the name `down` and with the options that
    // every configuration command has.
    let plain = find("secondary", Dialect::V83).ok_or_else(|| unknown_command("secondary"))?;
    let named = Command { name: "down", ..*plain };
    let step = |name: &str| -> Result<Request, Failure> {
        let parsed = values::parse(program, &named, words, Dialect::V83)?;
        let about = About::Minor(minor);
        request(name, &about, Arguments::None, None, parsed.values).ok_or_else(|| unknown_command(name))
    };
    match asker.request(step("secondary")?, false)? {
        Ok(()) => {}
        Err((code, _)) if code == ConfigCode::MinorInvalid.number() => return Ok(0),
        Err((code, info)) => return Err(asker.code(code, &info)),
    }
    report(asker.configure(step("disconnect")?, false));
    let detach = step("detach")?;
    let lock = lock("detach", minor)?;
    let status = asker.configure(detach, false)?;
    drop(lock);
    if status == 0 {
        // The node goes with the last step; the minor stays.
        let _ = asker.request(Request::RemoveNode { minor }, false)?;
    }
    Ok(status)
}

/// The words of a call in 8.4's form, split. spec/drbdsetup.md 6.1.
pub struct Call84 {
    /// As typed, `??` if the command has none, `all` if it may be absent and is.
    pub object: String,
    /// Two addresses where the command takes them.
    pub addresses: Option<AddressPair>,
    /// What follows.
    pub arguments: Vec<String>,
    /// The options.
    pub values: Values,
}

/// Takes a call in 8.4's form apart: options first, then object, addresses, arguments.
///
/// # Errors
/// The original's texts and exit statuses.
pub fn take_apart_84(
    program: &str,
    command: &Command,
    words: &[String],
    usage_form: Dialect,
) -> Result<Call84, Failure> {
    let Parsed { values, others } = values::parse(program, command, words, Dialect::V84)?;
    let form = command.new.ok_or_else(|| unknown_command(command.name))?;
    let usage_text = || usage::command(command, Dialect::V84);
    let mut others = others.into_iter();
    let takes_object = !matches!(form.object, Object::Addresses | Object::Nothing);
    let object = match others.next_if_wanted(takes_object) {
        Some(word) => word,
        None if matches!(form.object, Object::Any | Object::ResourceOrAll) => "all".to_string(),
        None if takes_object => return Err(Failure::refused("Missing first argument").with_out(usage_text())),
        None => "??".to_string(),
    };
    if takes_object {
        check_object(form.object, &object, usage_form)?;
    }
    let addresses = match form.object {
        Object::Addresses | Object::ResourceAndAddresses => {
            let (Some(local), Some(peer)) = (others.next(), others.next()) else {
                return Err(Failure::refused("Missing connection endpoint argument").with_out(usage_text()));
            };
            Some(AddressPair { local: device::address(&local)?, peer: device::address(&peer)? })
        }
        _ => None,
    };
    let mut arguments = Vec::new();
    for name in form.arguments {
        let Some(word) = others.next() else {
            return Err(Failure::refused(format!("Missing argument '{name}'")).with_out(usage_text()));
        };
        arguments.push(word);
    }
    let excess: Vec<String> = others.collect();
    if !excess.is_empty() {
        // `down` loses its place in the original when there are two or more.
        let status = if command.name == "down" && excess.len() > 1 { 132 } else { 20 };
        return Err(Failure {
            err: format!("Excess arguments: {}", excess.join(" ")),
            out: "\n".to_string(),
            status,
        });
    }
    Ok(Call84 { object, addresses, arguments, values })
}

/// `next`, only where a word is wanted.
trait NextIfWanted {
    fn next_if_wanted(&mut self, wanted: bool) -> Option<String>;
}

impl NextIfWanted for std::vec::IntoIter<String> {
    fn next_if_wanted(&mut self, wanted: bool) -> Option<String> {
        if wanted {
            self.next()
        } else {
            None
        }
    }
}

/// Whether a word can be the object of a command. spec/drbdsetup.md 6.1.8.
fn check_object(object: Object, word: &str, usage_form: Dialect) -> Result<(), Failure> {
    if word == "all" && !matches!(object, Object::Any | Object::ResourceOrAll) {
        let text = usage::general(usage_form, Some("command does not accept argument 'all'"));
        return Err(Failure { err: String::new(), out: text, status: 20 });
    }
    match object {
        Object::Minor => device::minor_84(word).map(drop),
        Object::Any if device::minor_of_object(word).is_some() => Ok(()),
        _ => check_resource_name(word),
    }
}

fn check_resource_name(name: &str) -> Result<(), Failure> {
    let text = if name.is_empty() {
        "Resource name is empty."
    } else if name.chars().any(char::is_control) {
        "Resource name is invalid - please don't use control characters."
    } else {
        return Ok(());
    };
    Err(Failure { status: 1, ..Failure::refused(text) })
}

/// A configuration command in 8.4's form.
pub fn run_84(command: &Command, call: Call84) -> Outcome {
    let form = command.new.ok_or_else(|| unknown_command(command.name))?;
    let minor = match form.object {
        Object::Minor => Some(device::minor_84(&call.object)?),
        _ => None,
    };
    let arguments = arguments(command.name, &call.arguments)?;
    let lock = match minor {
        Some(minor) => lock(command.name, minor)?,
        None => None,
    };
    let about = match (form.object, minor) {
        (_, Some(minor)) => About::Minor(minor),
        (Object::Addresses | Object::Nothing, None) => About::Nothing,
        _ => About::Resource(&call.object),
    };
    let made = request(command.name, &about, arguments, call.addresses, call.values);
    let request = made.ok_or_else(|| unknown_command(command.name))?;
    // The original forgets the object here.
    let object = if command.name == "new-minor" { "??" } else { &call.object };
    let asker = Asker { object, form: Dialect::V84 };
    let gone = registrations(&asker, command.name, &about);
    let status = match asker.request(request, false)? {
        Ok(()) => 0,
        Err((code, _)) if command.name == "down" && code == ConfigCode::ResourceUnknown.number() => {
            if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
                err("Resource unknown\n");
            }
            0
        }
        Err((code, info)) => asker.code(code, &info).print(),
    };
    drop(lock);
    if status == 0 {
        for path in gone {
            // They need not exist.
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(status)
}

/// The links to configuration files that go with the objects. spec/decisions.md 4.
fn registrations(asker: &Asker, command: &str, about: &About) -> Vec<std::path::PathBuf> {
    match (command, about) {
        ("del-minor", About::Minor(minor)) => vec![paths::minor_conf_84(*minor)],
        ("del-resource", About::Resource(name)) if !name.contains('/') => {
            vec![paths::resource_conf_84(name)]
        }
        ("down", About::Resource(name)) if !name.contains('/') => {
            let snapshot = asker.snapshot().ok();
            let resource = snapshot.as_ref().and_then(|s| s.resource(name));
            let volumes = resource.into_iter().flat_map(|r| &r.volumes);
            let minors = volumes.map(|v| paths::minor_conf_84(v.minor));
            minors.chain([paths::resource_conf_84(name)]).collect()
        }
        _ => Vec::new(),
    }
}
