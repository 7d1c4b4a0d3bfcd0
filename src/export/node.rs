//! Device nodes and links under /dev.
