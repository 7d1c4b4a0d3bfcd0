//! Every packet as one enum, and the frame that tells a reader how many bytes follow a header.

use super::bytes::{Put, Reader};
use super::command::{Length, Scope};
use super::digest::DIGEST_LEN_MAX;
use super::{
    auth, Barrier, BarrierAck, BlockAck, BlockDescription, BlockDigest, BlockRequest, Command,
    Data, DelayProbe, DigestValue, Features, FeaturesPacket, Framing, Header, Malformed, OvResult,
    Protocol, ProtocolVersion, RangeWrite, Reply, Sizes, Socket, StateChangeRequest, SyncParam,
    Uuids, BIO_BYTES_MAX, SECTOR_BYTES,
};

/// Most bytes in front of the payload of any packet: [`Frame::fixed_len`] is never larger.
pub const FIXED_LEN_MAX: usize = 160;

/// Largest read that is accepted below version 95: its reply must fit a 16-bit length.
const REQUEST_BYTES_MAX_H80: u32 = 65024;

/// What was agreed with the peer and decides about the layout of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Agreed version.
    pub version: ProtocolVersion,
    /// Agreed features.
    pub features: Features,
    /// Bytes of a digest by the peer's data-integrity-alg, which precedes data; 0: none.
    pub peer_integrity_len: usize,
}

impl Context {
    /// A context without features and digests.
    pub fn new(version: ProtocolVersion) -> Context {
        Context {
            version,
            features: Features::NONE,
            peer_integrity_len: 0,
        }
    }

    /// The headers to expect.
    pub fn framing(&self) -> Framing {
        Framing::Agreed(self.version)
    }
}

/// A packet without its payload. The doc comments name the constant of spec/wire.md 5.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// P_DATA; the data to write are the payload.
    Data(Data),
    /// P_DATA_REPLY; the data read are the payload.
    DataReply(Reply),
    /// P_RS_DATA_REPLY; the data read are the payload.
    RsDataReply(Reply),
    /// P_TRIM
    Trim(RangeWrite),
    /// P_ZEROES
    Zeroes(RangeWrite),
    /// P_WSAME; the block to repeat is the payload.
    WriteSame(RangeWrite),
    /// P_BARRIER
    Barrier(Barrier),
    /// P_UNPLUG_REMOTE
    UnplugRemote,
    /// P_OUT_OF_SYNC
    OutOfSync(BlockDescription),
    /// P_RS_DEALLOCATED
    RsDeallocated(BlockDescription),
    /// P_DATA_REQUEST
    DataRequest(BlockRequest),
    /// P_RS_DATA_REQUEST
    RsDataRequest(BlockRequest),
    /// P_RS_THIN_REQ
    RsThinRequest(BlockRequest),
    /// P_CSUM_RS_REQUEST
    CsumRsRequest(BlockDigest),
    /// P_OV_REQUEST
    OvRequest(BlockRequest),
    /// P_OV_REPLY
    OvReply(BlockDigest),
    /// P_BITMAP; words of the bitmap are the payload: [`super::bitmap_code`].
    Bitmap,
    /// P_COMPRESSED_BITMAP; runs of the bitmap are the payload: [`super::bitmap_code`].
    CompressedBitmap,
    /// P_PROTOCOL
    Protocol(Protocol),
    /// P_PROTOCOL_UPDATE
    ProtocolUpdate(Protocol),
    /// P_SYNC_PARAM or P_SYNC_PARAM89, as the version has it.
    SyncParam(SyncParam),
    /// P_SIZES
    Sizes(Sizes),
    /// P_UUIDS
    Uuids(Uuids),
    /// P_SYNC_UUID: the new current UUID of the sync target.
    SyncUuid(u64),
    /// P_STATE: a state word.
    State(u32),
    /// P_STATE_CHG_REQ
    StateChangeRequest(StateChangeRequest),
    /// P_STATE_CHG_REPLY: 1 and above agreed, below 1 a reason.
    StateChangeReply(i32),
    /// P_CONN_ST_CHG_REQ
    ConnectionStateChangeRequest(StateChangeRequest),
    /// P_CONN_ST_CHG_REPLY: as [`Packet::StateChangeReply`].
    ConnectionStateChangeReply(i32),
    /// P_PING
    Ping,
    /// P_PING_ACK
    PingAck,
    /// P_RECV_ACK
    RecvAck(BlockAck),
    /// P_WRITE_ACK
    WriteAck(BlockAck),
    /// P_RS_WRITE_ACK
    RsWriteAck(BlockAck),
    /// P_SUPERSEDED, 8.3's P_DISCARD_ACK
    Superseded(BlockAck),
    /// P_RETRY_WRITE
    RetryWrite(BlockAck),
    /// P_NEG_ACK
    NegAck(BlockAck),
    /// P_NEG_DREPLY
    NegDataReply(BlockAck),
    /// P_NEG_RS_DREPLY
    NegRsDataReply(BlockAck),
    /// P_RS_CANCEL
    RsCancel(BlockAck),
    /// P_RS_IS_IN_SYNC
    RsIsInSync(BlockAck),
    /// P_OV_RESULT
    OvResult(OvResult),
    /// P_BARRIER_ACK
    BarrierAck(BarrierAck),
    /// P_DELAY_PROBE
    DelayProbe(DelayProbe),
    /// P_AUTH_CHALLENGE
    AuthChallenge(Vec<u8>),
    /// P_AUTH_RESPONSE
    AuthResponse(Vec<u8>),
    /// P_INITIAL_DATA: first packet of the data connection.
    InitialData,
    /// P_INITIAL_META: first packet of the meta connection.
    InitialMeta,
    /// P_CONNECTION_FEATURES
    ConnectionFeatures(FeaturesPacket),
}

/// A packet whose header is known: how many bytes to read, in two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Type of the packet.
    pub command: Command,
    /// Volume in its header.
    pub volume: u16,
    /// Bytes of sub-header and digest, for [`Frame::decode`]; at most [`FIXED_LEN_MAX`].
    pub fixed_len: usize,
    /// Bytes of payload behind them; at most [`BIO_BYTES_MAX`].
    pub payload_len: usize,
}

/// A received packet. The payload is still in the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The packet.
    pub packet: Packet,
    /// Its volume; without meaning for packets of the whole connection.
    pub volume: u16,
    /// Digest of the payload by the peer's data-integrity-alg; empty: none.
    pub digest: DigestValue,
}

impl Frame {
    /// Checks type and length of a packet of the main phase before anything is read or
    /// allocated. The packets of the handshake are unexpected here: see [`super::handshake`];
    /// those of the authentication are let through.
    pub fn new(header: Header, socket: Socket, context: &Context) -> Result<Frame, Malformed> {
        let number = header.command;
        let unexpected = Malformed::UnexpectedPacket { socket, number };
        let command = match Command::from_number(number) {
            Some(command) if command.travels_on(socket) => command,
            _ => return Err(unexpected),
        };
        let (fixed, payload) =
            split(command, header.length, context).map_err(|e| match socket {
                Socket::Data => e,
                Socket::Meta => Malformed::WrongMetaSize {
                    number,
                    length: header.length,
                },
            })?;
        Ok(Frame {
            command,
            volume: header.volume,
            fixed_len: fixed as usize,
            payload_len: payload as usize,
        })
    }

    /// Decodes the [`fixed_len`](Frame::fixed_len) bytes behind the header.
    pub fn decode(&self, fixed: &[u8], context: &Context) -> Result<Incoming, Malformed> {
        if fixed.len() != self.fixed_len {
            return Err(Malformed::Truncated);
        }
        let mut fields = Reader::new(fixed);
        let packet = decode_packet(self.command, &mut fields, context)?;
        check_sizes(&packet, self.command, context)?;
        let digest = match self.command.length() {
            Length::Data(_) => DigestValue::cut(fields.rest()),
            _ => DigestValue::NONE,
        };
        Ok(Incoming {
            packet,
            volume: self.volume,
            digest,
        })
    }
}

/// Bytes of sub-header and digest, and bytes of payload, of a packet of `length` bytes.
fn split(command: Command, length: u32, context: &Context) -> Result<(u32, u32), Malformed> {
    let number = command.number();
    let too_short = |expected| Malformed::TooShort {
        number,
        expected,
        received: length,
    };
    let within = |least: u32, most: u32| {
        if length < least {
            Err(too_short(least))
        } else if length > most {
            Err(Malformed::NoPayloadExpected {
                number,
                length: length - most,
            })
        } else {
            Ok((length, 0))
        }
    };
    match command.length() {
        Length::Exact(len) => within(len, len),
        Length::Digest(len) => within(len, len + DIGEST_LEN_MAX as u32),
        Length::Data(len) => {
            let fixed = len + context.peer_integrity_len.min(DIGEST_LEN_MAX) as u32;
            let bytes = length.checked_sub(fixed).ok_or(too_short(fixed))?;
            // Only a write may be empty: a flush.
            if bytes == 0 && command != Command::Data {
                return Err(too_short(fixed + SECTOR_BYTES));
            }
            check_bytes(number, bytes, BIO_BYTES_MAX)?;
            Ok((fixed, bytes))
        }
        Length::Bitmap => {
            let max = context.version.bitmap_payload_max() as u32;
            match command {
                Command::CompressedBitmap if length > max => {
                    Err(Malformed::CompressedBitmapTooLarge { length })
                }
                Command::CompressedBitmap if length < 2 => {
                    Err(Malformed::CompressedBitmapTooSmall { length })
                }
                _ if length > max => Err(Malformed::PlainBitmapSize {
                    want: max as usize,
                    size: length as usize,
                }),
                _ => Ok((0, length)),
            }
        }
        Length::Own => match command {
            Command::Protocol | Command::ProtocolUpdate => {
                let name = if context.version.has_integrity_alg() {
                    super::bytes::NAME_MAX as u32
                } else {
                    0
                };
                within(Protocol::FIXED_LEN, Protocol::FIXED_LEN + name)
            }
            Command::SyncParam | Command::SyncParam89 => {
                let (least, most) = SyncParam::len_range(context.version);
                if length > most {
                    return Err(Malformed::SyncParamTooLong {
                        received: length,
                        expected: most,
                    });
                }
                within(least, most)
            }
            Command::Sizes if context.features.contains(Features::WSAME) => {
                within(Sizes::LEN_WITH_LIMITS, Sizes::LEN_WITH_LIMITS)
            }
            Command::Sizes => within(Sizes::LEN, Sizes::LEN),
            _ => within(0, auth::CHALLENGE_LEN_MAX as u32),
        },
    }
}

/// A range or payload must be whole sectors and within `limit`.
fn check_bytes(number: u16, bytes: u32, limit: u32) -> Result<(), Malformed> {
    if bytes % SECTOR_BYTES != 0 || bytes > limit {
        return Err(Malformed::DataSize {
            number,
            bytes,
            limit,
        });
    }
    Ok(())
}

/// The limits of spec/wire.md 2.4 and 5.7 on the ranges that packets speak of. Whether a range
/// lies within the device is for the receiver to check, who knows the device.
fn check_sizes(packet: &Packet, command: Command, context: &Context) -> Result<(), Malformed> {
    let number = command.number();
    let discard_max = context.features.max_discard_bytes();
    let request_max = if context.version.number() < 95 {
        REQUEST_BYTES_MAX_H80
    } else {
        BIO_BYTES_MAX
    };
    let not_empty = |bytes: u32, limit| match bytes {
        0 => Err(Malformed::DataSize {
            number,
            bytes,
            limit,
        }),
        _ => check_bytes(number, bytes, limit),
    };
    match packet {
        Packet::Trim(range) | Packet::Zeroes(range) | Packet::WriteSame(range) => {
            check_bytes(number, range.size, discard_max)
        }
        Packet::DataRequest(request)
        | Packet::RsDataRequest(request)
        | Packet::RsThinRequest(request)
        | Packet::OvRequest(request) => not_empty(request.size, request_max),
        Packet::CsumRsRequest(digest) | Packet::OvReply(digest) => {
            not_empty(digest.size, request_max)
        }
        Packet::RsDeallocated(range) => not_empty(range.size, discard_max),
        _ => Ok(()),
    }
}

fn decode_packet(
    command: Command,
    fields: &mut Reader<'_>,
    context: &Context,
) -> Result<Packet, Malformed> {
    Ok(match command {
        Command::Data => Packet::Data(Data::decode(fields)?),
        Command::DataReply => Packet::DataReply(Reply::decode(fields)?),
        Command::RsDataReply => Packet::RsDataReply(Reply::decode(fields)?),
        Command::Trim => Packet::Trim(RangeWrite::decode(fields)?),
        Command::Zeroes => Packet::Zeroes(RangeWrite::decode(fields)?),
        Command::WriteSame => Packet::WriteSame(RangeWrite::decode(fields)?),
        Command::Barrier => Packet::Barrier(Barrier::decode(fields)?),
        Command::UnplugRemote => Packet::UnplugRemote,
        Command::OutOfSync => Packet::OutOfSync(BlockDescription::decode(fields)?),
        Command::RsDeallocated => Packet::RsDeallocated(BlockDescription::decode(fields)?),
        Command::DataRequest => Packet::DataRequest(BlockRequest::decode(fields)?),
        Command::RsDataRequest => Packet::RsDataRequest(BlockRequest::decode(fields)?),
        Command::RsThinRequest => Packet::RsThinRequest(BlockRequest::decode(fields)?),
        Command::CsumRsRequest => Packet::CsumRsRequest(BlockDigest::decode(fields)?),
        Command::OvRequest => Packet::OvRequest(BlockRequest::decode(fields)?),
        Command::OvReply => Packet::OvReply(BlockDigest::decode(fields)?),
        Command::Bitmap => Packet::Bitmap,
        Command::CompressedBitmap => Packet::CompressedBitmap,
        Command::Protocol => Packet::Protocol(Protocol::decode(fields)?),
        Command::ProtocolUpdate => Packet::ProtocolUpdate(Protocol::decode(fields)?),
        Command::SyncParam | Command::SyncParam89 => {
            Packet::SyncParam(SyncParam::decode(fields, context.version)?)
        }
        Command::Sizes => {
            let with_limits = context.features.contains(Features::WSAME);
            Packet::Sizes(Sizes::decode(fields, with_limits)?)
        }
        Command::Uuids => Packet::Uuids(Uuids::decode(fields)?),
        Command::SyncUuid => Packet::SyncUuid(fields.u64()?),
        Command::State => Packet::State(fields.u32()?),
        Command::StateChangeRequest => {
            Packet::StateChangeRequest(StateChangeRequest::decode(fields)?)
        }
        Command::StateChangeReply => Packet::StateChangeReply(fields.u32()? as i32),
        Command::ConnectionStateChangeRequest => {
            Packet::ConnectionStateChangeRequest(StateChangeRequest::decode(fields)?)
        }
        Command::ConnectionStateChangeReply => {
            Packet::ConnectionStateChangeReply(fields.u32()? as i32)
        }
        Command::Ping => Packet::Ping,
        Command::PingAck => Packet::PingAck,
        Command::RecvAck => Packet::RecvAck(BlockAck::decode(fields)?),
        Command::WriteAck => Packet::WriteAck(BlockAck::decode(fields)?),
        Command::RsWriteAck => Packet::RsWriteAck(BlockAck::decode(fields)?),
        Command::Superseded => Packet::Superseded(BlockAck::decode(fields)?),
        Command::RetryWrite => Packet::RetryWrite(BlockAck::decode(fields)?),
        Command::NegAck => Packet::NegAck(BlockAck::decode(fields)?),
        Command::NegDataReply => Packet::NegDataReply(BlockAck::decode(fields)?),
        Command::NegRsDataReply => Packet::NegRsDataReply(BlockAck::decode(fields)?),
        Command::RsCancel => Packet::RsCancel(BlockAck::decode(fields)?),
        Command::RsIsInSync => Packet::RsIsInSync(BlockAck::decode(fields)?),
        Command::OvResult => Packet::OvResult(OvResult::decode(fields)?),
        Command::BarrierAck => Packet::BarrierAck(BarrierAck::decode(fields)?),
        Command::DelayProbe => Packet::DelayProbe(DelayProbe::decode(fields)?),
        Command::AuthChallenge => Packet::AuthChallenge(fields.rest().to_vec()),
        Command::AuthResponse => Packet::AuthResponse(fields.rest().to_vec()),
        Command::InitialData => Packet::InitialData,
        Command::InitialMeta => Packet::InitialMeta,
        Command::ConnectionFeatures => Packet::ConnectionFeatures(FeaturesPacket::decode(fields)?),
        Command::BecomeSyncTarget | Command::BecomeSyncSource => {
            return Err(Malformed::UnexpectedPacket {
                socket: Socket::Data,
                number: command.number(),
            })
        }
    })
}

impl Packet {
    /// The type of the packet; P_SYNC_PARAM has another one from version 89 on.
    pub fn command(&self, version: ProtocolVersion) -> Command {
        match self {
            Packet::Data(_) => Command::Data,
            Packet::DataReply(_) => Command::DataReply,
            Packet::RsDataReply(_) => Command::RsDataReply,
            Packet::Trim(_) => Command::Trim,
            Packet::Zeroes(_) => Command::Zeroes,
            Packet::WriteSame(_) => Command::WriteSame,
            Packet::Barrier(_) => Command::Barrier,
            Packet::UnplugRemote => Command::UnplugRemote,
            Packet::OutOfSync(_) => Command::OutOfSync,
            Packet::RsDeallocated(_) => Command::RsDeallocated,
            Packet::DataRequest(_) => Command::DataRequest,
            Packet::RsDataRequest(_) => Command::RsDataRequest,
            Packet::RsThinRequest(_) => Command::RsThinRequest,
            Packet::CsumRsRequest(_) => Command::CsumRsRequest,
            Packet::OvRequest(_) => Command::OvRequest,
            Packet::OvReply(_) => Command::OvReply,
            Packet::Bitmap => Command::Bitmap,
            Packet::CompressedBitmap => Command::CompressedBitmap,
            Packet::Protocol(_) => Command::Protocol,
            Packet::ProtocolUpdate(_) => Command::ProtocolUpdate,
            Packet::SyncParam(_) if version.has_sync_param89() => Command::SyncParam89,
            Packet::SyncParam(_) => Command::SyncParam,
            Packet::Sizes(_) => Command::Sizes,
            Packet::Uuids(_) => Command::Uuids,
            Packet::SyncUuid(_) => Command::SyncUuid,
            Packet::State(_) => Command::State,
            Packet::StateChangeRequest(_) => Command::StateChangeRequest,
            Packet::StateChangeReply(_) => Command::StateChangeReply,
            Packet::ConnectionStateChangeRequest(_) => Command::ConnectionStateChangeRequest,
            Packet::ConnectionStateChangeReply(_) => Command::ConnectionStateChangeReply,
            Packet::Ping => Command::Ping,
            Packet::PingAck => Command::PingAck,
            Packet::RecvAck(_) => Command::RecvAck,
            Packet::WriteAck(_) => Command::WriteAck,
            Packet::RsWriteAck(_) => Command::RsWriteAck,
            Packet::Superseded(_) => Command::Superseded,
            Packet::RetryWrite(_) => Command::RetryWrite,
            Packet::NegAck(_) => Command::NegAck,
            Packet::NegDataReply(_) => Command::NegDataReply,
            Packet::NegRsDataReply(_) => Command::NegRsDataReply,
            Packet::RsCancel(_) => Command::RsCancel,
            Packet::RsIsInSync(_) => Command::RsIsInSync,
            Packet::OvResult(_) => Command::OvResult,
            Packet::BarrierAck(_) => Command::BarrierAck,
            Packet::DelayProbe(_) => Command::DelayProbe,
            Packet::AuthChallenge(_) => Command::AuthChallenge,
            Packet::AuthResponse(_) => Command::AuthResponse,
            Packet::InitialData => Command::InitialData,
            Packet::InitialMeta => Command::InitialMeta,
            Packet::ConnectionFeatures(_) => Command::ConnectionFeatures,
        }
    }

    /// The socket on which to send the packet.
    pub fn socket(&self) -> Socket {
        self.command(ProtocolVersion::MAX).socket()
    }

    /// Appends header, sub-header and digest. The caller sends `payload_len` bytes of payload
    /// right behind them.
    ///
    /// `digest`: of the payload, by the own data-integrity-alg, in P_DATA, P_*DATA_REPLY and
    /// P_WSAME; else empty. `volume` is ignored for packets of the whole connection and below
    /// version 100, `version` for the packets of the handshake.
    ///
    /// # Panics
    /// If the packet is too long for the header of the version: see [`super::header`].
    pub fn encode_into(
        &self,
        out: &mut Vec<u8>,
        volume: u16,
        version: ProtocolVersion,
        digest: &[u8],
        payload_len: usize,
    ) {
        let command = self.command(version);
        let framing = match self {
            Packet::InitialData | Packet::InitialMeta | Packet::ConnectionFeatures(_) => {
                Framing::First
            }
            _ => Framing::Agreed(version),
        };
        // Room for the header, which is written when the length behind it is known.
        let start = out.len();
        let fields = start + framing.header_len();
        out.resize(fields, 0);
        self.encode_fields(version, out);
        out.extend_from_slice(digest);
        let length = out.len() - fields + payload_len;
        let header = Header {
            command: command.number(),
            volume: match command.scope() {
                Scope::Volume => volume,
                Scope::Connection => 0,
            },
            length: u32::try_from(length).unwrap_or(u32::MAX),
        };
        header.encode(framing, &mut out[start..fields]);
    }

    /// The packet as bytes of its own, for one without payload and digest.
    pub fn to_bytes(&self, volume: u16, version: ProtocolVersion) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.encode_into(&mut out, volume, version, &[], 0);
        out
    }

    fn encode_fields(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        match self {
            Packet::Data(data) => data.encode(out),
            Packet::DataReply(reply) | Packet::RsDataReply(reply) => reply.encode(out),
            Packet::Trim(range) | Packet::Zeroes(range) | Packet::WriteSame(range) => {
                range.encode(out)
            }
            Packet::Barrier(barrier) => barrier.encode(out),
            Packet::OutOfSync(range) | Packet::RsDeallocated(range) => range.encode(out),
            Packet::DataRequest(request)
            | Packet::RsDataRequest(request)
            | Packet::RsThinRequest(request)
            | Packet::OvRequest(request) => request.encode(out),
            Packet::CsumRsRequest(digest) | Packet::OvReply(digest) => digest.encode(out),
            Packet::Protocol(protocol) | Packet::ProtocolUpdate(protocol) => {
                protocol.encode(version, out)
            }
            Packet::SyncParam(param) => param.encode(version, out),
            Packet::Sizes(sizes) => sizes.encode(out),
            Packet::Uuids(uuids) => uuids.encode(out),
            Packet::SyncUuid(uuid) => out.u64(*uuid),
            Packet::State(word) => out.u32(*word),
            Packet::StateChangeRequest(request) | Packet::ConnectionStateChangeRequest(request) => {
                request.encode(out)
            }
            Packet::StateChangeReply(result) | Packet::ConnectionStateChangeReply(result) => {
                out.u32(*result as u32)
            }
            Packet::RecvAck(ack)
            | Packet::WriteAck(ack)
            | Packet::RsWriteAck(ack)
            | Packet::Superseded(ack)
            | Packet::RetryWrite(ack)
            | Packet::NegAck(ack)
            | Packet::NegDataReply(ack)
            | Packet::NegRsDataReply(ack)
            | Packet::RsCancel(ack)
            | Packet::RsIsInSync(ack) => ack.encode(out),
            Packet::OvResult(result) => result.encode(out),
            Packet::BarrierAck(ack) => ack.encode(out),
            Packet::DelayProbe(probe) => probe.encode(out),
            Packet::AuthChallenge(bytes) | Packet::AuthResponse(bytes) => {
                out.extend_from_slice(bytes)
            }
            Packet::ConnectionFeatures(features) => features.encode(out),
            Packet::UnplugRemote
            | Packet::Bitmap
            | Packet::CompressedBitmap
            | Packet::Ping
            | Packet::PingAck
            | Packet::InitialData
            | Packet::InitialMeta => {}
        }
    }
}
