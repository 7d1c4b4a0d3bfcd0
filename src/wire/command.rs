//! The one table of packets: number, socket, scope, length rule and the names in the log.
//! spec/wire.md 5.1.

use std::fmt;

/// One of the two connections to the peer. spec/wire.md 1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Socket {
    /// Requests, data, state, parameters.
    Data,
    /// Acknowledgements and pings.
    Meta,
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Socket::Data => "data",
            Socket::Meta => "meta",
        })
    }
}

/// Whose names are used in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// 8.3.16.
    V83,
    /// 8.4.
    V84,
}

/// Sockets on which a packet may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// The data socket.
    Data,
    /// The meta socket.
    Meta,
    /// Either (P_DELAY_PROBE).
    Both,
    /// Never sent.
    None,
}

/// Whether the volume field of the header means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The packet belongs to one volume.
    Volume,
    /// The packet belongs to the whole connection; its volume field is ignored. spec/wire.md 2.3.
    Connection,
}

/// How many bytes a packet has behind its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Exactly so many.
    Exact(u32),
    /// A sub-header of so many bytes, the digest of the data if a data-integrity-alg is in use,
    /// then the data.
    Data(u32),
    /// A sub-header of so many bytes, then a digest up to the end.
    Digest(u32),
    /// Decided by version, features and content: P_PROTOCOL, P_SYNC_PARAM, P_SIZES, P_AUTH_*.
    Own,
    /// All of it is payload: bitmap packets.
    Bitmap,
}

macro_rules! commands {
    ($($name:ident = $number:literal $constant:literal, $carrier:ident, $scope:ident, $length:expr,
       $v84:literal, $v83:literal;)*) => {
        /// A packet type.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Command {
            $(#[doc = concat!("`", $constant, "`")] $name = $number,)*
        }

        impl Command {
            /// All packet types in the order of their numbers.
            pub const ALL: &'static [Command] = &[$(Command::$name),*];

            /// The type with this number; `None` if it is unassigned or known to DRBD 9 only.
            pub fn from_number(number: u16) -> Option<Command> {
                match number {
                    $($number => Some(Command::$name),)*
                    _ => None,
                }
            }

            fn row(self) -> Row {
                match self {
                    $(Command::$name => Row {
                        constant: $constant,
                        carrier: Carrier::$carrier,
                        scope: Scope::$scope,
                        length: $length,
                        names: [$v83, $v84],
                    },)*
                }
            }
        }
    };
}

struct Row {
    constant: &'static str,
    carrier: Carrier,
    scope: Scope,
    length: Length,
    /// 8.3, 8.4.
    names: [&'static str; 2],
}

/// What the log calls a packet that a release does not know.
const UNKNOWN: &str = "Unknown";

use Length::{Bitmap as Bits, Data as Bulk, Digest as Hashed, Exact, Own};

commands! {
    Data = 0x00 "P_DATA", Data, Volume, Bulk(24), "Data", "Data";
    DataReply = 0x01 "P_DATA_REPLY", Data, Volume, Bulk(24), "DataReply", "DataReply";
    RsDataReply = 0x02 "P_RS_DATA_REPLY", Data, Volume, Bulk(24), "RSDataReply", "RSDataReply";
    Barrier = 0x03 "P_BARRIER", Data, Connection, Exact(8), "Barrier", "Barrier";
    Bitmap = 0x04 "P_BITMAP", Data, Volume, Bits, "ReportBitMap", "ReportBitMap";
    BecomeSyncTarget = 0x05 "P_BECOME_SYNC_TARGET", None, Volume, Exact(0), "BecomeSyncTarget", "BecomeSyncTarget";
    BecomeSyncSource = 0x06 "P_BECOME_SYNC_SOURCE", None, Volume, Exact(0), "BecomeSyncSource", "BecomeSyncSource";
    UnplugRemote = 0x07 "P_UNPLUG_REMOTE", Data, Connection, Exact(0), "UnplugRemote", "UnplugRemote";
    DataRequest = 0x08 "P_DATA_REQUEST", Data, Volume, Exact(24), "DataRequest", "DataRequest";
    RsDataRequest = 0x09 "P_RS_DATA_REQUEST", Data, Volume, Exact(24), "RSDataRequest", "RSDataRequest";
    SyncParam = 0x0a "P_SYNC_PARAM", Data, Volume, Own, "SyncParam", "SyncParam";
    Protocol = 0x0b "P_PROTOCOL", Data, Connection, Own, "ReportProtocol", "ReportProtocol";
    Uuids = 0x0c "P_UUIDS", Data, Volume, Exact(48), "ReportUUIDs", "ReportUUIDs";
    Sizes = 0x0d "P_SIZES", Data, Volume, Own, "ReportSizes", "ReportSizes";
    State = 0x0e "P_STATE", Data, Volume, Exact(4), "ReportState", "ReportState";
    SyncUuid = 0x0f "P_SYNC_UUID", Data, Volume, Exact(8), "ReportSyncUUID", "ReportSyncUUID";
    AuthChallenge = 0x10 "P_AUTH_CHALLENGE", Data, Connection, Own, "AuthChallenge", "AuthChallenge";
    AuthResponse = 0x11 "P_AUTH_RESPONSE", Data, Connection, Own, "AuthResponse", "AuthResponse";
    StateChangeRequest = 0x12 "P_STATE_CHG_REQ", Data, Volume, Exact(8), "StateChgRequest", "StateChgRequest";
    Ping = 0x13 "P_PING", Meta, Connection, Exact(0), "Ping", "Ping";
    PingAck = 0x14 "P_PING_ACK", Meta, Connection, Exact(0), "PingAck", "PingAck";
    RecvAck = 0x15 "P_RECV_ACK", Meta, Volume, Exact(24), "RecvAck", "RecvAck";
    WriteAck = 0x16 "P_WRITE_ACK", Meta, Volume, Exact(24), "WriteAck", "WriteAck";
    RsWriteAck = 0x17 "P_RS_WRITE_ACK", Meta, Volume, Exact(24), "RSWriteAck", "RSWriteAck";
    Superseded = 0x18 "P_SUPERSEDED", Meta, Volume, Exact(24), "Superseded", "DiscardAck";
    NegAck = 0x19 "P_NEG_ACK", Meta, Volume, Exact(24), "NegAck", "NegAck";
    NegDataReply = 0x1a "P_NEG_DREPLY", Meta, Volume, Exact(24), "NegDReply", "NegDReply";
    NegRsDataReply = 0x1b "P_NEG_RS_DREPLY", Meta, Volume, Exact(24), "NegRSDReply", "NegRSDReply";
    BarrierAck = 0x1c "P_BARRIER_ACK", Meta, Connection, Exact(8), "BarrierAck", "BarrierAck";
    StateChangeReply = 0x1d "P_STATE_CHG_REPLY", Meta, Volume, Exact(4), "StateChgReply", "StateChgReply";
    OvRequest = 0x1e "P_OV_REQUEST", Data, Volume, Exact(24), "OVRequest", "OVRequest";
    OvReply = 0x1f "P_OV_REPLY", Data, Volume, Hashed(24), "OVReply", "OVReply";
    OvResult = 0x20 "P_OV_RESULT", Meta, Volume, Exact(24), "OVResult", "OVResult";
    CsumRsRequest = 0x21 "P_CSUM_RS_REQUEST", Data, Volume, Hashed(24), "CsumRSRequest", "CsumRSRequest";
    RsIsInSync = 0x22 "P_RS_IS_IN_SYNC", Meta, Volume, Exact(24), "CsumRSIsInSync", "CsumRSIsInSync";
    SyncParam89 = 0x23 "P_SYNC_PARAM89", Data, Volume, Own, "SyncParam89", "SyncParam89";
    CompressedBitmap = 0x24 "P_COMPRESSED_BITMAP", Data, Volume, Bits, "CBitmap", "CBitmap";
    DelayProbe = 0x27 "P_DELAY_PROBE", Both, Connection, Exact(8), "DelayProbe", "DelayProbe";
    OutOfSync = 0x28 "P_OUT_OF_SYNC", Data, Volume, Exact(16), "OutOfSync", "OutOfSync";
    RsCancel = 0x29 "P_RS_CANCEL", Meta, Volume, Exact(24), "RSCancel", "RSCancel";
    ConnectionStateChangeRequest = 0x2a "P_CONN_ST_CHG_REQ", Data, Connection, Exact(8), "conn_st_chg_req", "Unknown";
    ConnectionStateChangeReply = 0x2b "P_CONN_ST_CHG_REPLY", Meta, Connection, Exact(4), "conn_st_chg_reply", "Unknown";
    RetryWrite = 0x2c "P_RETRY_WRITE", Meta, Volume, Exact(24), "retry_write", "Unknown";
    ProtocolUpdate = 0x2d "P_PROTOCOL_UPDATE", Data, Connection, Own, "protocol_update", "Unknown";
    Trim = 0x31 "P_TRIM", Data, Volume, Exact(28), "Trim", "Unknown";
    RsThinRequest = 0x32 "P_RS_THIN_REQ", Data, Volume, Exact(24), "rs_thin_req", "Unknown";
    RsDeallocated = 0x33 "P_RS_DEALLOCATED", Data, Volume, Exact(16), "rs_deallocated", "Unknown";
    WriteSame = 0x34 "P_WSAME", Data, Volume, Bulk(28), "WriteSame", "Unknown";
    Zeroes = 0x36 "P_ZEROES", Data, Volume, Exact(28), "(null)", "Unknown";
    InitialMeta = 0xfff1 "P_INITIAL_META", None, Connection, Exact(0), "InitialMeta", "HandShakeM";
    InitialData = 0xfff2 "P_INITIAL_DATA", None, Connection, Exact(0), "InitialData", "HandShakeS";
    ConnectionFeatures = 0xfffe "P_CONNECTION_FEATURES", None, Connection, Exact(72), "ConnectionFeatures", "HandShake";
}

impl Command {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The name of the constant in the documents, `P_DATA`.
    pub fn constant(self) -> &'static str {
        self.row().constant
    }

    /// The name that a release writes to its log.
    pub fn log_name(self, release: Release) -> &'static str {
        self.row().names[release as usize]
    }

    /// Whether the packet belongs to a volume or to the connection.
    pub fn scope(self) -> Scope {
        self.row().scope
    }

    /// Where the packet may come after the handshake.
    pub fn carrier(self) -> Carrier {
        self.row().carrier
    }

    /// The rule for its length.
    pub fn length(self) -> Length {
        self.row().length
    }

    /// Whether the packet may come on this socket after the handshake.
    pub fn travels_on(self, socket: Socket) -> bool {
        match self.carrier() {
            Carrier::Data => socket == Socket::Data,
            Carrier::Meta => socket == Socket::Meta,
            Carrier::Both => true,
            Carrier::None => false,
        }
    }

    /// The socket on which to send it.
    pub fn socket(self) -> Socket {
        match self.carrier() {
            Carrier::Meta => Socket::Meta,
            _ if self == Command::InitialMeta => Socket::Meta,
            _ => Socket::Data,
        }
    }
}

/// The name that a release writes to its log for a number; `Unknown` if it has none.
pub fn log_name(number: u16, release: Release) -> &'static str {
    Command::from_number(number).map_or(UNKNOWN, |command| command.log_name(release))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_order_and_lead_back() {
        for pair in Command::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number());
        }
        for command in Command::ALL {
            assert_eq!(Command::from_number(command.number()), Some(*command));
        }
        for number in [0x25, 0x26, 0x2e, 0x35, 0x37, 0x44, 0xfff0, 0xffff] {
            assert_eq!(Command::from_number(number), None);
            assert_eq!(log_name(number, Release::V84), "Unknown");
        }
    }

    #[test]
    fn each_release_has_its_names() {
        assert_eq!(log_name(0x18, Release::V83), "DiscardAck");
        assert_eq!(log_name(0x18, Release::V84), "Superseded");
        assert_eq!(log_name(0x31, Release::V83), "Unknown");
        assert_eq!(log_name(0xfffe, Release::V83), "HandShake");
        assert_eq!(log_name(0x36, Release::V84), "(null)");
    }

    #[test]
    fn meta_packets_have_one_length_each() {
        for command in Command::ALL {
            if command.carrier() == Carrier::Meta {
                assert!(matches!(command.length(), Length::Exact(_)), "{command:?}");
            }
        }
    }
}
