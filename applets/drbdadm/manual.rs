//! Page of the manual: drbdadm(8), made of the tables of commands and options.

use super::arguments::{allowed_options, OWN};
use super::table::{Action, Command, Options, Scope, COMMANDS};
use crate::man::{self, page::Page};
use drbdbox::conf::options::{self, Section};
use drbdbox::conf::Dialect;

/// What the options of drbdadm itself do.
const OPTIONS: &[(&str, &str)] = &[
    ("stacked", "Take the words for names of stacked resources; without it they are names of resources that lie on disks."),
    ("dry-run", "Print what would be called, and do nothing."),
    ("verbose", "Print what is called, and call it."),
    ("config-file", "Read this file. `-` is standard input."),
    ("config-to-test", "Read this file, too, and say whether it fits the first one; nothing is done. For tools that change the configuration."),
    ("drbdsetup", "Call this program instead of the drbdsetup in the same binary."),
    ("drbdmeta", "Call this program instead of the drbdmeta in the same binary."),
    ("drbd-proxy-ctl", "Call this program for DRBD Proxy."),
    ("sh-varname", "What commands for scripts print becomes a shell variable of this name."),
    ("force", "Do not ask. 8.4 gives this option to the command behind which it stands."),
    ("peer", "Connect to the host of this name, where the file has more than two."),
    ("version", "Print the versions, as lines for a shell."),
    ("setup-option", "Give this option to drbdsetup."),
    ("help", "Print a summary; behind a command, what it takes."),
    ("watch", "With `status`: draw it every second, until Ctrl-C."),
];

/// What the commands do. Handlers are described in drbd.conf(5).
const HELP: &[(&str, &str)] = &[
    ("attach", "Attach the disk to the device."),
    ("disk-options", "Change options of the section disk while the disk is attached."),
    ("detach", "Detach the disk; the device goes on with the peer's."),
    ("connect", "Connect to the peer, now and whenever the connection is lost."),
    ("net-options", "Change options of the section net without a new connection."),
    ("disconnect", "End the connection, and do not try again."),
    ("up", "Do all that the file says: attach, set options, connect."),
    ("resource-options", "Change options of the section options."),
    ("down", "Undo `up`: disconnect, detach, forget the resource. Refused while a device is in use."),
    ("primary", "Make it Primary: the device can be used. Needs access to good data; with force, takes those of this disk for good."),
    ("secondary", "Make it Secondary: the device cannot be used. Refused while something has it open."),
    ("invalidate", "Take the data of this disk for bad, and copy those of the peer."),
    ("invalidate-remote", "Take the data of the peer's disk for bad, and copy those of this disk."),
    ("outdate", "Mark the data of this disk as old: it does not become Primary before it has been copied to."),
    ("resize", "Use what has been added to the disks of both hosts."),
    ("syncer", "Set the options of 8.3's section syncer."),
    ("verify", "Compare all blocks with the peer's. Those that differ are logged, and copied after the next connection."),
    ("pause-sync", "Hold a resync up."),
    ("resume-sync", "Let a resync go on that `pause-sync` holds up."),
    ("adjust", "Compare the file with what is configured, and do what makes them equal."),
    ("adjust-with-progress", "The same, with a line for the init script."),
    ("wait-connect", "Wait until it is connected, as the section startup says."),
    ("wait-con-int", "Wait until all are connected; on a terminal, show the time, and let it be ended by typing yes."),
    ("role", "Print the roles, the own one first."),
    ("cstate", "Print the state of the connection."),
    ("dstate", "Print the states of the disks, the own one first. Without a daemon, that in the meta data."),
    ("dump", "Print the file as it was understood."),
    ("dump-xml", "The same in XML."),
    ("create-md", "Write new meta data. What it finds on the disk it asks about, or refuses to overwrite."),
    ("show-gi", "Print the generations of the data, and what they mean."),
    ("get-gi", "Print the generations of the data on one line."),
    ("dump-md", "Print the meta data as a text that drbdmeta can restore. Needs a disk that is not attached."),
    ("wipe-md", "Remove the meta data."),
    ("apply-al", "Mark what a crashed Primary may have been writing as out of sync."),
    ("hidden-commands", "List the commands that the summary leaves out."),
    ("status", "Print roles, states and running resyncs: on a terminal for people, in a pipe for programs."),
    ("sh-nop", "Read the file, and do nothing else."),
    ("sh-resources", "Print the names of all resources on one line."),
    ("sh-resource", "Print the name of the resource."),
    ("sh-mod-parms", "Print the parameters that a kernel module would get."),
    ("sh-dev", "Print the path of the device."),
    ("sh-udev", "Print names of the device for udev."),
    ("sh-udev-backing", "Print the names of the device that the kernel's device (`nbd0`) is behind. For the udev rule."),
    ("sh-minor", "Print the minor."),
    ("sh-ll-dev", "Print the path of the disk."),
    ("sh-md-dev", "Print the path of the device with the meta data."),
    ("sh-md-idx", "Print where the meta data are: internal, flexible, or a number."),
    ("sh-ip", "Print the own address."),
    ("sh-lr-of", "Print the resource that a stacked one lies on."),
    ("sh-b-pri", "Make it Primary if `become-primary-on` says so."),
    ("sh-status", "Print everything as shell variables."),
    ("proxy-up", "Set up the connection in DRBD Proxy."),
    ("proxy-down", "Remove it from there."),
    ("new-resource", "Create the resource in the daemon, without devices."),
    ("sh-new-minor", "Create the device in the daemon, without a disk."),
    ("new-minor", "The same."),
    ("suspend-io", "Hold up all requests to the device."),
    ("resume-io", "Let requests go on that were held up."),
    ("set-gi", "Write generations into the meta data, in the form that `get-gi` prints."),
    ("new-current-uuid", "Begin a new generation of the data. With clear-bitmap, before the first connection, both disks count as equal."),
    ("check-resize", "Move internal meta data to the end of a disk that has changed its size."),
    ("proc", "Print the text of /proc/drbd."),
    ("check", "Tell everything that is wrong with a configuration, or dangerous, at once. drbd.conf(5) lists what it finds."),
];

fn help(name: &str) -> &'static str {
    HELP.iter().find(|(command, _)| *command == name).map_or("", |(_, text)| text)
}

/// The page.
pub fn page() -> Page {
    let mut page = Page::new("drbdadm", 8, crate::about("drbdadm"));
    page.heading("SYNOPSIS");
    page.text("`drbdadm` [OPTION...] [`--` OPTION-OF-DRBDSETUP...] COMMAND {`all` | RESOURCE...}");
    page.paragraph("`drbdadm-84` [OPTION...] COMMAND [OPTION...] {`all` | RESOURCE[`/`VOLUME]...}");
    page.heading("DESCRIPTION");
    page.text(
        "Reads drbd.conf(5) and calls drbdsetup(8) and drbdmeta(8) for the resources that are named. A command that configures starts the \
         daemon, drbdd(8), if none runs. Under the name `drbdadm-84`, and for a file that has a `volume`, texts and exit status are those of \
         DRBD 8.4, else of 8.3.16.",
    );
    page.heading("OPTIONS");
    for option in OWN {
        let value = if option.argument { " VALUE" } else { "" };
        let short =
            if option.short == '\0' { String::new() } else { format!(", `-{}`{value}", option.short) };
        let text = OPTIONS.iter().find(|(long, _)| *long == option.long).map_or("", |(_, text)| text);
        page.item(&format!("`--{}`{value}{short}", option.long), text);
    }
    page.heading("COMMANDS");
    let level = |command: &Command| match (command.level(Dialect::V83), command.level(Dialect::V84)) {
        // What neither summary shows is our own, or for experts.
        (0, 0) => 1,
        (old, new) => old.max(new),
    };
    for (wanted, title) in [(1, ""), (2, "For scripts"), (4, "For experts")] {
        if !title.is_empty() {
            page.subheading(title);
        }
        for command in COMMANDS.iter().filter(|c| level(c) == wanted && c.action != Action::Handler) {
            about(&mut page, command);
        }
    }
    page.subheading("Called by the daemon");
    page.text("Each runs the handler of its name, which drbd.conf(5) describes:");
    let handlers = COMMANDS.iter().filter(|c| c.action == Action::Handler).map(|c| format!("`{}`", c.name));
    page.text(&format!("{}.", handlers.collect::<Vec<_>>().join(", ")));
    page.heading("EXIT STATUS");
    page.text("0 if all was done. Else that of the program that was called, if it was one:");
    for (status, text) in [
        ("3", "wrong words on the command line"),
        ("10", "the file is wrong; or drbdsetup or the daemon has refused something"),
        ("11", "`secondary`: the device is held open; `primary`: the peer is Primary"),
        ("17", "`primary`: there are no good data"),
        (
            "20",
            "no daemon answers, the file cannot be read, a called program took too long, and other failures",
        ),
        ("40", "`create-md`: there are data on the disk that must not be overwritten"),
    ] {
        page.item(status, &format!("{text}."));
    }
    page.heading("ENVIRONMENT");
    page.item("`DRBDD_AUTOSTART=no`", "Do not start the daemon.");
    page.item(
        "`DRBD_DONT_WARN_ON_VERSION_MISMATCH`",
        "Accepted, without effect: tools and daemon are one program.",
    );
    page.heading("FILES");
    page.item("`/etc/drbd.conf`", "The configuration; drbd.conf(5) tells which other names are tried first.");
    page.item("`/run/drbd/proc`", "The text of /proc/drbd.");
    page.see_also(man::ALL);
    page
}

fn about(page: &mut Page, command: &Command) {
    let object = match (command.action, command.scope) {
        (Action::Check, _) => " [FILE]",
        (Action::Status, _) => " [RESOURCE...]",
        (_, Scope::Nothing) => "",
        (_, Scope::Resource) => " RESOURCE",
        _ => " RESOURCE[/VOLUME]",
    };
    page.item(&format!("`{}`{object}", command.name), help(command.name));
    let only = match (command.level(Dialect::V83), command.level(Dialect::V84)) {
        (0, 1..) => "In the list of 8.4 only.",
        (1.., 0) if command.action != Action::Status => "In the list of 8.3 only.",
        _ => "",
    };
    page.text(only);
    let section = match command.options {
        Options::Attach | Options::Disk => Some(Section::Disk),
        Options::Connect | Options::Net => Some(Section::Net),
        Options::Resource => Some(Section::Options),
        Options::None | Options::Any | Options::Switches => None,
    };
    if let Some(section) = section {
        page.text(&format!("Takes the options of the section `{}` of drbd.conf(5).", section.word()));
    }
    // Settings are in drbd.conf(5); what stands on the command line only is told here.
    let more = allowed_options(command)
        .into_iter()
        .filter(|(name, _)| options::find(name).is_none_or(|row| row.scope == options::Scope::OneShot));
    let more: Vec<String> = more.map(|(name, _)| format!("`--{name}`")).collect();
    if !more.is_empty() {
        page.text(&format!("Options: {}.", more.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_is_described() {
        for command in COMMANDS.iter().filter(|c| c.action != Action::Handler) {
            assert!(!help(command.name).is_empty(), "{}", command.name);
        }
        assert!(HELP.iter().all(|(name, _)| super::super::table::find(name).is_some()));
        assert_eq!(OPTIONS.len(), OWN.len());
        for option in OWN {
            assert!(OPTIONS.iter().any(|(long, _)| *long == option.long), "{}", option.long);
        }
    }
}
