//! What a terminal is like.

use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd};

/// Columns of the terminal; `None` if it is none, or does not tell.
pub fn width(of: &(impl AsFd + IsTerminal)) -> Option<usize> {
    if !of.is_terminal() {
        return None;
    }
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    let fd = of.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while `of` is borrowed, and TIOCGWINSZ writes one `winsize`.
    #[allow(unsafe_code)]
    let result = unsafe { nix::libc::ioctl(fd, nix::libc::TIOCGWINSZ, &mut size) };
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}
