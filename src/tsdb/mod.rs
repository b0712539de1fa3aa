//! The time-series store: log, head, blocks.
//!
//! A request is looked up as a whole (`head::table`), encoded (`record`), made durable by one committer (`commit`, over
//! `io::log`), and only then applied to the head (`head`), which decides about each sample in the log's order. Opening
//! reads the log through the same `apply` (`recovery`). Every two hours the head's older half becomes a block (`block`).

mod append;
pub mod block;
mod block_set;
mod block_set_open;
#[cfg(test)]
mod block_set_tests;
mod chunk;
mod commit;
mod compact;
mod config;
#[cfg(test)]
mod crash_tests;
mod cut;
mod db;
#[cfg(test)]
mod db_tests;
mod delete;
pub mod fuzz;
mod head;
mod manifest;
mod merge;
mod metrics;
mod open;
#[cfg(test)]
mod ordeal_tests;
mod postings;
mod record;
mod recovery;
mod retention;
mod snapshot;
mod status;
#[cfg(test)]
pub(crate) mod testing;
mod tombstone;

pub use block_set::{BLOCK_METRICS, BlockSet, BlockSetConfig, Change, Opened, Snapshot};
pub use chunk::verify_chunk_files;
pub use compact::{Plan, carry_out, plan_compaction};
pub use config::{ByteSize, DbConfig, Durability};
pub use cut::Maintained;
pub use db::Db;
pub use delete::DeleteError;
#[doc(hidden)]
pub use manifest::decode_any as decode_any_manifest;
pub use manifest::{Lost, Manifest};
pub use merge::{merge_columns, merge_series};
pub use metrics::METRICS;
pub use open::OpenError;
pub use postings::{LabelIndex, PostingsIndex, Selector};
pub use recovery::{RecoveryReport, ReplayProgress};
pub use retention::{RetentionPolicy, plan_retention};
pub use status::{Count, HeadStats, TsdbStatus};
pub use tombstone::{Tombstone, Tombstones};

/// Returns how many damaged stretches of the log, files and places of blocks were found since the start.
pub fn corruptions() -> u64 {
    metrics::LOG_CORRUPTIONS.get() + block::PAGES_CORRUPT.get() + block_set::QUARANTINED.get()
}
