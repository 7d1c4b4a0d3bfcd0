//! Threads and blocking I/O around core.
