//! What is drawn on a terminal, and that nothing of it gets into a pipe.
#![allow(clippy::unwrap_used)] // a test may fail

use crate::fake_daemon::{directory, FakeDaemon};
use crate::fixture;
use drbdbox::control::message::{Reply, Request};
use drbdbox::core::state::{Conn, Disk, Role};
use drbdbox::status::snapshot::MARKS;
use drbdbox::status::{Mark, Progress, Snapshot};
use nix::pty::{openpty, Winsize};
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The escape sequence of a colour begins so.
const COLOR: &str = "\u{1b}[1;3";

/// r0 on alice, in this state of its connection; a quarter of its GiB is left to do, at 4 MiB/s.
fn world(conn: Conn) -> Snapshot {
    let mut volume = fixture::volume(0);
    volume.state.conn = conn;
    volume.state.role = Role::Primary;
    volume.state.peer = Role::Secondary;
    volume.state.disk = Disk::UpToDate;
    volume.state.pdsk = if conn == Conn::SyncSource { Disk::Inconsistent } else { Disk::UpToDate };
    volume.size_sectors = 2 << 20;
    let (total, left) = (256 << 10, 64 << 10);
    volume.out_of_sync_bits = if conn == Conn::Connected { 3 } else { left };
    volume.progress = conn.is_sync_or_verify().then_some(Progress {
        total,
        verify_left: left,
        marks: [Mark { time_ms: 180_000, left: left + 12 * 1024 }; MARKS],
        ..Progress::default()
    });
    let mut resource = fixture::resource("r0", vec![volume]);
    resource.connection.addresses = Some(fixture::addresses());
    resource.connection.cstate = Conn::WFReportParams;
    Snapshot { now_ms: 192_000, ..fixture::snapshot(vec![resource]) }
}

/// A daemon in whose world nothing changes.
fn daemon_in(conn: Conn) -> FakeDaemon {
    let daemon = FakeDaemon::start();
    let snapshot = world(conn);
    daemon.answers(move |call, _| match call.request {
        Request::Snapshot => Reply::Snapshot(Box::new(snapshot.clone())),
        Request::ProcText => Reply::Text(drbdbox::status::proc::text(&snapshot)),
        _ => Reply::ok(),
    });
    daemon
}

const CONFIGURATION: &str = "global { usage-count no; disable-ip-verification; }
resource r0 {
    protocol C;
    on alice { device /dev/drbd0; disk /dev/sdb1; address 10.1.1.1:7788; meta-disk internal; }
    on bob { device /dev/drbd0; disk /dev/sdb1; address 10.1.1.2:7788; meta-disk internal; }
}
resource r1 {
    protocol C;
    on alice { device /dev/drbd1; disk /dev/sdc1; address 10.1.1.1:7789; meta-disk internal; }
    on bob { device /dev/drbd1; disk /dev/sdc1; address 10.1.1.2:7789; meta-disk internal; }
}
";

fn command(rundir: &Path, line: &str) -> Command {
    let config = rundir.join("drbd.conf");
    std::fs::write(&config, CONFIGURATION).unwrap();
    let line = line.replace("CONFIG", &config.display().to_string());
    let mut words = line.split(' ');
    let mut command = Command::new(env!("CARGO_BIN_EXE_drbdbox"));
    command
        .arg0(words.next().unwrap())
        .args(words)
        .env_remove("NO_COLOR")
        .env_remove("COLUMNS")
        .env("TERM", "xterm")
        .env("__DRBD_NODE__", "alice")
        .env("DRBDBOX_RUNDIR", rundir)
        .env("DRBDBOX_LIBDIR", rundir)
        .env("DRBDBOX_LOCKDIR", rundir);
    command
}

fn in_a_pipe(daemon: &FakeDaemon, line: &str) -> Output {
    command(daemon.directory(), line).stdin(Stdio::null()).output().unwrap()
}

/// Starts it on a terminal of 100 columns, whose other end is returned.
fn start_on_terminal(mut command: Command) -> (Child, File) {
    let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let end = || Stdio::from(pty.slave.try_clone().unwrap());
    let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    (child, File::from(pty.master))
}

/// What a terminal gets until its program ends.
fn on_terminal(command: Command) -> String {
    let (mut child, mut master) = start_on_terminal(command);
    let mut all = Vec::new();
    // It ends with an error when the last program has left the terminal.
    let _ = master.read_to_end(&mut all);
    child.wait().unwrap();
    String::from_utf8_lossy(&all).replace('\r', "")
}

/// The same program as a shell's prompt starts it: in the foreground of a terminal, with a process group of its own.
fn at_prompt(command: &Command) -> Option<Command> {
    let setsid = Command::new("setsid").arg("--version").output();
    if !setsid.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: progress at a prompt: setsid is not installed (Debian package util-linux)");
        return None;
    }
    let mut started = Command::new("setsid");
    started.args(["--ctty", "--wait", "sh", "-c", "exec \"$0\" \"$@\""]);
    // A shell cannot choose argv[0]: a link has the name.
    let directory =
        command.get_envs().find(|(name, _)| *name == "DRBDBOX_RUNDIR").and_then(|(_, v)| v).unwrap();
    let link = Path::new(directory).join("drbdsetup");
    let _ = std::os::unix::fs::symlink(command.get_program(), &link);
    started.arg(link).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => started.env(name, value),
            None => started.env_remove(name),
        };
    }
    Some(started)
}

#[test]
fn status_of_drbdadm_is_for_people_on_a_terminal_and_for_programs_in_a_pipe() {
    let daemon = daemon_in(Conn::SyncSource);
    let bar = "    [==============>.....] 75.0% of 1.0 GiB, 4.0 MiB/s, 1:03 left\n";
    let plain = format!(
        "r0 role:Primary\n  disk:UpToDate\n  peer role:Secondary\n    \
         replication:SyncSource peer-disk:Inconsistent done:75.00\n{bar}\nr1 down\n\n"
    );

    let seen = on_terminal(command(daemon.directory(), "drbdadm -c CONFIG status"));
    assert!(seen.contains(COLOR) && seen.contains(bar), "{seen}");
    let mut without = command(daemon.directory(), "drbdadm -c CONFIG status");
    without.env("NO_COLOR", "1");
    let seen = on_terminal(without);
    assert!(seen.ends_with(&plain), "{seen}");
    let mut dumb = command(daemon.directory(), "drbdadm -c CONFIG status");
    dumb.env("TERM", "dumb");
    assert!(on_terminal(dumb).contains("<drbd-status "));
    let seen = on_terminal(command(daemon.directory(), "drbdadm -c CONFIG status r1"));
    assert!(seen.contains("r1 \u{1b}[1;31mdown\u{1b}[0m") && !seen.contains("r0"), "{seen}");

    let piped = in_a_pipe(&daemon, "drbdadm -c CONFIG status");
    let text = String::from_utf8_lossy(&piped.stdout).into_owned();
    assert!(text.starts_with("<drbd-status version=\"8.3.16\" api=\"88\">\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    // A dry run prints what would be executed, on a terminal too.
    let seen = on_terminal(command(daemon.directory(), "drbdadm -c CONFIG -d status"));
    assert!(seen.contains("drbdsetup 0 status"), "{seen}");
}

#[test]
fn watch_draws_over_the_last_picture() {
    let daemon = daemon_in(Conn::SyncSource);
    let (mut child, mut master) =
        start_on_terminal(command(daemon.directory(), "drbdadm -c CONFIG status --watch"));
    let mut seen = String::new();
    let mut piece = [0; 4096];
    // The second picture begins where the first one did.
    while seen.matches("\u{1b}[H").count() < 2 || !seen.ends_with("\u{1b}[J") {
        let count = master.read(&mut piece).unwrap();
        seen += &String::from_utf8_lossy(&piece[..count]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen.matches("\u{1b}[2J").count(), 1, "{seen}");
    assert_eq!(seen.matches("75.0% of 1.0 GiB").count(), 2, "{seen}");

    let help = in_a_pipe(&daemon, "drbdadm-84 help status");
    assert!(String::from_utf8_lossy(&help.stdout).contains("  --watch\n"), "{help:?}");
    let piped = in_a_pipe(&daemon, "drbdadm -c CONFIG status --watch");
    assert_eq!(piped.status.code(), Some(3));
    assert!(piped.stdout.is_empty());
    let other = in_a_pipe(&daemon, "drbdadm -c CONFIG role --watch r0");
    let text = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(text.contains("unrecognized option '--watch'"), "{text}");
}

#[test]
fn drbdsetup_status_and_overview_have_colours_only_on_a_terminal() {
    let daemon = daemon_in(Conn::SyncSource);
    for line in ["drbdsetup status r0", "drbd-overview"] {
        let seen = on_terminal(command(daemon.directory(), line));
        assert!(seen.contains(COLOR), "{line}: {seen}");
        let mut without = command(daemon.directory(), line);
        without.env("NO_COLOR", "1");
        let seen = on_terminal(without);
        assert!(!seen.contains('\u{1b}') && seen.contains("Primary"), "{line}: {seen}");
        let piped = in_a_pipe(&daemon, line);
        let text = String::from_utf8_lossy(&piped.stdout).into_owned();
        assert!(!text.contains('\u{1b}') && text.contains("Primary"), "{line}: {text}");
    }
    // Below the bar, a terminal gets speed and end.
    assert!(on_terminal(command(daemon.directory(), "drbd-overview")).contains("finish: 0:01:0"));
    let piped = in_a_pipe(&daemon, "drbd-overview");
    assert!(!String::from_utf8_lossy(&piped.stdout).contains("finish:"));
}

/// A daemon whose world changes while it is looked at: `worlds` one after the other, two looks each, then the last.
fn daemon_of(worlds: Vec<Snapshot>) -> FakeDaemon {
    let daemon = FakeDaemon::start();
    daemon.answers(move |call, number| match call.request {
        // The first call is the command.
        Request::Snapshot => {
            let at = (number.saturating_sub(2) / 2).min(worlds.len() - 1);
            Reply::Snapshot(Box::new(worlds[at].clone()))
        }
        _ => Reply::ok(),
    });
    daemon
}

/// A daemon that verifies when it is asked to, and is done after some looks.
fn verifying() -> FakeDaemon {
    daemon_of(vec![world(Conn::VerifyS), world(Conn::Connected)])
}

/// As [`world`], with this state of the two disks, and so many blocks that differ.
fn world_of(conn: Conn, disk: Disk, pdsk: Disk, out_of_sync_bits: u64) -> Snapshot {
    let mut snapshot = world(conn);
    let volume = &mut snapshot.resources[0].volumes[0];
    (volume.state.disk, volume.state.pdsk) = (disk, pdsk);
    volume.out_of_sync_bits = out_of_sync_bits;
    snapshot
}

/// What somebody sees who types this; `None` if there is no way to find out here.
fn typed(daemon: &FakeDaemon, line: &str) -> Option<String> {
    Some(on_terminal(at_prompt(&command(daemon.directory(), line))?))
}

/// On the terminal of a script, and in a pipe, it says nothing.
fn is_silent_elsewhere(daemon: impl Fn() -> FakeDaemon, line: &str) {
    assert_eq!(on_terminal(command(daemon().directory(), line)), "", "{line}");
    let piped = in_a_pipe(&daemon(), line);
    assert!(piped.stdout.is_empty() && piped.stderr.is_empty(), "{line}: {piped:?}");
    assert_eq!(piped.status.code(), Some(0), "{line}");
}

const RESYNC: &str = "r0: resync [==============>.....] 75.0% of 1.0 GiB, 4.0 MiB/s, 1:03 left";

#[test]
fn progress_is_shown_to_who_typed_the_command_and_to_nobody_else() {
    let line = "drbdsetup 0 verify";
    let Some(seen) = typed(&verifying(), line) else { return };
    assert!(
        seen.contains("r0: verify [==============>.....] 75.0% of 1.0 GiB, 4.0 MiB/s, 1:03 left"),
        "{seen}"
    );
    assert!(
        seen.ends_with("r0: verify done, 12 KiB differ; disconnect and connect to copy them\n"),
        "{seen}"
    );
    is_silent_elsewhere(verifying, line);
}

#[test]
fn invalidate_stays_until_the_copy_is_good_again() {
    for (line, conn, disk, pdsk) in [
        ("drbdsetup 0 invalidate", Conn::SyncTarget, Disk::Inconsistent, Disk::UpToDate),
        ("drbdsetup 0 invalidate-remote", Conn::SyncSource, Disk::UpToDate, Disk::Inconsistent),
    ] {
        let starting = if conn == Conn::SyncTarget { Conn::StartingSyncT } else { Conn::StartingSyncS };
        let daemon = || {
            daemon_of(vec![
                // The peer has not answered yet: nobody knows how much there is to do.
                world_of(starting, disk, pdsk, 0),
                world_of(conn, disk, pdsk, 64 << 10),
                world_of(Conn::Connected, Disk::UpToDate, Disk::UpToDate, 0),
            ])
        };
        let Some(seen) = typed(&daemon(), line) else { return };
        assert!(seen.contains(&format!("r0: {starting}")), "{line}: {seen}");
        assert!(seen.contains(RESYNC), "{line}: {seen}");
        assert!(seen.ends_with("r0: resync done\n"), "{line}: {seen}");
        is_silent_elsewhere(daemon, line);
    }
    // The connection is lost in the middle.
    let daemon = daemon_of(vec![
        world_of(Conn::SyncTarget, Disk::Inconsistent, Disk::UpToDate, 64 << 10),
        world_of(Conn::WFConnection, Disk::Inconsistent, Disk::DUnknown, 64 << 10),
    ]);
    let Some(seen) = typed(&daemon, "drbdsetup 0 invalidate") else { return };
    assert!(seen.contains(RESYNC), "{seen}");
    assert!(seen.ends_with("r0: WFConnection, 256.0 MiB are still out of sync\n"), "{seen}");
}

/// The device is there to be used: it says what has begun, and goes.
#[test]
fn primary_says_that_a_resync_has_begun() {
    let line = "drbdsetup 0 primary -o";
    let daemon = || {
        daemon_of(vec![
            // The peer has to be told first.
            world_of(Conn::Connected, Disk::UpToDate, Disk::Inconsistent, 64 << 10),
            world_of(Conn::SyncSource, Disk::UpToDate, Disk::Inconsistent, 64 << 10),
        ])
    };
    let Some(seen) = typed(&daemon(), line) else { return };
    assert_eq!(seen, format!("{RESYNC}\n(drbdadm status --watch shows how it goes on)\n"));
    is_silent_elsewhere(daemon, line);

    // Nothing has begun.
    let daemon = || daemon_of(vec![world_of(Conn::Connected, Disk::UpToDate, Disk::UpToDate, 0)]);
    assert_eq!(typed(&daemon(), line).as_deref(), Some(""));
    // One that was under way.
    let daemon = || daemon_of(vec![world_of(Conn::SyncSource, Disk::UpToDate, Disk::Inconsistent, 64 << 10)]);
    let seen = typed(&daemon(), "drbdsetup 0 primary").unwrap_or_default();
    assert!(seen.starts_with(RESYNC), "{seen}");
    is_silent_elsewhere(daemon, "drbdsetup 0 primary");
}

#[test]
fn without_a_daemon_a_terminal_sees_the_message_of_a_pipe() {
    let nowhere = directory();
    let seen = on_terminal(command(nowhere.path(), "drbdadm -c CONFIG status"));
    assert!(seen.contains("Could not connect to the DRBD daemon"), "{seen}");
}
