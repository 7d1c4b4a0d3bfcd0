//! The record of the last known device: where internal meta data was when it was last written
//! (spec/metadata.md 9).
//!
//! ```text
//! <size in bytes>TAB<path>
//! uuid:TAB<device uuid, 16 hex digits>
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::call::Call;
use super::ui::say_err;
use drbdbox::meta::Layout;
use drbdbox::sys::block_device::error_text;
use drbdbox::sys::paths;

/// Longest record that is read.
const RECORD_MAX: usize = 8192;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastKnown {
    /// Size of the device in bytes.
    pub bytes: u64,
    /// Its path.
    pub path: Option<String>,
    /// The device uuid, 0 = none.
    pub device_uuid: u64,
}

/// Reads the record of the call's minor. `None`: there is none, or it cannot be understood, which is
/// said on stderr.
pub fn load(call: &Call) -> Option<LastKnown> {
    let path = paths::last_known_device(call.minor?);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            say_err!("lk_bdev_load({}): {}", path.display(), error_text(&error));
            return None;
        }
    };
    let record = parse(&String::from_utf8_lossy(&bytes[..bytes.len().min(RECORD_MAX)]));
    if record.is_none() {
        say_err!("lk_bdev_load({}): parse error", path.display());
    }
    record
}

/// The records of all minors that can be read.
pub fn all() -> Vec<(u32, LastKnown)> {
    let Ok(entries) = fs::read_dir(paths::libdir()) else {
        return Vec::new();
    };
    let minor_of = |name: &str| name.strip_prefix("drbd-minor-")?.strip_suffix(".lkbd")?.parse::<u32>().ok();
    let mut records: Vec<(u32, LastKnown)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let minor = minor_of(entry.file_name().to_str()?)?;
            let bytes = fs::read(entry.path()).ok()?;
            Some((minor, parse(&String::from_utf8_lossy(&bytes[..bytes.len().min(RECORD_MAX)]))?))
        })
        .collect();
    records.sort_by_key(|(minor, _)| *minor);
    records
}

/// Lenient, as 8.3.16: what is missing counts as absent.
fn parse(text: &str) -> Option<LastKnown> {
    let text = text.trim_start();
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let bytes = digits.parse().ok()?;
    let rest = rest.trim_start_matches(|c: char| c.is_whitespace());
    let (path, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    let second_line = rest.strip_prefix('\n').unwrap_or("").trim_start_matches('\n');
    let device_uuid = second_line
        .strip_prefix("uuid:")
        .and_then(|uuid| {
            let uuid = uuid.trim_start();
            let digits = uuid.split(|c: char| !c.is_ascii_hexdigit()).next()?;
            u64::from_str_radix(digits, 16).ok()
        })
        .unwrap_or(0);
    Some(LastKnown { bytes, path: (!path.is_empty()).then(|| path.to_string()), device_uuid })
}

/// Writes the record for internal meta data, removes it for external. A failure is only a message.
pub fn update(call: &Call, layout: &Layout, device_uuid: u64) {
    if !layout.index.is_internal() {
        return remove(call);
    }
    let Some(minor) = call.minor else { return };
    let path = paths::last_known_device(minor);
    let mut text = format!("{}\t{}\n", layout.device_bytes, call.device);
    if device_uuid != 0 {
        text += &format!("uuid:\t{device_uuid:016X}\n");
    }
    if let Err(error) = replace(&path, text.as_bytes()) {
        say_err!("lk_bdev_save({}) failed: {}", path.display(), error_text(&error));
    }
}

/// A reader never sees half a record.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    match written.and_then(|()| fs::rename(&new, path)) {
        Ok(()) => Ok(()),
        Err(error) => {
            // The first error is the one to report.
            fs::remove_file(&new).ok();
            Err(error)
        }
    }
}

/// Removes the record.
pub fn remove(call: &Call) {
    let Some(minor) = call.minor else { return };
    let path = paths::last_known_device(minor);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            say_err!("lk_bdev_delete({}) failed: {}", path.display(), error_text(&error))
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: u64, path: &str, device_uuid: u64) -> Option<LastKnown> {
        Some(LastKnown { bytes, path: (!path.is_empty()).then(|| path.to_string()), device_uuid })
    }

    #[test]
    fn records_of_all_forms() {
        let uuid = 0x0123_4567_89AB_CDEF;
        for (text, expected) in [
            ("67108864\n", record(67108864, "", 0)),
            ("67108864", record(67108864, "", 0)),
            ("67108864\t/dev/foo\n", record(67108864, "/dev/foo", 0)),
            ("67108864\t/dev/foo\nuuid:\t0123456789ABCDEF\n", record(67108864, "/dev/foo", uuid)),
            ("67108864\t/dev/foo\nuuid: 0123456789abcdef", record(67108864, "/dev/foo", uuid)),
            ("67108864 /dev/foo bar\nuuid:\t0123456789ABCDEF\n", record(67108864, "/dev/foo", 0)),
            ("67108864\t/dev/foo\nUUID:\t0000000000000001\n", record(67108864, "/dev/foo", 0)),
            ("x\n", None),
            ("", None),
            ("99999999999999999999999\n", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
