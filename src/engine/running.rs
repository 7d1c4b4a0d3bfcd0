//! The running configuration, kept in RUNDIR, so that a daemon that was killed comes back with the
//! resources it had. spec/decisions.md 4.
//!
//! A command is answered when the file has what it did ([`Keeper`]): whoever was told of a success need not ask again after a
//! crash of the daemon. The file is in the page cache then, which outlives the daemon; it counts for nothing after a crash of the host.
//!
//! Roles are not kept: whoever used a device saw its end, and the meta data say that this node was
//! Primary. After a reboot the file counts for nothing.

use super::attach;
use super::daemon::{is_success, Daemon};
use super::kept_file::{replace, Kept};
use super::runner::BackingPaths;
use crate::conf::settings::{DiskSettings, NetSettings, ResourceSettings};
use crate::conf::Dialect;
use crate::core::types::Command;
use crate::status::AddressPair;
use crate::sys::sync::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Keeps the file up to date. Whoever needs it to be writes it, on his own thread; those who come meanwhile wait for that, or
/// for the next time, which is for all of them.
#[derive(Debug, Default)]
pub struct Keeper {
    /// Counts changes of the configuration.
    changes: AtomicU64,
    state: Mutex<Keeping>,
    written: Condvar,
}

#[derive(Debug, Default)]
struct Keeping {
    /// `None`: nothing is kept, before the start and after the end.
    file: Option<Kept>,
    /// A thread writes the file.
    busy: bool,
    /// So many changes are in it (or were tried to be).
    written: u64,
}

impl Keeper {
    /// From now on there is a file. To be called before clients may give orders.
    pub fn start(&self, path: &Path) {
        let meanwhile = "Replication goes on; a daemon that is started again would not know the changes";
        self.state.lock().file = Some(Kept::new(path, meanwhile));
    }

    /// Something changed that belongs into the file.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether it could not be written: somebody has to try again.
    pub fn fails(&self) -> bool {
        self.state.lock().file.as_ref().is_some_and(|file| file.fails)
    }

    /// Returns when all that has [`changed`](Self::changed) before the call is in the file, or cannot be written. Not to be called under
    /// any lock.
    pub fn write(&self, daemon: &Daemon) {
        let wanted = self.changes.load(Ordering::Acquire);
        let mut state = self.state.lock();
        while state.written < wanted {
            let Some(path) = state.file.as_ref().map(|file| file.path.clone()) else { return };
            if state.busy {
                state = self.written.wait(state);
                continue;
            }
            state.busy = true;
            drop(state);
            let covers = self.changes.load(Ordering::Acquire);
            let result = save(daemon, &path);
            state = self.state.lock();
            state.busy = false;
            state.written = covers;
            self.written.notify_all();
            let line = state.file.as_mut().and_then(|file| file.line(result));
            if let Some((level, line)) = line {
                drop(state);
                log::log!(level, "{line}");
                state = self.state.lock();
            }
        }
    }

    /// The daemon ends: the file goes, and does not come back.
    pub fn end(&self) {
        let mut state = self.state.lock();
        while state.busy {
            state = self.written.wait(state);
        }
        if let Some(file) = state.file.take() {
            let _ = fs::remove_file(file.path);
        }
    }
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

fn collect(daemon: &Daemon) -> Running {
    let runners = daemon.resources();
    // Not under a resource's lock: the names have one of their own, which is held while links are made.
    let door_name = |minor| Some((minor, daemon.shared.doors.find(minor)?.device_name()?));
    let device_names: BTreeMap<u32, String> =
        daemon.minors().into_iter().filter_map(|(minor, _)| door_name(minor)).collect();
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
                    device_name: device_names.get(&volume.minor).cloned(),
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
