//! Page of the manual: drbdsetup(8), made of the table of commands.

use super::table::{Command, Object, OwnKind, Spec, Target, TABLE};
use crate::man::{self, page::Page};
use drbdbox::conf::Dialect;

/// What the commands do.
const HELP: &[(&str, &str)] = &[
    ("primary", "Makes it Primary: the device can be used. Without good data, `--overwrite-data-of-peer` (8.4: `--force`) takes those of this disk for good."),
    ("secondary", "Makes it Secondary. Refused while something has the device open."),
    ("disk", "Attaches a disk, with its meta data."),
    ("attach", "Attaches a disk, with its meta data."),
    ("disk-options", "Changes options of an attached disk. `--set-defaults` first sets all others to their defaults."),
    ("detach", "Detaches the disk. With `--force`, does not wait for its requests."),
    ("net", "Connects: the own address, the peer's, the protocol."),
    ("connect", "Connects: the own address and the peer's."),
    ("net-options", "Changes options of a connection. `--set-defaults` first sets all others to their defaults."),
    ("disconnect", "Ends the connection. With `--force`, does not wait for the peer's consent."),
    ("resize", "Uses what has been added to the disks. `--size` uses less than all; `--assume-peer-has-space` does it without a peer; `--assume-clean` does not copy what is new."),
    ("syncer", "Sets the options of 8.3's section syncer."),
    ("resource-options", "Changes options of a resource. `--set-defaults` first sets all others to their defaults."),
    ("new-current-uuid", "Begins a new generation of the data. `--clear-bitmap`, before the first connection: both disks count as equal, nothing is copied."),
    ("invalidate", "Takes the data of this disk for bad, and copies those of the peer."),
    ("invalidate-remote", "Takes the data of the peer's disk for bad, and copies those of this disk."),
    ("pause-sync", "Holds a resync up."),
    ("resume-sync", "Lets a resync go on that `pause-sync` holds up."),
    ("suspend-io", "Holds up all requests to the device."),
    ("resume-io", "Lets requests go on that were held up."),
    ("outdate", "Marks the data of this disk as old. Exit status 5: they are Inconsistent; 17: it is Primary."),
    ("verify", "Compares all blocks with the peer's, from `--start` to `--stop`."),
    ("down", "Takes the device, or the resource, out of the daemon. Succeeds if it is not there, or no daemon runs."),
    ("state", "Prints the roles, the own one first."),
    ("role", "Prints the roles, the own one first."),
    ("status", "8.3: an XML element for the device. 8.4: roles and states for people; of 9 is `--json`."),
    ("sh-status", "Prints everything as shell variables, and the word `_sh_status_process` behind each device."),
    ("cstate", "Prints the state of the connection."),
    ("dstate", "Prints the states of the disks, the own one first."),
    ("show-gi", "Prints the generations of the data, and what they mean."),
    ("get-gi", "Prints the generations of the data on one line."),
    ("show", "Prints the settings in the form of drbd.conf."),
    ("check-resize", "Remembers where the disk is and how large, so that a change of its size is noticed."),
    ("events", "Prints every change of a state, until it is interrupted."),
    ("events2", "The same in the words of 8.4; `--now` ends after the present state. Of 9 are `--full`, `--diff` and `--poll`."),
    ("wait-connect", "Waits until it is connected. Exit status 5: the time is over."),
    ("wait-sync", "Waits until a resync has ended. Exit status 5: the time is over."),
    ("new-resource", "Makes a resource."),
    ("new-minor", "Makes a device of a resource."),
    ("del-minor", "Removes a device without a disk."),
    ("del-resource", "Removes a resource without devices."),
    ("proc", "Prints the text of /proc/drbd."),
];

/// The page.
pub fn page() -> Page {
    let mut page = Page::new("drbdsetup", 8, crate::about("drbdsetup"));
    page.heading("SYNOPSIS");
    page.text("`drbdsetup` DEVICE COMMAND [ARGUMENT...] [OPTION...]");
    page.paragraph("`drbdsetup` COMMAND OBJECT [ARGUMENT...] [OPTION...]");
    page.paragraph("`drbdsetup` `help` [COMMAND]");
    page.heading("DESCRIPTION");
    page.text(
        "Gives orders to the daemon, drbdd(8), and asks it. drbdadm(8) does so with what drbd.conf(5) says. The first form is that of DRBD 8.3: \
         DEVICE is `/dev/drbd0`, or the minor. The second one is that of 8.4: OBJECT is a minor, a resource, or two addresses. The form that is \
         used decides about texts and exit status; under the name `drbdsetup-84` it is always 8.4, under `drbdsetup-83` always 8.3.",
    );
    page.paragraph("Options may be abbreviated. Those of the other form are accepted with their full name.");
    page.heading("COMMANDS");
    let mut done: Vec<&str> = Vec::new();
    for command in TABLE {
        if done.contains(&command.name) {
            continue;
        }
        done.push(command.name);
        let help = HELP.iter().find(|(name, _)| *name == command.name).map_or("", |(_, text)| text);
        page.item(&format!("`{}`", command.name), help);
        for form in [Dialect::V83, Dialect::V84] {
            if let Some(command) = super::table::find(command.name, form) {
                page.more(&synopsis(command, form));
            }
        }
    }
    page.heading("EXIT STATUS");
    for (status, text) in [
        ("0", "Done."),
        ("5", "See `outdate` and the commands that wait."),
        ("10", "The daemon has refused it; the number and text of its answer are on standard error."),
        ("11", "A change of the state was refused, because the device is held open or the peer is Primary."),
        ("17", "A change of the state was refused: there are no good data, or it is Primary."),
        ("20", "Wrong words, or no daemon answers."),
    ] {
        page.item(status, text);
    }
    page.heading("FILES");
    page.item(
        "`/run/drbd/drbdd.sock`",
        "The socket of the daemon. Only root may use it, unless drbdd(8) was told otherwise.",
    );
    page.see_also(man::ALL);
    page
}

/// How the command is called in one form, and its options.
fn synopsis(command: &Command, form: Dialect) -> String {
    let mut made = match (form, command.old, command.new) {
        (Dialect::V83, Some(old), _) => {
            let words: String = old.arguments.iter().map(|argument| format!(" {argument}")).collect();
            format!("8.3: DEVICE `{}`{words}", command.name)
        }
        (_, _, Some(new)) => {
            let object = match new.object {
                Object::Minor => " MINOR",
                Object::Resource => " RESOURCE",
                Object::Addresses => " LOCAL-ADDRESS REMOTE-ADDRESS",
                Object::ResourceAndAddresses => " RESOURCE LOCAL-ADDRESS REMOTE-ADDRESS",
                Object::Any => " {RESOURCE | MINOR | `all`}",
                Object::ResourceOrAll => " [RESOURCE | `all`]",
                Object::Nothing => "",
            };
            let words: String = new.arguments.iter().map(|argument| format!(" {argument}")).collect();
            let release = if command.listed { "8.4: " } else { "" };
            format!("{release}`{}`{object}{words}", command.name)
        }
        _ => String::new(),
    };
    let mut sections: Vec<&str> = Vec::new();
    for spec in command.native_options(form) {
        match spec.target {
            Target::Own(_) => made += &format!(" [{}]", own(&spec)),
            Target::Setting { row, .. } => {
                let word = row.section_in(form).word();
                if !sections.contains(&word) {
                    sections.push(word);
                }
            }
        }
    }
    match sections.as_slice() {
        [] => made,
        sections => format!("{made} [options of the section {} in drbd.conf(5)]", sections.join(", ")),
    }
}

fn own(spec: &Spec) -> String {
    let value = match spec.target {
        Target::Own(own) => match own.kind {
            OwnKind::Switch | OwnKind::Plain => "",
            OwnKind::Number { .. } => "=NUMBER",
            OwnKind::OptionalText => "[=WHEN]",
            OwnKind::Text => "=VALUE",
            OwnKind::Address => "=ADDRESS",
        },
        Target::Setting { .. } => "",
    };
    match spec.short.filter(|letter| letter.is_ascii_alphabetic()) {
        Some(letter) => format!("`--{}`{value} | `-{letter}`", spec.long),
        None => format!("`--{}`{value}", spec.long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_described() {
        for command in TABLE {
            assert!(HELP.iter().any(|(name, _)| *name == command.name), "{}", command.name);
        }
        assert!(HELP.iter().all(|(name, _)| TABLE.iter().any(|command| command.name == *name)));
    }
}
