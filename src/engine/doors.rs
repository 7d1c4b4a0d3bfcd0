//! The doors of a daemon's volumes: made with the minor, attached on promotion, detached on
//! demotion. spec/system.md 7.4, spec/decisions.md 7.2.

use super::backend::VolumeBackend;
use super::rank;
use super::runner::Runner;
use super::shared::Config;
use crate::core::types::{Level, VolumeIndex};
use crate::export::door::{Detach, Door, DoorError, Holder};
use crate::export::loop_door::{LoopDoor, LoopDoorConfig};
use crate::export::nbd_kernel::{self, NbdKernelDoor, NbdKernelDoorConfig};
use crate::export::nbd_server::{Listen, NbdServer};
use crate::export::node::{Links, Node};
use crate::sys::sync::Mutex;
use crate::wire::SECTOR_BYTES;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// How applications get at the devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoorKind {
    /// The best one for this kernel, see [`DoorKind::choose`].
    Auto,
    /// /dev/drbdN: an NBD device of the kernel.
    NbdKernel,
    /// /dev/drbdN: FUSE and a loop device.
    FuseLoop,
    /// An NBD server; exports have the names of the resources.
    NbdServer(Listen),
    /// Not at all: the node only replicates.
    None,
}

impl DoorKind {
    /// Whether there is a node /dev/drbdN.
    pub fn has_nodes(&self) -> bool {
        matches!(self, DoorKind::Auto | DoorKind::NbdKernel | DoorKind::FuseLoop)
    }

    /// Decides what `Auto` is on this host: nbd where the kernel has it, whose module is loaded if need be; else fuse+loop.
    #[must_use]
    pub fn choose(self) -> DoorKind {
        match self {
            DoorKind::Auto if nbd_kernel::is_available() => DoorKind::NbdKernel,
            DoorKind::Auto => DoorKind::FuseLoop,
            chosen => chosen,
        }
    }
}

/// The doors of all minors.
#[derive(Default)]
pub struct Doors {
    slots: Mutex<BTreeMap<u32, Arc<DoorSlot>>>,
    server: Mutex<Option<NbdServer>>,
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.slots.lock().keys()).finish()
    }
}

/// The door of a minor.
pub struct DoorSlot {
    minor: u32,
    door: Mutex<Box<dyn Door>>,
    /// The device that it has was that of a daemon that died.
    goes_on: AtomicBool,
    links: Mutex<Vec<Links>>,
    /// The name that drbd.conf has for the device, and the link of that name.
    name: Mutex<Option<(String, Links)>>,
}

impl Doors {
    /// Makes the door of a minor, detached, unless there is one.
    ///
    /// # Errors
    /// The door's: the real driver serves this minor, FUSE or loop devices are missing, ...
    pub fn create(&self, config: &Config, minor: u32, resource: &str, volume: u16) -> Result<(), DoorError> {
        if self.find(minor).is_some() {
            return Ok(());
        }
        let links = || Links::make(&config.device_directory, minor, Some(resource), None);
        let (door, links): (Box<dyn Door>, _) = match &config.door {
            DoorKind::None => return Ok(()),
            DoorKind::NbdKernel => {
                let door = NbdKernelDoor::create(NbdKernelDoorConfig {
                    minor,
                    device_directory: config.device_directory.clone(),
                    run_directory: config.run_directory.clone(),
                    threads: config.door_threads,
                    netlink: true,
                })?;
                (Box::new(door), vec![links()])
            }
            DoorKind::Auto | DoorKind::FuseLoop => {
                let door = LoopDoor::create(LoopDoorConfig {
                    minor,
                    device_directory: config.device_directory.clone(),
                    run_directory: config.run_directory.clone(),
                    threads: config.door_threads,
                })?;
                (Box::new(door), vec![links()])
            }
            DoorKind::NbdServer(listen) => {
                let mut server = self.server.lock();
                let server = match &mut *server {
                    Some(server) => server,
                    none => none.insert(NbdServer::listen(listen.clone())?),
                };
                let name = match volume {
                    0 => resource.to_owned(),
                    number => format!("{resource}/{number}"),
                };
                let door = server.door(&name);
                (Box::new(door), Vec::new())
            }
        };
        let slot = DoorSlot {
            minor,
            door: Mutex::ranked(rank::DOOR, door),
            goes_on: AtomicBool::new(false),
            links: Mutex::new(links),
            name: Mutex::default(),
        };
        self.slots.lock().insert(minor, Arc::new(slot));
        Ok(())
    }

    /// Whether the kernel's own driver serves the minor. spec/decisions.md 7.3.
    pub fn is_taken(&self, config: &Config, minor: u32) -> bool {
        config.door.has_nodes() && Node::new(&config.device_directory, minor).is_of_real_driver()
    }

    /// The door of a minor.
    pub fn find(&self, minor: u32) -> Option<Arc<DoorSlot>> {
        self.slots.lock().get(&minor).cloned()
    }

    /// Takes the door of a minor away, with its node.
    pub fn remove(&self, minor: u32) {
        let slot = self.slots.lock().remove(&minor);
        if let Some(slot) = slot {
            slot.door.lock().remove();
            slot.links.lock().clear();
            *slot.name.lock() = None;
        }
    }
}

impl DoorSlot {
    /// Lets applications in.
    ///
    /// # Errors
    /// The door's.
    pub fn attach(&self, runner: &Arc<Runner>, volume: VolumeIndex) -> Result<(), DoorError> {
        let mut door = self.door.lock();
        if door.is_attached() {
            return Ok(());
        }
        let backend = Arc::new(VolumeBackend::new(Arc::clone(runner), volume));
        if let Some(seen) = door.orphan() {
            // This node is Primary now: from here on the peer cannot change the data.
            if runner.look(|state| state.core.continues(volume, seen)) {
                match door.adopt(backend.clone()) {
                    Ok(()) => {
                        self.goes_on.store(true, Ordering::Release);
                        let text = format!("{} goes on as before the daemon died", door.describe());
                        runner.log(Level::Info, Some(volume), &text);
                        return Ok(());
                    }
                    Err(error) => runner.log(Level::Error, Some(volume), &error.to_string()),
                }
            }
            let text = "those who used the device when the daemon died see errors: it begins anew";
            runner.log(Level::Warning, Some(volume), text);
        }
        door.attach(backend)?;
        let text = format!("{} attached", door.describe());
        runner.log(Level::Info, Some(volume), &text);
        Ok(())
    }

    /// The device of a daemon that died, which waits for a decision: the generation of the data that its users know.
    pub fn orphan(&self) -> Option<u64> {
        self.door.lock().orphan()
    }

    /// Whether it has got a device of a daemon that died.
    pub fn goes_on(&self) -> bool {
        self.goes_on.load(Ordering::Acquire)
    }

    /// Lets that device go: its users see errors.
    pub fn disown(&self) {
        let mut door = self.door.lock();
        if door.orphan().is_some() {
            // Without one in use, nothing else is detached.
            if let Err(error) = door.detach(Detach::Forced) {
                log::error!("{}: {error}", door.describe());
            }
        }
    }

    /// Takes the device away from applications, if nobody uses it or `how` is forced.
    ///
    /// # Errors
    /// The door's.
    pub fn detach(&self, how: Detach) -> Result<(), DoorError> {
        let mut door = self.door.lock();
        if !door.is_attached() && door.orphan().is_none() {
            return Ok(());
        }
        door.detach(how)
    }

    /// Whether applications can use the device.
    pub fn is_attached(&self) -> bool {
        self.door.lock().is_attached()
    }

    /// Who has the device open.
    pub fn holders(&self) -> Vec<Holder> {
        self.door.lock().holders()
    }

    /// Makes or removes the link by the name of the backing device.
    pub fn link_disk(&self, config: &Config, disk: Option<&str>) {
        if !config.door.has_nodes() {
            return;
        }
        let mut links = self.links.lock();
        links.truncate(1);
        if disk.is_some() {
            links.push(Links::make(&config.device_directory, self.minor, None, disk));
        }
    }

    /// Makes or removes the link by the name that drbd.conf has for the device.
    pub fn link_name(&self, config: &Config, name: Option<&str>) {
        let mut kept = self.name.lock();
        // First the old one goes, then the new one comes: they may be the same.
        *kept = None;
        if config.door.has_nodes() {
            let linked = |name: &str| Links::by_name(&config.device_directory, self.minor, name);
            *kept = name.map(|name| (name.to_owned(), linked(name)));
        }
    }

    /// The name that drbd.conf has for the device, if it is not `/dev/drbdN`.
    pub fn device_name(&self) -> Option<String> {
        self.name.lock().as_ref().map(|(name, _)| name.clone())
    }

    /// Tells the users of the device its new size; in a thread of its own, for the door may be busy with
    /// requests that the caller has to serve.
    pub fn resize_later(self: Arc<Self>, runner: &Arc<Runner>, volume: VolumeIndex, sectors: u64) {
        let of_thread = Arc::clone(runner);
        let spawned = runner.thread("resize").spawn(move || {
            let mut door = self.door.lock();
            if let Err(error) = door.resize(sectors * u64::from(SECTOR_BYTES)) {
                let text = format!("{}: cannot change the size: {error}", door.describe());
                of_thread.log(Level::Error, Some(volume), &text);
            }
        });
        if let Err(error) = spawned {
            let text = format!("cannot start a thread to change the size: {error}");
            runner.log(Level::Error, Some(volume), &text);
        }
    }
}

/// The default socket of an NBD server.
pub fn default_nbd_socket(config: &Config) -> Listen {
    Listen::Unix(PathBuf::from(&config.run_directory).join("nbd.sock"))
}
