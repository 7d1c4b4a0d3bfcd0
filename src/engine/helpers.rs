//! Runs the handlers that core asks for: `drbdadm HANDLER minor-N`, as the kernel does.
//! spec/state.md 15.1, spec/decisions.md 5.6.
//!
//! Each run has a thread of its own that waits for the program, without limit; drbdadm itself has
//! one. Nothing is locked meanwhile: a handler calls drbdadm and drbdsetup back.

use super::runner::{Inline, Runner};
use crate::control::message::EventKind;
use crate::core::handlers::Handler;
use crate::core::types::{HelperId, Level, VolumeIndex};
use crate::status::{Address, Family};
use std::net::IpAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Variables of this program's own that a handler has to find the daemon by, and the name of the node that it is to act as.
const PASSED_ON: [&str; 4] = ["DRBDBOX_RUNDIR", "DRBDBOX_LIBDIR", "DRBDBOX_LOCKDIR", "__DRBD_NODE__"];

/// Tells drbdadm who calls: for a minor that is in no configuration there is no handler, and that is no failure. The
/// module of the original drops the connection then, so that drbdsetup alone, without a drbd.conf, cannot resync.
pub const CALLED_BY_DAEMON: &str = "DRBDBOX_HANDLER";

/// How helpers are started.
#[derive(Debug, Clone)]
pub struct Program {
    /// What is executed: this program's own binary, unless another one was named.
    pub executable: std::path::PathBuf,
    /// argv\[0\], and what the log calls it.
    pub name: String,
}

impl Default for Program {
    fn default() -> Self {
        Program { executable: "/proc/self/exe".into(), name: "/sbin/drbdadm".into() }
    }
}

/// One run of a helper.
#[derive(Debug)]
pub struct Run {
    /// Core's number for it.
    pub id: HelperId,
    /// Name of the handler.
    pub name: &'static str,
    /// `minor-N`, or the resource's name.
    pub object: String,
    /// Volume that it is about.
    pub volume: Option<VolumeIndex>,
    /// Its minor and number.
    pub about: Option<(u32, u16)>,
    /// The peer's endpoint, if a network configuration exists.
    pub peer: Option<Address>,
}

/// Whether 8.4 calls the handler with the resource's name.
pub fn is_about_resource(name: &str) -> bool {
    name == Handler::FencePeer.name() || name == Handler::UnfencePeer.name()
}

/// Starts a run. Core is told when it has ended.
pub fn start(runner: Arc<Runner>, run: Run) {
    let id = run.id;
    let of_thread = Arc::clone(&runner);
    let spawned = runner.thread("helper").spawn(move || {
        let status = perform(&of_thread, &run);
        report(&of_thread, run.id, status);
    });
    if let Err(error) = spawned {
        runner.log(Level::Error, None, &format!("cannot start a helper: {error}"));
        report(&runner, id, 0);
    }
}

fn report(runner: &Runner, id: HelperId, status: i32) {
    runner.drive(Inline::Never, |core, now| core.helper_done(now, id, status));
}

/// Runs it and returns its wait status; 0 if it could not be started.
fn perform(runner: &Runner, run: &Run) -> i32 {
    let program = &runner.shared.config.helper;
    let shown = format!("helper command: {} {} {}", program.name, run.name, run.object);
    runner.log(Level::Info, run.volume, &shown);
    publish(runner, run, None);
    let mut command = Command::new(&program.executable);
    command
        .arg0(&program.name)
        .args([run.name, &run.object])
        .env_clear()
        .envs(environment(run.peer))
        .env(CALLED_BY_DAEMON, "yes")
        .envs(PASSED_ON.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let (status, printed) = match command.status() {
        Ok(status) => (status.into_raw(), status.into_raw()),
        // As the kernel prints a negative errno.
        Err(error) => (0, -error.raw_os_error().unwrap_or(libc::EIO)),
    };
    let level = if printed == 0 { Level::Info } else { Level::Warning };
    let code = printed >> 8 & 0xff;
    runner.log(level, run.volume, &format!("{shown} exit code {code} (0x{printed:x})"));
    publish(runner, run, Some(printed as u32));
    status
}

fn publish(runner: &Runner, run: &Run, status: Option<u32>) {
    runner.look(|_| {
        runner.shared.hub.publish(EventKind::Helper {
            resource: runner.name.clone(),
            volume: run.about,
            helper: run.name.to_owned(),
            status,
        });
    });
}

/// The environment of a helper. spec/state.md 15.1.
fn environment(peer: Option<Address>) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("HOME", "/".to_owned()),
        ("TERM", "linux".to_owned()),
        ("PATH", "/sbin:/usr/sbin:/bin:/usr/bin".to_owned()),
    ];
    if let Some(peer) = peer {
        let family = match peer.family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
            Family::Sdp | Family::Ssocks => "ssocks",
        };
        let address = match peer.ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => {
                let groups = ip.segments().map(|group| format!("{group:04x}"));
                groups.join(":")
            }
        };
        variables.push(("DRBD_PEER_AF", family.to_owned()));
        variables.push(("DRBD_PEER_ADDRESS", address));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_address_is_in_the_environment_as_the_kernel_writes_it() {
        let address = |family, ip: &str| Address { family, ip: ip.parse().unwrap(), port: 7788 };
        let of = |peer| environment(Some(peer))[3..].to_vec();
        assert_eq!(
            of(address(Family::Ipv4, "10.0.0.2")),
            [("DRBD_PEER_AF", "ipv4".to_owned()), ("DRBD_PEER_ADDRESS", "10.0.0.2".to_owned())]
        );
        assert_eq!(of(address(Family::Ipv6, "fe80::1"))[1].1, "fe80:0000:0000:0000:0000:0000:0000:0001");
        assert_eq!(environment(None).len(), 3);
    }

    #[test]
    fn fencing_is_about_the_resource() {
        assert!(is_about_resource("fence-peer"));
        assert!(!is_about_resource("split-brain"));
    }
}
