//! Blocks: immutable, columnar files of series, and how they are written and read.
//!
//! ```text
//! magic | pages of whole columns | page directory | time directory | symbols | series table | label index | footer
//! ```
//! Times that series share are stored once (`times`, `presence`); values are integers whenever a division brings back the
//! same double (`values`, `ints`, `bits`); histograms are columns of counts (`histograms`). Exemplars stay in the head and
//! the log: they are samples of the last hours, not history. Every byte is under a checksum (`meta`).

pub(crate) mod bits;
mod cache;
mod histograms;
mod index;
mod interning;
mod ints;
mod meta;
mod open;
mod pco_column;
mod presence;
mod probe;
mod read_series;
mod reader;
mod series;
mod stats;
mod symbols;
#[cfg(test)]
pub(crate) mod tests;
mod times;
mod values;
pub(crate) use crate::model::wire;
mod writer;

pub use cache::BlockCache;
pub use meta::{BlockId, BlockMeta, Covers, NewBlock};
pub(crate) use meta::{put_meta, take_meta};
#[doc(hidden)]
pub use probe::decode_any;
pub use read_series::BlockSeries;
pub use reader::{AllSeries, Block};
pub use stats::Stats;

pub use writer::{BlockWriter, SeriesData, WriteError, write_block};

use crate::telemetry::Counter;

pub(crate) static PAGES_CORRUPT: Counter = Counter::new(
    "campanile_tsdb_block_pages_corrupt_total",
    "Places of blocks, most of them pages, that were found damaged when read.",
);
