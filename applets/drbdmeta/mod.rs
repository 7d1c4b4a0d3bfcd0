//! drbdmeta: offline work on meta data. Texts, streams, order of messages and exit codes are those of
//! 8.3.16 (spec/metadata.md 6 and 7, spec/decisions.md 6).

mod apply_al;
mod call;
mod check_resize;
mod counters;
mod create_md;
mod dev_uuid;
mod disk;
mod dstate;
mod dump_md;
mod dump_source;
mod existing_data;
mod find;
mod get_gi;
mod hexdump;
mod in_use;
mod invalidate;
mod json;
mod last_known;
pub mod manual;
mod move_internal;
mod options;
mod outdate;
mod progress;
mod restore_md;
mod scan;
mod set_gi;
mod show_gi;
mod ui;
mod verify_dump;
mod wipe_md;

use call::{Call, Failure};
use drbdbox::control::Client;
use drbdbox::meta::Format;
use drbdbox::sys::minor_lock::MinorLock;
use options::Options;
use ui::{say, say_err};

/// Exit status of usage errors, of locks and of files that cannot be opened.
const EXIT_USAGE: u8 = 20;
/// Exit status of bad values and I/O errors.
const EXIT_ERROR: u8 = 10;
/// Exit status of "no meta data found" and other refusals without a number of their own.
const EXIT_NO_META_DATA: u8 = 255;

/// One command.
struct Command {
    name: &'static str,
    /// What follows the name in the usage text; `None`: the command is not listed.
    usage: Option<&'static str>,
    /// It never writes, so it also works on a device that cannot be written.
    reads_only: bool,
    run: fn(&Call) -> Result<u8, Failure>,
}

/// Every command, in the order of the usage text.
const COMMANDS: &[Command] = &[
    Command { name: "get-gi", usage: Some(""), reads_only: true, run: get_gi::run },
    Command { name: "show-gi", usage: Some(""), reads_only: true, run: show_gi::run },
    Command { name: "dump-md", usage: Some(""), reads_only: true, run: dump_md::run },
    Command { name: "restore-md", usage: Some("file"), reads_only: false, run: restore_md::run },
    Command { name: "verify-dump", usage: Some("file"), reads_only: true, run: verify_dump::run },
    Command {
        name: "create-md",
        usage: Some("[--peer-max-bio-size {val}]"),
        reads_only: false,
        run: create_md::run,
    },
    Command { name: "wipe-md", usage: Some(""), reads_only: false, run: wipe_md::run },
    Command { name: "outdate", usage: Some(""), reads_only: false, run: outdate::run },
    Command { name: "invalidate", usage: Some(""), reads_only: false, run: invalidate::run },
    Command { name: "dstate", usage: Some(""), reads_only: true, run: dstate::run },
    Command { name: "check-resize", usage: Some(""), reads_only: false, run: check_resize::run },
    // Not known to 8.3.16.
    Command { name: "apply-al", usage: None, reads_only: false, run: apply_al::run },
    Command { name: "hexdump-superblock", usage: None, reads_only: true, run: hexdump::run },
    Command { name: "read-dev-uuid", usage: None, reads_only: true, run: dev_uuid::read },
    Command { name: "write-dev-uuid", usage: None, reads_only: false, run: dev_uuid::write },
    Command { name: "set-gi", usage: None, reads_only: false, run: set_gi::run },
];

/// Commands that 8.3.16's usage text does not name.
const MORE: &[(&str, &str)] = &[
    ("apply-al", "marks what a crashed Primary may have been writing as out of sync"),
    ("hexdump-superblock", "the bytes where the super block must be"),
    ("read-dev-uuid", "prints the identity of the device"),
    ("write-dev-uuid HEX", "sets it"),
    ("set-gi UUID:UUID:UUID:UUID:FLAGS", "writes what get-gi prints"),
];

/// Name of the command that options are checked against.
const CREATE_MD: &str = "create-md";
const RESTORE_MD: &str = "restore-md";
const DUMP_MD: &str = "dump-md";
const SHOW_GI: &str = "show-gi";

/// The usage text on stdout.
fn usage(program: &str) {
    say!("\nUSAGE: {program} [--force] DEVICE FORMAT [FORMAT ARGS...] COMMAND [CMD ARGS...]\n");
    say!("FORMATS:\n  v06 minor\n  v07 device index\n  v08 device index\n");
    say!("COMMANDS:");
    for command in COMMANDS {
        if let Some(arguments) = command.usage {
            say!("  {} {arguments}", command.name);
        }
    }
}

/// What 8.3.16's usage text does not have.
fn usage_of_the_rest() {
    say!("\nMORE COMMANDS:");
    for (command, help) in MORE {
        say!("  {command:30} {help}");
    }
    say!("  {:30} what is on devices (all, if none is named), and what to do next", scan::USAGE);
    say!("\nOPTIONS:");
    options::print_help();
}

/// Main function of the applet.
pub fn main(args: &[String]) -> u8 {
    let called = args.first().map_or("drbdmeta", String::as_str);
    let program = call::program_name(called);
    if let Some("help" | "--help" | "-h") = args.get(1).map(String::as_str) {
        usage(&program);
        usage_of_the_rest();
        return 0;
    }
    let is_scan = args.iter().any(|word| word == scan::NAME);
    if args.len() <= 4 && !is_scan {
        usage(&program);
        return EXIT_USAGE;
    }
    let (options, words) = match options::parse(&program, &args[1..]) {
        Ok(parsed) => parsed,
        Err(failure) => {
            failure.print();
            if failure.with_usage {
                usage(&program);
            }
            return failure.code;
        }
    };
    let result = match words.split_first() {
        Some((first, devices)) if first == scan::NAME => scan::run(&options, devices),
        _ => run(&program, options, &words, args),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.code
        }
    }
}

/// Checks in 8.3.16's order (spec/metadata.md 6.2), then the command.
fn run(program: &str, options: Options, words: &[String], args: &[String]) -> Result<u8, Failure> {
    let (place, rest) = call::parse_format(words)?;
    let Some((name, arguments)) = rest.split_first() else {
        return Err(Failure::new(EXIT_USAGE, "command missing"));
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == *name) else {
        return Err(Failure::new(EXIT_USAGE, format!("Unknown command '{name}'.")));
    };
    let minor = call::minor_of(&words[0])?;
    let _lock = match minor {
        Some(minor) => {
            Some(MinorLock::take(minor).map_err(|error| Failure::new(EXIT_USAGE, error.to_string()))?)
        }
        None => None,
    };
    let snapshot = Client::look();
    if let Some(minor) = minor {
        let forced_dump = options.force && command.name == DUMP_MD;
        if !forced_dump && call::is_configured(snapshot.as_ref(), minor) {
            return Err(Failure::new(EXIT_USAGE, format!("Device '{}' is configured!", words[0])));
        }
    }
    if let Some(snapshot) = snapshot.filter(|_| !command.reads_only) {
        place.refuse_if_attached(&snapshot)?;
    }
    options.check_command(command.name)?;
    let takes_argument =
        command.usage == Some("file") || command.name.ends_with("set-gi") || command.name == "write-dev-uuid";
    if arguments.len() > usize::from(takes_argument) {
        say_err!("Ignoring additional arguments");
    }
    let call = Call {
        program: program.to_string(),
        command_line: args[1..].join(" "),
        command: command.name,
        reads_only: command.reads_only,
        options,
        minor,
        device: place.device,
        format: place.format,
        index: place.index,
        is_fixed: place.is_fixed,
        argument: arguments.first().cloned(),
    };
    match call.format {
        Format::V08 => (command.run)(&call),
        Format::V06 | Format::V07 => counters::run(&call),
    }
}
