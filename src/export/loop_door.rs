//! The door fuse+loop: /dev/drbdN is a loop device on a file that this program serves by FUSE.
//!
//! Every attachment makes a new loop device and removes it afterwards. So no page of an earlier time as Primary can
//! survive in a cache, and the node never leads to a device that someone else may have got (spec/system.md 0, D12).
//!
//! When the program dies while attached, all I/O through the loop device fails from then on, and it stays bound, for
//! the node still leads to it. The next [`LoopDoor::create`] for the minor with the same run directory removes it, and so
//! does [`clean_after_dead_daemon`](super::predecessor::clean_after_dead_daemon).

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::door::{hint, Detach, DeviceNumber, Door, DoorError, Holder};
use super::fuse::{clean_mount_point, Session};
use super::holders;
use super::kernel_device::{flush, CLAIM_ATTEMPTS, CLAIM_PAUSE};
use super::loop_device::LoopDevice;
use super::node::Node;
use super::place::Place;
use super::predecessor::{Entry, Kind};
use super::request::Backend;

/// How many new loop devices may be lost to others before giving up.
const BIND_ATTEMPTS: u32 = 20;

/// Where a [`LoopDoor`] puts what it makes.
#[derive(Debug, Clone)]
pub struct LoopDoorConfig {
    /// Minor of the DRBD device: the node is `drbd<minor>`.
    pub minor: u32,
    /// Directory of the node: /dev. It must allow device nodes.
    pub device_directory: PathBuf,
    /// Private directory of the daemon (RUNDIR), for the record of the loop device in use.
    pub run_directory: PathBuf,
    /// Threads that serve requests while attached; each may be blocked in [`Backend::submit`].
    pub threads: usize,
}

/// A block device /dev/drbdN.
pub struct LoopDoor {
    config: LoopDoorConfig,
    /// Its mark is the name of the files that this door serves.
    place: Place,
    attached: Option<Attached>,
    /// Unbound loop devices that someone still had open when they were to be removed.
    leftovers: Vec<LoopDevice>,
    removed: bool,
}

struct Attached {
    session: Session,
    device: LoopDevice,
    /// The device, opened exclusively by [`Door::claim`].
    claim: Option<File>,
}

impl LoopDoor {
    /// Makes the node, which cannot be opened yet, and cleans up after a predecessor that died.
    ///
    /// # Errors
    /// [`DoorError::System`]: the real driver serves this minor; the node cannot be made.
    pub fn create(config: LoopDoorConfig) -> Result<LoopDoor, DoorError> {
        let place = Place::take(config.minor, &config.device_directory, &config.run_directory, "loop")?;
        let mut door = LoopDoor { config, place, attached: None, leftovers: Vec::new(), removed: false };
        door.clean_after_predecessor();
        Ok(door)
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.place.node
    }

    fn mount_point(&self) -> PathBuf {
        self.config.run_directory.join(format!("doors/mount-{}", self.config.minor))
    }

    fn clean_after_predecessor(&mut self) {
        clean_mount_point(&self.mount_point());
        if let Some(Entry { kind: Kind::Loop, number, mark, .. }) = self.place.record.read() {
            self.clean_device(number, &mark);
        }
        self.place.record.forget();
    }

    /// Removes the loop device of a dead daemon, if it is still that one.
    fn clean_device(&mut self, number: u32, file_name: &str) {
        let scratch = &self.config.device_directory;
        let Some(device) = LoopDevice::existing(number) else {
            return;
        };
        if device.bound_file().as_deref() != Some(file_name) {
            return;
        }
        log::info!("{}: removing loop{number} of a daemon that died", self.place.node.path().display());
        if let Ok(open) = device.kernel().open(false, 0, scratch) {
            let _ = LoopDevice::clear(&open);
        }
        self.discard_device(device);
        if self.leftovers.contains(&device) {
            for holder in holders::find(device.device) {
                log::warn!("loop{number} of a daemon that died is still in use: {holder}");
            }
        }
    }

    /// Binds a new loop device to the file.
    fn bind_new_device(&mut self, file: &File) -> io::Result<LoopDevice> {
        let scratch = &self.config.device_directory;
        let mut last = None;
        for _ in 0..BIND_ATTEMPTS {
            let device = LoopDevice::add(scratch)?;
            let mark = self.place.mark.clone();
            let entry = Entry { kind: Kind::Loop, number: device.number, mark, generation: None };
            self.place.record.write(&entry)?;
            match device.bind(file, &self.place.mark, scratch) {
                Ok(()) => return Ok(device),
                Err(error) => {
                    // EBUSY: someone else got it first. ENXIO: someone removed it while it was unbound.
                    let lost = matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENXIO));
                    if !lost {
                        let _ = device.remove(scratch);
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| nix::errno::Errno::EBUSY.into()))
    }

    /// Removes an unbound loop device, or remembers it.
    fn discard_device(&mut self, device: LoopDevice) {
        self.leftovers.push(device);
        self.remove_leftovers();
    }

    fn remove_leftovers(&mut self) {
        let scratch = &self.config.device_directory;
        self.leftovers.retain(|device| device.remove(scratch).is_err());
    }

    /// The last part of [`Detach::Unused`]: the device is flushed and claimed. Takes the node away and unbinds the device,
    /// unless someone has opened it without a claim.
    fn unbind_unused(&mut self, attached: &Attached, claim: &File) -> Result<(), DoorError> {
        let device = attached.device;
        self.place.close()?;
        // Someone may have opened the node after the first look. Now nobody else can; a prober is soon gone.
        let mut late = device.kernel().late_users();
        if late.is_empty() {
            match LoopDevice::clear_if_unused(claim) {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    late = holders::processes(device.device);
                    if late.is_empty() {
                        late.push(Holder::Kernel);
                    }
                }
                Err(error) => log::error!("unbind loop{}: {error}", device.number),
            }
        }
        self.place.open(device.device)?;
        Err(DoorError::HeldOpen(late))
    }

    /// Unbinds the loop device whoever uses it. What they do from now on fails.
    fn unbind_forced(&mut self, attached: &mut Attached) {
        if let Err(error) = self.place.close() {
            log::error!("{error}");
        }
        attached.session.abort();
        let device = attached.device;
        let open = match attached.claim.take() {
            Some(claim) => Ok(claim),
            None => device.kernel().open(false, 0, &self.config.device_directory),
        };
        if let Err(error) = open.and_then(|open| LoopDevice::clear(&open)) {
            log::error!("unbind loop{}: {error}", device.number);
        }
    }

    /// Ends the service of the file. Its loop device is unbound, or its session aborted.
    fn take_down(&mut self, attached: Attached) {
        attached.session.finish();
        self.place.record.forget();
        self.discard_device(attached.device);
    }
}

impl Door for LoopDoor {
    fn attach(&mut self, backend: Arc<dyn Backend>) -> Result<(), DoorError> {
        if self.attached.is_some() {
            return Err(DoorError::Attached);
        }
        self.remove_leftovers();
        let limits = backend.limits();
        let scratch = self.config.device_directory.clone();
        let session =
            Session::start(backend, &self.place.mark, &self.mount_point(), &scratch, self.config.threads)?;
        let bound = match session.file() {
            Some(file) => file.try_clone().and_then(|file| self.bind_new_device(&file)),
            None => Err(nix::errno::Errno::EBADF.into()),
        };
        let device = match bound {
            Ok(device) => device,
            Err(error) => {
                session.finish();
                self.place.record.forget();
                return Err(DoorError::system(format!("bind a loop device{}", hint(&error, "loop")), error));
            }
        };
        device.kernel().set_queue_limit("max_sectors_kb", u64::from(limits.max_io_bytes / 1024));
        if !limits.write_zeroes {
            device.kernel().set_queue_limit("discard_max_bytes", 0);
        }
        session.admit();
        let mut attached = Attached { session, device, claim: None };
        if let Err(error) = self.place.open(device.device) {
            self.unbind_forced(&mut attached);
            self.take_down(attached);
            return Err(error);
        }
        self.attached = Some(attached);
        Ok(())
    }

    fn claim(&mut self) -> Result<(), DoorError> {
        let Some(attached) = &mut self.attached else {
            return Ok(());
        };
        if attached.claim.is_some() {
            return Ok(());
        }
        attached.claim = Some(attached.device.kernel().claim(&self.config.device_directory)?);
        Ok(())
    }

    fn release(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.claim = None;
        }
    }

    fn detach(&mut self, how: Detach) -> Result<(), DoorError> {
        if how == Detach::Unused {
            self.claim()?;
        }
        let Some(mut attached) = self.attached.take() else {
            return Ok(());
        };
        match (how, attached.claim.take()) {
            (Detach::Unused, Some(claim)) => {
                if let Err(error) = flush(&claim) {
                    log::warn!("flush {}: {error}", self.place.node.path().display());
                }
                if let Err(error) = self.unbind_unused(&attached, &claim) {
                    self.attached = Some(attached);
                    return Err(error);
                }
            }
            (_, claim) => {
                attached.claim = claim;
                self.unbind_forced(&mut attached);
            }
        }
        self.take_down(attached);
        Ok(())
    }

    fn resize(&mut self, size_bytes: u64) -> Result<(), DoorError> {
        let Some(attached) = &self.attached else {
            return Ok(());
        };
        let device = attached.device;
        attached
            .session
            .resize(size_bytes)
            .and_then(|()| device.update_size(&self.config.device_directory))
            .map_err(|error| DoorError::system(format!("resize loop{}", device.number), error))
    }

    fn is_attached(&self) -> bool {
        self.attached.is_some()
    }

    fn holders(&self) -> Vec<Holder> {
        let Some(attached) = &self.attached else {
            return Vec::new();
        };
        attached.device.kernel().holders()
    }

    fn device_number(&self) -> Option<DeviceNumber> {
        self.attached.as_ref().map(|attached| attached.device.device)
    }

    fn remove(&mut self) {
        if std::mem::replace(&mut self.removed, true) {
            return;
        }
        if let Err(error) = self.detach(Detach::Forced) {
            log::error!("{}: {error}", self.describe());
        }
        self.place.node.remove();
        for _ in 0..CLAIM_ATTEMPTS {
            self.remove_leftovers();
            if self.leftovers.is_empty() {
                break;
            }
            std::thread::sleep(CLAIM_PAUSE / 10);
        }
    }

    fn describe(&self) -> String {
        match self.device_number() {
            Some(number) => format!("fuse+loop {} ({number})", self.place.node.path().display()),
            None => format!("fuse+loop {} (detached)", self.place.node.path().display()),
        }
    }
}

impl Drop for LoopDoor {
    fn drop(&mut self) {
        self.remove();
    }
}
