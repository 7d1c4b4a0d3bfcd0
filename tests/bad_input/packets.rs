//! Wrong packets of a peer that is connected. spec/wire.md 10: what the connection becomes, and what the log says.

use crate::fake_peer::{header_100, header_80, sync_param, Character, FakePeer};
use crate::nbd::Client;
use crate::node::{connect_both, new_address, Node};
use crate::sample_packets::plain_protocol;
use drbdbox::core::state::{Conn, Disk, Role};
use drbdbox::wire::{
    Barrier, BarrierAck, BlockAck, BlockDigest, BlockRequest, Data, DataFlags, Digest, Packet,
    ProtocolVersion, RangeWrite, Reply, Socket, StateChangeRequest, Uuids, ID_SYNCER,
};

/// Sectors behind the end of any device of these tests.
const FAR: u64 = 1 << 40;

/// A node that waits for its peer.
fn waiting() -> Node {
    let node = Node::start();
    node.attach();
    node.connect(new_address(), &[]);
    node
}

/// The node is well: a peer can connect.
fn meets_a_peer(node: Node) {
    node.drbdsetup(&["0", "disconnect"]);
    node.wait_conn(Conn::StandAlone);
    let peer = Node::start();
    peer.attach();
    connect_both(&node, &peer, &[]);
    for node in [&node, &peer] {
        node.wait_conn(Conn::Connected);
    }
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    /// Dropped with this state, and waited for again.
    Again(Conn),
    /// Given up.
    StandAlone,
    /// Nothing: it goes on.
    GoesOn,
}

const PROTOCOL_ERROR: Then = Then::Again(Conn::ProtocolError);
const NETWORK_FAILURE: Then = Then::Again(Conn::NetworkFailure);

/// What the log says, what becomes of the connection, what the peer sends.
type Case<'a> = (&'a str, Then, &'a dyn Fn(&FakePeer));

/// Sends each case to a connected node, and looks what becomes of it.
fn check(node: &Node, cases: &[Case]) {
    for (line, then, send) in cases {
        let from = node.log.len();
        let mut peer = FakePeer::accepted(node);
        send(&peer);
        if !line.is_empty() {
            node.log.wait(from, line);
        }
        match then {
            Then::Again(conn) => {
                let at = node.log.wait(from, &format!("-> {conn} )"));
                peer.until_dropped();
                node.log.wait(at, "conn( Unconnected -> WFConnection )");
            }
            Then::StandAlone => {
                node.log.wait(from, "conn( Disconnecting -> StandAlone )");
                peer.until_dropped();
                node.connect(new_address(), &[]);
            }
            Then::GoesOn => {
                still_answers(&mut peer);
                assert_eq!(node.volume().state.conn, Conn::Connected, "{line}\n{}", node.log.text());
                peer.close();
                node.log.wait(from, "conn( Unconnected -> WFConnection )");
            }
        }
    }
}

/// Both sockets are read, and answered.
fn still_answers(peer: &mut FakePeer) {
    peer.send(Packet::Ping);
    while peer.receive_meta() != Packet::PingAck {}
    // Behind all that was sent before. A node whose data are not good refuses, on the meta socket.
    peer.send(Packet::DataRequest(BlockRequest { sector: 0, block_id: 77, size: 512 }));
    loop {
        if matches!(peer.receive_meta(), Packet::NegDataReply(ack) if ack.block_id == 77) {
            return;
        }
    }
}

fn data(sector: u64, id: u64) -> Packet {
    Packet::Data(Data { sector, block_id: id, seq: 1, flags: DataFlags(0) })
}

fn range(sector: u64, size: u32) -> RangeWrite {
    RangeWrite { sector, block_id: 5, seq: 1, flags: DataFlags(0), size }
}

fn request(sector: u64, size: u32) -> BlockRequest {
    BlockRequest { sector, block_id: 5, size }
}

fn ack(sector: u64, block_id: u64, size: u32) -> BlockAck {
    BlockAck { sector, block_id, size, seq: 1 }
}

fn digest(sector: u64, size: u32) -> BlockDigest {
    BlockDigest { sector, block_id: 5, size, digest: Digest::Sha1.compute(b"x") }
}

#[test]
fn headers_on_the_data_socket() {
    let node = waiting();
    let raw = |bytes: Vec<u8>| move |peer: &FakePeer| peer.raw(Socket::Data, &bytes);
    check(
        &node,
        &[
            ("Wrong magic value 0xaaaaaaaa in protocol version 101", PROTOCOL_ERROR, &raw(vec![0xaa; 64])),
            (
                "Wrong magic value 0x83740267 in protocol version 101",
                PROTOCOL_ERROR,
                &raw([header_80(0x0e, 4), vec![0; 8]].concat()),
            ),
            (
                "Header padding is not zero",
                PROTOCOL_ERROR,
                &raw([&header_100(0, 0x0e, 4)[..15], &[1]].concat()),
            ),
            ("Unexpected data packet Unknown (0x0026)", PROTOCOL_ERROR, &raw(header_100(0, 0x26, 0))),
            ("Unexpected data packet Unknown (0xffff)", PROTOCOL_ERROR, &raw(header_100(0, 0xffff, 0))),
            ("Unexpected data packet WriteAck (0x0016)", PROTOCOL_ERROR, &raw(header_100(0, 0x16, 24))),
            (
                "Unexpected data packet BecomeSyncTarget (0x0005)",
                PROTOCOL_ERROR,
                &raw(header_100(0, 0x05, 0)),
            ),
            (
                "Unexpected data packet ConnectionFeatures (0xfffe)",
                PROTOCOL_ERROR,
                &raw(header_100(0, 0xfffe, 72)),
            ),
            ("Unexpected data packet InitialData (0xfff2)", PROTOCOL_ERROR, &raw(header_100(0, 0xfff2, 0))),
            ("Unexpected data packet AuthChallenge (0x0010)", PROTOCOL_ERROR, &|peer| {
                peer.send(Packet::AuthChallenge(vec![1; 64]))
            }),
            (
                "No payload expected ReportState l:4294967291",
                PROTOCOL_ERROR,
                &raw(header_100(0, 0x0e, u32::MAX)),
            ),
            ("No payload expected UnplugRemote l:1", PROTOCOL_ERROR, &raw(header_100(0, 0x07, 1))),
            (
                "ReportState: unexpected packet size, expected:4 received:3",
                PROTOCOL_ERROR,
                &raw(header_100(0, 0x0e, 3)),
            ),
            (
                "Data: unexpected packet size, expected:24 received:23",
                PROTOCOL_ERROR,
                &raw(header_100(0, 0, 23)),
            ),
            ("are not a multiple of 512 up to 1048576", PROTOCOL_ERROR, &raw(header_100(0, 0, u32::MAX))),
            (
                "are not a multiple of 512 up to 1048576",
                PROTOCOL_ERROR,
                &raw(header_100(0, 0, 24 + (1 << 20) + 512)),
            ),
            ("are not a multiple of 512 up to 1048576", PROTOCOL_ERROR, &raw(header_100(0, 0, 24 + 100))),
            ("", PROTOCOL_ERROR, &raw(header_100(0, 0x04, u32::MAX))),
            ("", PROTOCOL_ERROR, &raw(header_100(0, 0x24, 1))),
            ("", PROTOCOL_ERROR, &raw(header_100(0, 0x0a, 1 << 20))),
            ("", PROTOCOL_ERROR, &raw(header_100(0, 0x0b, 1 << 20))),
            // Cut short, in a header and behind it.
            ("sock was shut down by peer", Then::Again(Conn::BrokenPipe), &|peer| {
                peer.raw(Socket::Data, &header_100(0, 0x0e, 4)[..7]);
                peer.close_data();
            }),
            ("sock was shut down by peer", Then::Again(Conn::BrokenPipe), &|peer| {
                peer.raw(Socket::Data, &[header_100(0, 0, 24 + 4096), vec![0; 1000]].concat());
                peer.close_data();
            }),
        ],
    );
    meets_a_peer(node);
}

#[test]
fn wrong_packets_on_the_data_socket() {
    let node = waiting();
    let end = node.wait("a size", |volume| volume.size_sectors > 0).size_sectors;
    let beyond = "request from peer beyond end of local disk";
    check(
        &node,
        &[
            (beyond, PROTOCOL_ERROR, &|peer| peer.send_data(data(FAR, 1), &[1; 512])),
            (beyond, PROTOCOL_ERROR, &|peer| peer.send_data(data(end - 1, 1), &[1; 1024])),
            ("sector 18446744073709551615 is beyond the end of any device", PROTOCOL_ERROR, &|peer| {
                peer.send_data(data(u64::MAX, 1), &[1; 512])
            }),
            (beyond, PROTOCOL_ERROR, &|peer| peer.send(Packet::Trim(range(end - 1, 1024)))),
            (beyond, PROTOCOL_ERROR, &|peer| peer.send(Packet::Zeroes(range(FAR, 512)))),
            ("", PROTOCOL_ERROR, &|peer| peer.send(Packet::Trim(range(0, 511)))),
            ("", PROTOCOL_ERROR, &|peer| peer.send(Packet::Trim(range(0, u32::MAX - 511)))),
            ("", PROTOCOL_ERROR, &|peer| {
                peer.send_data(Packet::WriteSame(range(0, 1000 * 512)), &[1; 1024 * 3])
            }),
            (beyond, PROTOCOL_ERROR, &|peer| peer.send(Packet::DataRequest(request(end, 512)))),
            (beyond, PROTOCOL_ERROR, &|peer| peer.send(Packet::RsDataRequest(request(FAR, 4096)))),
            (beyond, PROTOCOL_ERROR, &|peer| peer.send(Packet::RsThinRequest(request(FAR, 4096)))),
            (beyond, PROTOCOL_ERROR, &|peer| peer.send(Packet::CsumRsRequest(digest(FAR, 4096)))),
            (beyond, PROTOCOL_ERROR, &|peer| peer.send(Packet::OvRequest(request(FAR, 4096)))),
            (beyond, PROTOCOL_ERROR, &|peer| peer.send(Packet::OvReply(digest(FAR, 4096)))),
            ("", PROTOCOL_ERROR, &|peer| peer.send(Packet::DataRequest(request(0, 0)))),
            ("", PROTOCOL_ERROR, &|peer| peer.send(Packet::DataRequest(request(0, 513)))),
            ("", PROTOCOL_ERROR, &|peer| peer.send(Packet::DataRequest(request(0, (1 << 20) + 512)))),
            ("failed to find request", PROTOCOL_ERROR, &|peer| {
                peer.send_data(Packet::DataReply(Reply { sector: 0, block_id: 1 }), &[0; 512])
            }),
            ("failed to find request", PROTOCOL_ERROR, &|peer| {
                peer.send_data(Packet::DataReply(Reply { sector: 0, block_id: ID_SYNCER }), &[0; 512])
            }),
            ("packet received for volume 7, which is not configured locally", PROTOCOL_ERROR, &|peer| {
                peer.send_for(7, Packet::DataRequest(request(0, 512)))
            }),
            ("packet received for volume 65535, which is not configured locally", PROTOCOL_ERROR, &|peer| {
                peer.send_for(65535, Packet::SyncUuid(4))
            }),
            (
                "ReportState packet received for volume 7, which is not configured locally",
                Then::GoesOn,
                &|peer| peer.send_for(7, Packet::State(0)),
            ),
            (
                "SyncParam89 packet received for volume 7, which is not configured locally",
                Then::GoesOn,
                &|peer| peer.send_for(7, sync_param()),
            ),
            // Words with numbers that no state has.
            ("", PROTOCOL_ERROR, &|peer| peer.send(Packet::State(0x0000_0003))),
            ("", PROTOCOL_ERROR, &|peer| peer.send(Packet::State(0xffff_ffff))),
            ("", PROTOCOL_ERROR, &|peer| peer.send(Packet::State(31 << 4))),
            ("", PROTOCOL_ERROR, &|peer| peer.send(Packet::State(15 << 9))),
            // Unexpected, and taken all the same.
            ("", Then::GoesOn, &|peer| {
                peer.send_data(Packet::RsDataReply(Reply { sector: 8, block_id: ID_SYNCER }), &[0; 4096])
            }),
            ("", Then::GoesOn, &|peer| {
                peer.send(Packet::OutOfSync(drbdbox::wire::BlockDescription { sector: FAR, size: 4096 }))
            }),
            ("", Then::GoesOn, &|peer| {
                peer.send(Packet::OutOfSync(drbdbox::wire::BlockDescription { sector: 3, size: u32::MAX }))
            }),
            ("", Then::GoesOn, &|peer| {
                peer.send(Packet::RsDeallocated(drbdbox::wire::BlockDescription { sector: 0, size: 4096 }))
            }),
            ("", Then::GoesOn, &|peer| peer.send(Packet::UnplugRemote)),
            ("", Then::GoesOn, &|peer| peer.send(Packet::Barrier(Barrier { number: 0xdead_beef }))),
            ("", Then::GoesOn, &|peer| {
                peer.send(Packet::Uuids(Uuids {
                    current: 6,
                    bitmap: 8,
                    history: [10, 12],
                    dirty_bits: u64::MAX,
                    flags: !8,
                }))
            }),
            ("", Then::GoesOn, &|peer| {
                peer.send(Packet::StateChangeRequest(StateChangeRequest { mask: 0, val: 0 }))
            }),
            ("", Then::GoesOn, &|peer| {
                peer.send(Packet::StateChangeRequest(StateChangeRequest { mask: u32::MAX, val: u32::MAX }))
            }),
            ("", Then::GoesOn, &|peer| {
                peer.send(Packet::ConnectionStateChangeRequest(StateChangeRequest {
                    mask: 0x1f0,
                    val: 0x1f0,
                }))
            }),
        ],
    );
    meets_a_peer(node);
}

#[test]
fn a_sync_uuid_while_connected_only_keeps_the_reader_waiting() {
    let node = waiting();
    let from = node.log.len();
    let mut peer = FakePeer::accepted(&node);
    peer.send(Packet::SyncUuid(0x1234_5678_9abc_def0));
    peer.send(Packet::Ping);
    while peer.receive_meta() != Packet::PingAck {}
    assert_eq!(node.volume().state.conn, Conn::Connected);
    // The wait ends with the connection.
    peer.close();
    let at = node.log.wait(from, "-> NetworkFailure )");
    node.log.wait(at, "conn( Unconnected -> WFConnection )");
    assert!(node.volume().backing.unwrap().uuids[0] & !1 == 4, "{:?}", node.volume());
    // And a command ends it too.
    let peer = FakePeer::accepted(&node);
    peer.send(Packet::SyncUuid(0x1234_5678_9abc_def0));
    node.drbdsetup(&["0", "disconnect", "--force"]).ok();
    node.wait_conn(Conn::StandAlone);
    meets_a_peer(node);
}

#[test]
fn packets_on_the_meta_socket() {
    let node = waiting();
    let raw = |bytes: Vec<u8>| move |peer: &FakePeer| peer.raw(Socket::Meta, &bytes);
    check(
        &node,
        &[
            ("Wrong magic value 0xaaaaaaaa", NETWORK_FAILURE, &raw(vec![0xaa; 64])),
            ("Wrong packet size on meta (c: 19, l: 1)", NETWORK_FAILURE, &raw(header_100(0, 0x13, 1))),
            ("Wrong packet size on meta (c: 22, l: 23)", NETWORK_FAILURE, &raw(header_100(0, 0x16, 23))),
            (
                "Wrong packet size on meta (c: 28, l: 4294967295)",
                NETWORK_FAILURE,
                &raw(header_100(0, 0x1c, u32::MAX)),
            ),
            ("Unexpected meta packet Unknown (0x0026)", Then::StandAlone, &raw(header_100(0, 0x26, 0))),
            ("Unexpected meta packet Data (0x0000)", Then::StandAlone, &raw(header_100(0, 0, 536))),
            ("Unexpected meta packet ReportState (0x000e)", Then::StandAlone, &raw(header_100(0, 0x0e, 4))),
            ("Unexpected meta packet InitialMeta (0xfff1)", Then::StandAlone, &raw(header_100(0, 0xfff1, 0))),
            ("meta connection shut down by peer.", NETWORK_FAILURE, &|peer| {
                peer.raw(Socket::Meta, &header_100(0, 0x16, 24)[..9]);
                peer.close_meta();
            }),
            ("BAD! BarrierAck #3735928559 received", PROTOCOL_ERROR, &|peer| {
                peer.send(Packet::BarrierAck(BarrierAck { number: 0xdead_beef, set_size: 3 }))
            }),
            // Unknown requests are logged, and no more (spec/wire.md 12.6).
            ("acknowledgement for unknown request", Then::GoesOn, &|peer| {
                peer.send(Packet::WriteAck(ack(0, 42, 4096)))
            }),
            ("acknowledgement for unknown request", Then::GoesOn, &|peer| {
                peer.send(Packet::RecvAck(ack(FAR, 42, 4096)))
            }),
            ("acknowledgement for unknown request", Then::GoesOn, &|peer| {
                peer.send(Packet::RsWriteAck(ack(0, 42, u32::MAX)))
            }),
            ("", Then::GoesOn, &|peer| peer.send(Packet::WriteAck(ack(FAR, ID_SYNCER, 4096)))),
            ("", Then::GoesOn, &|peer| peer.send(Packet::NegAck(ack(FAR, 42, u32::MAX)))),
            ("", Then::GoesOn, &|peer| peer.send(Packet::NegAck(ack(FAR, ID_SYNCER, u32::MAX)))),
            ("", Then::GoesOn, &|peer| peer.send(Packet::Superseded(ack(0, 42, 512)))),
            ("", Then::GoesOn, &|peer| peer.send(Packet::RetryWrite(ack(0, 42, 512)))),
            ("", Then::GoesOn, &|peer| peer.send(Packet::NegDataReply(ack(0, 42, 512)))),
            ("", Then::GoesOn, &|peer| peer.send(Packet::NegRsDataReply(ack(FAR, 42, 512)))),
            ("", Then::GoesOn, &|peer| peer.send(Packet::RsCancel(ack(FAR, 42, 512)))),
            ("", Then::GoesOn, &|peer| peer.send(Packet::RsIsInSync(ack(FAR, 42, u32::MAX)))),
            ("", Then::GoesOn, &|peer| {
                peer.send(Packet::OvResult(drbdbox::wire::OvResult {
                    sector: FAR,
                    size: 512,
                    seq: 9,
                    in_sync: false,
                }))
            }),
            ("", Then::GoesOn, &|peer| peer.send(Packet::StateChangeReply(1))),
            ("", Then::GoesOn, &|peer| peer.send(Packet::ConnectionStateChangeReply(-10))),
            ("", Then::GoesOn, &|peer| peer.send(Packet::PingAck)),
            ("", NETWORK_FAILURE, &|peer| peer.send_for(9, Packet::WriteAck(ack(0, 42, 4096)))),
        ],
    );
    meets_a_peer(node);
}

/// Bytes of a whole bitmap of the node.
fn bitmap_bytes(node: &Node) -> usize {
    let bits = node.wait("a size", |volume| volume.size_sectors > 0).size_sectors / 8;
    (bits.div_ceil(64) * 8) as usize
}

#[test]
fn bitmaps_at_the_wrong_time() {
    let node = waiting();
    let whole = bitmap_bytes(&node);
    let out_of_sync = node.volume().out_of_sync_bits;
    let bitmap = |bytes: Vec<u8>| move |peer: &FakePeer| peer.send_data(Packet::Bitmap, &bytes);
    check(
        &node,
        &[
            ("", Then::GoesOn, &bitmap(vec![0; whole])),
            ("", Then::GoesOn, &bitmap(vec![0xff; whole + 8])),
            ("", Then::GoesOn, &bitmap(vec![])),
            ("", Then::GoesOn, &|peer| peer.send_data(Packet::CompressedBitmap, &[0x7f; 16])),
        ],
    );
    assert_eq!(node.volume().out_of_sync_bits, out_of_sync);
    meets_a_peer(node);
}

#[test]
fn bitmaps_of_the_wrong_kind() {
    let node = waiting();
    let whole = bitmap_bytes(&node);
    let character = Character { disk: Some(Disk::UpToDate), current: Some(0x1000), ..Character::default() };
    let bitmap = |bytes: Vec<u8>| move |peer: &FakePeer| peer.send_data(Packet::Bitmap, &bytes);
    let compressed = |bytes: Vec<u8>| move |peer: &FakePeer| peer.send_data(Packet::CompressedBitmap, &bytes);
    type Send<'a> = &'a dyn Fn(&FakePeer);
    let cases: [(&str, Send); 7] = [
        ("receive_bitmap_plain:want", &bitmap(vec![0; whole + 8])),
        ("receive_bitmap_plain:want", &bitmap(vec![0; whole - 1])),
        ("receive_bitmap_plain:want", &bitmap(vec![])),
        ("unknown encoding", &compressed(vec![0x7f; 16])),
        ("", &compressed(vec![2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
        ("", &compressed(vec![0xf2, 0xff])),
        ("cmd neither ReportBitMap nor ReportCBitMap", &|peer| {
            // One run of some bits, then something else.
            peer.send_data(Packet::CompressedBitmap, &[2, 0b0010_1011]);
            peer.send(Packet::UnplugRemote);
        }),
    ];
    for (line, send) in cases {
        let from = node.log.len();
        let peer = FakePeer::connected(&node, character);
        node.log.wait(from, "-> WFBitMapT )");
        send(&peer);
        node.log.wait(from, line);
        let at = node.log.wait(from, "-> ProtocolError )");
        peer.until_dropped();
        node.log.wait(at, "conn( Unconnected -> WFConnection )");
    }
    meets_a_peer(node);
}

#[test]
fn parameters_in_the_middle_of_a_connection() {
    let node = waiting();
    let protocol = |protocol: u32| Packet::Protocol(plain_protocol(protocol));
    check(
        &node,
        &[
            ("incompatible communication protocols", Then::StandAlone, &|peer| peer.send(protocol(1))),
            ("incompatible communication protocols", Then::StandAlone, &|peer| peer.send(protocol(u32::MAX))),
            ("", Then::GoesOn, &|peer| peer.send(protocol(3))),
        ],
    );
    for (character, line) in [
        (Character { protocol: 2, ..Character::default() }, "incompatible communication protocols"),
        (Character { protocol: 77, ..Character::default() }, "incompatible communication protocols"),
    ] {
        let from = node.log.len();
        let peer = FakePeer::connected(&node, character);
        node.log.wait(from, line);
        node.wait_conn(Conn::StandAlone);
        peer.until_dropped();
        node.connect(new_address(), &[]);
    }
    meets_a_peer(node);
}

#[test]
fn a_peer_disk_that_is_too_small() {
    let node = Node::with_door("nbd-server");
    node.attach();
    node.connect(new_address(), &[]);
    node.drbdsetup(&["0", "primary", "-o"]).ok();
    let size = node.volume().size_sectors;
    let mut application = Client::open(&node, "minor-0");
    assert_eq!(application.size, size * 512);
    assert_eq!(application.write(size * 512 - 512, &[9; 512]), 0);
    let small = Character { sectors: Some(size / 2), ..Character::default() };
    let peer = FakePeer::connected(&node, small);
    node.log.wait(0, &format!("The peer's disk size is too small! ({} < {size} sectors)", size / 2));
    peer.until_dropped();
    node.wait_conn(Conn::StandAlone);
    let volume = node.volume();
    assert_eq!(
        (volume.size_sectors, volume.state.disk, volume.state.role),
        (size, Disk::UpToDate, Role::Primary)
    );
    assert_eq!(application.read(size * 512 - 512, 512), Ok(vec![9; 512]));
    // A real one, as an administrator meets it.
    let peer = Node::start();
    let disk = peer.make_disk("disk", 2 << 20);
    peer.drbdsetup(&["0", "disk", &disk, &disk, "internal", "--create-device"]).ok();
    let from = node.log.len();
    connect_both(&node, &peer, &[]);
    node.log.wait(from, "The peer's disk size is too small!");
    node.wait_conn(Conn::StandAlone);
    assert_eq!(application.write(size * 512 - 512, &[8; 512]), 0);
    assert_eq!(application.read(size * 512 - 512, 512), Ok(vec![8; 512]));
}

#[test]
fn no_acknowledged_write_is_lost_by_a_peer_that_lies() {
    let node = Node::with_door("nbd-server");
    let disk = node.attach();
    node.connect(new_address(), &[]);
    node.drbdsetup(&["0", "primary", "-o"]).ok();
    let mut application = Client::open(&node, "minor-0");
    let mut expected = vec![0; 64 * 512];
    type Lie<'a> = &'a dyn Fn(&FakePeer, BlockAck);
    let lies: [Lie; 7] = [
        &|peer, ack| peer.send(Packet::NegAck(ack)),
        &|peer, ack| peer.send(Packet::WriteAck(BlockAck { sector: ack.sector + 8, ..ack })),
        &|peer, ack| peer.send(Packet::WriteAck(BlockAck { block_id: ack.block_id ^ 1, ..ack })),
        &|peer, _| peer.send(Packet::BarrierAck(BarrierAck { number: 1, set_size: 1 })),
        &|peer, ack| {
            // Twice.
            peer.send(Packet::WriteAck(ack));
            peer.send(Packet::WriteAck(ack));
        },
        &|peer, ack| {
            peer.send_data(
                Packet::DataReply(Reply { sector: ack.sector, block_id: ack.block_id }),
                &[0xee; 512],
            )
        },
        &|peer, ack| peer.send(Packet::NegDataReply(ack)),
    ];
    for (number, lie) in lies.iter().enumerate() {
        let mut peer = FakePeer::accepted(&node);
        let bytes = [number as u8 + 1; 512];
        let sector = number as u64 * 5;
        application.start_write(sector * 512, &bytes);
        let ack = peer.receive_write();
        assert_eq!((ack.sector, ack.size), (sector, 512));
        lie(&peer, ack);
        // Whatever it said, the write ends well when it has gone.
        peer.send(Packet::Ping);
        peer.close();
        assert_eq!(application.answer(), 0, "lie {number}\n{}", node.log.text());
        expected[sector as usize * 512..][..512].copy_from_slice(&bytes);
        let all = application.read(0, expected.len() as u32).expect("data");
        assert!(all == expected, "lie {number}\n{}", node.log.text());
        node.wait("alone", |volume| volume.state.conn < Conn::Connected);
        assert!(std::fs::read(&disk).unwrap()[..expected.len()] == expected);
    }
    let out_of_sync = node.volume().out_of_sync_bits;
    assert!(out_of_sync > 0, "{out_of_sync}");
}

#[test]
fn the_headers_of_older_versions() {
    for version in [86, 94, 97, 100] {
        let version = ProtocolVersion::new(version).unwrap();
        let node = waiting();
        let character = Character { version, ..Character::default() };
        for (bytes, line) in [
            (vec![0xaa; 64], "Wrong magic value 0xaaaaaaaa"),
            (vec![0x83, 0x5a, 0, 0, 0xff, 0xff, 0xff, 0xff], ""),
            (header_80(0, 100), ""),
            (header_100(0, 0, u32::MAX), ""),
        ] {
            let from = node.log.len();
            let peer = FakePeer::connected(&node, character);
            node.wait_conn(Conn::Connected);
            peer.raw(Socket::Data, &[bytes, vec![0; 64]].concat());
            let at = node.log.wait(from, "-> ProtocolError )");
            peer.until_dropped();
            node.log.wait(from, line);
            node.log.wait(at, "conn( Unconnected -> WFConnection )");
        }
        meets_a_peer(node);
    }
}

#[test]
fn a_peer_that_falls_silent() {
    let node = Node::start();
    node.attach();
    node.connect(new_address(), &["--ping-int", "1"]);
    let peer = FakePeer::accepted(&node);
    node.log.wait(0, "PingAck did not arrive in time.");
    let at = node.log.wait(0, "-> NetworkFailure )");
    peer.until_dropped();
    node.log.wait(at, "conn( Unconnected -> WFConnection )");
    meets_a_peer(node);
}

#[test]
fn a_peer_that_never_answers_a_write() {
    let node = Node::with_door("nbd-server");
    node.attach();
    node.connect(new_address(), &["--ko-count", "1"]);
    node.drbdsetup(&["0", "primary", "-o"]).ok();
    let mut application = Client::open(&node, "minor-0");
    // It answers pings, so only the write tells.
    let peer = FakePeer::accepted(&node).keep_alive();
    application.start_write(0, &[7; 4096]);
    node.log.wait(0, "Remote failed to finish a request within 900ms > ko-count (1) * timeout (9 * 0.1s)");
    node.log.wait(0, "-> Timeout )");
    assert_eq!(application.answer(), 0);
    drop(peer);
    assert_eq!(application.read(0, 4096), Ok(vec![7; 4096]));
    // One that does not even read what is sent: the sockets' buffers run full.
    let from = node.log.len();
    let stuck = FakePeer::accepted(&node);
    let mut writes = 0;
    let size = application.size;
    while node.volume().state.conn == Conn::Connected {
        application.start_write((writes * (1 << 20)) % (size - (1 << 20)), &[writes as u8; 1 << 20]);
        writes += 1;
        if writes % 8 == 0 {
            break;
        }
    }
    node.log.wait(from, "-> Timeout )");
    for _ in 0..writes {
        assert_eq!(application.answer(), 0);
    }
    drop(stuck);
}
