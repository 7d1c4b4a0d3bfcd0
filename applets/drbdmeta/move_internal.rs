//! Moving internal meta data to the new end of a device that changed its size (spec/metadata.md 9).

use super::call::{Call, Failure};
use super::disk::{io_failure, Disk};
use super::find::Found;
use super::ui::{say, say_err};
use super::EXIT_ERROR;
use drbdbox::meta::image::{self, BlockFile};
use drbdbox::meta::Layout;
use drbdbox::sys::buffer::Buffer;

/// Bytes of bitmap that are copied at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Moves the meta data of `found` to its place by the device's size now.
///
/// Old and new areas may overlap: the log is kept in memory, and the bitmap is copied in the
/// direction in which no part is overwritten before it was read. The super block comes last.
pub fn run(call: &Call, disk: &Disk, found: &Found) -> Result<u8, Failure> {
    say_err!("Moving the internal meta data to its proper location");
    let old = &found.layout;
    let new = Layout::new(old.index, disk.size_bytes(), old.log)
        .map_err(|error| Failure::new(EXIT_ERROR, error.to_string()))?;
    if !new.bitmap_fits() {
        return Err(Failure::new(EXIT_ERROR, format!("{} is too small for the meta data.", call.device)));
    }
    let log = image::read_activity_log(disk, old).map_err(io_failure)?;
    move_bitmap(disk, old, &new).map_err(|_| Failure::silent(EXIT_ERROR))?;
    image::write_activity_log(disk, &new, 0, &log, true).map_err(io_failure)?;
    let mut super_block = found.super_block.clone();
    super_block.place(&new);
    // `place` writes the classic log as 0, 0; what was there stays there.
    super_block.al_stripes = found.super_block.al_stripes;
    super_block.al_stripe_blocks = found.super_block.al_stripe_blocks;
    disk.write_super_block(&new, &super_block)?;
    say!("Internal drbd meta data successfully moved.");
    if old.md_offset < new.bm_offset() {
        image::wipe_super_block(disk, old).map_err(io_failure)?;
    }
    Ok(0)
}

fn move_bitmap(disk: &Disk, old: &Layout, new: &Layout) -> std::io::Result<()> {
    let bytes = old.bitmap_bytes().min(new.bitmap_bytes());
    let (from, to) = (old.bm_offset(), new.bm_offset());
    if from != to {
        let pieces: Vec<u64> = (0..bytes).step_by(PIECE_BYTES as usize).collect();
        let mut buffer = Buffer::zeroed(PIECE_BYTES.min(bytes) as usize);
        let mut copy = |start: u64| {
            let len = (bytes - start).min(PIECE_BYTES) as usize;
            disk.read_at(from + start, &mut buffer[..len])?;
            disk.write_at(to + start, &buffer[..len])
        };
        if to > from {
            pieces.iter().rev().try_for_each(|start| copy(*start))?;
        } else {
            pieces.iter().try_for_each(|start| copy(*start))?;
        }
    }
    // The part that is new was data; it would be read as bits.
    let mut at = bytes;
    while at < new.bitmap_bytes() {
        let len = (new.bitmap_bytes() - at).min(PIECE_BYTES);
        disk.write_at(to + at, &Buffer::zeroed(len as usize))?;
        at += len;
    }
    Ok(())
}
