//! The daemon as drbdsetup sees it: is it there, ask it, say what it answered.
//! spec/drbdsetup.md 4, spec/decisions.md 7.1.

use super::failure::{Failure, Outcome};
use drbdbox::conf::Dialect;
use drbdbox::control::{Call, Client, ClientError, EventStream, Reply, Request};
use drbdbox::core::codes::{ConfigCode, StateError};
use drbdbox::status::Snapshot;
use drbdbox::sys::paths;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Commands that succeed without a daemon: what they ask for is so already.
const FINE_WITHOUT: [&str; 4] = ["down", "secondary", "disconnect", "detach"];

/// With the value `no` in the environment no command starts a daemon.
const AUTOSTART: &str = "DRBDD_AUTOSTART";

/// Lines for somebody who has no daemon and needs one.
const HINT: &str = "do you need to start it?\ntry: /etc/init.d/drbd start\n";

/// Starts this binary as `drbdd` in the background.
fn start_daemon() -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .arg0("drbdd")
        .arg("--background")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Why it cannot start is for who called; the daemon itself closes it.
        .stderr(Stdio::inherit())
        .current_dir("/")
        .process_group(0)
        .spawn()
}

/// Whether a failure means that no daemon runs.
fn is_absent(error: &ClientError) -> bool {
    matches!(error, ClientError::Connect { error, .. } if error.kind() != io::ErrorKind::PermissionDenied)
}

/// Checks that a daemon answers; starts one if `may_start`. spec/drbdsetup.md 2.1.8.
///
/// # Errors
/// The message, with exit status 0 for commands that have nothing to do without a daemon.
pub fn check(command: &str, may_start: bool) -> Result<(), Failure> {
    let path = paths::socket();
    let may_start = may_start && std::env::var_os(AUTOSTART).is_none_or(|value| value != "no");
    let connected =
        if may_start { Client::connect_or_start(&path, start_daemon) } else { Client::connect(&path) };
    let Err(error) = connected else {
        return Ok(());
    };
    let mut failure = of_client(&error);
    if is_absent(&error) {
        if FINE_WITHOUT.contains(&command) {
            failure.status = 0;
        } else {
            failure.err += HINT;
        }
    }
    Err(failure)
}

/// The message about a daemon that gives no answer.
fn of_client(error: &ClientError) -> Failure {
    let mut failure = Failure::refused(error);
    if matches!(error, ClientError::Connect { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
    {
        failure.err += "Missing privileges? You should run this as root.\n";
    }
    failure
}

/// How the daemon's answer to a question is reported.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// What messages name: the first argument of 8.3, the object of 8.4.
    pub object: &'a str,
    /// Form of the call.
    pub form: Dialect,
}

impl Asker<'_> {
    fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&paths::socket()).map_err(|error| of_client(&error))
    }

    /// A question that the daemon refused.
    fn refused(&self, error: &ClientError) -> Failure {
        match error {
            ClientError::Refused { code, info } => self.code(*code, info),
            _ => of_client(error),
        }
    }

    /// Everything.
    ///
    /// # Errors
    /// With the message and the exit status.
    pub fn snapshot(&self) -> Result<Snapshot, Failure> {
        let client = self.connect()?;
        client.snapshot().map_err(|error| self.refused(&error))
    }

    /// As [`snapshot`](Self::snapshot); `Ok(Err)` holds the code if the daemon answered one.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn snapshot_or_code(&self) -> Result<Result<Snapshot, i32>, Failure> {
        match self.connect()?.snapshot() {
            Ok(snapshot) => Ok(Ok(snapshot)),
            Err(ClientError::Refused { code, .. }) => Ok(Err(code)),
            Err(error) => Err(of_client(&error)),
        }
    }

    /// The text of /proc/drbd.
    ///
    /// # Errors
    /// With the message and the exit status.
    pub fn proc_text(&self) -> Result<String, Failure> {
        match self.call(Request::ProcText, false)? {
            Reply::Text(text) => Ok(text),
            Reply::Code { code, info } => Err(self.code(code, &info)),
            _ => Err(Failure::refused("The DRBD daemon answers something else")),
        }
    }

    /// The daemon's events.
    ///
    /// # Errors
    /// With the message and the exit status.
    pub fn events(&self) -> Result<EventStream, Failure> {
        let client = self.connect()?;
        client.subscribe().map_err(|error| self.refused(&error))
    }

    /// The stream of events broke.
    pub fn stream_failed(&self, error: &ClientError) -> Failure {
        self.refused(error)
    }

    /// Asks.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn call(&self, request: Request, create_device: bool) -> Result<Reply, Failure> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let call = Call {
            form: self.form,
            create_device,
            resource_name: variable("DRBD_RESOURCE"),
            device_name: variable("DRBDBOX_DEVICE"),
            request,
        };
        let client = self.connect()?;
        client.call(&call).map_err(|error| self.refused(&error))
    }

    /// Sends a request; the reply's message has been printed, its exit status is returned.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn configure(&self, request: Request, create_device: bool) -> Outcome {
        let code = self.request(request, create_device)?;
        match code {
            Ok(()) => Ok(0),
            Err((code, info)) => Ok(self.code(code, &info).print()),
        }
    }

    /// Sends a request; a reply that is no success is handed back.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn request(
        &self,
        request: Request,
        create_device: bool,
    ) -> Result<Result<(), (i32, Vec<String>)>, Failure> {
        match self.call(request, create_device)? {
            Reply::Code { code, .. } if is_success(code) => Ok(Ok(())),
            Reply::Code { code, info } => Ok(Err((code, info))),
            _ => Err(Failure::refused("The DRBD daemon answers something else")),
        }
    }

    /// Message and exit status of a code that is no success. spec/drbdsetup.md 4.
    pub fn code(&self, code: i32, info: &[String]) -> Failure {
        let object = self.object;
        // Our daemon has codes for 8.3's commands too that 8.3 did not know; it explains them.
        let known = code_text(code, self.form);
        let text = known.or_else(|| code_text(code, Dialect::V84).filter(|_| !info.is_empty()));
        let mut failure = match (text, code) {
            (_, 0) => with_status(format!("{object}: State change failed: (0)unknown error.\n"), 11),
            (Some(text), ..=-1) => {
                with_status(format!("{object}: State change failed: ({code}) {text}\n"), state_exit(code))
            }
            (Some(text), _) => with_status(format!("{object}: Failure: ({code}) {text}\n"), 10),
            (None, _) => {
                let prefix = match self.form {
                    Dialect::V83 => String::new(),
                    Dialect::V84 => format!("{object}: "),
                };
                let text = format!(
                    "{prefix}Error code {code} unknown.\n\
                     You should update the drbd userland tools.\n"
                );
                with_status(text, 20)
            }
        };
        if self.form == Dialect::V84 && !info.is_empty() {
            failure.err += "additional info from kernel:\n";
        }
        // 8.3 has no form for explanations: they stand behind its own lines (spec/system.md 7.4).
        for line in info {
            failure.err += &format!("{line}\n");
        }
        failure
    }
}

fn with_status(err: String, status: u8) -> Failure {
    Failure { err, out: String::new(), status }
}

/// 101, and 1 to 4.
pub fn is_success(code: i32) -> bool {
    matches!(code, 1..=4 | 101)
}

/// The text of a code in messages; `None`: the dialect does not know it.
pub fn code_text(code: i32, form: Dialect) -> Option<&'static str> {
    // 8.3 ends with -19; 8.4 added two.
    let lowest = match form {
        Dialect::V83 => -19,
        Dialect::V84 => -21,
    };
    match code {
        -3 => Some("(null)"),
        _ if (lowest..0).contains(&code) => StateError::from_code(code).map(StateError::text),
        102.. => {
            let found = ConfigCode::from_number(code)?;
            match form {
                Dialect::V83 => found.text_83(),
                Dialect::V84 => Some(found.text_84()),
            }
        }
        _ => None,
    }
}

/// Exit status of a refused state change.
fn state_exit(code: i32) -> u8 {
    match code {
        -2 => 17,
        -4 => 16,
        -16 => 5,
        _ => 11,
    }
}

/// Prints what a command ended with; its exit status.
pub fn report(outcome: Outcome) -> u8 {
    match outcome {
        Ok(status) => status,
        Err(failure) => failure.print(),
    }
}
