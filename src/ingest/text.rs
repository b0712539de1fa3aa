//! The exposition format: what `/metrics` pages say, and what a shell script pushes with `curl`.
//!
//! ```text
//! # HELP name text          # TYPE name kind          # UNIT name unit          # EOF
//! name{label="value"} 1.5 [time] [# {exemplar labels} value [time]]        {"quoted.name", label="value"} 1.5
//! ```
//! Prometheus's format (times in milliseconds) with OpenMetrics's additions understood in both: a time with a fraction is
//! in seconds, exemplars are read, `# EOF` ends the text.

use super::batch::OwnedBatch;
use super::{DecodeError, Decoded, IngestLimits};
use crate::model::{Exemplar, Labels, METRIC_NAME, MetricKind, MetricMetadata, Millis, Sample};

/// Whose rules hold where the two formats differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Times are milliseconds, unless they have a fraction.
    Prometheus,
    /// Times are seconds.
    OpenMetrics,
}

impl TextFormat {
    /// Reads a `Content-Type`; everything but OpenMetrics's own is Prometheus's.
    pub fn from_content_type(value: Option<&str>) -> TextFormat {
        match value.is_some_and(|value| value.trim_start().starts_with("application/openmetrics-text")) {
            true => TextFormat::OpenMetrics,
            false => TextFormat::Prometheus,
        }
    }
}

/// One sample line.
#[derive(Clone, Debug, PartialEq)]
pub struct TextSample {
    /// Names and values as written, metric name included; not checked against limits.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
    /// The line's own time.
    pub at: Option<Millis>,
    /// The exemplar behind it; without a time of its own its `at` is the epoch.
    pub exemplar: Option<Exemplar>,
}

/// One line that says something.
#[derive(Clone, Debug, PartialEq)]
pub enum TextLine {
    /// A sample.
    Sample(TextSample),
    /// `# HELP`.
    Help(String, String),
    /// `# TYPE`.
    Kind(String, MetricKind),
    /// `# UNIT`.
    Unit(String, String),
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct TextError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// Reads a text line by line; comments and empty lines say nothing, `# EOF` ends it.
pub fn lines(text: &str, format: TextFormat) -> impl Iterator<Item = Result<TextLine, TextError>> {
    let numbered = text.lines().enumerate();
    let before_end = numbered.take_while(|(_, line)| line.trim_end() != "# EOF");
    before_end.filter_map(move |(index, line)| {
        let line = line.trim();
        let read = match line.strip_prefix('#') {
            Some(comment) => comment_line(comment)?,
            None if line.is_empty() => return None,
            None => sample_line(line, format).map(TextLine::Sample),
        };
        Some(read.map_err(|reason| TextError {
            line: index + 1,
            reason,
        }))
    })
}

fn comment_line(comment: &str) -> Option<Result<TextLine, String>> {
    let (word, rest) = comment.trim_start().split_once([' ', '\t'])?;
    if !matches!(word, "HELP" | "TYPE" | "UNIT") {
        return None;
    }
    let mut rest = Scanner {
        rest: rest.trim_start(),
    };
    let name = match rest.name() {
        Ok(name) => name,
        Err(reason) => return Some(Err(format!("# {word}: {reason}"))),
    };
    let said = rest.rest.trim();
    Some(match word {
        "HELP" => Ok(TextLine::Help(name, unescape(said))),
        "UNIT" => Ok(TextLine::Unit(name, said.to_owned())),
        _ => kind(said).map(|kind| TextLine::Kind(name, kind)),
    })
}

fn kind(word: &str) -> Result<MetricKind, String> {
    match word {
        "counter" => Ok(MetricKind::Counter),
        "gauge" => Ok(MetricKind::Gauge),
        "histogram" => Ok(MetricKind::Histogram),
        "gaugehistogram" => Ok(MetricKind::GaugeHistogram),
        "summary" => Ok(MetricKind::Summary),
        "info" => Ok(MetricKind::Info),
        "stateset" => Ok(MetricKind::StateSet),
        "untyped" | "unknown" => Ok(MetricKind::Unknown),
        other => Err(format!("unknown metric type {other:?}")),
    }
}

fn sample_line(line: &str, format: TextFormat) -> Result<TextSample, String> {
    let mut scanner = Scanner { rest: line };
    let mut labels = Vec::new();
    if !line.starts_with('{') {
        labels.push((METRIC_NAME.to_owned(), scanner.name()?));
        scanner.space();
    }
    if scanner.take('{') {
        scanner.label_block(&mut labels)?;
    }
    scanner.space();
    let value = number(scanner.word())?;
    scanner.space();
    let mut at = None;
    if !scanner.rest.is_empty() && !scanner.rest.starts_with('#') {
        at = Some(time(scanner.word(), format)?);
        scanner.space();
    }
    let mut exemplar = None;
    if scanner.take('#') {
        exemplar = Some(exemplar_part(&mut scanner)?);
    }
    if !scanner.rest.is_empty() {
        return Err(format!("unexpected {:?} behind the sample", shorten(scanner.rest)));
    }
    Ok(TextSample {
        labels,
        value,
        at,
        exemplar,
    })
}

/// Reads `{labels} value [seconds]` behind the `#`.
fn exemplar_part(scanner: &mut Scanner) -> Result<Exemplar, String> {
    scanner.space();
    let mut labels = Vec::new();
    if !scanner.take('{') {
        return Err("an exemplar begins with its labels in braces".to_owned());
    }
    scanner.label_block(&mut labels)?;
    scanner.space();
    let value = number(scanner.word())?;
    scanner.space();
    let at = match scanner.word() {
        "" => Millis(0),
        word => time(word, TextFormat::OpenMetrics)?,
    };
    scanner.space();
    Ok(Exemplar {
        labels: Labels::from_pairs(labels),
        value,
        at,
    })
}

/// Reads a value: Go's and OpenMetrics's spellings of infinity and NaN included.
fn number(word: &str) -> Result<f64, String> {
    let bad = || match word {
        "" => "the value is missing".to_owned(),
        word => format!("{:?} is not a number", shorten(word)),
    };
    let plain = word.trim_start_matches(['+', '-']);
    let known = plain.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        || ["inf", "infinity", "nan"]
            .iter()
            .any(|special| plain.eq_ignore_ascii_case(special));
    if !known {
        return Err(bad());
    }
    word.parse().map_err(|_| bad())
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
fn time(word: &str, format: TextFormat) -> Result<Millis, String> {
    let bad = || format!("{:?} is not a timestamp", shorten(word));
    if format == TextFormat::Prometheus && !word.contains('.') {
        return word.parse().map(Millis).map_err(|_| bad());
    }
    let millis = (number(word).map_err(|_| bad())? * 1000.0).round();
    if millis.abs() < 9e15 {
        Ok(Millis(millis as i64))
    } else {
        Err(bad())
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut escaped = false;
    for c in text.chars() {
        match (escaped, c) {
            (false, '\\') => escaped = true,
            (true, 'n') => {
                out.push('\n');
                escaped = false;
            }
            (true, c) => {
                if !matches!(c, '\\' | '"') {
                    out.push('\\');
                }
                out.push(c);
                escaped = false;
            }
            (false, c) => out.push(c),
        }
    }
    out
}

fn shorten(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    if short.len() < text.len() { short + "…" } else { short }
}

/// The rest of a line, and the steps that eat it.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes everything up to the next blank.
    fn word(&mut self) -> &'a str {
        let end = self.rest.find([' ', '\t']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// Takes a bare or quoted name.
    fn name(&mut self) -> Result<String, String> {
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.') || !c.is_ascii();
        let end = self.rest.find(|c: char| !inside(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!("a name is expected at {:?}", shorten(self.rest)));
        }
        self.rest = rest;
        Ok(name.to_owned())
    }

    fn quoted(&mut self) -> Result<String, String> {
        let Some(body) = self.rest.strip_prefix('"') else {
            return Err(format!("a quoted value is expected at {:?}", shorten(self.rest)));
        };
        let mut escaped = false;
        for (at, c) in body.char_indices() {
            match c {
                '"' if !escaped => {
                    self.rest = &body[at + 1..];
                    return Ok(unescape(&body[..at]));
                }
                '\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        Err("a quoted value does not end".to_owned())
    }

    /// Takes `a="b", …}`; a lone quoted text is the metric's name.
    fn label_block(&mut self, labels: &mut Vec<(String, String)>) -> Result<(), String> {
        loop {
            self.space();
            if self.take('}') {
                return Ok(());
            }
            let was_quoted = self.rest.starts_with('"');
            let name = self.name()?;
            self.space();
            if self.take('=') {
                self.space();
                labels.push((name, self.quoted()?));
            } else if was_quoted && labels.is_empty() {
                labels.push((METRIC_NAME.to_owned(), name));
            } else {
                return Err(format!("label {name:?} has no value"));
            }
            self.space();
            if !self.take(',') && !self.rest.starts_with('}') {
                return Err(match self.rest {
                    "" => "the labels do not end".to_owned(),
                    rest => format!("a comma or brace is expected at {:?}", shorten(rest)),
                });
            }
        }
    }
}

/// Gathers what `# TYPE`, `# HELP` and `# UNIT` say about one metric after the other.
#[derive(Debug, Default)]
pub struct MetadataLines {
    metrics: Vec<MetricMetadata>,
}

impl MetadataLines {
    /// Takes a line about a metric; samples say nothing here.
    pub fn take(&mut self, line: &TextLine) {
        match line {
            TextLine::Sample(_) => {}
            TextLine::Help(name, help) => self.entry(name).help.clone_from(help),
            TextLine::Kind(name, kind) => self.entry(name).kind = *kind,
            TextLine::Unit(name, unit) => self.entry(name).unit.clone_from(unit),
        }
    }

    /// Returns what was gathered.
    pub fn finish(self) -> Vec<MetricMetadata> {
        self.metrics
    }

    /// The lines about one metric stand together.
    fn entry(&mut self, name: &str) -> &mut MetricMetadata {
        if self.metrics.last().is_none_or(|last| last.metric != name) {
            self.metrics.push(MetricMetadata {
                metric: name.to_owned(),
                kind: MetricKind::Unknown,
                help: String::new(),
                unit: String::new(),
            });
        }
        self.metrics.last_mut().expect("an entry was just pushed")
    }
}

/// Decodes a pushed text; lines without a time get `now`, and bad lines are left out and listed.
///
/// # Errors
/// [`DecodeError`] when the text is not UTF-8 or has too many lines.
pub fn decode(
    body: &[u8],
    format: TextFormat,
    extra: &Labels,
    now: Millis,
    seed: u64,
    limits: &IngestLimits,
) -> Result<Decoded, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        DecodeError::Malformed(format!("malformed text: not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    let mut gathered = OwnedBatch::new(limits);
    let mut metadata = MetadataLines::default();
    for line in lines(text, format) {
        match line {
            Ok(TextLine::Sample(sample)) => {
                let at = sample.at.unwrap_or(now);
                let pairs = sample
                    .labels
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()));
                let exemplar = sample.exemplar.clone();
                gathered.add(
                    pairs,
                    extra,
                    &[Sample {
                        at,
                        value: sample.value,
                    }],
                    exemplar,
                )?;
            }
            Ok(about) => metadata.take(&about),
            Err(error) => gathered.refuse(1, String::new(), error.to_string()),
        }
    }
    let mut decoded = gathered.finish(seed);
    decoded.batch.metadata = metadata.finish();
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<Result<TextLine, TextError>> {
        lines(text, TextFormat::Prometheus).collect()
    }

    fn one(line: &str) -> TextSample {
        match read(line).remove(0) {
            Ok(TextLine::Sample(sample)) => sample,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn each_form_of_a_sample_is_read() {
        for (line, labels, value, at) in [
            ("up 1", "up", 1.0, None),
            ("up{} 1e3", "up", 1000.0, None),
            ("up { job = \"a\" , } +Inf 5", "up{job=\"a\"}", f64::INFINITY, Some(5)),
            (
                "up{job=\"a\\\"b\\\\c\\n\"}\t-3\t-1",
                "up{job=\"a\\\"b\\\\c\\n\"}",
                -3.0,
                Some(-1),
            ),
            (
                "{\"my.metric\",\"a b\"=\"c\"} .5 1.5",
                "{\"my.metric\", \"a b\"=\"c\"}",
                0.5,
                Some(1500),
            ),
            ("x_total 7 # {trace_id=\"t\"} 0.1 1700000000.5", "x_total", 7.0, None),
        ] {
            let sample = one(line);
            let shown = Labels::from_pairs(sample.labels.clone()).to_string();
            assert_eq!(
                (shown.as_str(), sample.value, sample.at),
                (labels, value, at.map(Millis)),
                "{line}"
            );
        }
        assert_eq!(
            one("x_total 7 # {trace_id=\"t\"} 0.1 1.5").exemplar.unwrap().at,
            Millis(1500)
        );
        assert!(one("x NaN").value.is_nan());
    }

    #[test]
    fn times_of_openmetrics_are_seconds() {
        let line = lines("up 1 1700000000", TextFormat::OpenMetrics)
            .next()
            .unwrap()
            .unwrap();
        assert!(matches!(line, TextLine::Sample(sample) if sample.at == Some(Millis(1_700_000_000_000))));
    }

    #[test]
    fn bad_lines_say_where_and_why_and_end_nothing() {
        let text = "a 1\nb\nc{x=\"1\" 2\nd{x} 1\ne 1 2 3\nf one\n9g 1\nh{x=\"1} 2\ni 1 soon\nok 2\n# EOF\nlate 1\n";
        let reasons: Vec<String> = read(text)
            .into_iter()
            .filter_map(Result::err)
            .map(|e| e.to_string())
            .collect();
        let expected = [
            "line 2: the value is missing",
            "line 3: a comma or brace is expected at \"2\"",
            "line 4: label \"x\" has no value",
            "line 5: unexpected \"3\" behind the sample",
            "line 6: \"one\" is not a number",
            "line 7: a name is expected at \"9g 1\"",
            "line 8: a quoted value does not end",
            "line 9: \"soon\" is not a timestamp",
        ];
        assert_eq!(reasons, expected);
        assert_eq!(read(text).into_iter().filter(Result::is_ok).count(), 2);
    }

    #[test]
    fn what_is_said_about_a_metric_is_gathered() {
        let mut gathered = MetadataLines::default();
        for line in read("# HELP up Is it\\nup?\n# TYPE up gauge\n# UNIT up s\n# a remark\nup 1\n# TYPE x counter\n") {
            gathered.take(&line.unwrap());
        }
        let metrics = gathered.finish();
        assert_eq!(
            (metrics[0].help.as_str(), metrics[0].kind),
            ("Is it\nup?", MetricKind::Gauge)
        );
        assert_eq!(
            (metrics[1].metric.as_str(), metrics[1].kind),
            ("x", MetricKind::Counter)
        );
    }

    #[test]
    fn a_pushed_text_keeps_its_good_lines() {
        let extra = Labels::from_pairs([("job", "cron"), ("site", "x")]);
        let text = "up{job=\"own\"} 1\nup{job=\"own\"} 2 5\nbad\nx 3 # {t=\"1\"} 1\n";
        let decoded = decode(
            text.as_bytes(),
            TextFormat::Prometheus,
            &extra,
            Millis(9),
            1,
            &IngestLimits::default(),
        );
        let Decoded { batch, rejections } = decoded.unwrap();
        let labels: Vec<String> = (0..batch.series.len())
            .map(|i| batch.labels.labels(i).unwrap().to_string())
            .collect();
        assert_eq!(labels, ["up{job=\"own\", site=\"x\"}", "x{job=\"cron\", site=\"x\"}"]);
        assert_eq!(
            (batch.samples.len(), batch.series[1].exemplars.len(), rejections.total),
            (3, 1, 1)
        );
        assert_eq!(batch.exemplars[0].at, Millis(9));
        assert!(rejections.first[0].reason.to_string().contains("line 3"));
    }

    fn written(name: &str, labels: &std::collections::BTreeMap<String, String>, value: f64, at: i64) -> String {
        let block: Vec<String> = labels
            .iter()
            .map(|(name, value)| {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                format!("{name}=\"{value}\"")
            })
            .collect();
        format!("{name}{{{}}} {value} {at}", block.join(","))
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            name in "[a-z_:][a-z0-9_:]{0,9}",
            labels in proptest::collection::btree_map("[a-z]{1,5}", "[^\r]{0,9}", 0..4),
            value in any::<f64>(),
            at in any::<i64>(),
        ) {
            let sample = one(&written(&name, &labels, value, at));
            let mut expected = vec![(METRIC_NAME.to_owned(), name)];
            expected.extend(labels);
            prop_assert_eq!(sample.labels, expected);
            prop_assert_eq!(sample.value.is_nan(), value.is_nan());
            prop_assert!(value.is_nan() || sample.value.to_bits() == value.to_bits());
            prop_assert_eq!(sample.at, Some(Millis(at)));
        }

        #[test]
        fn foreign_text_never_panics(text in ".{0,80}") {
            let _ = read(&text);
            let _ = lines(&text, TextFormat::OpenMetrics).count();
        }

        #[test]
        fn a_cut_line_is_an_error_or_a_shorter_number(cut in 0usize..37) {
            let line = "up{job=\"api\",zone=\"eu\"} 12.5 1700000";
            if let Some(Ok(TextLine::Sample(sample))) = read(&line[..cut]).pop() {
                prop_assert!(cut > 24 && sample.labels.len() == 3);
            }
        }
    }
}
