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
    /// `None` only while it is dropped.
    block: Option<Block>,
    /// Where the block is.
    memory: NonNull<u8>,
    len: usize,
}

// SAFETY: a Buffer owns its memory exclusively, like a Box<[u8]>.
#[allow(unsafe_code)]
unsafe impl Send for Buffer {}
// SAFETY: shared access is read-only, like for a Box<[u8]>.
#[allow(unsafe_code)]
unsafe impl Sync for Buffer {}

/// Initialised memory with one owner.
struct Block {
    memory: NonNull<u8>,
    capacity: usize,
}

// SAFETY: its memory has no other owner.
#[allow(unsafe_code)]
unsafe impl Send for Block {}

impl Block {
    /// Zero bytes, with the capacity of the size class of `len` if it has one.
    fn allocate(len: usize) -> Block {
        let capacity = pool::class(len).map_or(len, pool::class_bytes);
        let layout = Self::layout(capacity);
        // SAFETY: the layout has a non-zero size (see `layout`).
        #[allow(unsafe_code)]
        let memory = unsafe { alloc_zeroed(layout) };
        match NonNull::new(memory) {
            Some(memory) => Block { memory, capacity },
            None => handle_alloc_error(layout),
        }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len.max(1), ALIGNMENT).expect("buffer length")
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `allocate` with the same layout.
        #[allow(unsafe_code)]
        unsafe {
            dealloc(self.memory.as_ptr(), Self::layout(self.capacity))
        }
    }
}

impl Buffer {
    /// A buffer of `len` zero bytes.
    pub fn zeroed(len: usize) -> Buffer {
        match pool::take(len) {
            Some(block) => {
                let mut buffer = Buffer::of(block, len);
                buffer.fill(0);
                buffer
            }
            None => Buffer::of(Block::allocate(len), len),
        }
    }

    /// A buffer of `len` bytes whose content is unspecified: to be filled by a read or a copy.
    pub fn for_overwrite(len: usize) -> Buffer {
        Buffer::of(pool::take(len).unwrap_or_else(|| Block::allocate(len)), len)
    }

    fn of(block: Block, len: usize) -> Buffer {
        Buffer { memory: block.memory, block: Some(block), len }
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
        if let Some(block) = self.block.take() {
            pool::give(block);
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
    use super::Block;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, MutexGuard};

    const SMALLEST: usize = 4096;
    const CLASSES: usize = 9;
    /// What all classes together hold back, in bytes. All of it is locked memory.
    pub const KEPT_BYTES: usize = 8 << 20;

    type Class = Mutex<Vec<Block>>;
    #[allow(clippy::declare_interior_mutable_const)] // a template for the array below
    const EMPTY: Class = Mutex::new(Vec::new());
    static POOL: [Class; CLASSES] = [EMPTY; CLASSES];
    static KEPT: AtomicUsize = AtomicUsize::new(0);

    /// The class that holds buffers of `len` bytes; `None` for those too large to be kept.
    pub fn class(len: usize) -> Option<usize> {
        let class = len.div_ceil(SMALLEST).max(1).next_power_of_two().trailing_zeros() as usize;
        (class < CLASSES).then_some(class)
    }

    pub fn class_bytes(class: usize) -> usize {
        SMALLEST << class
    }

    pub fn take(len: usize) -> Option<Block> {
        take_from(class(len)?)
    }

    fn take_from(class: usize) -> Option<Block> {
        let block = lock(class).pop()?;
        KEPT.fetch_sub(block.capacity, Ordering::Relaxed);
        Some(block)
    }

    /// Keeps a block. If that is too much, blocks of other sizes go, the largest first: a load uses few
    /// sizes, and those of the load before it are not needed any more.
    pub fn give(block: Block) {
        let bytes = block.capacity;
        // A capacity that has a class is that class's size: blocks are rounded up, and others are larger than every class.
        let Some(own) = class(bytes) else { return };
        let mut class = CLASSES;
        while KEPT.load(Ordering::Relaxed) + bytes > KEPT_BYTES {
            if class == 0 {
                return;
            }
            if class - 1 == own || take_from(class - 1).is_none() {
                class -= 1;
            }
        }
        KEPT.fetch_add(bytes, Ordering::Relaxed);
        lock(own).push(block);
    }

    #[cfg(test)]
    pub fn kept() -> usize {
        KEPT.load(Ordering::Relaxed)
    }

    fn lock(class: usize) -> MutexGuard<'static, Vec<Block>> {
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

    #[test]
    fn a_size_that_is_used_now_displaces_one_that_was() {
        let many =
            |len: usize| (0..2 * pool::KEPT_BYTES / len).map(|_| Buffer::zeroed(len)).collect::<Vec<_>>();
        for len in [1 << 20, 4096, 64 << 10, 1 << 20] {
            drop(many(len));
            // Other tests use the pool at the same time: some blocks more or less.
            assert!(pool::kept() < pool::KEPT_BYTES + (4 << 20));
            assert!(pool::take(len).is_some());
        }
    }
}
