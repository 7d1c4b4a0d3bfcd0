//! A resource of ours in DRBD 9's terms.

use super::{
    ClientFlag, ConnectionView, DeviceStatistics, DeviceView, PathView, PeerDeviceView, PeerStatistics,
    SyncDetails, View,
};
use crate::core::state::Conn;
use crate::status::counters::SECTORS_PER_BIT;
use crate::status::snapshot::{Progress, Resource, Volume, MARKS};
use crate::status::status84::{connection_name, replication_name, write_ordering};
use crate::status::{Address, AddressPair};

/// A resource of ours in DRBD 9's terms: one peer, no quorum, no intended clients.
///
/// `now_ms`: on the clock of [`Snapshot::now_ms`](crate::status::Snapshot::now_ms).
pub fn view(now_ms: u64, resource: &Resource) -> View {
    let suspended = resource.suspended();
    let connection = &resource.connection;
    let volumes = resource.volumes_sorted();
    let in_use = connection.addresses.is_some();
    let connections = in_use.then(|| ConnectionView {
        peer_node_id: 1,
        // 8.4's name of the only peer.
        name: Some(connection.peer_name.clone().unwrap_or_else(|| "peer".to_string())),
        state: connection_name(connection.cstate).to_string(),
        role: resource.peer_role(),
        congested: connection.congested,
        in_flight: Some((connection.ap_in_flight, connection.rs_in_flight)),
        devices: volumes.iter().map(|v| peer_device_view(now_ms, v)).collect(),
        paths: connection.addresses.iter().map(|pair| path(pair, connection.cstate)).collect(),
    });
    View {
        name: resource.name.clone(),
        node_id: Some(0),
        role: resource.role(),
        suspended: [suspended.user, suspended.no_data, suspended.fencing, false],
        force_io_failures: false,
        write_ordering: write_ordering(resource),
        devices: volumes.iter().map(|v| device_view(v)).collect(),
        connections: connections.into_iter().collect(),
    }
}

fn path(pair: &AddressPair, cstate: Conn) -> PathView {
    let text = |address: &Address| address.to_string().replacen(' ', ":", 1);
    let established = cstate >= Conn::WFReportParams;
    PathView { local: text(&pair.local), peer: text(&pair.peer), established }
}

fn device_view(volume: &Volume) -> DeviceView {
    DeviceView {
        volume: volume.number.into(),
        minor: volume.minor,
        disk: volume.state.disk.name().to_string(),
        client: ClientFlag::No,
        backing: volume.backing.as_ref().map(|b| b.lower_device.clone()).unwrap_or_default(),
        quorum: true,
        statistics: Some(DeviceStatistics::of(volume)),
    }
}

fn peer_device_view(now_ms: u64, volume: &Volume) -> PeerDeviceView {
    let state = &volume.state;
    // Under the connection states of 9, replication is off until the handshake is done.
    let replication = if state.conn < Conn::Connected { "Off" } else { replication_name(state.conn) };
    let left = volume.bits_left().unwrap_or(0);
    PeerDeviceView {
        volume: volume.number.into(),
        replication: replication.to_string(),
        disk: state.pdsk.name().to_string(),
        client: ClientFlag::No,
        paused_by: [state.user_isp, state.peer_isp, state.aftr_isp],
        statistics: PeerStatistics::of(volume),
        details: volume.progress.as_ref().map(|p| sync_details(now_ms, volume, p, left)),
    }
}

fn sync_details(now_ms: u64, volume: &Volume, progress: &Progress, left: u64) -> SyncDetails {
    let sectors = |bits: u64| bits.saturating_mul(SECTORS_PER_BIT);
    let since = |ms: u64| now_ms.saturating_sub(ms);
    let mark = |offset: usize| {
        let mark = progress.marks[progress.last_mark.wrapping_add(offset) % MARKS];
        (since(mark.time_ms), sectors(mark.left.saturating_sub(left)))
    };
    SyncDetails {
        total: sectors(progress.total),
        since_start_ms: since(progress.start_ms),
        paused_ms: progress.paused_ms,
        recent: mark(MARKS - 1),
        older: mark(2),
        failed: sectors(progress.failed),
        same_checksum: sectors(progress.same_checksum),
        want_kib: progress.want_kib,
        verify_start: progress.verify_start_sector,
        verify_stop: progress.verify_stop_sector,
        verify_position: sectors(volume.bitmap_bits.saturating_sub(progress.verify_left)),
        verify_left: sectors(progress.verify_left),
        verify_skipped: 0,
    }
}
