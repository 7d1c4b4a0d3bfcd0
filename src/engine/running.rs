//! The running configuration, kept in RUNDIR, so that a daemon that was killed comes back with the
//! resources it had. spec/decisions.md 4.
//!
//! Roles are not kept: whoever used a device saw its end, and the meta data say that this node was
//! Primary. After a reboot the file counts for nothing.

use super::attach;
use super::daemon::{is_success, Daemon};
use super::runner::BackingPaths;
use crate::conf::settings::{DiskSettings, NetSettings, ResourceSettings};
use crate::conf::Dialect;
use crate::core::types::Command;
use crate::status::AddressPair;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What identifies the boot of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Largest file that is read.
const BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Running {
    boot_id: String,
    resources: Vec<RunningResource>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RunningResource {
    name: String,
    explicit: bool,
    settings: ResourceSettings,
    net: NetSettings,
    /// Endpoints, if it is connected or tries to.
    addresses: Option<AddressPair>,
    volumes: Vec<RunningVolume>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RunningVolume {
    minor: u32,
    number: u16,
    /// Its name in drbd.conf, if it is not `/dev/drbdN`.
    #[serde(default)]
    device_name: Option<String>,
    settings: DiskSettings,
    backing: Option<BackingPaths>,
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

fn collect(daemon: &Daemon) -> Running {
    let runners = daemon.resources();
    let resources = runners.iter().map(|runner| {
        runner.look(|state| RunningResource {
            name: runner.name.clone(),
            explicit: runner.explicit,
            settings: state.core.settings().clone(),
            net: state.core.net_settings().unwrap_or(&state.net).clone(),
            addresses: state.core.net_settings().and(state.addresses),
            volumes: state
                .core
                .volumes()
                .map(|(v, volume)| RunningVolume {
                    minor: volume.minor,
                    number: volume.number,
                    device_name: daemon.shared.doors.find(volume.minor).and_then(|door| door.device_name()),
                    settings: volume.settings().clone(),
                    backing: state.volumes.get(v).and_then(|slot| slot.backing.clone()),
                })
                .collect(),
        })
    });
    Running { boot_id: boot_id(), resources: resources.collect() }
}

/// Writes the file, mode 0600 (it has secrets), replacing the old one at once.
///
/// # Errors
/// The system's.
pub fn save(daemon: &Daemon, path: &Path) -> io::Result<()> {
    let text = serde_json::to_vec(&collect(daemon)).map_err(io::Error::other)?;
    replace(path, &text, 0o600)
}

/// Writes a file under another name and renames it.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    // Not one that somebody else has put there, with a mode of his choice.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&temporary, path)
}

/// Brings back what the file says; problems go to the log. A file of another boot is ignored.
pub fn restore(daemon: &Daemon, path: &Path) {
    let running = match read(path) {
        Ok(Some(running)) => running,
        Ok(None) => return,
        Err(error) => {
            log::error!("{}: {error}; starting without resources", path.display());
            return;
        }
    };
    if running.boot_id != boot_id() {
        return;
    }
    for resource in running.resources {
        let name = resource.name.clone();
        if let Err(text) = bring_back(daemon, resource) {
            log::error!("{name}: cannot be brought back: {text}");
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Running>> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() || metadata.len() > BYTES_MAX {
        return Err(io::Error::other("is not a file that this program wrote"));
    }
    serde_json::from_slice(&fs::read(path)?).map(Some).map_err(io::Error::other)
}

fn bring_back(daemon: &Daemon, resource: RunningResource) -> Result<(), String> {
    let shown = |reply| format!("{reply:?}");
    let dialect = if resource.explicit { Dialect::V84 } else { Dialect::V83 };
    let runner = daemon.make_resource(&resource.name, resource.explicit, resource.settings).map_err(shown)?;
    let kept = NetSettings { discard_my_data: false, tentative: false, ..resource.net };
    runner.look(|state| state.net = kept.clone());
    for volume in resource.volumes {
        let place = daemon.make_volume(&runner, volume.minor, volume.number, dialect).map_err(shown)?;
        if let Some(door) = daemon.shared.doors.find(volume.minor) {
            door.link_name(&daemon.shared.config, volume.device_name.as_deref());
        }
        let settings = Box::new(volume.settings.clone());
        runner.command(Command::DiskSettings { volume: place.volume, settings });
        if let Some(backing) = volume.backing {
            let lower = backing.lower_device.clone();
            let (code, info) = attach::attach(&runner, place.volume, backing, volume.settings, dialect);
            if is_success(code) {
                if let Some(door) = daemon.shared.doors.find(volume.minor) {
                    door.link_disk(&daemon.shared.config, Some(&lower));
                }
            } else {
                log::error!("minor {}: cannot attach {lower} again: {code} {info:?}", volume.minor);
            }
        }
    }
    if let Some(addresses) = resource.addresses {
        runner.look(|state| state.addresses = Some(addresses));
        let (code, info) = runner.command(Command::Connect(Box::new(kept)));
        if !is_success(code) {
            log::error!("{}: cannot connect again: {code} {info:?}", resource.name);
        }
    }
    daemon.changed(&runner);
    Ok(())
}
