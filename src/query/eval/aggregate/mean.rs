//! Means: a sum divided in the end, unless the sum would overflow; then a mean that moves with each value.

use crate::model::{FloatHistogram, FloatSum, HistogramSum, MixedSchemas, Reconciled};

/// A mean of floats.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::query::eval) struct FloatMean {
    /// The sum; once `moving`, the mean.
    sum: FloatSum,
    count: f64,
    moving: bool,
}

impl FloatMean {
    #[inline]
    pub(in crate::query::eval) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.sum = FloatSum::of(value);
            return;
        }
        if !self.moving {
            let mut sum = self.sum;
            sum.add(value);
            if !sum.sum.is_infinite() {
                self.sum = sum;
                return;
            }
            self.moving = true;
            self.sum = FloatSum {
                sum: self.sum.sum / (self.count - 1.0),
                lost: self.sum.lost / (self.count - 1.0),
            };
        }
        self.sum = self.sum.scaled((self.count - 1.0) / self.count);
        self.sum.add(value / self.count);
    }

    pub(in crate::query::eval) fn is_empty(&self) -> bool {
        self.count == 0.0
    }

    pub(in crate::query::eval) fn value(&self) -> f64 {
        match self.moving {
            true => self.sum.sum + self.sum.lost,
            false => self.sum.sum / self.count + self.sum.lost / self.count,
        }
    }
}

/// A mean of histograms.
#[derive(Clone, Debug)]
pub(in crate::query::eval) struct HistogramMean {
    sum: HistogramSum,
    count: f64,
    moving: bool,
    /// No count can be larger than this, so that most sums need no look for an overflow.
    bound: f64,
}

/// The largest absolute number in a histogram.
fn largest(histogram: &FloatHistogram) -> f64 {
    let buckets = histogram.positive_buckets.iter().chain(&histogram.negative_buckets);
    buckets
        .chain([&histogram.count, &histogram.sum, &histogram.zero_count])
        .fold(0.0, |largest, value| largest.max(value.abs()))
}

impl HistogramMean {
    pub(in crate::query::eval) fn of(histogram: &FloatHistogram) -> HistogramMean {
        HistogramMean {
            sum: HistogramSum::of(histogram),
            count: 1.0,
            moving: false,
            bound: largest(histogram),
        }
    }

    /// Adds a histogram.
    ///
    /// # Errors
    /// [`MixedSchemas`] when only one has custom buckets.
    pub(in crate::query::eval) fn add(&mut self, histogram: &FloatHistogram) -> Result<Reconciled, MixedSchemas> {
        self.count += 1.0;
        if !self.moving {
            // Buckets merge when resolutions differ, so that the bound leaves room.
            self.bound += largest(histogram);
            if self.bound < f64::MAX / 1e6 {
                return self.sum.add(histogram);
            }
            let mut sum = self.sum.clone();
            let reconciled = sum.add(histogram)?;
            if !sum.overflows() {
                self.sum = sum;
                return Ok(reconciled);
            }
            self.moving = true;
            self.sum.scale(1.0 / (self.count - 1.0));
        }
        self.sum.scale((self.count - 1.0) / self.count);
        let mut part = histogram.clone();
        part.divide(self.count);
        self.sum.add(&part)
    }

    pub(in crate::query::eval) fn value(&self) -> FloatHistogram {
        if self.moving {
            return self.sum.value();
        }
        self.sum.divided(self.count)
    }
}
