//! Page of the manual: drbdmeta(8), made of the tables of commands and options.

use super::{options, scan, COMMANDS, MORE};
use crate::man::{
    self,
    page::{sentence, Page},
};

/// What those commands do that the summary lists without a word.
const HELP: &[(&str, &str)] = &[
    ("get-gi", "Prints the generations of the data on one line."),
    ("show-gi", "Prints the generations of the data, and what they mean; with `--json` for programs."),
    ("dump-md", "Prints the meta data as a text. With `--force` also of a device that is configured."),
    ("restore-md", "Writes what `dump-md` has printed."),
    ("verify-dump", "Reads what `dump-md` has printed, and says whether it could be written."),
    ("create-md", "Writes new meta data. Asks before it overwrites or converts older ones, and refuses where a file system would lose its end."),
    ("wipe-md", "Removes the meta data."),
    ("outdate", "Marks the data of the disk as old."),
    ("invalidate", "Marks the data of the disk as bad: all of them are copied at the next connection."),
    ("dstate", "Prints the state of the disk, and DUnknown for the peer's."),
    ("check-resize", "Moves internal meta data to the end of a device that has changed its size."),
];

/// The page.
pub fn page() -> Page {
    let mut page = Page::new("drbdmeta", 8, crate::about("drbdmeta"));
    page.heading("SYNOPSIS");
    page.text("`drbdmeta` [OPTION...] DEVICE FORMAT [FORMAT-ARGUMENT...] COMMAND [ARGUMENT...]");
    page.paragraph(&format!("`drbdmeta` {}", scan::USAGE));
    page.heading("DESCRIPTION");
    page.text(
        "Reads and writes meta data of DRBD on a disk that no daemon has attached. It needs neither a configuration nor a daemon, and is refused \
         while the device is configured. drbdadm(8) calls it with what drbd.conf(5) says.",
    );
    page.paragraph("DEVICE is `/dev/drbd0` or a minor, whose lock is taken, or `-`. FORMAT is one of these:");
    for (format, text) in [
        ("`v08` DISK `internal`", "DRBD 8, at the end of the disk."),
        ("`v08` DISK `flex-external`", "DRBD 8, on a device of its own."),
        ("`v08` DISK INDEX", "DRBD 8, one of several on a device, 128 MiB each."),
        ("`v07` DISK {`internal` | INDEX}", "DRBD 0.7."),
        ("`v06` MINOR", "DRBD 0.6."),
    ] {
        page.item(format, text);
    }
    page.heading("OPTIONS");
    for (option, help) in options::described() {
        page.item(&option, &sentence(help));
    }
    page.heading("COMMANDS");
    for (words, help) in commands() {
        let (name, arguments) = words.split_once(' ').unwrap_or((&words, ""));
        page.item(format!("`{name}` {arguments}").trim(), &sentence(help));
    }
    page.item(
        &format!("`{}`", scan::NAME),
        "Tells what meta data are on the devices that are named, or on all, in what state the data are, and what to do next. Only reads. \
         A device with good data gets commands that mount them without a daemon.",
    );
    page.heading("EXIT STATUS");
    for (status, text) in [
        ("0", "Done."),
        ("5", "`outdate`: the data are Inconsistent."),
        ("10", "A wrong value, or a device that fails."),
        ("20", "Wrong words, or the device is in use."),
        ("40", "`create-md`: there are data on the disk that must not be overwritten."),
        ("255", "There are no meta data, and other refusals."),
    ] {
        page.item(status, text);
    }
    page.see_also(man::ALL);
    page
}

/// Names with their arguments, and what they do.
fn commands() -> impl Iterator<Item = (String, &'static str)> {
    let listed = COMMANDS.iter().filter_map(|command| {
        let help = HELP.iter().find(|(name, _)| *name == command.name).map_or("", |(_, text)| text);
        Some((format!("{} {}", command.name, command.usage?).trim().to_string(), help))
    });
    listed.chain(MORE.iter().map(|(words, help)| (words.to_string(), *help)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_described() {
        assert!(commands().all(|(_, help)| !help.is_empty()));
        for command in COMMANDS {
            let named = commands().any(|(words, _)| words.split(' ').next() == Some(command.name));
            assert!(named, "{}", command.name);
        }
    }
}
