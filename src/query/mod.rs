//! The query language: a superset of PromQL. Text → tokens → tree → plan → value.
//!
//! Evaluation is pure: an [`Engine`] is given a `storage::Querier`, a time and limits, and reads no clock.

pub mod ast;
pub mod functions;
mod result;
pub mod types;

pub use ast::Expr;
pub use result::{
    Interruption, MatrixSeries, QueryError, QueryOptions, QueryOutput, QueryStats, QueryValue, VectorSample,
};
