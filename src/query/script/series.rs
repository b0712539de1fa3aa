//! A line of samples: `up{job="api"} 1 2+1x3 _ stale {{schema:0 count:1}}x2`. Rule tests use the same notation.

use std::sync::Arc;

use super::histogram::{combined, parse_histogram};
use crate::model::{FloatHistogram, Labels, stale_marker};
use crate::query::parse_series;

/// A sample of a line.
#[derive(Clone, Debug, PartialEq)]
pub enum SeriesValue {
    /// A float; `stale` is the stale marker.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// The most samples of one line.
const VALUES_MAX: usize = 1_000_000;

/// Reads a whole line. A blank (`_`) is `None`.
///
/// # Errors
/// A text that names what cannot be read.
pub fn parse_series_line(line: &str) -> Result<(Labels, Vec<Option<SeriesValue>>), String> {
    let end = series_end(line);
    let (labels, _) =
        parse_series(&line[..end]).map_err(|error| format!("cannot read the series of {line:?}: {error}"))?;
    let values = &line[end..];
    if !values.is_empty() && !values.starts_with([' ', '\t']) {
        return Err(format!("expected a space after the series in {line:?}"));
    }
    Ok((labels, parse_values(values)?))
}

/// Returns where the name and labels at the beginning of `line` end. Two braces in a row begin a histogram.
fn series_end(line: &str) -> usize {
    let name = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(line.len());
    let rest = line[name..].trim_start_matches([' ', '\t']);
    if !rest.starts_with('{') || rest.starts_with("{{") {
        return name;
    }
    let braces = line.len() - rest.len();
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            Some('"' | '\'') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '}' => return braces + at + 1,
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None => {}
        }
    }
    line.len()
}

/// Reads the samples of a line, without its series.
///
/// # Errors
/// A text that names the item that cannot be read.
pub fn parse_values(text: &str) -> Result<Vec<Option<SeriesValue>>, String> {
    let mut values = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        rest = if rest.starts_with("{{") {
            histograms(rest, &mut values)?
        } else {
            let end = rest.find([' ', '\t']).unwrap_or(rest.len());
            floats(&rest[..end], &mut values)?;
            &rest[end..]
        }
        .trim_start();
        if values.len() > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values in one line"));
        }
    }
    Ok(values)
}

/// Reads `{{…}}`, `{{…}}x3` or `{{…}}+{{…}}x3`; returns what follows.
fn histograms<'a>(text: &'a str, values: &mut Vec<Option<SeriesValue>>) -> Result<&'a str, String> {
    let (first, rest) = one_histogram(text)?;
    let signed = rest.starts_with("+{{") || rest.starts_with("-{{");
    let (step, rest) = if signed {
        let (step, after) = one_histogram(&rest[1..])?;
        (Some((step, rest.starts_with('-'))), after)
    } else {
        (None, rest)
    };
    let (times, rest) = match rest.strip_prefix('x') {
        Some(digits) => {
            let end = digits.find([' ', '\t']).unwrap_or(digits.len());
            (Some(repeats(&digits[..end])?), &digits[end..])
        }
        None => (None, rest),
    };
    if step.is_some() && times.is_none() {
        return Err(format!("missing repeat count in {text:?}"));
    }
    let mut current = Arc::new(first);
    values.push(Some(SeriesValue::Histogram(Arc::clone(&current))));
    for _ in 0..times.unwrap_or(0) {
        if let Some((step, minus)) = &step {
            current = Arc::new(combined(&current, step, *minus)?);
        }
        values.push(Some(SeriesValue::Histogram(Arc::clone(&current))));
    }
    Ok(rest)
}

fn one_histogram(text: &str) -> Result<(FloatHistogram, &str), String> {
    let body = text
        .strip_prefix("{{")
        .ok_or_else(|| format!("expected {{{{ in {text:?}"))?;
    let (body, rest) = body
        .split_once("}}")
        .ok_or_else(|| format!("unclosed histogram in {text:?}"))?;
    Ok((parse_histogram(body)?, rest))
}

fn repeats(digits: &str) -> Result<usize, String> {
    match digits.parse() {
        Ok(times) if times <= VALUES_MAX => Ok(times),
        _ => Err(format!("bad repeat count {digits:?} (at most {VALUES_MAX})")),
    }
}

/// Reads `_`, `_x3`, `stale`, `1`, `1x3`, `1+2x3`.
fn floats(item: &str, values: &mut Vec<Option<SeriesValue>>) -> Result<(), String> {
    let bad = || format!("bad value {item:?}");
    let mut push = |value: f64, count: usize| {
        values.extend(std::iter::repeat_n(Some(SeriesValue::Float(value)), count));
    };
    if let Some(rest) = item.strip_prefix('_') {
        let count = match rest.strip_prefix('x') {
            Some(digits) => repeats(digits)?,
            None if rest.is_empty() => 1,
            None => return Err(bad()),
        };
        values.extend(std::iter::repeat_n(None, count));
        return Ok(());
    }
    let (value, rest) = match item.strip_prefix("stale") {
        Some(rest) => (stale_marker(), rest),
        None => take_number(item).ok_or_else(bad)?,
    };
    if rest.is_empty() {
        push(value, 1);
        return Ok(());
    }
    if let Some(digits) = rest.strip_prefix('x') {
        push(value, repeats(digits)? + 1);
        return Ok(());
    }
    if !rest.starts_with(['+', '-']) {
        return Err(bad());
    }
    let (step, rest) = take_number(rest).ok_or_else(bad)?;
    let digits = rest
        .strip_prefix('x')
        .ok_or_else(|| format!("missing repeat count in {item:?}"))?;
    let mut value = value;
    for _ in 0..=repeats(digits)? {
        push(value, 1);
        value += step;
    }
    Ok(())
}

/// Reads the number at the beginning of `text`, sign included; returns it with what follows.
fn take_number(text: &str) -> Option<(f64, &str)> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = text.len() - unsigned.len();
    for word in ["inf", "nan"] {
        if unsigned
            .get(..word.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(word))
        {
            let end = sign + word.len();
            return Some((text[..end].parse().ok()?, &text[end..]));
        }
    }
    let bytes = unsigned.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let signed = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits((end + 1 + signed).min(bytes.len()));
        if exponent > 0 {
            end += 1 + signed + exponent;
        }
    }
    let end = sign + end;
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        let values = parse_values(text).unwrap().into_iter();
        values
            .map(|value| match value {
                None => "_".to_owned(),
                Some(SeriesValue::Float(value)) if crate::model::is_stale(value) => "stale".to_owned(),
                Some(SeriesValue::Float(value)) => value.to_string(),
                Some(SeriesValue::Histogram(histogram)) => format!("h{}", histogram.count),
            })
            .collect()
    }

    #[test]
    fn a_line_expands_to_its_samples() {
        assert_eq!(
            values("1 2x2 _ _x2 stale"),
            ["1", "2", "2", "2", "_", "_", "_", "stale"]
        );
        assert_eq!(
            values("1+2x3 5-1x1 -Inf NaN 1e+2"),
            ["1", "3", "5", "7", "5", "4", "-inf", "NaN", "100"]
        );
        assert_eq!(
            values("{{count:1}}x1 {{count:1}}+{{count:2}}x2"),
            ["h1", "h1", "h1", "h3", "h5"]
        );
        let (labels, values) = parse_series_line(r#"up {a="}"} {{count:1}}"#).unwrap();
        assert_eq!((labels.value("a"), values.len()), ("}", 1));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "a",
            "1+2",
            "1x",
            "1xx",
            "{{",
            "{{foo:1}}",
            "{{count:1}}+{{count:1}}",
            "_y",
            "1x99999999999",
        ] {
            assert!(parse_values(text).is_err(), "{text} was read");
        }
    }
}
