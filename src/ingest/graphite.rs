//! Graphite's plaintext lines, tags included.
//!
//! ```text
//! servers.web-1.load 0.5 1700000000          disk.used;datacenter=dc1;rack=a1 42 -1
//! ```
//! Times are seconds; `-1`, `N` or none is the server's time. Paths become names by the mapping rules.

use super::batch::OwnedBatch;
use super::mapping::{self, MappingRule};
use super::{DecodeError, Decoded, IngestLimits};
use crate::model::{Labels, METRIC_NAME, Millis, Sample};

/// Decodes whole lines; one that cannot be read is left out and listed.
///
/// # Errors
/// [`DecodeError`] over a limit.
pub fn decode(
    body: &[u8],
    rules: &[MappingRule],
    now: Millis,
    seed: u64,
    limits: &IngestLimits,
) -> Result<Decoded, DecodeError> {
    let mut gathered = OwnedBatch::new(limits);
    for line in body.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            gathered.refuse(1, String::new(), "a line is not UTF-8".to_owned());
            continue;
        };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        match read_line(line, rules, now) {
            Ok(None) => {}
            Ok(Some((pairs, sample))) => {
                let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                gathered.add(pairs, &Labels::empty(), &[sample], None)?;
            }
            Err(reason) => {
                let shown: String = line.chars().take(100).collect();
                gathered.refuse(1, shown, reason);
            }
        }
    }
    Ok(gathered.finish(seed))
}

type Pairs = Vec<(String, String)>;

fn read_line(line: &str, rules: &[MappingRule], now: Millis) -> Result<Option<(Pairs, Sample)>, String> {
    let mut words = line.split_ascii_whitespace();
    let (Some(path), Some(value)) = (words.next(), words.next()) else {
        return Err("a line is: path value [time]".to_owned());
    };
    let value: f64 = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
    let at = match words.next() {
        None | Some("-1" | "N") => now,
        Some(time) => seconds(time).ok_or_else(|| format!("{time:?} is not a time in seconds"))?,
    };
    if words.next().is_some() {
        return Err("something stands behind the time".to_owned());
    }
    let mut parts = path.split(';');
    let name = parts.next().unwrap_or("");
    if name.is_empty() {
        return Err("the path is empty".to_owned());
    }
    let Some((name, labels)) = mapping::map(rules, name) else {
        return Ok(None);
    };
    let mut pairs = vec![(METRIC_NAME.to_owned(), name)];
    pairs.extend(labels);
    for tag in parts {
        let (tag, value) = tag
            .split_once('=')
            .ok_or_else(|| format!("tag {tag:?} is not name=value"))?;
        pairs.push((mapping::plain_label(tag), value.to_owned()));
    }
    Ok(Some((pairs, Sample { at, value })))
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
fn seconds(text: &str) -> Option<Millis> {
    let millis = text.parse::<f64>().ok()? * 1000.0;
    (millis.abs() < 9e15).then_some(Millis(millis.round() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Decoded {
        let rules: Vec<MappingRule> = serde_yaml::from_str(
            "[{match: 'servers.*.load', name: load, labels: {host: $1}}, {match: 'drop.*', action: drop}]",
        )
        .unwrap();
        decode(text.as_bytes(), &rules, Millis(7), 1, &IngestLimits::default()).unwrap()
    }

    #[test]
    fn lines_become_series_by_path_tags_and_rules() {
        let decoded =
            read("servers.web-1.load 0.5 1700000000\ndisk.used;dc=eu;rack=a1 42 -1\r\ndrop.x 1 1\nplain 1\nf 1 1.5\n");
        let batch = &decoded.batch;
        let shown: Vec<String> = batch
            .series
            .iter()
            .enumerate()
            .map(|(index, series)| {
                let sample = batch.samples[series.samples.start as usize];
                format!(
                    "{} {} {}",
                    batch.labels.labels(index).unwrap(),
                    sample.value,
                    sample.at.0
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                r#"load{host="web-1"} 0.5 1700000000000"#,
                r#"disk_used{dc="eu", rack="a1"} 42 7"#,
                "plain 1 7",
                "f 1 1500",
            ]
        );
    }

    #[test]
    fn bad_lines_are_listed_with_their_text() {
        let decoded = read("a\na b 1\na 1 soon\na 1 1 1\n;x=y 1\na;x 1\nok 1\n");
        assert_eq!((decoded.rejections.total, decoded.batch.samples.len()), (6, 1));
        assert_eq!(decoded.rejections.first[1].series, "a b 1");
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, &[], Millis(0), 1, &IngestLimits::default());
        }

        #[test]
        fn every_value_survives(value in any::<f64>(), at in 0i64..4_000_000_000) {
            let sample = read(&format!("a.b;c=d {value} {at}\n")).batch.samples[0];
            prop_assert_eq!(sample.at, Millis(at * 1000));
            prop_assert!(sample.value.to_bits() == value.to_bits() || value.is_nan() && sample.value.is_nan());
        }
    }
}
