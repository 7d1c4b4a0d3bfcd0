//! What else may be on a device: the signatures that create-md looks for (spec/metadata.md 8).

/// Bytes from the start of a device that are looked at.
pub const PROBE_BYTES: usize = 69632;

/// What the first [`PROBE_BYTES`] hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing but zeroes.
    Empty,
    /// Swap space: never to be overwritten.
    Swap,
    /// An LVM2 physical volume: only LVM's own tools know how much of it is in use.
    Lvm2,
    /// A file system of known size in bytes.
    FileSystem {
        /// Which one.
        kind: FileSystem,
        /// Bytes that it takes from the start of the device.
        bytes: u64,
    },
    /// Something that is not zero and not known.
    Unknown,
}

/// File systems that are told apart. ext4 counts as ext3, or as ext2 without a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext2, or ext4 without a journal.
    Ext2,
    /// ext3, or ext4 with a journal.
    Ext3,
    /// XFS.
    Xfs,
    /// JFS.
    Jfs,
    /// reiserfs 3.5 or 3.6.
    Reiser,
}

impl Content {
    /// The words after `Found `, `None` where nothing is found.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Content::Empty => return None,
            Content::Swap => "swap space signature",
            Content::Lvm2 => "LVM2 physical volume signature",
            Content::FileSystem { kind, .. } => match kind {
                FileSystem::Ext2 => "ext2 filesystem",
                FileSystem::Ext3 => "ext3 filesystem",
                FileSystem::Xfs => "xfs filesystem",
                FileSystem::Jfs => "JFS filesystem",
                FileSystem::Reiser => "reiser filesystem",
            },
            Content::Unknown => "some data",
        })
    }
}

fn has(bytes: &[u8], at: usize, signature: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(signature))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    if let Some(source) = bytes.get(at..at + N) {
        field.copy_from_slice(source);
    }
    field
}

/// Recognizes the start of a device. A shorter slice than [`PROBE_BYTES`] is taken as it is.
pub fn detect(bytes: &[u8]) -> Content {
    let file_system = |kind, blocks: u64, block_bytes: u64| Content::FileSystem {
        kind,
        bytes: blocks.saturating_mul(block_bytes),
    };
    let le32 = |at| u64::from(u32::from_le_bytes(field(bytes, at)));
    for at in [4086, 8182] {
        if has(bytes, at, b"SWAP-SPACE") || has(bytes, at, b"SWAPSPACE2") {
            return Content::Swap;
        }
    }
    if has(bytes, 536, b"LVM2") {
        return Content::Lvm2;
    }
    if has(bytes, 0x438, &[0x53, 0xef]) {
        let kind = if field::<1>(bytes, 0x45c)[0] & 4 != 0 { FileSystem::Ext3 } else { FileSystem::Ext2 };
        let block_bytes = match le32(0x418) {
            0 => 1024,
            1 => 2048,
            _ => 4096,
        };
        return file_system(kind, le32(0x404), block_bytes);
    }
    if has(bytes, 0, b"XFSB") {
        let blocks = u64::from_be_bytes(field(bytes, 8));
        let block_bytes = u32::from_be_bytes(field(bytes, 4));
        return file_system(FileSystem::Xfs, blocks, u64::from(block_bytes));
    }
    if has(bytes, 0x8000, b"JFS1") {
        let blocks = u64::from_le_bytes(field(bytes, 0x8008));
        return file_system(FileSystem::Jfs, blocks, le32(0x8018));
    }
    if has(bytes, 0x10034, b"ReIsErFs") || has(bytes, 0x10034, b"ReIsEr2Fs") {
        let block_bytes = u16::from_le_bytes(field(bytes, 0x1002c));
        return file_system(FileSystem::Reiser, le32(0x10000), u64::from(block_bytes));
    }
    if bytes.iter().all(|byte| *byte == 0) {
        Content::Empty
    } else {
        Content::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn device(patches: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; PROBE_BYTES];
        for (at, patch) in patches {
            bytes[*at..*at + patch.len()].copy_from_slice(patch);
        }
        bytes
    }

    #[test]
    fn signatures_and_sizes() {
        let fs = |kind, bytes| Content::FileSystem { kind, bytes };
        let cases = [
            (device(&[]), Content::Empty),
            (device(&[(69631, b"x")]), Content::Unknown),
            (device(&[(4086, b"SWAPSPACE2")]), Content::Swap),
            (device(&[(8182, b"SWAP-SPACE")]), Content::Swap),
            (device(&[(536, b"LVM2 001")]), Content::Lvm2),
            (
                device(&[(0x404, &[0xd9, 0xff]), (0x438, &[0x53, 0xef]), (0x45c, &[4])]),
                fs(FileSystem::Ext3, 65497 * 1024),
            ),
            (
                device(&[(0x405, &[0x40]), (0x418, &[3]), (0x438, &[0x53, 0xef])]),
                fs(FileSystem::Ext2, 0x4000 * 4096),
            ),
            (device(&[(0, b"XFSB"), (6, &[0x10]), (14, &[0x40])]), fs(FileSystem::Xfs, 0x4000 * 4096)),
            (
                device(&[(0x8000, b"JFS1"), (0x8009, &[0x40]), (0x8019, &[0x10])]),
                fs(FileSystem::Jfs, 0x4000 * 4096),
            ),
            (
                device(&[(0x10001, &[0x40]), (0x1002d, &[0x10]), (0x10034, b"ReIsEr2Fs")]),
                fs(FileSystem::Reiser, 0x4000 * 4096),
            ),
        ];
        for (bytes, content) in cases {
            assert_eq!(detect(&bytes), content);
        }
    }

    proptest! {
        #[test]
        fn detect_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            let _ = detect(&bytes);
        }
    }
}
