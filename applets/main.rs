//! The multicall binary: the base name of argv\[0\], or the first argument, chooses the applet.

mod drbdadm;
mod drbdd;
mod drbdmeta;
mod drbdsetup;
mod overview;

use std::process::ExitCode;

/// One program that this binary can be.
struct Applet {
    /// Name without the suffixes `-83` and `-84`.
    name: &'static str,
    /// One line for the list.
    help: &'static str,
    /// Its main function: `args[0]` is the name as it was called. Returns the exit status.
    main: fn(&[String]) -> u8,
}

/// Every applet. The list that `drbdbox` prints and the links of `--install` are made from it.
const APPLETS: &[Applet] = &[
    Applet { name: "drbdadm", help: "carries out what drbd.conf says", main: drbdadm::main },
    Applet { name: "drbdsetup", help: "talks to the daemon, one object at a time", main: drbdsetup::main },
    Applet { name: "drbdmeta", help: "works on meta data while it is not in use", main: drbdmeta::main },
    Applet { name: "drbdd", help: "the replication daemon", main: drbdd::main },
    Applet { name: "drbd-overview", help: "one line a device", main: overview::main },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let called = args.first().map(String::as_str).unwrap_or("drbdbox");
    if let Some(applet) = find(called) {
        return ExitCode::from((applet.main)(&args));
    }
    match args.get(1).and_then(|a| find(a)) {
        Some(applet) => ExitCode::from((applet.main)(&args[1..])),
        None => {
            for applet in APPLETS {
                println!("{:16}{}", applet.name, applet.help);
            }
            ExitCode::from(u8::from(args.len() > 1))
        }
    }
}

/// Looks up an applet by a path or name; `-83`, `-84` and `-9` choose a dialect, not an applet.
fn find(called: &str) -> Option<&'static Applet> {
    let base = called.rsplit('/').next().unwrap_or(called);
    let name = ["-83", "-84", "-9"].iter().find_map(|s| base.strip_suffix(s)).unwrap_or(base);
    APPLETS.iter().find(|a| a.name == name)
}
