//! The on-disk format: super block, activity log, bitmap, placement.
