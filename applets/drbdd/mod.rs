//! The applet `drbdd`: the replication daemon.

pub mod manual;
mod options;
mod run;

use options::Options;

/// Runs the applet; `args[0]` is its name as called. Returns the exit status: 0 when the daemon ended in
/// order or, in the background, serves; 1 when it could not start; 2 for wrong options.
pub fn main(args: &[String]) -> u8 {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(exit) => return exit,
    };
    if options.foreground {
        return run::in_foreground(options);
    }
    run::in_background(options)
}
