//! adjust: what runs against what the file says. What both dialects share: reading what runs,
//! comparing disks and addresses. spec/drbdadm.md 7, 14.4.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use drbdbox::conf::model::{Address, Resource, Volume};
use drbdbox::conf::parser::Parser;
use drbdbox::conf::Dialect;
use drbdbox::sys::child::Stream;

use super::exec::{Manner, Program};
use super::session::{words, Exit, Session};
use super::table::Limit;

impl Session {
    pub fn adjust(&mut self, at: usize) -> Result<u8, Exit> {
        match self.dialect() {
            Dialect::V83 => self.adjust_83(at),
            Dialect::V84 => self.adjust_84(at),
        }
    }

    /// What runs, from `drbdsetup show`. `None`: nothing.
    ///
    /// # Errors
    /// The output cannot be read.
    pub fn running_resource(&self, at: usize) -> Result<Option<Resource>, Exit> {
        let resource = self.resource(at).name.clone();
        let call = match self.dialect() {
            Dialect::V83 => {
                let volume = self.volume(at, 0)?;
                words([volume.device.as_deref().unwrap_or(""), "show"])
            }
            Dialect::V84 => words(["show", &resource]),
        };
        let manner = Manner { stdout: Stream::Catch, stderr: Stream::Null, always: true };
        let (_, output) = self.call(Program::Drbdsetup, &call, &resource, Limit::Short, manner)?;
        let source = match self.dialect() {
            Dialect::V83 => format!("drbdsetup {} show", self.minor(at, 0)?),
            Dialect::V84 => format!("drbdsetup show {resource}"),
        };
        Parser::read_running(self.dialect(), &source, output).map_err(|(stop, messages)| {
            self.complain(&messages);
            Exit(stop.0)
        })
    }

    /// /dev/drbd/by-res exists and does not lead to this minor.
    pub fn link_is_wrong(&self, at: usize) -> Result<bool, Exit> {
        const LINKS: &str = "/dev/drbd/by-res";
        if !std::path::Path::new(LINKS).exists() {
            return Ok(false);
        }
        let wanted = self.volume(at, 0)?.minor.unwrap_or(0);
        // The node's major is its door's, not 147: the name tells the minor.
        let link = std::path::Path::new(LINKS).join(&self.resource(at).name);
        let node = format!("/dev/drbd{wanted}");
        Ok(match (std::fs::metadata(link), std::fs::metadata(node)) {
            (Ok(link), Ok(node)) => !link.file_type().is_block_device() || link.rdev() != node.rdev(),
            _ => true,
        })
    }
}

/// Whether two volumes use different disks. The index of external meta data does not count.
pub fn disks_differ(running: Option<&Volume>, wanted: &Volume) -> bool {
    let running_disk = running.and_then(|v| v.disk.as_deref());
    match (running_disk, wanted.disk.as_deref()) {
        (None, None) => false,
        (Some(a), Some(b)) if a == b => {
            let place = |v: &Volume| v.meta.as_ref().filter(|m| !m.is_internal()).map(|m| m.device.clone());
            running.is_none_or(|running| place(running) != place(wanted))
        }
        _ => true,
    }
}

/// Whether a running address is another one than the file's.
pub fn address_differs(running: Option<&Address>, wanted: Option<&Address>) -> bool {
    match (running, wanted) {
        (Some(a), Some(b)) => {
            let same_address = a.address == b.address
                || a.address.parse::<std::net::IpAddr>().is_ok_and(|parsed| b.address.parse() == Ok(parsed));
            !same_address || a.port != b.port || a.family != b.family
        }
        (None, None) => false,
        _ => true,
    }
}
