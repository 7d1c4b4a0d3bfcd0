//! The wall clock in the local time zone, as text.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time now as strftime's `%F %T %z [%s]`: `2011-06-19 11:05:32 +0800 [1308452732]`.
pub fn now_with_zone() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    // On 32-bit systems time_t may be shorter; the year 2038 is theirs.
    let clock = libc::time_t::try_from(seconds).unwrap_or(0);
    // SAFETY: tm is a struct of integers and a pointer, for which all bits zero are valid.
    #[allow(unsafe_code)]
    let mut broken_down: libc::tm = unsafe { std::mem::zeroed() };
    let mut text = [0u8; 64];
    // SAFETY: both pointers are to live values of the right types; localtime_r is the variant
    // that shares no memory, and strftime writes at most the length that it is given.
    #[allow(unsafe_code)]
    let len = unsafe {
        if libc::localtime_r(&clock, &mut broken_down).is_null() {
            0
        } else {
            libc::strftime(
                text.as_mut_ptr().cast(),
                text.len(),
                b"%Y-%m-%d %H:%M:%S %z\0".as_ptr().cast(),
                &broken_down,
            )
        }
    };
    format!("{} [{seconds}]", String::from_utf8_lossy(&text[..len]))
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
}
