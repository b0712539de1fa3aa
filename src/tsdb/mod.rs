//! The time-series store: log, head, blocks.

pub mod block;
mod postings;

pub use postings::{LabelIndex, PostingsIndex, Selector};
