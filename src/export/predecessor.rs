//! What a daemon that died has left: the kernel devices behind its nodes. Each door records the one that it uses.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::door::{Door, DoorError};
use super::loop_door::{LoopDoor, LoopDoorConfig};
use super::nbd_kernel;
use super::node::Node;

/// Drivers whose devices stand in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A loop device.
    Loop,
    /// An nbd device.
    Nbd,
}

/// Their words in a record.
const KINDS: [(Kind, &str); 2] = [(Kind::Loop, "loop"), (Kind::Nbd, "nbd")];

/// The file that says which device a minor's door uses: "loop 1000 drbd0-0123456789abcdef", and where a successor may go on
/// with it, the generation of the data behind it: "nbd 0 drbd0-0123456789abcdef 76543210FEDCBA98".
#[derive(Debug)]
pub struct Record(PathBuf);

/// A device in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its driver.
    pub kind: Kind,
    /// Its number among those of the driver.
    pub number: u32,
    /// What tells it from another one with the same number.
    pub mark: String,
    /// The generation of the data behind it, for a successor who may go on with it.
    pub generation: Option<u64>,
}

impl Record {
    /// That of a minor, in the daemon's run directory.
    ///
    /// # Errors
    /// Its directory cannot be made.
    pub fn new(run_directory: &Path, minor: u32) -> Result<Record, DoorError> {
        let directory = directory_of(run_directory);
        fs::create_dir_all(&directory)
            .map_err(|error| DoorError::system(format!("make {}", directory.display()), error))?;
        Ok(Record(directory.join(format!("minor-{minor}"))))
    }

    /// The device that was in use.
    pub fn read(&self) -> Option<Entry> {
        parse(&fs::read_to_string(&self.0).ok()?)
    }

    /// Records a device, in place of the one before at once.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, entry: &Entry) -> io::Result<()> {
        let word = KINDS.iter().find(|(known, _)| *known == entry.kind).map_or("", |(_, word)| word);
        let generation = entry.generation.map_or_else(String::new, |number| format!(" {number:016X}"));
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{word} {} {}{generation}\n", entry.number, entry.mark))?;
        fs::rename(&new, &self.0)
    }

    /// The device is not in use any more.
    pub fn forget(&self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn directory_of(run_directory: &Path) -> PathBuf {
    run_directory.join("doors")
}

fn parse(record: &str) -> Option<Entry> {
    let mut words = record.lines().next()?.split(' ');
    let word = words.next()?;
    let kind = KINDS.iter().find(|(_, known)| *known == word)?.0;
    let (number, mark) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    let generation = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
    Some(Entry { kind, number, mark, generation })
}

/// All that there are, with their minors.
fn records(run_directory: &Path) -> impl Iterator<Item = (u32, Record)> {
    let files = fs::read_dir(directory_of(run_directory)).into_iter().flatten().flatten();
    files.filter_map(|file| {
        let minor = file.file_name().to_str()?.strip_prefix("minor-")?.parse().ok()?;
        Some((minor, Record(file.path())))
    })
}

/// The minor whose door uses the kernel's device of this name: "loop7", "nbd0".
pub fn minor_of(run_directory: &Path, device: &str) -> Option<u32> {
    let is_it = |record: &Record| {
        record.read().is_some_and(|Entry { kind, number, .. }| {
            KINDS.iter().any(|(known, word)| *known == kind && format!("{word}{number}") == device)
        })
    };
    records(run_directory).find(|(_, record)| is_it(record)).map(|(minor, _)| minor)
}

/// Removes the devices and nodes that a daemon with this run directory left when it died, of all minors but those that
/// are spared. For the start of a daemon, which may not make the same minors again.
pub fn clean_after_dead_daemon(
    run_directory: &Path,
    device_directory: &Path,
    spared: impl Fn(u32, Kind) -> bool,
) {
    for (minor, record) in records(run_directory) {
        let entry = record.read();
        if entry.as_ref().is_some_and(|entry| spared(minor, entry.kind)) {
            continue;
        }
        if let Some(Entry { kind: Kind::Nbd, number, mark, .. }) = entry {
            let node = Node::new(device_directory, minor);
            // First the node, that nobody finds the device who did not have it.
            if !node.is_of_real_driver() {
                node.remove();
            }
            nbd_kernel::Orphan { index: number, identifier: mark }.let_go();
            record.forget();
            continue;
        }
        let door = LoopDoor::create(LoopDoorConfig {
            minor,
            device_directory: device_directory.to_owned(),
            run_directory: run_directory.to_owned(),
            threads: 1,
        });
        match door {
            Ok(mut door) => door.remove(),
            Err(error) => log::warn!("clean up minor {minor}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_behind_a_door_is_found_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(minor_of(directory.path(), "loop7"), None);
        for (minor, kind, mark) in [(3, Kind::Loop, "drbd3-0"), (10, Kind::Nbd, "drbd10-0")] {
            let entry = Entry { kind, number: 7, mark: mark.to_owned(), generation: None };
            Record::new(directory.path(), minor).unwrap().write(&entry).unwrap();
        }
        assert_eq!(minor_of(directory.path(), "loop7"), Some(3));
        assert_eq!(minor_of(directory.path(), "nbd7"), Some(10));
        for other in ["loop70", "loop", "7", "nbd3", ""] {
            assert_eq!(minor_of(directory.path(), other), None, "{other}");
        }
        Record::new(directory.path(), 3).unwrap().forget();
        assert_eq!(minor_of(directory.path(), "loop7"), None);
    }

    #[test]
    fn records_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record::new(directory.path(), 3).unwrap();
        for (kind, generation) in [(Kind::Loop, None), (Kind::Nbd, Some(0xab)), (Kind::Nbd, None)] {
            let entry = Entry { kind, number: 1000, mark: "drbd3-ab".to_owned(), generation };
            record.write(&entry).unwrap();
            assert_eq!(record.read(), Some(entry));
        }
        record.forget();
        assert_eq!(record.read(), None);
        for garbage in ["", "loop", "loop x y", "loop 1000", "\0\n", "ublk 1 x"] {
            assert_eq!(parse(garbage), None);
        }
    }
}
