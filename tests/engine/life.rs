//! What happens to a pair of nodes in the course of its life: commands, failures, restarts.

use crate::fixture::{changes, Node, Pair};
use drbdbox::control::message::ConnectionOf;
use drbdbox::control::{Request, Service};
use drbdbox::core::state::{Conn, Disk, Role};
use drbdbox::export::request::Operation;
use drbdbox::status::{proc, AddressPair};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

const MIB: u64 = 1 << 20;

fn of_r0() -> ConnectionOf {
    ConnectionOf::Resource("r0".into())
}

fn disconnect(node: &Node, force: bool) {
    node.ok(Request::Disconnect { connection: of_r0(), force });
}

fn connect(pair: &Pair, node: usize, settings: &[(&str, &str)]) {
    let addresses = AddressPair { local: pair.nodes[node].address, peer: pair.nodes[1 - node].address };
    let request = Request::Connect { connection: of_r0(), addresses, changes: changes(settings) };
    pair.nodes[node].ok(request);
}

#[test]
fn every_protocol_and_digest_replicates() {
    let settings: [&[(&str, &str)]; 4] = [
        &[("protocol", "A")],
        &[("protocol", "B"), ("data-integrity-alg", "md5")],
        &[("data-integrity-alg", "crc32c"), ("cram-hmac-alg", "sha1"), ("shared-secret", "abc")],
        &[("protocol", "C"), ("csums-alg", "sha1"), ("tcp-cork", "no"), ("sndbuf-size", "64k")],
    ];
    for settings in settings {
        let pair = Pair::new(8 * MIB);
        pair.connect(settings);
        pair.initial_sync();
        let pending: Vec<_> = (0..200u64)
            .map(|number| pair.nodes[0].start_write(number % 100 * 16384, &[number as u8; 16384]))
            .collect();
        for receiver in pending {
            pair.nodes[0].answer(receiver).unwrap();
        }
        // Protocol A completes before the peer has written: it is through when its epochs are.
        pair.nodes[0].ok(Request::Secondary { minor: 0 });
        pair.nodes[1].wait("peer's demotion", |s| s.peer == Role::Secondary);
        while pair.nodes[1].volume().counters.local > 0 {
            std::thread::yield_now();
        }
        pair.assert_same_data();
        assert_eq!(pair.nodes[1].raw(99 * 16384, 512), [199; 512], "{settings:?}");
    }
}

#[test]
fn a_primary_without_disk_works_on_the_peers() {
    let pair = Pair::new(8 * MIB);
    pair.connect(&[]);
    pair.initial_sync();
    let node = &pair.nodes[0];
    node.write(MIB, &[1; 4096]);
    node.ok(Request::Detach { minor: 0, force: false });
    assert_eq!(node.volume().state.disk, Disk::Diskless);
    assert_eq!(node.read(MIB, 4096), [1; 4096]);
    node.write(2 * MIB, &[2; 8192]);
    assert_eq!(node.read(2 * MIB, 8192), [2; 8192]);
    assert_eq!(pair.nodes[1].raw(2 * MIB, 8192), [2; 8192]);
    // The file is closed: it can be opened and attached again, and gets what it missed.
    node.attach();
    pair.wait_in_sync();
    pair.assert_same_data();
}

#[test]
fn a_disk_that_fails_is_given_up_and_the_peers_is_used() {
    let pair = Pair::new(8 * MIB);
    pair.connect(&[]);
    pair.initial_sync();
    let node = &pair.nodes[0];
    node.write(MIB, &[6; 8192]);
    // Reads behind the end fail.
    std::fs::OpenOptions::new().write(true).open(&node.disk).unwrap().set_len(MIB / 2).unwrap();
    assert_eq!(node.read(MIB, 8192), [6; 8192]);
    node.wait("given up", |s| s.disk == Disk::Diskless);
    node.write(2 * MIB, &[7; 4096]);
    assert_eq!(node.read(2 * MIB, 4096), [7; 4096]);
    assert_eq!(pair.nodes[1].raw(2 * MIB, 4096), [7; 4096]);
}

#[test]
fn what_a_node_does_not_know_is_no_data() {
    let pair = Pair::new(8 * MIB);
    let (code, _) = pair.nodes[0].call(Request::Primary { minor: 0, force: false });
    assert_eq!(code, -2);
    let (code, _) = pair.nodes[0].call(Request::Primary { minor: 7, force: false });
    assert_eq!(code, 127);
    let (code, _) = pair.nodes[0].call(Request::DeleteMinor { minor: 0 });
    assert_eq!(code, 160);
    let answer = pair.nodes[0].submit(Operation::Read, 0, 4096, None);
    drop(answer);
}

#[test]
fn verify_finds_and_a_reconnect_repairs_what_differs() {
    let pair = Pair::new(8 * MIB);
    pair.connect(&[("verify-alg", "md5")]);
    pair.initial_sync();
    pair.nodes[0].write(0, &[9; 65536]);
    let disk = std::fs::OpenOptions::new().write(true).open(&pair.nodes[1].disk).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&disk, &[0; 4096], 8192).unwrap();
    pair.nodes[0].ok(Request::Verify { minor: 0, start: None, stop: None });
    pair.nodes[0].wait("verified", |s| s.conn == Conn::Connected);
    assert_eq!(pair.nodes[0].volume().out_of_sync_bits, 1);
    disconnect(&pair.nodes[1], false);
    connect(&pair, 1, &[("verify-alg", "md5")]);
    pair.wait_in_sync();
    pair.nodes[0].wait("repaired", |_| pair.nodes[0].volume().out_of_sync_bits == 0);
    pair.assert_same_data();
}

#[test]
fn invalidate_copies_everything_again() {
    let pair = Pair::new(8 * MIB);
    pair.connect(&[]);
    pair.initial_sync();
    pair.nodes[0].write(MIB, &[5; 4096]);
    let disk = std::fs::OpenOptions::new().write(true).open(&pair.nodes[1].disk).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&disk, &[0; 4096], MIB).unwrap();
    pair.nodes[1].ok(Request::Invalidate { minor: 0 });
    pair.wait_in_sync();
    pair.assert_same_data();
    pair.nodes[0].ok(Request::InvalidateRemote { minor: 0 });
    pair.wait_in_sync();
    pair.assert_same_data();
}

#[test]
fn a_graceful_disconnect_tells_the_peer_and_a_forced_one_does_not() {
    let pair = Pair::new(4 * MIB);
    pair.connect(&[]);
    pair.initial_sync();
    disconnect(&pair.nodes[1], false);
    assert_eq!(pair.nodes[1].volume().state.conn, Conn::StandAlone);
    pair.nodes[0].wait("torn down", |s| s.conn == Conn::WFConnection);
    assert!(pair.nodes[0].log_text().contains("TearDown"));
    connect(&pair, 1, &[]);
    pair.wait_in_sync();
    disconnect(&pair.nodes[1], true);
    pair.nodes[0].wait("lost", |s| s.conn == Conn::WFConnection);
    pair.nodes[1].wait("given up", |s| s.conn == Conn::StandAlone);
    connect(&pair, 1, &[]);
    pair.wait_in_sync();
}

#[test]
fn noise_from_the_network_does_not_end_a_connection() {
    let pair = Pair::new(4 * MIB);
    pair.connect(&[]);
    pair.initial_sync();
    // Nobody listens while the link is up.
    for node in &pair.nodes {
        assert!(TcpStream::connect(node.address.socket_address()).is_err());
    }
    disconnect(&pair.nodes[1], false);
    // A peer that speaks DRBD's first words and then nonsense.
    for _ in 0..3 {
        let address = pair.nodes[0].address.socket_address();
        let open = |number: u8| {
            let mut stream = TcpStream::connect(address).ok()?;
            stream.write_all(&[0x83, 0x74, 0x02, 0x67, 0xff, number, 0, 0]).ok()?;
            Some(stream)
        };
        let (data, meta) = (open(0xf2), open(0xf1));
        if let Some(mut data) = data {
            let _ = data.write_all(&[0x5a; 300]);
        }
        drop(meta);
    }
    connect(&pair, 1, &[]);
    pair.wait_in_sync();
    pair.nodes[0].write(0, &[3; 4096]);
    pair.assert_same_data();
}

#[test]
fn writes_under_load_survive_a_connection_that_comes_and_goes() {
    let pair = Pair::new(16 * MIB);
    pair.connect(&[]);
    pair.initial_sync();
    let stop = AtomicBool::new(false);
    let node = &pair.nodes[0];
    std::thread::scope(|scope| {
        for worker in 0..4u64 {
            let stop = &stop;
            scope.spawn(move || {
                let mut round = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    let offset = worker * 3 * MIB + round * 7 % 300 * 4096;
                    let value = (worker * 50 + round % 50) as u8;
                    node.write(offset, &[value; 8192]);
                    assert_eq!(node.read(offset, 8192), [value; 8192]);
                    round += 1;
                }
                assert!(round > 0);
            });
        }
        for round in 0..6 {
            disconnect(&pair.nodes[1], round % 2 == 0);
            pair.nodes[1].wait("gone", |s| s.conn == Conn::StandAlone);
            connect(&pair, 1, &[]);
            pair.wait_in_sync();
        }
        stop.store(true, Ordering::Relaxed);
    });
    pair.wait_in_sync();
    node.ok(Request::Secondary { minor: 0 });
    pair.assert_same_data();
}

#[test]
fn addresses_belong_to_one_connection_each() {
    let pair = Pair::new(4 * MIB);
    pair.connect(&[]);
    let node = &pair.nodes[0];
    node.ok(Request::NewResource { name: "r1".into(), changes: Vec::new() });
    let mut addresses = AddressPair { local: node.address, peer: pair.nodes[1].address };
    let connect = |addresses: AddressPair| {
        let connection = ConnectionOf::Resource("r1".into());
        node.call(Request::Connect { connection, addresses, changes: Vec::new() }).0
    };
    assert_eq!(connect(addresses), 102);
    addresses.local.port ^= 1;
    assert_eq!(connect(addresses), 103);
    node.ok(Request::DeleteResource { name: "r1".into() });
    assert_eq!(node.call(Request::DeleteResource { name: "r0".into() }).0, 125);
}

#[test]
fn two_volumes_share_a_connection() {
    let pair = Pair::new(8 * MIB);
    for node in &pair.nodes {
        node.add_volume(1, 1, 8 * MIB);
    }
    pair.connect(&[]);
    pair.initial_sync();
    pair.nodes[0].ok(Request::Primary { minor: 1, force: true });
    for node in &pair.nodes {
        node.wait_for_minor(1, |s| s.conn == Conn::Connected && s.disk == Disk::UpToDate);
    }
    pair.nodes[0].ok(Request::Down { resource: "r0".into() });
    pair.nodes[1].wait("gone", |s| s.peer == Role::Unknown);
    assert!(pair.nodes[0].daemon.minor(0).is_none());
}

#[test]
fn a_daemon_comes_back_with_what_it_had() {
    let mut pair = Pair::new(4 * MIB);
    pair.connect(&[("protocol", "B"), ("cram-hmac-alg", "md5"), ("shared-secret", "x")]);
    pair.initial_sync();
    pair.nodes[1].save_running();
    pair.nodes[1].lose_daemon();
    pair.nodes[0].wait("gone", |s| s.conn == Conn::WFConnection);
    pair.nodes[0].write(0, &[4; 4096]);
    pair.nodes[1].start_again();
    pair.wait_in_sync();
    pair.assert_same_data();
}

/// What scripts read in /proc/drbd, and `blocked:` of status and events2.
#[test]
fn frozen_io_is_seen_in_the_flags() {
    let pair = Pair::new(4 * MIB);
    pair.connect(&[]);
    pair.initial_sync();
    let node = &pair.nodes[0];
    let seen = || {
        let text = proc::text(&node.daemon.snapshot());
        let line = text.lines().find(|line| line.starts_with(" 0: cs:Connected")).unwrap();
        (line.rsplit(' ').next().unwrap().to_owned(), node.volume().blocked_upper)
    };
    assert_eq!(seen(), ("r-----".to_owned(), false));
    node.ok(Request::SuspendIo { minor: 0 });
    assert_eq!(seen(), ("s---d-".to_owned(), true));
    node.ok(Request::PauseSync { minor: 0 });
    assert_eq!(seen(), ("s--ud-".to_owned(), true));
    node.ok(Request::ResumeIo { minor: 0 });
    assert_eq!(seen(), ("r--u--".to_owned(), false));
    // Not all of the bitmap is set, and the activity log is written.
    node.ok(Request::ResumeSync { minor: 0 });
    assert_eq!(seen(), ("r-----".to_owned(), false));
}
