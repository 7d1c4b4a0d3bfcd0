//! Children of a command line program: forked to run a function of our own, or another program.
//! With time limits, caught output, and an end that tells code from signal. spec/drbdadm.md 5.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{kill, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{fork, ForkResult, Pid};

/// What becomes of an output stream of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stream {
    /// Goes where ours goes.
    #[default]
    Inherit,
    /// Thrown away.
    Null,
    /// Caught, up to a limit; what is beyond is thrown away.
    Catch,
}

/// Most bytes that are caught of a stream.
pub const CAUGHT_BYTES_MAX: usize = 1 << 20;
/// Longest pause between two looks at a child that has not ended.
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Code(u8),
    /// By this signal.
    Signal(i32),
    /// Not yet: the time was over.
    TimeOver,
}

/// A running child.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    /// Read end of its caught standard output or error.
    caught: Option<File>,
}

/// Streams and environment of a child. At most one stream can be caught.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup<'a> {
    /// Standard output.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
    /// Added to the environment.
    pub environment: &'a [(String, String)],
}

/// Runs `main` in a child and ends it with the status that it returns. Output is flushed before and after.
/// To be called from a program that has only one thread.
///
/// # Errors
/// The system's: no memory, too many processes.
pub fn fork_to(setup: &Setup, main: impl FnOnce() -> u8) -> io::Result<Child> {
    io::stdout().flush()?;
    let (reader, writer) = pipe()?;
    // SAFETY: the program has one thread, so the child may do anything a process may do.
    #[allow(unsafe_code)]
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Child { pid: child, caught: wants(setup).then_some(reader) }),
        ForkResult::Child => {
            drop(reader);
            let redirected =
                redirect(setup.stdout, 1, &writer).and_then(|()| redirect(setup.stderr, 2, &writer));
            drop(writer);
            for (name, value) in setup.environment {
                std::env::set_var(name, value);
            }
            let status = match redirected {
                Ok(()) => main(),
                Err(_) => 20,
            };
            let _ = io::stdout().flush();
            std::process::exit(i32::from(status))
        }
    }
}

/// Runs a program; `arguments[0]` is its name, looked up in PATH if it has no slash.
///
/// # Errors
/// The system's: not found, not executable.
pub fn spawn(setup: &Setup, arguments: &[Vec<u8>]) -> io::Result<Child> {
    use std::os::unix::ffi::OsStrExt;
    io::stdout().flush()?;
    let (reader, writer) = pipe()?;
    let text = |bytes: &'_ [u8]| std::ffi::OsStr::from_bytes(bytes).to_os_string();
    let Some((name, rest)) = arguments.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let stdio = |stream| -> io::Result<Stdio> {
        Ok(match stream {
            Stream::Inherit => Stdio::inherit(),
            Stream::Null => Stdio::null(),
            Stream::Catch => Stdio::from(writer.try_clone()?),
        })
    };
    let child = Command::new(text(name))
        .args(rest.iter().map(|a| text(a)))
        .envs(setup.environment.iter().map(|(n, v)| (n, v)))
        .stdout(stdio(setup.stdout)?)
        .stderr(stdio(setup.stderr)?)
        .spawn()?;
    Ok(Child { pid: Pid::from_raw(child.id() as i32), caught: wants(setup).then_some(reader) })
}

fn wants(setup: &Setup) -> bool {
    setup.stdout == Stream::Catch || setup.stderr == Stream::Catch
}

fn pipe() -> io::Result<(File, File)> {
    // Not pipe2: Linux 2.6.18 has none. Two steps are no race, since there is one thread.
    let (reader, writer) = nix::unistd::pipe()?;
    let close_on_exec = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
    nix::fcntl::fcntl(&reader, close_on_exec)?;
    let close_on_exec = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
    nix::fcntl::fcntl(&writer, close_on_exec)?;
    Ok((File::from(reader), File::from(writer)))
}

fn redirect(stream: Stream, descriptor: i32, writer: &File) -> io::Result<()> {
    let to: OwnedFd = match stream {
        Stream::Inherit => return Ok(()),
        Stream::Null => OpenOptions::new().write(true).open("/dev/null")?.into(),
        Stream::Catch => writer.try_clone()?.into(),
    };
    // SAFETY: descriptors 1 and 2 are nobody's property in Rust's sense.
    #[allow(unsafe_code)]
    if unsafe { libc::dup2(to.as_raw_fd(), descriptor) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

impl Child {
    /// Waits for its end, at most so long, and returns what was caught.
    /// A child whose time is over is left running.
    ///
    /// # Errors
    /// The system's: it is not our child.
    pub fn wait(mut self, limit: Option<Duration>) -> io::Result<(Ended, Vec<u8>)> {
        let end = limit.map(|limit| Instant::now() + limit);
        let mut caught = Vec::new();
        if let Some(stream) = self.caught.take() {
            catch(stream, &mut caught, end)?;
        }
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(ended) = self.look()? {
                return Ok((ended, caught));
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok((Ended::TimeOver, caught));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// How it ended, if it has; it may be asked for only once then.
    ///
    /// # Errors
    /// The system's: it is not our child.
    pub fn look(&mut self) -> io::Result<Option<Ended>> {
        loop {
            return match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => Ok(Some(Ended::Code(code as u8))),
                Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(Ended::Signal(signal as i32))),
                Ok(_) => Ok(None),
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }

    /// As from the keyboard: SIGINT.
    pub fn interrupt(&self) {
        let _ = kill(self.pid, Signal::SIGINT);
    }
}

fn catch(mut stream: File, caught: &mut Vec<u8>, end: Option<Instant>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let left = match end {
            None => PollTimeout::NONE,
            Some(end) => {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(());
                }
                // Rounded up, so that the last part of a millisecond is not spent spinning.
                PollTimeout::try_from(left.as_millis() as i32 + 1).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut descriptors = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        match poll(&mut descriptors, left) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let room = CAUGHT_BYTES_MAX.saturating_sub(caught.len());
        caught.extend_from_slice(&buffer[..length.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str], setup: &Setup, limit: Option<Duration>) -> (Ended, Vec<u8>) {
        let words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
        spawn(setup, &words).and_then(|child| child.wait(limit)).expect("runs")
    }

    #[test]
    fn the_end_tells_code_from_signal() {
        let quiet = Setup { stdout: Stream::Null, ..Setup::default() };
        assert_eq!(run(&["sh", "-c", "exit 17"], &quiet, None).0, Ended::Code(17));
        assert_eq!(run(&["sh", "-c", "kill -9 $$"], &quiet, None).0, Ended::Signal(9));
        let limit = Some(Duration::from_millis(20));
        assert_eq!(run(&["sleep", "1"], &quiet, limit).0, Ended::TimeOver);
    }

    #[test]
    fn one_stream_is_caught_with_the_environment() {
        let environment = [("X".to_string(), "y z".to_string())];
        let setup = Setup { stdout: Stream::Catch, stderr: Stream::Null, environment: &environment };
        let words = ["sh", "-c", "echo \"$X\"; echo not this >&2"];
        assert_eq!(run(&words, &setup, None), (Ended::Code(0), b"y z\n".to_vec()));
    }
}
