//! InfluxDB's line protocol, as Telegraf, Proxmox and many devices speak it.
//!
//! ```text
//! measurement,tag=value,… field=1.5,count=3i,size=7u,on=true,note="text" 1700000000000000000
//! ```
//! Each numeric field becomes a series `measurement_field` with the tags as labels (VictoriaMetrics's mapping, which
//! dashboards of this kind expect); booleans are 1 and 0. Strings are no samples: they are left out by rule, counted in
//! `campanile_ingest_skipped_total`, and the answer says how many there were.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::batch::OwnedBatch;
use super::{DecodeError, Decoded, IngestLimits};
use crate::model::{Labels, METRIC_NAME, Millis, Sample};

/// The unit of a line's timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// A unit finer than a millisecond: how many make one.
    Finer(i64),
    /// A coarser one: how many milliseconds it has.
    Coarser(i64),
}

impl Precision {
    /// Reads the parameter `precision`; nanoseconds by default.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] for an unknown unit.
    pub fn from_parameter(value: Option<&str>) -> Result<Precision, DecodeError> {
        Ok(match value.unwrap_or("") {
            "" | "n" | "ns" => Precision::Finer(1_000_000),
            "u" | "us" | "µ" => Precision::Finer(1000),
            "ms" => Precision::Finer(1),
            "s" => Precision::Coarser(1000),
            "m" => Precision::Coarser(60_000),
            "h" => Precision::Coarser(3_600_000),
            other => {
                return Err(DecodeError::Malformed(format!(
                    "precision {other:?} is none of ns, us, ms, s, m, h"
                )));
            }
        })
    }

    fn millis(self, time: i64) -> Option<Millis> {
        match self {
            Precision::Finer(many) => Some(Millis(time.div_euclid(many))),
            Precision::Coarser(millis) => time.checked_mul(millis).map(Millis),
        }
    }
}

/// How the lines of a request are read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The unit of times.
    pub precision: Precision,
    /// Labels that series get unless they have them.
    pub extra: Labels,
    /// The time of lines without one.
    pub now: Millis,
}

/// Decodes a body; a line that cannot be read is left out and listed. Adds the string fields left out to `strings`.
///
/// # Errors
/// [`DecodeError`] when it is not UTF-8 or over a limit.
pub fn decode(
    body: &[u8],
    reading: &Reading,
    strings: &AtomicU64,
    seed: u64,
    limits: &IngestLimits,
) -> Result<Decoded, DecodeError> {
    let Reading { precision, extra, now } = reading;
    let text = std::str::from_utf8(body).map_err(|error| {
        DecodeError::Malformed(format!("malformed lines: not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    let mut gathered = OwnedBatch::new(limits);
    let mut skipped = 0;
    for (number, line) in logical_lines(text) {
        let line = match read_line(line, *precision) {
            Ok(line) => line,
            Err(reason) => {
                gathered.refuse(1, String::new(), format!("line {number}: {reason}"));
                continue;
            }
        };
        let at = line.at.unwrap_or(*now);
        for (field, value) in &line.fields {
            let Some(value) = *value else {
                skipped += 1;
                continue;
            };
            let name = format!("{}_{field}", line.measurement);
            let tags = line.tags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let pairs = std::iter::once((METRIC_NAME, name.as_str())).chain(tags);
            gathered.add(pairs, extra, &[Sample { at, value }], None)?;
        }
    }
    strings.fetch_add(skipped, Relaxed);
    super::metrics::SKIPPED.add(&["influx", "string_field"], skipped);
    Ok(gathered.finish(seed))
}

/// Splits into lines; a line break inside a quoted field does not count.
fn logical_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = text;
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let (mut quoted, mut escaped) = (false, false);
            let is_comment = rest.starts_with('#');
            let end = rest.bytes().position(|byte| {
                match byte {
                    b'\n' if !quoted => return true,
                    b'"' if !escaped && !is_comment => quoted = !quoted,
                    _ => {}
                }
                escaped = byte == b'\\' && !escaped;
                false
            });
            let (line, after) = end.map_or((rest, ""), |end| (&rest[..end], &rest[end + 1..]));
            number += 1;
            let at = number;
            number += line.bytes().filter(|byte| *byte == b'\n').count();
            rest = after;
            let line = line.trim();
            if !line.is_empty() && !is_comment {
                return Some((at, line));
            }
        }
    })
}

/// One line; a field without a value is a string.
#[derive(Debug, PartialEq)]
struct Line {
    measurement: String,
    tags: Vec<(String, String)>,
    fields: Vec<(String, Option<f64>)>,
    at: Option<Millis>,
}

fn read_line(line: &str, precision: Precision) -> Result<Line, String> {
    let mut rest = line;
    let measurement = take_until(&mut rest, &[',', ' ']);
    if measurement.is_empty() {
        return Err("the measurement is missing".to_owned());
    }
    let mut tags = Vec::new();
    while let Some(after) = rest.strip_prefix(',') {
        rest = after;
        let name = take_until(&mut rest, &['=', ',', ' ']);
        rest = rest
            .strip_prefix('=')
            .ok_or_else(|| format!("tag {name:?} has no value"))?;
        tags.push((name, take_until(&mut rest, &[',', ' '])));
    }
    rest = rest.trim_start_matches(' ');
    if rest.is_empty() {
        return Err("the fields are missing".to_owned());
    }
    let mut fields = Vec::new();
    loop {
        let name = take_until(&mut rest, &['=', ',', ' ']);
        rest = rest
            .strip_prefix('=')
            .ok_or_else(|| format!("field {name:?} has no value"))?;
        let value = field_value(&mut rest).map_err(|reason| format!("field {name:?}: {reason}"))?;
        fields.push((name, value));
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => break,
        }
    }
    let at = match rest.trim() {
        "" => None,
        time => Some(
            time.parse()
                .ok()
                .and_then(|time| precision.millis(time))
                .ok_or_else(|| format!("{time:?} is not a timestamp"))?,
        ),
    };
    Ok(Line {
        measurement,
        tags,
        fields,
        at,
    })
}

/// Takes text up to an unescaped one of `ends`; a backslash before a special character disappears.
fn take_until(rest: &mut &str, ends: &[char]) -> String {
    let mut taken = String::new();
    let mut chars = rest.char_indices().peekable();
    let mut end = rest.len();
    while let Some((at, c)) = chars.next() {
        if ends.contains(&c) {
            end = at;
            break;
        }
        match (c, chars.peek()) {
            ('\\', Some((_, next))) if matches!(next, ',' | '=' | ' ' | '\\' | '"') => {
                taken.push(*next);
                chars.next();
            }
            _ => taken.push(c),
        }
    }
    *rest = &rest[end..];
    taken
}

fn field_value(rest: &mut &str) -> Result<Option<f64>, String> {
    if let Some(body) = rest.strip_prefix('"') {
        let mut escaped = false;
        let end = body.bytes().position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        });
        let end = end.ok_or("the text does not end")?;
        *rest = &body[end + 1..];
        return Ok(None);
    }
    let end = rest.find([',', ' ']).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    let value = match word {
        "t" | "T" | "true" | "True" | "TRUE" => Some(1.0),
        "f" | "F" | "false" | "False" | "FALSE" => Some(0.0),
        _ => numeral(word),
    };
    value
        .map(Some)
        .ok_or_else(|| format!("{word:?} is neither a number, a truth value nor a quoted text"))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "integers beyond 2^53 lose their last bits: samples are doubles"
)]
fn numeral(word: &str) -> Option<f64> {
    if let Some(integer) = word.strip_suffix('i') {
        return integer.parse::<i64>().ok().map(|value| value as f64);
    }
    if let Some(integer) = word.strip_suffix('u') {
        return integer.parse::<u64>().ok().map(|value| value as f64);
    }
    let digits = word.trim_start_matches(['+', '-']);
    digits
        .starts_with(|c: char| c.is_ascii_digit() || c == '.')
        .then(|| word.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NANOS: Precision = Precision::Finer(1_000_000);

    fn read(text: &str) -> Decoded {
        let extra = Labels::from_pairs([("db", "telegraf")]);
        let reading = Reading {
            precision: NANOS,
            extra,
            now: Millis(9),
        };
        decode(
            text.as_bytes(),
            &reading,
            &AtomicU64::new(0),
            1,
            &IngestLimits::default(),
        )
        .unwrap()
    }

    fn shown(text: &str) -> Vec<String> {
        let batch = read(text).batch;
        let line = |(index, series): (usize, &crate::model::BatchSeries)| {
            let sample = batch.samples[series.samples.start as usize];
            format!(
                "{} {} {}",
                batch.labels.labels(index).unwrap(),
                sample.value,
                sample.at.0
            )
        };
        batch.series.iter().enumerate().map(line).collect()
    }

    #[test]
    fn lines_of_real_senders_become_series() {
        for (line, expected) in [
            (
                "cpu,cpu=cpu0,host=web-1 usage_idle=97.5,usage_user=2i 1700000000123456789",
                vec![
                    r#"cpu_usage_idle{cpu="cpu0", db="telegraf", host="web-1"} 97.5 1700000000123"#,
                    r#"cpu_usage_user{cpu="cpu0", db="telegraf", host="web-1"} 2 1700000000123"#,
                ],
            ),
            (
                "system uptime_format=\"1 day, \\\"2\\\"\nx\",up=t",
                vec![r#"system_up{db="telegraf"} 1 9"#],
            ),
            (
                r"my\ disk,path=/a\,b,db=own\=x used=7u,bad=F 1000000",
                vec![
                    r#"{"my disk_used", db="own=x", path="/a,b"} 7 1"#,
                    r#"{"my disk_bad", db="own=x", path="/a,b"} 0 1"#,
                ],
            ),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }

    #[test]
    fn bad_lines_say_where_and_why_and_end_nothing() {
        let text = "a v=1\n,x v=1\na\na v\na v=\na,t v=1\na v=1 soon\na v=nan\na v=\"x\n";
        let decoded = read(text);
        assert_eq!(decoded.batch.samples.len(), 1);
        let reasons: Vec<String> = decoded
            .rejections
            .first
            .iter()
            .map(|first| first.reason.to_string())
            .collect();
        let expected = [
            "line 2: the measurement is missing",
            "line 3: the fields are missing",
            "line 4: field \"v\" has no value",
            "line 5: field \"v\": \"\" is neither a number, a truth value nor a quoted text",
            "line 6: tag \"t\" has no value",
            "line 7: \"soon\" is not a timestamp",
            "line 8: field \"v\": \"nan\" is neither a number, a truth value nor a quoted text",
            "line 9: field \"v\": the text does not end",
        ];
        assert_eq!(reasons, expected);
    }

    #[test]
    fn each_precision_gives_milliseconds() {
        for (unit, time, millis) in [
            (None, 1_999_999, 1),
            (Some("us"), -1, -1),
            (Some("ms"), 5, 5),
            (Some("s"), 5, 5000),
            (Some("h"), 1, 3_600_000),
        ] {
            assert_eq!(
                Precision::from_parameter(unit).unwrap().millis(time),
                Some(Millis(millis)),
                "{unit:?}"
            );
        }
        assert!(Precision::from_parameter(Some("fortnight")).is_err());
        assert_eq!(Precision::Coarser(1000).millis(i64::MAX), None);
    }

    fn escaped(text: &str) -> String {
        text.chars()
            .flat_map(|c| if ", =\\\"".contains(c) { vec!['\\', c] } else { vec![c] })
            .collect()
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            measurement in "[a-z ,=.]{1,8}",
            tag in "[a-z ,=\\\\\"]{1,8}",
            field in "[a-z ,=]{1,8}",
            value in any::<f64>().prop_filter("finite", |value| value.is_finite()),
            time in any::<i64>(),
        ) {
            let (m, t, f) = (escaped(&measurement), escaped(&tag), escaped(&field));
            let line = read_line(&format!("{m},host={t} {f}={value} {time}"), NANOS).unwrap();
            prop_assert_eq!(line.measurement, measurement);
            prop_assert_eq!(&line.tags[0].1, &tag);
            prop_assert_eq!(&line.fields[0], &(field, Some(value)));
            prop_assert_eq!(line.at, NANOS.millis(time));
        }

        #[test]
        fn foreign_text_never_panics(text in ".{0,80}") {
            let _ = read(&text);
        }

        #[test]
        fn a_cut_line_is_an_error_or_shorter(cut in 0usize..33) {
            let line = "cpu,host=a idle=97.5,user=2i 1700";
            if let Ok(read) = read_line(&line[..cut], NANOS) {
                prop_assert!(cut > 16 && read.fields.len() <= 2);
            }
        }
    }
}
