//! The time-series store: log, head, blocks.

pub mod block;
mod block_set;
#[cfg(test)]
mod block_set_tests;
mod compact;
mod manifest;
mod merge;
mod postings;
mod retention;
mod tombstone;

pub use block_set::{BlockSet, BlockSetConfig, Change, Opened, Snapshot};
pub use compact::{Plan, carry_out, plan_compaction};
pub use manifest::{Lost, Manifest};
pub use merge::{merge_columns, merge_series};
pub use postings::{LabelIndex, PostingsIndex, Selector};
pub use retention::{RetentionPolicy, plan_retention};
pub use tombstone::{Tombstone, Tombstones};
