//! The query language: a superset of PromQL. Text → tokens → tree → plan → value.
//!
//! Evaluation is pure: an [`Engine`] is given a `storage::Querier`, a time and limits, and reads no clock.

pub mod ast;
mod detect;
mod engine;
mod eval;
pub mod float;
pub mod functions;
mod lexer;
mod parse_error;
mod parser;
pub mod print;
mod result;
pub mod script;
pub mod types;

pub use ast::Expr;
pub use detect::Fits;
pub use engine::Engine;
pub use parser::{DEPTH_MAX, QUERY_BYTES_MAX, parse, parse_selector, parse_series, parse_string};
pub use result::{
    Interrupt, Interruption, MatrixSeries, QueryError, QueryOptions, QueryOutput, QueryStats, QueryValue, VectorSample,
};
