//! What was learned, kept: the same question over the same data is answered once.
//!
//! An entry holds the fits of all series of one expression at one anchor. It is used only while the store says that nothing
//! changed in the stretch of time it was learned from, so that a cached answer is the answer.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::Fit;
use crate::model::Labels;

/// The fits of one expression at one anchor.
pub(crate) type Fitted = HashMap<Labels, Arc<Fit>>;

/// A bounded cache of fits, shared by all clones. One serves one store.
#[derive(Clone, Default)]
pub struct Fits(Option<Arc<Mutex<Kept>>>);

#[derive(Default)]
struct Kept {
    entries: HashMap<u128, Entry>,
    bytes: usize,
    bytes_max: usize,
    /// Counts uses, to find what was not used for longest.
    clock: u64,
}

struct Entry {
    version: u64,
    used: u64,
    bytes: usize,
    fits: Arc<Fitted>,
}

impl Fits {
    /// A cache of at most so many bytes. [`Fits::default`] keeps nothing.
    pub fn of_bytes(bytes_max: usize) -> Fits {
        Fits(Some(Arc::new(Mutex::new(Kept {
            bytes_max,
            ..Kept::default()
        }))))
    }

    /// Whether anything is kept at all.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns what was learned for `key` while the data had this version.
    pub(crate) fn get(&self, key: u128, version: u64) -> Option<Arc<Fitted>> {
        let mut kept = self.0.as_ref()?.lock();
        kept.clock += 1;
        let clock = kept.clock;
        let entry = kept.entries.get_mut(&key).filter(|entry| entry.version == version)?;
        entry.used = clock;
        Some(Arc::clone(&entry.fits))
    }

    /// Keeps what was learned; what was not used for longest makes room.
    pub(crate) fn put(&self, key: u128, version: u64, fits: Arc<Fitted>) {
        let Some(kept) = &self.0 else { return };
        let bytes: usize = fits
            .iter()
            .map(|(labels, fit)| labels.as_encoded().len() + 64 + fit.bytes())
            .sum();
        let mut kept = kept.lock();
        kept.remove(key);
        if bytes > kept.bytes_max {
            return;
        }
        while kept.bytes + bytes > kept.bytes_max {
            let oldest = kept.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| *key) else {
                break;
            };
            kept.remove(oldest);
        }
        kept.clock += 1;
        let used = kept.clock;
        kept.bytes += bytes;
        kept.entries.insert(
            key,
            Entry {
                version,
                used,
                bytes,
                fits,
            },
        );
    }
}

impl Kept {
    fn remove(&mut self, key: u128) {
        if let Some(entry) = self.entries.remove(&key) {
            self.bytes -= entry.bytes;
        }
    }
}

impl std::fmt::Debug for Fits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fits({})", if self.is_on() { "on" } else { "off" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Points, Settings};
    use super::*;

    fn fitted() -> Arc<Fitted> {
        let settings = Settings::read("ewma", []).unwrap();
        let calendar = super::super::Calendar::new(&settings, 0, 1);
        let points = Points {
            times: &[-2, -1],
            values: &[1.0, 2.0],
        };
        let fit = Fit::learn(points, 0, &settings, &calendar).unwrap();
        Arc::new([(Labels::empty(), Arc::new(fit))].into_iter().collect())
    }

    #[test]
    fn another_version_is_not_answered_and_the_oldest_makes_room() {
        let one = fitted();
        let bytes = 64 + one[&Labels::empty()].bytes();
        let fits = Fits::of_bytes(2 * bytes + bytes / 2);
        fits.put(1, 7, Arc::clone(&one));
        assert!(fits.get(1, 7).is_some() && fits.get(1, 8).is_none() && fits.get(2, 7).is_none());
        fits.put(2, 7, Arc::clone(&one));
        assert!(fits.get(1, 7).is_some());
        fits.put(3, 7, one);
        assert!(fits.get(2, 7).is_none() && fits.get(1, 7).is_some() && fits.get(3, 7).is_some());
        assert!(Fits::default().get(1, 7).is_none());
    }
}
