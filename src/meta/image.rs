//! Reading and writing the parts of the meta data on a device or file.

use std::io;

use thiserror::Error;

use super::activity_log::{empty_block, EXTENT_BITMAP_BYTES};
use super::bitmap::{self, PAGE_BYTES};
use super::layout::{Layout, LayoutError, LogGeometry, MetaIndex, SUPER_BLOCK_BYTES};
use super::super_block::{DecodeError, SuperBlock, ValidityError};
use crate::sys::block_device::BlockDevice;
use crate::sys::buffer::Buffer;

/// Bytes that the bitmap is moved in at a time.
pub const BATCH_BYTES: usize = 1 << 20;

/// A place for meta data: a block device, a regular file, or a test's memory.
pub trait BlockFile {
    /// Size in bytes.
    fn size_bytes(&self) -> u64;
    /// Smallest unit of a write in bytes, 512..=4096.
    fn logical_block_bytes(&self) -> usize;
    /// Fills `buffer` from byte `offset`; all of it or an error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all of `buffer` at byte `offset`.
    fn write_at(&self, offset: u64, buffer: &[u8]) -> io::Result<()>;
    /// Waits until everything written is on stable storage.
    fn sync(&self) -> io::Result<()>;
}

impl BlockFile for BlockDevice {
    fn size_bytes(&self) -> u64 {
        BlockDevice::size_bytes(self)
    }

    fn logical_block_bytes(&self) -> usize {
        BlockDevice::logical_block_bytes(self)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        BlockDevice::read_at(self, offset, buffer)
    }

    fn write_at(&self, offset: u64, buffer: &[u8]) -> io::Result<()> {
        BlockDevice::write_at(self, offset, buffer)
    }

    fn sync(&self) -> io::Result<()> {
        BlockDevice::sync(self)
    }
}

/// Why meta data cannot be read or written.
#[derive(Debug, Error)]
pub enum MetaError {
    /// No room for meta data on the device.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// No super block there.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A super block whose fields do not fit the device.
    #[error(transparent)]
    Validity(#[from] ValidityError),
    /// The device failed.
    #[error("cannot {action} the {part} ({len} bytes at byte {offset}): {error}; check the device")]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// `super block`, `activity log` or `bitmap`.
        part: &'static str,
        /// Bytes of the request.
        len: usize,
        /// Byte offset on the device.
        offset: u64,
        /// What the system said.
        error: io::Error,
    },
    /// The bitmap area is smaller than the device size in the super block needs.
    #[error("the bitmap area has {available} bytes, {needed} are needed")]
    BitmapTooSmall {
        /// Bytes of the area.
        available: u64,
        /// Bytes that the caller asked for.
        needed: u64,
    },
}

/// Reads a piece of one part.
pub(super) fn read_part(
    file: &dyn BlockFile,
    part: &'static str,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), MetaError> {
    let len = buffer.len();
    file.read_at(offset, buffer).map_err(|error| MetaError::Io { action: "read", part, len, offset, error })
}

/// Writes a piece of one part.
pub(super) fn write_part(
    file: &dyn BlockFile,
    part: &'static str,
    offset: u64,
    buffer: &[u8],
) -> Result<(), MetaError> {
    file.write_at(offset, buffer).map_err(|error| MetaError::Io {
        action: "write",
        part,
        len: buffer.len(),
        offset,
        error,
    })
}

/// Waits until what was written to `part` is on stable storage.
pub(super) fn sync_part(file: &dyn BlockFile, part: &'static str, offset: u64) -> Result<(), MetaError> {
    file.sync().map_err(|error| MetaError::Io { action: "flush", part, len: 0, offset, error })
}

/// Reads the 4096 bytes where the super block must be.
pub fn read_super_block_bytes(file: &dyn BlockFile, layout: &Layout) -> Result<Buffer, MetaError> {
    let mut buffer = Buffer::zeroed(SUPER_BLOCK_BYTES as usize);
    read_part(file, "super block", layout.md_offset, &mut buffer)?;
    Ok(buffer)
}

/// Reads the super block of a device and checks it for attach (spec/metadata.md 2.5); returns it
/// with the layout that goes with its activity log.
pub fn read_super_block(file: &dyn BlockFile, index: MetaIndex) -> Result<(SuperBlock, Layout), MetaError> {
    // The place of the super block does not depend on the log.
    let place = Layout::new(index, file.size_bytes(), LogGeometry::CLASSIC)?;
    let super_block = SuperBlock::decode(&read_super_block_bytes(file, &place)?)?;
    let layout = super_block.layout(index, file.size_bytes())?;
    super_block.validate_for_attach(&layout)?;
    Ok((super_block, layout))
}

/// Writes the super block. `durable`: returns only when it is on stable storage.
pub fn write_super_block(
    file: &dyn BlockFile,
    layout: &Layout,
    super_block: &SuperBlock,
    durable: bool,
) -> Result<(), MetaError> {
    let block = Buffer::from_bytes(&super_block.encode());
    write_part(file, "super block", layout.md_offset, &block)?;
    if durable {
        sync_part(file, "super block", layout.md_offset)?;
    }
    Ok(())
}

/// Zeroes the block where the super block is, durably.
pub fn wipe_super_block(file: &dyn BlockFile, layout: &Layout) -> Result<(), MetaError> {
    let zeroes = Buffer::zeroed(SUPER_BLOCK_BYTES as usize);
    write_part(file, "super block", layout.md_offset, &zeroes)?;
    sync_part(file, "super block", layout.md_offset)
}

/// Reads the whole activity log (at most 32 MiB).
pub fn read_activity_log(file: &dyn BlockFile, layout: &Layout) -> Result<Buffer, MetaError> {
    let mut area = Buffer::zeroed(layout.log.bytes() as usize);
    read_part(file, "activity log", layout.al_offset(), &mut area)?;
    Ok(area)
}

/// Makes the activity log an empty one; durable. In pieces: a striped log may have 32 MiB. `progress` is told how
/// many bytes of how many are written.
pub fn empty_activity_log(
    file: &dyn BlockFile,
    layout: &Layout,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), MetaError> {
    let block = empty_block(layout.log);
    let piece = Buffer::from_bytes(&block.repeat(BATCH_BYTES.min(layout.log.bytes() as usize) / block.len()));
    for start in (0..layout.log.bytes()).step_by(piece.len()) {
        let len = (layout.log.bytes() - start).min(piece.len() as u64) as usize;
        write_activity_log(file, layout, start, &piece[..len], false)?;
        progress(start + len as u64, layout.log.bytes());
    }
    sync_part(file, "activity log", layout.al_offset())
}

/// Writes `bytes` at `offset` of the activity log.
pub fn write_activity_log(
    file: &dyn BlockFile,
    layout: &Layout,
    offset: u64,
    bytes: &[u8],
    durable: bool,
) -> Result<(), MetaError> {
    write_part(file, "activity log", layout.al_offset() + offset, bytes)?;
    if durable {
        sync_part(file, "activity log", layout.al_offset())?;
    }
    Ok(())
}

/// The part of the bitmap area that holds the pages from `first_page` on for `words` words.
fn bitmap_range(layout: &Layout, first_page: u64, words: usize) -> Result<u64, MetaError> {
    let start = first_page.saturating_mul(PAGE_BYTES as u64);
    let needed = start.saturating_add(words as u64 * 8);
    let available = if layout.bitmap_fits() { layout.bitmap_bytes() } else { 0 };
    if needed > available {
        return Err(MetaError::BitmapTooSmall { available, needed });
    }
    Ok(layout.bm_offset() + start)
}

/// Fills `words` from the bitmap, beginning with page `first_page`; in large requests.
/// Bits behind the end of the data are as on disk ([`bitmap::mask_tail`]).
pub fn read_bitmap(
    file: &dyn BlockFile,
    layout: &Layout,
    first_page: u64,
    words: &mut [u64],
) -> Result<(), MetaError> {
    let mut offset = bitmap_range(layout, first_page, words.len())?;
    let mut buffer = Buffer::zeroed(BATCH_BYTES.min(round_up_to_page(words.len() * 8)));
    for words in words.chunks_mut(BATCH_BYTES / 8) {
        let len = round_up_to_page(words.len() * 8);
        read_part(file, "bitmap", offset, &mut buffer[..len])?;
        bitmap::decode_words(&buffer[..len], words);
        offset += len as u64;
    }
    Ok(())
}

/// As [`read_bitmap`], but pages that cannot be read count as out of sync; returns how many there are.
///
/// # Errors
/// Only if the area is too small.
pub fn read_readable_bitmap(
    file: &dyn BlockFile,
    layout: &Layout,
    first_page: u64,
    words: &mut [u64],
) -> Result<u64, MetaError> {
    match read_bitmap(file, layout, first_page, words) {
        Err(MetaError::Io { .. }) => {}
        result => return result.map(|()| 0),
    }
    let mut unreadable = 0;
    for (page, words) in (first_page..).zip(words.chunks_mut(bitmap::WORDS_PER_PAGE)) {
        match read_bitmap(file, layout, page, words) {
            Err(MetaError::Io { .. }) => {
                words.fill(u64::MAX);
                unreadable += 1;
            }
            result => result?,
        }
    }
    Ok(unreadable)
}

/// Writes `words` into the bitmap from page `first_page` on, in whole pages: the rest of the last
/// page becomes 0. `durable`: returns only when they are on stable storage.
pub fn write_bitmap(
    file: &dyn BlockFile,
    layout: &Layout,
    first_page: u64,
    words: &[u64],
    durable: bool,
) -> Result<(), MetaError> {
    let start = bitmap_range(layout, first_page, words.len())?;
    let mut offset = start;
    let mut buffer = Buffer::zeroed(BATCH_BYTES.min(round_up_to_page(words.len() * 8)));
    for words in words.chunks(BATCH_BYTES / 8) {
        let len = round_up_to_page(words.len() * 8);
        bitmap::encode_words(words, &mut buffer[..len]);
        write_part(file, "bitmap", offset, &buffer[..len])?;
        offset += len as u64;
    }
    if durable {
        sync_part(file, "bitmap", start)?;
    }
    Ok(())
}

/// What [`mark_extents`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Bits that were clear and are set now.
    pub bits: u64,
    /// Extents behind the end of the bitmap, skipped.
    pub beyond_end: Vec<u32>,
}

/// Sets the bits of activity log extents (ascending) in the bitmap of a device of `sectors`. Only
/// pages with such bits are read and written. Not durable until the caller syncs. `progress` is told how many
/// extents of how many are done.
pub fn mark_extents(
    file: &dyn BlockFile,
    layout: &Layout,
    sectors: u64,
    extents: &[u32],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Marked, MetaError> {
    const EXTENTS_PER_PAGE: u32 = (PAGE_BYTES as u64 / EXTENT_BITMAP_BYTES) as u32;
    let stored_bytes = bitmap::stored_bytes(sectors);
    let mut marked = Marked { bits: 0, beyond_end: Vec::new() };
    let mut page = Buffer::zeroed(PAGE_BYTES);
    let mut rest = extents;
    let all = extents.len();
    while let Some(first) = rest.first() {
        let number = u64::from(first / EXTENTS_PER_PAGE);
        let same_page = rest.partition_point(|e| u64::from(e / EXTENTS_PER_PAGE) == number);
        let (extents, others) = rest.split_at(same_page);
        rest = others;
        progress((all - rest.len()) as u64, all as u64);
        let start = number * PAGE_BYTES as u64;
        if start >= stored_bytes {
            marked.beyond_end.extend(extents);
            continue;
        }
        let offset = bitmap_range(layout, number, PAGE_BYTES / 8)?;
        read_part(file, "bitmap", offset, &mut page)?;
        let len = (stored_bytes - start).min(PAGE_BYTES as u64) as usize;
        let first_extent = number as u32 * EXTENTS_PER_PAGE;
        let before = marked.bits;
        for extent in extents {
            match bitmap::mark_extent(&mut page[..len], first_extent, *extent) {
                Some(bits) => marked.bits += bits,
                None => marked.beyond_end.push(*extent),
            }
        }
        if marked.bits != before {
            write_part(file, "bitmap", offset, &page)?;
        }
    }
    Ok(marked)
}

/// Whole pages: the area is a multiple of 4 KiB, except at the end of an odd flex-external device,
/// whose last partial page no data size can reach.
fn round_up_to_page(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// A device in memory.
    struct Memory(RefCell<Vec<u8>>);

    impl BlockFile for Memory {
        fn size_bytes(&self) -> u64 {
            self.0.borrow().len() as u64
        }

        fn logical_block_bytes(&self) -> usize {
            512
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            let start = offset as usize;
            let memory = self.0.borrow();
            let source = memory.get(start..start + buffer.len());
            buffer.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }

        fn write_at(&self, offset: u64, buffer: &[u8]) -> io::Result<()> {
            let start = offset as usize;
            let mut memory = self.0.borrow_mut();
            let target = memory.get_mut(start..start + buffer.len());
            target.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(buffer);
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn device(bytes: usize) -> (Memory, Layout) {
        let layout = Layout::new(MetaIndex::Internal, bytes as u64, LogGeometry::CLASSIC).unwrap();
        (Memory(RefCell::new(vec![0; bytes])), layout)
    }

    #[test]
    fn a_super_block_is_found_where_it_was_written() {
        let (memory, layout) = device(1 << 20);
        assert!(matches!(
            read_super_block(&memory, MetaIndex::Internal),
            Err(MetaError::Decode(DecodeError::NoMagic { found: 0 }))
        ));
        let block = SuperBlock::just_created(&layout);
        write_super_block(&memory, &layout, &block, true).unwrap();
        assert_eq!(read_super_block(&memory, MetaIndex::Internal).unwrap(), (block, layout));
        assert!(read_super_block(&memory, MetaIndex::FlexExternal).is_err());
    }

    #[test]
    fn bitmap_pages_go_where_they_belong() {
        let (memory, layout) = device(300 << 20);
        assert_eq!(layout.bitmap_bytes(), 3 * 4096);
        let words: Vec<u64> = (0..600).collect();
        write_bitmap(&memory, &layout, 1, &words, true).unwrap();
        let mut back = vec![7; 3 * 512];
        read_bitmap(&memory, &layout, 0, &mut back).unwrap();
        assert!(back[..512].iter().all(|word| *word == 0));
        assert_eq!(back[512..1112], words[..]);
        assert!(back[1112..].iter().all(|word| *word == 0));
        assert!(matches!(
            write_bitmap(&memory, &layout, 2, &words, true),
            Err(MetaError::BitmapTooSmall { .. })
        ));
        assert!(read_activity_log(&memory, &layout).unwrap().iter().all(|byte| *byte == 0));
    }
}
