//! Random numbers from the kernel: generation UUIDs, challenges.

use std::fs::File;
use std::io::{self, Read};

/// Fills `bytes` with random bytes.
///
/// # Errors
/// Neither the system call nor /dev/urandom works.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    // Kernels before 3.17 have no getrandom (spec/system.md 6.3).
    if getrandom::fill(bytes).is_ok() {
        return Ok(());
    }
    File::open("/dev/urandom")?.read_exact(bytes)
}

/// A random number.
///
/// # Errors
/// As [`fill`].
pub fn number() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ() {
        assert_ne!(number().unwrap(), number().unwrap());
    }
}
