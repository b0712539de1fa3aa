//! Annotations: what a query wants to say besides its answer, in Prometheus's words.
//!
//! Equal texts are one annotation, whatever the place; the place shown is that of the last one.

use std::collections::BTreeMap;

use crate::model::{Millis, format_g};
use crate::query::ast::Span;

/// The most warnings, and the most infos, that an answer spells out.
const SHOWN_MAX: usize = 10;

#[derive(Clone, Debug)]
pub(super) struct Note {
    span: Span,
    detail: Detail,
}

/// What is added up over annotations with equal texts.
#[derive(Clone, Debug)]
enum Detail {
    None,
    Monotonicity(Monotonicity),
    Overlaps(u64),
}

/// Where the buckets of classic histograms had to be forced to rise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Monotonicity {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) bucket_min: f64,
    pub(super) bucket_max: f64,
    pub(super) difference_max: f64,
    pub(super) samples: u64,
}

/// A set of annotations.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    notes: BTreeMap<String, Note>,
    /// What the store says: no place in the query.
    storage: Vec<String>,
}

/// What histograms were being put through.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Addition => "addition",
            Operation::Subtraction => "subtraction",
            Operation::Aggregation => "aggregation",
        }
    }
}

const INFO: &str = "PromQL info: ";

fn for_metric(metric: &str) -> String {
    if metric.is_empty() {
        String::new()
    } else {
        format!(" for metric name {metric:?}")
    }
}

impl Notes {
    pub(super) fn is_empty(&self) -> bool {
        self.notes.is_empty() && self.storage.is_empty()
    }

    /// Takes over all of `other`, as if it had been said now.
    pub(super) fn merge(&mut self, other: Notes) {
        for (text, note) in other.notes {
            self.insert(text, note);
        }
        self.storage.extend(other.storage);
    }

    /// Takes over all of `other`, said at the places that `place` gives.
    pub(super) fn merge_moved(&mut self, other: &Notes, place: impl Fn(Span) -> Span) {
        for (text, note) in &other.notes {
            let moved = Note {
                span: place(note.span),
                detail: note.detail.clone(),
            };
            self.insert(text.clone(), moved);
        }
    }

    pub(super) fn storage_warning(&mut self, text: String) {
        self.storage.push(text);
    }

    fn insert(&mut self, text: String, mut note: Note) {
        if let Some(before) = self.notes.get(&text) {
            note.detail = match (&note.detail, &before.detail) {
                (Detail::Overlaps(now), Detail::Overlaps(before)) => Detail::Overlaps(now + before),
                (Detail::Monotonicity(now), Detail::Monotonicity(before)) => Detail::Monotonicity(Monotonicity {
                    first: now.first.min(before.first),
                    last: now.last.max(before.last),
                    bucket_min: now.bucket_min.min(before.bucket_min),
                    bucket_max: now.bucket_max.max(before.bucket_max),
                    difference_max: now.difference_max.max(before.difference_max),
                    samples: now.samples + before.samples,
                }),
                (detail, _) => detail.clone(),
            };
        }
        self.notes.insert(text, note);
    }

    fn add(&mut self, text: String, span: Span) {
        let detail = Detail::None;
        self.insert(text, Note { span, detail });
    }

    fn warn(&mut self, text: &str, span: Span) {
        self.add(format!("PromQL warning: {text}"), span);
    }

    fn info(&mut self, text: &str, span: Span) {
        self.add(format!("{INFO}{text}"), span);
    }

    pub(super) fn bad_ratio(&mut self, ratio: f64, cap: f64, span: Span) {
        let (ratio, cap) = (format_g(ratio), format_g(cap));
        self.warn(
            &format!("ratio value should be between -1 and 1, got {ratio}, capping to {cap}"),
            span,
        );
    }

    pub(super) fn bad_quantile(&mut self, q: f64, span: Span) {
        let q = format_g(q);
        self.warn(&format!("quantile value should be between 0 and 1, got {q}"), span);
    }

    pub(super) fn bad_bucket_label(&mut self, metric: &str, le: &str, span: Span) {
        let metric = for_metric(metric);
        self.warn(
            &format!("bucket label \"le\" is missing or has a malformed value of {le:?}{metric}"),
            span,
        );
    }

    pub(super) fn mixed_range(&mut self, metric: &str, span: Span) {
        self.warn(
            &format!("encountered a mix of histograms and floats for metric name {metric:?}"),
            span,
        );
    }

    pub(super) fn mixed_aggregation(&mut self, span: Span) {
        self.warn("encountered a mix of histograms and floats for aggregation", span);
    }

    pub(super) fn classic_and_native(&mut self, metric: &str, span: Span) {
        let metric = for_metric(metric);
        self.warn(
            &format!("vector contains a mix of classic and native histograms{metric}"),
            span,
        );
    }

    pub(super) fn not_a_counter(&mut self, metric: &str, span: Span) {
        self.warn(
            &format!("this native histogram metric is not a counter: {metric:?}"),
            span,
        );
    }

    pub(super) fn not_a_gauge(&mut self, metric: &str, span: Span) {
        self.warn(
            &format!("this native histogram metric is not a gauge: {metric:?}"),
            span,
        );
    }

    pub(super) fn exponential_and_custom(&mut self, metric: &str, span: Span) {
        let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
        self.warn(&format!("{text} {metric:?}"), span);
    }

    pub(super) fn incompatible_buckets(&mut self, op: &str, span: Span) {
        self.warn(
            &format!("incompatible bucket layout encountered for binary operator {op}"),
            span,
        );
    }

    pub(super) fn sort_in_range(&mut self, span: Span) {
        let text = "sort is ineffective for range queries since results are always ordered by labels";
        self.warn(text, span);
    }

    pub(super) fn resets_collide(&mut self, operation: Operation, span: Span) {
        let operation = operation.as_str();
        self.warn(
            &format!("conflicting counter resets during histogram {operation}"),
            span,
        );
    }

    pub(super) fn start_overlap(&mut self, metric: &str, span: Span) {
        let text = "PromQL warning: sample has start time that overlaps with previous sample timestamp for metric";
        let detail = Detail::Overlaps(1);
        self.insert(format!("{text} {metric:?}"), Note { span, detail });
    }

    pub(super) fn bounds_differ(&mut self, operation: Operation, span: Span) {
        let operation = operation.as_str();
        self.info(
            &format!("mismatched custom buckets were reconciled during {operation}"),
            span,
        );
    }

    pub(super) fn counter_by_name(&mut self, metric: &str, span: Span) {
        let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
        self.info(&format!("{text} {metric:?}"), span);
    }

    pub(super) fn counter_by_type(&mut self, metric: &str, kind: &str, span: Span) {
        let text = "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got";
        self.info(&format!("{text} {kind:?}: {metric:?}"), span);
    }

    pub(super) fn incompatible_types(&mut self, lhs: &str, op: &str, rhs: &str, span: Span) {
        let text = "incompatible sample types encountered for binary operator";
        self.info(&format!("{text} {op:?}: {lhs} {op} {rhs}"), span);
    }

    pub(super) fn ignored_in_aggregation(&mut self, aggregation: &str, span: Span) {
        self.info(&format!("ignored histogram in {aggregation} aggregation"), span);
    }

    pub(super) fn ignored_in_range(&mut self, metric: &str, span: Span) {
        let text = "ignored histograms in a range containing both floats and histograms for metric name";
        self.info(&format!("{text} {metric:?}"), span);
    }

    pub(super) fn quantile_is_nan(&mut self, metric: &str, span: Span) {
        let metric = for_metric(metric);
        self.info(
            &format!("input to histogram_quantile has NaN observations, result is NaN{metric}"),
            span,
        );
    }

    pub(super) fn quantile_is_skewed(&mut self, metric: &str, span: Span) {
        let metric = for_metric(metric);
        self.info(
            &format!("input to histogram_quantile has NaN observations, result is skewed higher{metric}"),
            span,
        );
    }

    pub(super) fn fraction_leaves_out_nan(&mut self, metric: &str, span: Span) {
        let metric = for_metric(metric);
        let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        self.info(&format!("{text}{metric}"), span);
    }

    pub(super) fn forced_monotonicity(&mut self, metric: &str, forced: Monotonicity, span: Span) {
        let metric = for_metric(metric);
        let text = "input to histogram_quantile needed to be fixed for monotonicity (see \
                    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        let detail = Detail::Monotonicity(forced);
        self.insert(format!("{INFO}{text}{metric}"), Note { span, detail });
    }

    /// Returns the warnings and the infos as the API shows them.
    pub(super) fn into_texts(self) -> (Vec<String>, Vec<String>) {
        let (mut warnings, mut infos) = (self.storage, Vec::new());
        for (text, note) in self.notes {
            let list = if text.starts_with(INFO) {
                &mut infos
            } else {
                &mut warnings
            };
            list.push(note.show(&text));
        }
        cap(&mut warnings, "warning");
        cap(&mut infos, "info");
        (warnings, infos)
    }
}

fn cap(texts: &mut Vec<String>, kind: &str) {
    if let Some(omitted @ 1..) = texts.len().checked_sub(SHOWN_MAX) {
        texts.truncate(SHOWN_MAX);
        texts.push(format!("{omitted} more {kind} annotations omitted"));
    }
}

impl Note {
    fn show(&self, text: &str) -> String {
        let place = self.span;
        match &self.detail {
            Detail::None | Detail::Overlaps(0..=1) => format!("{text} ({place})"),
            Detail::Overlaps(count) => format!("{text} ({count} occurrences) ({place})"),
            Detail::Monotonicity(found) => {
                let (low, high) = (format_g(found.bucket_min), format_g(found.bucket_max));
                let difference = two_digits(found.difference_max);
                let (samples, from, to) = (found.samples, second(found.first), second(found.last));
                format!(
                    "{text}, from buckets {low} to {high}, with a max diff of {difference}, \
                     over {samples} samples from {from} to {to} ({place})"
                )
            }
        }
    }
}

/// RFC 3339 to the second.
fn second(millis: i64) -> String {
    let millis = millis.div_euclid(1000).saturating_mul(1000);
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(time) => time.to_string(),
        Err(_) => Millis(millis).to_string(),
    }
}

/// A number with two significant digits, as `%.2g` has it.
fn two_digits(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return format_g(value);
    }
    let scientific = format!("{value:.1e}");
    let rounded: f64 = scientific.parse().expect("a formatted float is a float");
    let (digits, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if (-4..2).contains(&exponent) {
        return format!("{rounded}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!(
        "{}e{sign}{:02}",
        digits.trim_end_matches('0').trim_end_matches('.'),
        exponent.abs()
    )
}
