//! What the evaluator computes with: a grid of steps, and rows that have at most one point at each.

use std::sync::Arc;

use super::budget::Held;
use crate::model::{FloatHistogram, Labels};

/// The steps of an evaluation: `start`, `start + step`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Grid {
    pub(super) start: i64,
    /// Never zero.
    pub(super) step: i64,
    /// How many steps; may be zero.
    pub(super) count: usize,
}

impl Grid {
    /// A grid of one step.
    pub(super) fn instant(at: i64) -> Grid {
        Grid {
            start: at,
            step: 1,
            count: 1,
        }
    }

    /// The grid from `start` to at most `end`.
    pub(super) fn range(start: i64, end: i64, step: i64) -> Grid {
        let step = step.max(1);
        let span = i128::from(end) - i128::from(start);
        let count = if span < 0 { 0 } else { span / i128::from(step) + 1 };
        Grid {
            start,
            step,
            count: usize::try_from(count).unwrap_or(usize::MAX),
        }
    }

    #[inline]
    pub(super) fn at(&self, index: usize) -> i64 {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        self.start.saturating_add(self.step.saturating_mul(index))
    }

    pub(super) fn last(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }

    pub(super) fn first_step(&self) -> Grid {
        Grid {
            count: self.count.min(1),
            ..*self
        }
    }

    pub(super) fn times(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.count).map(|index| self.at(index))
    }
}

/// No value at a step: the bits of a stale marker, which by definition is no value.
pub(super) const ABSENT: f64 = f64::from_bits(ABSENT_BITS);
const ABSENT_BITS: u64 = 0x7ff0_0000_0000_0002;

#[inline]
pub(super) fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT_BITS
}

/// One series of an instant vector over a grid.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) labels: Labels,
    /// The metric name (with type and unit) goes in the end.
    pub(super) drop_name: bool,
    /// One for each step, [`ABSENT`] where there is no float.
    pub(super) floats: Vec<f64>,
    /// Empty, or one for each step. Where there is a histogram there is no float.
    pub(super) histograms: Vec<Option<Arc<FloatHistogram>>>,
}

/// A point of a row.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Row {
    pub(super) fn empty(labels: Labels, drop_name: bool, steps: usize) -> Row {
        Row {
            labels,
            drop_name,
            floats: vec![ABSENT; steps],
            histograms: Vec::new(),
        }
    }

    pub(super) fn of_floats(labels: Labels, drop_name: bool, floats: Vec<f64>) -> Row {
        Row {
            labels,
            drop_name,
            floats,
            histograms: Vec::new(),
        }
    }

    pub(super) fn histogram(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        self.histograms.get(step)?.as_ref()
    }

    pub(super) fn is_present(&self, step: usize) -> bool {
        !is_absent(self.floats[step]) || self.histogram(step).is_some()
    }

    pub(super) fn is_blank(&self) -> bool {
        self.floats.iter().all(|value| is_absent(*value)) && self.histograms.iter().all(Option::is_none)
    }

    pub(super) fn value(&self, step: usize) -> Option<Value> {
        let float = self.floats[step];
        if !is_absent(float) {
            return Some(Value::Float(float));
        }
        self.histogram(step)
            .map(|histogram| Value::Histogram(Arc::clone(histogram)))
    }

    pub(super) fn set(&mut self, step: usize, value: Value) {
        match value {
            Value::Float(float) => self.floats[step] = float,
            Value::Histogram(histogram) => {
                if self.histograms.is_empty() {
                    self.histograms = vec![None; self.floats.len()];
                }
                self.histograms[step] = Some(histogram);
            }
        }
    }

    pub(super) fn clear(&mut self, step: usize) {
        self.floats[step] = ABSENT;
        if let Some(histogram) = self.histograms.get_mut(step) {
            *histogram = None;
        }
    }

    /// Returns about how many bytes the row occupies.
    pub(super) fn bytes(&self) -> usize {
        let histograms: usize = self
            .histograms
            .iter()
            .flatten()
            .map(|histogram| histogram.bytes())
            .sum();
        size_of::<Row>() + self.floats.len() * 8 + self.histograms.len() * 8 + histograms
    }

    /// Repeats the only step of a row `steps` times.
    pub(super) fn repeated(mut self, steps: usize) -> Row {
        self.floats = vec![self.floats[0]; steps];
        if !self.histograms.is_empty() {
            self.histograms = vec![self.histograms[0].clone(); steps];
        }
        self
    }
}

/// An instant vector over a grid, and the memory set aside for it.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) rows: Vec<Row>,
    pub(super) held: Held,
}

/// A scalar over a grid.
#[derive(Clone, Debug)]
pub(super) enum Scalars {
    Constant(f64),
    Each(Vec<f64>),
}

impl Scalars {
    #[inline]
    pub(super) fn at(&self, step: usize) -> f64 {
        match self {
            Scalars::Constant(value) => *value,
            Scalars::Each(values) => values[step],
        }
    }

    pub(super) fn zip(self, other: Scalars, compute: impl Fn(f64, f64) -> f64) -> Scalars {
        use Scalars::{Constant, Each};
        match (self, other) {
            (Constant(a), Constant(b)) => Constant(compute(a, b)),
            (Each(mut a), b) => {
                for (step, a) in a.iter_mut().enumerate() {
                    *a = compute(*a, b.at(step));
                }
                Each(a)
            }
            (Constant(a), Each(mut b)) => {
                b.iter_mut().for_each(|b| *b = compute(a, *b));
                Each(b)
            }
        }
    }
}
