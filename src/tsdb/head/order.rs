//! The series in the order of their labels, so that a query need not sort what it found.
//!
//! Brought up to date when somebody asks: newcomers are sorted and merged in, those that left go with the next newcomers.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::series::Series;
use super::symbols::Spelling;
use super::table::Table;
use crate::tsdb::record::SeriesRef;

/// Up to this part of all series, the found ones are sorted by rank; more are picked out of the order.
const FEW: usize = 8;
/// Newcomers below this part of all series find their places by bisection; more are merged step by step.
const FEW_NEW: usize = 16;

/// The order, kept from one query to the next.
#[derive(Default)]
pub(super) struct Order(Mutex<Arc<Sorted>>);

/// The order as it was at one moment.
#[derive(Default)]
pub(super) struct Sorted {
    /// By labels; some may have left since.
    ids: Vec<SeriesRef>,
    /// All numbers below this are in `ids`, unless they left before.
    known: usize,
    /// For each number its place in `ids`, made when first needed.
    ranks: OnceLock<Vec<u32>>,
}

impl Order {
    /// Returns an order that knows (at least) the series that are in the table now.
    pub(super) fn of(&self, table: &Table) -> Arc<Sorted> {
        let mut kept = self.0.lock();
        let (old, mut new, known, spelling) = {
            let inner = table.read();
            if inner.numbered() == kept.known {
                return Arc::clone(&kept);
            }
            let old: Vec<Arc<Series>> = kept.ids.iter().filter_map(|id| inner.get(*id)).cloned().collect();
            let new: Vec<Arc<Series>> = inner.from(kept.known).cloned().collect();
            (old, new, inner.numbered(), inner.spelling())
        };
        sort_by_labels(&mut new, &spelling); // Outside of the table's lock: a million take a second.
        let ids = merged(&old, &new, &spelling);
        *kept = Arc::new(Sorted {
            ids,
            known,
            ranks: OnceLock::new(),
        });
        Arc::clone(&kept)
    }
}

/// Sorts series by their labels, on all cores.
///
/// Not by rayon: callers hold a lock, and a worker that waits for its share of a sort takes up other work meanwhile, which
/// may want the same lock and then waits for itself.
pub(crate) fn sort_by_labels(series: &mut [Arc<Series>], spelling: &Spelling) {
    let by_labels = |a: &Arc<Series>, b: &Arc<Series>| spelling.compare(a, b);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = series.len().div_ceil(threads);
    if threads > 1 && share >= SHARE_MIN {
        std::thread::scope(|scope| {
            for share in series.chunks_mut(share) {
                scope.spawn(|| share.sort_unstable_by(by_labels));
            }
        });
    }
    series.sort_by(by_labels); // Sorted runs are found and merged.
}

/// Fewer series than this are not worth a thread.
const SHARE_MIN: usize = 4096;

/// Merges newcomers into those that are still there.
fn merged(old: &[Arc<Series>], new: &[Arc<Series>], spelling: &Spelling) -> Vec<SeriesRef> {
    let mut out = Vec::with_capacity(old.len() + new.len());
    let mut rest = old;
    for series in new {
        let before = |old: &Arc<Series>| spelling.compare(old, series) == Ordering::Less;
        let place = match new.len() < old.len() / FEW_NEW {
            true => rest.partition_point(before),
            false => rest.iter().position(|old| !before(old)).unwrap_or(rest.len()),
        };
        out.extend(rest[..place].iter().map(|old| old.id));
        out.push(series.id);
        rest = &rest[place..];
    }
    out.extend(rest.iter().map(|old| old.id));
    out
}

impl Sorted {
    /// Sorts the numbers of series that it knows; others are left out.
    pub(super) fn sort(&self, found: &RoaringBitmap) -> Vec<SeriesRef> {
        let count = found.len() as usize;
        if count > self.ids.len() / FEW {
            return self.ids.iter().copied().filter(|id| found.contains(*id)).collect();
        }
        let ranks = self.ranks();
        let rank = |id: SeriesRef| ranks.get(id as usize).copied().filter(|rank| *rank != NOWHERE);
        let mut places: Vec<u32> = found.iter().filter_map(rank).collect();
        places.sort_unstable();
        places.into_iter().map(|place| self.ids[place as usize]).collect()
    }

    fn ranks(&self) -> &[u32] {
        self.ranks.get_or_init(|| {
            let mut ranks = vec![NOWHERE; self.known];
            for (place, id) in (0u32..).zip(&self.ids) {
                ranks[*id as usize] = place;
            }
            ranks
        })
    }
}

const NOWHERE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_found_comes_in_the_order_of_labels(
            rounds in prop::collection::vec(prop::collection::vec(0u32..500, 0..60), 1..6),
            gone in prop::collection::vec(0u32..100, 0..20),
            wanted in prop::collection::btree_set(0u32..120, 0..120),
        ) {
            let (table, order) = (Table::new(7, usize::MAX), Order::default());
            for round in rounds {
                for n in round {
                    let labels = Labels::from_pairs([("n", format!("{n:x}"))]);
                    table.declare(labels, None, &mut |_, _| {}).unwrap();
                }
                let sorted = order.of(&table);
                let inner = table.read();
                let found: RoaringBitmap = wanted.iter().copied().filter(|id| inner.get(*id).is_some()).collect();
                let labels: Vec<Labels> = sorted.sort(&found).iter().map(|id| inner.labels(inner.get(*id).unwrap())).collect();
                prop_assert_eq!(labels.len() as u64, found.len());
                prop_assert!(labels.is_sorted());
                drop(inner);
                let gone: Vec<u32> = gone.iter().copied().filter(|id| table.read().get(*id).is_some()).collect();
                table.remove(&gone);
            }
        }
    }
}
