//! Calling drbdsetup, drbdmeta and others: dry runs, time limits, the message about exit codes.
//! spec/drbdadm.md 5, spec/decisions.md 5.

use std::io::Write;
use std::time::Duration;

use drbdbox::conf::text;
use drbdbox::conf::Dialect;
use drbdbox::sys::child::{self, Ended, Setup, Stream};

use super::session::{Exit, Session};
use super::table::Limit;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Drbdsetup,
    Drbdmeta,
    ProxyCtl,
    /// `/bin/sh`, for handlers.
    Shell,
}

/// How it is called, beyond its words.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Standard output.
    pub stdout: Stream,
    /// Standard error. Anything but `Inherit` also silences the message about the exit code.
    pub stderr: Stream,
    /// Run it also with `-d`, without printing it.
    pub always: bool,
}

/// Exit status of a program that could not be started, was killed, or took too long.
pub const EXIT_FAILED: u8 = 20;

/// `\` before every byte that is not plain. spec/drbdadm.md 5.1.
pub fn shell_escape(word: &str) -> String {
    let mut escaped = Vec::new();
    for byte in text::to_bytes(word) {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'%' | b'+' | b'-' | b'.' | b'/' | b':' | b'=' | b'@' | b'_');
        if !plain {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    text::from_bytes(&escaped)
}

impl Session {
    /// The first word of a call, as it is printed.
    pub fn program_name(&self, program: Program) -> String {
        let (given, name) = match program {
            Program::Drbdsetup => (&self.options.drbdsetup, "drbdsetup"),
            Program::Drbdmeta => (&self.options.drbdmeta, "drbdmeta"),
            Program::ProxyCtl => (&self.options.proxy_ctl, "drbd-proxy-ctl"),
            Program::Shell => return "/bin/sh".to_string(),
        };
        match given {
            Some(program) => program.clone(),
            None => format!("{}{name}", self.directory),
        }
    }

    /// Calls a program with words behind its name. `name`: of the resource, for `-n` and
    /// `DRBD_RESOURCE`. With `-d` it is only printed, and the result is 0.
    ///
    /// # Errors
    /// Its time is over.
    pub fn call(
        &self,
        program: Program,
        words: &[String],
        name: &str,
        limit: Limit,
        manner: Manner,
    ) -> Result<(u8, Vec<u8>), Exit> {
        let mut manner = manner;
        if self.quiet && manner.stderr == Stream::Inherit {
            manner.stderr = Stream::Null;
        }
        let mut all = vec![self.program_name(program)];
        all.extend_from_slice(words);
        if !manner.always && (self.options.dry_run > 0 || self.options.verbose > 0) {
            self.print_call(&all, name);
        }
        if self.options.dry_run > 0 && !manner.always {
            return Ok((0, Vec::new()));
        }
        let mut environment = self.child_environment.clone();
        if program == Program::Drbdsetup {
            environment.push(("DRBD_RESOURCE".to_string(), name.to_string()));
            environment.extend(self.named_device(name).map(|device| ("DRBDBOX_DEVICE".to_string(), device)));
        }
        let setup = Setup { stdout: manner.stdout, stderr: manner.stderr, environment: &environment };
        let started = self.start(program, &all, &setup);
        let quiet = manner.stderr != Stream::Inherit;
        let child = match started {
            Ok(child) => child,
            Err(_) => {
                if !quiet {
                    self.complain("Can not exec\n");
                    self.complain_of_exit(&all, EXIT_FAILED);
                }
                return Ok((EXIT_FAILED, Vec::new()));
            }
        };
        let seconds = self.seconds(limit);
        let (ended, caught) =
            child.wait(seconds.map(Duration::from_secs)).unwrap_or((Ended::Code(EXIT_FAILED), Vec::new()));
        let line = all.join(" ");
        match ended {
            Ended::Code(code) => {
                if code >= 10 && !quiet {
                    self.complain_of_exit(&all, code);
                }
                Ok((code, caught))
            }
            Ended::Signal(signal) => {
                if !quiet {
                    self.complain(&format!("Command '{line}' was killed by signal {signal}\n"));
                }
                Ok((EXIT_FAILED, caught))
            }
            Ended::TimeOver => {
                if quiet {
                    return Ok((EXIT_FAILED, caught));
                }
                self.complain(&format!(
                    "Command '{line}' did not terminate within {} seconds\n",
                    seconds.unwrap_or(0)
                ));
                Err(Exit(EXIT_FAILED))
            }
        }
    }

    fn complain_of_exit(&self, words: &[String], code: u8) {
        self.complain(&format!("Command '{}' terminated with exit code {code}\n", words.join(" ")));
    }

    /// Starts a program: ours run in a child without exec, unless another one was named.
    pub fn start(&self, program: Program, words: &[String], setup: &Setup) -> std::io::Result<child::Child> {
        let built_in: Option<fn(&[String]) -> u8> = match program {
            Program::Drbdsetup if self.options.drbdsetup.is_none() => Some(crate::drbdsetup::main),
            Program::Drbdmeta if self.options.drbdmeta.is_none() => Some(crate::drbdmeta::main),
            _ => None,
        };
        match built_in {
            Some(main) => {
                let mut words = words.to_vec();
                // By this the applet speaks our dialect; it does not print it.
                if let (Some(name), Dialect::V84) = (words.first_mut(), self.config.dialect) {
                    name.push_str("-84");
                }
                child::fork_to(setup, || main(&words))
            }
            None => {
                let words: Vec<Vec<u8>> = words.iter().map(|w| text::to_bytes(w)).collect();
                child::spawn(setup, &words)
            }
        }
    }

    fn seconds(&self, limit: Limit) -> Option<u64> {
        let global = &self.config.global;
        let seconds = match limit {
            Limit::Short => global.cmd_timeout_short,
            Limit::Long => global.cmd_timeout_medium,
            Limit::Verbose => global.cmd_timeout_long,
            Limit::Forever => 0,
        };
        (seconds > 0).then_some(u64::from(seconds))
    }

    /// The device of a resource that has another name than `/dev/drbdN`: the daemon makes the link.
    fn named_device(&self, resource: &str) -> Option<String> {
        let volumes = &self.config.resources.iter().find(|r| r.name == resource)?.my_host()?.volumes;
        let device = volumes.first()?.device.as_deref()?;
        device.starts_with("/dev/drbd_").then(|| device.to_string())
    }

    /// The line of a dry run, with a variable before it if `-n` was given.
    pub fn print_call(&self, words: &[String], name: &str) {
        let mut line = String::new();
        if let Some(variable) = &self.options.sh_varname {
            if !name.is_empty() {
                line.push_str(&format!("{variable}={}\n", shell_escape(name)));
            }
        }
        for word in words {
            line.push_str(&shell_escape(word));
            line.push(' ');
        }
        line.push('\n');
        self.print(&line);
    }

    /// Writes to standard output.
    pub fn print(&self, line: &str) {
        // A closed pipe is the reader's wish to hear no more.
        let _ = std::io::stdout().write_all(&text::to_bytes(line));
    }

    /// Writes to standard error.
    pub fn complain(&self, line: &str) {
        complain(line);
    }
}

/// Writes to standard error.
pub fn complain(line: &str) {
    let _ = std::io::stderr().write_all(&text::to_bytes(line));
}

/// Behind a message about an unknown word, on a terminal only: the known words that are nearest.
pub fn suggest(word: &str, known: &[&str]) {
    let meant = drbdbox::conf::explain::meant(word, known);
    if !meant.is_empty() && std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        complain(&format!("{meant}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_escaped_for_a_shell() {
        assert_eq!(shell_escape("--rate=3M"), "--rate=3M");
        assert_eq!(shell_escape("secret string"), "secret\\ string");
        assert_eq!(shell_escape("ipv6:[::1]:1"), "ipv6:\\[::1\\]:1");
        assert_eq!(text::to_bytes(&shell_escape("ü")), b"\\\xc3\\\xbc");
    }
}
