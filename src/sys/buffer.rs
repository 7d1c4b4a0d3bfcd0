//! Aligned memory for direct I/O. A payload travels through the program as `Arc<Buffer>`.

use std::alloc::{alloc_zeroed, dealloc, handle_alloc_error, Layout};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment of every buffer in bytes: enough for O_DIRECT on any block device.
pub const ALIGNMENT: usize = 4096;

/// Bytes in memory, aligned to [`ALIGNMENT`], of a length that is fixed at creation.
///
/// Memory of the usual sizes returns to a pool: the hot path of a device allocates nothing.
pub struct Buffer {
    memory: NonNull<u8>,
    len: usize,
    capacity: usize,
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
        match Buffer::from_pool(len) {
            Some(mut buffer) => {
                buffer.fill(0);
                buffer
            }
            None => Buffer::allocate(len),
        }
    }

    /// A buffer of `len` bytes whose content is unspecified: to be filled by a read or a copy.
    pub fn for_overwrite(len: usize) -> Buffer {
        Buffer::from_pool(len).unwrap_or_else(|| Buffer::allocate(len))
    }

    /// A buffer with a copy of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::for_overwrite(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer
    }

    /// Forgets all bytes behind the first `len`; does nothing if it has no more. The memory is kept.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Zero bytes, with the capacity of the size class of `len` if it has one.
    fn allocate(len: usize) -> Buffer {
        let capacity = pool::class(len).map_or(len, pool::class_bytes);
        let layout = Self::layout(capacity);
        // SAFETY: the layout has a non-zero size (see `layout`).
        #[allow(unsafe_code)]
        let memory = unsafe { alloc_zeroed(layout) };
        match NonNull::new(memory) {
            Some(memory) => Buffer { memory, len, capacity },
            None => handle_alloc_error(layout),
        }
    }

    fn from_pool(len: usize) -> Option<Buffer> {
        let class = pool::class(len)?;
        let memory = pool::take(class)?;
        Some(Buffer { memory, len, capacity: pool::class_bytes(class) })
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
        // A capacity that has a class is that class's size: `allocate` rounds up, and others are larger than every class.
        if pool::class(self.capacity).is_some_and(|class| pool::give(class, self.memory)) {
            return;
        }
        // SAFETY: allocated in `allocate` with the same layout, and not given to the pool.
        #[allow(unsafe_code)]
        unsafe {
            dealloc(self.memory.as_ptr(), Self::layout(self.capacity))
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

/// Memory that waits for its next use, in classes of 4 KiB, 8 KiB … 1 MiB.
mod pool {
    use std::ptr::NonNull;
    use std::sync::{Mutex, MutexGuard};

    const SMALLEST: usize = 4096;
    const CLASSES: usize = 9;
    /// What a class may hold back, in bytes. All of it is locked memory.
    const KEPT_BYTES: usize = 4 << 20;

    struct Memory(NonNull<u8>);
    // SAFETY: memory in the pool has no other owner.
    #[allow(unsafe_code)]
    unsafe impl Send for Memory {}

    type Class = Mutex<Vec<Memory>>;
    #[allow(clippy::declare_interior_mutable_const)] // a template for the array below
    const EMPTY: Class = Mutex::new(Vec::new());
    static POOL: [Class; CLASSES] = [EMPTY; CLASSES];

    /// The class that holds buffers of `len` bytes; `None` for those too large to be kept.
    pub fn class(len: usize) -> Option<usize> {
        let class = len.div_ceil(SMALLEST).max(1).next_power_of_two().trailing_zeros() as usize;
        (class < CLASSES).then_some(class)
    }

    pub fn class_bytes(class: usize) -> usize {
        SMALLEST << class
    }

    pub fn take(class: usize) -> Option<NonNull<u8>> {
        lock(class).pop().map(|memory| memory.0)
    }

    /// `false` if the class is full: the memory is still the caller's.
    pub fn give(class: usize, memory: NonNull<u8>) -> bool {
        let mut kept = lock(class);
        let room = kept.len() < KEPT_BYTES / class_bytes(class);
        if room {
            kept.push(Memory(memory));
        }
        room
    }

    fn lock(class: usize) -> MutexGuard<'static, Vec<Memory>> {
        POOL[class].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_keep_their_bytes() {
        for len in [0, 1, 512, 4096, 4097, 1 << 20, (1 << 20) + 1, 5 << 20] {
            for _ in 0..2 {
                let mut buffer = Buffer::zeroed(len);
                assert_eq!(buffer.len(), len);
                assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
                assert!(buffer.iter().all(|byte| *byte == 0));
                buffer.fill(0xaa);
            }
        }
        assert_eq!(&Buffer::from_bytes(b"drbd")[..], b"drbd");
    }
    #[test]
    fn a_truncated_buffer_keeps_its_memory_for_reuse() {
        let mut buffer = Buffer::for_overwrite(64 << 10);
        buffer.fill(7);
        buffer.truncate(100);
        assert_eq!(&buffer[..], &[7; 100]);
        drop(buffer);
        assert_eq!(Buffer::for_overwrite(64 << 10).len(), 64 << 10);
    }

    #[test]
    fn buffers_larger_than_every_class_are_not_mixed_up_with_pooled_ones() {
        for len in [1 << 20, (1 << 20) + 1, 2 << 20] {
            drop(Buffer::zeroed(len));
            let mut buffer = Buffer::for_overwrite(len);
            buffer.fill(1);
            assert_eq!(buffer.len(), len);
        }
    }
}
