//! Labels as senders spell them, checked and put in order: the miss path of every push format.
//!
//! The rules are Prometheus's: names are non-empty UTF-8 and occur once, an empty value is the same as no label, a series
//! has a metric name. Order is ours to make. Each refusal names the label, and the limit when it is one.

use super::IngestLimits;
use super::metrics::LIMIT_REFUSED;
use crate::model::{LabelError, Labels, METRIC_NAME};

/// The limits that labels are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelCheck {
    /// The most labels of a series.
    pub labels_max: usize,
    /// The most bytes of a name.
    pub name_bytes_max: usize,
    /// The most bytes of a value.
    pub value_bytes_max: usize,
}

impl From<&IngestLimits> for LabelCheck {
    fn from(limits: &IngestLimits) -> LabelCheck {
        LabelCheck {
            labels_max: limits.labels_per_series_max,
            name_bytes_max: limits.label_name_bytes_max,
            value_bytes_max: limits.label_value_bytes_max,
        }
    }
}

/// How much of a bad series a message repeats.
const SHOWN_LABELS_MAX: usize = 12;
const SHOWN_BYTES_MAX: usize = 120;

/// Checks pairs as they came from outside, and sorts them.
///
/// # Errors
/// [`LabelError`] names the label and the limit; the series is shown as far as it is fit to be.
pub fn check_labels<'a, P>(pairs: P, check: &LabelCheck) -> Result<Labels, LabelError>
where
    P: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
{
    sorted(pairs.clone(), check).map_err(|reason| LabelError {
        series: shown(pairs),
        reason,
    })
}

fn sorted<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>, check: &LabelCheck) -> Result<Labels, String> {
    let mut kept: Vec<(&str, &str)> = Vec::with_capacity(16);
    let mut in_order = true;
    for (name, value) in pairs {
        let (name, value) = one(name, value, check)?;
        if let Some((last, _)) = kept.last() {
            in_order &= *last < name;
        }
        kept.push((name, value));
        if kept.len() > check.labels_max.saturating_mul(4) {
            break; // Empty values count too, up to a point: a million of them is no series.
        }
    }
    if !in_order {
        kept.sort_by_key(|(name, _)| *name);
        if let Some(twice) = kept.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("label {:?} occurs twice", twice[0].0));
        }
    }
    let given = kept.len();
    kept.retain(|(_, value)| !value.is_empty());
    if kept.len() > check.labels_max || given > check.labels_max.saturating_mul(4) {
        let beyond = kept.get(check.labels_max).map_or("", |(name, _)| name);
        LIMIT_REFUSED.inc(&["labels_per_series_max"]);
        return Err(format!(
            "more labels than labels_per_series_max = {}: {given} or more were sent, {beyond:?} is beyond it",
            check.labels_max
        ));
    }
    if !kept.iter().any(|(name, _)| *name == METRIC_NAME) {
        return Err(format!(
            "label {METRIC_NAME:?} is missing: a series needs a metric name"
        ));
    }
    Ok(Labels::from_sorted(kept))
}

fn one<'a>(name: &'a [u8], value: &'a [u8], check: &LabelCheck) -> Result<(&'a str, &'a str), String> {
    if name.len() > check.name_bytes_max {
        LIMIT_REFUSED.inc(&["label_name_bytes_max"]);
        return Err(format!(
            "label name {:?} has {} bytes, label_name_bytes_max is {}",
            cut(name),
            name.len(),
            check.name_bytes_max
        ));
    }
    let name = std::str::from_utf8(name).map_err(|_| format!("label name {:?} is not UTF-8", cut(name)))?;
    if name.is_empty() {
        return Err("a label has an empty name".to_owned());
    }
    if value.len() > check.value_bytes_max {
        LIMIT_REFUSED.inc(&["label_value_bytes_max"]);
        return Err(format!(
            "label {name:?} has a value of {} bytes, label_value_bytes_max is {}",
            value.len(),
            check.value_bytes_max
        ));
    }
    let value = std::str::from_utf8(value)
        .map_err(|_| format!("label {name:?} has a value that is not UTF-8: {:?}", cut(value)))?;
    Ok((name, value))
}

/// Spells a series out for a message, whatever its labels are.
fn shown<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> String {
    let mut text = String::from("{");
    for (i, (name, value)) in pairs.enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        if i == SHOWN_LABELS_MAX {
            text.push('…');
            break;
        }
        text.push_str(&format!("{}={:?}", cut(name), cut(value)));
    }
    text.push('}');
    text
}

fn cut(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]).into_owned();
    if bytes.len() > SHOWN_BYTES_MAX {
        text + "…"
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)]) -> Result<Labels, LabelError> {
        let pairs = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        check_labels(pairs, &LabelCheck::from(&IngestLimits::default()))
    }

    #[test]
    fn labels_are_sorted_and_empty_values_dropped() {
        let labels = check(&[("job", "api"), ("zone", ""), ("__name__", "up")]).unwrap();
        assert_eq!(labels.to_string(), r#"up{job="api"}"#);
    }

    #[test]
    fn each_refusal_names_the_label_and_the_limit() {
        let (long_name, long_value) = ("n".repeat(257), "v".repeat(4097));
        let many: Vec<String> = (0..65).map(|i| format!("l{i}")).collect();
        let mut too_many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "x")).collect();
        too_many.push(("__name__", "up"));
        for (pairs, expected) in [
            (vec![("a", "1")], "\"__name__\" is missing"),
            (vec![("__name__", "")], "\"__name__\" is missing"),
            (
                vec![("__name__", "up"), ("a", "1"), ("a", "2")],
                "label \"a\" occurs twice",
            ),
            (
                vec![("__name__", "up"), ("a", "1"), ("a", "")],
                "label \"a\" occurs twice",
            ),
            (vec![("__name__", "up"), ("", "1")], "empty name"),
            (
                vec![("__name__", "up"), (&long_name, "1")],
                "label_name_bytes_max is 256",
            ),
            (
                vec![("__name__", "up"), ("a", &long_value)],
                "label_value_bytes_max is 4096",
            ),
            (too_many, "labels_per_series_max = 64"),
        ] {
            let error = check(&pairs).unwrap_err();
            assert!(error.reason.contains(expected), "{error}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_and_shown() {
        let pairs: [(&[u8], &[u8]); 2] = [(b"__name__", b"up"), (b"host", b"\xff\xfe")];
        let error = check_labels(pairs.into_iter(), &LabelCheck::from(&IngestLimits::default())).unwrap_err();
        assert!(
            error.to_string().contains("\"host\" has a value that is not UTF-8"),
            "{error}"
        );
        assert!(error.series.starts_with("{__name__=\"up\""), "{error}");
    }

    #[test]
    fn a_million_empty_labels_are_no_series() {
        let pairs = std::iter::repeat_n((b"a".as_slice(), b"".as_slice()), 1_000_000);
        assert!(check_labels(pairs, &LabelCheck::from(&IngestLimits::default())).is_err());
    }
}
