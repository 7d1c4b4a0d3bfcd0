//! Devices and addresses on the command line. spec/drbdsetup.md 2.3 and 2.7.

use super::failure::{err, Failure};
use drbdbox::conf::number::{self, Unit};
use drbdbox::status::address::DEFAULT_PORT;
use drbdbox::status::{Address, Family};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Block major of DRBD's nodes.
const DRBD_MAJOR: u64 = 147;

/// Longest path of a device, bytes.
const PATH_MAX: usize = 127;

/// Digits, or `/dev/drbd` and digits. spec/drbdsetup.md 2.3: 32 bits are kept of what fits a
/// signed 64 bit number.
pub fn minor_by_name(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("/dev/drbd").unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i64 = digits.parse().ok()?;
    Some(number as u32)
}

/// The minor of a device argument of 8.3. For `/dev/drbdN` the node is not looked at
/// (spec/decisions.md 6.5); links to such a node are followed.
///
/// # Errors
/// The original's texts, exit status 20.
pub fn minor(text: &str) -> Result<u32, Failure> {
    if let Some(minor) = minor_by_name(text) {
        return Ok(minor);
    }
    let Ok(found) = std::fs::metadata(text) else {
        return Err(Failure::refused(format!(
            "Could not determine device minor number of '{text}'.\n\
             Try /dev/drbd<minor-number> or just <minor-number> instead."
        )));
    };
    if let Some(minor) = linked_minor(text) {
        return Ok(minor);
    }
    if !found.file_type().is_block_device() {
        return Err(Failure::refused(format!("{text} is not a block device!")));
    }
    let (major, minor) = (nix::sys::stat::major(found.rdev()), nix::sys::stat::minor(found.rdev()));
    if major != DRBD_MAJOR {
        return Err(Failure::refused(format!(
            "{text} does not appear to be a DRBD (major {major}, expected {DRBD_MAJOR})!"
        )));
    }
    Ok(minor as u32)
}

/// The minor of a link that leads to /dev/drbdN: by-res, by-disk.
fn linked_minor(text: &str) -> Option<u32> {
    let target = std::fs::canonicalize(text).ok()?;
    target.to_str().filter(|path| path.starts_with("/dev/drbd")).and_then(minor_by_name)
}

/// The minor of an object of 8.4.
///
/// # Errors
/// The original's text, exit status 20.
pub fn minor_84(text: &str) -> Result<u32, Failure> {
    minor_of_object(text)
        .ok_or_else(|| Failure::refused(format!("Cannot determine minor device number of device '{text}'")))
}

/// The minor that an object of 8.4 names; `None`: a resource name.
pub fn minor_of_object(text: &str) -> Option<u32> {
    if let Some(minor) = minor_by_name(text) {
        return Some(minor);
    }
    if text.starts_with('/') {
        return minor(text).ok();
    }
    None
}

/// Checks that a lower or meta data device can be opened for writing and is a block device or a
/// regular file (spec/decisions.md 6.3).
///
/// # Errors
/// The original's texts, exit status 20.
pub fn check_backing(path: &str) -> Result<(), Failure> {
    if path.len() > PATH_MAX {
        return Err(Failure::refused(format!(
            "The value for backing_dev may only be {} byte long. You requested {}.",
            PATH_MAX + 1,
            path.len() + 1
        )));
    }
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(Path::new(path));
    let file = opened.map_err(|error| {
        let text = match error.raw_os_error() {
            Some(number) => nix::errno::Errno::from_raw(number).desc().to_string(),
            None => error.to_string(),
        };
        Failure::refused(format!("Can not open device '{path}': {text}"))
    })?;
    let kind = file.metadata().map(|m| m.file_type());
    match kind {
        Ok(kind) if kind.is_block_device() || kind.is_file() => Ok(()),
        _ => Err(Failure::refused(format!("{path} is not a block device!"))),
    }
}

/// `internal`, `flexible` or a number. spec/drbdsetup.md 2.7.
///
/// # Errors
/// As numbers: 20, or 100 if empty.
pub fn meta_index(text: &str) -> Result<i32, Failure> {
    match text {
        "internal" => Ok(-3),
        "flexible" => Ok(-2),
        _ => {
            let index = plain_number(text)?;
            Ok(i32::try_from(index as i64).unwrap_or(i32::MAX))
        }
    }
}

/// A number without limits.
///
/// # Errors
/// 20, or 100 if empty.
pub fn plain_number(text: &str) -> Result<u64, Failure> {
    number::parse(text, Unit::One).map_err(|error| Failure {
        err: format!("{error}\n"),
        out: String::new(),
        status: error.exit_status(),
    })
}

/// `[FAMILY:]HOST[:PORT]`. spec/drbdsetup.md 2.7.
///
/// # Errors
/// The original's texts, exit status 20. A port beyond 65535 is refused (the original wraps).
pub fn address(text: &str) -> Result<Address, Failure> {
    let (family, rest) = text
        .split_once(':')
        .and_then(|(word, rest)| Some((Family::from_name(word)?, rest)))
        .unwrap_or((Family::Ipv4, text));
    let (host, port) = match family {
        Family::Ipv6 => split_ipv6(rest)?,
        _ => match rest.rsplit_once(':') {
            Some((host, port)) => (host.to_string(), Some(port)),
            None => (rest.to_string(), None),
        },
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => u16::try_from(plain_number(port)?)
            .map_err(|_| Failure::refused(format!("{port}: out of range")))?,
    };
    let ip = match family {
        Family::Ipv6 => resolve(&host, IpAddr::is_ipv6)
            .map_err(|error| Failure::refused(format!("getaddrinfo {host}: {error}")))?,
        _ => resolve(&host, IpAddr::is_ipv4).map_err(|_| {
            Failure::refused(format!("can not resolve the hostname: gethostbyname({host}): Unknown host"))
        })?,
    };
    if family == Family::Ssocks {
        check_ssocks();
    }
    Ok(Address { family, ip, port })
}

/// `[ADDR]:PORT`, `[ADDR]`, and with a note `ADDR:PORT`.
fn split_ipv6(rest: &str) -> Result<(String, Option<&str>), Failure> {
    let unexpected = || Failure::refused(format!("unexpected ipv6 format: {rest}"));
    if let Some(inner) = rest.strip_prefix('[') {
        let (host, behind) = inner.split_once(']').ok_or_else(unexpected)?;
        let port = match behind {
            "" => None,
            _ => Some(behind.strip_prefix(':').ok_or_else(unexpected)?),
        };
        return Ok((host.to_string(), port));
    }
    let (host, port) = rest.rsplit_once(':').ok_or_else(unexpected)?;
    err(&format!("interpreting ipv6:{host}:{port} as ipv6:[{host}]:{port}\n"));
    Ok((host.to_string(), Some(port)))
}

/// The first address of a host of the wanted kind.
fn resolve(host: &str, wanted: fn(&IpAddr) -> bool) -> Result<IpAddr, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return if wanted(&ip) {
            Ok(ip)
        } else {
            Err("Address family for hostname not supported".to_string())
        };
    }
    let found = (host, 0).to_socket_addrs().map_err(|error| {
        let text = error.to_string();
        match text.rsplit_once(": ") {
            Some((_, reason)) => reason.to_string(),
            None => text,
        }
    })?;
    let mut addresses = found.map(|a| a.ip());
    addresses.find(wanted).ok_or_else(|| "No address associated with hostname".to_string())
}

/// SuperSockets announce their family number; without that the original warns, once.
fn check_ssocks() {
    static WARN: std::sync::Once = std::sync::Once::new();
    WARN.call_once(warn_about_ssocks);
}

fn warn_about_ssocks() {
    const FAMILY: &str = "/proc/net/af_ssocks/family";
    if let Err(error) = std::fs::File::open(FAMILY) {
        let number = error.raw_os_error().unwrap_or(0);
        err(&format!(
            "open({FAMILY}) failed: {}\n \
             WARNING: assuming AF_SSOCKS = 27. Socket creation may fail.\n",
            nix::errno::Errno::from_raw(number).desc()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_every_form() {
        for (text, want) in [
            ("10.0.0.1", "ipv4 10.0.0.1:7788"),
            ("10.0.0.1:1", "ipv4 10.0.0.1:1"),
            ("ipv4:10.0.0.1:1", "ipv4 10.0.0.1:1"),
            ("ipv6:[fe80::1]:7", "ipv6 [fe80::1]:7"),
            ("ipv6:[fe80::1]", "ipv6 [fe80::1]:7788"),
            ("ipv6:fe80::1:7", "ipv6 [fe80::1]:7"),
            ("sdp:10.0.0.1:1", "sdp 10.0.0.1:1"),
        ] {
            let got = address(text).map(|a| a.to_string());
            assert_eq!(got, Ok(want.to_string()), "{text}");
        }
        for text in ["10.0.0.1:70000", "10.0.0.1:x", "ipv6:[fe80::1", "ipv6:[::1]7", "::1", ""] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn minors_by_number_and_node() {
        for (text, minor) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("/dev/drbd12", Some(12)),
            ("4294967296", Some(0)),
            ("99999999999999999999", None),
            ("/dev/drbd", None),
            ("r0", None),
            ("", None),
            ("0x1", None),
        ] {
            assert_eq!(minor_by_name(text), minor, "{text}");
        }
    }
}
