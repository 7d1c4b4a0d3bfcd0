//! An endpoint of a connection as commands name it and `show` prints it. spec/drbdsetup.md 2.7.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Port of an address that names none.
pub const DEFAULT_PORT: u16 = 7788;

/// Family word in front of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// `ipv4`: TCP over IPv4.
    Ipv4,
    /// `ipv6`: TCP over IPv6.
    Ipv6,
    /// `sdp`: Sockets Direct Protocol, IPv4 addresses.
    Sdp,
    /// `ssocks`: SuperSockets, IPv4 addresses.
    Ssocks,
}

impl Family {
    /// All families, in the order in which messages list them.
    pub const ALL: [Family; 4] = [Family::Ipv4, Family::Ipv6, Family::Sdp, Family::Ssocks];

    /// The word of drbd.conf and of command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
            Family::Sdp => "sdp",
            Family::Ssocks => "ssocks",
        }
    }

    /// The family of that word.
    pub fn from_name(name: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|f| f.name() == name)
    }
}

/// One endpoint: family, IP address, port. Displays as `ipv4 192.168.1.1:7788`,
/// `ipv6 [::1]:7788`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Family word; `Ipv6` exactly if `ip` is an IPv6 address.
    pub family: Family,
    /// The address.
    pub ip: IpAddr,
    /// TCP port, host order.
    pub port: u16,
}

impl Address {
    /// As the socket calls want it.
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family.name(), self.socket_address())
    }
}

/// The two ends of a connection; both together name it in 8.4's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddressPair {
    /// This node's end.
    pub local: Address,
    /// The peer's end.
    pub peer: Address,
}
