//! The picture of a resource for status and events.

use super::runner::{Runner, State};
use crate::core::metadata_flags;
use crate::core::rules::may_accept_io;
use crate::core::state::{Conn, Disk, StateWord};
use crate::core::types::VolumeIndex;
use crate::core::volume::Volume;
use crate::status::snapshot::MARKS;
use crate::status::{
    self, AddressPair, Backing, Congestion, Connection, Counters, Mark, Progress, Suspended, TimeoutClass,
    WriteOrdering,
};

/// The picture of a resource. To be taken under its lock.
pub fn resource(runner: &Runner, state: &State) -> status::Resource {
    status::Resource {
        revision: state.revision,
        name: runner.name.clone(),
        explicit: runner.explicit,
        settings: state.core.settings().clone(),
        connection: connection(state),
        volumes: state.core.volumes().map(|(v, volume)| picture(state, v, volume)).collect(),
        suspended: Suspended::default(),
    }
}

/// Sets the state of a picture's connection. One that is not StandAlone has its endpoints, `addresses`: core may have
/// forgotten it since.
pub fn set_connection(picture: &mut status::Resource, conn: Conn, addresses: Option<AddressPair>) {
    picture.connection.cstate = conn.min(Conn::WFReportParams);
    if conn > Conn::StandAlone {
        picture.connection.addresses = addresses;
    }
}

/// Turns a picture into the one before a volume's state changed.
pub fn take_back(picture: &mut status::Resource, minor: u32, old: StateWord, addresses: Option<AddressPair>) {
    picture.revision -= 1;
    let Some(volume) = picture.volumes.iter_mut().find(|volume| volume.minor == minor) else { return };
    let changed_connection =
        volume.state.conn.min(Conn::WFReportParams) != old.conn.min(Conn::WFReportParams);
    volume.state = old;
    // The version of the protocol is that of the link, which core forgets with it.
    let version = u8::try_from(picture.connection.agreed_version).ok().filter(|version| *version > 0);
    volume.blocked_upper = !may_accept_io(old, version);
    if !old.conn.is_sync_or_verify() {
        volume.progress = None;
    }
    if changed_connection {
        set_connection(picture, old.conn, addresses);
    }
}

fn connection(state: &State) -> Connection {
    let core = &state.core;
    let pending = core.volumes().map(|(_, volume)| volume.counters());
    let (ap_in_flight, rs_in_flight) = pending.fold((0, 0), |(ap, rs), counters| {
        (ap + u64::from(counters.ap_pending), rs + u64::from(counters.rs_pending))
    });
    Connection {
        cstate: core.connection_state().min(Conn::WFReportParams),
        addresses: core.net_settings().and(state.addresses),
        net: core.net_settings().unwrap_or(&state.net).clone(),
        agreed_version: core.link().map_or(state.agreed_version, |link| u32::from(link.version.number())),
        congested: state.is_congested(),
        peer_name: None,
        ap_in_flight,
        rs_in_flight,
    }
}

fn picture(state: &State, v: VolumeIndex, volume: &Volume) -> status::Volume {
    let word = volume.state();
    let counters = volume.counters();
    let settings = volume.settings().clone();
    let small = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let first = state.core.volumes().next().map(|(first, _)| first);
    let frozen = !state.core.admits_io(v);
    let disk_full =
        state.volumes.get(v).and_then(|slot| slot.disk.as_ref()).is_some_and(|disk| disk.is_full());
    status::Volume {
        minor: volume.minor,
        number: volume.number,
        state: word,
        write_ordering: match volume.disk() {
            // What a device has from the start.
            None => WriteOrdering::Flush,
            Some(_) if settings.disk_flushes => WriteOrdering::Flush,
            Some(_) if settings.disk_drain => WriteOrdering::Drain,
            Some(_) => WriteOrdering::None,
        },
        disk_settings: settings,
        backing: backing(state, v, volume),
        size_sectors: volume.size_sectors(),
        counters: Counters {
            sent_sectors: counters.sent,
            received_sectors: counters.received,
            written_sectors: counters.written,
            read_sectors: counters.read,
            al_writes: counters.al_writes as u32,
            bm_writes: counters.bm_writes as u32,
            local: small(counters.local),
            ap_pending: small(counters.ap_pending),
            rs_pending: small(counters.rs_pending),
            unacked: small(counters.unacked),
            ap_bio: small(counters.ap_in_flight),
            // The epochs are the connection's; they are shown at its first volume.
            epochs: if first == Some(v) { state.core.epochs() as i32 } else { 1 },
        },
        out_of_sync_bits: volume.out_of_sync_bits(),
        bitmap_bits: volume.disk().map_or(0, |disk| disk.bitmap.bits()),
        progress: progress(volume),
        al_suspended: volume.al_suspended(),
        congestion: Congestion::of(frozen, state.core.waits_for_helper(), disk_full, state.is_congested()),
        blocked_upper: frozen,
        blocked_lower: disk_full,
        timeout_class: if word.pdsk == Disk::Outdated {
            TimeoutClass::Outdated
        } else if volume.degraded() {
            TimeoutClass::Degraded
        } else {
            TimeoutClass::Normal
        },
        open_count: 0,
    }
}

fn backing(state: &State, v: VolumeIndex, volume: &Volume) -> Option<Backing> {
    let slot = state.volumes.get(v)?;
    let (disk, paths, open) = (volume.disk()?, slot.backing.as_ref()?, slot.disk.as_ref()?);
    Some(Backing {
        lower_device: paths.lower_device.clone(),
        meta_device: paths.meta_device.clone(),
        meta_index: paths.meta_index,
        lower_sectors: open.data().size_bytes() / 512,
        uuids: disk.uuids.slots(),
        md_flags: metadata_flags::shown(disk.super_block.flags, volume.state()).0,
    })
}

fn progress(volume: &Volume) -> Option<Progress> {
    if !volume.state().conn.is_sync_or_verify() {
        return None;
    }
    let resync = volume.resync();
    let (verify_start_sector, verify_stop_sector) = resync.verify_range();
    let mut marks = [Mark::default(); MARKS];
    for (mark, &(left, time_ms)) in marks.iter_mut().zip(&resync.marks) {
        *mark = Mark { time_ms, left };
    }
    Some(Progress {
        total: resync.total,
        failed: resync.failed,
        verify_left: resync.verify_left,
        verify_start_sector,
        verify_stop_sector,
        resync_position: resync.position,
        same_checksum: resync.same_checksum(),
        start_ms: resync.started,
        paused_ms: resync.paused_ms,
        marks,
        last_mark: resync.last_mark % MARKS,
        want_kib: u64::from(resync.controller.want),
    })
}
