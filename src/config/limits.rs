//! The `limits` section: one flat map of names, each owned by the module that enforces it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_yaml::{Mapping, Value};

use crate::alertmanager::AlertLimits;
use crate::http::Limits as HttpLimits;
use crate::ingest::IngestLimits;
use crate::model::yaml;
use crate::query::QueryOptions;

/// All limits that a configuration may set.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Of the HTTP door.
    pub http: HttpLimits,
    /// Of what is pushed.
    pub ingest: IngestLimits,
    /// Of queries.
    pub query: QueryLimits,
    /// Of the store.
    pub store: StoreLimits,
    /// Of alerts and silences.
    pub alerts: AlertLimits,
}

/// What one query may use. Going over one is an error that names it.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryLimits {
    /// Samples that one query may load. Default 50,000,000.
    pub query_samples: u64,
    /// Series that one query may select. Default 500,000.
    pub query_series: u64,
    /// Bytes of memory that one query may hold. Default 268,435,456 (256 MiB).
    pub query_memory_bytes: u64,
    /// How long one query may take. Default 30s.
    pub query_time: crate::model::Interval,
}

impl Default for QueryLimits {
    fn default() -> QueryLimits {
        let options = QueryOptions::default();
        QueryLimits {
            query_samples: options.samples_max,
            query_series: options.series_max,
            query_memory_bytes: options.memory_bytes_max,
            query_time: options.timeout,
        }
    }
}

/// What the store may hold.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreLimits {
    /// Series in the head; a new one beyond is refused, known ones go on. Default 5,000,000.
    pub active_series: usize,
}

impl Default for StoreLimits {
    fn default() -> StoreLimits {
        StoreLimits {
            active_series: 5_000_000,
        }
    }
}

impl Limits {
    /// Returns all limits by name, with their values as one would write them.
    ///
    /// # Panics
    /// Never: limits are numbers, switches and durations.
    pub fn table(&self) -> BTreeMap<String, String> {
        let parts = [
            serde_json::to_value(&self.http),
            serde_json::to_value(&self.ingest),
            serde_json::to_value(&self.query),
            serde_json::to_value(&self.store),
            serde_json::to_value(&self.alerts),
        ];
        let mut table = BTreeMap::new();
        for part in parts {
            let part = part.expect("limits are numbers, switches and durations");
            for (name, value) in part.as_object().into_iter().flatten() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                table.insert(name.clone(), text);
            }
        }
        table
    }
}

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Limits, D::Error> {
        let mut parts: [Mapping; 5] = Default::default();
        for (key, value) in Mapping::deserialize(deserializer)? {
            let name = key.as_str().unwrap_or_default().to_owned();
            let owner = parts
                .iter()
                .enumerate()
                .map(|(index, _)| index)
                .find(|index| knows(*index, &name));
            match owner {
                Some(index) => drop(parts[index].insert(key, value)),
                None => return Err(D::Error::custom(unknown(&name))),
            }
        }
        let [http, ingest, query, store, alerts] = parts;
        Ok(Limits {
            http: part(http)?,
            ingest: part(ingest)?,
            query: part(query)?,
            store: part(store)?,
            alerts: part(alerts)?,
        })
    }
}

fn part<T: DeserializeOwned, E: serde::de::Error>(mapping: Mapping) -> Result<T, E> {
    serde_yaml::from_value(Value::Mapping(mapping)).map_err(E::custom)
}

/// Whether the part at `index` has a limit of this name: a value that fits no limit is refused for its type, an unknown
/// name for itself.
fn knows(index: usize, name: &str) -> bool {
    let probe = || Mapping::from_iter([(Value::from(name), Value::Null)]);
    let error = match index {
        0 => part::<HttpLimits, serde_yaml::Error>(probe()).err(),
        1 => part::<IngestLimits, serde_yaml::Error>(probe()).err(),
        2 => part::<QueryLimits, serde_yaml::Error>(probe()).err(),
        3 => part::<StoreLimits, serde_yaml::Error>(probe()).err(),
        _ => part::<AlertLimits, serde_yaml::Error>(probe()).err(),
    };
    !error.is_some_and(|error| error.to_string().contains("unknown field"))
}

fn unknown(name: &str) -> String {
    let names = names();
    let hint = yaml::nearest(name, names.iter().map(String::as_str));
    let hint = hint.map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"));
    format!("unknown limit {name:?}{hint}; docs/limits.md lists them")
}

/// Returns the names of all limits.
pub(super) fn names() -> Vec<String> {
    let expected = |error: Option<serde_yaml::Error>| {
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        let list = text
            .split_once("expected ")
            .map_or(String::new(), |(_, list)| list.to_owned());
        list.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let probe = || Mapping::from_iter([(Value::from("?"), Value::Null)]);
    [
        expected(part::<HttpLimits, serde_yaml::Error>(probe()).err()),
        expected(part::<IngestLimits, serde_yaml::Error>(probe()).err()),
        expected(part::<QueryLimits, serde_yaml::Error>(probe()).err()),
        expected(part::<StoreLimits, serde_yaml::Error>(probe()).err()),
        expected(part::<AlertLimits, serde_yaml::Error>(probe()).err()),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_goes_to_its_owner() {
        let limits: Limits = serde_yaml::from_str("http_connections: 7\nquery_time: 5s\nactive_series: 9").unwrap();
        let found = (
            limits.http.http_connections,
            limits.query.query_time.0,
            limits.store.active_series,
        );
        assert_eq!(found, (7, 5_000, 9));
    }

    #[test]
    fn the_table_has_every_limit_as_one_would_write_it() {
        let table = Limits::default().table();
        assert_eq!(
            table.keys().cloned().collect::<std::collections::BTreeSet<_>>(),
            names().into_iter().collect()
        );
        assert_eq!((&*table["query_time"], &*table["active_series"]), ("30s", "5000000"));
    }

    #[test]
    fn an_unknown_limit_is_named_with_the_nearest() {
        let error = serde_yaml::from_str::<Limits>("query_tim: 5s").unwrap_err().to_string();
        assert!(
            error.contains("\"query_tim\"") && error.contains("\"query_time\""),
            "{error}"
        );
    }

    #[test]
    fn every_limit_stands_in_the_docs_with_its_name() {
        let page = include_str!("../../docs/limits.md");
        let missing: Vec<String> = names()
            .into_iter()
            .filter(|name| !page.contains(&format!("`{name}`")))
            .collect();
        assert!(
            missing.is_empty() && names().len() > 15,
            "docs/limits.md lacks {missing:?}"
        );
    }
}
