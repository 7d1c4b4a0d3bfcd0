//! drbd.conf: lexer, parser, the one table of options, dump.

#[allow(missing_docs)]
pub mod settings;
