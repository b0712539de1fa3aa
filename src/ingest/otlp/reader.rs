//! `ExportMetricsServiceRequest` read in place: points become samples, labels stay bytes until a series is new.
//!
//! ```text
//! Request { 1: ResourceMetrics { 1: Resource { 1: KeyValue* }  2: ScopeMetrics { 1: Scope  2: Metric* } }* }
//! Metric { 1: name  2: description  3: unit  5: Gauge | 7: Sum | 9: Histogram | 10: ExponentialHistogram | 11: Summary }
//! Gauge … { 1: point*  2: temporality  3: monotonic }
//! ```
//! A series' key is a hash over the hashes of its resource, its metric and its point's attributes as sent: a histogram's
//! attributes are hashed once for all its buckets.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::labels::{OtlpLabels, Place, Resource, Role, Scope};
use super::{Otlp, points};
use crate::ingest::wire::{Cursor, Field};
use crate::ingest::{DecodeError, Decoded, IngestLimits, LabelCheck, Rejections};
use crate::model::{
    BatchSeries, Exemplar, Interval, LabelSource, MetricKind, MetricMetadata, Millis, Sample, SeriesKey, WriteBatch,
    stale_marker,
};
use crate::storage::RefusalReason;

/// Keys of different spellings must not meet: each format hashes under a seed of its own.
const SEED_OFFSET: u64 = 3;
/// `target_info` is repeated over a request's time at least this often, so that joins find it.
const TARGET_INFO_EVERY: Interval = Interval::mins(2);
/// The most of them for one resource of one request.
const TARGET_INFO_MAX: i64 = 100;

/// What a metric is, as far as names and metadata depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    /// A sum that may fall.
    UpDown,
    Counter,
    Histogram,
    Summary,
}

impl Kind {
    fn of_metric(self) -> MetricKind {
        match self {
            Kind::Gauge | Kind::UpDown => MetricKind::Gauge,
            Kind::Counter => MetricKind::Counter,
            Kind::Histogram => MetricKind::Histogram,
            Kind::Summary => MetricKind::Summary,
        }
    }
}

/// One metric: where its words stand in the body.
#[derive(Clone, Debug)]
pub(super) struct Metric {
    pub(super) name: (u32, u32),
    pub(super) unit: (u32, u32),
    pub(super) kind: Kind,
    pub(super) resource: u32,
    /// Whether its points are deltas.
    pub(super) delta: bool,
    hash: u128,
}

/// A point's place, and the hash of its attributes.
#[derive(Clone, Copy)]
pub(super) struct Point {
    pub(super) metric: u32,
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) attributes: u128,
}

/// The batch under construction.
pub(super) struct Reader<'a> {
    pub(super) body: &'a Bytes,
    pub(super) otlp: &'a Otlp,
    pub(super) now: Millis,
    pub(super) check: LabelCheck,
    limits: &'a IngestLimits,
    seed: u64,
    resources: Vec<Resource>,
    pub(super) metrics: Vec<Metric>,
    places: Vec<Place>,
    batch: WriteBatch,
    rejections: Rejections,
    /// First and last time of the current resource's points.
    span: Option<(Millis, Millis)>,
}

/// Decodes an uncompressed protobuf body.
///
/// # Errors
/// [`DecodeError`] when it is no such message or over a limit; a bad point is left out and listed.
pub(super) fn decode(
    body: Bytes,
    otlp: &Otlp,
    now: Millis,
    seed: u64,
    limits: &IngestLimits,
) -> Result<Decoded, DecodeError> {
    let mut reader = Reader {
        body: &body,
        otlp,
        now,
        check: LabelCheck::from(limits),
        limits,
        seed: seed.wrapping_add(SEED_OFFSET),
        resources: Vec::new(),
        metrics: Vec::new(),
        places: Vec::with_capacity((body.len() / 128).min(limits.series_per_request_max)),
        batch: WriteBatch::from_series(Vec::new(), seed),
        rejections: Rejections::default(),
        span: None,
    };
    let mut request = Cursor::new(&body, 0, body.len());
    while let Some(field) = request.next()? {
        match field {
            Field::Bytes(1, from, to) => reader.resource_metrics(from, to)?,
            Field::Varint(1, _) | Field::Fixed64(1, _) | Field::Fixed32(1) => {
                return Err(request.malformed("resource_metrics has the wrong type"));
            }
            _ => {} // A field of a later version.
        }
    }
    Ok(reader.finish())
}

impl Reader<'_> {
    fn finish(self) -> Decoded {
        let labels: Arc<dyn LabelSource> = Arc::new(OtlpLabels {
            body: self.body.clone(),
            config: self.otlp.config.clone(),
            resources: self.resources,
            metrics: self.metrics,
            places: self.places,
            check: self.check,
        });
        let mut batch = WriteBatch { labels, ..self.batch };
        if batch.start_times.iter().all(|start| start.0 == 0) {
            batch.start_times.clear();
        }
        if batch.histogram_start_times.iter().all(|start| start.0 == 0) {
            batch.histogram_start_times.clear();
        }
        Decoded {
            batch,
            rejections: self.rejections,
        }
    }

    fn resource_metrics(&mut self, from: usize, to: usize) -> Result<(), DecodeError> {
        let body = self.body;
        let (mut resource, mut scopes) = ((from, from), 0);
        let mut cursor = Cursor::new(body, from, to);
        while let Some(field) = cursor.next()? {
            match field {
                Field::Bytes(1, from, to) => resource = (from, to),
                Field::Bytes(2, ..) => scopes += 1,
                _ => {}
            }
        }
        if scopes == 0 {
            return Ok(());
        }
        let index = self.resource(resource, Scope::default())?;
        self.span = None;
        let mut cursor = Cursor::new(body, from, to);
        while let Some(field) = cursor.next()? {
            if let Field::Bytes(2, from, to) = field {
                self.scope_metrics(from, to, index, resource)?;
            }
        }
        self.target_info(index)
    }

    /// Reads a resource (and the scope, when scopes are promoted) into the table.
    fn resource(&mut self, at: (usize, usize), scope: Scope) -> Result<u32, DecodeError> {
        let mut whole = [0; 48];
        for (place, (from, to)) in whole
            .as_chunks_mut::<16>()
            .0
            .iter_mut()
            .zip([at, scope.scope, scope.schema_url])
        {
            *place = xxh3_128_with_seed(&self.body[from..to], self.seed).to_le_bytes();
        }
        let resource = Resource::read(
            self.body,
            at,
            scope,
            xxh3_128_with_seed(&whole, self.seed),
            &self.otlp.config,
        )?;
        self.resources.push(resource);
        Ok(self.resources.len() as u32 - 1)
    }

    fn scope_metrics(
        &mut self,
        from: usize,
        to: usize,
        mut resource: u32,
        resource_at: (usize, usize),
    ) -> Result<(), DecodeError> {
        let body = self.body;
        if self.otlp.config.promote_scope_metadata {
            let mut scope = Scope::default();
            let mut cursor = Cursor::new(body, from, to);
            while let Some(field) = cursor.next()? {
                match field {
                    Field::Bytes(1, from, to) => scope.scope = (from, to),
                    Field::Bytes(3, from, to) => scope.schema_url = (from, to),
                    _ => {}
                }
            }
            resource = self.resource(resource_at, scope)?;
        }
        let mut cursor = Cursor::new(body, from, to);
        while let Some(field) = cursor.next()? {
            if let Field::Bytes(2, from, to) = field {
                self.metric(from, to, resource)?;
            }
        }
        Ok(())
    }

    fn metric(&mut self, from: usize, to: usize, resource: u32) -> Result<(), DecodeError> {
        let body = self.body;
        let mut cursor = Cursor::new(body, from, to);
        let (mut name, mut unit, mut description, mut data) = ((from, from), (from, from), (from, from), None);
        while let Some(field) = cursor.next()? {
            match field {
                Field::Bytes(1, from, to) => name = (from, to),
                Field::Bytes(2, from, to) => description = (from, to),
                Field::Bytes(3, from, to) => unit = (from, to),
                Field::Bytes(number @ (5 | 7 | 9 | 10 | 11), from, to) => data = Some((number, from, to)),
                _ => {}
            }
        }
        let Some((number, data_from, data_to)) = data else {
            let shown = self.text(name);
            return self.refuse(0, shown, None, "the metric has no data of a known kind".to_owned());
        };
        let mut cursor = Cursor::new(body, data_from, data_to);
        let (mut temporality, mut monotonic, mut many) = (0, false, 0);
        while let Some(field) = cursor.next()? {
            match field {
                Field::Bytes(1, ..) => many += 1,
                Field::Varint(2, value) => temporality = value,
                Field::Varint(3, value) => monotonic = value != 0,
                _ => {}
            }
        }
        let kind = match number {
            5 => Kind::Gauge,
            7 if monotonic => Kind::Counter,
            7 => Kind::UpDown,
            11 => Kind::Summary,
            _ => Kind::Histogram,
        };
        let has_temporality = matches!(number, 7 | 9 | 10);
        if has_temporality && !matches!(temporality, super::DELTA | super::CUMULATIVE) {
            let shown = self.text(name);
            return self.refuse(
                many,
                shown,
                None,
                format!("the metric has aggregation temporality {temporality}, neither delta nor cumulative"),
            );
        }
        let hash = self.metric_hash(name, unit, kind, resource);
        self.metrics.push(Metric {
            name: narrow(name),
            unit: narrow(unit),
            kind,
            resource,
            delta: has_temporality && temporality == super::DELTA,
            hash,
        });
        self.tell(name, unit, description, kind, hash);
        let metric = self.metrics.len() as u32 - 1;
        let mut cursor = Cursor::new(body, data_from, data_to);
        while let Some(field) = cursor.next()? {
            let Field::Bytes(1, from, to) = field else { continue };
            match number {
                5 | 7 => points::number(self, metric, from, to)?,
                9 => points::histogram(self, metric, from, to)?,
                10 => points::exponential(self, metric, from, to)?,
                _ => points::summary(self, metric, from, to)?,
            }
        }
        Ok(())
    }

    fn metric_hash(&self, name: (usize, usize), unit: (usize, usize), kind: Kind, resource: u32) -> u128 {
        let mut whole = [0; 49];
        whole[..16].copy_from_slice(&self.resources[resource as usize].hash.to_le_bytes());
        let name = xxh3_128_with_seed(&self.body[name.0..name.1], self.seed);
        whole[16..32].copy_from_slice(&name.to_le_bytes());
        let unit = xxh3_128_with_seed(&self.body[unit.0..unit.1], self.seed);
        whole[32..48].copy_from_slice(&unit.to_le_bytes());
        whole[48] = kind as u8;
        xxh3_128_with_seed(&whole, self.seed)
    }

    /// Passes on what the sender says about a metric, unless that was said lately.
    fn tell(
        &mut self,
        name: (usize, usize),
        unit: (usize, usize),
        description: (usize, usize),
        kind: Kind,
        hash: u128,
    ) {
        let about = xxh3_128_with_seed(&self.body[description.0..description.1], hash as u64);
        if !self.otlp.is_news(about, self.now) {
            return;
        }
        let (name, unit) = (self.text(name), self.text(unit));
        let metadata = MetricMetadata {
            metric: self.otlp.config.translation_strategy.metric_name(&name, &unit, kind),
            kind: kind.of_metric(),
            help: self.text(description),
            unit,
        };
        self.batch.metadata.push(metadata);
    }

    fn text(&self, (from, to): (usize, usize)) -> String {
        String::from_utf8_lossy(&self.body[from..to]).into_owned()
    }

    /// Adds the samples of `target_info` for the time that the resource's points cover.
    fn target_info(&mut self, resource: u32) -> Result<(), DecodeError> {
        let Some((first, last)) = self.span else { return Ok(()) };
        let Some(hash) = self.resources[resource as usize].info_hash(self.seed) else {
            return Ok(());
        };
        let repeats = ((last - first).0 / TARGET_INFO_EVERY.0).min(TARGET_INFO_MAX);
        let from = self.batch.samples.len() as u32;
        for back in (0..=repeats).rev() {
            let at = last - Interval(TARGET_INFO_EVERY.0 * back);
            self.float(at, 1.0, Millis(0));
        }
        self.push(
            SeriesKey(hash),
            Place::TargetInfo { resource },
            from,
            self.batch.histograms.len() as u32,
        )
    }

    /// Returns the key of a point's series.
    pub(super) fn key(&self, point: Point, role: Role) -> SeriesKey {
        let mut whole = [0; 41];
        whole[..16].copy_from_slice(&self.metrics[point.metric as usize].hash.to_le_bytes());
        whole[16..32].copy_from_slice(&point.attributes.to_le_bytes());
        let (tag, bits) = role.bits();
        whole[32] = tag;
        whole[33..].copy_from_slice(&bits.to_le_bytes());
        SeriesKey(xxh3_128_with_seed(&whole, self.seed))
    }

    /// Returns the hash of a point's attributes, `None` of its place when they are `from..to` in one piece.
    pub(super) fn attributes_hash(&self, from: usize, to: usize) -> u128 {
        xxh3_128_with_seed(&self.body[from..to], self.seed)
    }

    /// Hashes attributes that do not stand together, as if they did.
    pub(super) fn gathered_hash(&self, from: usize, to: usize, number: u32) -> Result<u128, DecodeError> {
        let mut gathered = Vec::new();
        let mut cursor = Cursor::new(self.body, from, to);
        let mut start = cursor.at();
        while let Some(field) = cursor.next()? {
            if matches!(field, Field::Bytes(found, ..) if found == number) {
                gathered.extend_from_slice(&self.body[start..cursor.at()]);
            }
            start = cursor.at();
        }
        Ok(xxh3_128_with_seed(&gathered, self.seed))
    }

    /// Adds one float series of a point; a point without a recorded value ends it.
    pub(super) fn sample(
        &mut self,
        point: Point,
        role: Role,
        at: Millis,
        value: f64,
        start: Millis,
    ) -> Result<(), DecodeError> {
        let from = self.batch.samples.len() as u32;
        self.float(at, value, start);
        let key = self.key(point, role);
        self.push(key, place(point, role), from, self.batch.histograms.len() as u32)
    }

    /// Adds one native histogram.
    pub(super) fn native(
        &mut self,
        point: Point,
        sample: crate::model::HistogramSample,
        start: Millis,
    ) -> Result<(), DecodeError> {
        self.see(sample.at);
        let from = self.batch.histograms.len() as u32;
        self.batch.histograms.push(sample);
        self.batch.histogram_start_times.push(start);
        let key = self.key(point, Role::Native);
        self.push(key, place(point, Role::Native), self.batch.samples.len() as u32, from)
    }

    /// Adds an exemplar to the series that was added last.
    pub(super) fn exemplar(&mut self, exemplar: Exemplar) {
        self.batch.exemplars.push(exemplar);
        let end = self.batch.exemplars.len() as u32;
        if let Some(series) = self.batch.series.last_mut() {
            series.exemplars.end = end;
        }
    }

    fn float(&mut self, at: Millis, value: f64, start: Millis) {
        self.see(at);
        self.batch.samples.push(Sample { at, value });
        self.batch.start_times.push(start);
    }

    fn see(&mut self, at: Millis) {
        self.span = Some(
            self.span
                .map_or((at, at), |(first, last)| (first.min(at), last.max(at))),
        );
    }

    fn push(&mut self, key: SeriesKey, place: Place, samples: u32, histograms: u32) -> Result<(), DecodeError> {
        let max = self.limits.series_per_request_max;
        if self.batch.series.len() == max {
            return Err(DecodeError::over("series_per_request_max", max, "more were sent"));
        }
        let exemplars = self.batch.exemplars.len() as u32;
        self.batch.series.push(BatchSeries {
            key,
            samples: samples..self.batch.samples.len() as u32,
            histograms: histograms..self.batch.histograms.len() as u32,
            exemplars: exemplars..exemplars,
        });
        self.places.push(place);
        Ok(())
    }

    /// Notes a point that is left out.
    pub(super) fn refuse_point(&mut self, point: Point, at: Option<Millis>, reason: String) -> Result<(), DecodeError> {
        let shown = self.text(widen(self.metrics[point.metric as usize].name));
        self.refuse(1, shown, at, reason)
    }

    fn refuse(&mut self, points: u64, series: String, at: Option<Millis>, reason: String) -> Result<(), DecodeError> {
        self.rejections
            .add(points, || series, at, RefusalReason::InvalidValue(reason));
        Ok(())
    }

    /// Ends the series of a point whose value is "not recorded".
    pub(super) fn no_value(&mut self, point: Point, role: Role, at: Millis) -> Result<(), DecodeError> {
        self.sample(point, role, at, stale_marker(), Millis(0))
    }
}

fn place(point: Point, role: Role) -> Place {
    Place::Point {
        metric: point.metric,
        from: point.from,
        to: point.to,
        role,
    }
}

fn narrow((from, to): (usize, usize)) -> (u32, u32) {
    (from as u32, to as u32)
}

pub(super) fn widen((from, to): (u32, u32)) -> (usize, usize) {
    (from as usize, to as usize)
}

/// What was said about metrics lately, so that it is not said with every request.
#[derive(Debug, Default)]
pub(super) struct Told {
    hashes: HashMap<u128, ()>,
    since: Millis,
}

impl Told {
    /// Whether this was not said in the last ten minutes.
    pub(super) fn is_news(&mut self, hash: u128, now: Millis) -> bool {
        if now - self.since >= Interval::mins(10) || self.hashes.len() > 100_000 {
            self.hashes.clear();
            self.since = now;
        }
        self.hashes.insert(hash, ()).is_none()
    }
}
