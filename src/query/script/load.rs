//! Loading: samples with their start times, and classic histograms as native ones with custom buckets.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SeriesValue;
use super::command::{Load, LoadedSeries};
use crate::model::{FloatHistogram, HistogramSample, Interval, Labels, METRIC_NAME, Millis, SCHEMA_CUSTOM, Span};
use crate::storage::LiteralStore;

/// Reads the items of an `@st` line: `_`, `_x2`, `-30s`, `-30sx2`, `-30s-1mx2`.
pub(super) fn parse_start_times(text: &str) -> Result<Vec<Option<Interval>>, String> {
    let mut offsets = Vec::new();
    for item in text.split_whitespace() {
        let (base, times) = match item.rsplit_once('x') {
            Some((base, times)) => (
                base,
                Some(
                    times
                        .parse::<u16>()
                        .map_err(|_| format!("bad repeat count in {item:?}"))?,
                ),
            ),
            None => (item, None),
        };
        if base == "_" {
            offsets.extend(std::iter::repeat_n(None, times.map_or(1, usize::from)));
            continue;
        }
        // The step begins at the second sign.
        let split = base[1..].find(['+', '-']).map_or(base.len(), |at| at + 1);
        let first = signed_duration(&base[..split])?;
        let step = match &base[split..] {
            "" => Interval::ZERO,
            step => signed_duration(step)?,
        };
        for n in 0..=i64::from(times.unwrap_or(0)) {
            offsets.push(Some(Interval(first.0 + n * step.0)));
        }
    }
    Ok(offsets)
}

fn signed_duration(text: &str) -> Result<Interval, String> {
    let length: Interval = text
        .trim_start_matches(['+', '-'])
        .parse()
        .map_err(|error| format!("bad start time {text:?}: {error}"))?;
    Ok(Interval(if text.starts_with('-') { -length.0 } else { length.0 }))
}

impl Load {
    /// Puts the series into the store.
    pub fn put(&self, store: &LiteralStore) {
        for (labels, series) in &self.series {
            for (at, value, start) in self.samples(series) {
                match value {
                    SeriesValue::Float(value) => store.put_with_start(labels, at, *value, start),
                    SeriesValue::Histogram(histogram) => {
                        let histogram = Arc::clone(histogram);
                        store.put_histogram(labels, HistogramSample { at, histogram }, start);
                    }
                }
            }
        }
        if self.with_nhcb {
            for (labels, steps) in self.classic_histograms() {
                for (at, classic) in steps {
                    let histogram = Arc::new(classic.into_native());
                    store.put_histogram(&labels, HistogramSample { at, histogram }, 0);
                }
            }
        }
    }

    /// Returns time, value and start time (0 = unknown) of each sample.
    fn samples<'a>(&self, series: &'a LoadedSeries) -> impl Iterator<Item = (Millis, &'a SeriesValue, i64)> {
        let interval = self.interval.0;
        series.values.iter().enumerate().filter_map(move |(index, value)| {
            let at = i64::try_from(index).ok()?.checked_mul(interval)?;
            let start = series.start_offsets.get(index).copied().flatten();
            Some((Millis(at), value.as_ref()?, start.map_or(0, |offset| at + offset.0)))
        })
    }

    /// Gathers `_bucket`, `_count` and `_sum` series into the histograms they spell.
    fn classic_histograms(&self) -> BTreeMap<Labels, BTreeMap<Millis, Classic>> {
        let mut found: BTreeMap<Labels, BTreeMap<Millis, Classic>> = BTreeMap::new();
        for (labels, series) in &self.series {
            let name = labels.value(METRIC_NAME);
            let Some((base, suffix)) = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| Some((name.strip_suffix(suffix)?, *suffix)))
            else {
                continue;
            };
            let le = labels.value("le").parse::<f64>().ok().filter(|le| !le.is_nan());
            if suffix == "_bucket" && le.is_none() {
                continue;
            }
            let labels = labels.to_builder().del("le").set(METRIC_NAME, base).build();
            let steps = found.entry(labels).or_default();
            for (at, value, _) in self.samples(series) {
                let SeriesValue::Float(value) = *value else { continue };
                let classic = steps.entry(at).or_default();
                match (suffix, le) {
                    ("_bucket", Some(le)) => classic.buckets.push((le, value)),
                    ("_count", _) => classic.count = Some(value),
                    _ => classic.sum = value,
                }
            }
        }
        found
    }
}

/// A classic histogram at one time: counts up to each bound.
#[derive(Default)]
struct Classic {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    fn into_native(mut self) -> FloatHistogram {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|later, earlier| later.0 == earlier.0);
        let last = self.buckets.last().copied();
        let count = self.count.unwrap_or(last.map_or(0.0, |(_, count)| count));
        if last.is_none_or(|(le, _)| le.is_finite()) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut before = 0.0;
        let counts: Vec<f64> = self
            .buckets
            .iter()
            .map(|(_, upto)| upto - std::mem::replace(&mut before, *upto))
            .collect();
        let length = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        FloatHistogram {
            schema: SCHEMA_CUSTOM,
            count,
            sum: self.sum,
            positive_spans: vec![Span { offset: 0, length }],
            positive_buckets: counts,
            custom_values: self
                .buckets
                .iter()
                .map(|(le, _)| *le)
                .filter(|le| le.is_finite())
                .collect(),
            ..FloatHistogram::default()
        }
    }
}
