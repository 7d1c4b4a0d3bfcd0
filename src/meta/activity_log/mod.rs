//! The activity log on disk: which 4 MiB extents of the data may have been in the middle of a write
//! when the node went down (spec/metadata.md 4).
//!
//! Two formats exist. This program writes 8.3's wherever the log is the classic 32 KiB, because
//! both generations of DRBD can take over such a disk (spec/metadata.md 13), and 8.4's only where
//! a striped or larger log demands it. It reads both.

mod replay;
mod text;
pub mod transaction_83;
pub mod transaction_84;
mod writer;

pub use replay::{choose_format, replay, replay_83, LogFormat, Replay, Unusable};
pub use text::write_log_text;
pub use writer::{empty_block, LogWrite, LogWriter, SlotUpdate, WriterError};

/// Bytes of data that one extent of the activity log covers.
pub const EXTENT_BYTES: u64 = 4_194_304;
/// Sectors of data that one extent of the activity log covers.
pub const EXTENT_SECTORS: u64 = EXTENT_BYTES / super::layout::SECTOR_BYTES;
/// Bits of the bitmap that belong to one extent.
pub const EXTENT_BITS: u64 = EXTENT_BYTES / super::layout::BYTES_PER_BIT;
/// Bytes of the bitmap that belong to one extent.
pub const EXTENT_BITMAP_BYTES: u64 = EXTENT_BITS / 8;
/// The extent number of a free slot, in both formats.
pub const FREE: u32 = u32::MAX;
