//! The template language of annotations and notifications: Go's `text/template`, in Rust.
//!
//! Text goes through [`Set::parse`] once and through [`Set::render`] as often as needed. Data comes in as [`Value`]s,
//! functions by a registry ([`Functions`]) that the caller fills; nothing here reads a clock or asks a store. What Go's
//! package prints, down to the digit of a float and the wording of an error, is printed here too; on top of it stand
//! limits on steps, depth and output, because templates come from people.

mod builtins;
mod exec;
mod fmt;
mod functions;
#[cfg(test)]
mod golden_tests;
mod html;
mod lex;
mod literal;
mod node;
mod number;
mod parse;
mod prometheus;
mod time;
mod value;

pub use builtins::escape_query as query_escape;
pub use exec::{Call, ExecError, Host, Limits, Mode, Render};
pub use fmt::{sprint, sprintf, sprintln};
pub use functions::{Function, Functions, Kind};
pub use number::{format_float, quote};
pub use parse::{ParseError, Set};
pub use prometheus::{QueryHost, QuerySample, prometheus_functions};
pub use time::{format_duration, format_time};
pub use value::{Map, Record, Safe, Shape, Value};
