//! Whether a histogram's parts fit each other.

use super::buckets::{SCHEMA_MAX, SCHEMA_MIN};
use super::{FloatHistogram, SCHEMA_CUSTOM, Span};

/// Two histograms cannot be combined: one has custom buckets, the other exponential ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct MixedSchemas;

/// Why a histogram is malformed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HistogramError {
    /// No known schema.
    #[error(
        "histogram has schema {0}, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets"
    )]
    Schema(i32),
    /// Spans and buckets do not fit.
    #[error("{side} side: spans need {spans} buckets, have {buckets} buckets")]
    Buckets {
        /// `positive` or `negative`.
        side: &'static str,
        /// How many buckets the spans describe.
        spans: u64,
        /// How many there are.
        buckets: usize,
    },
    /// A span goes back, or beyond the end of indexes.
    #[error("{side} side: span number {number} has offset {offset}")]
    SpanOffset {
        /// `positive` or `negative`.
        side: &'static str,
        /// Which span, from 1.
        number: usize,
        /// Its offset.
        offset: i32,
    },
    /// A count below zero.
    #[error("{what} is {count}, which is negative")]
    NegativeCount {
        /// Which count.
        what: &'static str,
        /// Its value.
        count: f64,
    },
    /// Custom bounds are not finite, not rising, too few, or come with parts that only exponential schemas have.
    #[error("custom buckets: {0}")]
    Custom(&'static str),
    /// The zero bucket's width is no size.
    #[error("zero threshold is {0}")]
    ZeroThreshold(f64),
}

impl FloatHistogram {
    /// Checks that spans, buckets, bounds and schema fit each other and no count is negative. Whether `count` agrees with the
    /// buckets is not checked: observations of NaN and rounding make it differ.
    ///
    /// # Errors
    /// [`HistogramError`] says what is wrong.
    pub fn validate(&self) -> Result<(), HistogramError> {
        match self.schema {
            SCHEMA_CUSTOM => self.validate_custom()?,
            SCHEMA_MIN..=SCHEMA_MAX => {
                if !self.custom_values.is_empty() {
                    return Err(HistogramError::Custom(
                        "an exponential schema must not have custom bounds",
                    ));
                }
                if self.zero_threshold.is_nan() || self.zero_threshold < 0.0 || self.zero_threshold.is_infinite() {
                    return Err(HistogramError::ZeroThreshold(self.zero_threshold));
                }
            }
            other => return Err(HistogramError::Schema(other)),
        }
        validate_spans("positive", &self.positive_spans, self.positive_buckets.len())?;
        validate_spans("negative", &self.negative_spans, self.negative_buckets.len())?;
        let negative = |what, count: f64| match count < 0.0 {
            true => Err(HistogramError::NegativeCount { what, count }),
            false => Ok(()),
        };
        negative("observation count", self.count)?;
        negative("zero bucket", self.zero_count)?;
        for count in self.positive_buckets.iter().chain(&self.negative_buckets) {
            negative("bucket count", *count)?;
        }
        Ok(())
    }

    fn validate_custom(&self) -> Result<(), HistogramError> {
        let bounds = &self.custom_values;
        let covered: i64 = self
            .positive_spans
            .iter()
            .map(|span| i64::from(span.offset) + i64::from(span.length))
            .sum();
        let wrong = if bounds.iter().any(|bound| !bound.is_finite()) {
            "bounds must be finite"
        } else if !bounds.is_sorted_by(|a, b| a < b) {
            "bounds must be in strictly increasing order"
        } else if self.positive_spans.first().is_some_and(|span| span.offset < 0) {
            "the first span must not begin below the first bucket"
        } else if covered > bounds.len() as i64 + 1 {
            "there are fewer bounds than buckets"
        } else if self.zero_count != 0.0 || self.zero_threshold != 0.0 {
            "there must be no zero bucket"
        } else if !self.negative_spans.is_empty() || !self.negative_buckets.is_empty() {
            "there must be no negative buckets"
        } else {
            return Ok(());
        };
        Err(HistogramError::Custom(wrong))
    }
}

fn validate_spans(side: &'static str, spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    let mut end = 0i64;
    for (at, span) in spans.iter().enumerate() {
        end += i64::from(span.offset) + i64::from(span.length);
        if (at > 0 && span.offset < 0) || i32::try_from(end).is_err() {
            return Err(HistogramError::SpanOffset {
                side,
                number: at + 1,
                offset: span.offset,
            });
        }
    }
    let described: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if described != buckets as u64 {
        return Err(HistogramError::Buckets {
            side,
            spans: described,
            buckets,
        });
    }
    Ok(())
}
