//! drbd.conf: lexer, parser, the one table of options, checks, dump.
//!
//! | file | holds |
//! |---|---|
//! | `dialect` | 8.3 or 8.4 |
//! | `options`, `option_table` | the one table of options: what a row is, and the rows |
//! | `number`, `value` | numbers with units; values of options, their errors and their text |
//! | `text`, `token`, `lexer` | bytes to tokens |
//! | `model`, `unique` | what a configuration says; what may be used only once |
//! | `parser`, `parse_…`, `files`, `pattern` | tokens to model, includes |
//! | `diagnose`, `explain`, `retired` | what is said beside an error: a caret, nearest words, words of other releases |
//! | `check`, `validate`, `inherit` | this machine and its peer; validity; inheritance |
//! | `audit` | `drbdadm check`: what is wrong or dangerous, all at once |
//! | `dump`, `dump_xml` | the model as text |
//! | `manual` | the tables of the manual |
//! | `settings`, `access` | the typed settings of a running resource, and access to them by table row |

pub mod access;
pub mod audit;
pub mod check;
mod diagnose;
pub mod dialect;
pub mod dump;
pub mod dump_xml;
pub mod explain;
pub mod files;
pub mod inherit;
pub mod lexer;
pub mod manual;
pub mod model;
pub mod number;
pub mod option_table;
pub mod options;
mod parse_finish;
mod parse_global;
mod parse_host;
mod parse_options;
mod parse_resource;
mod parse_statements;
pub mod parser;
mod pattern;
pub mod retired;
#[allow(missing_docs)]
pub mod settings;
pub mod text;
pub mod token;
pub mod unique;
pub mod validate;
pub mod value;

pub use dialect::Dialect;
