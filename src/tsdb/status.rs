//! What the store says about itself: `/api/v1/status/tsdb`, in Prometheus's words.

use serde::Serialize;

use super::head::Head;

/// Head and cardinality.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TsdbStatus {
    /// About the head.
    pub head_stats: HeadStats,
    /// The metrics with the most series.
    pub series_count_by_metric_name: Vec<Count>,
    /// The labels with the most values.
    pub label_value_count_by_label_name: Vec<Count>,
    /// The labels whose values take the most memory, in bytes.
    pub memory_in_bytes_by_label_name: Vec<Count>,
    /// The label pairs with the most series, as `name=value`.
    pub series_count_by_label_value_pair: Vec<Count>,
    /// Blocks that are lost and places in blocks that are damaged, in words; empty when all is well.
    pub damage: Vec<String>,
}

/// The head in numbers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadStats {
    /// Series in the head.
    pub num_series: u64,
    /// Distinct label pairs.
    pub num_label_pairs: u64,
    /// Chunks in memory.
    pub chunk_count: u64,
    /// The oldest sample's time, in milliseconds; `i64::MAX` while there is none.
    pub min_time: i64,
    /// The newest sample's time, in milliseconds; `i64::MIN` while there is none.
    pub max_time: i64,
}

/// A name with a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// What is counted.
    pub name: String,
    /// How much of it there is.
    pub value: u64,
}

/// Keeps the `limit` largest, largest first, by name where they are equal.
fn top(mut counts: Vec<Count>, limit: usize) -> Vec<Count> {
    counts.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
    counts.truncate(limit);
    counts
}

/// Counts the head's series and labels; each list has `limit` entries at most.
pub(crate) fn status(head: &Head, damage: Vec<String>, limit: usize) -> TsdbStatus {
    let table = head.table.read();
    let range = head.range();
    let (mut metrics, mut values, mut memory, mut pairs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut num_label_pairs = 0;
    for name in table.postings.names() {
        let (mut count, mut bytes) = (0, 0);
        for (value, series) in table.postings.values(name) {
            count += 1;
            bytes += value.len() as u64 * series.len();
            let pair = Count {
                name: format!("{name}={value}"),
                value: series.len(),
            };
            if name == crate::model::METRIC_NAME {
                metrics.push(Count {
                    name: value.to_owned(),
                    value: series.len(),
                });
            }
            pairs.push(pair);
            if pairs.len() > 64 * limit.max(16) {
                pairs = top(pairs, limit); // Millions of pairs need not be in memory at once.
            }
        }
        num_label_pairs += count;
        values.push(Count {
            name: name.to_owned(),
            value: count,
        });
        memory.push(Count {
            name: name.to_owned(),
            value: bytes,
        });
    }
    TsdbStatus {
        head_stats: HeadStats {
            num_series: table.len() as u64,
            num_label_pairs,
            chunk_count: table.iter().map(|series| series.chunks() as u64).sum(),
            min_time: range.map_or(i64::MAX, |range| range.min.0),
            max_time: range.map_or(i64::MIN, |range| range.max.0),
        },
        series_count_by_metric_name: top(metrics, limit),
        label_value_count_by_label_name: top(values, limit),
        memory_in_bytes_by_label_name: top(memory, limit),
        series_count_by_label_value_pair: top(pairs, limit),
        damage,
    }
}
