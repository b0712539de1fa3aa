//! How a function is computed: the part of the table that planner and evaluator read.

use super::math::Civil;
use crate::model::FloatHistogram;
use crate::query::detect::Part;

/// The forms of a function's computation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    /// Each float by itself; histograms are dropped.
    Map(fn(f64) -> f64),
    /// Each float with the scalar arguments at its step; `None` drops it.
    MapWith(fn(f64, &[f64]) -> Option<f64>),
    /// Each float read as Unix time; without argument the evaluation time.
    Date(fn(Civil) -> f64),
    /// Each histogram by itself; floats are dropped.
    Histogram(fn(&FloatHistogram) -> f64),
    /// Each series' window.
    OverTime(Rollup),
    /// A number that is the same in the whole query.
    Constant(Constant),
    /// Two scalars.
    Scalars(fn(f64, f64) -> f64),
    /// A time of each sample of a selector.
    SampleTime(SampleTime),
    /// Something of its own.
    Special(Special),
}

/// What a query knows about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Constant {
    Pi,
    Start,
    End,
    Range,
    Step,
}

/// Functions over a series' window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rollup {
    Avg,
    ChangePoint,
    Changes,
    Count,
    Delta,
    Deriv,
    DoubleExponentialSmoothing,
    First,
    Idelta,
    Increase,
    Irate,
    Last,
    Mad,
    Max,
    Min,
    PredictLinear,
    Present,
    Quantile,
    Rate,
    Resets,
    Stddev,
    Stdvar,
    Sum,
    TsOfFirst,
    TsOfLast,
    TsOfMax,
    TsOfMin,
    ZScore,
}

impl Rollup {
    /// Whether a change of the start timestamp counts as a restart.
    pub(crate) fn reads_start_times(self) -> bool {
        matches!(self, Rollup::Rate | Rollup::Increase | Rollup::Irate | Rollup::Resets)
    }

    /// Whether the result is a sample of the series itself, so that it keeps the name.
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, Rollup::First | Rollup::Last)
    }
}

/// Which time of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SampleTime {
    /// When it was taken.
    Sample,
    /// When its counter began.
    Start,
}

/// What elements are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SortBy {
    Value,
    Label,
}

/// What is asked of a detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detect {
    /// One number of the band.
    Band(Shown),
    /// All of them, told apart by the label `band`.
    Bands,
    /// A part of the decomposed series.
    Part(Part),
    /// A value to come.
    Forecast(Bound),
}

/// Which number of a band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Expected,
    Lower,
    Score,
    Upper,
}

/// Which number of a forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Lower,
    Point,
    Upper,
}

/// Functions that look at more than one element, or at labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Absent,
    AbsentOverTime,
    Detect(Detect),
    HistogramFraction,
    HistogramQuantile,
    HistogramQuantiles,
    Info,
    LabelJoin,
    LabelReplace,
    Scalar,
    Sort { by: SortBy, descending: bool },
    Time,
    Vector,
}
