//! What the data begin with, and how it is mounted without writing.

use drbdbox::meta::foreign::{self, Content, FileSystem};

/// Signatures that create-md does not know: byte offset, bytes, name.
const OTHERS: &[(usize, &[u8], &str)] = &[
    (0, b"LUKS\xba\xbe", "LUKS container"),
    (0x1_0040, b"_BHRfS_M", "btrfs filesystem"),
    (3, b"NTFS    ", "ntfs filesystem"),
    (510, &[0x55, 0xaa], "partition table or boot sector"),
];

/// What the first 68 KiB hold.
pub struct Start {
    /// For people.
    pub name: String,
    /// Arguments of mount that keep the file system from writing; `None`: it is no file system, or not known.
    pub mount: Option<&'static str>,
}

/// Recognizes the start of the data.
pub fn detect(bytes: &[u8]) -> Start {
    let content = foreign::detect(bytes);
    let mount = match content {
        // Without their journal, which mount would replay by writing.
        Content::FileSystem { kind: FileSystem::Ext2 | FileSystem::Ext3, .. } => Some("-t ext4 -o ro,noload"),
        Content::FileSystem { kind: FileSystem::Xfs, .. } => Some("-t xfs -o ro,norecovery"),
        Content::FileSystem { kind: FileSystem::Jfs, .. } => Some("-t jfs -o ro"),
        Content::FileSystem { kind: FileSystem::Reiser, .. } => Some("-t reiserfs -o ro"),
        _ => None,
    };
    let name = match (content, content.name()) {
        (Content::Unknown, _) => OTHERS
            .iter()
            .find(|(at, signature, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(signature)))
            .map_or("data of unknown kind", |(_, _, name)| name),
        (_, Some(name)) => name,
        (_, None) => "nothing but zeroes",
    };
    Start { name: name.to_string(), mount }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drbdbox::meta::foreign::PROBE_BYTES;

    #[test]
    fn what_create_md_does_not_know_is_named_too() {
        let start = |at: usize, bytes: &[u8]| {
            let mut start = vec![0; PROBE_BYTES];
            start[at..at + bytes.len()].copy_from_slice(bytes);
            detect(&start)
        };
        assert_eq!(start(0, b"").name, "nothing but zeroes");
        assert_eq!(start(0, b"x").name, "data of unknown kind");
        assert_eq!(start(0x438, &[0x53, 0xef]).mount, Some("-t ext4 -o ro,noload"));
        for (at, signature, name) in OTHERS {
            let found = start(*at, signature);
            assert_eq!((found.name.as_str(), found.mount), (*name, None));
        }
    }
}
