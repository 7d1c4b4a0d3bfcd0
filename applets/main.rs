//! The multicall binary: the base name of argv\[0\], or the first argument, chooses the applet.

mod bench_door;
mod drbdadm;
mod drbdd;
mod drbdmeta;
mod drbdsetup;
mod install;
mod man;
mod overview;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// One program that this binary can be.
struct Applet {
    /// Name without the suffixes `-83` and `-84`.
    name: &'static str,
    /// One line for the list.
    help: &'static str,
    /// Its main function: `args[0]` is the name as it was called. Returns the exit status.
    main: fn(&[String]) -> u8,
    /// Its page of the manual.
    manual: fn() -> man::page::Page,
}

/// Every applet. The list that `drbdbox` prints and the links of `--install` are made from it.
#[rustfmt::skip]
const APPLETS: &[Applet] = &[
    applet("drbdadm", "carries out what drbd.conf says", drbdadm::main, drbdadm::manual::page),
    applet("drbdsetup", "talks to the daemon, one object at a time", drbdsetup::main, drbdsetup::manual::page),
    applet("drbdmeta", "works on meta data while it is not in use", drbdmeta::main, drbdmeta::manual::page),
    applet("drbdd", "the replication daemon", drbdd::main, drbdd::manual::page),
    applet("drbd-overview", "one line a device", overview::main, overview::manual::page),
];

const fn applet(
    name: &'static str,
    help: &'static str,
    main: fn(&[String]) -> u8,
    manual: fn() -> man::page::Page,
) -> Applet {
    Applet { name, help, main, manual }
}

/// What `help` says about an applet.
pub fn about(name: &str) -> &'static str {
    APPLETS.iter().find(|applet| applet.name == name).map_or("", |applet| applet.help)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let called = args.first().map(String::as_str).unwrap_or("drbdbox");
    if let Some(applet) = find(called) {
        return ExitCode::from((applet.main)(&args));
    }
    if args.get(1).is_some_and(|word| word == "bench-door") {
        return ExitCode::from(bench_door::main(&args[1..]));
    }
    match args.get(1).and_then(|a| find(a)) {
        Some(applet) => ExitCode::from((applet.main)(&args[1..])),
        None => ExitCode::from(drbdbox(&args)),
    }
}

/// What this program is when it is called by its own name and no applet is chosen.
fn drbdbox(args: &[String]) -> u8 {
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        [] | ["--help" | "-h" | "help"] => out(&help()),
        ["--version" | "-V"] => {
            let release = env!("CARGO_PKG_VERSION");
            out(&format!("drbdbox {release} (compatible with DRBD 8.3.16/8.4.11, proto 86-101)\n"));
        }
        ["--install", directory] => return make_links(directory, false),
        ["--install", "-s", directory] | ["--install", directory, "-s"] => {
            return make_links(directory, true)
        }
        ["man", page @ ..] => return man::main(page),
        ["--install", ..] => {
            eprintln!("drbdbox: --install needs a directory: drbdbox --install [-s] DIR");
            return 1;
        }
        [word, ..] => {
            eprintln!("drbdbox: '{word}' is none of its applets; 'drbdbox --help' lists them");
            return 1;
        }
    }
    0
}

/// Prints a text. A reader that has gone is no reason to fail.
pub fn out(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// The list of applets and the options of `drbdbox` itself.
fn help() -> String {
    let mut text = String::from(
        "Usage: drbdbox APPLET [ARGUMENTS]\n\
         \x20      drbdbox --install [-s] DIR   make a link in DIR for every applet (-s: symbolic)\n\
         \x20      drbdbox man [PAGE]           list the pages of the manual, or print one (man -l -)\n\
         \x20      drbdbox --version | --help\n\
         or call it by the name of an applet through such a link:\n\n",
    );
    for applet in APPLETS {
        text.push_str(&format!("  {:16}{}\n", applet.name, applet.help));
    }
    text
}

/// `--install`: prints what it could not do, returns the exit status.
fn make_links(directory: &str, symbolic: bool) -> u8 {
    match install::install(Path::new(directory), symbolic, APPLETS.iter().map(|a| a.name)) {
        Ok(_) => 0,
        Err(what) => {
            eprintln!("drbdbox --install: {what}");
            1
        }
    }
}

/// Looks up an applet by a path or name; `-83`, `-84` and `-9` choose a dialect, not an applet.
fn find(called: &str) -> Option<&'static Applet> {
    let base = called.rsplit('/').next().unwrap_or(called);
    let name = ["-83", "-84", "-9"].iter().find_map(|s| base.strip_suffix(s)).unwrap_or(base);
    APPLETS.iter().find(|a| a.name == name)
}
