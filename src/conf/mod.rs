//! drbd.conf: lexer, parser, the one table of options, checks, dump.
//!
//! | file | holds |
//! |---|---|
//! | `dialect` | 8.3 or 8.4 |
//! | `options`, `option_table` | the one table of options: what a row is, and the rows |
//! | `number`, `value` | numbers with units; values of options, their errors and their text |
//! | `settings`, `access` | the typed settings of a running resource, and access to them by table row |

pub mod access;
pub mod dialect;
pub mod number;
pub mod option_table;
pub mod options;
#[allow(missing_docs)]
pub mod settings;
pub mod value;

pub use dialect::Dialect;
