//! What a terminal is like.

use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd};

/// Whether words may have colours there: a terminal, and nobody said no (https://no-color.org).
pub fn takes_colors(of: &impl IsTerminal) -> bool {
    let says_no = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    of.is_terminal() && !says_no && !is_dumb()
}

/// Whether a line may be drawn again and again there.
pub fn can_redraw(of: &impl IsTerminal) -> bool {
    of.is_terminal() && !is_dumb()
}

/// A terminal without escape sequences.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Whether a person typed this command at the prompt of a shell and looks at it: a shell with job control gives it a
/// process group of its own, in the foreground. What a script calls is in the group of the script.
pub fn is_at_prompt() -> bool {
    use nix::unistd::{getpgrp, getpid, tcgetpgrp};
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    stdin.is_terminal()
        && can_redraw(&stdout)
        && stderr.is_terminal()
        && getpgrp() == getpid()
        && tcgetpgrp(&stdout).is_ok_and(|foreground| foreground == getpgrp())
}

/// Columns of the terminal; `None` if it is none, or does not tell.
pub fn width(of: &(impl AsFd + IsTerminal)) -> Option<usize> {
    size(of).map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// Lines of the terminal; `None` if it is none, or does not tell.
pub fn height(of: &(impl AsFd + IsTerminal)) -> Option<usize> {
    size(of).map(|size| usize::from(size.ws_row)).filter(|&lines| lines > 0)
}

fn size(of: &(impl AsFd + IsTerminal)) -> Option<nix::libc::winsize> {
    if !of.is_terminal() {
        return None;
    }
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    let fd = of.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while `of` is borrowed, and TIOCGWINSZ writes one `winsize`.
    #[allow(unsafe_code)]
    let result = unsafe { nix::libc::ioctl(fd, nix::libc::TIOCGWINSZ, &mut size) };
    (result == 0).then_some(size)
}
