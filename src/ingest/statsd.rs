//! StatsD's lines and DogStatsD's: counted in memory, made samples every interval.
//!
//! ```text
//! name:value|type[|@rate][|#tag:value,…]        types: c counter, g gauge, ms timer, h d histogram, s set
//! ```
//! Counters become cumulative ones. Timers (in seconds) and histograms become native histograms beside `_count` and `_sum`.
//! A gauge keeps its value; a set is the number of distinct values in the interval. Tags in the name, as Librato (`#`) and
//! InfluxDB (`,`) write them, are understood.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::StatsdConfig;
use super::mapping;
use crate::model::{
    FloatHistogram, HistogramSample, Interval, Labels, METRIC_NAME, Millis, OwnedSeries, Sample, Span, WriteBatch,
};

/// Resolution of timers: eight buckets for each doubling.
const SCHEMA: i32 = 3;
/// Values nearer to zero than this count as zero (Prometheus's default).
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;
/// The most distinct values of one set in one interval.
const SET_MAX: usize = 100_000;

/// What was taken of a packet, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketReport {
    /// Values taken.
    pub values: u64,
    /// Lines and values refused, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// The first refusal.
    pub error: Option<String>,
}

impl PacketReport {
    fn refuse(&mut self, reason: &'static str, line: &str, text: &str) {
        match self.refused.iter_mut().find(|(found, _)| *found == reason) {
            Some((_, many)) => *many += 1,
            None => self.refused.push((reason, 1)),
        }
        let shown: String = line.chars().take(100).collect();
        self.error.get_or_insert_with(|| format!("{text}: line {shown:?}"));
    }
}

/// What one series has come to.
#[derive(Clone, Debug)]
enum Tally {
    Counter(f64),
    Gauge(f64),
    Set(HashSet<String>),
    Distribution(Box<Distribution>),
}

impl Tally {
    fn new(kind: &str) -> Option<Tally> {
        Some(match kind {
            "c" => Tally::Counter(0.0),
            "g" => Tally::Gauge(0.0),
            "s" => Tally::Set(HashSet::new()),
            "ms" | "h" | "d" => Tally::Distribution(Box::default()),
            _ => return None,
        })
    }
}

#[derive(Clone, Debug, Default)]
struct Distribution {
    count: f64,
    sum: f64,
    zero: f64,
    positive: BTreeMap<i32, f64>,
    negative: BTreeMap<i32, f64>,
}

#[expect(clippy::cast_possible_truncation, reason = "a double's logarithm lies within ±1100")]
fn bucket(value: f64) -> i32 {
    (value.log2() * f64::from(1 << SCHEMA)).ceil() as i32
}

impl Distribution {
    fn observe(&mut self, value: f64, weight: f64) {
        self.count += weight;
        self.sum += value * weight;
        if value.abs() <= ZERO_THRESHOLD {
            self.zero += weight;
        } else if value > 0.0 {
            *self.positive.entry(bucket(value)).or_default() += weight;
        } else {
            *self.negative.entry(bucket(-value)).or_default() += weight;
        }
    }

    fn histogram(&self) -> FloatHistogram {
        let side = |counts: &BTreeMap<i32, f64>| {
            let mut spans: Vec<Span> = Vec::new();
            let mut next = 0;
            for index in counts.keys() {
                match spans.last_mut() {
                    Some(span) if *index == next => span.length += 1,
                    Some(_) => spans.push(Span {
                        offset: index - next,
                        length: 1,
                    }),
                    None => spans.push(Span {
                        offset: *index,
                        length: 1,
                    }),
                }
                next = index + 1;
            }
            (spans, counts.values().copied().collect::<Vec<f64>>())
        };
        let (positive_spans, positive_buckets) = side(&self.positive);
        let (negative_spans, negative_buckets) = side(&self.negative);
        FloatHistogram {
            schema: SCHEMA,
            zero_threshold: ZERO_THRESHOLD,
            zero_count: self.zero,
            count: self.count,
            sum: self.sum,
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            ..FloatHistogram::default()
        }
    }
}

struct Kept {
    tally: Tally,
    kind: &'static str,
    touched: Millis,
}

/// Everything that was counted.
pub struct Aggregator {
    config: StatsdConfig,
    kept: HashMap<Labels, Kept>,
    /// One name has one kind.
    kinds: HashMap<String, &'static str>,
}

impl Aggregator {
    /// Starts with nothing counted.
    pub fn new(config: StatsdConfig) -> Aggregator {
        Aggregator {
            config,
            kept: HashMap::new(),
            kinds: HashMap::new(),
        }
    }

    /// Counts the lines of a packet.
    pub fn take(&mut self, packet: &[u8], now: Millis) -> PacketReport {
        let mut report = PacketReport::default();
        for line in packet.split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            if line.starts_with("_e{") || line.starts_with("_sc|") {
                report.refuse("event", line, "events and service checks are no metrics");
                continue;
            }
            match self.line(line, now) {
                Ok(values) => report.values += values,
                Err((reason, text)) => report.refuse(reason, line, &text),
            }
        }
        report
    }

    fn line(&mut self, line: &str, now: Millis) -> Result<u64, (&'static str, String)> {
        let malformed = |text: &str| ("malformed", text.to_owned());
        let read = Line::read(line).map_err(|text| malformed(&text))?;
        let Some((name, mut labels)) = mapping::map(&self.config.mappings, read.name) else {
            return Ok(0);
        };
        labels.extend(read.tags);
        let of = self.kinds.get(&name).copied();
        let kind = family(read.kind).ok_or_else(|| malformed("the type is none of c, g, ms, h, d, s"))?;
        if of.is_some_and(|of| of != kind) {
            return Err(("type", format!("{name} is already a {}", of.unwrap_or_default())));
        }
        let mut pairs = labels;
        pairs.push((METRIC_NAME.to_owned(), name.clone()));
        let labels = Labels::from_pairs(pairs);
        let many = self.kept.len();
        let kept = match self.kept.get_mut(&labels) {
            Some(kept) => kept,
            None if many >= self.config.series_max => {
                let max = self.config.series_max;
                return Err(("limit", format!("over the limit statsd.series_max = {max}")));
            }
            None => {
                let tally = Tally::new(read.kind).ok_or_else(|| malformed("an unknown type"))?;
                self.kinds.insert(name, kind);
                let fresh = Kept {
                    tally,
                    kind,
                    touched: now,
                };
                self.kept.entry(labels).or_insert(fresh)
            }
        };
        kept.touched = now;
        let mut values = 0;
        for value in read.values {
            add(&mut kept.tally, read.kind, value, read.rate).map_err(|text| malformed(&text))?;
            values += 1;
        }
        Ok(values)
    }

    /// Returns everything as samples of `now`, forgets sets, and series without news for long.
    pub fn flush(&mut self, now: Millis, seed: u64) -> WriteBatch {
        let ttl = self.config.ttl;
        self.kept
            .retain(|_, kept| ttl <= Interval::ZERO || now - kept.touched <= ttl);
        let names: HashSet<&str> = self.kept.keys().map(|labels| labels.value(METRIC_NAME)).collect();
        self.kinds.retain(|name, _| names.contains(name.as_str()));
        let mut series = Vec::with_capacity(self.kept.len());
        let mut histograms = Vec::new();
        let one = |labels: Labels, value: f64| OwnedSeries {
            labels,
            samples: vec![Sample { at: now, value }],
        };
        for (labels, kept) in &mut self.kept {
            match &mut kept.tally {
                Tally::Counter(value) | Tally::Gauge(value) => series.push(one(labels.clone(), *value)),
                Tally::Set(values) => {
                    series.push(one(labels.clone(), values.len() as f64));
                    values.clear();
                }
                Tally::Distribution(distribution) => {
                    for (suffix, value) in [("_count", distribution.count), ("_sum", distribution.sum)] {
                        let name = format!("{}{suffix}", labels.value(METRIC_NAME));
                        series.push(one(labels.to_builder().set(METRIC_NAME, &name).build(), value));
                    }
                    histograms.push((series.len(), distribution.histogram()));
                    series.push(OwnedSeries {
                        labels: labels.clone(),
                        samples: Vec::new(),
                    });
                }
            }
        }
        let mut batch = WriteBatch::from_series(series, seed);
        for (index, histogram) in histograms {
            let from = batch.histograms.len() as u32;
            batch.histograms.push(HistogramSample {
                at: now,
                histogram: Arc::new(histogram),
            });
            batch.series[index].histograms = from..from + 1;
        }
        batch
    }

    /// Returns how many series are kept, by kind.
    pub fn series(&self) -> BTreeMap<&'static str, usize> {
        let mut many = BTreeMap::new();
        self.kept
            .values()
            .for_each(|kept| *many.entry(kept.kind).or_default() += 1);
        many
    }
}

fn family(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "c" => "counter",
        "g" => "gauge",
        "s" => "set",
        "ms" => "timer",
        "h" | "d" => "histogram",
        _ => return None,
    })
}

fn add(tally: &mut Tally, kind: &str, value: &str, rate: f64) -> Result<(), String> {
    if let Tally::Set(values) = tally {
        if values.len() < SET_MAX {
            values.insert(value.to_owned());
        }
        return Ok(());
    }
    let number: f64 = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
    if !number.is_finite() {
        return Err(format!("{value:?} is not finite"));
    }
    match tally {
        Tally::Counter(total) if number >= 0.0 => *total += number / rate,
        Tally::Counter(_) => return Err(format!("a counter cannot go back by {value}")),
        Tally::Gauge(now) if value.starts_with(['+', '-']) => *now += number,
        Tally::Gauge(now) => *now = number,
        // Timers are milliseconds on the wire and seconds here.
        Tally::Distribution(all) if kind == "ms" => all.observe(number / 1000.0, 1.0 / rate),
        Tally::Distribution(all) => all.observe(number, 1.0 / rate),
        Tally::Set(_) => {}
    }
    Ok(())
}

/// A line in its parts.
struct Line<'a> {
    name: &'a str,
    values: Vec<&'a str>,
    kind: &'a str,
    rate: f64,
    tags: Vec<(String, String)>,
}

impl Line<'_> {
    fn read(line: &str) -> Result<Line<'_>, String> {
        let mut parts = line.split('|');
        let head = parts.next().unwrap_or("");
        let kind = parts.next().ok_or("a line is: name:value|type")?;
        // Tags in the name may hold colons, values do not: names end at the first one.
        let (name, values) = head.split_once(':').ok_or("a line is: name:value|type")?;
        let (name, mut tags) = name_tags(name);
        if name.is_empty() {
            return Err("the name is empty".to_owned());
        }
        let mut rate = 1.0;
        for part in parts {
            if let Some(text) = part.strip_prefix('@') {
                rate = text.parse().map_err(|_| format!("{text:?} is not a sampling rate"))?;
                if !(rate > 0.0 && rate <= 1.0) {
                    return Err(format!("the sampling rate {text:?} is not between 0 and 1"));
                }
            } else if let Some(text) = part.strip_prefix('#') {
                tags.extend(
                    text.split(',')
                        .filter(|tag| !tag.is_empty())
                        .map(|tag| tag_of(tag, ':')),
                );
            }
            // Container ids, times and what later versions add say nothing about the value.
        }
        Ok(Line {
            name,
            values: values.split(':').collect(),
            kind,
            rate,
            tags,
        })
    }
}

/// Splits off tags that stand in the name: `name#a=b,c=d` and `name,a=b,c=d`.
fn name_tags(name: &str) -> (&str, Vec<(String, String)>) {
    match name.split_once(['#', ',']) {
        None => (name, Vec::new()),
        Some((name, tags)) => {
            let tags = tags.split(',').filter(|tag| !tag.is_empty());
            (name, tags.map(|tag| tag_of(tag, '=')).collect())
        }
    }
}

/// A tag without a value says that it is there.
fn tag_of(tag: &str, separator: char) -> (String, String) {
    let (name, value) = tag.split_once(separator).unwrap_or((tag, "true"));
    (mapping::plain_label(name), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn aggregator() -> Aggregator {
        Aggregator::new(serde_yaml::from_str("{listen: '127.0.0.1:8125', series_max: 8}").unwrap())
    }

    fn shown(batch: &WriteBatch) -> Vec<String> {
        let mut lines: Vec<String> = batch
            .series
            .iter()
            .enumerate()
            .map(|(index, series)| {
                let labels = batch.labels.labels(index).unwrap();
                match batch.histograms.get(series.histograms.start as usize) {
                    Some(histogram) if !series.histograms.is_empty() => {
                        format!("{labels} {:?}", histogram.histogram.positive_buckets)
                    }
                    _ => format!("{labels} {}", batch.samples[series.samples.start as usize].value),
                }
            })
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn each_type_is_counted_in_its_way() {
        let mut all = aggregator();
        let report = all.take(
            b"hits:1|c\nhits:2|c|@0.5\ntemp.room:20|g\ntemp.room:-5|g\ntook:250|ms|#path:/a,slow\ntook:250:500|ms|#path:/a,slow\n\
              users:a|s\nusers:b|s\nusers:a|s\n",
            Millis(0),
        );
        assert_eq!((report.values, &report.error), (10, &None));
        let slow = r#"{path="/a", slow="true"}"#;
        assert_eq!(
            shown(&all.flush(Millis(1), 7)),
            [
                "hits 5".to_owned(),
                "temp_room 15".to_owned(),
                format!("took_count{slow} 3"),
                format!("took_sum{slow} 1"),
                format!("took{slow} [2.0, 1.0]"),
                "users 2".to_owned(),
            ]
        );
        assert!(
            shown(&all.flush(Millis(2), 7)).contains(&"users 0".to_owned()),
            "a set counts one interval"
        );
    }

    #[test]
    fn tags_may_stand_in_the_name() {
        let mut all = aggregator();
        all.take(b"a#x=1,y=2:1|c\nb,x=1:1|c|c:abc|T1700000000", Millis(0));
        assert_eq!(
            shown(&all.flush(Millis(1), 7)),
            [r#"a{x="1", y="2"} 1"#, r#"b{x="1"} 1"#]
        );
    }

    #[test]
    fn what_cannot_be_counted_is_refused_by_its_reason() {
        let mut all = aggregator();
        let report = all.take(
            b"a:1|c\na:1|g\nb\nc:1\nd:x|c\ne:1|q\nf:1|c|@2\ng:-1|c\n_e{1,1}:a|b\n:1|c\nok:1|c\n",
            Millis(0),
        );
        assert_eq!(report.values, 2);
        assert_eq!(report.refused, [("type", 1), ("malformed", 7), ("event", 1)]);
        assert!(report.error.unwrap().contains("already a counter"));
        for i in 0..20 {
            all.take(format!("n{i}:1|g").as_bytes(), Millis(0));
        }
        assert!(all.take(b"more:1|g", Millis(0)).error.unwrap().contains("series_max"));
    }

    #[test]
    fn series_without_news_are_forgotten() {
        let mut all = aggregator();
        all.take(b"a:1|c", Millis(0));
        assert_eq!(all.flush(Millis(3_600_000), 7).series.len(), 1);
        assert_eq!(all.flush(Millis(3_600_001), 7).series.len(), 0);
        assert!(all.series().is_empty());
    }

    proptest! {
        #[test]
        fn any_observation_gives_a_valid_histogram(values in proptest::collection::vec(any::<f64>(), 1..50)) {
            let mut all = Distribution::default();
            values.iter().filter(|value| value.is_finite()).for_each(|value| all.observe(*value, 1.0));
            prop_assert!(all.histogram().validate().is_ok());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut all = aggregator();
            all.take(&bytes, Millis(0));
            all.flush(Millis(1), 7);
        }
    }
}
