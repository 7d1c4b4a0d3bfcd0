//! What create-md and restore-md say about data on the device (spec/metadata.md 8).

use std::process::{Command, Stdio};

use super::call::{Call, Failure};
use super::disk::Disk;
use super::ui::{confirmed, say, say_err};
use super::EXIT_ERROR;
use drbdbox::meta::foreign::{self, Content, PROBE_BYTES};
use drbdbox::meta::image::BlockFile;
use drbdbox::meta::Layout;
use drbdbox::sys::buffer::Buffer;

/// Exit status of a refusal.
const EXIT_REFUSED: u8 = 40;
/// Exit status of a question answered with no.
const EXIT_DECLINED: u8 = 1;
/// Last lines of pvs' complaints that are shown.
const PVS_LINES: usize = 4;

const TRUNCATED: &str = "Device size would be truncated, which\n\
    would corrupt data and result in\n\
    'access beyond end of device' errors.";
const HOW_TO_FIT: &str = "You need to either\n\
    \x20  * use external meta data (recommended)\n\
    \x20  * shrink that filesystem first\n\
    \x20  * zero out the device (destroy the filesystem)\n\
    Operation refused.\n";
const HOW_TO_INSIST: &str = "If you want me to do this, you need to zero out the first part\n\
    of the device (destroy the content).\n\
    You should be very sure that you mean it.\n\
    Operation refused.\n";

/// Looks at the start of the device, always from byte 0. Returns if meta data may be written to `layout`.
pub fn check(call: &Call, disk: &Disk, layout: &Layout) -> Result<(), Failure> {
    let content = foreign::detect(&probe(call, disk)?);
    let Some(name) = content.name() else {
        return Ok(());
    };
    say!(
        "md_offset {}\nal_offset {}\nbm_offset {}\n\nFound {name}",
        layout.md_offset,
        layout.al_offset(),
        layout.bm_offset()
    );
    let used_bytes = match content {
        Content::Unknown => {
            say!("\n ==> This might destroy existing data! <==");
            return ask(call);
        }
        _ if !layout.index.is_internal() => {
            say!("\nThis would corrupt existing data.");
            return refuse_unless_insisted(call);
        }
        Content::FileSystem { bytes, .. } => Some(bytes),
        Content::Lvm2 => lvm_bytes(&call.device),
        Content::Swap | Content::Empty => None,
    };
    let usable_kib = layout.first_meta_byte() / 1024;
    let Some(used_kib) = used_bytes.map(|bytes| bytes.div_ceil(1024)) else {
        say!("{usable_kib:12} kB left usable by current configuration");
        if content == Content::Lvm2 {
            say!("Could not determine the size of the actually used data area.\n");
        }
        say!("{TRUNCATED}");
        return refuse_unless_insisted(call);
    };
    say!(
        "{used_kib:12} kB data area apparently used\n\
         {usable_kib:12} kB left usable by current configuration"
    );
    if used_kib > usable_kib {
        say!("\n{TRUNCATED}\n{HOW_TO_FIT}");
        return Err(Failure::silent(EXIT_REFUSED));
    }
    say!(
        "\nEven though it looks like this would place the new meta data into\n\
         unused space, you still need to confirm, as this is only a guess."
    );
    ask(call)
}

fn probe(call: &Call, disk: &Disk) -> Result<Buffer, Failure> {
    if disk.size_bytes() < PROBE_BYTES as u64 {
        return Err(Failure::new(
            EXIT_ERROR,
            format!(
                "confused in check_for_existing_data: expected to read {PROBE_BYTES} bytes, \
                 actually read {}",
                disk.size_bytes()
            ),
        ));
    }
    let mut start = Buffer::zeroed(PROBE_BYTES);
    disk.read_at(0, &mut start).map_err(|error| {
        Failure::new(EXIT_ERROR, format!("cannot read the start of {}: {error}", call.device))
    })?;
    Ok(start)
}

fn ask(call: &Call) -> Result<(), Failure> {
    if confirmed(call, "Do you want to proceed?") {
        return Ok(());
    }
    say!("Operation canceled.");
    Err(Failure::silent(EXIT_DECLINED))
}

fn refuse_unless_insisted(call: &Call) -> Result<(), Failure> {
    if call.options.ignore_sanity_checks {
        say!("\nIgnoring sanity check on user request.\n");
        return Ok(());
    }
    say!("{HOW_TO_INSIST}");
    Err(Failure::silent(EXIT_REFUSED))
}

/// Asks LVM's own tool for the size of a physical volume.
fn lvm_bytes(device: &str) -> Option<u64> {
    let output = Command::new("pvs")
        .args(["-vvv", "--noheadings", "--nosuffix", "--units", "s"])
        .args(["-o", "pv_size", device])
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        say_err!();
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let sectors = text.split_whitespace().next().and_then(|word| word.split('.').next()?.parse::<u64>().ok());
    if sectors.is_none() {
        let complaints = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = complaints.lines().collect();
        for line in &lines[lines.len().saturating_sub(PVS_LINES)..] {
            say_err!("pvs stderr:{line}");
        }
        say_err!();
    }
    sectors.map(|sectors| sectors.saturating_mul(512))
}
