//! The exchange of bitmaps.
