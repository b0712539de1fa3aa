//! What a query may cost: every loop asks the budget before it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::matrix::Grid;
use crate::model::Millis;
use crate::query::{Interruption, QueryError, QueryOptions, QueryStats};

/// The limits of one query, and what it has used so far. Shared by all threads that work on it.
#[derive(Debug)]
pub(super) struct Budget {
    options: QueryOptions,
    samples: AtomicU64,
    /// Samples that were looked at, at each step anew.
    looked_at: AtomicU64,
    /// The steps of the query, and the samples looked at in each, when that is wanted.
    steps: Option<(Grid, Box<[AtomicU64]>)>,
    series: AtomicU64,
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
}

impl Budget {
    pub(super) fn new(options: &QueryOptions, grid: Grid) -> Arc<Budget> {
        let most = usize::try_from(options.memory_bytes_max).unwrap_or(usize::MAX) / size_of::<u64>();
        let wanted = options.samples_per_step && grid.count <= most;
        let counts = || (0..grid.count).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Budget {
            options: options.clone(),
            steps: wanted.then(|| (grid, counts())),
            samples: AtomicU64::new(0),
            looked_at: AtomicU64::new(0),
            series: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            bytes_peak: AtomicU64::new(0),
        })
    }

    /// Asks whether to go on at all.
    pub(super) fn check(&self) -> Result<(), QueryError> {
        match self.options.interrupt.asked() {
            None => Ok(()),
            Some(Interruption::Timeout) => Err(QueryError::Timeout),
            Some(Interruption::Cancelled) => Err(QueryError::Cancelled),
        }
    }

    /// Counts samples that were loaded, and asks whether to go on.
    pub(super) fn samples(&self, count: usize) -> Result<(), QueryError> {
        let total = self.samples.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        if total > self.options.samples_max {
            return Err(QueryError::Limit(format!(
                "query processing would load too many samples into memory in query execution: query_samples is {}",
                self.options.samples_max
            )));
        }
        self.check()
    }

    /// Counts samples that steps looked at: statistics only.
    pub(super) fn looked_at(&self, count: u64) {
        self.looked_at.fetch_add(count, Ordering::Relaxed);
    }

    /// Whether [`Budget::looked_at_in`] is of use.
    pub(super) fn counts_steps(&self) -> bool {
        self.steps.is_some()
    }

    /// Says in which step of `grid` samples were looked at that are counted by [`Budget::looked_at`]. Those of a subquery's
    /// steps count for the query's last one, as in Prometheus.
    pub(super) fn looked_at_in(&self, grid: Grid, step: usize, count: u64) {
        let Some((own, counts)) = &self.steps else { return };
        let is_own = grid.step == own.step && grid.at(step) >= own.start && grid.last() <= own.last();
        let place = match is_own {
            true => grid.at(step).saturating_sub(own.start) / own.step,
            false => i64::MAX,
        };
        let place = usize::try_from(place)
            .unwrap_or(usize::MAX)
            .min(counts.len().saturating_sub(1));
        if let Some(slot) = counts.get(place) {
            slot.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Returns how many samples were looked at so far.
    pub(super) fn looked_at_total(&self) -> u64 {
        self.looked_at.load(Ordering::Relaxed)
    }

    /// Counts series that were selected.
    pub(super) fn series(&self, count: usize) -> Result<(), QueryError> {
        let total = self.series.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        if total > self.options.series_max {
            return Err(QueryError::Limit(format!(
                "query selects too many series: {total}, query_series is {}",
                self.options.series_max
            )));
        }
        self.check()
    }

    /// Sets memory aside until the answer is dropped.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Result<Held, QueryError> {
        let mut held = Held {
            budget: Arc::clone(self),
            bytes: 0,
        };
        held.grow(bytes)?;
        Ok(held)
    }

    pub(super) fn stats(&self) -> QueryStats {
        QueryStats {
            series: self.series.load(Ordering::Relaxed),
            samples: self.looked_at.load(Ordering::Relaxed),
            peak_samples: self.bytes_peak.load(Ordering::Relaxed) / size_of::<f64>() as u64,
            samples_per_step: self.samples_per_step(),
        }
    }

    fn samples_per_step(&self) -> Vec<(Millis, u64)> {
        let Some((grid, counts)) = &self.steps else {
            return Vec::new();
        };
        let counts = counts.iter().map(|count| count.load(Ordering::Relaxed));
        grid.times().map(Millis).zip(counts).collect()
    }

    /// Asks whether a column of so many steps fits into memory at all, before it is made.
    pub(super) fn column(self: &Arc<Self>, steps: usize) -> Result<(), QueryError> {
        self.hold(steps.saturating_mul(size_of::<f64>())).map(drop)
    }

    /// Returns how much memory may still be set aside.
    pub(super) fn bytes_left(&self) -> u64 {
        let used = self.bytes.load(Ordering::Relaxed);
        self.options.memory_bytes_max.saturating_sub(used)
    }
}

/// Memory that is set aside; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Held {
    /// Sets more aside.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), QueryError> {
        let bytes = bytes as u64;
        let budget = &self.budget;
        let before = budget.bytes.load(Ordering::Relaxed);
        let fits = before
            .checked_add(bytes)
            .is_some_and(|total| total <= budget.options.memory_bytes_max);
        let total = if fits {
            budget.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
        } else {
            u64::MAX
        };
        self.bytes += if fits { bytes } else { 0 };
        if total > budget.options.memory_bytes_max {
            return Err(QueryError::Limit(format!(
                "query needs too much memory for its results: query_memory_bytes is {}; \
                 select fewer series or a larger step",
                budget.options.memory_bytes_max
            )));
        }
        budget.bytes_peak.fetch_max(total, Ordering::Relaxed);
        budget.check()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
