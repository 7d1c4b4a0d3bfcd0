//! Replays the vectors of `vectors/drbdsetup/` (described in spec/drbdsetup-vectors/index.md).
//!
//! Texts that need no daemon are made from a constructed snapshot; command lines are run with the
//! real binary against a control server with a scripted engine behind it.

mod command_line;
mod event_lines;
mod fake_daemon;
mod fixture;
mod live;
mod on_terminal;
mod proc_text;
mod queries;
mod status9;
