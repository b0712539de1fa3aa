//! The aggregations that fold any number of elements into one for each group and step.

use std::sync::Arc;

use super::mean::{FloatMean, HistogramMean};
use super::{About, hold_row};
use crate::model::{CounterResetHint, FloatHistogram, FloatSum, HistogramSum, Labels};
use crate::query::QueryError;
use crate::query::ast::AggregateOp;
use crate::query::eval::budget::{Budget, Held};
use crate::query::eval::matrix::{ABSENT, Row, Scalars, Value, is_absent};
use crate::query::eval::notes::{Notes, Operation};
use crate::query::eval::quantile;

/// One group, all steps.
pub(super) struct Accumulator {
    drop_name: bool,
    floats: Floats,
    /// For sums and means: empty until the first histogram, then one for each step.
    histograms: Vec<Option<Box<Histograms>>>,
}

/// What is known of the floats of a group, one for each step.
enum Floats {
    Sum(Vec<FloatSum>),
    Mean(Vec<FloatMean>),
    /// Elements of both kinds; for `group`, only whether there are any.
    Count(Vec<f64>),
    Extreme(Vec<f64>),
    Spread(Vec<Spread>),
    /// All rows.
    All(Vec<Vec<f64>>),
}

#[derive(Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

/// What is known of the histograms of a group at one step.
struct Histograms {
    /// `None` when a float came first: the element is invalid anyway.
    total: Option<Total>,
    incompatible: bool,
    reset: bool,
    not_reset: bool,
}

enum Total {
    Sum(HistogramSum),
    Mean(HistogramMean),
}

impl Accumulator {
    pub(super) fn new(op: AggregateOp, steps: usize) -> Accumulator {
        let floats = match op {
            AggregateOp::Sum => Floats::Sum(vec![FloatSum::of(ABSENT); steps]),
            AggregateOp::Avg => Floats::Mean(vec![FloatMean::default(); steps]),
            AggregateOp::Count | AggregateOp::Group => Floats::Count(vec![0.0; steps]),
            AggregateOp::Min | AggregateOp::Max => Floats::Extreme(vec![ABSENT; steps]),
            AggregateOp::Stddev | AggregateOp::Stdvar => Floats::Spread(vec![Spread::default(); steps]),
            _ => Floats::All(Vec::new()),
        };
        Accumulator {
            drop_name: false,
            floats,
            histograms: Vec::new(),
        }
    }

    /// Returns how much memory a new accumulator takes.
    pub(super) fn bytes(op: AggregateOp, steps: usize) -> usize {
        let cell = match op {
            AggregateOp::Sum => size_of::<FloatSum>(),
            AggregateOp::Avg => size_of::<FloatMean>(),
            AggregateOp::Stddev | AggregateOp::Stdvar => size_of::<Spread>(),
            _ => size_of::<f64>(),
        };
        size_of::<Accumulator>() + cell.saturating_mul(steps)
    }

    pub(super) fn fold(
        &mut self,
        row: &Row,
        about: About,
        notes: &mut Notes,
        held: &mut Held,
    ) -> Result<(), QueryError> {
        self.drop_name |= row.drop_name;
        let values = row.floats.iter().enumerate().filter(|(_, value)| !is_absent(**value));
        match &mut self.floats {
            Floats::Sum(sums) => {
                for (step, value) in values {
                    let sum = &mut sums[step];
                    match is_absent(sum.sum) {
                        true => *sum = FloatSum::of(*value),
                        false => sum.add(*value),
                    }
                }
            }
            Floats::Mean(means) => values.for_each(|(step, value)| means[step].add(*value)),
            Floats::Count(counts) => {
                values.for_each(|(step, _)| counts[step] += 1.0);
                for step in (0..row.histograms.len()).filter(|step| row.histograms[*step].is_some()) {
                    counts[step] += 1.0;
                }
                return Ok(());
            }
            Floats::Extreme(extremes) => {
                let max = about.op == AggregateOp::Max;
                for (step, value) in values {
                    let best = &mut extremes[step];
                    // An absent best is a NaN, too.
                    if best.is_nan() || (if max { *best < *value } else { *best > *value }) {
                        *best = *value;
                    }
                }
            }
            Floats::Spread(spreads) => values.for_each(|(step, value)| spreads[step].add(*value)),
            Floats::All(rows) => {
                hold_row(held, row)?;
                rows.push(row.floats.clone());
            }
        }
        if !row.histograms.is_empty() {
            self.fold_histograms(row, about, notes, held)?;
        }
        Ok(())
    }

    fn fold_histograms(
        &mut self,
        row: &Row,
        about: About,
        notes: &mut Notes,
        held: &mut Held,
    ) -> Result<(), QueryError> {
        let steps = row.floats.len();
        let present = row
            .histograms
            .iter()
            .enumerate()
            .filter_map(|(step, cell)| Some((step, cell.as_ref()?)));
        let has_float: Box<dyn Fn(usize) -> bool + '_> = match &self.floats {
            Floats::Sum(sums) => Box::new(|step| !is_absent(sums[step].sum)),
            Floats::Mean(means) => Box::new(|step| !means[step].is_empty()),
            _ => {
                for _ in present {
                    notes.ignored_in_aggregation(about.op.as_str(), about.span);
                }
                return Ok(());
            }
        };
        if self.histograms.is_empty() {
            self.histograms = (0..steps).map(|_| None).collect();
        }
        for (step, histogram) in present {
            match &mut self.histograms[step] {
                Some(known) => known.add(histogram, &row.labels, about, notes),
                empty => {
                    held.grow(histogram.bytes() * 2)?;
                    *empty = Some(Box::new(Histograms::of(histogram, about.op, has_float(step))));
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(
        self,
        labels: Labels,
        param: &Scalars,
        about: About,
        notes: &mut Notes,
        budget: &Budget,
    ) -> Result<Row, QueryError> {
        let floats: Vec<f64> = match self.floats {
            Floats::Sum(sums) => sums
                .into_iter()
                .map(|sum| if is_absent(sum.sum) { ABSENT } else { sum.value() })
                .collect(),
            Floats::Mean(means) => means
                .into_iter()
                .map(|mean| if mean.is_empty() { ABSENT } else { mean.value() })
                .collect(),
            Floats::Count(counts) => {
                let group = about.op == AggregateOp::Group;
                let shown = |count: f64| match count {
                    0.0 => ABSENT,
                    _ if group => 1.0,
                    count => count,
                };
                counts.into_iter().map(shown).collect()
            }
            Floats::Extreme(extremes) => extremes,
            Floats::Spread(spreads) => {
                let deviation = about.op == AggregateOp::Stddev;
                spreads.into_iter().map(|spread| spread.value(deviation)).collect()
            }
            Floats::All(rows) => quantiles(&rows, param, budget)?,
        };
        let mut row = Row::of_floats(labels, self.drop_name, floats);
        for (step, histograms) in self.histograms.into_iter().enumerate() {
            let Some(histograms) = histograms else { continue };
            if !is_absent(row.floats[step]) {
                notes.mixed_aggregation(about.span);
                row.floats[step] = ABSENT;
            } else if !histograms.incompatible
                && let Some(histogram) = histograms.value()
            {
                if histograms.reset && histograms.not_reset {
                    notes.resets_collide(Operation::Aggregation, about.span);
                }
                row.set(step, Value::Histogram(Arc::new(histogram)));
            }
        }
        Ok(row)
    }
}

fn quantiles(rows: &[Vec<f64>], param: &Scalars, budget: &Budget) -> Result<Vec<f64>, QueryError> {
    let steps = rows.first().map_or(0, Vec::len);
    let mut values = Vec::with_capacity(rows.len());
    (0..steps)
        .map(|step| {
            budget.check()?;
            values.clear();
            values.extend(rows.iter().map(|row| row[step]).filter(|value| !is_absent(*value)));
            Ok(match values.is_empty() {
                true => ABSENT,
                false => quantile::of_values(param.at(step), &mut values),
            })
        })
        .collect()
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.mean = value;
            self.squares = if value.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn value(&self, deviation: bool) -> f64 {
        if self.count == 0.0 {
            return ABSENT;
        }
        let variance = self.squares / self.count;
        if deviation { variance.sqrt() } else { variance }
    }
}

impl Histograms {
    fn of(histogram: &FloatHistogram, op: AggregateOp, after_float: bool) -> Histograms {
        let total = match (after_float, op) {
            (true, _) => None,
            (false, AggregateOp::Avg) => Some(Total::Mean(HistogramMean::of(histogram))),
            (false, _) => Some(Total::Sum(HistogramSum::of(histogram))),
        };
        let mut histograms = Histograms {
            total,
            incompatible: false,
            reset: false,
            not_reset: false,
        };
        histograms.see(histogram);
        histograms
    }

    fn see(&mut self, histogram: &FloatHistogram) {
        self.reset |= histogram.counter_reset_hint == CounterResetHint::Reset;
        self.not_reset |= histogram.counter_reset_hint == CounterResetHint::NotReset;
    }

    fn add(&mut self, histogram: &FloatHistogram, labels: &Labels, about: About, notes: &mut Notes) {
        if self.incompatible {
            return;
        }
        let added = match &mut self.total {
            None => return,
            Some(Total::Sum(sum)) => sum.add(histogram),
            Some(Total::Mean(mean)) => mean.add(histogram),
        };
        self.see(histogram);
        match added {
            Ok(reconciled) if reconciled.bounds_differ => notes.bounds_differ(Operation::Aggregation, about.span),
            Ok(_) => {}
            Err(_) => {
                self.incompatible = true;
                notes.exponential_and_custom(labels.metric_name().unwrap_or_default(), about.span);
            }
        }
    }

    fn value(&self) -> Option<FloatHistogram> {
        Some(match self.total.as_ref()? {
            Total::Sum(sum) => sum.value(),
            Total::Mean(mean) => mean.value(),
        })
    }
}
