//! Log lines to the system's log daemon: datagrams that are never waited for.
//!
//! spec/system.md 7.8: the daemon serves a block device on which the log may lie, so a log daemon that
//! does not take a line must not hold it up. Lines that are not taken are lost.

use crate::sys::sync::Mutex;
use log::{Level, Log, Metadata, Record};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Where log daemons listen.
pub const SOCKET: &str = "/dev/log";

/// Facility `daemon`, shifted as in the priority.
const FACILITY_DAEMON: u8 = 3 << 3;

/// Longest datagram; old log daemons cut at 1024.
const LINE_MAX: usize = 1024;

/// A logger for the `log` crate.
#[derive(Debug)]
pub struct Syslog {
    path: PathBuf,
    tag: String,
    socket: Mutex<Option<UnixDatagram>>,
}

impl Syslog {
    /// A logger to the socket `path`; lines begin with `name[pid]: `.
    pub fn new(path: &Path, name: &str) -> Syslog {
        let tag = format!("{name}[{}]", std::process::id());
        Syslog { path: path.to_path_buf(), tag, socket: Mutex::new(None) }
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.path)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn send(&self, bytes: &[u8]) {
        let mut socket = self.socket.lock();
        if let Some(connected) = &*socket {
            match connected.send(bytes) {
                Ok(_) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The log daemon was started anew.
                Err(_) => *socket = None,
            }
        }
        if let Ok(connected) = self.connect() {
            let _ = connected.send(bytes);
            *socket = Some(connected);
        }
    }
}

fn severity(record: &Record) -> u8 {
    match record.level() {
        Level::Error if record.target() == "alert" => 1,
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

impl Log for Syslog {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let priority = FACILITY_DAEMON | severity(record);
        let mut line = format!("<{priority}>{}: {}", self.tag, record.args()).into_bytes();
        line.truncate(LINE_MAX);
        self.send(&line);
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_with_priority_and_tag_and_survive_a_restart_of_the_log_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let syslog = Syslog::new(&path, "drbdd");
        let log = |level, target: &str| {
            let record = Record::builder().level(level).target(target).args(format_args!("text")).build();
            syslog.log(&record);
        };
        log(Level::Info, "drbd"); // nobody listens: lost
        let mut bytes = [0; 256];
        for _ in 0..2 {
            let daemon = UnixDatagram::bind(&path).unwrap();
            log(Level::Warn, "drbd");
            log(Level::Error, "alert");
            let pid = std::process::id();
            for priority in [28, 25] {
                let count = daemon.recv(&mut bytes).unwrap();
                assert_eq!(bytes[..count], *format!("<{priority}>drbdd[{pid}]: text").as_bytes());
            }
            std::fs::remove_file(&path).unwrap();
        }
    }
}
