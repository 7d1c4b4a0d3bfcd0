//! Plain digests over blocks: data-integrity-alg, verify-alg, csums-alg. spec/wire.md 5.6.

use std::fmt;
use std::ops::Deref;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

/// Longest digest, in bytes.
pub const DIGEST_LEN_MAX: usize = 64;

/// A hash by the name that the kernel has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Digest {
    /// `crc32c`; the bytes are the value in little-endian order.
    Crc32c,
    /// `md5`
    Md5,
    /// `sha1`
    Sha1,
    /// `sha224`
    Sha224,
    /// `sha256`
    Sha256,
    /// `sha384`
    Sha384,
    /// `sha512`
    Sha512,
}

/// Every hash with its name and its length in bytes.
const TABLE: [(Digest, &str, usize); 7] = [
    (Digest::Crc32c, "crc32c", 4),
    (Digest::Md5, "md5", 16),
    (Digest::Sha1, "sha1", 20),
    (Digest::Sha224, "sha224", 28),
    (Digest::Sha256, "sha256", 32),
    (Digest::Sha384, "sha384", 48),
    (Digest::Sha512, "sha512", 64),
];

impl Digest {
    /// All hashes.
    pub fn all() -> impl Iterator<Item = Digest> {
        TABLE.iter().map(|row| row.0)
    }

    /// The hash of this name; `None` if there is none, as for an empty name.
    pub fn by_name(name: &str) -> Option<Digest> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Bytes of its digests.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> usize {
        TABLE[self as usize].2
    }

    /// The digest of `data`.
    pub fn compute(self, data: &[u8]) -> DigestValue {
        match self {
            Digest::Crc32c => DigestValue::cut(&crc32c::crc32c(data).to_le_bytes()),
            Digest::Md5 => DigestValue::cut(&Md5::digest(data)),
            Digest::Sha1 => DigestValue::cut(&Sha1::digest(data)),
            Digest::Sha224 => DigestValue::cut(&Sha224::digest(data)),
            Digest::Sha256 => DigestValue::cut(&Sha256::digest(data)),
            Digest::Sha384 => DigestValue::cut(&Sha384::digest(data)),
            Digest::Sha512 => DigestValue::cut(&Sha512::digest(data)),
        }
    }
}

/// The bytes of a digest; empty: none. Reads as a byte slice.
#[derive(Clone, Copy)]
pub struct DigestValue {
    len: u8,
    bytes: [u8; DIGEST_LEN_MAX],
}

impl DigestValue {
    /// No digest.
    pub const NONE: DigestValue = DigestValue { len: 0, bytes: [0; DIGEST_LEN_MAX] };

    /// `len` zero bytes (at most [`DIGEST_LEN_MAX`]): what a block that cannot be read counts as.
    pub fn zeroes(len: usize) -> DigestValue {
        DigestValue::cut(&[0; DIGEST_LEN_MAX][..len.min(DIGEST_LEN_MAX)])
    }

    /// A digest of these bytes; `None` if they are more than [`DIGEST_LEN_MAX`].
    pub fn new(bytes: &[u8]) -> Option<DigestValue> {
        (bytes.len() <= DIGEST_LEN_MAX).then(|| DigestValue::cut(bytes))
    }

    /// As [`DigestValue::new`], silently cut.
    pub(super) fn cut(bytes: &[u8]) -> DigestValue {
        let bytes = &bytes[..bytes.len().min(DIGEST_LEN_MAX)];
        let mut value = DigestValue::NONE;
        value.len = bytes.len() as u8;
        value.bytes[..bytes.len()].copy_from_slice(bytes);
        value
    }
}

impl Default for DigestValue {
    fn default() -> Self {
        DigestValue::NONE
    }
}

impl Deref for DigestValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl PartialEq for DigestValue {
    fn eq(&self, other: &DigestValue) -> bool {
        self[..] == other[..]
    }
}

impl Eq for DigestValue {}

impl fmt::Debug for DigestValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digest: Digest, data: &[u8]) -> String {
        format!("{:?}", digest.compute(data))
    }

    #[test]
    fn known_values() {
        // spec/wire.md 5.6
        assert_eq!(hex(Digest::Crc32c, b"123456789"), "839206e3");
        assert_eq!(hex(Digest::Crc32c, &[b'A'; 4096]), "e9517205");
        assert_eq!(hex(Digest::Md5, &[b'A'; 4096]), "82a7348c2e03731109d0cf45a7325b88");
        assert_eq!(hex(Digest::Md5, &[0; 4096]), "620f0b67a91f7f74151bc5be745b7110");
        assert_eq!(hex(Digest::Md5, &[0; 126976]), "5077987fc023b52732ed470d854f3361");
        assert_eq!(hex(Digest::Sha1, b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn the_table_is_true() {
        for digest in Digest::all() {
            assert_eq!(Digest::by_name(digest.name()), Some(digest));
            assert_eq!(digest.compute(b"").len(), digest.len());
        }
        assert_eq!(Digest::by_name(""), None);
        assert_eq!(Digest::by_name("SHA1"), None);
    }

    #[test]
    fn too_long_is_no_digest() {
        assert_eq!(DigestValue::new(&[0; 65]), None);
        assert_eq!(DigestValue::new(&[7; 64]).map(|v| v.len()), Some(64));
    }
}
