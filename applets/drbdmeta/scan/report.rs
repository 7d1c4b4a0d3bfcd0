//! What is known about one device.

use std::path::Path;

use serde::Serialize;

use super::super::in_use::{self, User};
use super::super::json::MetaJson;
use super::super::last_known::{self, LastKnown};
use super::super::progress::Progress;
use super::{advice, content, devices};
use drbdbox::meta::damage::Damaged;
use drbdbox::meta::foreign::PROBE_BYTES;
use drbdbox::meta::image::BlockFile;
use drbdbox::meta::layout::{BYTES_PER_BIT, SECTOR_BYTES};
use drbdbox::meta::survey::{Content, Finding, OutOfSync, Place, Survey};
use drbdbox::meta::MetaFlags;
use drbdbox::status::snapshot::Snapshot;
use drbdbox::sys::block_device::{error_text, same_device, BlockDevice, Claim, OpenMode};
use drbdbox::sys::buffer::Buffer;

/// One device.
#[derive(Debug, Serialize)]
pub struct DeviceReport {
    /// Path as given.
    pub device: String,
    /// Its size; absent if it cannot be opened.
    pub bytes: Option<u64>,
    /// Why nothing is known about it.
    pub error: Option<String>,
    /// Places where meta data might be, and that cannot be read.
    pub unreadable: Vec<String>,
    /// What else is to be said.
    pub remarks: Vec<String>,
    /// Who uses it.
    pub in_use: Option<String>,
    /// What was found.
    pub meta_data: Vec<MetaReport>,
}

/// One super block with what follows from it.
#[derive(Debug, Serialize)]
pub struct MetaReport {
    /// `v07`, `v08`, `v09`.
    pub format: &'static str,
    /// The place is that of a size in bytes that the device had before.
    pub former_device_bytes: Option<u64>,
    /// The fields; of other formats what they convert to.
    #[serde(flatten)]
    pub fields: MetaJson,
    /// What cannot be right.
    pub damage: Vec<String>,
    /// Known only of v08.
    pub out_of_sync: Option<OutOfSyncReport>,
    /// The data; absent if they are on another device.
    pub data: Option<DataReport>,
    /// The next command, in words.
    pub next: String,
    /// Why reading the data without a daemon is dangerous, or useless.
    pub dangers: Vec<String>,
    /// Commands that make the data readable, without writing; DATA-DEVICE and DIRECTORY are to be replaced.
    pub read_only_commands: Vec<String>,
    #[serde(skip)]
    pub(super) place: Place,
    #[serde(skip)]
    pub(super) minor: Option<u32>,
}

/// Bytes that are out of sync.
#[derive(Debug, Serialize)]
pub struct OutOfSyncReport {
    /// All blocks, whatever the bitmap says.
    pub everything: bool,
    /// Bytes by the bitmap.
    pub bytes: u64,
    /// Bytes that the activity log may add.
    pub activity_log_bytes: u64,
    /// Pages of the bitmap that cannot be read; they count as out of sync.
    pub unreadable_pages: u64,
}

/// Data on the same device.
#[derive(Debug, Serialize)]
pub struct DataReport {
    /// Byte offset of the first block.
    pub starts_at: u64,
    /// Bytes: the last agreed size, or all in front of the meta data.
    pub bytes: u64,
    /// What they begin with.
    pub content: String,
    /// Arguments of mount.
    #[serde(skip)]
    pub mount: Option<&'static str>,
}

/// Looks at one device.
pub fn look_at(device: &str, snapshot: Option<&Snapshot>) -> DeviceReport {
    let mut report = DeviceReport {
        device: device.to_string(),
        bytes: None,
        error: None,
        unreadable: Vec::new(),
        remarks: Vec::new(),
        in_use: None,
        meta_data: Vec::new(),
    };
    let mode = OpenMode { read_only: true, claim: Claim::None };
    let file = match BlockDevice::open(Path::new(device), mode) {
        Ok(file) => file,
        Err(error) => {
            report.error = Some(error.to_string());
            return report;
        }
    };
    report.bytes = Some(file.size_bytes());
    let records: Vec<(u32, LastKnown)> = last_known::all()
        .into_iter()
        .filter(|(_, record)| record.path.as_deref().is_some_and(|path| same_device(path, device)))
        .collect();
    let former: Vec<u64> = records.iter().map(|(_, record)| record.bytes).collect();
    let mut progress = Progress::new("looking for meta data");
    let mut survey = Survey::of(&file, &former, &mut |done, total| progress.show(done, total));
    progress.end();
    survey.findings.retain(|found| match devices::partition_ending_at(device, found.offset()) {
        Some(partition) => {
            report.remarks.push(format!("what lies at its end belongs to {partition}: scan that"));
            false
        }
        None => true,
    });
    report.unreadable = survey
        .unreadable
        .iter()
        .map(|(offset, error)| format!("cannot read at byte {offset}: {}", error_text(error)))
        .collect();
    if survey.findings.is_empty() {
        return report;
    }
    let user = in_use::user_of(snapshot, device);
    report.in_use = user.map(|user| user.to_string());
    let minor = records.first().map(|(minor, _)| *minor);
    report.meta_data =
        survey.findings.into_iter().map(|found| about(&file, device, &found, minor, user)).collect();
    report
}

fn about(
    file: &BlockDevice,
    device: &str,
    found: &Finding,
    minor: Option<u32>,
    user: Option<User>,
) -> MetaReport {
    let (damaged, is_v08) = match &found.content {
        Content::V08(damaged) => (damaged.clone(), true),
        Content::Other { block, layout } => {
            let complaints = Vec::new();
            (Damaged { super_block: block.convert(layout), layout: *layout, complaints }, false)
        }
    };
    let layout = &damaged.layout;
    let flags = damaged.super_block.flags;
    let mut report = MetaReport {
        format: found.format(),
        former_device_bytes: match found.place {
            Place::FormerEnd(bytes) => Some(bytes),
            _ => None,
        },
        fields: MetaJson::new(&damaged.super_block, layout),
        damage: damaged
            .complaints
            .iter()
            .map(|c| format!("{} is {}, expected {}", c.field, c.found, c.expected))
            .collect(),
        out_of_sync: is_v08.then(|| out_of_sync(file, &damaged)),
        data: layout.index.is_internal().then(|| data(file, &damaged)),
        next: String::new(),
        dangers: Vec::new(),
        read_only_commands: Vec::new(),
        place: found.place,
        minor,
    };
    report.next = advice::next(device, &report, &damaged.super_block);
    report.dangers = advice::dangers(&report, flags, user);
    report.read_only_commands = advice::read_only_commands(device, &report);
    report
}

fn out_of_sync(file: &BlockDevice, damaged: &Damaged) -> OutOfSyncReport {
    let mut progress = Progress::new("reading the bitmap");
    let counted = OutOfSync::of(file, damaged, &mut |done, total| progress.show(done, total));
    let flags = damaged.super_block.flags;
    OutOfSyncReport {
        everything: damaged.super_block.effective_size_sectors == 0
            || flags.contains(MetaFlags::FULL_SYNC)
            || counted.log_is_lost,
        bytes: counted.bits * BYTES_PER_BIT,
        activity_log_bytes: counted.hot_extents * drbdbox::meta::activity_log::EXTENT_BYTES,
        unreadable_pages: counted.unreadable_pages,
    }
}

fn data(file: &BlockDevice, damaged: &Damaged) -> DataReport {
    let room = damaged.layout.first_meta_byte();
    let bytes = match damaged.super_block.effective_size_sectors.saturating_mul(SECTOR_BYTES) {
        0 => room,
        bytes => bytes.min(room),
    };
    let len = PROBE_BYTES.min(usize::try_from(file.size_bytes()).unwrap_or(PROBE_BYTES));
    let mut start = Buffer::zeroed(len);
    let (content, mount) = match BlockFile::read_at(file, 0, &mut start) {
        Ok(()) => {
            let start = content::detect(&start);
            (start.name, start.mount)
        }
        Err(error) => (format!("cannot be read: {}", error_text(&error)), None),
    };
    DataReport { starts_at: 0, bytes, content, mount }
}
