//! Histograms as scripts write them: `{{schema:1 count:4 sum:5 z_bucket:1 z_bucket_w:0.1 buckets:[1 2] offset:-1}}`.

use crate::model::{CounterResetHint, FloatHistogram, Span};

/// Reads what stands between the braces.
pub(super) fn parse_histogram(body: &str) -> Result<FloatHistogram, String> {
    let mut histogram = FloatHistogram::default();
    let (mut offset, mut n_offset) = (0, 0);
    let (mut buckets, mut n_buckets) = (Vec::new(), Vec::new());
    let mut seen: Vec<&str> = Vec::new();
    let mut rest = body.trim();
    while !rest.is_empty() {
        let (key, value, after) = field(rest).ok_or_else(|| format!("bad histogram {{{{{body}}}}}"))?;
        if seen.contains(&key) {
            return Err(format!("{key} is given twice in {{{{{body}}}}}"));
        }
        seen.push(key);
        let bad = || format!("bad {key} in histogram {{{{{body}}}}}");
        let number = || value.parse::<f64>().map_err(|_| bad());
        let integer = || value.parse::<i32>().map_err(|_| bad());
        let list = || {
            let inner = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
            let items = inner.ok_or_else(bad)?.split_whitespace();
            items
                .map(|item| item.parse::<f64>().map_err(|_| bad()))
                .collect::<Result<Vec<f64>, String>>()
        };
        match key {
            "schema" => histogram.schema = integer()?,
            "sum" => histogram.sum = number()?,
            "count" => histogram.count = number()?,
            "z_bucket" => histogram.zero_count = number()?,
            "z_bucket_w" => histogram.zero_threshold = number()?,
            "custom_values" => histogram.custom_values = list()?,
            "buckets" => buckets = list()?,
            "offset" => offset = integer()?,
            "n_buckets" => n_buckets = list()?,
            "n_offset" => n_offset = integer()?,
            "counter_reset_hint" => histogram.counter_reset_hint = hint(value).ok_or_else(bad)?,
            _ => return Err(format!("unknown key {key:?} in histogram {{{{{body}}}}}")),
        }
        rest = after.trim_start();
    }
    (histogram.positive_spans, histogram.positive_buckets) = one_span(offset, buckets);
    (histogram.negative_spans, histogram.negative_buckets) = one_span(n_offset, n_buckets);
    Ok(histogram)
}

fn one_span(offset: i32, buckets: Vec<f64>) -> (Vec<Span>, Vec<f64>) {
    let length = u32::try_from(buckets.len()).unwrap_or(u32::MAX);
    let spans = if buckets.is_empty() {
        Vec::new()
    } else {
        vec![Span { offset, length }]
    };
    (spans, buckets)
}

/// Splits `key:value rest`; a value in brackets may hold spaces.
fn field(text: &str) -> Option<(&str, &str, &str)> {
    let (key, value) = text.split_once(':')?;
    let end = if value.starts_with('[') {
        value.find(']')? + 1
    } else {
        value.find(char::is_whitespace).unwrap_or(value.len())
    };
    Some((key.trim(), &value[..end], &value[end..]))
}

fn hint(word: &str) -> Option<CounterResetHint> {
    Some(match word {
        "unknown" => CounterResetHint::Unknown,
        "reset" => CounterResetHint::Reset,
        "not_reset" => CounterResetHint::NotReset,
        "gauge" => CounterResetHint::Gauge,
        _ => return None,
    })
}

/// Returns `histogram` with `step` added or subtracted.
pub(super) fn combined(
    histogram: &FloatHistogram,
    step: &FloatHistogram,
    minus: bool,
) -> Result<FloatHistogram, String> {
    if histogram.schema > step.schema {
        return Err("the step of a histogram sequence has a coarser schema than its start".to_owned());
    }
    let mut sum = histogram.clone();
    let done = if minus { sum.sub(step) } else { sum.add(step) };
    done.map_err(|error| format!("the step of a histogram sequence does not fit: {error}"))?;
    sum.counter_reset_hint = histogram.counter_reset_hint;
    Ok(sum)
}
