//! From a page of metrics to samples: target labels, relabelling, `up` and its companions, and stale markers.
//!
//! Pure but for [`fetch`]. A series that was in the last round and is not in this one ends with a stale marker; a round
//! that fails ends all of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::config::ScrapeConfig;
use crate::ingest::exposition::{self, Value};
use crate::ingest::relabel::relabel;
use crate::ingest::text::{self, MetadataLines, TextFormat, TextLine};
use crate::ingest::{Encoding, decompress};
use crate::io::http_client::{ANSWER_BYTES_MAX, HttpClient, HttpOptions, HttpRequest};
use crate::model::{
    FloatHistogram, HistogramSample, Interval, Labels, LabelsBuilder, METRIC_NAME, MetricMetadata, Millis, OwnedSeries,
    Sample, stale_marker,
};

/// What we ask for, best first, when native histograms are wanted: the text forms have none.
const ACCEPT_NATIVE: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.9,\
     application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
/// What we ask for otherwise.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
/// The most bytes of a page after decompression.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// All metadata is sent again after this time, for a server that has forgotten it.
const METADATA_EVERY: Interval = Interval(600_000);

/// Fetches a page.
///
/// # Errors
/// Why there is none.
pub(super) async fn fetch(
    client: &dyn HttpClient,
    url: &str,
    auth: Option<(String, String)>,
    config: &ScrapeConfig,
    options: HttpOptions,
    timeout: Interval,
) -> Result<Page, String> {
    let accept = if config.wants_native() { ACCEPT_NATIVE } else { ACCEPT };
    let mut headers = vec![
        ("Accept".to_owned(), accept.to_owned()),
        (
            "User-Agent".to_owned(),
            concat!("campanile/", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        (
            "X-Prometheus-Scrape-Timeout-Seconds".to_owned(),
            (timeout.0 as f64 / 1000.0).to_string(),
        ),
    ];
    if config.enable_compression {
        headers.push(("Accept-Encoding".to_owned(), "gzip".to_owned()));
    }
    headers.extend(auth);
    let request = HttpRequest {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers,
        body: bytes::Bytes::new(),
        timeout,
        options,
    };
    let response = client.send(request).await.map_err(|error| error.to_string())?;
    if response.status != 200 {
        return Err(format!("server returned HTTP status {}", response.status));
    }
    if response.body.len() >= ANSWER_BYTES_MAX {
        return Err(format!("the page is over {ANSWER_BYTES_MAX} bytes"));
    }
    let header = |name: &str| response.headers.get(name).map(String::as_str);
    let encoding = Encoding::from_header(header("content-encoding")).map_err(|error| error.to_string())?;
    let bytes_max = match usize::try_from(config.body_size_limit.0).unwrap_or(usize::MAX) {
        0 => PAGE_BYTES_MAX,
        limit => limit.min(PAGE_BYTES_MAX),
    };
    let body = decompress(encoding, response.body.clone(), bytes_max)
        .map_err(|error| format!("the page cannot be read (body_size_limit {bytes_max}): {error}"))?;
    if exposition::is_protobuf(header("content-type")) {
        return Ok(Page::Protobuf(body));
    }
    let page = String::from_utf8(body.to_vec()).map_err(|_| "the page is not UTF-8".to_owned())?;
    Ok(Page::Text(page, TextFormat::from_content_type(header("content-type"))))
}

/// A page as it was fetched.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Page {
    Text(String, TextFormat),
    Protobuf(bytes::Bytes),
}

/// One round's samples, target labels put on.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Round {
    /// Labels, value, and the time that the target gave.
    pub(super) samples: Vec<(Labels, f64, Option<Millis>)>,
    /// Native histograms likewise.
    pub(super) histograms: Vec<(Labels, Arc<FloatHistogram>, Option<Millis>)>,
    /// What the page says about its metrics.
    pub(super) metadata: Vec<MetricMetadata>,
    /// How many samples there were before relabelling.
    pub(super) scraped: usize,
}

/// What goes to the queues.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Collected {
    pub(super) series: Vec<OwnedSeries>,
    pub(super) histograms: Vec<(Labels, HistogramSample)>,
}

impl Collected {
    /// Wraps series without histograms.
    pub(super) fn floats(series: Vec<OwnedSeries>) -> Collected {
        Collected {
            series,
            histograms: Vec::new(),
        }
    }
}

/// Reads a page.
///
/// # Errors
/// The first line that cannot be read, or the limit that is reached: half a page would look like a restart.
pub(super) fn read_page(page: &Page, target: &Labels, config: &ScrapeConfig) -> Result<Round, String> {
    let mut round = Round::default();
    match page {
        Page::Text(text, format) => {
            let mut metadata = MetadataLines::default();
            for line in text::lines(text, *format) {
                let line = line.map_err(|error| error.to_string())?;
                let TextLine::Sample(sample) = line else {
                    metadata.take(&line);
                    continue;
                };
                round.add(&sample.labels, Value::Float(sample.value), sample.at, target, config)?;
            }
            round.metadata = metadata.finish();
        }
        Page::Protobuf(body) => {
            let classic = config.always_scrape_classic_histograms || !config.wants_native();
            let families = exposition::decode_protobuf(body, classic).map_err(|error| error.to_string())?;
            for family in families {
                for point in family.points {
                    round.add(&point.labels, point.value, point.at, target, config)?;
                }
                round.metadata.push(MetricMetadata {
                    metric: family.name,
                    kind: family.kind,
                    help: family.help,
                    unit: family.unit,
                });
            }
        }
    }
    Ok(round)
}

impl Round {
    /// Adds one sample, relabelled, within the job's limits.
    fn add(
        &mut self,
        own: &[(String, String)],
        value: Value,
        at: Option<Millis>,
        target: &Labels,
        config: &ScrapeConfig,
    ) -> Result<(), String> {
        self.scraped += 1;
        let mut labels = LabelsBuilder::default();
        for (name, value) in own {
            labels.set(name, value);
        }
        put_target_labels(&mut labels, target, config.honor_labels);
        if !relabel(&config.metric_relabel_configs, &mut labels) {
            return Ok(());
        }
        if labels.get(METRIC_NAME).is_none() {
            return Err("a series has no metric name after relabelling".to_owned());
        }
        let labels = labels.build();
        check_limits(&labels, config)?;
        let at = at.filter(|_| config.honor_timestamps);
        match value {
            Value::Float(value) => self.samples.push((labels, value, at)),
            Value::Histogram(histogram) => self.histograms.push((labels, histogram, at)),
        }
        if config.sample_limit > 0 && self.kept() > config.sample_limit {
            return Err(format!("over the sample_limit of {}", config.sample_limit));
        }
        Ok(())
    }

    fn kept(&self) -> usize {
        self.samples.len() + self.histograms.len()
    }
}

fn check_limits(labels: &Labels, config: &ScrapeConfig) -> Result<(), String> {
    if config.label_limit > 0 && labels.len() > config.label_limit {
        return Err(format!("over the label_limit of {}: {labels}", config.label_limit));
    }
    let (name_max, value_max) = (config.label_name_length_limit, config.label_value_length_limit);
    for (name, value) in labels.iter() {
        if name_max > 0 && name.len() > name_max {
            return Err(format!(
                "over the label_name_length_limit of {name_max}: label {name:?} of {labels}"
            ));
        }
        if value_max > 0 && value.len() > value_max {
            return Err(format!(
                "over the label_value_length_limit of {value_max}: label {name:?} of {labels}"
            ));
        }
    }
    Ok(())
}

/// Puts the target's labels on a series; its own of the same name give way to them under `exported_…`, or stay.
fn put_target_labels(labels: &mut LabelsBuilder, target: &Labels, honor_labels: bool) {
    for (name, value) in target.iter() {
        let own = labels.get(name).map(str::to_owned);
        match own {
            Some(_) if honor_labels => {}
            Some(own) => {
                let mut exported = format!("exported_{name}");
                while labels.get(&exported).is_some() || target.get(&exported).is_some() {
                    exported = format!("exported_{exported}");
                }
                labels.set(&exported, &own);
                labels.set(name, value);
            }
            None => drop(labels.set(name, value)),
        }
    }
}

/// What one target showed last, and so what must end when it shows it no more.
#[derive(Debug)]
pub(super) struct Tracker {
    target: Labels,
    last: HashSet<Labels>,
    told: HashMap<String, MetricMetadata>,
    told_all_at: Option<Millis>,
}

/// The series that every round adds, with `up` first.
const REPORT: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

impl Tracker {
    /// Starts with nothing shown.
    pub(super) fn new(target: Labels) -> Tracker {
        Tracker {
            target,
            last: HashSet::new(),
            told: HashMap::new(),
            told_all_at: None,
        }
    }

    /// Returns all series of a round at `at`: samples, stale markers, the report.
    pub(super) fn round(&mut self, at: Millis, seconds: f64, round: Result<&Round, ()>) -> Collected {
        let mut out = Vec::new();
        let mut histograms = Vec::new();
        let mut shown = HashSet::new();
        let mut own_time = HashSet::new();
        let (mut scraped, mut kept) = (0, 0);
        if let Ok(round) = round {
            (scraped, kept) = (round.scraped, round.kept());
            for (labels, value, own_at) in &round.samples {
                let first = match own_at {
                    Some(own_at) => own_time.insert((labels, own_at)),
                    None => shown.insert(labels.clone()),
                };
                if first {
                    out.push(one(labels.clone(), own_at.unwrap_or(at), *value));
                }
            }
            for (labels, histogram, own_at) in &round.histograms {
                let first = match own_at {
                    Some(own_at) => own_time.insert((labels, own_at)),
                    None => shown.insert(labels.clone()),
                };
                if first {
                    let sample = HistogramSample {
                        at: own_at.unwrap_or(at),
                        histogram: Arc::clone(histogram),
                    };
                    histograms.push((labels.clone(), sample));
                }
            }
        }
        let added = shown.difference(&self.last).count();
        for gone in self.last.difference(&shown) {
            out.push(one(gone.clone(), at, stale_marker()));
        }
        self.last = shown;
        let up = f64::from(u8::from(round.is_ok()));
        let report = [up, seconds, scraped as f64, kept as f64, added as f64];
        out.extend(
            REPORT
                .iter()
                .zip(report)
                .map(|(name, value)| one(self.named(name), at, value)),
        );
        Collected {
            series: out,
            histograms,
        }
    }

    /// Returns the stale markers of a target that is gone for good.
    pub(super) fn end(&mut self, at: Millis) -> Vec<OwnedSeries> {
        let shown = std::mem::take(&mut self.last).into_iter();
        let report = REPORT.iter().map(|name| self.named(name));
        shown
            .chain(report)
            .map(|labels| one(labels, at, stale_marker()))
            .collect()
    }

    /// Returns what is new about metrics, and everything once in a while.
    pub(super) fn news(&mut self, now: Millis, metadata: &[MetricMetadata]) -> Vec<MetricMetadata> {
        if self.told_all_at.is_none_or(|at| now - at >= METADATA_EVERY) {
            self.told_all_at = Some(now);
            self.told.clear();
        }
        let is_new = |metric: &&MetricMetadata| self.told.get(&metric.metric) != Some(*metric);
        let news: Vec<MetricMetadata> = metadata.iter().filter(is_new).cloned().collect();
        self.told
            .extend(news.iter().map(|metric| (metric.metric.clone(), metric.clone())));
        news
    }

    fn named(&self, name: &str) -> Labels {
        self.target.to_builder().set(METRIC_NAME, name).build()
    }
}

fn one(labels: Labels, at: Millis, value: f64) -> OwnedSeries {
    OwnedSeries {
        labels,
        samples: vec![Sample { at, value }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Labels {
        Labels::from_pairs([("job", "api"), ("instance", "h:1")])
    }

    fn page(text: &str, yaml: &str) -> Result<Round, String> {
        let config: ScrapeConfig = serde_yaml::from_str(&format!("{{job_name: api{yaml}}}")).unwrap();
        read_page(&Page::Text(text.to_owned(), TextFormat::Prometheus), &target(), &config)
    }

    fn shown(series: &[OwnedSeries]) -> Vec<String> {
        let mut lines: Vec<String> = series
            .iter()
            .map(|series| {
                let Sample { at, value } = series.samples[0];
                let value = if crate::model::is_stale(value) {
                    "stale".to_owned()
                } else {
                    value.to_string()
                };
                format!("{} {value} {}", series.labels, at.0)
            })
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_label_of_the_targets_own_gives_way_or_stays() {
        let text = "x{job=\"own\"} 1\n";
        let labels = |yaml: &str| page(text, yaml).unwrap().samples[0].0.to_string();
        assert_eq!(labels(""), r#"x{exported_job="own", instance="h:1", job="api"}"#);
        assert_eq!(labels(", honor_labels: true"), r#"x{instance="h:1", job="own"}"#);
    }

    #[test]
    fn metric_relabelling_and_limits_hold() {
        let text = "a 1\nb 2\nc 3 5\n";
        let drop_b = ", metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]";
        let round = page(text, drop_b).unwrap();
        assert_eq!((round.scraped, round.samples.len()), (3, 2));
        assert_eq!(round.samples[1].2, Some(Millis(5)));
        assert_eq!(page(text, ", honor_timestamps: false").unwrap().samples[2].2, None);
        assert!(
            page(text, ", sample_limit: 2")
                .unwrap_err()
                .contains("sample_limit of 2")
        );
        assert!(page("a 1\nb\n", "").unwrap_err().contains("line 2"));
        for (limit, expected) in [
            (", label_limit: 3", "over the label_limit of 3: abc{"),
            (", label_name_length_limit: 7", "over the label_name_length_limit of 7"),
            (", label_value_length_limit: 4", "label \"long\""),
        ] {
            let error = page("abc{long=\"12345\"} 1\n", limit).unwrap_err();
            assert!(error.contains(expected), "{limit}: {error}");
        }
    }

    #[test]
    fn a_protobuf_page_brings_native_histograms_that_end_like_all_series() {
        let body = include_bytes!("../../fuzz/corpus/exposition/native");
        let config: ScrapeConfig =
            serde_yaml::from_str("{job_name: api, scrape_native_histograms: true, body_size_limit: 10MB}").unwrap();
        assert_eq!((config.body_size_limit.0, config.wants_native()), (10 << 20, true));
        let page = Page::Protobuf(bytes::Bytes::from_static(body));
        let round = read_page(&page, &target(), &config).unwrap();
        assert_eq!((round.samples.len(), round.histograms.len()), (0, 1));
        assert_eq!(
            round.histograms[0].0.to_string(),
            r#"h{a="b", instance="h:1", job="api"}"#
        );
        let mut tracker = Tracker::new(target());
        assert_eq!(tracker.round(Millis(1), 0.5, Ok(&round)).histograms[0].1.at, Millis(1));
        let ended = shown(&tracker.round(Millis(2), 0.5, Ok(&Round::default())).series);
        assert_eq!(ended[0], r#"h{a="b", instance="h:1", job="api"} stale 2"#);
    }

    #[test]
    fn what_is_shown_no_more_ends_with_a_stale_marker() {
        let mut tracker = Tracker::new(Labels::from_pairs([("job", "j")]));
        let round = |names: &[&str]| Round {
            samples: names
                .iter()
                .map(|name| (Labels::from_pairs([("__name__", *name)]), 1.0, None))
                .collect(),
            scraped: names.len(),
            ..Round::default()
        };
        tracker.round(Millis(1), 0.5, Ok(&round(&["a", "b", "a"])));
        let second = shown(&tracker.round(Millis(2), 0.5, Ok(&round(&["b", "c"]))).series);
        assert_eq!(second[..3], ["a stale 2", "b 1 2", "c 1 2"]);
        assert!(
            second.contains(&"scrape_series_added{job=\"j\"} 1 2".to_owned()),
            "{second:?}"
        );
        let failed = shown(&tracker.round(Millis(3), 0.5, Err(())).series);
        assert_eq!(failed[..2], ["b stale 3", "c stale 3"]);
        assert_eq!(failed.last().unwrap(), "up{job=\"j\"} 0 3");
        tracker.round(Millis(4), 0.5, Ok(&round(&["d"])));
        let end = shown(&tracker.end(Millis(5)));
        assert_eq!(end.len(), 1 + REPORT.len());
        assert!(end.iter().all(|line| line.ends_with("stale 5")), "{end:?}");
    }

    #[test]
    fn metadata_is_told_once_and_again_after_a_while() {
        let mut tracker = Tracker::new(Labels::empty());
        let up = MetricMetadata {
            metric: "up".to_owned(),
            kind: crate::model::MetricKind::Gauge,
            help: String::new(),
            unit: String::new(),
        };
        let mut news = |at: i64| tracker.news(Millis(at), std::slice::from_ref(&up)).len();
        assert_eq!((news(0), news(1), news(600_000), news(600_001)), (1, 0, 1, 0));
    }
}
