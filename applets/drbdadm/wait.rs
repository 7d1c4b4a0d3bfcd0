//! Waiting for the peer: wait-connect, and the init script's wait-con-int. spec/drbdadm.md 8.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use drbdbox::conf::options::Section;
use drbdbox::conf::Dialect;
use drbdbox::sys::child::{self, Child, Setup, Stream};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::termios::{self, LocalFlags, SetArg, SpecialCharacterIndices};

use super::exec::Program;
use super::session::{Exit, Session};
use super::table::Limit;

/// Seconds without a question.
const QUIET_SECONDS: u32 = 10;
/// `-t` of a stacked resource, if connect-int is not set.
const STACKED_TIMEOUT: u64 = 20;
/// Where the dialog takes place without a terminal.
const CONSOLE: &str = "/dev/console";

impl Session {
    pub fn wait_connect(&mut self, at: usize, volume: usize) -> Result<u8, Exit> {
        let mut call = self.on_minor(at, volume, "wait-connect")?;
        call.extend(self.wait_words(at));
        self.setup(at, &call, Limit::Forever)
    }

    fn wait_words(&self, at: usize) -> Vec<String> {
        let resource = self.resource(at);
        if !self.options.stacked || resource.stacked_timeouts() {
            return self.startup_words(at);
        }
        let interval =
            resource.setting(Section::Net, "connect-int").and_then(|s| s.value.parse::<u64>().ok());
        let timeout = interval.map_or(STACKED_TIMEOUT, |seconds| seconds.saturating_mul(2));
        vec!["-t".to_string(), timeout.to_string()]
    }

    /// Starts wait-connect for every resource of the mode and lets the user end it.
    pub fn wait_con_int(&mut self) -> Result<u8, Exit> {
        let usable: Vec<usize> = (0..self.config.resources.len())
            .filter(|at| {
                let resource = self.resource(*at);
                !resource.ignored && resource.stacked == self.options.stacked
            })
            .collect();
        let mut children = Vec::new();
        let console = self.console()?;
        for at in &usable {
            for volume in 0..self.volumes_of(*at)? {
                let mut call = vec![self.program_name(Program::Drbdsetup)];
                call.extend(self.on_minor(*at, volume, "wait-connect")?);
                // Here also stacked resources wait as the startup section says.
                call.extend(self.startup_words(*at));
                let name = self.resource(*at).name.clone();
                if self.options.dry_run > 0 || self.options.verbose > 0 {
                    self.print_call(&call, &name);
                }
                if self.options.dry_run == 0 {
                    let environment = [("DRBD_RESOURCE".to_string(), name)];
                    let setup = Setup { environment: &environment, ..Setup::default() };
                    children.extend(self.start(Program::Drbdsetup, &call, &setup));
                }
            }
        }
        let started = Instant::now();
        for _ in 0..QUIET_SECONDS {
            if children.is_empty() {
                break;
            }
            let second_ends = Instant::now() + Duration::from_secs(1);
            while Instant::now() < second_ends && !children.is_empty() {
                std::thread::sleep(Duration::from_millis(20));
                reap(&mut children);
            }
            if !children.is_empty() {
                console.say(".");
            }
        }
        if !children.is_empty() {
            self.ask(usable.first().copied(), &console, &mut children, started);
        }
        Ok(0)
    }

    /// 8.3 waits for its one volume, 8.4 for all.
    fn volumes_of(&self, at: usize) -> Result<usize, Exit> {
        Ok(match self.dialect() {
            Dialect::V83 => 1,
            Dialect::V84 => self.me(at)?.volumes.len(),
        })
    }

    fn console(&self) -> Result<Console, Exit> {
        if !self.no_terminal || self.options.dry_run > 0 {
            return Ok(Console::Standard);
        }
        let warning = "WARN: stdin/stdout is not a TTY; using /dev/console";
        self.complain(warning);
        self.print(warning);
        let _ = std::io::stdout().flush();
        let opened = OpenOptions::new().read(true).write(true).open(CONSOLE);
        Ok(match opened {
            Ok(file) => Console::Device(file),
            Err(_) => Console::None,
        })
    }

    fn ask(&self, first: Option<usize>, console: &Console, children: &mut Vec<Child>, started: Instant) {
        leave_splash_screen();
        if let Some(at) = first {
            console.say(&self.question(at, console));
        }
        let raw = RawMode::enter(console);
        let refresh = self.config.global.dialog_refresh;
        let mut input = Input::default();
        let mut next_redraw = started.elapsed().as_secs();
        while !children.is_empty() {
            let seconds = started.elapsed().as_secs();
            if seconds >= next_redraw {
                console.say(&format!("\x1b[s\x1b[31G[{seconds:>4}]:\x1b[u"));
                next_redraw = match refresh {
                    0 => u64::MAX,
                    refresh => seconds.saturating_add(u64::from(refresh)),
                };
            }
            let Some(bytes) = console.read(Duration::from_millis(100)) else {
                reap(children);
                continue;
            };
            match input.take(&bytes) {
                Answer::Abort => {
                    for child in children.iter() {
                        child.interrupt();
                    }
                    for child in children.drain(..) {
                        let _ = child.wait(None);
                    }
                }
                Answer::Other => console.say(" To abort waiting enter 'yes' [ -- ]:"),
                Answer::Nothing => {}
            }
            reap(children);
        }
        drop(raw);
        console.say("\n");
    }

    fn question(&self, at: usize, console: &Console) -> String {
        let resource = self.resource(at);
        let seconds = |name| {
            let setting = resource.setting(Section::Startup, name);
            setting.map_or("0".to_string(), |s| s.value.clone())
        };
        let (degraded, normal) = (seconds("degr-wfc-timeout"), seconds("wfc-timeout"));
        let middle = match self.dialect() {
            Dialect::V83 => format!(
                " - In case this node was already a degraded cluster before the\n   \
                 reboot the timeout is {degraded} seconds. [degr-wfc-timeout]\n \
                 - If the peer was available before the reboot the timeout will\n   \
                 expire after {normal} seconds. [wfc-timeout]\n"
            ),
            Dialect::V84 => format!(
                " - If this node was already a degraded cluster before the\n   \
                 reboot, the timeout is {degraded} seconds. [degr-wfc-timeout]\n \
                 - If the peer was available before the reboot, the timeout\n   \
                 is {normal} seconds. [wfc-timeout]\n"
            ),
        };
        let end = match console {
            Console::None => format!(
                " To abort waiting for DRBD connections, kill this process: kill {}\n",
                std::process::id()
            ),
            _ => " To abort waiting enter 'yes' [ -- ]:".to_string(),
        };
        format!(
            "\n***************************************************************\n \
             DRBD's startup script waits for the peer node(s) to appear.\n{middle}   \
             (These values are for resource '{}'; 0 sec -> wait forever)\n{end}",
            resource.name
        )
    }
}

/// Forgets children that have ended.
fn reap(children: &mut Vec<Child>) {
    children.retain_mut(|child| matches!(child.look(), Ok(None)));
}

/// Boot screens hide the question.
fn leave_splash_screen() {
    let script = "exec > /dev/null 2>&1; plymouth quit ; usplash_write QUIT ; stty echo icanon icrnl";
    let words: Vec<Vec<u8>> = ["/bin/sh", "-c", script].iter().map(|w| w.as_bytes().to_vec()).collect();
    let setup = Setup { stdout: Stream::Inherit, ..Setup::default() };
    if let Ok(child) = child::spawn(&setup, &words) {
        let _ = child.wait(Some(Duration::from_secs(5)));
    }
}

/// Where the dialog takes place.
enum Console {
    Standard,
    Device(std::fs::File),
    /// Nobody can answer.
    None,
}

impl Console {
    fn say(&self, text: &str) {
        match self {
            Console::Device(file) => {
                let _ = (&*file).write_all(text.as_bytes());
            }
            _ => {
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(text.as_bytes());
                let _ = out.flush();
            }
        }
    }

    /// What was typed within this time.
    fn read(&self, limit: Duration) -> Option<Vec<u8>> {
        let mut buffer = [0; 128];
        let stdin = std::io::stdin();
        let input = match self {
            Console::Standard => stdin.as_fd(),
            Console::Device(file) => file.as_fd(),
            Console::None => {
                std::thread::sleep(limit);
                return None;
            }
        };
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut descriptors = [PollFd::new(input, PollFlags::POLLIN)];
        if !matches!(poll(&mut descriptors, timeout), Ok(n) if n > 0) {
            return None;
        }
        let length = match self {
            Console::Device(file) => (&*file).read(&mut buffer).ok(),
            _ => nix::unistd::read(input, &mut buffer).ok(),
        };
        match length {
            // End of input: nobody will answer, but the children may still end.
            None | Some(0) => {
                std::thread::sleep(limit);
                None
            }
            Some(length) => Some(buffer[..length].to_vec()),
        }
    }
}

/// The terminal gives single bytes, Ctrl-C and Ctrl-D among them, as long as this lives.
struct RawMode<'a> {
    console: &'a Console,
    before: Option<termios::Termios>,
}

impl<'a> RawMode<'a> {
    fn enter(console: &'a Console) -> Self {
        let stdin = std::io::stdin();
        let before = match console {
            Console::Standard => termios::tcgetattr(stdin.as_fd()).ok(),
            Console::Device(file) => termios::tcgetattr(file.as_fd()).ok(),
            Console::None => None,
        };
        let mode = RawMode { console, before };
        if let Some(mut raw) = mode.before.clone() {
            raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ISIG);
            raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
            raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
            mode.apply(&raw);
        }
        mode
    }

    fn apply(&self, settings: &termios::Termios) {
        let stdin = std::io::stdin();
        let _ = match self.console {
            Console::Device(file) => termios::tcsetattr(file.as_fd(), SetArg::TCSANOW, settings),
            _ => termios::tcsetattr(stdin.as_fd(), SetArg::TCSANOW, settings),
        };
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            self.apply(before);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Abort,
    Other,
    Nothing,
}

/// What has been typed since the last line end.
#[derive(Debug, Default)]
struct Input {
    line: Vec<u8>,
    control: u32,
}

/// Longest line that is remembered.
const LINE_MAX: usize = 16;
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

impl Input {
    /// `yes` and a line end, or Ctrl-C or Ctrl-D three times.
    fn take(&mut self, bytes: &[u8]) -> Answer {
        let mut answer = Answer::Nothing;
        for byte in bytes {
            match *byte {
                CTRL_C | CTRL_D => {
                    self.control += 1;
                    if self.control >= 3 {
                        return Answer::Abort;
                    }
                }
                b'\n' | b'\r' => {
                    if std::mem::take(&mut self.line) == b"yes" {
                        return Answer::Abort;
                    }
                    answer = Answer::Other;
                }
                byte if self.line.len() < LINE_MAX => self.line.push(byte),
                _ => {}
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_ends_the_wait() {
        let mut input = Input::default();
        assert_eq!(input.take(b"no\n"), Answer::Other);
        assert_eq!(input.take(b"y"), Answer::Nothing);
        assert_eq!(input.take(b"es"), Answer::Nothing);
        assert_eq!(input.take(b"\n"), Answer::Abort);
        assert_eq!(Input::default().take(&[CTRL_C, CTRL_D]), Answer::Nothing);
        assert_eq!(Input::default().take(&[CTRL_C; 3]), Answer::Abort);
    }
}
