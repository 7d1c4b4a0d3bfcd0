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

/// The file that says which device a minor's door uses: "loop 1000 drbd0-0123456789abcdef".
#[derive(Debug)]
pub struct Record(PathBuf);

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

    /// Kind, number and mark of the device that was in use.
    pub fn read(&self) -> Option<(Kind, u32, String)> {
        parse(&fs::read_to_string(&self.0).ok()?)
    }

    /// Records a device; `mark` tells it from another one with the same number.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, kind: Kind, number: u32, mark: &str) -> io::Result<()> {
        let word = KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, word)| word);
        fs::write(&self.0, format!("{word} {number} {mark}\n"))
    }

    /// The device is not in use any more.
    pub fn forget(&self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn directory_of(run_directory: &Path) -> PathBuf {
    run_directory.join("doors")
}

fn parse(record: &str) -> Option<(Kind, u32, String)> {
    let mut words = record.lines().next()?.split(' ');
    let word = words.next()?;
    let kind = KINDS.iter().find(|(_, known)| *known == word)?.0;
    Some((kind, words.next()?.parse().ok()?, words.next()?.to_owned()))
}

/// Removes the devices and nodes that a daemon with this run directory left when it died, of all minors. For the
/// start of a daemon, which may not make the same minors again.
pub fn clean_after_dead_daemon(run_directory: &Path, device_directory: &Path) {
    let records = fs::read_dir(directory_of(run_directory)).into_iter().flatten().flatten();
    for file in records {
        let name = file.file_name();
        let minor = name.to_str().and_then(|name| name.strip_prefix("minor-")?.parse().ok());
        let Some(minor) = minor else { continue };
        let Ok(record) = Record::new(run_directory, minor) else { continue };
        if let Some((Kind::Nbd, number, mark)) = record.read() {
            let node = Node::new(device_directory, minor);
            // First the node, that nobody finds the device who did not have it.
            if !node.is_of_real_driver() {
                node.remove();
            }
            nbd_kernel::clean_device(number, &mark);
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
    fn records_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record::new(directory.path(), 3).unwrap();
        for kind in [Kind::Loop, Kind::Nbd] {
            record.write(kind, 1000, "drbd3-ab").unwrap();
            assert_eq!(record.read(), Some((kind, 1000, "drbd3-ab".to_owned())));
        }
        record.forget();
        assert_eq!(record.read(), None);
        for garbage in ["", "loop", "loop x y", "loop 1000", "\0\n", "ublk 1 x"] {
            assert_eq!(parse(garbage), None);
        }
    }
}
