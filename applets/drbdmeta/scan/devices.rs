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

/// Where a partition begins: the name of its disk, and bytes. `None`: it is none.
pub fn partition_start(device: &str) -> Option<(String, u64)> {
    let path = fs::canonicalize(device).ok()?;
    let name = path.strip_prefix("/dev").ok()?.to_str()?.replace('/', "!");
    let entry = fs::canonicalize(Path::new("/sys/class/block").join(name)).ok()?;
    let sectors: u64 = fs::read_to_string(entry.join("start")).ok()?.trim().parse().ok()?;
    let disk = entry.parent()?.file_name()?.to_str()?.replace('!', "/");
    Some((format!("/dev/{disk}"), sectors.checked_mul(512)?))
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
