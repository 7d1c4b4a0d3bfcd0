//! All packets at all versions: round trips, limits, arbitrary bytes.

use proptest::prelude::*;

use super::*;

fn version(number: u32) -> ProtocolVersion {
    ProtocolVersion::new(number).unwrap()
}

fn header(command: Command, length: u32) -> Header {
    Header { command: command.number(), volume: 0, length }
}

fn open(command: Command, length: u32, context: &Context) -> Result<(usize, usize), Malformed> {
    Frame::new(header(command, length), command.socket(), context)
        .map(|frame| (frame.fixed_len, frame.payload_len))
}

/// Decodes what [`Packet::encode_into`] made, as a reader does.
fn decode(bytes: &[u8], socket: Socket, context: &Context) -> Result<(Incoming, usize), Malformed> {
    let (head, rest) = bytes.split_at(context.version.header_len());
    let frame = Frame::new(Header::decode(context.framing(), head)?, socket, context)?;
    Ok((frame.decode(rest, context)?, frame.payload_len))
}

#[test]
fn a_packet_on_the_wrong_socket_is_unexpected() {
    let context = Context::new(ProtocolVersion::MAX);
    let at = |command, socket| Frame::new(header(command, 0), socket, &context).unwrap_err();
    let error = at(Command::Ping, Socket::Data);
    assert_eq!(error.to_string(), "Unexpected data packet Ping (0x0013)");
    assert_eq!(error.consequence(Socket::Data), Consequence::ProtocolError);
    let error = at(Command::UnplugRemote, Socket::Meta);
    assert_eq!(error.to_string(), "Unexpected meta packet UnplugRemote (0x0007)");
    assert_eq!(error.consequence(Socket::Meta), Consequence::Disconnecting);
    for command in [Command::BecomeSyncSource, Command::InitialData, Command::ConnectionFeatures] {
        at(command, Socket::Data);
        at(command, Socket::Meta);
    }
    let unknown = Header { command: 0x44, volume: 0, length: 0 };
    assert_eq!(
        Frame::new(unknown, Socket::Data, &context).unwrap_err().to_string(),
        "Unexpected data packet Unknown (0x0044)"
    );
    for socket in [Socket::Data, Socket::Meta] {
        let probe = header(Command::DelayProbe, 8);
        assert!(Frame::new(probe, socket, &context).is_ok());
    }
}

#[test]
fn lengths_are_checked_before_anything_is_read() {
    let context = Context::new(ProtocolVersion::MAX);
    let text = |command, length| open(command, length, &context).unwrap_err().to_string();
    assert_eq!(text(Command::State, 3), "ReportState: unexpected packet size, expected:4 received:3");
    assert_eq!(text(Command::Trim, 28 + 512), "No payload expected Trim l:512");
    assert_eq!(text(Command::WriteAck, 23), "Wrong packet size on meta (c: 22, l: 23)");
    assert_eq!(
        text(Command::SyncParam89, 149),
        "SyncParam packet too long: received 149, expected <= 148 bytes"
    );
    for (command, length) in [
        (Command::Data, 23),
        (Command::Data, 24 + 511),
        (Command::Data, 24 + (1 << 20) + 512),
        (Command::Data, u32::MAX),
        (Command::DataReply, 24),
        (Command::WriteSame, 28),
        (Command::OvReply, 24 + 65),
        (Command::Protocol, 24 + 65),
        (Command::Sizes, 56),
        (Command::AuthChallenge, 129),
        (Command::Bitmap, 4081),
        (Command::CompressedBitmap, 1),
    ] {
        assert!(open(command, length, &context).is_err(), "{command:?}");
    }
    assert_eq!(open(Command::Data, 24, &context), Ok((24, 0)));
    assert_eq!(open(Command::Data, 24 + (1 << 20), &context), Ok((24, 1 << 20)));
    assert_eq!(open(Command::Protocol, 24, &context), Ok((24, 0)));
}

#[test]
fn the_digest_is_counted_where_data_follow() {
    let mut context = Context::new(ProtocolVersion::MAX);
    context.peer_integrity_len = 20;
    assert_eq!(open(Command::Data, 44 + 4096, &context), Ok((44, 4096)));
    assert_eq!(open(Command::RsDataReply, 44 + 512, &context), Ok((44, 512)));
    assert_eq!(open(Command::Zeroes, 28, &context), Ok((28, 0)));
    assert!(open(Command::Data, 43, &context).is_err());
}

#[test]
fn the_sizes_packet_follows_the_feature() {
    let mut context = Context::new(version(86));
    assert_eq!(open(Command::Sizes, 32, &context), Ok((32, 0)));
    context.features = Features(0xf);
    assert_eq!(open(Command::Sizes, 56, &context), Ok((56, 0)));
    assert!(open(Command::Sizes, 32, &context).is_err());
}

#[test]
fn the_sync_parameters_follow_the_version() {
    for (number, good, bad) in [
        (86, &[4][..], &[3, 5][..]),
        (87, &[4], &[68]),
        (88, &[5, 68], &[4, 69]),
        (94, &[132], &[131, 148]),
        (95, &[148], &[132]),
    ] {
        let context = Context::new(version(number));
        for length in good {
            assert!(open(Command::SyncParam, *length, &context).is_ok());
        }
        for length in bad {
            assert!(open(Command::SyncParam, *length, &context).is_err());
        }
    }
}

#[test]
fn ranges_that_no_reader_should_get_are_refused() {
    let context = Context::new(ProtocolVersion::MAX);
    let request = |sector, size| {
        let packet = Packet::DataRequest(BlockRequest { sector, block_id: 1, size });
        decode(&packet.to_bytes(0, context.version), Socket::Data, &context)
    };
    assert!(request(0, 1 << 20).is_ok());
    for size in [0, 511, (1 << 20) + 512, u32::MAX] {
        assert!(request(0, size).is_err(), "{size}");
    }
    assert_eq!(request(SECTORS_MAX, 512), Err(Malformed::PacketSector { number: 8, sector: SECTORS_MAX }));
    let trim = |size| {
        let packet =
            Packet::Trim(RangeWrite { sector: 0, block_id: 1, seq: 1, flags: DataFlags::DISCARD, size });
        decode(&packet.to_bytes(0, context.version), Socket::Data, &context)
    };
    assert!(trim(4 << 20).is_ok());
    assert!(trim((4 << 20) + 512).is_err());
}

#[test]
fn a_reply_to_any_accepted_request_fits_its_header() {
    let context = Context::new(version(94));
    let request = |size| {
        let packet = Packet::RsDataRequest(BlockRequest { sector: 0, block_id: ID_SYNCER, size });
        decode(&packet.to_bytes(0, context.version), Socket::Data, &context)
    };
    assert!(request(32768).is_ok());
    assert!(request(65024).is_ok());
    assert!(request(65536).is_err());
    let reply = Packet::RsDataReply(Reply { sector: 0, block_id: ID_SYNCER });
    let mut out = Vec::new();
    reply.encode_into(&mut out, 0, context.version, &[0; 64], 65024);
    assert_eq!(out.len(), 8 + 24 + 64);
}

#[test]
fn packets_of_the_connection_carry_volume_0() {
    let barrier = Packet::Barrier(Barrier { number: 1 });
    assert_eq!(barrier.to_bytes(7, version(101))[4..6], [0, 0]);
    assert_eq!(Packet::State(0).to_bytes(7, version(101))[4..6], [0, 7]);
}

#[test]
fn names_are_cut_before_they_break_the_layout() {
    let context = Context::new(version(88));
    let packet = Packet::SyncParam(SyncParam {
        rate: 250,
        verify_alg: "x".repeat(100),
        csums_alg: String::new(),
        controller: None,
    });
    let bytes = packet.to_bytes(0, context.version);
    assert_eq!(bytes.len(), 8 + 4 + 64);
    assert!(decode(&bytes, Socket::Data, &context).is_ok());
}

#[test]
fn a_name_without_end_or_of_other_bytes_is_no_panic() {
    let context = Context::new(version(101));
    let frame = Frame::new(header(Command::Protocol, 88), Socket::Data, &context).unwrap();
    let incoming = frame.decode(&[0xff; 88], &context).unwrap();
    match incoming.packet {
        Packet::Protocol(protocol) => assert_eq!(protocol.integrity_alg, "?".repeat(63)),
        other => panic!("{other:?}"),
    }
}

fn sector() -> impl Strategy<Value = u64> {
    0..SECTORS_MAX
}

fn bytes_of_sectors(max: u32) -> impl Strategy<Value = u32> {
    (1..=max / 512).prop_map(|sectors| sectors * 512)
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9()-]{0,63}"
}

fn request() -> impl Strategy<Value = BlockRequest> {
    (sector(), any::<u64>(), bytes_of_sectors(65024)).prop_map(|(sector, block_id, size)| BlockRequest {
        sector,
        block_id,
        size,
    })
}

fn block_digest() -> impl Strategy<Value = BlockDigest> {
    (request(), prop::collection::vec(any::<u8>(), 0..=64)).prop_map(|(request, bytes)| BlockDigest {
        sector: request.sector,
        block_id: request.block_id,
        size: request.size,
        digest: DigestValue::new(&bytes).unwrap(),
    })
}

fn range() -> impl Strategy<Value = RangeWrite> {
    (sector(), any::<(u64, u32, u32)>(), bytes_of_sectors(4 << 20)).prop_map(
        |(sector, (block_id, seq, flags), size)| RangeWrite {
            sector,
            block_id,
            seq,
            flags: DataFlags(flags),
            size,
        },
    )
}

fn description() -> impl Strategy<Value = BlockDescription> {
    (sector(), bytes_of_sectors(4 << 20)).prop_map(|(sector, size)| BlockDescription { sector, size })
}

fn ack() -> impl Strategy<Value = BlockAck> {
    (sector(), any::<(u64, u32, u32)>()).prop_map(|(sector, (block_id, size, seq))| BlockAck {
        sector,
        block_id,
        size,
        seq,
    })
}

fn change() -> impl Strategy<Value = StateChangeRequest> {
    any::<(u32, u32)>().prop_map(|(mask, val)| StateChangeRequest { mask, val })
}

fn protocol(version: ProtocolVersion) -> impl Strategy<Value = Protocol> {
    (any::<[u32; 6]>(), name()).prop_map(move |(n, name)| Protocol {
        protocol: n[0],
        after_sb_0p: n[1],
        after_sb_1p: n[2],
        after_sb_2p: n[3],
        conn_flags: n[4],
        two_primaries: n[5],
        integrity_alg: match version.has_integrity_alg() {
            true => name,
            false => String::new(),
        },
    })
}

fn sync_param(version: ProtocolVersion) -> impl Strategy<Value = SyncParam> {
    (any::<[u32; 5]>(), name(), name()).prop_map(move |(n, verify_alg, csums_alg)| SyncParam {
        rate: n[0],
        verify_alg: match version.has_online_verify() {
            true => verify_alg,
            false => String::new(),
        },
        csums_alg: match version.has_csums() {
            true => csums_alg,
            false => String::new(),
        },
        controller: version.has_resync_controller().then_some(ResyncController {
            plan_ahead: n[1],
            delay_target: n[2],
            fill_target: n[3],
            max_rate: n[4],
        }),
    })
}

fn sizes(features: Features) -> impl Strategy<Value = Sizes> {
    any::<([u64; 3], u32, u16, [u32; 5], [u8; 3])>().prop_map(
        move |(sizes, max_bio_size, dds_flags, n, flags)| Sizes {
            d_size: sizes[0],
            u_size: sizes[1],
            c_size: sizes[2],
            max_bio_size,
            dds_flags,
            queue_limits: features.contains(Features::WSAME).then_some(QueueLimits {
                physical_block_size: n[0],
                logical_block_size: n[1],
                alignment_offset: n[2],
                io_min: n[3],
                io_opt: n[4],
                discard_enabled: flags[0],
                discard_zeroes_data: flags[1],
                write_same_capable: flags[2],
            }),
        },
    )
}

/// Any packet of the main phase, with the bytes of payload that it may have.
fn packet(version: ProtocolVersion, features: Features) -> impl Strategy<Value = (Packet, usize)> {
    let reply = || (sector(), any::<u64>()).prop_map(|(sector, block_id)| Reply { sector, block_id });
    let bulk = bytes_of_sectors(32768).prop_map(|bytes| bytes as usize);
    let with_data = prop_oneof![
        range().prop_map(|r| Packet::Data(Data {
            sector: r.sector,
            block_id: r.block_id,
            seq: r.seq,
            flags: r.flags,
        })),
        reply().prop_map(Packet::DataReply),
        reply().prop_map(Packet::RsDataReply),
        range().prop_map(Packet::WriteSame),
    ];
    let requests = prop_oneof![
        request().prop_map(Packet::DataRequest),
        request().prop_map(Packet::RsDataRequest),
        request().prop_map(Packet::RsThinRequest),
        request().prop_map(Packet::OvRequest),
        block_digest().prop_map(Packet::CsumRsRequest),
        block_digest().prop_map(Packet::OvReply),
        range().prop_map(Packet::Trim),
        range().prop_map(Packet::Zeroes),
        description().prop_map(Packet::OutOfSync),
        description().prop_map(Packet::RsDeallocated),
    ];
    let acks = prop_oneof![
        ack().prop_map(Packet::RecvAck),
        ack().prop_map(Packet::WriteAck),
        ack().prop_map(Packet::RsWriteAck),
        ack().prop_map(Packet::Superseded),
        ack().prop_map(Packet::RetryWrite),
        ack().prop_map(Packet::NegAck),
        ack().prop_map(Packet::NegDataReply),
        ack().prop_map(Packet::NegRsDataReply),
        ack().prop_map(Packet::RsCancel),
        ack().prop_map(Packet::RsIsInSync),
        (ack(), any::<bool>()).prop_map(|(ack, in_sync)| Packet::OvResult(OvResult {
            sector: ack.sector,
            size: ack.size,
            seq: ack.seq,
            in_sync,
        })),
        any::<(u32, u32)>()
            .prop_map(|(number, set_size)| Packet::BarrierAck(BarrierAck { number, set_size })),
        any::<i32>().prop_map(Packet::StateChangeReply),
        any::<i32>().prop_map(Packet::ConnectionStateChangeReply),
    ];
    let parameters = prop_oneof![
        protocol(version).prop_map(Packet::Protocol),
        protocol(version).prop_map(Packet::ProtocolUpdate),
        sync_param(version).prop_map(Packet::SyncParam),
        sizes(features).prop_map(Packet::Sizes),
        any::<[u64; 6]>().prop_map(|n| Packet::Uuids(Uuids {
            current: n[0],
            bitmap: n[1],
            history: [n[2], n[3]],
            dirty_bits: n[4],
            flags: n[5],
        })),
        any::<u64>().prop_map(Packet::SyncUuid),
        any::<u32>().prop_map(Packet::State),
        change().prop_map(Packet::StateChangeRequest),
        change().prop_map(Packet::ConnectionStateChangeRequest),
    ];
    let others = prop_oneof![
        any::<u32>().prop_map(|number| Packet::Barrier(Barrier { number })),
        any::<(u32, u32)>().prop_map(|(seq, offset_us)| Packet::DelayProbe(DelayProbe { seq, offset_us })),
        prop::collection::vec(any::<u8>(), 0..=128).prop_map(Packet::AuthChallenge),
        prop::collection::vec(any::<u8>(), 0..=64).prop_map(Packet::AuthResponse),
        Just(Packet::UnplugRemote),
        Just(Packet::Ping),
        Just(Packet::PingAck),
    ];
    let bitmap_max = version.bitmap_payload_max();
    prop_oneof![
        (with_data, bulk),
        (requests, Just(0)),
        (acks, Just(0)),
        (parameters, Just(0)),
        (others, Just(0)),
        (Just(Packet::Bitmap), 0..=bitmap_max),
        (Just(Packet::CompressedBitmap), 2..=bitmap_max),
    ]
}

fn exchange() -> impl Strategy<Value = (Context, u16, Packet, usize)> {
    (86u32..=101, 0u32..16, 0usize..=64, any::<u16>()).prop_flat_map(
        |(number, features, peer_integrity_len, volume)| {
            let context =
                Context { version: version(number), features: Features(features), peer_integrity_len };
            packet(context.version, context.features)
                .prop_map(move |(packet, len)| (context, volume, packet, len))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_packet_comes_back_at_every_version((context, volume, packet, len) in exchange()) {
        let carries_digest = matches!(
            packet,
            Packet::Data(_) | Packet::DataReply(_) | Packet::RsDataReply(_) | Packet::WriteSame(_)
        );
        let digest = match carries_digest {
            true => vec![0xd1; context.peer_integrity_len],
            false => Vec::new(),
        };
        let mut bytes = vec![0xaa; 3];
        packet.encode_into(&mut bytes, volume, context.version, &digest, len);
        prop_assert_eq!(&bytes[..3], &[0xaa; 3]);
        let (incoming, payload_len) = decode(&bytes[3..], packet.socket(), &context).unwrap();
        prop_assert_eq!(payload_len, len);
        prop_assert_eq!(&incoming.digest[..], &digest[..]);
        let command = packet.command(context.version);
        if context.version.has_volumes() && command.scope() == command::Scope::Volume {
            prop_assert_eq!(incoming.volume, volume);
        } else {
            prop_assert_eq!(incoming.volume, 0);
        }
        prop_assert_eq!(incoming.packet, packet);
    }

    /// Whatever comes: no panic, and no more to read than the limits say.
    #[test]
    fn arbitrary_bytes_are_a_packet_or_an_error(
        (number, features, peer_integrity_len) in (86u32..=101, any::<u32>(), 0usize..100),
        index in 0..Command::ALL.len(),
        length in prop_oneof![0u32..200, any::<u32>(), (0u32..2050).prop_map(|s| s * 512 + 24)],
        meta: bool,
        bytes in prop::collection::vec(any::<u8>(), FIXED_LEN_MAX),
    ) {
        let context = Context {
            version: version(number),
            features: Features(features),
            peer_integrity_len,
        };
        let _ = Header::decode(context.framing(), &bytes[..context.version.header_len()]);
        let socket = if meta { Socket::Meta } else { Socket::Data };
        if let Ok(frame) = Frame::new(header(Command::ALL[index], length), socket, &context) {
            prop_assert!(frame.fixed_len <= FIXED_LEN_MAX);
            prop_assert!(frame.payload_len <= BIO_BYTES_MAX as usize);
            prop_assert_eq!(frame.fixed_len + frame.payload_len, length as usize);
            let _ = frame.decode(&bytes[..frame.fixed_len], &context);
            let short = frame.fixed_len.saturating_sub(1);
            if short < frame.fixed_len {
                prop_assert_eq!(
                    frame.decode(&bytes[..short], &context),
                    Err(Malformed::Truncated)
                );
            }
        }
    }
}
