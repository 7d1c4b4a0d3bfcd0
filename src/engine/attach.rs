//! Opens a disk for a volume: devices, placement, super block, activity log, bitmap.
//! spec/state.md 13.3 steps 2 to 15, spec/metadata.md 13. What follows is core's.

use super::disk;
use super::runner::{BackingPaths, Runner};
use crate::conf::settings::DiskSettings;
use crate::conf::Dialect;
use crate::core::codes::ConfigCode;
use crate::core::types::{AttachedDisk, Level, VolumeIndex};
use crate::meta::activity_log::{replay, LogFormat};
use crate::meta::layout::SECTOR_BYTES;
use crate::meta::{bitmap, image, Layout, LogGeometry, MetaError, MetaFlags, MetaIndex, SuperBlock};
use crate::sys::block_device::{same_device, BlockDevice, Claim, OpenError, OpenMode};
use std::path::Path;
use std::sync::Arc;

/// An opened disk.
#[derive(Debug)]
pub struct Opened {
    /// The lower device.
    pub data: Arc<BlockDevice>,
    /// The device with the meta data; for internal meta data the same.
    pub meta: Arc<BlockDevice>,
    /// What core has to know.
    pub attached: AttachedDisk,
}

/// Why a disk cannot be attached: the reply's code, its explanations, and lines for the log.
#[derive(Debug)]
pub struct Refusal {
    /// Code of the reply.
    pub code: ConfigCode,
    /// "additional info from kernel".
    pub info: Vec<String>,
    /// For the log.
    pub log: Vec<(Level, String)>,
}

impl Refusal {
    fn new(code: ConfigCode, level: Level, text: impl Into<String>) -> Refusal {
        Refusal { code, info: Vec::new(), log: vec![(level, text.into())] }
    }
}

impl From<ConfigCode> for Refusal {
    fn from(code: ConfigCode) -> Refusal {
        Refusal { code, info: Vec::new(), log: Vec::new() }
    }
}

/// The kind of placement behind an index number. -1 is 8.3's flexible internal.
pub fn meta_index(number: i32) -> Option<MetaIndex> {
    match number {
        -3 | -1 => Some(MetaIndex::Internal),
        -2 => Some(MetaIndex::FlexExternal),
        slot => u8::try_from(slot).ok().map(MetaIndex::Indexed),
    }
}

/// Opens the devices and reads the meta data.
///
/// # Errors
/// As the commands `disk` and `attach` refuse, in the order of `form`.
pub fn open(paths: &BackingPaths, settings: DiskSettings, form: Dialect) -> Result<Opened, Refusal> {
    let index = meta_index(paths.meta_index).ok_or(ConfigCode::MetaDiskIndexInvalid)?;
    let data = open_device(&paths.lower_device, Claim::Exclusive, ConfigCode::OpenDisk)?;
    let data = Arc::new(data);
    match (same_device(&paths.lower_device, &paths.meta_device), index) {
        (true, MetaIndex::Internal) => {}
        (false, MetaIndex::FlexExternal | MetaIndex::Indexed(_)) => {}
        // The claim of the data excludes the shared one.
        (true, MetaIndex::Indexed(_)) => return Err(ConfigCode::OpenMetaDisk.into()),
        (true, MetaIndex::FlexExternal) | (false, MetaIndex::Internal) => {
            return Err(ConfigCode::MetaDiskIndexInvalid.into());
        }
    }
    let meta = match index {
        MetaIndex::Internal => Arc::clone(&data),
        MetaIndex::FlexExternal => {
            Arc::new(open_device(&paths.meta_device, Claim::Exclusive, ConfigCode::OpenMetaDisk)?)
        }
        MetaIndex::Indexed(_) => {
            Arc::new(open_device(&paths.meta_device, Claim::Shared, ConfigCode::OpenMetaDisk)?)
        }
    };
    if form == Dialect::V83 {
        check_sizes(&data, &meta, index, LogGeometry::CLASSIC, &settings)?;
    }
    let (super_block, layout) = image::read_super_block(&*meta, index).map_err(refusal_of)?;
    let maximum = check_sizes(&data, &meta, index, layout.log, &settings)?;
    let mut log_lines = Vec::new();
    if data.size_bytes() / SECTOR_BYTES > maximum && !index.is_internal() {
        let text = format!(
            "==> truncating very big lower level device to currently maximum possible {maximum} sectors <=="
        );
        log_lines.push((Level::Warning, text));
        if matches!(index, MetaIndex::Indexed(_)) {
            let text = "==>> using internal or flexible meta data may help <<==";
            log_lines.push((Level::Warning, text.to_owned()));
        }
    }
    let hot_extents = read_log(&meta, &layout, &super_block, &mut log_lines)?;
    let bitmap = read_bitmap(&meta, &layout, &super_block)?;
    let can_discard = disk::can_discard(&data);
    let logical_block_bytes = meta.logical_block_bytes() as u32;
    let attached = AttachedDisk {
        settings,
        super_block,
        layout,
        maximum,
        logical_block_bytes,
        hot_extents,
        log_lines,
        bitmap,
        can_discard,
    };
    Ok(Opened { data, meta, attached })
}

fn open_device(path: &str, claim: Claim, code: ConfigCode) -> Result<BlockDevice, Refusal> {
    let mode = OpenMode { read_only: false, claim };
    let opened = BlockDevice::open(Path::new(path), mode).and_then(|device| {
        if device.is_read_only() {
            // Some kernels open such a device for writing all the same.
            let error = nix::errno::Errno::EROFS.into();
            return Err(OpenError::Open { path: path.to_owned(), error });
        }
        Ok(device)
    });
    opened.map_err(|error| {
        let code = match (&error, code) {
            (OpenError::NotABlockDevice { .. }, ConfigCode::OpenDisk) => ConfigCode::DiskNotBlockDevice,
            (OpenError::NotABlockDevice { .. }, _) => ConfigCode::MetaDiskNotBlockDevice,
            _ => code,
        };
        let number = match &error {
            OpenError::Open { error, .. } | OpenError::Call { error, .. } => {
                error.raw_os_error().unwrap_or(0)
            }
            OpenError::Busy { .. } => libc::EBUSY,
            OpenError::NotABlockDevice { .. } => libc::ENOTBLK,
        };
        let hint = match number {
            libc::EBUSY => "; is it mounted, or used by swap, LVM, md or another minor?",
            libc::EACCES | libc::EROFS => "; is it read-only?",
            _ => "",
        };
        let text = format!("open(\"{path}\") failed with -{number} ({error}{hint})");
        Refusal { info: vec![format!("{error}{hint}")], ..Refusal::new(code, Level::Error, text) }
    })
}

/// Step 9: whether everything fits. Returns the largest size that the disk allows, in sectors.
fn check_sizes(
    data: &BlockDevice,
    meta: &BlockDevice,
    index: MetaIndex,
    log: LogGeometry,
    settings: &DiskSettings,
) -> Result<u64, Refusal> {
    let needed = Layout::attach_sectors_min(index);
    let too_small = || {
        let text = format!(
            "refusing attach: md-device too small, at least {needed} sectors needed for this meta-disk type"
        );
        Refusal::new(ConfigCode::MetaDiskTooSmall, Level::Warning, text)
    };
    if meta.size_bytes() / SECTOR_BYTES < needed {
        return Err(too_small());
    }
    let layout = Layout::new(index, meta.size_bytes(), log).map_err(|_| too_small())?;
    let maximum = layout.usable_sectors(data.size_bytes() / SECTOR_BYTES);
    if maximum < settings.size {
        let text = format!("max capacity {maximum} smaller than disk size {}", settings.size);
        return Err(Refusal::new(ConfigCode::DiskTooSmall, Level::Error, text));
    }
    Ok(maximum)
}

fn refusal_of(error: MetaError) -> Refusal {
    match error {
        MetaError::Io { .. } => Refusal::new(
            ConfigCode::MetaDataIo,
            Level::Error,
            format!("Error while reading metadata. ({error})"),
        ),
        MetaError::Decode(decode) => {
            let text = format!("Error while reading metadata, magic not found. ({decode})");
            Refusal {
                info: vec![decode.to_string()],
                ..Refusal::new(ConfigCode::MetaDataInvalid, Level::Error, text)
            }
        }
        other => Refusal::new(ConfigCode::MetaDataInvalid, Level::Error, other.to_string()),
    }
}

/// Step 15: extents that may have had writes in flight; `None`: nobody knows.
fn read_log(
    meta: &BlockDevice,
    layout: &Layout,
    super_block: &SuperBlock,
    lines: &mut Vec<(Level, String)>,
) -> Result<Option<Vec<u32>>, Refusal> {
    let area = image::read_activity_log(meta, layout).map_err(refusal_of)?;
    match replay(&area, super_block, layout.log) {
        Ok(found) => {
            let (transactions, active) = (found.transactions, found.active_entries);
            if transactions > 0 {
                let text =
                    format!("Found {transactions} transactions ({active} active extents) in activity log.");
                lines.push((Level::Info, text));
            } else if found.format == LogFormat::V83 {
                lines.push((Level::Warning, "No usable activity log found.".to_owned()));
            }
            if found.format == LogFormat::V84 && found.damaged > 0 {
                lines.push((Level::Warning, format!("{} corrupt AL transactions found", found.damaged)));
            }
            Ok(Some(found.hot))
        }
        Err(unusable) => {
            lines.push((Level::Warning, unusable.to_string()));
            Ok(None)
        }
    }
}

/// Step 21: the bitmap for the size that was agreed last. Empty if a full sync is asked for.
fn read_bitmap(meta: &BlockDevice, layout: &Layout, super_block: &SuperBlock) -> Result<Vec<u64>, Refusal> {
    if super_block.flags.contains(MetaFlags::FULL_SYNC) {
        return Ok(Vec::new());
    }
    let sectors = super_block.effective_size_sectors;
    let stored = (layout.bitmap_bytes() / 8).min(bitmap::words(sectors));
    let stored = usize::try_from(stored).map_err(|_| ConfigCode::NoMemoryBitmap)?;
    let mut words = Vec::new();
    words.try_reserve_exact(stored).map_err(|_| ConfigCode::NoMemoryBitmap)?;
    words.resize(stored, 0);
    image::read_bitmap(meta, layout, 0, &mut words).map_err(refusal_of)?;
    if stored as u64 == bitmap::words(sectors) {
        bitmap::mask_tail(&mut words, sectors);
    }
    Ok(words)
}

/// Attaches a disk to a volume and waits until it is in use or refused. Returns the reply.
pub fn attach(
    runner: &Arc<Runner>,
    volume: VolumeIndex,
    paths: BackingPaths,
    settings: DiskSettings,
    form: Dialect,
) -> super::runner::CommandReply {
    let refused = |refusal: Refusal| {
        for (level, text) in &refusal.log {
            runner.log(*level, Some(volume), text);
        }
        (refusal.code.number(), refusal.info)
    };
    if let Err(code) = runner.look(|state| state.core.may_attach(volume)) {
        return refused(code.into());
    }
    match open(&paths, settings, form) {
        Ok(opened) => runner.attach(volume, paths, opened),
        Err(refusal) => refused(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::UUID_JUST_CREATED;
    use tempfile::NamedTempFile;

    const BYTES: u64 = 4 << 20;

    fn file(bytes: u64) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        file
    }

    fn create_md(file: &NamedTempFile, index: MetaIndex) -> Layout {
        let mode = OpenMode { read_only: false, claim: Claim::Exclusive };
        let device = BlockDevice::open(file.path(), mode).unwrap();
        let layout = Layout::new(index, device.size_bytes(), LogGeometry::CLASSIC).unwrap();
        image::write_super_block(&device, &layout, &SuperBlock::just_created(&layout), true).unwrap();
        layout
    }

    fn paths(data: &NamedTempFile, meta: &NamedTempFile, meta_index: i32) -> BackingPaths {
        let shown = |file: &NamedTempFile| file.path().display().to_string();
        BackingPaths { lower_device: shown(data), meta_device: shown(meta), meta_index }
    }

    fn try_open(paths: &BackingPaths, size: u64) -> Result<Opened, ConfigCode> {
        let settings = DiskSettings { size, ..DiskSettings::defaults(Dialect::V83) };
        open(paths, settings, Dialect::V83).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_fresh_disk_opens_with_internal_or_external_meta_data() {
        let disk = file(BYTES);
        let layout = create_md(&disk, MetaIndex::Internal);
        let opened = try_open(&paths(&disk, &disk, -3), 0).unwrap();
        assert_eq!(opened.attached.maximum, layout.usable_sectors(0));
        assert_eq!(opened.attached.super_block.uuids[0], UUID_JUST_CREATED);
        assert_eq!(opened.attached.hot_extents, Some(Vec::new()));
        assert!(opened.attached.bitmap.is_empty());
        drop(opened);
        let (data, meta) = (file(BYTES), file(BYTES));
        create_md(&meta, MetaIndex::FlexExternal);
        let opened = try_open(&paths(&data, &meta, -2), 0).unwrap();
        assert_eq!(opened.attached.maximum, BYTES / SECTOR_BYTES);
    }

    #[test]
    fn refusals_have_the_codes_of_the_kernel() {
        let refused = |paths: &BackingPaths, size| try_open(paths, size).unwrap_err().number();
        let (disk, other) = (file(BYTES), file(BYTES));
        assert_eq!(refused(&paths(&disk, &disk, -3), 0), 119);
        create_md(&disk, MetaIndex::Internal);
        assert_eq!(refused(&paths(&disk, &disk, -4), 0), 116);
        assert_eq!(refused(&paths(&disk, &disk, -2), 0), 116);
        assert_eq!(refused(&paths(&disk, &disk, 0), 0), 105);
        assert_eq!(refused(&paths(&disk, &other, -3), 0), 116);
        assert_eq!(refused(&paths(&disk, &disk, -3), BYTES), 111);
        assert_eq!(refused(&paths(&disk, &other, 1), 0), 112);
        let missing = BackingPaths { lower_device: "/nonexistent".into(), ..paths(&disk, &disk, -3) };
        assert_eq!(refused(&missing, 0), 104);
        let directory = BackingPaths { lower_device: "/".into(), ..paths(&disk, &disk, -3) };
        assert_eq!(refused(&directory, 0), 107);
        let small = file(512 << 10);
        assert_eq!(refused(&paths(&small, &small, -3), 0), 112);
        let _open = try_open(&paths(&disk, &disk, -3), 0).unwrap();
        assert_eq!(refused(&paths(&disk, &disk, -3), 0), 104);
    }

    #[test]
    fn an_unreadable_log_is_told_from_an_empty_one() {
        let disk = file(BYTES);
        let layout = create_md(&disk, MetaIndex::Internal);
        let mut super_block = SuperBlock::just_created(&layout);
        super_block.cleanness = crate::meta::super_block::Cleanness::Unclean;
        {
            let mode = OpenMode { read_only: false, claim: Claim::Exclusive };
            let device = BlockDevice::open(disk.path(), mode).unwrap();
            image::write_super_block(&device, &layout, &super_block, true).unwrap();
        }
        let opened = try_open(&paths(&disk, &disk, -3), 0).unwrap();
        assert_eq!(opened.attached.hot_extents, None);
    }
}
