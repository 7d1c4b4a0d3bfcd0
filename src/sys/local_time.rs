//! Local time as tools print it.

/// `YYYY-MM-DDTHH:MM:SS.uuuuuu+HH:MM` of microseconds since 1970, in the local time zone.
pub fn iso_8601(time_us: u64) -> String {
    let seconds = i64::try_from(time_us / 1_000_000).unwrap_or(i64::MAX);
    let Some(local) = broken_down(seconds) else {
        return format!("{seconds}");
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

/// `None`: a year that the C library cannot express.
fn broken_down(seconds: i64) -> Option<nix::libc::tm> {
    let mut local = std::mem::MaybeUninit::<nix::libc::tm>::uninit();
    // SAFETY: both pointers are valid for the call; localtime_r fills the whole structure if it
    // returns a pointer, and it is read only then.
    #[allow(unsafe_code)]
    unsafe {
        if nix::libc::localtime_r(&seconds, local.as_mut_ptr()).is_null() {
            return None;
        }
        Some(local.assume_init())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
