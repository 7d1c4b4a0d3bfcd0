//! The applet `drbdadm`: configuration to commands. spec/drbdadm.md.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | the sequence of one call |
//! | `table`, `arguments`, `usage` | the one table of commands, the command line, help |
//! | `check` | `drbdadm check` |
//! | `configuration` | finding, reading and checking the configuration |
//! | `session`, `exec`, `deferred`, `register` | what commands share: calling programs, phases, links |
//! | `dispatch` | from table row to function |
//! | `device`, `net`, `meta`, `proxy`, `wait`, `handlers`, `printing` | the commands, by family |
//! | `adjust`, `adjust_83`, `adjust_84` | running against wanted configuration |

mod adjust;
mod adjust_83;
mod adjust_84;
mod arguments;
mod check;
mod configuration;
mod deferred;
mod device;
mod dispatch;
mod exec;
mod handlers;
pub mod manual;
mod meta;
mod net;
mod people;
mod printing;
mod proxy;
mod register;
mod session;
mod table;
mod udev_backing;
mod usage;
mod wait;

use std::io::Write;

use drbdbox::conf::Dialect;

use arguments::{Item, Own};
use exec::{complain, suggest, EXIT_FAILED};
use session::{Exit, Options, Session, EXIT_USAGE};
use table::Command;

/// Runs the applet; `args[0]` is its name as called. Returns the exit status.
pub fn main(args: &[String]) -> u8 {
    let status = match run(args) {
        Ok(status) => status,
        Err(Exit(status)) => status,
    };
    let _ = std::io::stdout().flush();
    status
}

/// Name and dialect of a program as called.
struct Called {
    program: String,
    directory: String,
    dialect: Dialect,
}

impl Called {
    fn new(argv0: &str) -> Self {
        let (directory, base) = match argv0.rfind('/') {
            Some(at) => argv0.split_at(at + 1),
            None => ("", argv0),
        };
        let program = ["-83", "-84"].iter().find_map(|suffix| base.strip_suffix(suffix)).unwrap_or(base);
        Called {
            program: program.to_string(),
            directory: directory.to_string(),
            dialect: Dialect::of_program(base),
        }
    }

    fn usage(&self, command: Option<&Command>, message: &str) -> Exit {
        let message = (!message.is_empty()).then_some(message);
        print(&match self.dialect {
            Dialect::V83 => usage::usage_83(&self.program, message),
            Dialect::V84 => usage::usage_84(&self.program, self.dialect, command, message),
        });
        Exit(EXIT_USAGE)
    }

    fn help(&self, command: Option<&Command>) -> Exit {
        print(&usage::usage_84(&self.program, self.dialect, command, None));
        Exit(0)
    }

    fn bad_option(&self) -> Exit {
        complain(&format!("try '{} help'\n", self.program));
        Exit(match self.dialect {
            Dialect::V83 => EXIT_FAILED,
            Dialect::V84 => EXIT_USAGE,
        })
    }
}

fn suggest_command(word: &str) {
    let names: Vec<&str> = table::COMMANDS.iter().map(|command| command.name).collect();
    suggest(word, &names);
}

fn print(text: &str) {
    let _ = std::io::stdout().write_all(&drbdbox::conf::text::to_bytes(text));
}

fn run(args: &[String]) -> Result<u8, Exit> {
    let called = Called::new(args.first().map_or("drbdadm", String::as_str));
    let this = Session::this_host();
    let words = args.get(1..).unwrap_or_default();
    if words.is_empty() {
        return Err(called.usage(None, missing_arguments(called.dialect)));
    }
    let (options, command) = parse(&called, words)?;
    match command.action {
        table::Action::Check => return check::run(&called, &this, &options),
        table::Action::ShUdevBacking => return udev_backing::run(&called, &options),
        _ => {}
    }
    let session = configuration::session(&called, this, options, command)?;
    dispatch::run(session)
}

fn missing_arguments(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::V83 => "missing arguments",
        Dialect::V84 => "No command specified",
    }
}

/// Options and operands to what they mean.
fn parse(called: &Called, words: &[String]) -> Result<(Options, &'static Command), Exit> {
    let items = arguments::split(&called.program, words, called.dialect).map_err(|bad| {
        complain(&format!("{}\n", bad.0));
        called.bad_option()
    })?;
    let mut options = Options::default();
    let mut operands = Vec::new();
    let mut for_setup = Vec::new();
    let mut help = false;
    for item in items {
        match item {
            Item::Own(Own::Help, _) => help = true,
            Item::Own(Own::Version, _) => {
                let dialect =
                    configuration::dialect_for_version(called.dialect, options.config_file.as_deref());
                print(&usage::version(dialect));
                return Err(Exit(0));
            }
            Item::Own(own, value) => set(&mut options, own, value)?,
            Item::Setup(name, written) => for_setup.push((name, written)),
            Item::Word(word) => operands.push(word),
        }
    }
    let mut operands = operands.into_iter();
    let mut before: Vec<String> = Vec::new();
    let mut command = None;
    while let Some(word) = operands.next() {
        if word == "help" && command.is_none() {
            help_for(called, operands.next().as_deref())?;
        }
        let name = table::DEPRECATED
            .iter()
            .find(|(old, _)| *old == word)
            .map(|(old, new)| {
                complain(&format!(
                    "'{p} {old}' is deprecated, use '{p} {new}' instead.\n",
                    p = called.program
                ));
                new.to_string()
            })
            .unwrap_or_else(|| word.clone());
        if let Some(found) = table::find(&name) {
            command = Some(found);
            break;
        }
        before.push(word);
    }
    if help {
        return Err(called.help(command));
    }
    let Some(command) = command else {
        return Err(match (called.dialect, before.first()) {
            (Dialect::V84, Some(word)) => {
                let program = &called.program;
                complain(&format!("{program}: Unknown command '{word}'\n"));
                suggest_command(word);
                Exit(EXIT_USAGE)
            }
            (Dialect::V84, None) => called.usage(None, "No command specified"),
            (Dialect::V83, first) => {
                let exit = called.usage(None, "");
                first.iter().for_each(|word| suggest_command(word));
                exit
            }
        });
    };
    options.names = operands.collect();
    // What stood before the command comes after what -W gave.
    options.pass_through.extend(before);
    for (name, written) in for_setup {
        if !arguments::allows(command, &name) {
            // The file is not read yet; what it would make of the dialect, the message has.
            let dialect = configuration::dialect_for_version(called.dialect, options.config_file.as_deref());
            return Err(refused(called, dialect, command, &name));
        }
        options.typed.extend_from_slice(&written);
        options.pass_through.extend(written);
    }
    if options.watch && command.action != table::Action::Status {
        return Err(refused(called, called.dialect, command, "watch"));
    }
    check_names(called, command, &mut options)?;
    Ok((options, command))
}

fn refused(called: &Called, dialect: Dialect, command: &Command, name: &str) -> Exit {
    let program = &called.program;
    complain(&format!("{program}: unrecognized option '--{name}'\n"));
    match dialect {
        Dialect::V83 => called.bad_option(),
        Dialect::V84 => {
            complain(&format!("try '{program} help {}'\n", command.name));
            Exit(EXIT_USAGE)
        }
    }
}

/// `help` and `help COMMAND`.
fn help_for(called: &Called, topic: Option<&str>) -> Result<(), Exit> {
    match (topic, called.dialect) {
        (None, Dialect::V83) => Err(called.usage(None, "")),
        (None, Dialect::V84) => Err(called.help(None)),
        (Some(name), _) => match table::find(name) {
            Some(command) => Err(called.help(Some(command))),
            None => {
                let program = &called.program;
                complain(&format!("{program}: Unknown command '{name}'\n"));
                suggest_command(name);
                Err(Exit(EXIT_USAGE))
            }
        },
    }
}

fn set(options: &mut Options, own: Own, value: String) -> Result<(), Exit> {
    match own {
        Own::Stacked => options.stacked = true,
        Own::DryRun => options.dry_run += 1,
        Own::Verbose => options.verbose += 1,
        Own::ConfigFile => options.config_file = Some(value),
        Own::ConfigToTest => options.config_to_test = Some(value),
        Own::Drbdsetup => options.drbdsetup = Some(executable(value)?),
        Own::Drbdmeta => options.drbdmeta = Some(executable(value)?),
        Own::ProxyCtl => options.proxy_ctl = Some(executable(value)?),
        Own::Force => options.force = true,
        Own::Watch => options.watch = true,
        Own::Peer => options.peer = Some(value),
        Own::SetupOption => options.pass_through.push(value),
        Own::ShVarname => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            if value.bytes().all(plain) {
                options.sh_varname = Some(value);
            } else {
                complain(&format!(
                    "ignored --sh-varname={value}: contains suspect characters, \
                     allowed set is [a-zA-Z0-9_]\n"
                ));
            }
        }
        Own::Version | Own::Help => {}
    }
    Ok(())
}

fn executable(program: String) -> Result<String, Exit> {
    let allowed = nix::unistd::access(program.as_str(), nix::unistd::AccessFlags::X_OK);
    if allowed.is_err() {
        complain("Can not find command (drbdsetup/drbdmeta)\n");
        return Err(Exit(EXIT_FAILED));
    }
    Ok(program)
}

/// Steps 6 and 7 of spec/drbdadm.md 3.
fn check_names(called: &Called, command: &Command, options: &mut Options) -> Result<(), Exit> {
    if options.config_to_test.is_some() && !command.is_dump() && command.name != "sh-nop" {
        complain("The --config-to-test (-t) option is only allowed with the dump and sh-nop commands\n");
        return Err(Exit(EXIT_USAGE));
    }
    // 8.4's status shows one resource, ours on a terminal several.
    let named_status = command.action == table::Action::Status
        && (called.dialect == Dialect::V84 || options.is_for_people());
    let takes_names = command.needs_resource() || named_status;
    if options.names.is_empty() {
        if command.is_dump() || !command.needs_resource() {
            return Ok(());
        }
        let message = match called.dialect {
            Dialect::V83 => "missing resourcename arguments",
            Dialect::V84 => "No resource names specified",
        };
        return Err(called.usage(Some(command), message));
    }
    if options.names.len() >= 2 {
        if matches!(command.action, table::Action::Check | table::Action::ShUdevBacking) {
            // A file, a device; one too many is told there.
        } else if !takes_names {
            let this = match called.dialect {
                Dialect::V83 => "this",
                Dialect::V84 => "This",
            };
            complain(&format!("{this} command will ignore resource names!\n"));
        } else if command.action == table::Action::Handler {
            complain("You should not use this command with multiple resources!\n");
        }
    }
    Ok(())
}
