//! The applet `drbd-overview`: one line a device. spec/system.md 4.1.
//!
//! Guests of Xen and of libvirt are not looked up.

pub mod manual;

use drbdbox::conf::Dialect;
use drbdbox::control::{Call, Client, Reply, Request};
use drbdbox::status::overview;
use drbdbox::sys::{paths, terminal};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Runs the applet; `args[0]` is its name as called. Returns the exit status.
pub fn main(args: &[String]) -> u8 {
    let called = args.first().map_or("drbd-overview", String::as_str);
    let form = Dialect::of_program(called);
    let mut words = args.get(1..).unwrap_or(&[]);
    let mut file = None;
    if let [option, path, rest @ ..] = words {
        if option == "--proc-drbd" {
            file = Some(path.clone());
            words = rest;
        }
    }
    let show_errors = words.iter().any(|word| word == "-d");
    if let Some(unknown) = words.iter().find(|word| *word != "-d") {
        eprintln!("{called}: {unknown}: not known; usage: drbd-overview [--proc-drbd FILE] [-d]");
        return 1;
    }
    if form == Dialect::V84 {
        eprintln!("NOTE: drbd-overview will be deprecated soon.");
    }
    let text = match file {
        Some(path) => std::fs::read_to_string(path).ok(),
        None => proc_text(),
    };
    let Some(text) = text else {
        print("drbd not loaded\n");
        return 0;
    };
    let mut known = configured(show_errors);
    // Mount points go before "ll-dev of", physical volumes before both.
    let df = output_of("df", &["-TPhl", "-x", "tmpfs"], show_errors);
    let pvs = ["--noheadings", "--units", "g", "-o", "pv_name,vg_name,pv_size,pv_used"];
    let pvs = output_of("pvs", &pvs, show_errors);
    for uses in [overview::mounts(&df), overview::physical_volumes(&pvs)] {
        for (minor, cells) in uses {
            known.entry(minor).or_default().usage = cells;
        }
    }
    let stdout = std::io::stdout();
    let look = overview::Look { color: terminal::takes_colors(&stdout), finish: stdout.is_terminal() };
    print(&overview::table(&text, &known, form, look));
    0
}

fn print(text: &str) {
    // A reader that has gone is no reason to fail.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// The text of /proc/drbd: from the daemon, else from its file, else from a kernel module.
fn proc_text() -> Option<String> {
    let answer = Client::connect(&paths::socket()).and_then(|c| c.call(&Call::new(Request::ProcText)));
    if let Ok(Reply::Text(text)) = answer {
        return Some(text);
    }
    let files = [paths::proc_text(), "/proc/drbd".into()];
    files.iter().find_map(|path| std::fs::read_to_string(path).ok())
}

/// What the configuration says; names of resources that only the daemon knows are added.
fn configured(show_errors: bool) -> BTreeMap<u32, overview::Known> {
    let mut known = match std::env::current_exe() {
        Ok(exe) => {
            let mut drbdadm = Command::new(exe);
            drbdadm.arg0("drbdadm").arg("sh-status");
            overview::names(&run(drbdadm, show_errors))
        }
        Err(_) => BTreeMap::new(),
    };
    let snapshot = Client::look();
    for (resource, volume) in snapshot.iter().flat_map(|s| s.volumes()) {
        if volume.state.is_unconfigured() {
            continue;
        }
        let about = known.entry(volume.minor).or_default();
        if about.name.is_empty() {
            about.name = resource.name.clone();
            about.volume = Some(volume.number.into());
        }
    }
    known
}

/// What a program prints; nothing if it is not there.
fn output_of(program: &str, arguments: &[&str], show_errors: bool) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    run(command, show_errors)
}

fn run(mut command: Command, show_errors: bool) -> String {
    command.stdin(Stdio::null());
    command.stderr(if show_errors { Stdio::inherit() } else { Stdio::null() });
    match command.output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(_) => String::new(),
    }
}
