//! Retention: which blocks are too old, or too many. A decision without effects; [`BlockSet`](super::BlockSet) carries it out.
//!
//! Whole blocks go, oldest first: the oldest sample of a block that is kept may be older than asked, never younger.

use super::block::{BlockId, BlockMeta};
use crate::model::{Interval, Millis};

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Blocks whose newest sample is older go; `None` keeps all.
    pub age_max: Option<Interval>,
    /// While blocks take more bytes, the oldest goes; `None` sets no limit.
    pub bytes_max: Option<u64>,
}

/// Returns the blocks to drop. `others_bytes` is what log and head take of the same budget.
pub fn plan_retention(blocks: &[BlockMeta], policy: RetentionPolicy, others_bytes: u64, now: Millis) -> Vec<BlockId> {
    let mut oldest_first: Vec<&BlockMeta> = blocks.iter().collect();
    oldest_first.sort_by_key(|block| (block.range.max, block.range.min, block.id));
    let horizon = policy.age_max.map_or(Millis::MIN, |age| now.saturating_sub(age));
    let mut bytes = oldest_first
        .iter()
        .map(|block| block.bytes)
        .sum::<u64>()
        .saturating_add(others_bytes);
    let mut dropped = Vec::new();
    for block in oldest_first {
        let too_old = block.range.max < horizon;
        let too_many = policy.bytes_max.is_some_and(|max| bytes > max);
        if !too_old && !too_many {
            break;
        }
        bytes -= block.bytes;
        dropped.push(block.id);
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::super::compact::tests::block;
    use super::*;

    #[test]
    fn blocks_go_by_age_and_by_size_oldest_first() {
        let mut blocks = vec![block(1, 0, 100), block(2, 100, 200), block(3, 150, 300)];
        blocks.iter_mut().for_each(|block| block.bytes = 10);
        let plan = |age_max: Option<i64>, bytes_max, others| {
            let policy = RetentionPolicy {
                age_max: age_max.map(Interval),
                bytes_max,
            };
            plan_retention(&blocks, policy, others, Millis(350))
                .iter()
                .map(|id| id.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(plan(None, None, 0), Vec::<u64>::new());
        assert_eq!(plan(Some(250), None, 0), Vec::<u64>::new());
        assert_eq!(plan(Some(249), None, 0), [1]);
        assert_eq!(plan(Some(100), None, 0), [1, 2]);
        assert_eq!(plan(None, Some(30), 0), Vec::<u64>::new());
        assert_eq!(plan(None, Some(30), 1), [1]);
        assert_eq!(plan(Some(100), Some(5), 0), [1, 2, 3]);
    }
}
