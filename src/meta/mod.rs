//! The on-disk format: super block, activity log, bitmap, placement (spec/metadata.md).
//!
//! | module | holds |
//! |---|---|
//! | [`layout`] | where everything lies on a device |
//! | [`super_block`], [`flags`] | the 4 KiB that describe the rest |
//! | [`activity_log`] | the log of extents that are being written to, both formats |
//! | [`mod@bitmap`] | the bits of blocks out of sync |
//! | [`image`] | reading and writing all of these on a file descriptor |
//! | [`damage`] | super blocks of which only a part can be read |
//! | [`log_application`] | apply-al |
//! | [`relocation`] | moving internal meta data with the end of their device |
//! | [`survey`] | finding meta data on a device of which nothing is known |
//! | [`counters`] | meta data of DRBD 0.6 and 0.7 as they are |
//! | [`conversion`] | super blocks of DRBD 0.7 and 9 |
//! | [`dump`], [`dump_parser`] | the text of dump-md, written and read |
//! | [`foreign`] | what else may be on a device before meta data is created |

pub mod activity_log;
pub mod bitmap;
pub mod conversion;
pub mod counters;
#[cfg(test)]
pub(crate) mod crash_device;
pub mod damage;
pub mod dump;
pub mod dump_parser;
mod dump_scanner;
mod fields;
pub mod flags;
pub mod foreign;
mod format;
pub mod image;
pub mod layout;
pub mod log_application;
pub mod relocation;
pub mod super_block;
pub mod survey;

pub use flags::MetaFlags;
pub use format::Format;
pub use image::{BlockFile, MetaError};
pub use layout::{Layout, LogGeometry, MetaIndex};
pub use super_block::{SuperBlock, UUID_JUST_CREATED};
