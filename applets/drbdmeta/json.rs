//! Meta data as JSON, for programs: `show-gi --json` and `scan --json`.

use serde::Serialize;
use serde_json::{Map, Value};

use drbdbox::meta::super_block::Cleanness;
use drbdbox::meta::{Layout, MetaFlags, SuperBlock};

/// A super block of v08, or what another one converts to.
#[derive(Debug, Serialize)]
pub struct MetaJson {
    /// `internal`, `flex-external`, or the number of a slot.
    pub index: String,
    /// Byte offset of the super block.
    pub super_block_offset: u64,
    /// UUIDs as 16 hexadecimal digits.
    pub current_uuid: String,
    bitmap_uuid: String,
    history_uuids: [String; 2],
    device_uuid: String,
    /// Every flag that has a name.
    flags: Map<String, Value>,
    flags_value: u32,
    /// `Primary` or `Secondary`.
    pub role: &'static str,
    /// `Connected` or `StandAlone`.
    connection: &'static str,
    /// As the flags say: `Inconsistent`, `Outdated` or `UpToDate`.
    pub disk: &'static str,
    /// Nothing is to be replayed from the activity log.
    pub is_clean: bool,
    /// Last agreed size; 0: never attached.
    pub last_agreed_sectors: u64,
    peer_max_bio_bytes: u32,
    activity_log: LogJson,
    bitmap: PartJson,
}

#[derive(Debug, Serialize)]
struct LogJson {
    offset: u64,
    bytes: u64,
    stripes: u32,
    stripe_blocks: u32,
    slots: u32,
}

#[derive(Debug, Serialize)]
struct PartJson {
    offset: u64,
    bytes: u64,
}

/// A UUID as everywhere in DRBD's texts.
fn hex(uuid: u64) -> String {
    format!("{uuid:016X}")
}

impl MetaJson {
    /// Of a super block in its place.
    pub fn new(super_block: &SuperBlock, layout: &Layout) -> MetaJson {
        let flags = super_block.flags;
        let has = |flag| flags.contains(flag);
        MetaJson {
            index: layout.index.to_string(),
            super_block_offset: layout.md_offset,
            current_uuid: hex(super_block.uuids[0]),
            bitmap_uuid: hex(super_block.uuids[1]),
            history_uuids: [hex(super_block.uuids[2]), hex(super_block.uuids[3])],
            device_uuid: hex(super_block.device_uuid),
            flags: MetaFlags::NAMES
                .iter()
                .map(|(flag, name)| (name.to_ascii_lowercase(), Value::Bool(has(*flag))))
                .collect(),
            flags_value: flags.0,
            role: if has(MetaFlags::PRIMARY_IND) { "Primary" } else { "Secondary" },
            connection: if has(MetaFlags::CONNECTED_IND) { "Connected" } else { "StandAlone" },
            disk: match (has(MetaFlags::CONSISTENT), has(MetaFlags::WAS_UP_TO_DATE)) {
                (false, _) => "Inconsistent",
                (true, false) => "Outdated",
                (true, true) => "UpToDate",
            },
            is_clean: super_block.cleanness == Cleanness::Clean && !has(MetaFlags::PRIMARY_IND),
            last_agreed_sectors: super_block.effective_size_sectors,
            peer_max_bio_bytes: super_block.peer_max_bio_bytes,
            activity_log: LogJson {
                offset: layout.al_offset(),
                bytes: layout.log.bytes(),
                stripes: layout.log.stripes,
                stripe_blocks: layout.log.stripe_blocks,
                slots: super_block.al_slots,
            },
            bitmap: PartJson { offset: layout.bm_offset(), bytes: layout.bitmap_bytes() },
        }
    }
}

/// Prints a value, with line breaks.
pub fn print(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => super::ui::say!("{text}"),
        // Only maps with keys that are no strings can fail.
        Err(error) => super::ui::say_err!("cannot print JSON: {error}"),
    }
}
