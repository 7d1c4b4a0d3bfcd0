//! What is no file and no block device, as the dump or as the device.

use super::bad_input::{COMMANDS, DUMP};
use super::bench::{words, Bench};
use super::case::Stdin;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

const DEVICE_BYTES: u64 = 4 << 20;

fn bench() -> Bench {
    Bench::new(DEVICE_BYTES).expect("room for the device")
}

/// drbdmeta in the directory of a bench, run by a shell: `$M` is the program, `$DEV` the device.
fn in_shell(bench: &Bench, script: &str) -> Command {
    let directory = bench.path("");
    let mut shell = Command::new("/bin/bash");
    shell
        .args(["-c", script])
        .env("M", directory.join("drbdmeta"))
        .env("DEV", bench.device())
        .envs(["DRBDBOX_LIBDIR", "DRBDBOX_LOCKDIR", "DRBDBOX_RUNDIR"].map(|name| (name, directory.clone())))
        .current_dir(&directory)
        .stdin(Stdio::null());
    let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_drbdbox"), directory.join("drbdmeta"));
    shell
}

/// Whether the device has the meta data of the dump.
fn is_restored(bench: &Bench) -> bool {
    bench.call("0 v08 DEV internal show-gi").stdout.contains("6F1B3A2C4D5E6F70")
}

#[test]
fn a_dump_may_come_through_any_pipe() {
    let write = |bench: &Bench| std::fs::write(bench.path("dump.txt"), DUMP).expect("dump");
    for script in [
        "cat dump.txt | $M --force 0 v08 $DEV internal restore-md /dev/stdin",
        "cat dump.txt | $M --force 0 v08 $DEV internal restore-md /dev/fd/0",
        "cat dump.txt | $M --force 0 v08 $DEV internal restore-md",
        "$M --force 0 v08 $DEV internal restore-md /dev/stdin < dump.txt",
        "$M --force 0 v08 $DEV internal restore-md <(cat dump.txt)",
        "$M --force 0 v08 $DEV internal restore-md <(gzip -c dump.txt | zcat)",
        // Slower than anybody is patient without a word.
        "$M --force 0 v08 $DEV internal restore-md <(head -n 2 dump.txt; sleep 0.1; tail -n +3 dump.txt)",
        // The answer to the question comes from where the dump comes from.
        "$M 0 v08 $DEV internal create-md && (echo yes; cat dump.txt) | $M 0 v08 $DEV internal restore-md /dev/stdin",
        "$M 0 v08 $DEV internal create-md && (echo yes; cat dump.txt) | $M 0 v08 $DEV internal restore-md",
        "mkfifo fifo && { cat dump.txt > fifo & } && $M --force 0 v08 $DEV internal restore-md fifo",
    ] {
        let bench = bench();
        write(&bench);
        let output = in_shell(&bench, script).output().expect("a shell");
        let shown = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{script}: {shown}");
        assert!(is_restored(&bench), "{script}: {shown}");
    }
    for script in [
        "cat dump.txt | $M 0 v08 $DEV internal verify-dump /dev/stdin",
        "$M 0 v08 $DEV internal verify-dump <(cat dump.txt)",
    ] {
        let bench = bench();
        write(&bench);
        let output = in_shell(&bench, script).output().expect("a shell");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "input file parsed ok\n", "{script}: {output:?}");
        assert!(bench.image(0).is_empty());
    }
}

/// As sshd gives it to what it starts.
#[test]
fn a_dump_may_come_through_a_socket_that_is_standard_input() {
    let bench = bench();
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let mut command = in_shell(&bench, "exec $M --force 0 v08 $DEV internal restore-md /dev/stdin");
    let child =
        command.stdin(std::os::fd::OwnedFd::from(theirs)).stderr(Stdio::piped()).stdout(Stdio::null());
    let child = child.spawn().expect("a shell");
    drop(command);
    ours.write_all(DUMP.as_bytes()).expect("a reader");
    drop(ours);
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(is_restored(&bench));
}

/// A pipe that nobody writes to yet is waited for, as every program does; but not without a word.
#[test]
fn a_fifo_without_a_writer_is_waited_for_with_a_word() {
    for command in ["restore-md", "verify-dump"] {
        let bench = bench();
        let fifo = bench.path("fifo");
        mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).expect("a fifo");
        let script = format!("exec $M --force 0 v08 $DEV internal {command} fifo");
        let mut child =
            in_shell(&bench, &script).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a shell");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("a line");
        assert_eq!(
            line, "'fifo' is a pipe that nobody has written to: waiting (Ctrl-C ends this)\n",
            "{command}"
        );
        assert!(bench.image(0).is_empty());
        std::fs::write(&fifo, DUMP).expect("a reader");
        let status = child.wait().expect("an end");
        assert_eq!(status.code(), Some(0), "{command}");
        assert_eq!(is_restored(&bench), command == "restore-md");
    }
}

#[test]
fn what_is_no_dump_is_refused_and_nothing_is_written() {
    let bench = bench();
    bench.done("0 v08 DEV internal create-md");
    let before = bench.image(0);
    std::fs::create_dir(bench.path("directory")).expect("a directory");
    let _socket = UnixListener::bind(bench.path("socket")).expect("a socket");
    let (file, device) = ("a dump is a file or a pipe.\n", "It is a socket, or a device that is not there");
    for (path, exit, text) in [
        ("nowhere", 20, "open of 'nowhere' failed.\n".to_string()),
        ("directory", 20, format!("open of 'directory' failed. It is a directory: {file}")),
        ("socket", 20, format!("open of 'socket' failed. {device}: {file}")),
        ("/dev/null", 10, "keyword 'version' expected".to_string()),
        ("/dev/zero", 10, "keyword 'version' expected".to_string()),
    ] {
        for command in ["restore-md", "verify-dump"] {
            let outcome = bench.call(&format!("--force 0 v08 DEV internal {command} {path}"));
            assert_eq!(outcome.exit, exit, "{command} {path}: {}", outcome.stderr);
            assert!(outcome.stderr.contains(&text), "{command} {path}: {}", outcome.stderr);
            assert!(bench.image(0) == before, "{command} {path}");
        }
    }
    // A pipe whose writer leaves at once.
    let script = "$M --force 0 v08 $DEV internal restore-md <(true)";
    let output = in_shell(&bench, script).output().expect("a shell");
    assert_eq!(output.status.code(), Some(10), "{output:?}");
    assert!(bench.image(0) == before);
}

#[test]
fn what_is_no_block_device_is_refused_by_every_command() {
    let bench = bench();
    std::fs::write(bench.path("dump.txt"), DUMP).expect("dump");
    std::fs::create_dir(bench.path("directory")).expect("a directory");
    mkfifo(&bench.path("fifo"), Mode::S_IRUSR | Mode::S_IWUSR).expect("a fifo");
    let _socket = UnixListener::bind(bench.path("socket")).expect("a socket");
    for path in ["directory", "fifo", "socket", "/dev/null", "/dev/zero", "/dev/stdin"] {
        for command in COMMANDS {
            for line in [
                format!("--force 0 v08 {path} internal {command}"),
                format!("--force 0 v08 {path} 0 {command}"),
                format!("--force 0 v08 {path} flex-external {command}"),
            ] {
                let outcome = bench.run(&words(&line), &Stdin::Empty);
                assert_eq!(outcome.exit, 20, "{line}: {}", outcome.stderr);
                assert_eq!(outcome.stderr, format!("'{path}' is not a block device!\n"), "{line}");
            }
        }
        let outcome = bench.call(&format!("scan {path}"));
        assert_ne!(outcome.exit, 0, "scan {path}");
        assert!(outcome.stderr.contains(path), "scan {path}: {}", outcome.stderr);
    }
    assert!(bench.image(0).is_empty());
}
