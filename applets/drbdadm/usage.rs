//! Usage, help and version texts. spec/drbdadm.md 11.4, 11.5, 14.1.

use drbdbox::conf::Dialect;
use drbdbox::sys::build::{tag as build_tag, RELEASE};

use super::arguments::{allowed_options, OWN};
use super::table::{Action, Command, COMMANDS};

/// `drbdadm --version`.
pub fn version(dialect: Dialect) -> String {
    let code = match dialect {
        Dialect::V83 => "0x080310",
        Dialect::V84 => "0x08040b",
    };
    format!(
        "DRBDADM_BUILDTAG={}\nDRBDADM_API_VERSION={}\nDRBD_KERNEL_VERSION_CODE={code}\n\
         DRBDADM_VERSION_CODE={code}\nDRBDADM_VERSION={}\nDRBDBOX_VERSION={RELEASE}\n",
        super::exec::shell_escape(&build_tag()),
        dialect.api_version(),
        dialect.release()
    )
}

fn tail(dialect: Dialect, message: Option<&str>) -> String {
    let mut text =
        format!("\nVersion: {} (api:{})\n{}\n", dialect.release(), dialect.api_version(), build_tag());
    if let Some(message) = message {
        text.push_str(&format!("\n{message}\n"));
    }
    text
}

/// Names of a usage level in two columns.
fn columns(dialect: Dialect, level: u8) -> String {
    let mut text = String::new();
    let names = COMMANDS.iter().filter(|c| c.level(dialect) == level).map(|c| c.name);
    let mut odd = false;
    for name in names {
        match odd {
            false => text.push_str(&format!(" {name:<35}")),
            true => text.push_str(&format!("{name:<35}\n")),
        }
        odd = !odd;
    }
    if odd {
        text.push('\n');
    }
    text
}

/// The general usage of 8.3; `message` comes last.
pub fn usage_83(program: &str, message: Option<&str>) -> String {
    let mut text = format!(
        "\nUSAGE: {program} [OPTION...] [-- DRBDSETUP-OPTION...] COMMAND {{all|RESOURCE...}}\n\n\
         OPTIONS:\n"
    );
    for option in OWN.iter().filter(|o| o.shown.0) {
        let value = if option.argument { " val" } else { "" };
        text.push_str(&format!(" {{--{}|-{}}}{value}\n", option.long, option.short));
    }
    text.push_str("\nCOMMANDS:\n");
    text.push_str(&columns(Dialect::V83, 1));
    text + &tail(Dialect::V83, message)
}

/// The usage of 8.4, of one command or in general.
pub fn usage_84(program: &str, dialect: Dialect, command: Option<&Command>, message: Option<&str>) -> String {
    let name = command.map_or("COMMAND", |c| c.name);
    let objects = match command.map(|c| c.action) {
        Some(Action::Check) => "[FILE]",
        _ => "{all|RESOURCE...}",
    };
    let mut text = format!("\nUSAGE: {program} {name} [OPTION...] {objects}\n\nGENERAL OPTIONS:\n");
    for option in OWN.iter().filter(|o| o.shown.1) {
        let value = match option.argument {
            true => ("=...", " ..."),
            false => ("", ""),
        };
        text.push_str(&format!("  --{}{}, -{}{}\n", option.long, value.0, option.short, value.1));
    }
    match command {
        None => {
            text.push_str("\nCOMMANDS:\n");
            text.push_str(&columns(Dialect::V84, 1));
        }
        Some(command) if command.action == Action::Check => text.push_str(&super::check::help()),
        Some(command) if command.action == Action::Status => text.push_str(
            "\nOPTIONS FOR status:\n  --watch\n\n\
             On a terminal: roles, states and running resyncs in colour; with --watch drawn every second in the same\n\
             place, until Ctrl-C. In a pipe: what drbdsetup prints.\n",
        ),
        Some(command) => {
            let options = allowed_options(command);
            if !options.is_empty() {
                text.push_str(&format!("\nOPTIONS FOR {name}:\n"));
            }
            for (option, optional) in options {
                let value = if optional { "[=...]" } else { "=..." };
                text.push_str(&format!("  --{option}{value}\n"));
            }
        }
    }
    text + &tail(dialect, message)
}

/// `hidden-commands`.
pub fn hidden_commands(dialect: Dialect) -> String {
    format!(
        "\nThese additional commands might be useful for writing\n\
         nifty shell scripts around drbdadm:\n\n{}\n\
         These commands are used by the kernel part of DRBD to\n\
         invoke user mode helper programs:\n\n{}\n\
         These commands ought to be used by experts and developers:\n\n{}\n",
        columns(dialect, 2),
        columns(dialect, 3),
        columns(dialect, 4)
    )
}
