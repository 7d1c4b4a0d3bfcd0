//! Which devices there are.

use std::fs;
use std::io;
use std::path::Path;

/// The kernel's list.
pub const PARTITIONS: &str = "/proc/partitions";

/// Paths of all block devices that the kernel lists.
pub fn all() -> io::Result<Vec<String>> {
    Ok(names(&fs::read_to_string(PARTITIONS)?).map(|name| format!("/dev/{name}")).collect())
}

/// The fourth column; the kernel writes `!` for the `/` of a name.
fn names(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next()?.parse::<u32>().ok()?;
        words.nth(2).map(|name| name.replace('!', "/"))
    })
}

/// The partition of a disk that has its last 4 KiB (of those that lie on a multiple of 4 KiB within it) at byte
/// `offset` of the disk. The end of a disk is often that of its last partition.
pub fn partition_ending_at(device: &str, offset: u64) -> Option<String> {
    let path = fs::canonicalize(device).ok()?;
    let name = path.strip_prefix("/dev").ok()?.to_str()?.replace('/', "!");
    let entries = fs::read_dir(Path::new("/sys/class/block").join(name)).ok()?;
    entries.filter_map(Result::ok).find_map(|entry| {
        let sectors =
            |name: &str| fs::read_to_string(entry.path().join(name)).ok()?.trim().parse::<u64>().ok();
        let (_, start, size) = (sectors("partition")?, sectors("start")?, sectors("size")?);
        let last_block = (size.checked_mul(512)? / 4096 * 4096).checked_sub(4096)?;
        let is_there = start.checked_mul(512)?.checked_add(last_block)? == offset;
        is_there.then(|| format!("/dev/{}", entry.file_name().to_string_lossy().replace('!', "/")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_kernels_list() {
        let text =
            "major minor  #blocks  name\n\n   8        0   10485760 sda\n   8        1    1048576 sda1\n \
            104        0   10485760 cciss!c0d0\n garbage\n";
        assert_eq!(names(text).collect::<Vec<_>>(), ["sda", "sda1", "cciss/c0d0"]);
        assert_eq!(names("").count(), 0);
    }
}
