//! A folder with a drbd.conf, and drbdadm run in it as host alice.

#![allow(dead_code)]

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The folder.
pub struct Place(tempfile::TempDir);

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Standard error behind the note about the pretended host.
    pub fn complaint(&self) -> &str {
        self.stderr.split_once("<<\n\n").map_or(&self.stderr, |(_, rest)| rest)
    }
}

impl Place {
    /// With this text as `drbd.conf`.
    pub fn new(config: &str) -> Self {
        let place = Place(tempfile::tempdir().expect("a folder"));
        place.write("drbd.conf", config);
        place
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, readable by its owner only.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    }

    /// A program.
    pub fn script(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// A call of drbdadm under a name.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drbdbox"));
        for (variable, _) in std::env::vars().filter(|(n, _)| n.starts_with("DRBD")) {
            command.env_remove(variable);
        }
        command
            .arg0(name)
            .args(arguments)
            .current_dir(self.path())
            .env("LC_ALL", "C")
            .env("__DRBD_NODE__", "alice")
            .env("DRBDBOX_RUNDIR", self.path().join("run"))
            .env("DRBDBOX_LIBDIR", self.path().join("lib"))
            .env("DRBDBOX_LOCKDIR", self.path().join("lock"))
            .stdin(Stdio::null());
        command
    }

    /// Runs it with pipes.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Outcome {
        finish(self.command(name, arguments))
    }

    /// Runs it with standard error on a terminal.
    pub fn run_on_terminal(&self, name: &str, arguments: &[&str]) -> Outcome {
        let terminal = nix::pty::openpty(None, None).expect("a terminal");
        let slave: OwnedFd = terminal.slave;
        let mut command = self.command(name, arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::from(slave));
        let child = command.spawn().expect("runs");
        // Our own copy of the slave is in `command`; with it open the master would never end.
        drop(command);
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = nix::unistd::read(&terminal.master, &mut buffer) {
                bytes.extend_from_slice(&buffer[..length]);
            }
            bytes
        });
        let output = child.wait_with_output().expect("ends");
        let stderr = reader.join().expect("read");
        Outcome {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).replace("\r\n", "\n"),
        }
    }
}

/// Runs a call to its end.
pub fn finish(mut command: Command) -> Outcome {
    let output = command.output().expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Outcome {
        status: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
