//! The start of the daemon. For the background, a test runs this program once more, with one thread, as the starter.

#![allow(clippy::unwrap_used)] // a test may fail

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use drbdbox::sys::process::start_daemon;

/// Not a test by itself: the starter.
#[test]
fn starter() {
    let Ok(directory) = std::env::var("DAEMON_TEST_DIRECTORY") else {
        return;
    };
    let behaviour = std::env::var("DAEMON_TEST_BEHAVIOUR").unwrap();
    let result = start_daemon(move |ready| match behaviour.as_str() {
        "serve" => {
            let stat = fs::read_to_string("/proc/self/stat").unwrap();
            let files: Vec<String> = fs::read_dir("/proc/self/fd")
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter_map(|path| Some(fs::read_link(path).ok()?.display().to_string()))
                .filter(|target| !target.starts_with("/proc/"))
                .collect();
            let here = std::env::current_dir().unwrap();
            fs::write(
                Path::new(&directory).join("daemon"),
                format!("{stat}{}\n{}\n", here.display(), files.join(" ")),
            )
            .unwrap();
            ready.succeed();
            0
        }
        "fail" => {
            ready.fail("no such luck");
            1
        }
        _ => 0,
    });
    println!("\nresult: {result:?}");
}

fn start(behaviour: &str, directory: &Path) -> String {
    let Output { stdout, .. } = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "starter", "--nocapture", "--test-threads=1"])
        .env("DAEMON_TEST_DIRECTORY", directory)
        .env("DAEMON_TEST_BEHAVIOUR", behaviour)
        .output()
        .unwrap();
    let text = String::from_utf8(stdout).unwrap();
    text.lines().find(|line| line.starts_with("result: ")).unwrap_or(&text).to_owned()
}

#[test]
fn a_daemon_is_on_its_own_when_its_starter_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(start("serve", directory.path()), "result: Ok(())");
    let report = fs::read_to_string(directory.path().join("daemon")).unwrap();
    let mut lines = report.lines();
    let stat: Vec<&str> = lines.next().unwrap().rsplit(") ").next().unwrap().split(' ').collect();
    let (session, terminal) = (stat[3], stat[4]);
    let own = fs::read_to_string("/proc/self/stat").unwrap();
    assert_ne!(own.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap(), session);
    assert_eq!(terminal, "0");
    assert_eq!(lines.next(), Some("/"));
    let files: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert_eq!(files[..3], ["/dev/null"; 3]);
    assert!(files[3..].iter().all(|file| file.starts_with("pipe:") || *file == "/dev/null"), "{files:?}");
}

#[test]
fn a_daemon_that_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    assert!(start("fail", directory.path()).contains("no such luck"));
    assert!(start("vanish", directory.path()).contains("ended before it was ready"));
}

/// The devices of a daemon that was killed must not stay for ever because its successor has another kind of door.
#[test]
fn a_daemon_takes_away_what_its_predecessor_left_whatever_door_it_has_itself() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: device nodes need root");
        return;
    }
    for door in ["nbd-server", "none"] {
        let run = tempfile::tempdir().unwrap();
        // In /dev, since other file systems may not allow device nodes.
        let dev = tempfile::Builder::new().prefix("drbdbox-test-").tempdir_in("/dev").unwrap();
        let record = run.path().join("doors/minor-3");
        fs::create_dir(run.path().join("doors")).unwrap();
        // The loop device itself is gone already; its record goes with whatever there is.
        fs::write(&record, "loop 1048575 drbd3-0123456789abcdef\n").unwrap();
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_drbdbox"))
            .args(["drbdd", "--foreground", "--door", door, "--device-directory"])
            .arg(dev.path())
            .env("DRBDBOX_RUNDIR", run.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let limit = Instant::now() + Duration::from_secs(60);
        while !run.path().join("drbdd.sock").exists() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        assert!(!record.exists(), "{door}");
        assert_eq!(fs::read_dir(dev.path()).unwrap().count(), 0, "{door}");
    }
}
