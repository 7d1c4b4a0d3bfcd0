//! The applet `drbdmeta`.

/// Runs the applet; `args[0]` is its name as called. Returns the exit status.
pub fn main(_args: &[String]) -> u8 {
    eprintln!("not built yet");
    20
}
