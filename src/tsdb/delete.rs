//! Deleting: some samples of some series are forgotten, in the head and in blocks alike.
//!
//! A deletion is first a record of the log: what stands before it there and is meant leaves the head, now and at every
//! replay. Then it is a tombstone in the manifest: what is meant in blocks is hidden at once and left out when they are
//! compacted. A crash between the two is made good when the store is opened. Samples that arrive later are not meant, even
//! at the times that were deleted.

use super::block::WriteError;
use super::cut::Cutting;
use super::db::Db;
use super::tombstone::Tombstone;
use crate::io::log::LogError;
use crate::model::{Matcher, TimeRange};
use crate::storage::StorageError;

/// Why a deletion was not acknowledged. All or some of it may have happened; asking again is safe.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// A query that began before the last cut still looks into the head.
    #[error("a long query still reads what was moved into blocks; try again when it is over")]
    Busy,
    /// The log does not take it.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A chunk of the head cannot be read.
    #[error(transparent)]
    Read(#[from] StorageError),
    /// The manifest cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Db {
    /// Forgets the samples in `range` of the series that match all `matchers` (of all series when there is none). Durable
    /// and in force when this returns. Blocks.
    ///
    /// # Errors
    /// [`DeleteError`].
    pub fn delete(&self, matchers: Vec<Matcher>, range: TimeRange) -> Result<Tombstone, DeleteError> {
        // Held throughout: a block that is cut has either all deletions up to its number, or none of this one.
        let mut cutting = self.cutting.lock();
        self.settle_cut(&mut cutting)?;
        let tombstone = Tombstone {
            id: self.blocks.next_tombstone(),
            matchers,
            range,
        };
        self.committer.delete(tombstone.clone())?;
        self.blocks.delete(tombstone.matchers, range).map_err(DeleteError::from)
    }

    /// Lets the head forget what was cut: its chunks must not change between the two.
    fn settle_cut(&self, cutting: &mut Cutting) -> Result<(), DeleteError> {
        self.forget_pending(cutting);
        match cutting.pending {
            Some(_) => Err(DeleteError::Busy),
            None => Ok(()),
        }
    }
}
