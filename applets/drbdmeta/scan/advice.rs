//! What to do with meta data that were found, and how to read the data without a daemon.

use super::super::in_use::User;
use super::report::{DeviceReport, MetaReport};
use drbdbox::meta::survey::Place;
use drbdbox::meta::{MetaFlags, SuperBlock, UUID_JUST_CREATED};

/// Written once below every list of commands.
const NEVER_WRITE: &str =
    "Never write to the data this way: DRBD would not know of it, and would not copy it.";

/// The next step: a word for the table, `: `, and what it means.
pub fn next(device: &str, found: &MetaReport, super_block: &SuperBlock) -> String {
    let index = &found.fields.index;
    // `-` stands for a minor that is not known, so that the command can be used as it is.
    let minor = found.minor.map_or("-".to_string(), |minor| minor.to_string());
    if !found.damage.is_empty() {
        return format!(
            "dump-md: 'drbdmeta - v08 {device} {index} dump-md >FILE' saves what can be read; correct FILE, then \
             'drbdmeta {minor} v08 {device} {index} restore-md FILE'"
        );
    }
    if matches!(found.place, Place::FormerEnd(_)) {
        return format!(
            "check-resize: the device changed its size; 'drbdmeta {minor} v08 {device} internal check-resize' moves \
             the meta data to its end"
        );
    }
    if found.format != "v08" {
        return format!(
            "create-md: 'drbdmeta {minor} v08 {device} {index} create-md' asks, and converts it to v08"
        );
    }
    if super_block.effective_size_sectors == 0 && super_block.uuids[0] == UUID_JUST_CREATED {
        return "drbdadm up: it was never in use".to_string();
    }
    if !super_block.flags.contains(MetaFlags::CONSISTENT) {
        return "drbdadm up: the peer has the data, and a resync copies them here".to_string();
    }
    if !found.fields.is_clean {
        return format!(
            "drbdadm up: marks what was being written as out of sync; so does 'drbdmeta {minor} v08 {device} {index} \
             apply-al', without a daemon"
        );
    }
    "drbdadm up: nothing is to be done before".to_string()
}

/// Why the data should not be read past the daemon, or may not be what is looked for.
pub fn dangers(found: &MetaReport, flags: MetaFlags, user: Option<User>) -> Vec<String> {
    let mut dangers = Vec::new();
    match user {
        Some(User::Daemon(minor)) => dangers.push(format!(
            "In use: minor {minor} is attached to it. Use /dev/drbd{minor} on the Primary; what is read past the \
             daemon changes meanwhile, and a file system that is mounted twice is destroyed."
        )),
        Some(User::Other) => dangers.push(
            "In use: somebody holds the device (a mount, swap, LVM, md, a DRBD module, another program). End that \
             first."
                .to_string(),
        ),
        None => {}
    }
    if !found.damage.is_empty() {
        dangers.push("Damaged: what the super block says about the data may be wrong.".to_string());
    }
    // What was there before the meta data were created is as it was.
    let is_in_use = found.fields.last_agreed_sectors > 0;
    if is_in_use && !flags.contains(MetaFlags::CONSISTENT) {
        dangers.push(
            "Inconsistent: a resync into this disk did not end (or never began). Old and new blocks are mixed; take the \
             peer's data if there are any."
                .to_string(),
        );
    } else if is_in_use && !flags.contains(MetaFlags::WAS_UP_TO_DATE) {
        dangers.push("Outdated: the peer went on without this disk, and has newer data.".to_string());
    }
    if !found.fields.is_clean || flags.contains(MetaFlags::CRASHED_PRIMARY) {
        dangers.push(
            "Unclean: this host was Primary when it went down, so the file system was not unmounted. Without its \
             journal, the newest changes are missing; the commands below do not replay it."
                .to_string(),
        );
    }
    dangers
}

/// Commands that mount the data without writing one byte. None while somebody uses the device.
pub fn read_only_commands(device: &str, found: &MetaReport) -> Vec<String> {
    if found.dangers.iter().any(|danger| danger.starts_with("In use")) {
        return Vec::new();
    }
    let Some(data) = &found.data else {
        return vec![
            "losetup --read-only --find --show DATA-DEVICE".to_string(),
            "mount -o ro LOOP-DEVICE DIRECTORY    # ext3, ext4: -o ro,noload; xfs: -o ro,norecovery"
                .to_string(),
        ];
    };
    let mut commands = vec![format!("losetup --read-only --sizelimit {} --find --show {device}", data.bytes)];
    match (data.mount, data.content.as_str()) {
        (Some(mount), _) => commands.push(format!("mount {mount} LOOP-DEVICE DIRECTORY")),
        (None, "partition table or boot sector") => commands.push("partx --add LOOP-DEVICE".to_string()),
        (None, _) => commands.push("blkid -p LOOP-DEVICE".to_string()),
    }
    commands
}

/// The paragraph about one super block.
pub fn text(report: &DeviceReport, found: &MetaReport) -> String {
    let mut lines = vec![format!("\n{}, {} {}", report.device, found.format, found.fields.index)];
    let mut item = |text: String| lines.push(format!("  {text}"));
    for damage in &found.damage {
        item(format!("damage: {damage}"));
    }
    item(format!("next: {}", found.next));
    match &found.data {
        Some(data) => {
            item(format!("data: {} bytes from byte {} on, {}", data.bytes, data.starts_at, data.content))
        }
        None => item("data: on another device ('disk' in drbd.conf), from its byte 0 on".to_string()),
    }
    if let Some(out) = found.out_of_sync.as_ref().filter(|out| out.unreadable_pages > 0) {
        item(format!(
            "{} pages of the bitmap cannot be read; they count as out of sync",
            out.unreadable_pages
        ));
    }
    for danger in &found.dangers {
        item(format!("! {danger}"));
    }
    if !found.read_only_commands.is_empty() {
        item("to read the data without a daemon:".to_string());
        for command in &found.read_only_commands {
            item(format!("    {command}"));
        }
        item(NEVER_WRITE.to_string());
    }
    lines.join("\n")
}
