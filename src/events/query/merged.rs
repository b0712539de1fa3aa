//! The part of a ranking that comes from files, kept until the files change.
//!
//! Files change at checkpoints, so that a dashboard that asks for the top of a window again and again reads them once; what
//! is in memory is added to each answer. The ranking is exact: it is made from all values, never from other rankings.

use std::cmp::Reverse;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::{Files, QuestionError, Ranked, Stretch, Wanted};
use crate::events::Events;
use crate::events::cells::{CellMetric, Cube, key_parts};

/// Rankings that are kept.
const RANKINGS_MAX: usize = 256;
/// Values in all kept rankings.
const VALUES_MAX: usize = 4_000_000;

/// The sums of all values of a field.
#[derive(Debug, Default)]
pub(super) struct Merged {
    sums: HashMap<Arc<[u8]>, i64>,
    /// The most first, ties by value.
    ranked: Vec<(i64, Arc<[u8]>)>,
}

#[derive(PartialEq, Eq, Hash)]
struct Asked {
    cube: Cube,
    prefix: Vec<u8>,
    rest: Vec<(usize, String)>,
    parts: Vec<Stretch>,
    place: usize,
    metric: CellMetric,
}

/// Rankings of the present files.
#[derive(Default)]
pub(in crate::events) struct MergedCache {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The manifest that they were made from.
    manifest: u64,
    rankings: HashMap<Asked, Arc<Merged>>,
    values: usize,
}

impl Events {
    /// Returns the sums of the wanted files' cells by the value at `place`, and whether they were kept from before.
    pub(super) fn merged_of(
        &self,
        files: &Files,
        wanted: &Wanted,
        parts: &[Stretch],
        place: usize,
        metric: CellMetric,
    ) -> Result<(Arc<Merged>, bool), QuestionError> {
        let asked = Asked {
            cube: wanted.cube.clone(),
            prefix: wanted.prefix.clone(),
            rest: wanted.rest.clone(),
            parts: parts.to_vec(),
            place,
            metric,
        };
        let manifest = files.manifest.number;
        {
            let kept = self.merged.kept.lock();
            if kept.manifest == manifest
                && let Some(merged) = kept.rankings.get(&asked)
            {
                return Ok((Arc::clone(merged), true));
            }
        }
        let mut sums: HashMap<Arc<[u8]>, i64> = HashMap::new();
        self.each_file_piece(files, wanted, parts, &mut |key, piece| {
            let sum = piece.sum(metric);
            if sum != 0 {
                let value = key_parts(key).nth(place).unwrap_or_default();
                match sums.get_mut(value) {
                    Some(own) => *own += sum,
                    None => drop(sums.insert(value.into(), sum)),
                }
            }
        })?;
        let mut ranked: Vec<(i64, Arc<[u8]>)> = sums.iter().map(|(value, sum)| (*sum, Arc::clone(value))).collect();
        ranked.sort_unstable_by(|a, b| (Reverse(a.0), &a.1).cmp(&(Reverse(b.0), &b.1)));
        let merged = Arc::new(Merged { sums, ranked });
        self.merged.keep(manifest, asked, &merged);
        Ok((merged, false))
    }
}

impl MergedCache {
    fn keep(&self, manifest: u64, asked: Asked, merged: &Arc<Merged>) {
        let mut kept = self.kept.lock();
        if kept.manifest > manifest {
            return;
        }
        let full = kept.rankings.len() >= RANKINGS_MAX || kept.values + merged.sums.len() > VALUES_MAX;
        if kept.manifest < manifest || full {
            kept.rankings.clear();
            kept.values = 0;
            kept.manifest = manifest;
        }
        if merged.sums.len() <= VALUES_MAX {
            kept.values += merged.sums.len();
            kept.rankings.insert(asked, Arc::clone(merged));
        }
    }
}

/// Returns the `count` largest of files and memory together, ties by value.
pub(super) fn top(merged: &Merged, live: &HashMap<Vec<u8>, i64>, count: usize) -> Vec<Ranked> {
    // Whoever is not in memory keeps its rank among the others who are not.
    let still = merged.ranked.iter().filter(|(_, value)| !live.contains_key(&**value));
    let mut best: Vec<(i64, &[u8])> = still.take(count).map(|(sum, value)| (*sum, &**value)).collect();
    best.extend(live.iter().map(|(value, sum)| {
        let before = merged.sums.get(value.as_slice()).copied().unwrap_or(0);
        (sum + before, value.as_slice())
    }));
    best.retain(|(sum, _)| *sum > 0);
    best.sort_unstable_by(|a, b| (Reverse(a.0), a.1).cmp(&(Reverse(b.0), b.1)));
    best.truncate(count);
    let ranked = best.into_iter().map(|(count, value)| Ranked {
        value: String::from_utf8_lossy(value).into_owned(),
        count,
    });
    ranked.collect()
}
