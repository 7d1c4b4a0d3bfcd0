//! Aligned memory for direct I/O. A payload travels through the program as `Arc<Buffer>`.

use std::alloc::{alloc_zeroed, dealloc, handle_alloc_error, Layout};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment of every buffer in bytes: enough for O_DIRECT on any block device.
pub const ALIGNMENT: usize = 4096;

/// Bytes in memory, aligned to [`ALIGNMENT`], of a length that is fixed at creation.
pub struct Buffer {
    memory: NonNull<u8>,
    len: usize,
}

// SAFETY: a Buffer owns its memory exclusively, like a Box<[u8]>.
#[allow(unsafe_code)]
unsafe impl Send for Buffer {}
// SAFETY: shared access is read-only, like for a Box<[u8]>.
#[allow(unsafe_code)]
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A buffer of `len` zero bytes.
    pub fn zeroed(len: usize) -> Buffer {
        let layout = Self::layout(len);
        // SAFETY: the layout has a non-zero size (see `layout`).
        #[allow(unsafe_code)]
        let memory = unsafe { alloc_zeroed(layout) };
        match NonNull::new(memory) {
            Some(memory) => Buffer { memory, len },
            None => handle_alloc_error(layout),
        }
    }

    /// A buffer with a copy of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::zeroed(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len.max(1), ALIGNMENT).expect("buffer length")
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `memory` points to `len` initialised bytes that this value owns.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr(), self.len)
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len)
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with the same layout.
        #[allow(unsafe_code)]
        unsafe {
            dealloc(self.memory.as_ptr(), Self::layout(self.len))
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_keep_their_bytes() {
        for len in [0, 1, 512, 4096, 1 << 20] {
            let buffer = Buffer::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
        }
        assert_eq!(&Buffer::from_bytes(b"drbd")[..], b"drbd");
    }
}
