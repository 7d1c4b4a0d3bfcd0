//! Queries: role, cstate, dstate, status, sh-status, show, get-gi, show-gi, proc, check-resize.
//! spec/drbdsetup.md 5 and 6.

use super::configure::Call84;
use super::daemon::Asker;
use super::device;
use super::failure::{err, out, Failure, Outcome};
use super::usage::terminal_width;
use super::values::excess_83;
use drbdbox::conf::Dialect;
use drbdbox::core::codes::ConfigCode;
use drbdbox::status::line::{self, Minor83};
use drbdbox::status::status84::{self, Style};
use drbdbox::status::{gi, show, Backing, Resource, Snapshot, Volume};
use drbdbox::sys::minor_lock::MinorLock;
use drbdbox::sys::{paths, terminal};

/// 8.3's notice about the old name of `role`.
pub fn state_is_deprecated(program: &str) {
    err(&format!("'{program} ... state' is deprecated, use '{program} ... role' instead.\n"));
}

/// A query in 8.3's form: everything behind the command word is in excess.
pub fn run_83(name: &str, device: &str, minor: u32, words: &[String]) -> Outcome {
    let asker = Asker { object: device, form: Dialect::V83 };
    let answer = asker.snapshot_or_code()?;
    let unknown = ConfigCode::MinorInvalid.number();
    let found = match &answer {
        Ok(snapshot) => snapshot.minor(minor).ok_or(unknown),
        Err(code) => Err(*code),
    };
    // The original looks at the words when it has the answer, but before it prints.
    excess_83(name, &[], words, 0);
    let (resource, volume) = match found {
        Ok(found) => found,
        Err(code) if code == unknown && matches!(name, "status" | "sh-status") => {
            status_83(name, minor, None);
            return Ok(0);
        }
        Err(code) => return Err(asker.code(code, &[])),
    };
    let state = &volume.state;
    match name {
        "role" => out(&(line::role(state) + "\n")),
        "cstate" => out(&(line::cstate(state) + "\n")),
        "dstate" => out(&(line::dstate(state) + "\n")),
        "status" | "sh-status" => status_83(name, minor, Some(volume)),
        "show" => out(&show::show_83(resource, volume)),
        _ => return generation(name, volume, Dialect::V83),
    }
    Ok(0)
}

fn status_83(name: &str, minor: u32, volume: Option<&Volume>) {
    let resource = std::env::var("DRBD_RESOURCE").ok();
    let of = Minor83 {
        minor,
        name: resource.as_deref(),
        state: volume.map(|v| v.state),
        permille: volume.and_then(Volume::resynced_permille_83),
    };
    match name {
        "status" => out(&(line::status_83(&of) + "\n")),
        _ => out(&line::sh_status_83(&of)),
    }
}

/// `get-gi` and `show-gi`.
fn generation(name: &str, volume: &Volume, form: Dialect) -> Outcome {
    let Some(backing) = &volume.backing else {
        let text = match form {
            Dialect::V83 => "Reply payload did not carry an uuid-tag,\nProbably the device has no disk!",
            Dialect::V84 if volume.state.is_unconfigured() => "Device is unconfigured",
            Dialect::V84 => "Device has no disk",
        };
        return Err(Failure { status: 1, ..Failure::refused(text) });
    };
    match (name, form) {
        ("get-gi", _) => out(&gi::get_gi(backing.uuids, backing.md_flags)),
        (_, Dialect::V83) => out(&gi::show_gi(backing.uuids, backing.md_flags)),
        (_, Dialect::V84) => out(&gi::show_gi_84(backing)),
    }
    Ok(0)
}

/// The minor, or the message that there is none.
fn find_84<'a>(
    asker: &Asker,
    snapshot: &'a Snapshot,
    minor: u32,
) -> Result<(&'a Resource, &'a Volume), Failure> {
    snapshot.minor(minor).ok_or_else(|| {
        let code = ConfigCode::MinorInvalid.number();
        asker.code(code, &["unknown minor".to_string()])
    })
}

/// A query in 8.4's form.
pub fn run_84(name: &str, call: &Call84) -> Outcome {
    let asker = Asker { object: &call.object, form: Dialect::V84 };
    match name {
        "proc" => {
            out(&asker.proc_text()?);
            return Ok(0);
        }
        "sh-status" => return sh_status_84(&asker, &call.object),
        "show" => return show_84(&asker, call),
        "status" => return status_84(&asker, call),
        _ => {}
    }
    let minor = device::minor_84(&call.object)?;
    let snapshot = asker.snapshot()?;
    let (_, volume) = find_84(&asker, &snapshot, minor)?;
    let state = &volume.state;
    match name {
        "role" | "state" => out(&(line::role(state) + "\n")),
        "cstate" => out(&(line::cstate(state) + "\n")),
        "dstate" => out(&(line::dstate(state) + "\n")),
        _ => return generation(name, volume, Dialect::V84),
    }
    Ok(0)
}

fn show_84(asker: &Asker, call: &Call84) -> Outcome {
    let snapshot = asker.snapshot()?;
    let defaults_too = call.values.has("show-defaults");
    let object = call.object.as_str();
    if object == "all" {
        out(&show::show_84(&snapshot, |_| true, None, defaults_too));
    } else if let Some(minor) = device::minor_of_object(object) {
        let (found, _) = find_84(asker, &snapshot, minor)?;
        let name = found.name.clone();
        out(&show::show_84(&snapshot, |r| r.name == name, Some(minor), defaults_too));
    } else if snapshot.resource(object).is_some() {
        out(&show::show_84(&snapshot, |r| r.name == object, None, defaults_too));
    } else {
        return Err(Failure::refused("received netlink error reply: No such device"));
    }
    Ok(0)
}

fn sh_status_84(asker: &Asker, object: &str) -> Outcome {
    /// Exit status for a resource that does not exist; nothing is printed.
    const UNKNOWN_RESOURCE: u8 = 19;
    /// What the original takes for the minor of a resource without volumes.
    const NO_MINOR: u32 = u32::MAX;
    let snapshot = asker.snapshot()?;
    if object != "all" {
        if let Some(minor) = device::minor_of_object(object) {
            match snapshot.minor(minor) {
                Some((resource, volume)) => out(&line::sh_status_84(resource, volume)),
                None => out(&line::sh_status_84_none(minor, "")),
            }
            return Ok(0);
        }
        if snapshot.resource(object).is_none() {
            return Ok(UNKNOWN_RESOURCE);
        }
    }
    for resource in status84::chosen(&snapshot, object) {
        if resource.volumes.is_empty() {
            out(&line::sh_status_84_none(NO_MINOR, &resource.name));
        }
        for volume in resource.volumes_sorted() {
            out(&line::sh_status_84(resource, volume));
        }
    }
    Ok(0)
}

fn status_84(asker: &Asker, call: &Call84) -> Outcome {
    let color = match call.values.text("color") {
        None | Some(Some("auto")) => terminal::takes_colors(&std::io::stdout()),
        Some(None | Some("always")) => true,
        Some(Some("never")) => false,
        Some(Some(other)) => {
            let text = format!("status: Invalid argument for --color: {other}");
            return Err(Failure::refused(text));
        }
    };
    let snapshot = asker.snapshot()?;
    if call.object != "all" && snapshot.resource(&call.object).is_none() {
        return Err(Failure { status: 10, ..Failure::refused(format!("{}: No such resource", call.object)) });
    }
    let style = Style {
        verbose: call.values.has("verbose"),
        statistics: call.values.has("statistics"),
        color,
        width: terminal_width(),
        progress_at_ms: None,
    };
    for resource in status84::chosen(&snapshot, &call.object) {
        out(&status84::text(resource, &style));
    }
    Ok(0)
}

/// `check-resize`: remembers size and path of the lower device. spec/drbdsetup.md 5.5.
pub fn check_resize(form: Dialect, object: &str, minor: u32) -> Outcome {
    let _lock = MinorLock::take(minor).map_err(Failure::refused)?;
    let asker = Asker { object, form };
    let snapshot = asker.snapshot()?;
    let volume = match form {
        Dialect::V83 => snapshot
            .minor(minor)
            .map(|(_, v)| v)
            .ok_or_else(|| asker.code(ConfigCode::MinorInvalid.number(), &[]))?,
        Dialect::V84 => find_84(&asker, &snapshot, minor)?.1,
    };
    let failed = |text: String| Failure { status: 1, ..Failure::refused(text) };
    let Some(backing) = &volume.backing else {
        if form == Dialect::V84 {
            return Ok(0);
        }
        return Err(failed("Has no disk config, try with drbdmeta.".to_string()));
    };
    remember(minor, backing).map_err(failed)?;
    Ok(0)
}

/// Writes, or for external meta data deletes, the file about the last known device.
fn remember(minor: u32, backing: &Backing) -> Result<(), String> {
    let path = paths::last_known_device(minor);
    if !matches!(backing.meta_index, -1 | -3) {
        // It need not exist.
        let _ = std::fs::remove_file(path);
        return Ok(());
    }
    let lower = &backing.lower_device;
    let size = lower_bytes(lower).map_err(|error| {
        let number = error.raw_os_error().unwrap_or(0);
        let text = nix::errno::Errno::from_raw(number).desc();
        format!("Could not open {lower}: {text}.")
    })?;
    let first = format!("{size}\t{lower}\n");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    if before.starts_with(&first) {
        return Ok(());
    }
    let uuid = before.lines().find(|line| line.starts_with("uuid:"));
    let text = first + &uuid.map(|line| format!("{line}\n")).unwrap_or_default();
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn lower_bytes(path: &str) -> std::io::Result<u64> {
    use std::io::{Seek, SeekFrom};
    std::fs::File::open(path)?.seek(SeekFrom::End(0))
}
