//! What the hosts of tests/hosts/lib.sh need and a shell cannot do.
//!
//! - `host-helper syslog SOCKET FILE`: a syslog daemon: what is sent to SOCKET (/dev/log) goes to the end of FILE.
//! - `host-helper clean-doors RUNDIR`: removes the loop devices that the daemon of a dead host left.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["syslog", socket, file] => keep_log(Path::new(socket), Path::new(file)),
        ["clean-doors", directory] => clean_doors(Path::new(directory)),
        _ => {
            eprintln!("usage: host-helper syslog SOCKET FILE | clean-doors RUNDIR");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("host-helper {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// Runs until it is killed.
fn keep_log(socket: &Path, file: &Path) -> std::io::Result<()> {
    let log = UnixDatagram::bind(socket)?;
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    let mut message = vec![0; 64 << 10];
    loop {
        let length = log.recv(&mut message)?;
        let mut line = without_priority(&message[..length]).to_vec();
        line.push(b'\n');
        file.write_all(&line)?;
    }
}

/// A message without "<30>" before it, and without line feeds behind it.
fn without_priority(message: &[u8]) -> &[u8] {
    let end = message.iter().rposition(|byte| !matches!(byte, b'\n' | b'\0')).map_or(0, |last| last + 1);
    let message = &message[..end];
    match message.iter().position(|byte| *byte == b'>') {
        Some(end) if message.first() == Some(&b'<') && end <= 4 => &message[end + 1..],
        _ => message,
    }
}

/// The door looks at the devices through nodes of its own, in a directory where no real /dev/drbdN is.
fn clean_doors(run_directory: &Path) -> std::io::Result<()> {
    let scratch = tempfile::Builder::new().prefix("drbdbox-hosts.").tempdir_in("/dev")?;
    drbdbox::export::predecessor::clean_after_dead_daemon(run_directory, scratch.path(), |_, _| false);
    Ok(())
}
