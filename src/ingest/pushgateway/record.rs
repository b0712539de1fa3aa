//! The groups' log records, as protobuf.
//!
//! ```text
//! Record { 1: Pair*  2: sint64 pushed at  3: sint64 failed at  4: Family*  5: bool deleted }       Pair { 1: name  2: value }
//! Family { 1: name  2: kind  3: help  4: sint64 pushed at  5: Point* }   Point { 1: labels  2: fixed64 value bits  3: histogram }
//! ```
//! A record holds the whole group, so that the newest one alone says what it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::group::{Group, Grouping, Stored};
use crate::ingest::exposition::{Value, WireHistogram, WireLabel, native, wire_histogram};
use crate::model::{Labels, MetricKind, Millis};

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(message, repeated, tag = "1")]
    grouping: Vec<WireLabel>,
    #[prost(sint64, tag = "2")]
    pushed_at: i64,
    #[prost(sint64, tag = "3")]
    failed_at: i64,
    #[prost(message, repeated, tag = "4")]
    families: Vec<Family>,
    #[prost(bool, tag = "5")]
    deleted: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(string, tag = "3")]
    help: String,
    #[prost(sint64, tag = "4")]
    pushed_at: i64,
    #[prost(message, repeated, tag = "5")]
    points: Vec<Point>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Point {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(fixed64, tag = "2")]
    bits: u64,
    #[prost(message, optional, tag = "3")]
    histogram: Option<WireHistogram>,
}

/// Kinds by their number in records: the order is the format.
const KINDS: [MetricKind; 8] = [
    MetricKind::Unknown,
    MetricKind::Counter,
    MetricKind::Gauge,
    MetricKind::Histogram,
    MetricKind::GaugeHistogram,
    MetricKind::Summary,
    MetricKind::Info,
    MetricKind::StateSet,
];

fn pairs(grouping: &Grouping) -> Vec<WireLabel> {
    let pair = |(name, value): (&String, &String)| WireLabel {
        name: name.clone(),
        value: value.clone(),
    };
    grouping.0.iter().map(pair).collect()
}

/// Returns the record of a group's state.
pub(super) fn put(grouping: &Grouping, group: &Group) -> Bytes {
    let point = |(labels, value): &(Labels, Value)| Point {
        labels: labels.as_encoded().to_owned(),
        bits: match value {
            Value::Float(value) => value.to_bits(),
            Value::Histogram(_) => 0,
        },
        histogram: match value {
            Value::Float(_) => None,
            Value::Histogram(histogram) => Some(wire_histogram(histogram)),
        },
    };
    let family = |(name, stored): (&String, &Stored)| Family {
        name: name.clone(),
        kind: KINDS.iter().position(|kind| *kind == stored.kind).unwrap_or(0) as u32,
        help: stored.help.clone(),
        pushed_at: stored.pushed_at.0,
        points: stored.points.iter().map(point).collect(),
    };
    let record = Record {
        grouping: pairs(grouping),
        pushed_at: group.pushed_at.0,
        failed_at: group.failed_at.0,
        families: group.families.iter().map(family).collect(),
        deleted: false,
    };
    record.encode_to_vec().into()
}

/// Returns the record of a group's end.
pub(super) fn delete(grouping: &Grouping) -> Bytes {
    let record = Record {
        grouping: pairs(grouping),
        deleted: true,
        ..Record::default()
    };
    record.encode_to_vec().into()
}

/// Applies a record to the groups: the reverse of [`put`] and [`delete`].
///
/// # Errors
/// Why it cannot be read; the groups are as before then.
pub(super) fn apply(bytes: &[u8], groups: &mut BTreeMap<Grouping, Group>) -> Result<(), String> {
    let record = Record::decode(bytes).map_err(|error| error.to_string())?;
    let grouping = record.grouping.into_iter().map(|pair| (pair.name, pair.value));
    let grouping = Grouping(grouping.collect());
    if record.deleted {
        groups.remove(&grouping);
        return Ok(());
    }
    let mut group = Group {
        pushed_at: Millis(record.pushed_at),
        failed_at: Millis(record.failed_at),
        families: BTreeMap::new(),
    };
    for family in record.families {
        let kind = *KINDS.get(family.kind as usize).ok_or("an unknown kind of metric")?;
        let mut points = Vec::with_capacity(family.points.len());
        for point in family.points {
            let labels = Labels::from_encoded(&point.labels).ok_or("labels are not well formed")?;
            let value = match point.histogram {
                Some(wire) => Value::Histogram(Arc::new(native(wire, kind)?)),
                None => Value::Float(f64::from_bits(point.bits)),
            };
            points.push((labels, value));
        }
        let stored = Stored {
            kind,
            help: family.help,
            pushed_at: Millis(family.pushed_at),
            points,
        };
        group.families.insert(family.name, stored);
    }
    groups.insert(grouping, group);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn group(values: &[f64]) -> (Grouping, Group) {
        let points = values.iter().enumerate().map(|(index, value)| {
            let labels = Labels::from_pairs([("__name__", "a"), ("i", &index.to_string())]);
            (labels, Value::Float(*value))
        });
        let stored = Stored {
            kind: MetricKind::Gauge,
            help: "Some.".to_owned(),
            pushed_at: Millis(-5),
            points: points.collect(),
        };
        let group = Group {
            pushed_at: Millis(7),
            failed_at: Millis(3),
            families: BTreeMap::from([("a".to_owned(), stored)]),
        };
        (Grouping::from_path("job", "x/y").unwrap(), group)
    }

    proptest! {
        #[test]
        fn a_group_survives_its_record(values in proptest::collection::vec(any::<u64>(), 0..5)) {
            let values: Vec<f64> = values.into_iter().map(f64::from_bits).collect();
            let (grouping, group) = group(&values);
            let mut groups = BTreeMap::new();
            apply(&put(&grouping, &group), &mut groups).unwrap();
            let bits = |group: &Group| group.families["a"].points.iter().map(|(labels, value)| match value {
                Value::Float(value) => (labels.clone(), value.to_bits()),
                Value::Histogram(_) => panic!("a number"),
            }).collect::<Vec<_>>();
            prop_assert_eq!(bits(&groups[&grouping]), bits(&group));
            prop_assert_eq!(groups[&grouping].pushed_at, Millis(7));
            apply(&delete(&grouping), &mut groups).unwrap();
            prop_assert!(groups.is_empty());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = apply(&bytes, &mut BTreeMap::new());
        }
    }

    #[test]
    fn the_format_is_pinned() {
        let (grouping, group) = group(&[1.5]);
        let hex: String = put(&grouping, &group)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "0a0a0a036a6f6212036a6f620a060a017812017910\
             0e1806222a0a016110021a05536f6d652e20092a1a\
             0a0f085f5f6e616d655f5f01610169013011000000000000f83f"
        );
    }
}
