//! The points of OTLP's five kinds of metric, read in place.

use std::sync::Arc;

use prost::Message;

use super::delta::{Amount, Delta};
use super::labels::Role;
use super::proto;
use super::reader::{Kind, Point, Reader};
use crate::ingest::DecodeError;
use crate::ingest::wire::{Cursor, Field};
use crate::model::{Exemplar, FloatHistogram, HistogramSample, Labels, Millis, SCHEMA_MAX, SCHEMA_MIN, Span};

/// "The series ends here": the point has no value.
const NO_RECORDED_VALUE: u64 = 1;
/// The most characters in an exemplar's labels, all together (OpenMetrics).
const EXEMPLAR_CHARS_MAX: usize = 128;
/// The most buckets of one histogram: more are no measurement.
const BUCKETS_MAX: usize = 10_000;

/// Returns the number of the field that holds a point's attributes.
pub(super) fn attributes_field(kind: Kind, role: Role) -> u32 {
    match (kind, role) {
        // Exponential histograms have only native series; explicit ones that became native say so by their kind below.
        (Kind::Histogram, Role::Native) => 1,
        (Kind::Histogram, _) => 9,
        _ => 7,
    }
}

/// What all points share.
#[derive(Clone, Copy)]
struct Head {
    start: Millis,
    at: Millis,
    flags: u64,
    attributes: (usize, usize),
    scattered: bool,
}

impl Head {
    fn new(from: usize) -> Head {
        Head {
            start: Millis(0),
            at: Millis(0),
            flags: 0,
            attributes: (from, from),
            scattered: false,
        }
    }

    /// Notes an attribute whose field is `from..to`, key included.
    #[inline]
    fn attribute(&mut self, from: usize, to: usize) {
        let (first, last) = self.attributes;
        if first == last {
            self.attributes = (from, to);
        } else {
            self.scattered |= last != from;
            self.attributes.1 = to;
        }
    }
}

fn millis(nanos: u64) -> Millis {
    Millis((nanos / 1_000_000) as i64)
}

impl Reader<'_> {
    /// Returns the point's place with its attributes hashed.
    fn place(&self, metric: u32, from: usize, to: usize, head: &Head, number: u32) -> Result<Point, DecodeError> {
        let attributes = if head.scattered {
            self.gathered_hash(from, to, number)?
        } else {
            self.attributes_hash(head.attributes.0, head.attributes.1)
        };
        Ok(Point {
            metric,
            from: from as u32,
            to: to as u32,
            attributes,
        })
    }

    /// Adds a delta to its running total; what is wrong with it is noted.
    fn total(&mut self, point: Point, head: &Head, amount: Amount) -> Result<Option<(Millis, Amount)>, DecodeError> {
        let delta = Delta {
            start: head.start,
            at: head.at,
            amount,
        };
        match self.otlp.add_delta(self.key(point, Role::Native), delta, self.now) {
            Ok(total) => Ok(Some(total)),
            Err(reason) => self.refuse_point(point, Some(head.at), reason).map(|()| None),
        }
    }

    fn is_timeless(&mut self, point: Point, head: &Head) -> Result<bool, DecodeError> {
        if head.at == Millis(0) {
            self.refuse_point(point, None, "a point has no time_unix_nano".to_owned())?;
            return Ok(true);
        }
        Ok(false)
    }
}

/// Reads a point of a gauge or sum.
pub(super) fn number(reader: &mut Reader, metric: u32, from: usize, to: usize) -> Result<(), DecodeError> {
    let body = reader.body;
    let mut cursor = Cursor::new(body, from, to);
    let mut head = Head::new(from);
    let mut value = None;
    let mut exemplars = Vec::new();
    loop {
        let start = cursor.at();
        let Some(field) = cursor.next()? else { break };
        match field {
            Field::Fixed64(2, nanos) => head.start = millis(nanos),
            Field::Fixed64(3, nanos) => head.at = millis(nanos),
            Field::Fixed64(4, bits) => value = Some(f64::from_bits(bits)),
            Field::Fixed64(6, bits) => value = Some(integer(bits)),
            Field::Bytes(5, from, to) => exemplars.push((from, to)),
            Field::Bytes(7, ..) => head.attribute(start, cursor.at()),
            Field::Varint(8, flags) => head.flags = flags,
            Field::Varint(2..=7, _) | Field::Fixed32(2..=7) => {
                return Err(cursor.malformed("a field of a data point has the wrong type"));
            }
            _ => {} // A field of a later version.
        }
    }
    let point = reader.place(metric, from, to, &head, 7)?;
    if reader.is_timeless(point, &head)? {
        return Ok(());
    }
    if head.flags & NO_RECORDED_VALUE != 0 {
        return reader.no_value(point, Role::Plain, head.at);
    }
    let Some(mut value) = value else {
        return reader.refuse_point(
            point,
            Some(head.at),
            "a point has neither as_double nor as_int".to_owned(),
        );
    };
    if reader.metrics[metric as usize].delta {
        let Some((start, Amount::Number(total))) = reader.total(point, &head, Amount::Number(value))? else {
            return Ok(());
        };
        (head.start, value) = (start, total);
    }
    let start = if reader.metrics[metric as usize].kind == Kind::Counter {
        head.start
    } else {
        Millis(0)
    };
    reader.sample(point, Role::Plain, head.at, value, start)?;
    for (from, to) in exemplars {
        let exemplar = exemplar(&body[from..to]).map_err(|error| cursor.malformed(&error))?;
        reader.exemplar(exemplar);
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "integers beyond 2^53 lose their last bits: samples are doubles"
)]
fn integer(bits: u64) -> f64 {
    bits.cast_signed() as f64
}

/// Reads a point of a histogram with explicit bounds: it becomes `_bucket`, `_sum` and `_count`.
pub(super) fn histogram(reader: &mut Reader, metric: u32, from: usize, to: usize) -> Result<(), DecodeError> {
    let body = reader.body;
    let mut cursor = Cursor::new(body, from, to);
    let mut head = Head::new(from);
    let (mut count, mut sum, mut buckets, mut bounds) = (0.0, None, Vec::new(), Vec::new());
    let mut exemplars = Vec::new();
    loop {
        let start = cursor.at();
        let Some(field) = cursor.next()? else { break };
        match field {
            Field::Fixed64(2, nanos) => head.start = millis(nanos),
            Field::Fixed64(3, nanos) => head.at = millis(nanos),
            Field::Fixed64(4, bits) => count = bits as f64,
            Field::Fixed64(5, bits) => sum = Some(f64::from_bits(bits)),
            Field::Fixed64(6, bits) => buckets.push(bits as f64),
            Field::Fixed64(7, bits) => bounds.push(f64::from_bits(bits)),
            Field::Bytes(6, from, to) => buckets.extend(words(&body[from..to]).map(|bits| bits as f64)),
            Field::Bytes(7, from, to) => bounds.extend(words(&body[from..to]).map(f64::from_bits)),
            Field::Bytes(8, from, to) => exemplars.push((from, to)),
            Field::Bytes(9, ..) => head.attribute(start, cursor.at()),
            Field::Varint(10, flags) => head.flags = flags,
            Field::Varint(2..=9, _) | Field::Fixed32(2..=9) => {
                return Err(cursor.malformed("a field of a histogram point has the wrong type"));
            }
            _ => {} // Minimum and maximum, and fields of a later version.
        }
    }
    let point = reader.place(metric, from, to, &head, 9)?;
    if reader.is_timeless(point, &head)? {
        return Ok(());
    }
    if head.flags & NO_RECORDED_VALUE != 0 {
        for role in [Role::Count, Role::Sum, Role::Bucket(f64::INFINITY)] {
            reader.no_value(point, role, head.at)?;
        }
        return bounds
            .iter()
            .try_for_each(|bound| reader.no_value(point, Role::Bucket(*bound), head.at));
    }
    if let Err(reason) = fits(&buckets, &bounds) {
        return reader.refuse_point(point, Some(head.at), reason);
    }
    if reader.metrics[metric as usize].delta {
        let amount = Amount::Explicit {
            count,
            sum: sum.unwrap_or(0.0),
            bounds: bounds.clone(),
            buckets,
        };
        let Some((
            start,
            Amount::Explicit {
                count: all,
                sum: all_sum,
                buckets: each,
                ..
            },
        )) = reader.total(point, &head, amount)?
        else {
            return Ok(());
        };
        (head.start, count, buckets) = (start, all, each);
        sum = sum.map(|_| all_sum);
    }
    let mut traced: Vec<Exemplar> = Vec::new();
    for (from, to) in exemplars {
        traced.push(exemplar(&body[from..to]).map_err(|error| cursor.malformed(&error))?);
    }
    spread(
        reader,
        point,
        &head,
        Explicit {
            count,
            sum,
            buckets: &buckets,
            bounds: &bounds,
        },
        &traced,
    )
}

struct Explicit<'a> {
    count: f64,
    sum: Option<f64>,
    buckets: &'a [f64],
    bounds: &'a [f64],
}

/// Adds the series of one histogram with explicit bounds; an exemplar goes to the bucket of its value.
fn spread(
    reader: &mut Reader,
    point: Point,
    head: &Head,
    histogram: Explicit,
    exemplars: &[Exemplar],
) -> Result<(), DecodeError> {
    let mut below = 0.0;
    let mut last = f64::NEG_INFINITY;
    for (bound, bucket) in histogram.bounds.iter().zip(histogram.buckets) {
        below += bucket;
        reader.sample(point, Role::Bucket(*bound), head.at, below, head.start)?;
        let mine = exemplars.iter().filter(|one| one.value > last && one.value <= *bound);
        mine.for_each(|one| reader.exemplar(one.clone()));
        last = *bound;
    }
    if histogram.bounds.last() != Some(&f64::INFINITY) {
        reader.sample(point, Role::Bucket(f64::INFINITY), head.at, histogram.count, head.start)?;
        let mine = exemplars.iter().filter(|one| one.value > last);
        mine.for_each(|one| reader.exemplar(one.clone()));
    }
    if let Some(sum) = histogram.sum {
        reader.sample(point, Role::Sum, head.at, sum, head.start)?;
    }
    reader.sample(point, Role::Count, head.at, histogram.count, head.start)
}

fn fits(buckets: &[f64], bounds: &[f64]) -> Result<(), String> {
    let none = buckets.is_empty() && bounds.is_empty();
    if buckets.len() > BUCKETS_MAX {
        return Err(format!(
            "a histogram has {} buckets, at most {BUCKETS_MAX} are taken",
            buckets.len()
        ));
    }
    if !none && buckets.len() != bounds.len() + 1 {
        return Err(format!(
            "a histogram has {} buckets and {} bounds",
            buckets.len(),
            bounds.len()
        ));
    }
    if bounds.iter().any(|bound| bound.is_nan()) || bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("a histogram's bounds do not rise".to_owned());
    }
    Ok(())
}

/// Reads packed eight-byte words.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word))
}

/// Reads a point of an exponential histogram: it becomes one native histogram.
pub(super) fn exponential(reader: &mut Reader, metric: u32, from: usize, to: usize) -> Result<(), DecodeError> {
    let body = reader.body;
    let cursor = Cursor::new(body, from, to);
    let wire = proto::ExponentialHistogramDataPoint::decode(&body[from..to])
        .map_err(|error| cursor.malformed(&format!("an exponential histogram cannot be read: {error}")))?;
    let mut head = Head::new(from);
    (head.start, head.at, head.flags) = (
        millis(wire.start_time_unix_nano),
        millis(wire.time_unix_nano),
        u64::from(wire.flags),
    );
    head.scattered = true;
    let point = reader.place(metric, from, to, &head, 1)?;
    if reader.is_timeless(point, &head)? {
        return Ok(());
    }
    let delta = reader.metrics[metric as usize].delta;
    let mut histogram = match native(&wire) {
        Ok(histogram) => histogram,
        Err(reason) => return reader.refuse_point(point, Some(head.at), reason),
    };
    if head.flags & NO_RECORDED_VALUE != 0 {
        histogram.sum = crate::model::stale_marker();
    } else if delta {
        let Some((start, Amount::Native(total))) = reader.total(point, &head, Amount::Native(Box::new(histogram)))?
        else {
            return Ok(());
        };
        (head.start, histogram) = (start, *total);
    }
    let sample = HistogramSample {
        at: head.at,
        histogram: Arc::new(histogram),
    };
    reader.native(point, sample, head.start)?;
    for one in wire.exemplars {
        let exemplar = exemplar(&one.encode_to_vec()).map_err(|error| cursor.malformed(&error))?;
        reader.exemplar(exemplar);
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 lose their last bits, as in Prometheus"
)]
fn native(wire: &proto::ExponentialHistogramDataPoint) -> Result<FloatHistogram, String> {
    if wire.scale < SCHEMA_MIN {
        return Err(format!(
            "scale {} is coarser than {SCHEMA_MIN}, the coarsest that is stored",
            wire.scale
        ));
    }
    let fold = (wire.scale - SCHEMA_MAX).max(0);
    let (positive_spans, positive_buckets) = side(wire.positive.as_ref(), fold)?;
    let (negative_spans, negative_buckets) = side(wire.negative.as_ref(), fold)?;
    // Prometheus's width of the zero bucket where the sender names none.
    let zero_threshold = if wire.zero_threshold == 0.0 {
        1e-128
    } else {
        wire.zero_threshold
    };
    let mut histogram = FloatHistogram {
        schema: wire.scale.min(SCHEMA_MAX),
        zero_threshold,
        zero_count: wire.zero_count as f64,
        count: wire.count as f64,
        sum: wire.sum.unwrap_or(0.0),
        positive_spans,
        positive_buckets,
        negative_spans,
        negative_buckets,
        ..FloatHistogram::default()
    };
    histogram.validate().map_err(|error| error.to_string())?;
    histogram.compact();
    Ok(histogram)
}

/// Buckets of one side: OTLP's bucket `i` reaches from `base^i` up, ours up to `base^i`. `fold` halves the scale so often.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 lose their last bits, as in Prometheus"
)]
fn side(buckets: Option<&proto::Buckets>, fold: i32) -> Result<(Vec<Span>, Vec<f64>), String> {
    let Some(buckets) = buckets.filter(|buckets| !buckets.bucket_counts.is_empty()) else {
        return Ok((Vec::new(), Vec::new()));
    };
    if buckets.bucket_counts.len() > BUCKETS_MAX {
        let many = buckets.bucket_counts.len();
        return Err(format!(
            "a histogram has {many} buckets, at most {BUCKETS_MAX} are taken"
        ));
    }
    let fold = fold.min(31);
    let last = i64::from(buckets.offset) + buckets.bucket_counts.len() as i64;
    if i32::try_from(last).is_err() {
        return Err(format!("bucket {last} is beyond 32 bits"));
    }
    let first = (buckets.offset >> fold) + 1;
    let mut counts: Vec<f64> = Vec::new();
    for (i, count) in buckets.bucket_counts.iter().enumerate() {
        let index = ((buckets.offset + i as i32) >> fold) + 1 - first;
        counts.resize(index as usize + 1, 0.0);
        counts[index as usize] += *count as f64;
    }
    let span = Span {
        offset: first,
        length: counts.len() as u32,
    };
    Ok((vec![span], counts))
}

/// Reads a point of a summary.
pub(super) fn summary(reader: &mut Reader, metric: u32, from: usize, to: usize) -> Result<(), DecodeError> {
    let body = reader.body;
    let cursor = Cursor::new(body, from, to);
    let wire = proto::SummaryDataPoint::decode(&body[from..to])
        .map_err(|error| cursor.malformed(&format!("a summary cannot be read: {error}")))?;
    let mut head = Head::new(from);
    (head.start, head.at) = (millis(wire.start_time_unix_nano), millis(wire.time_unix_nano));
    head.scattered = true;
    let point = reader.place(metric, from, to, &head, 7)?;
    if reader.is_timeless(point, &head)? {
        return Ok(());
    }
    let ended = u64::from(wire.flags) & NO_RECORDED_VALUE != 0;
    let mut add = |role: Role, value: f64, start: Millis| {
        if ended {
            return reader.no_value(point, role, head.at);
        }
        reader.sample(point, role, head.at, value, start)
    };
    add(Role::Sum, wire.sum, head.start)?;
    add(Role::Count, wire.count as f64, head.start)?;
    for quantile in &wire.quantile_values {
        add(Role::Quantile(quantile.quantile), quantile.value, Millis(0))?;
    }
    Ok(())
}

/// Reads an exemplar; attributes come along as far as there is room.
fn exemplar(bytes: &[u8]) -> Result<Exemplar, String> {
    let wire = proto::Exemplar::decode(bytes).map_err(|error| format!("an exemplar cannot be read: {error}"))?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut labels = Vec::new();
    let mut chars = 0;
    let ids = [("trace_id", hex(&wire.trace_id)), ("span_id", hex(&wire.span_id))];
    let ids = ids.into_iter().map(|(name, id)| (name.to_owned(), id));
    let more = wire.filtered_attributes.into_iter();
    let more = more.map(|pair| (pair.key, pair.value.unwrap_or_default().text()));
    for (name, value) in ids
        .chain(more)
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
    {
        chars += name.chars().count() + value.chars().count();
        if chars > EXEMPLAR_CHARS_MAX {
            break;
        }
        labels.push((name, value));
    }
    let value = wire
        .as_double
        .or(wire.as_int.map(|value| integer(value.cast_unsigned())));
    Ok(Exemplar {
        labels: Labels::from_pairs(labels),
        value: value.unwrap_or(0.0),
        at: millis(wire.time_unix_nano),
    })
}
