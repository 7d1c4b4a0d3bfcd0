//! What the recorded node was before the link: its settings, meta data and disk, as far as its packets tell.

use super::said::Said;
use super::{range_of, Event};
use crate::captures::Side;
use crate::core_node::{layout, Meta};
use drbdbox::conf::settings::{AfterSplitBrain, DiskSettings};
use drbdbox::core::state::{Disk, StateWord};
use drbdbox::meta::{MetaFlags, SuperBlock};
use drbdbox::wire::*;
use std::collections::BTreeSet;

pub(super) fn first<'a, T>(
    events: &'a [Event],
    from: Side,
    pick: impl Fn(&'a Packet) -> Option<T>,
) -> Option<T> {
    events.iter().filter(|event| event.from == from).find_map(|event| pick(&event.packet))
}

/// The disk of the model at the beginning of the link: what was known before, and what it sends in the link without
/// having been told.
pub(super) fn content(events: &[Event], model: Side, image: &mut [u8]) {
    let mut fresh: BTreeSet<u64> = BTreeSet::new();
    for event in events {
        let Some((sector, size)) = range_of(&event.packet, event.payload.len()) else { continue };
        let (Packet::RsDataReply(_)
        | Packet::DataReply(_)
        | Packet::RsDeallocated(_)
        | Packet::Data(_)
        | Packet::Trim(_)
        | Packet::Zeroes(_)) = event.packet
        else {
            continue;
        };
        let speaks = event.from == model
            && matches!(
                event.packet,
                Packet::RsDataReply(_) | Packet::DataReply(_) | Packet::RsDeallocated(_)
            );
        for index in 0..u64::from(size) / 512 {
            if fresh.insert(sector + index) && speaks {
                let into = &mut image[(sector + index) as usize * 512..][..512];
                match event.payload.get(index as usize * 512..) {
                    Some(bytes) if !bytes.is_empty() => into.copy_from_slice(&bytes[..512]),
                    _ => into.fill(0),
                }
            }
        }
    }
}

/// What a link leaves on the disks.
pub(super) fn after(events: &[Event], image: &mut [u8]) {
    for event in events {
        let Some((sector, size)) = range_of(&event.packet, event.payload.len()) else { continue };
        let at = sector as usize * 512;
        match event.packet {
            Packet::Data(_) | Packet::RsDataReply(_) => {
                image[at..at + event.payload.len()].copy_from_slice(&event.payload);
            }
            Packet::Trim(_) | Packet::Zeroes(_) | Packet::RsDeallocated(_) => {
                image[at..at + size as usize].fill(0);
            }
            _ => {}
        }
    }
}

/// The settings of a disk with the speeds that a P_SYNC_PARAM tells.
pub(super) fn speeds(mut disk: DiskSettings, sync: &SyncParam) -> DiskSettings {
    disk.resync_rate = sync.rate;
    if let Some(controller) = sync.controller {
        disk.c_plan_ahead = controller.plan_ahead;
        disk.c_delay_target = controller.delay_target;
        disk.c_fill_target = controller.fill_target;
        disk.c_max_rate = controller.max_rate;
    }
    disk
}

pub(super) fn policy(number: u32) -> AfterSplitBrain {
    AfterSplitBrain::from_number(number).expect("policy")
}

/// Bits of the bitmap: the device is as large as anybody says.
pub(super) fn bits_of(events: &[Event]) -> u64 {
    let sizes = events.iter().filter_map(|event| match &event.packet {
        Packet::Sizes(sizes) => Some(sizes.c_size.max(sizes.d_size)),
        _ => None,
    });
    sizes.max().unwrap_or(0).div_ceil(8)
}

/// The meta data that the model spoke of.
pub(super) fn meta_of(version: ProtocolVersion, events: &[Event], model: Side, state: StateWord) -> Meta {
    let sizes =
        first(events, model, |p| if let Packet::Sizes(p) = p { Some(p) } else { None }).expect("P_SIZES");
    let uuids =
        first(events, model, |p| if let Packet::Uuids(p) = p { Some(p) } else { None }).expect("P_UUIDS");
    let mut block = SuperBlock::just_created(&layout());
    block.uuids = [uuids.current & !1, uuids.bitmap, uuids.history[0], uuids.history[1]];
    let size = if sizes.c_size == 0 { sizes.d_size } else { sizes.c_size };
    block.effective_size_sectors = if uuids.current & !1 == 4 && uuids.dirty_bits == 0 { 0 } else { size };
    let crashed = uuids.flags & 2 != 0;
    let consistent = uuids.flags & 4 == 0 && state.disk != Disk::Inconsistent;
    block.flags.set(MetaFlags::CONSISTENT, consistent);
    block.flags.set(MetaFlags::WAS_UP_TO_DATE, consistent && state.disk != Disk::Outdated);
    block.flags.set(MetaFlags::CRASHED_PRIMARY, crashed);
    block.flags.set(MetaFlags::AL_CLEAN, true);
    let bits = size.div_ceil(8);
    let mut bitmap = vec![0_u64; bits.div_ceil(64) as usize];
    let spoken = Said::new(
        events.iter().filter(|e| e.from == model).map(|e| (&e.packet, e.payload.as_slice())),
        version,
        bits,
        |uuid| uuid,
    );
    let other = Said::new(
        events.iter().filter(|e| e.from != model).map(|e| (&e.packet, e.payload.as_slice())),
        version,
        bits,
        |uuid| uuid,
    );
    if uuids.dirty_bits >= bits {
        (0..bits).for_each(|bit| bitmap[bit as usize / 64] |= 1 << (bit % 64));
    } else if uuids.dirty_bits > 0 {
        let set: Vec<u64> = match spoken.bitmap.is_empty() {
            true => (0..uuids.dirty_bits).collect(),
            // A target answers with its own bits and the source's: those that the source does not have are its own.
            false => {
                let (theirs, own): (Vec<u64>, Vec<u64>) =
                    spoken.bitmap.iter().partition(|bit| other.bitmap.contains(bit));
                own.into_iter().chain(theirs).take(uuids.dirty_bits as usize).collect()
            }
        };
        set.into_iter().for_each(|bit| bitmap[bit as usize / 64] |= 1 << (bit % 64));
    }
    Meta { super_block: block, bitmap, maximum: sizes.d_size }
}
