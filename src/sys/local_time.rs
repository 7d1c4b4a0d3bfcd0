//! The wall clock in the local time zone, as text.

use std::time::{SystemTime, UNIX_EPOCH};

/// A time with its zone; `None`: one that the C library cannot express. On 32-bit systems time_t
/// may be shorter; the year 2038 is theirs.
fn broken_down(seconds: u64) -> Option<libc::tm> {
    // The type is that of localtime_r's argument: libc's name for it is deprecated on musl.
    let clock = seconds.try_into().ok()?;
    // SAFETY: tm is a struct of integers and a pointer, for which all bits zero are valid.
    #[allow(unsafe_code)]
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right types; localtime_r is the variant
    // that shares no memory.
    #[allow(unsafe_code)]
    let found = unsafe { !libc::localtime_r(&clock, &mut local).is_null() };
    found.then_some(local)
}

/// The time now as strftime's `%F %T %z [%s]`: `2011-06-19 11:05:32 +0800 [1308452732]`.
pub fn now_with_zone() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut text = [0u8; 64];
    let len = broken_down(seconds).map_or(0, |local| {
        // SAFETY: the pointers are to live values of the right types, the format ends with a
        // zero, and strftime writes at most the length that it is given.
        #[allow(unsafe_code)]
        unsafe {
            libc::strftime(text.as_mut_ptr().cast(), text.len(), c"%Y-%m-%d %H:%M:%S %z".as_ptr(), &local)
        }
    });
    format!("{} [{seconds}]", String::from_utf8_lossy(&text[..len]))
}

/// `YYYY-MM-DDTHH:MM:SS.uuuuuu+HH:MM` of microseconds since 1970.
pub fn iso_8601(time_us: u64) -> String {
    let Some(local) = broken_down(time_us / 1_000_000) else {
        return format!("{}", time_us / 1_000_000);
    };
    let offset = local.tm_gmtoff.abs() / 60;
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}{}{:02}:{:02}",
        i64::from(local.tm_year) + 1900,
        local.tm_mon + 1,
        local.tm_mday,
        local.tm_hour,
        local.tm_min,
        local.tm_sec,
        time_us % 1_000_000,
        if local.tm_gmtoff < 0 { '-' } else { '+' },
        offset / 60,
        offset % 60,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_have_their_places() {
        let text = now_with_zone();
        let parts: Vec<&str> = text.split(' ').collect();
        assert_eq!(parts.len(), 4, "{text}");
        assert_eq!((parts[0].len(), parts[1].len(), parts[2].len()), (10, 8, 5));
        assert!(parts[3].starts_with('[') && parts[3].ends_with(']'));
    }

    #[test]
    fn every_time_has_a_text_of_the_same_form() {
        let shape = |text: &str| -> String {
            let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
            text.replace('-', "+").chars().map(digit).collect()
        };
        for time in [0, 1_763_807_000_123_456] {
            assert_eq!(shape(&iso_8601(time)), "0000+00+00T00:00:00.000000+00:00");
        }
        // Must not panic.
        iso_8601(u64::MAX);
    }
}
