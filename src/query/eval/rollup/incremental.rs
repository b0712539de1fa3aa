//! Functions that need not look at their whole window: O(samples + steps) for a series, with the very digits of the plain way.

use std::collections::VecDeque;

use super::rate::{self, Extrapolation};
use super::{CHECK_SAMPLES, Job, advance};
use crate::query::QueryError;
use crate::query::functions::Rollup;
use crate::storage::Columns;

/// The largest integer up to which doubles hold all integers.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Fills `out`, for a series of floats alone; `None` when there is no shortcut for the function and these samples.
pub(super) fn roll(job: &Job<'_>, columns: &Columns, out: &mut [f64]) -> Result<Option<u64>, QueryError> {
    let (times, values) = (&columns.times[..], &columns.values[..]);
    Ok(Some(match job.rollup {
        Rollup::Rate => rates(job, times, values, out, true, true)?,
        Rollup::Increase => rates(job, times, values, out, true, false)?,
        Rollup::Delta => rates(job, times, values, out, false, false)?,
        Rollup::Count => each(job, times, out, |window| Some(window.len() as f64)),
        Rollup::Present => each(job, times, out, |_| Some(1.0)),
        Rollup::First => each(job, times, out, |window| Some(values[window.start])),
        Rollup::Last => each(job, times, out, |window| Some(values[window.end - 1])),
        Rollup::TsOfFirst => each(job, times, out, |window| Some(seconds(times[window.start]))),
        Rollup::TsOfLast => each(job, times, out, |window| Some(seconds(times[window.end - 1]))),
        Rollup::Max => extremes(job, times, values, out, |new, old| new > old),
        Rollup::Min => extremes(job, times, values, out, |new, old| new < old),
        Rollup::Changes => counted(job, times, values, out, |old, new| {
            old != new && !(old.is_nan() && new.is_nan())
        }),
        Rollup::Resets => counted(job, times, values, out, |old, new| new < old),
        Rollup::Sum => {
            let Some(sums) = exact_sums(values) else {
                return Ok(None);
            };
            each(job, times, out, |window| Some(sums[window.end] - sums[window.start]))
        }
        Rollup::Avg => {
            let Some(sums) = exact_sums(values) else {
                return Ok(None);
            };
            each(job, times, out, |window| {
                Some((sums[window.end] - sums[window.start]) / window.len() as f64)
            })
        }
        _ => return Ok(None),
    }))
}

fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// Calls `compute` with each window that is not empty.
fn each(
    job: &Job<'_>,
    times: &[i64],
    out: &mut [f64],
    mut compute: impl FnMut(std::ops::Range<usize>) -> Option<f64>,
) -> u64 {
    let mut bounds = (0, 0);
    let mut looked_at = 0;
    for (step, out) in out.iter_mut().enumerate() {
        let end = job.selector.reference(job.grid.at(step));
        advance(&mut bounds, times, end.saturating_sub(job.range), end, |time| *time);
        let (from, to) = bounds;
        if from == to {
            continue;
        }
        looked_at += (to - from) as u64;
        if let Some(value) = compute(from..to) {
            *out = value;
        }
    }
    looked_at
}

fn rates(
    job: &Job<'_>,
    times: &[i64],
    values: &[f64],
    out: &mut [f64],
    counter: bool,
    per_second: bool,
) -> Result<u64, QueryError> {
    // Where the counter fell: what it had reached before is added again.
    let falls: Vec<usize> = match counter {
        true => (1..values.len()).filter(|at| values[*at] < values[*at - 1]).collect(),
        false => Vec::new(),
    };
    let mut first_fall = 0;
    let mut bounds = (0, 0);
    let mut looked_at = 0;
    let mut fallen = 0;
    for (step, out) in out.iter_mut().enumerate() {
        let end = job.selector.reference(job.grid.at(step));
        let start = end.saturating_sub(job.range);
        advance(&mut bounds, times, start, end, |time| *time);
        let (from, to) = bounds;
        looked_at += (to - from) as u64;
        if to - from < 2 {
            continue;
        }
        let mut increase = values[to - 1] - values[from];
        while first_fall < falls.len() && falls[first_fall] <= from {
            first_fall += 1;
        }
        for fall in falls[first_fall..].iter().take_while(|fall| **fall < to) {
            increase += values[*fall - 1];
            fallen += 1;
        }
        if fallen > CHECK_SAMPLES {
            job.budget.check()?;
            fallen = 0;
        }
        let factor = rate::factor(&Extrapolation {
            start,
            end,
            first: times[from],
            last: times[to - 1],
            samples: to - from,
            zero_from: counter.then_some((values[from], increase)),
            began: None,
            range: job.range,
            per_second,
        });
        *out = increase * factor;
    }
    Ok(looked_at)
}

/// The largest (or smallest) value of each window, by a queue of candidates; NaN counts only where there is nothing else.
fn extremes(job: &Job<'_>, times: &[i64], values: &[f64], out: &mut [f64], better: impl Fn(f64, f64) -> bool) -> u64 {
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let mut next = 0;
    each(job, times, out, |window| {
        while next < window.end {
            let value = values[next];
            if !value.is_nan() {
                while candidates.back().is_some_and(|last| better(value, values[*last])) {
                    candidates.pop_back();
                }
                candidates.push_back(next);
            }
            next += 1;
        }
        while candidates.front().is_some_and(|first| *first < window.start) {
            candidates.pop_front();
        }
        Some(candidates.front().map_or(f64::NAN, |best| values[*best]))
    })
}

/// Counts the pairs of neighbours in each window that `counts` accepts.
fn counted(job: &Job<'_>, times: &[i64], values: &[f64], out: &mut [f64], counts: impl Fn(f64, f64) -> bool) -> u64 {
    let mut total = 0u32;
    // How many such pairs end at or before each sample.
    let totals: Vec<u32> = (0..values.len())
        .map(|at| {
            total += u32::from(at > 0 && counts(values[at - 1], values[at]));
            total
        })
        .collect();
    each(job, times, out, |window| {
        Some(f64::from(totals[window.end - 1] - totals[window.start]))
    })
}

/// The sums of the first 0, 1, 2 … values, when all of them are integers and no sum is rounded: the difference of two is then
/// the same number that adding up the window gives.
fn exact_sums(values: &[f64]) -> Option<Vec<f64>> {
    let mut size = 0.0;
    let mut sum = 0.0;
    let mut sums = Vec::with_capacity(values.len() + 1);
    sums.push(0.0);
    for value in values {
        size += value.abs();
        if value.fract() != 0.0 || size.is_nan() || size > EXACT_MAX {
            return None;
        }
        sum += value;
        sums.push(sum);
    }
    Some(sums)
}
