//! Programs of others, as their Debian packages have them, on a daemon of ours: `drbdmon` reads events2, `check_drbd`
//! and Prometheus' node exporter read the text of /proc/drbd, a shell evaluates sh-status.
//!
//! Nothing is installed: a program that is not on the machine is taken out of its package, if `apt-get download` gets it.

#![allow(clippy::unwrap_used)] // a test may fail

#[allow(dead_code)] // Other tests use the rest of it.
#[path = "../bad_input/node.rs"]
mod node;
mod package;

use drbdbox::core::state::Conn;
use nix::pty::{openpty, Winsize};
use node::{connect_both, Node, LIMIT, PROGRAM};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::time::Instant;

/// Ends a program with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two nodes; the first is the source of a resync that takes long.
fn syncing() -> [Node; 2] {
    let nodes = [Node::start(), Node::start()];
    nodes[0].attach();
    sync(&nodes);
    nodes
}

/// Begins the resync. The first node has its disk.
fn sync(nodes: &[Node; 2]) {
    let [one, other] = nodes;
    other.attach();
    for node in nodes {
        node.drbdsetup(&["0", "syncer", "-r", "200k"]).ok();
    }
    connect_both(one, other, &[]);
    one.drbdsetup(&["0", "primary", "--force"]).ok();
    one.wait_conn(Conn::SyncSource);
}

/// Lets the resync come to its end.
fn finish(nodes: &[Node; 2]) {
    for node in nodes {
        node.drbdsetup(&["0", "syncer", "-r", "700M"]).ok();
    }
    nodes[0].wait("in sync", |volume| volume.state.conn == Conn::Connected && volume.out_of_sync_bits == 0);
}

/// A directory for PATH that has our programs under DRBD's names.
fn programs(node: &Node) -> String {
    let directory = node.path("bin");
    let _ = std::fs::create_dir(&directory);
    for name in ["drbdsetup", "drbdadm"] {
        let _ = symlink(PROGRAM, directory.join(name));
    }
    format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default())
}

/// What is written to a terminal, piece by piece.
fn pieces(mut terminal: File) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count) = terminal.read(&mut piece) {
            let text = String::from_utf8_lossy(&piece[..count]).into_owned();
            if count == 0 || sender.send(text).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits until all of these have been written since now.
#[track_caller]
fn wait_for(screen: &Receiver<String>, wanted: &[&str]) {
    let deadline = Instant::now() + LIMIT;
    let mut seen = String::new();
    while !wanted.iter().all(|text| seen.contains(text)) {
        match screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(piece) => seen += &piece,
            Err(error) => panic!("{wanted:?}: {error}\n{seen}"),
        }
    }
}

#[test]
fn drbdmon_shows_what_happens() {
    let Some(drbdmon) = package::program("drbdmon", "drbd-utils", "sbin/drbdmon") else { return };
    let nodes = [Node::start(), Node::start()];
    let [one, other] = &nodes;
    one.attach();
    let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let end = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut command = Command::new(drbdmon);
    one.environment(&mut command);
    command.env("PATH", programs(one)).env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
    let _running = Running(command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap());
    let screen = pieces(File::from(pty.master));
    // StandAlone at first.
    wait_for(&screen, &["minor-0", "Secondary", "Inconsistent"]);
    sync(&nodes);
    wait_for(&screen, &["minor-0", "Primary", "Connected", "Secondary", "Inconsistent", "SyncSource"]);
    other.drbdsetup(&["0", "pause-sync"]).ok();
    wait_for(&screen, &["PausedSyncS"]);
    other.drbdsetup(&["0", "resume-sync"]).ok();
    wait_for(&screen, &["SyncSource"]);
    finish(&nodes);
    other.drbdsetup(&["0", "disconnect", "--force"]).ok();
    wait_for(&screen, &["Connecting"]);
}

/// Runs check_drbd of the Nagios plugins; exit status and output.
fn check_drbd(program: &Path, node: &Node) -> (Option<i32>, String) {
    let mut command = Command::new(program);
    command.args(["-d", "All", "-p"]).arg(node.path("run/proc"));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code(), text)
}

#[test]
fn check_drbd_reads_the_text_of_proc_drbd() {
    let path = "usr/lib/nagios/plugins/check_drbd";
    let Some(program) = package::program("check_drbd", "monitoring-plugins-contrib", path) else { return };
    let until = |node: &Node, status: i32, text: &str| {
        // The file follows the state; it is replaced at once, but by another thread.
        let deadline = Instant::now() + LIMIT;
        loop {
            let got = check_drbd(&program, node);
            if got.0 == Some(status) && got.1.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "{status} {text}: {got:?}");
        }
    };
    let nodes = syncing();
    until(&nodes[0], 1, "Out of sync on device 0");
    finish(&nodes);
    until(&nodes[0], 0, "Device 0 Connected UpToDate");
    nodes[1].drbdsetup(&["0", "disconnect", "--force"]).ok();
    until(&nodes[0], 2, "WFConnection");
}

/// The metrics that the node exporter has about DRBD.
fn metrics(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().filter(|line| line.starts_with("node_drbd_")).map(|line| line.to_string() + "\n").collect()
}

#[test]
fn the_node_exporter_counts_what_proc_drbd_counts() {
    let path = "usr/bin/prometheus-node-exporter";
    let Some(program) = package::program("prometheus-node-exporter", "prometheus-node-exporter", path) else {
        return;
    };
    let nodes = syncing();
    finish(&nodes);
    let node = &nodes[0];
    let proc_directory = node.path("proc");
    std::fs::create_dir(&proc_directory).unwrap();
    symlink(node.path("run/proc"), proc_directory.join("drbd")).unwrap();
    let mut command = Command::new(program);
    command.args(["--collector.disable-defaults", "--collector.drbd", "--web.listen-address=127.0.0.1:0"]);
    command.arg(format!("--path.procfs={}", proc_directory.display()));
    let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let log = BufReader::new(running.0.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    let address = lines.find_map(|line| {
        let (_, rest) = line.split_once("msg=\"Listening on\" address=")?;
        Some(rest.split(' ').next().unwrap_or(rest).to_string())
    });
    let address = address.unwrap();
    // It must not stop at a full pipe.
    std::thread::spawn(move || lines.count());
    let deadline = Instant::now() + LIMIT;
    loop {
        let text = metrics(&address);
        let all = [
            "node_drbd_connected{device=\"drbd0\"} 1\n",
            "node_drbd_node_role_is_primary{device=\"drbd0\",node=\"local\"} 1\n",
            "node_drbd_node_role_is_primary{device=\"drbd0\",node=\"remote\"} 0\n",
            "node_drbd_disk_state_is_up_to_date{device=\"drbd0\",node=\"remote\"} 1\n",
            "node_drbd_out_of_sync_bytes{device=\"drbd0\"} 0\n",
            // 1014 bits of 4 KiB.
            "node_drbd_network_sent_bytes_total{device=\"drbd0\"} 4.153344e+06\n",
        ];
        if all.iter().all(|line| text.contains(line)) {
            return;
        }
        assert!(Instant::now() < deadline, "{text}");
    }
}

#[test]
fn a_shell_evaluates_sh_status_and_takes_the_states_apart() {
    let nodes = syncing();
    let script = r#"
        _sh_status_process() {
            echo "$_minor $_known $_cstate $_role $_peer $_disk $_pdsk paused=$_flags_user_isp ${_resynced_percent:+percent}"
        }
        eval "$(drbdsetup 0 sh-status)"
        role=$(drbdsetup 0 role) disks=$(drbdsetup 0 dstate)
        echo "${role%/*} ${role#*/} ${disks%/*} ${disks#*/} $(drbdsetup 0 cstate)"
    "#;
    let run = || {
        let mut command = Command::new("sh");
        nodes[0].environment(&mut command);
        node::run({
            command.args(["-c", script]).env("PATH", programs(&nodes[0]));
            command
        })
    };
    let want = "0 Configured SyncSource Primary Secondary UpToDate Inconsistent paused= percent\n\
                Primary Secondary UpToDate Inconsistent SyncSource\n";
    assert_eq!(run().ok().out, want);
    finish(&nodes);
    nodes[0].drbdsetup(&["0", "pause-sync"]).ok();
    let want = "0 Configured Connected Primary Secondary UpToDate UpToDate paused=1 \n\
                Primary Secondary UpToDate UpToDate Connected\n";
    assert_eq!(run().ok().out, want);
}

/// Programs that read what ours says, and that this machine cannot get: for the summary of `make test`.
#[test]
fn programs_that_cannot_be_had_are_named() {
    let programs = [
        (
            "drbd-reactor",
            "neither Debian nor crates.io has it; what it reads, events2 --full --poll, is compared with recorded output",
        ),
        (
            "drbd-overview",
            "drbd-utils has none any more, and the one of 8.3 opens /proc/drbd, which only a kernel module can make; \
             the own program of that name is tested",
        ),
    ];
    let search = std::env::var_os("PATH").unwrap_or_default();
    for (name, why) in programs {
        let found = std::env::split_paths(&search).map(|directory| directory.join(name)).find(|p| p.exists());
        match found {
            None => println!("SKIPPED: {name} on a daemon of ours: {why}"),
            Some(path) => {
                println!("SKIPPED: {name} on a daemon of ours: {}: no test knows it yet", path.display())
            }
        }
    }
}
