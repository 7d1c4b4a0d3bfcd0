//! Finding, reading and checking the configuration. spec/config.md 1, spec/drbdadm.md 3 (8 to 15).

use std::io::{self, IsTerminal};
use std::path::Path;

use drbdbox::conf::files::{self, STANDARD_INPUT};
use drbdbox::conf::model::{Config, FileName};
use drbdbox::conf::parser::{self, Parser, Reading, Stop};
use drbdbox::conf::{check, inherit, validate, Dialect};
use drbdbox::sys::paths;

use super::exec::{complain, EXIT_FAILED};
use super::register::registered_file;
use super::session::{Exit, Options, Session, EXIT_USAGE};
use super::table::{Action, Command};
use super::Called;

/// Names that are looked for, in this order; 8.4 looks for its own first.
const NAMES: &[&str] = &["drbd-84.conf", "drbd-83.conf", "drbd-82.conf", "drbd-08.conf", "drbd.conf"];

/// Where the default file is looked for.
const ETC: &str = "/etc";

impl From<Stop> for Exit {
    fn from(stop: Stop) -> Exit {
        Exit(stop.0)
    }
}

/// The default file's name and bytes.
///
/// # Errors
/// None could be opened: the system's reason for the last one.
fn default_file(dialect: Dialect) -> Result<(FileName, Vec<u8>), io::Error> {
    let names = match dialect {
        Dialect::V83 => &NAMES[1..],
        Dialect::V84 => NAMES,
    };
    let mut directories = vec![ETC];
    if paths::SYSCONFDIR != ETC {
        directories.push(paths::SYSCONFDIR);
    }
    let mut reason = io::Error::from(io::ErrorKind::NotFound);
    for directory in directories {
        for name in names {
            let path = format!("{directory}/{name}");
            match files::read_limited(Path::new(&path)) {
                Ok(bytes) => {
                    let file = FileName { absolute: files::absolute_name(Path::new(&path)), display: path };
                    return Ok((file, bytes));
                }
                Err(error) => reason = error,
            }
        }
    }
    Err(reason)
}

/// A file named on the command line.
fn named_file(name: &str) -> Option<(FileName, Vec<u8>)> {
    if name == "-" {
        let bytes = files::read_stream(io::stdin().lock()).ok()?;
        let file = FileName { display: STANDARD_INPUT.to_string(), absolute: STANDARD_INPUT.to_string() };
        return Some((file, bytes));
    }
    let path = Path::new(name);
    let bytes = files::read_limited(path).ok()?;
    let file = FileName { display: name.to_string(), absolute: files::absolute_name(path) };
    Some((file, bytes))
}

fn cannot_open(name: &str) -> Exit {
    // The original ends its message with a dot on a line of its own.
    complain(&format!("Can not open '{name}'.\n."));
    Exit(EXIT_FAILED)
}

/// The system's words for an error, without the number.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_string(),
        None if error.kind() == io::ErrorKind::NotFound => nix::errno::Errno::ENOENT.desc().to_string(),
        None => error.to_string(),
    }
}

/// The file that is named, or the default one.
///
/// # Errors
/// It cannot be read; it has been said.
pub fn file(dialect: Dialect, named: Option<&str>) -> Result<(FileName, Vec<u8>), Exit> {
    match named {
        Some(name) => named_file(name).ok_or_else(|| cannot_open(name)),
        None => default_file(dialect).map_err(|error| {
            complain(&format!("Can not open '/etc/drbd.conf': {}\n", reason(&error)));
            Exit(parser::EXIT_INVALID)
        }),
    }
}

/// Which dialect the file puts in force: silent, nothing is executed. What comes from standard input cannot
/// be read twice, and is not looked at. spec/decisions.md 1.1.
pub fn dialect_for_version(by_name: Dialect, config_file: Option<&str>) -> Dialect {
    let found = match config_file {
        Some("-") => None,
        Some(name) => named_file(name),
        None => default_file(by_name).ok(),
    };
    let Some((file, bytes)) = found else {
        return by_name;
    };
    let mut parser = Parser::new(by_name);
    match parser.read(file, bytes) {
        Ok(()) => {
            let (config, _) = parser.finish();
            match config.valid {
                true => config.dialect,
                false => by_name,
            }
        }
        Err(_) => by_name,
    }
}

/// Reads and checks the configuration for a command.
///
/// # Errors
/// The file cannot be read or is not valid; the reason has been printed.
pub(super) fn session(
    called: &Called,
    this: check::ThisHost,
    options: Options,
    command: &'static Command,
) -> Result<Session, Exit> {
    let mut session = Session {
        command,
        program: called.program.clone(),
        directory: called.directory.clone(),
        this,
        config: Parser::new(called.dialect).finish().0,
        options,
        deferred: Vec::new(),
        child_environment: Vec::new(),
        no_terminal: Session::no_terminal(),
        quiet: command.action == Action::Adjust { progress: true },
    };
    if command.action == Action::HiddenCommands || command.action == Action::Proc {
        return Ok(session);
    }
    session.config = read(called, &session)?;
    find_sections(&mut session)?;
    if !is_plain_dump(&session) {
        inherit::expand(&mut session.config);
    }
    check_minor_count(&session)?;
    Ok(session)
}

fn is_plain_dump(session: &Session) -> bool {
    session.command.is_dump() && session.options.dry_run == 0 && session.options.verbose == 0
}

fn read(called: &Called, session: &Session) -> Result<Config, Exit> {
    let (file, bytes) = match &session.options.config_file {
        Some(name) => named_file(name).ok_or_else(|| cannot_open(name))?,
        None => match registered(session) {
            Some(name) => named_file(&name).ok_or_else(|| cannot_open(&name))?,
            None => default_file(called.dialect).map_err(|error| {
                complain(&format!("Can not open '/etc/drbd.conf': {}\n", reason(&error)));
                let none = error.kind() == io::ErrorKind::NotFound && session.is_helper();
                Exit(if none { 0 } else { parser::EXIT_INVALID })
            })?,
        },
    };
    // In a pipe there is what DRBD prints, and nothing else.
    let reading = Reading { explains: io::stderr().is_terminal(), recovers: false };
    let mut parser = Parser::with(called.dialect, reading);
    let mut result = parser.read(file, bytes);
    if let (Ok(()), Some(name)) = (result, &session.options.config_to_test) {
        match named_file(name) {
            Some((file, bytes)) => result = parser.read(file, bytes),
            None => {
                complain(&parser.messages);
                return Err(cannot_open(name));
            }
        }
    }
    complain(&parser.messages);
    result?;
    let (config, _) = parser.finish();
    match config.valid {
        true => Ok(config),
        false => Err(Exit(parser::EXIT_INVALID)),
    }
}

/// The file with which a minor or resource was configured, for handlers and sh-udev.
fn registered(session: &Session) -> Option<String> {
    if !session.command.registered {
        return None;
    }
    let object = session.options.names.first()?;
    let found = registered_file(object);
    if found.is_none() {
        match object.strip_prefix("minor-") {
            Some(minor) => complain(&format!(
                "Don't know which config file belongs to minor {minor}, trying default ones...\n"
            )),
            None if session.config.dialect == Dialect::V84 => complain(&format!(
                "Don't know which config file belongs to resource {object}, trying default \
                 ones...\n"
            )),
            None => complain(&format!(
                "Couldn't find minor from id {object}, expecting minor-<minor> as id. Trying \
                 default config files.\n"
            )),
        }
    }
    found
}

fn find_sections(session: &mut Session) -> Result<(), Exit> {
    let mut messages = String::new();
    let choice = session.choice();
    let result = check::find_this_host(&mut session.config, &session.this, &choice, &mut messages);
    complain(&messages);
    Ok(result?)
}

fn check_minor_count(session: &Session) -> Result<(), Exit> {
    let count = session.config.global.minor_count;
    if let Some(highest) = highest_minor(session).filter(|m| count > 0 && *m >= count) {
        // The original has no blank there either.
        complain(&format!(
            "The highest minor you have in your config is {highest}but a minor_count of {count} \
             in your config!\n"
        ));
        return Err(Exit(EXIT_USAGE));
    }
    Ok(())
}

/// Highest minor of this host.
pub fn highest_minor(session: &Session) -> Option<u32> {
    session
        .config
        .resources
        .iter()
        .filter_map(|r| r.my_host())
        .flat_map(|h| &h.volumes)
        .filter_map(|v| v.minor)
        .max()
}

impl Session {
    /// Checks before commands that name resources, and what commands need converted.
    ///
    /// # Errors
    /// The configuration is not valid; the reason has been printed.
    pub fn validate(&mut self) -> Result<(), Exit> {
        let mut messages = String::new();
        if !self.config.valid {
            return Err(Exit(parser::EXIT_INVALID));
        }
        let choice = self.choice();
        let mut result = validate::validate(&mut self.config, &self.this, &choice, &mut messages);
        if result.is_ok() && !self.command.is_dump() {
            result = validate::convert_names(&mut self.config, &self.this, &mut messages);
        }
        complain(&messages);
        Ok(result?)
    }

    /// Says why there is no peer, for commands that need one.
    pub fn choose_peer(&mut self, at: usize) {
        let mut messages = String::new();
        let choice = self.choice();
        let config = &mut self.config;
        check::choose_peer(config, at, &self.this, &choice, true, &mut messages);
        complain(&messages);
    }

    /// The address check of a resource. spec/drbdadm.md 3.
    ///
    /// # Errors
    /// The address is missing and the command is not a dump.
    pub fn check_address(&self, at: usize) -> Result<(), Exit> {
        let resource = self.resource(at);
        let skipped = !self.command.address
            || self.config.global.disable_ip_verification
            || self.options.dry_run == 1
            || resource.ignored
            || resource.stacked && !self.options.stacked;
        if skipped {
            return Ok(());
        }
        match validate::missing_address(&self.config, resource, &self.this) {
            None => Ok(()),
            Some(message) => {
                complain(&message);
                Err(Exit(parser::EXIT_INVALID))
            }
        }
    }
}
