//! [`NbdKernelDoor`]: node, device and service in the right order.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::deferred::Deferred;
use super::link::{self, Link, Orphan, Wanted};
use super::service::Service;
use crate::export::door::{hint, Detach, DeviceNumber, Door, DoorError, Holder};
use crate::export::kernel_device::{flush, KernelDevice};
use crate::export::nbd_server::transmission_flags;
use crate::export::node::Node;
use crate::export::place::Place;
use crate::export::predecessor::{Entry, Kind};
use crate::export::request::Backend;

/// Where a [`NbdKernelDoor`] puts what it makes.
#[derive(Debug, Clone)]
pub struct NbdKernelDoorConfig {
    /// Minor of the DRBD device: the node is `drbd<minor>`.
    pub minor: u32,
    /// Directory of the node: /dev. It must allow device nodes.
    pub device_directory: PathBuf,
    /// Private directory of the daemon (RUNDIR), for the record of the device in use.
    pub run_directory: PathBuf,
    /// Threads that wait for the backend where the kernel must not (Linux before 4.12 without flags).
    pub threads: usize,
    /// May use netlink where the kernel has it; else the ioctls, as with an old kernel.
    pub netlink: bool,
}

/// A block device /dev/drbdN.
pub struct NbdKernelDoor {
    config: NbdKernelDoorConfig,
    /// Its mark is the device's identifier.
    place: Place,
    attached: Option<Attached>,
    /// A dead daemon's device, and the generation of the data behind it.
    orphan: Option<(Orphan, Option<u64>)>,
    removed: bool,
}

struct Attached {
    /// N in nbdN.
    index: u32,
    device: KernelDevice,
    link: Box<dyn Link>,
    service: Service,
    /// The device, opened exclusively by [`Door::claim`].
    claim: Option<File>,
}

impl NbdKernelDoor {
    /// Makes the node, which cannot be opened yet. What a predecessor that died has left goes, unless it may be adopted.
    ///
    /// # Errors
    /// [`DoorError::System`]: the real driver serves this minor; the node cannot be made.
    pub fn create(config: NbdKernelDoorConfig) -> Result<NbdKernelDoor, DoorError> {
        let place = Place::take(config.minor, &config.device_directory, &config.run_directory, "nbd")?;
        let mut door = NbdKernelDoor { config, place, attached: None, orphan: None, removed: false };
        if let Some(entry) = door.place.record.read().filter(|entry| entry.kind == Kind::Nbd) {
            let orphan = Orphan { index: entry.number, identifier: entry.mark.clone() };
            // If this daemon dies, too, its successor shall not adopt it: what the data have been through would not be known.
            let kept = entry.generation.filter(|_| door.config.netlink && orphan.is_there()).filter(|_| {
                let once = door.place.record.write(&Entry { generation: None, ..entry });
                once.is_ok()
            });
            door.orphan = Some((orphan, kept));
            if kept.is_none() {
                door.disown();
            }
        }
        Ok(door)
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.place.node
    }

    /// Lets the dead daemon's device go.
    fn disown(&mut self) {
        if let Some((orphan, _)) = self.orphan.take() {
            orphan.let_go();
            self.place.record.forget();
        }
    }

    /// Device and service for a backend; the node is not made yet. The device: a new one, or the orphan.
    fn connect(&self, backend: Arc<dyn Backend>, orphan: Option<&Orphan>) -> Result<Attached, DoorError> {
        let name = format!("drbd{}", self.config.minor);
        let failed = |error: io::Error| {
            DoorError::system(format!("connect an nbd device{}", hint(&error, "nbd")), error)
        };
        let limits = backend.limits();
        let wanted = Wanted {
            number: self.config.minor,
            size_bytes: backend.size_bytes(),
            flags: transmission_flags(&limits),
            scratch: self.config.device_directory.clone(),
            outlives: backend.generation().is_some(),
            identifier: orphan.map_or(&self.place.mark, |orphan| &orphan.identifier).clone(),
        };
        let link = match orphan {
            Some(orphan) => link::adopt(wanted, orphan),
            None => link::open(wanted, self.config.netlink),
        };
        let mut link = link.map_err(failed)?;
        let backend = if link.has_flags() {
            backend
        } else {
            let deferred = Deferred::start(backend, self.config.threads, &format!("{name}-door"));
            Arc::new(deferred.map_err(failed)?)
        };
        let (mut service, kernel_end) = Service::start(backend, limits, &name).map_err(failed)?;
        match link.connect(kernel_end, &name) {
            Ok((index, device)) => {
                device.set_queue_limit("max_sectors_kb", u64::from(limits.max_io_bytes / 1024));
                Ok(Attached { index, device, link, service, claim: None })
            }
            Err(error) => {
                service.finish();
                Err(failed(error))
            }
        }
    }

    /// Records the device and leads the node to it; else it is taken down.
    fn open(&mut self, attached: Attached, generation: Option<u64>) -> Result<(), DoorError> {
        let (kind, number, mark) = (Kind::Nbd, attached.index, self.place.mark.clone());
        let recorded = self.place.record.write(&Entry { kind, number, mark, generation });
        let made = recorded
            .map_err(|error| self.place.failed(error))
            .and_then(|()| self.place.open(attached.device.number));
        if let Err(error) = made {
            let _ = self.place.close();
            self.take_down(attached);
            return Err(error);
        }
        self.attached = Some(attached);
        Ok(())
    }

    /// Ends the service. The node leads nowhere.
    fn take_down(&self, mut attached: Attached) {
        attached.link.disconnect();
        attached.service.finish();
        self.place.record.forget();
    }
}

impl Door for NbdKernelDoor {
    fn attach(&mut self, backend: Arc<dyn Backend>) -> Result<(), DoorError> {
        if self.attached.is_some() {
            return Err(DoorError::Attached);
        }
        self.disown();
        let generation = backend.generation();
        let attached = self.connect(backend, None)?;
        self.open(attached, generation)
    }

    fn orphan(&self) -> Option<u64> {
        self.orphan.as_ref()?.1
    }

    fn adopt(&mut self, backend: Arc<dyn Backend>) -> Result<(), DoorError> {
        let Some((orphan, _)) = &self.orphan else {
            return Err(DoorError::system("adopt a device", io::Error::from(io::ErrorKind::NotFound)));
        };
        let generation = backend.generation();
        let attached = self.connect(backend, Some(orphan))?;
        // The kernel knows the device by that name.
        self.place.mark.clone_from(&orphan.identifier);
        self.orphan = None;
        self.open(attached, generation)
    }

    fn claim(&mut self) -> Result<(), DoorError> {
        let Some(attached) = &mut self.attached else {
            return Ok(());
        };
        if attached.claim.is_none() {
            attached.claim = Some(attached.device.claim(&self.config.device_directory)?);
        }
        Ok(())
    }

    fn release(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.claim = None;
        }
    }

    fn detach(&mut self, how: Detach) -> Result<(), DoorError> {
        self.disown();
        if how == Detach::Unused {
            self.claim()?;
        }
        let Some(attached) = self.attached.take() else {
            return Ok(());
        };
        if how == Detach::Unused {
            if let Err(error) = self.place.close() {
                self.attached = Some(attached);
                return Err(error);
            }
            // Someone may have opened the node after the first look. Now nobody else can.
            let mut late = attached.device.late_users();
            late.extend(attached.device.upper_devices());
            if !late.is_empty() {
                let back = self.place.open(attached.device.number);
                self.attached = Some(attached);
                return Err(back.err().unwrap_or(DoorError::HeldOpen(late)));
            }
            if let Some(Err(error)) = attached.claim.as_ref().map(flush) {
                log::warn!("flush {}: {error}", self.place.node.path().display());
            }
        } else if let Err(error) = self.place.close() {
            log::error!("{error}");
        }
        self.take_down(attached);
        Ok(())
    }

    fn resize(&mut self, size_bytes: u64) -> Result<(), DoorError> {
        let Some(attached) = &mut self.attached else {
            return Ok(());
        };
        // The users hear of more only when it can be served, and of less before it cannot.
        attached.service.resize(size_bytes);
        attached
            .link
            .resize(size_bytes)
            .map_err(|error| DoorError::system(format!("resize {}", attached.device.name), error))
    }

    fn is_attached(&self) -> bool {
        self.attached.is_some()
    }

    fn holders(&self) -> Vec<Holder> {
        self.attached.as_ref().map_or_else(Vec::new, |attached| attached.device.holders())
    }

    fn device_number(&self) -> Option<DeviceNumber> {
        self.attached.as_ref().map(|attached| attached.device.number)
    }

    fn remove(&mut self) {
        if std::mem::replace(&mut self.removed, true) {
            return;
        }
        if let Err(error) = self.detach(Detach::Forced) {
            log::error!("{}: {error}", self.describe());
        }
        self.place.node.remove();
    }

    fn describe(&self) -> String {
        let path = self.place.node.path().display();
        match &self.attached {
            Some(attached) => format!("{} {path} ({})", attached.device.name, attached.device.number),
            None => format!("nbd {path} (detached)"),
        }
    }
}

impl Drop for NbdKernelDoor {
    fn drop(&mut self) {
        self.remove();
    }
}
