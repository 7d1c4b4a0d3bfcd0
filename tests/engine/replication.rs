//! What two connected nodes must do.

use crate::fixture::Pair;
use drbdbox::control::message::ConnectionOf;
use drbdbox::control::Request;
use drbdbox::core::state::{Conn, Disk, Role};
use drbdbox::wire::ProtocolVersion;

const MIB: u64 = 1 << 20;

#[test]
fn a_first_sync_makes_both_disks_the_same() {
    let pair = Pair::new(16 * MIB);
    pair.connect(&[]);
    pair.wait("connected", |s| s.conn == Conn::Connected);
    assert_eq!(pair.nodes[0].volume().state.disk, Disk::Inconsistent);
    pair.initial_sync();
    pair.assert_same_data();
    assert_eq!(pair.nodes[1].volume().state.peer, Role::Primary);
}

#[test]
fn writes_reach_both_disks() {
    let pair = Pair::new(16 * MIB);
    pair.connect(&[("protocol", "C")]);
    pair.initial_sync();
    let node = &pair.nodes[0];
    for number in 0..64u64 {
        node.write(number * 65536, &[number as u8 + 1; 4096]);
    }
    node.write(MIB, &[0xaa; 1 << 20]);
    assert_eq!(node.read(65536 * 3, 4096), [4; 4096]);
    pair.assert_same_data();
    assert_eq!(pair.nodes[1].raw(65536 * 5, 4096), [6; 4096]);
}

#[test]
fn writes_during_the_sync_and_while_disconnected_are_not_lost() {
    let pair = Pair::new(32 * MIB);
    pair.connect(&[]);
    pair.wait("connected", |s| s.conn == Conn::Connected);
    let node = &pair.nodes[0];
    node.ok(Request::Primary { minor: 0, force: true });
    for number in 0..32u64 {
        node.write(number * 999 * 1024 / 512 * 512, &[number as u8; 8192]);
    }
    pair.wait_in_sync();
    pair.assert_same_data();
    pair.nodes[1].ok(Request::Disconnect { connection: ConnectionOf::Resource("r0".into()), force: false });
    node.wait("peer gone", |s| s.conn == Conn::WFConnection);
    for number in 0..16u64 {
        node.write(number * MIB, &[0x50 + number as u8; 12288]);
    }
    let bits = node.volume().out_of_sync_bits;
    assert_eq!(bits, 16 * 3);
    let addresses = drbdbox::status::AddressPair { local: pair.nodes[1].address, peer: node.address };
    let connection = ConnectionOf::Resource("r0".into());
    pair.nodes[1].ok(Request::Connect { connection, addresses, changes: Vec::new() });
    pair.wait_in_sync();
    pair.assert_same_data();
    assert_eq!(node.volume().out_of_sync_bits, 0);
}

#[test]
fn older_versions_replicate_too() {
    for number in [86, 90, 95, 97, 100] {
        let version = ProtocolVersion::new(number).unwrap();
        let pair = Pair::with(8 * MIB, [version, ProtocolVersion::MAX]);
        pair.connect(&[]);
        pair.initial_sync();
        pair.nodes[0].write(MIB, &[7; 1 << 20]);
        pair.nodes[0].write(3 * MIB + 512, &[8; 512]);
        pair.assert_same_data();
        assert_eq!(pair.nodes[1].raw(MIB, 4096), [7; 4096], "version {number}");
    }
}

#[test]
fn roles_change_sides() {
    let pair = Pair::new(8 * MIB);
    pair.connect(&[]);
    pair.initial_sync();
    pair.nodes[0].write(0, &[1; 4096]);
    let (code, _) = pair.nodes[1].call(Request::Primary { minor: 0, force: false });
    assert_eq!(code, -1, "two Primaries are not allowed");
    pair.nodes[0].ok(Request::Secondary { minor: 0 });
    pair.nodes[1].ok(Request::Primary { minor: 0, force: false });
    assert_eq!(pair.nodes[1].read(0, 4096), [1; 4096]);
    pair.nodes[1].write(4096, &[2; 4096]);
    pair.assert_same_data();
}
