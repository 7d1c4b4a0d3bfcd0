//! A daemon that does not get on: what the watchdog reports, and whether it ends the daemon.

use crate::fixture::{Node, Pair};
use drbdbox::control::message::Request;
use drbdbox::engine::runner::Runner;
use drbdbox::engine::watchdog;
use drbdbox::sys::sync::ignore_order;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a thread may not get on, in these tests.
const PATIENCE: Duration = Duration::from_millis(600);

/// A wait that takes longer than this has failed.
const LIMIT: Duration = Duration::from_secs(60);

fn watch(node: &Node) -> Receiver<()> {
    let (sender, ended) = channel();
    watchdog::start(&node.daemon, PATIENCE, Box::new(move || sender.send(()).unwrap())).unwrap();
    ended
}

fn has_ended(ended: &Receiver<()>, node: &Node) {
    assert!(ended.recv_timeout(LIMIT).is_ok(), "the daemon goes on\n{}", node.log_text());
}

/// Waits for a line of the log.
fn wait_for_line(node: &Node, text: &str) {
    let deadline = Instant::now() + LIMIT;
    while !node.log_text().contains(text) {
        assert!(Instant::now() < deadline, "no line {text:?}\n{}", node.log_text());
        thread::yield_now();
    }
}

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name.to_owned()).spawn(f).unwrap()
}

/// A thread that has a resource's lock until it is told to give it back.
struct Hog {
    leave: Sender<()>,
    thread: JoinHandle<()>,
}

impl Hog {
    fn start(runner: Arc<Runner>) -> Hog {
        let (leave, may_leave) = channel::<()>();
        let (inside, is_inside) = channel();
        let thread = spawn("hog", move || {
            runner.look(|_| {
                inside.send(()).unwrap();
                let _ = may_leave.recv();
            });
        });
        is_inside.recv().unwrap();
        Hog { leave, thread }
    }

    fn end(self) {
        drop(self.leave);
        self.thread.join().unwrap();
    }
}

#[test]
fn a_lock_that_nobody_gives_back_ends_the_daemon_and_the_log_says_who_has_it() {
    let pair = Pair::new(1 << 20);
    let node = &pair.nodes[0];
    let ended = watch(node);
    let runner = node.daemon.resource("r0").unwrap();
    let hog = Hog::start(Arc::clone(&runner));
    let waiter = spawn("waiter", move || runner.look(|_| {}));
    has_ended(&ended, node);
    let log = node.log_text();
    assert!(log.contains("drbd r0: the resource's lock has been held for"), "{log}");
    assert!(log.contains("s by 'hog' (thread "), "{log}");
    if std::fs::read_to_string("/proc/self/syscall").is_ok() {
        assert!(log.contains("drbd r0: the resource's lock: 'waiter' (thread "), "{log}");
    }
    assert!(log.contains("which is a defect in the program: it ends at once"), "{log}");
    hog.end();
    waiter.join().unwrap();
}

/// Two threads that have taken two locks in opposite order.
#[test]
fn a_deadlock_is_told_with_both_locks() {
    if std::fs::read_to_string("/proc/self/syscall").is_err() {
        println!("SKIPPED: this kernel does not tell what threads wait for");
        return;
    }
    // Its nodes cannot be ended any more.
    let pair = std::mem::ManuallyDrop::new(Pair::new(1 << 20));
    let node = &pair.nodes[0];
    node.ok(Request::NewResource { name: "r1".into(), changes: Vec::new() });
    let ended = watch(node);
    let [first, second] = ["r0", "r1"].map(|name| node.daemon.resource(name).unwrap());
    let (of_thread, barrier) =
        ((Arc::clone(&first), Arc::clone(&second)), Arc::new(std::sync::Barrier::new(2)));
    let of_barrier = Arc::clone(&barrier);
    // They stay for ever.
    spawn("forwards", move || {
        ignore_order();
        of_thread.0.look(|_| {
            of_barrier.wait();
            of_thread.1.look(|_| {});
        });
    });
    spawn("backwards", move || {
        ignore_order();
        second.look(|_| {
            barrier.wait();
            first.look(|_| {});
        });
    });
    has_ended(&ended, node);
    let log = node.log_text();
    let line = |resource: &str, thread: &str, other: &str| {
        let (start, end) = (
            format!("drbd {resource}: the resource's lock"),
            format!("waits for the lock of resource {other}"),
        );
        let found = log.lines().any(|line| {
            line.contains(&start) && line.contains(&format!("by '{thread}'")) && line.ends_with(&end)
        });
        assert!(found, "{resource} {thread}\n{log}");
    };
    line("r0", "forwards", "r1");
    line("r1", "backwards", "r0");
    let directory = node.disk.parent().and_then(|path| path.parent()).unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn devices_that_still_work_are_kept_until_nobody_uses_them() {
    let pair = Pair::new(1 << 20);
    let node = &pair.nodes[0];
    node.ok(Request::NewResource { name: "r1".into(), changes: Vec::new() });
    node.add_volume_of("r1", 0, 1, 1 << 20);
    node.ok(Request::Primary { minor: 1, force: true });
    let ended = watch(node);
    let runner = node.daemon.resource("r0").unwrap();
    let hog = Hog::start(Arc::clone(&runner));
    wait_for_line(node, "It goes on for the devices that still work (r1)");
    hog.end();
    wait_for_line(node, "drbd r0: the resource's lock gets on again, after");
    let hog = Hog::start(runner);
    node.ok(Request::Secondary { minor: 1 });
    has_ended(&ended, node);
    hog.end();
}

/// That it is reported was seen above; that a daemon which is told to end does end, with the report in its log.
#[test]
fn the_report_is_written_before_the_daemon_is_gone() {
    const CHILD: &str = "STUCK_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let pair = Pair::new(1 << 20);
        let node = &pair.nodes[0];
        watchdog::start(&node.daemon, PATIENCE, Box::new(|| std::process::abort())).unwrap();
        let _hog = Hog::start(node.daemon.resource("r0").unwrap());
        thread::sleep(LIMIT);
        return;
    }
    let name = "stuck::the_report_is_written_before_the_daemon_is_gone";
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .envs([(CHILD, "1"), ("DRBDBOX_TEST_LOG", "1")])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.signal(), Some(libc::SIGABRT), "{log}");
    assert!(log.contains("by 'hog'") && log.contains("it ends at once"), "{log}");
}
