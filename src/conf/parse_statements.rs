//! Statements that several bodies share: `device`, `meta-disk`, addresses. spec/config.md 5.2, 5.3.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::model::{Address, MetaDisk};
use super::number::Unit;
use super::parser::{Parser, Stop};
use super::token::TokenKind;
use super::Dialect;

/// What DRBD's block devices have as major number.
const DRBD_MAJOR: u64 = 147;

/// A `device` statement.
#[derive(Debug, Default)]
pub(super) struct Device {
    pub name: Option<String>,
    pub minor: Option<u32>,
}

impl Parser {
    /// Behind `device`: `STRING [minor INT] ;` or `minor INT ;`. Another token is swallowed and
    /// counts as no statement. spec/config.md 13.1.
    pub(super) fn device(&mut self) -> Result<Option<Device>, Stop> {
        let first = self.next();
        let mut device = Device::default();
        if first.keyword() == "minor" {
            device.minor = Some(leading_number(&self.expect_integer()?));
            self.expect(b';')?;
            return Ok(Some(device));
        }
        if first.kind != TokenKind::String {
            return Ok(None);
        }
        let name = match first.text.starts_with("drbd") {
            true => format!("/dev/{}", first.text),
            false => first.text,
        };
        let line = self.statement_line;
        let suffix = name.strip_prefix("/dev/drbd");
        if suffix.is_none() {
            self.record_at(
                line,
                "device name must start with /dev/drbd\n\t(/dev/ is optional, but drbd is required)",
            );
        }
        let next = self.next();
        if next.keyword() == "minor" {
            let minor = leading_number(&self.expect_integer()?);
            self.expect(b';')?;
            device.minor = Some(minor);
            match suffix {
                Some(digits) if is_digits(digits) && leading_number(digits) != minor => self.record_at(
                    line,
                    &format!(
                        "explicit minor number must match with device name\n\
                             \tTry \"device /dev/drbd{minor} minor {minor};\",\n\
                             \tor leave off either device name or explicit minor.\n\
                             \tArbitrary device names must start with /dev/drbd_\n\
                             \tmind the '_'! (/dev/ is optional, but drbd_ is required)"
                    ),
                ),
                Some(suffix) if !is_digits(suffix) && !suffix.starts_with('_') => self.record_at(
                    line,
                    "arbitrary device name must start with /dev/drbd_\n\
                     \tmind the '_'! (/dev/ is optional, but drbd_ is required)",
                ),
                _ => {}
            }
        } else if next.is(b';') {
            device.minor = match suffix {
                Some(digits) if is_digits(digits) => Some(leading_number(digits)),
                _ => minor_of_node(&name),
            };
            if device.minor.is_none() {
                self.record_at(line, "no minor given nor device name contains a minor number");
                // The statement is there; only its number is not.
                device.minor = Some(0);
                device.name = Some(name);
                return Ok(Some(device));
            }
        } else {
            return Err(self.unexpected(&next, "minor | ;", false));
        }
        device.name = Some(name);
        Ok(Some(device))
    }

    /// Behind `meta-disk` or `flexible-meta-disk`.
    pub(super) fn meta_disk(&mut self, flexible: bool) -> Result<MetaDisk, Stop> {
        let device = self.expect_string()?;
        let made = |index: &str| MetaDisk { device: device.clone(), index: index.to_string() };
        if device == "internal" {
            self.expect(b';')?;
            return Ok(made("internal"));
        }
        let next = self.next();
        if flexible {
            self.check(&next, b';')?;
            return Ok(made("flexible"));
        }
        if next.is(b';') {
            // 8.3 refuses this; decisions: what one dialect accepts is accepted.
            return Ok(made("flexible"));
        }
        if !next.is(b'[') {
            return Err(match self.config.dialect {
                Dialect::V83 => self.unexpected(&next, "[", true),
                Dialect::V84 => self.unexpected(&next, "[ | ;", false),
            });
        }
        let index = self.expect_integer()?;
        self.expect(b']')?;
        self.expect(b';')?;
        Ok(made(&index))
    }

    /// `[FAMILY] ADDR:PORT`.
    pub(super) fn endpoint(&mut self) -> Result<Address, Stop> {
        let first = self.next();
        let (family, address) = match first.keyword() {
            "ipv6" => {
                self.expect(b'[')?;
                let address = self.next();
                if address.kind != TokenKind::Ipv6 {
                    return Err(self.unexpected(&address, "TK_IPADDR6", true));
                }
                self.expect(b']')?;
                ("ipv6", address.text)
            }
            "ipv4" => ("ipv4", self.ipv4()?),
            "sdp" => ("sdp", self.ipv4()?),
            "ssocks" | "sci" => ("ssocks", self.ipv4()?),
            _ if first.kind == TokenKind::Ipv4 => ("ipv4", first.text),
            _ => return Err(self.unexpected(&first, "ssocks | sdp | ipv4 | ipv6 | <ipv4 address> ", false)),
        };
        self.expect(b':')?;
        let port = self.expect_integer()?;
        let value = self.number(&port, Unit::One)?;
        if !(1..=65535).contains(&value) && self.strict {
            let line = self.statement_line;
            let text = format!("port {port} => {value} out of range [1..65535].");
            // The original checks it twice.
            self.record_at(line, &text);
            self.record_at(line, &text);
        }
        Ok(Address { family, address, port })
    }

    fn ipv4(&mut self) -> Result<String, Stop> {
        let token = self.next();
        match token.kind {
            TokenKind::Ipv4 => Ok(token.text),
            _ => Err(self.unexpected(&token, "TK_IPADDR", true)),
        }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// As atoi(3): the digits at the start, 0 without any; what does not fit saturates.
pub(super) fn leading_number(text: &str) -> u32 {
    text.bytes()
        .take_while(u8::is_ascii_digit)
        .fold(0u32, |value, digit| value.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
}

/// The minor of an existing DRBD block device.
fn minor_of_node(name: &str) -> Option<u32> {
    let meta = std::fs::metadata(name).ok()?;
    if !meta.file_type().is_block_device() || nix::sys::stat::major(meta.rdev()) != DRBD_MAJOR {
        return None;
    }
    u32::try_from(nix::sys::stat::minor(meta.rdev())).ok()
}
