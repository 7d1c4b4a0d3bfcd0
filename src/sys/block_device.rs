//! Block devices and regular files as disks: exclusive direct access, size, sector size.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use super::buffer::{Buffer, ALIGNMENT};

/// What keeps others away while a device is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nobody else: O_EXCL on a block device (EBUSY if mounted, swap, in use by md or dm), an
    /// exclusive advisory lock on a regular file.
    Exclusive,
    /// Others that share: nothing on a block device, a shared advisory lock on a regular file. For
    /// meta devices with slots of several minors.
    Shared,
    /// Anybody.
    None,
}

/// How to open a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenMode {
    /// Read only; else read and write.
    pub read_only: bool,
    /// Claim on the device.
    pub claim: Claim,
}

/// What was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A block device.
    BlockDevice,
    /// A regular file.
    RegularFile,
}

/// Why a device cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The open call failed.
    #[error("open({path}) failed: {}", error_text(error))]
    Open {
        /// Path as given.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// Claimed by somebody else.
    #[error("open({path}) failed: Device or resource busy")]
    Busy {
        /// Path as given.
        path: String,
    },
    /// A directory, a pipe, ...
    #[error("'{path}' is not a block device!")]
    NotABlockDevice {
        /// Path as given.
        path: String,
    },
    /// A call on the open device failed.
    #[error("{call} on {path} failed: {}; check the device", error_text(error))]
    Call {
        /// Name of the call.
        call: &'static str,
        /// Path as given.
        path: String,
        /// What the system said.
        error: io::Error,
    },
}

/// The system's text of an error, as C programs print it.
pub fn error_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        // glibc's words, which people look for, where the table of nix has others.
        Some(libc::EIO) => "Input/output error".to_string(),
        Some(libc::EAGAIN) => "Resource temporarily unavailable".to_string(),
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_string(),
        None => error.to_string(),
    }
}

impl OpenError {
    /// True if somebody else uses the device.
    pub fn is_busy(&self) -> bool {
        matches!(self, OpenError::Busy { .. })
    }

    /// True if only writing is not possible, or not allowed.
    pub fn is_write_protected(&self) -> bool {
        matches!(self, OpenError::Open { error, .. } if matches!(
            error.raw_os_error(),
            Some(libc::EROFS | libc::EACCES | libc::EPERM)
        ))
    }
}

/// An open block device or regular file. All I/O goes around the page cache where the file system
/// allows it; buffers that are not aligned are copied.
#[derive(Debug)]
pub struct BlockDevice {
    file: File,
    path: PathBuf,
    kind: Kind,
    direct: bool,
    read_only: bool,
    logical_block_bytes: usize,
    size_bytes: AtomicU64,
}

impl Drop for BlockDevice {
    /// A child that another thread is about to start has a copy of the descriptor until it executes its
    /// program. The lock on a file must not live as long as that.
    fn drop(&mut self) {
        if self.kind == Kind::RegularFile {
            // SAFETY: flock takes a descriptor, which `self.file` keeps open, and an integer.
            #[allow(unsafe_code)]
            unsafe {
                libc::flock(self.file.as_raw_fd(), libc::LOCK_UN)
            };
        }
    }
}

mod ioctls {
    #![allow(missing_docs)]

    // The kernel defines BLKGETSIZE64 with the size of size_t, but always stores 64 bits.
    nix::ioctl_read_bad!(
        block_get_size,
        nix::request_code_read!(0x12, 114, std::mem::size_of::<usize>()),
        u64
    );
    nix::ioctl_read_bad!(block_get_sector_size, nix::request_code_none!(0x12, 104), libc::c_int);
    nix::ioctl_read_bad!(block_get_read_only, nix::request_code_none!(0x12, 94), libc::c_int);
    nix::ioctl_none_bad!(block_flush_buffers, nix::request_code_none!(0x12, 97));
    nix::ioctl_write_ptr_bad!(block_discard, nix::request_code_none!(0x12, 119), [u64; 2]);
    nix::ioctl_write_ptr_bad!(block_zero_out, nix::request_code_none!(0x12, 127), [u64; 2]);
}

impl BlockDevice {
    /// Opens a block device or a regular file.
    ///
    /// Errors: [`OpenError::Busy`] if the claim fails, others by cause. A file system without
    /// O_DIRECT (tmpfs) is used through the page cache.
    pub fn open(path: &Path, mode: OpenMode) -> Result<BlockDevice, OpenError> {
        let shown = || path.display().to_string();
        let open_error = |error: io::Error| match error.raw_os_error() {
            Some(libc::EBUSY) => OpenError::Busy { path: shown() },
            _ => OpenError::Open { path: shown(), error },
        };
        // The type first: opening a pipe or a tape can block or have effects.
        let kind_of = |metadata: &std::fs::Metadata| {
            if metadata.file_type().is_block_device() {
                Some(Kind::BlockDevice)
            } else if metadata.is_file() {
                Some(Kind::RegularFile)
            } else {
                None
            }
        };
        let metadata = std::fs::metadata(path).map_err(open_error)?;
        let kind = kind_of(&metadata).ok_or_else(|| OpenError::NotABlockDevice { path: shown() })?;
        let exclusive = kind == Kind::BlockDevice && mode.claim == Claim::Exclusive;
        let flags = if exclusive { libc::O_EXCL } else { 0 };
        let open_with =
            |flags: i32| OpenOptions::new().read(true).write(!mode.read_only).custom_flags(flags).open(path);
        let (file, direct) = match open_with(flags | libc::O_DIRECT) {
            Ok(file) => (file, true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                (open_with(flags).map_err(open_error)?, false)
            }
            Err(error) => return Err(open_error(error)),
        };
        let opened = file.metadata().map_err(open_error)?;
        if kind_of(&opened) != Some(kind) || opened.ino() != metadata.ino() {
            return Err(OpenError::NotABlockDevice { path: shown() });
        }
        let mut device = BlockDevice {
            file,
            path: path.to_path_buf(),
            kind,
            direct,
            read_only: mode.read_only,
            logical_block_bytes: 512,
            size_bytes: AtomicU64::new(0),
        };
        device.lock(mode)?;
        device.logical_block_bytes = device.find_logical_block_bytes();
        device.refresh_size().map_err(|error| OpenError::Call {
            call: "BLKGETSIZE64",
            path: shown(),
            error,
        })?;
        if !direct && kind == Kind::BlockDevice {
            // What others have in the page cache must not hide what is on the device. Not
            // allowed to unprivileged users, who then see the cache.
            device.flush_buffers().ok();
        }
        Ok(device)
    }

    /// The advisory lock on a regular file.
    fn lock(&self, mode: OpenMode) -> Result<(), OpenError> {
        let operation = match (self.kind, mode.claim) {
            (Kind::BlockDevice, _) | (_, Claim::None) => return Ok(()),
            (Kind::RegularFile, Claim::Exclusive) => libc::LOCK_EX,
            (Kind::RegularFile, Claim::Shared) => libc::LOCK_SH,
        };
        // SAFETY: flock takes a descriptor, which `self.file` keeps open, and an integer.
        #[allow(unsafe_code)]
        let result = unsafe { libc::flock(self.file.as_raw_fd(), operation | libc::LOCK_NB) };
        if result == 0 {
            return Ok(());
        }
        let path = self.path.display().to_string();
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EWOULDBLOCK) => Err(OpenError::Busy { path }),
            // A file system without locks: nothing to be had.
            Some(libc::ENOLCK | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => Ok(()),
            _ => Err(OpenError::Call { call: "flock", path, error }),
        }
    }

    fn find_logical_block_bytes(&self) -> usize {
        if self.kind == Kind::RegularFile {
            // The file system may ask for more than 512 with O_DIRECT; then `write_at` fails
            // with EINVAL only for requests that are smaller, so probe with the smallest.
            return if self.direct { self.probe_direct_unit() } else { 512 };
        }
        let mut size: libc::c_int = 0;
        // SAFETY: BLKSSZGET stores one int through the pointer.
        #[allow(unsafe_code)]
        let result = unsafe { ioctls::block_get_sector_size(self.file.as_raw_fd(), &mut size) };
        match result {
            Ok(_) if (512..=4096).contains(&size) => size as usize,
            Ok(_) if size > 4096 => 4096,
            _ => 512,
        }
    }

    /// Smallest direct request that the file system takes.
    fn probe_direct_unit(&self) -> usize {
        let mut buffer = Buffer::zeroed(512);
        match self.file.read_at(&mut buffer, 0) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => 4096,
            _ => 512,
        }
    }

    /// Asks for the size again, for devices that can grow. Returns it in bytes.
    pub fn refresh_size(&self) -> io::Result<u64> {
        let bytes = match self.kind {
            Kind::RegularFile => self.file.metadata()?.len(),
            Kind::BlockDevice => {
                let mut bytes = 0u64;
                // SAFETY: BLKGETSIZE64 stores one u64 through the pointer.
                #[allow(unsafe_code)]
                unsafe {
                    ioctls::block_get_size(self.file.as_raw_fd(), &mut bytes)?
                };
                bytes
            }
        };
        self.size_bytes.store(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Size in bytes when it was last asked for.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }

    /// Unit of requests in bytes: the device's logical block, 512..=4096.
    pub fn logical_block_bytes(&self) -> usize {
        self.logical_block_bytes
    }

    /// Path as given to `open`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Block device or regular file.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// True if requests go around the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// True if it was opened read only, or the device is set so.
    pub fn is_read_only(&self) -> bool {
        if self.read_only || self.kind == Kind::RegularFile {
            return self.read_only;
        }
        let mut read_only: libc::c_int = 0;
        // SAFETY: BLKROGET stores one int through the pointer.
        #[allow(unsafe_code)]
        let result = unsafe { ioctls::block_get_read_only(self.file.as_raw_fd(), &mut read_only) };
        result.is_ok() && read_only != 0
    }

    /// The descriptor, for polling or io_uring. Valid while this value lives.
    pub fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// True if a request can go to the device as it is.
    fn is_aligned(&self, offset: u64, buffer: &[u8]) -> bool {
        let unit = self.logical_block_bytes;
        !self.direct
            || (offset % unit as u64 == 0
                && buffer.len() % unit == 0
                && buffer.as_ptr() as usize % ALIGNMENT.min(unit.max(512)) == 0)
    }

    /// Fills `buffer` from byte `offset`. A request that is not aligned reads the blocks around it.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.is_aligned(offset, buffer) {
            return self.file.read_exact_at(buffer, offset);
        }
        let (start, mut bounce) = self.bounce(offset, buffer.len());
        let within = (offset - start) as usize;
        let wanted = within + buffer.len();
        // The last block of a regular file may be short.
        let mut filled = 0;
        while filled < wanted {
            match self.file.read_at(&mut bounce[filled..], start + filled as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.copy_from_slice(&bounce[within..wanted]);
        Ok(())
    }

    /// Writes all of `buffer` at byte `offset`. A request that is not aligned reads and rewrites the
    /// blocks around it: callers must not do that to neighbouring bytes at the same time.
    ///
    /// A regular file does not grow: ENOSPC behind its end, as on a block device.
    pub fn write_at(&self, offset: u64, buffer: &[u8]) -> io::Result<()> {
        if offset.saturating_add(buffer.len() as u64) > self.size_bytes() {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        if self.is_aligned(offset, buffer) {
            return self.file.write_all_at(buffer, offset);
        }
        let (start, mut bounce) = self.bounce(offset, buffer.len());
        let within = (offset - start) as usize;
        if bounce.len() != buffer.len() {
            let len = bounce
                .len()
                .min(usize::try_from(self.size_bytes().saturating_sub(start)).unwrap_or(usize::MAX));
            if len < within + buffer.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.read_at(start, &mut bounce[..len])?;
        }
        bounce[within..within + buffer.len()].copy_from_slice(buffer);
        self.file.write_all_at(&bounce, start)
    }

    /// Writes, and returns when the bytes are on stable storage. One system call where the kernel can do
    /// both in one (`RWF_DSYNC`, Linux 4.7), which spares a way back to user space in between; else a
    /// write and a flush.
    ///
    /// # Errors
    /// As [`BlockDevice::write_at`] and [`BlockDevice::sync`].
    pub fn write_durable_at(&self, offset: u64, buffer: &[u8]) -> io::Result<()> {
        let fits = offset.saturating_add(buffer.len() as u64) <= self.size_bytes();
        if fits && !buffer.is_empty() && self.is_aligned(offset, buffer) {
            match self.write_dsync(offset, buffer) {
                Ok(written) if written == buffer.len() => return Ok(()),
                Err(error) if !is_unknown_request(&error) => return Err(error),
                // A part of it, or a kernel that does not know the flag.
                _ => {}
            }
        }
        self.write_at(offset, buffer)?;
        self.sync()
    }

    fn write_dsync(&self, offset: u64, buffer: &[u8]) -> io::Result<usize> {
        const RWF_DSYNC: libc::c_int = 2;
        let part = libc::iovec { iov_base: buffer.as_ptr().cast_mut().cast(), iov_len: buffer.len() };
        // SAFETY: `part` describes `buffer`, which the call only reads. The kernel takes the offset as
        // two longs, of which a 64-bit system looks at the first only.
        #[allow(unsafe_code)]
        let written = unsafe {
            libc::syscall(
                libc::SYS_pwritev2,
                self.file.as_raw_fd() as libc::c_long,
                &part as *const libc::iovec,
                1 as libc::c_long,
                offset as libc::c_long,
                (offset >> 32) as libc::c_long,
                RWF_DSYNC as libc::c_long,
            )
        };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }

    /// Start and memory of the blocks around a request.
    fn bounce(&self, offset: u64, len: usize) -> (u64, Buffer) {
        let unit = self.logical_block_bytes as u64;
        let start = offset / unit * unit;
        let end = (offset + len as u64).next_multiple_of(unit);
        (start, Buffer::zeroed((end - start) as usize))
    }

    /// Waits until everything written is on stable storage.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Tells the device that a range is no longer needed (BLKDISCARD). EOPNOTSUPP if it cannot, as
    /// for regular files.
    pub fn discard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if self.kind == Kind::RegularFile {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        // SAFETY: BLKDISCARD reads two u64 through the pointer.
        #[allow(unsafe_code)]
        unsafe {
            ioctls::block_discard(self.file.as_raw_fd(), &[offset, bytes])?
        };
        Ok(())
    }

    /// Zeroes a range and gives its space back (fallocate, on block devices since Linux 4.9). EOPNOTSUPP, EINVAL or ENODEV if
    /// that is not possible here; then nothing has changed.
    pub fn punch_hole(&self, offset: u64, bytes: u64) -> io::Result<()> {
        use nix::fcntl::{fallocate, FallocateFlags};
        let too_far = |_| io::Error::from_raw_os_error(libc::EINVAL);
        let (offset, bytes) =
            (i64::try_from(offset).map_err(too_far)?, i64::try_from(bytes).map_err(too_far)?);
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        Ok(fallocate(&self.file, flags, offset, bytes)?)
    }

    /// Zeroes a range: BLKZEROOUT where the kernel has it (3.7), else by writing.
    pub fn zero_out(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if self.kind == Kind::BlockDevice {
            // SAFETY: BLKZEROOUT reads two u64 through the pointer.
            #[allow(unsafe_code)]
            let result = unsafe { ioctls::block_zero_out(self.file.as_raw_fd(), &[offset, bytes]) };
            if result.is_ok() {
                return Ok(());
            }
        }
        let zeroes = Buffer::zeroed((1 << 20).min(usize::try_from(bytes).unwrap_or(1 << 20)));
        let mut done = 0;
        while done < bytes {
            let count = (bytes - done).min(zeroes.len() as u64);
            self.write_at(offset + done, &zeroes[..count as usize])?;
            done += count;
        }
        Ok(())
    }

    /// Writes out and drops what the page cache has of a block device (BLKFLSBUF; needs
    /// CAP_SYS_ADMIN).
    pub fn flush_buffers(&self) -> io::Result<()> {
        // SAFETY: BLKFLSBUF takes no argument.
        #[allow(unsafe_code)]
        unsafe {
            ioctls::block_flush_buffers(self.file.as_raw_fd())?
        };
        Ok(())
    }
}

/// Whether two paths lead to one device or file.
pub fn same_device(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    let identity = |path: &str| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(match metadata.rdev() {
            0 => (metadata.dev(), metadata.ino()),
            number => (number, 0),
        })
    };
    matches!((identity(one), identity(other)), (Some(a), Some(b)) if a == b)
}

/// The kernel does not know the system call or its flag.
fn is_unknown_request(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITER: OpenMode = OpenMode { read_only: false, claim: Claim::Exclusive };

    fn file(bytes: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        file.as_file().set_len(bytes).unwrap();
        file
    }

    #[test]
    fn a_regular_file_is_a_disk() {
        let file = file(1 << 20);
        let device = BlockDevice::open(file.path(), WRITER).unwrap();
        assert_eq!(device.size_bytes(), 1 << 20);
        assert_eq!(device.kind(), Kind::RegularFile);
        device.write_at(4096, &Buffer::from_bytes(&[7; 4096])).unwrap();
        device.write_at(5000, b"unaligned").unwrap();
        let mut back = [0; 11];
        device.read_at(4999, &mut back).unwrap();
        assert_eq!(&back, b"\x07unaligned\x07");
        device.zero_out(4096, 4096).unwrap();
        device.read_at(4999, &mut back).unwrap();
        assert_eq!(back, [0; 11]);
        device.sync().unwrap();
        assert!(device.read_at((1 << 20) - 4, &mut back).is_err());
    }

    #[test]
    fn only_one_has_an_exclusive_claim() {
        let file = file(4096);
        let first = BlockDevice::open(file.path(), WRITER).unwrap();
        assert!(BlockDevice::open(file.path(), WRITER).unwrap_err().is_busy());
        let anybody = OpenMode { read_only: true, claim: Claim::None };
        assert!(BlockDevice::open(file.path(), anybody).unwrap().is_read_only());
        // As a child of this process has it between fork and exec.
        let copy = first.file.try_clone().unwrap();
        drop(first);
        BlockDevice::open(file.path(), WRITER).unwrap();
        drop(copy);
    }

    #[test]
    fn shared_claims_keep_exclusive_ones_out() {
        let shared = OpenMode { read_only: false, claim: Claim::Shared };
        let file = file(4096);
        let _first = BlockDevice::open(file.path(), shared).unwrap();
        let _second = BlockDevice::open(file.path(), shared).unwrap();
        assert!(BlockDevice::open(file.path(), WRITER).is_err());
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let error = BlockDevice::open(Path::new("/"), WRITER).unwrap_err();
        assert_eq!(error.to_string(), "'/' is not a block device!");
        let error = BlockDevice::open(Path::new("/nonexistent"), WRITER).unwrap_err();
        assert!(error.to_string().starts_with("open(/nonexistent) failed: "));
    }
}
