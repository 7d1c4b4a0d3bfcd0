//! NBD devices by ioctl: the way of all kernels, and the only one of Linux 2.6.18. spec/system.md 6.5.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::link::{Link, Wanted, BLOCK_BYTES};
use super::netlink;
use crate::export::kernel_device::{ioctl, KernelDevice};
use crate::sys::process::STACK_BYTES;

const SET_SOCK: u32 = 0xab00;
const SET_BLKSIZE: u32 = 0xab01;
const DO_IT: u32 = 0xab03;
const CLEAR_SOCK: u32 = 0xab04;
const SET_SIZE_BLOCKS: u32 = 0xab07;
const DISCONNECT: u32 = 0xab08;
const SET_FLAGS: u32 = 0xab0a;
const BLKGETSIZE64: u32 = if cfg!(target_pointer_width = "64") { 0x8008_1272 } else { 0x8004_1272 };

/// How long the kernel may take to begin.
const SERVICE_LIMIT: Duration = Duration::from_secs(10);

/// More devices than any kernel has by itself: 16, or 128 in Linux 2.6.18 at most.
const DEVICES: u32 = 256;

/// A device that is ours alone: first by a claim, which other daemons of this kind respect, then by its socket.
pub struct Ioctl {
    /// N in nbdN.
    index: u32,
    device: KernelDevice,
    file: Arc<File>,
    /// Until the device is in service. Two who set a device up at a time would mix up their sizes.
    claim: Option<File>,
    wanted: Wanted,
    has_flags: bool,
    /// Kept until the kernel has returned from its service: it has no reference of its own in Linux 2.6.18's DO_IT.
    socket: Option<OwnedFd>,
    /// Waits in the kernel while the device is in service.
    serving: Option<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

impl Ioctl {
    /// Looks for a device that nobody uses.
    ///
    /// # Errors
    /// ENODEV: the kernel has no nbd. EBUSY: none is free.
    pub fn open(wanted: Wanted) -> io::Result<Ioctl> {
        let Picked { index, device, file, claim, has_flags } = pick(&wanted, &[])?;
        Ok(Ioctl {
            index,
            device,
            file: Arc::new(file),
            claim: Some(claim),
            wanted,
            has_flags,
            socket: None,
            serving: None,
            stopping: Arc::new(AtomicBool::new(false)),
        })
    }

    /// Waits until the kernel serves the device: newer ones give it its size then, and its limits before.
    fn is_in_service(&self) -> bool {
        let until = Instant::now() + SERVICE_LIMIT;
        while Instant::now() < until && self.serving.as_ref().is_some_and(|serving| !serving.is_finished()) {
            let mut size = 0_u64;
            let asked = ioctl(&self.file, BLKGETSIZE64, std::ptr::addr_of_mut!(size) as usize);
            if asked.is_ok() && size == self.wanted.size_bytes {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// Gives a device its socket, which makes it ours: this one, or another if somebody else was faster.
    fn take(&mut self, socket: &OwnedFd) -> io::Result<()> {
        let mut lost = Vec::new();
        loop {
            match ioctl(&self.file, SET_SOCK, socket.as_raw_fd() as usize) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    lost.push(self.index);
                    let picked = pick(&self.wanted, &lost)?;
                    (self.index, self.device) = (picked.index, picked.device);
                    self.file = Arc::new(picked.file);
                    self.claim = Some(picked.claim);
                }
                result => return result.map(drop),
            }
        }
    }
}

/// A device with its geometry set.
struct Picked {
    index: u32,
    device: KernelDevice,
    file: File,
    claim: File,
    /// The kernel knows flags.
    has_flags: bool,
}

/// A device that seems free and is not one of `lost`.
fn pick(wanted: &Wanted, lost: &[u32]) -> io::Result<Picked> {
    let preferred = std::iter::once(wanted.number).chain((0..DEVICES).filter(|n| *n != wanted.number));
    let mut last = io::Error::from(if lost.is_empty() { Errno::ENODEV } else { Errno::EBUSY });
    for index in preferred.filter(|index| !lost.contains(index)) {
        let Some(device) = netlink::find(index) else { continue };
        match set_up(&device, wanted) {
            Ok((file, claim, has_flags)) => return Ok(Picked { index, device, file, claim, has_flags }),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The device, open; the claim to it; and whether the kernel knows flags.
fn set_up(device: &KernelDevice, wanted: &Wanted) -> io::Result<(File, File, bool)> {
    let claim = device.open(true, libc::O_EXCL, &wanted.scratch)?;
    if !is_free(&device.name) {
        return Err(Errno::EBUSY.into());
    }
    let file = device.open(true, 0, &wanted.scratch)?;
    let has_flags = prepare(&file, wanted)?;
    Ok((file, claim, has_flags))
}

/// Whether the device is in nobody's service, as far as /sys tells. Linux 2.6.18 does not; there the kernel answers EBUSY.
fn is_free(name: &str) -> bool {
    !Path::new(&format!("/sys/block/{name}/pid")).exists()
}

/// Tells geometry and flags. True: the kernel knows flags.
fn prepare(file: &File, wanted: &Wanted) -> io::Result<bool> {
    ioctl(file, SET_BLKSIZE, BLOCK_BYTES as usize)?;
    ioctl(file, SET_SIZE_BLOCKS, (wanted.size_bytes / BLOCK_BYTES) as usize)?;
    match ioctl(file, SET_FLAGS, usize::from(wanted.flags)) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Link for Ioctl {
    fn has_flags(&self) -> bool {
        self.has_flags
    }

    fn connect(&mut self, socket: OwnedFd, device_name: &str) -> io::Result<(u32, KernelDevice)> {
        self.take(&socket)?;
        self.socket = Some(socket);
        let (file, stopping) = (Arc::clone(&self.file), Arc::clone(&self.stopping));
        let name = self.device.name.clone();
        let serve = move || {
            // Returns when the device is disconnected, or this process ends.
            let result = ioctl(&file, DO_IT, 0);
            if !stopping.load(Ordering::Acquire) {
                let what = result.err().map_or_else(String::new, |error| format!(": {error}"));
                log::error!("{name} has left the service of this program{what}");
            }
            let _ = ioctl(&file, CLEAR_SOCK, 0);
        };
        let spawned = std::thread::Builder::new()
            .name(format!("{device_name}-kernel"))
            .stack_size(STACK_BYTES)
            .spawn(serve);
        match spawned {
            Ok(thread) => self.serving = Some(thread),
            Err(error) => {
                let _ = ioctl(&self.file, CLEAR_SOCK, 0);
                return Err(error);
            }
        }
        let in_service = self.is_in_service();
        self.claim = None;
        if !in_service {
            self.disconnect();
            return Err(Errno::ETIMEDOUT.into());
        }
        Ok((self.index, self.device.clone()))
    }

    fn disconnect(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(serving) = self.serving.take() {
            if let Err(error) = ioctl(&self.file, DISCONNECT, 0) {
                log::error!("disconnect {}: {error}", self.device.name);
            }
            if let Some(socket) = &self.socket {
                // Whatever the kernel does with a disconnect, it notices that.
                let _ = nix::sys::socket::shutdown(socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
            }
            let _ = serving.join();
        }
        self.socket = None;
    }

    fn resize(&mut self, size_bytes: u64) -> io::Result<()> {
        self.wanted.size_bytes = size_bytes;
        ioctl(&self.file, SET_SIZE_BLOCKS, (size_bytes / BLOCK_BYTES) as usize).map(drop)
    }
}

impl Drop for Ioctl {
    fn drop(&mut self) {
        self.disconnect();
    }
}
