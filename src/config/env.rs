//! Environment variables over the file: every scalar key as `CAMPANILE_` and its path in capitals.
//!
//! `storage: {retention: 30d}` is `CAMPANILE_STORAGE_RETENTION=30d`. The value is read as YAML, so that numbers and durations
//! are written as in the file.

use serde_yaml::{Mapping, Value};

/// The prefix of all variables.
const PREFIX: &str = "CAMPANILE_";

/// Every scalar key, as its path. A test reads each of them into a `Config`.
pub(crate) const SCALARS: &[&[&str]] = &[
    &["listen"],
    &["data_dir"],
    &["external_url"],
    &["evaluation_interval"],
    &["eager_cpu_share"],
    &["alertmanager"],
    &["query", "subquery_step"],
    &["query", "lookback"],
    &["storage", "retention"],
    &["storage", "retention_size"],
    &["storage", "out_of_order_window"],
    &["storage", "durability"],
    &["agent", "enabled"],
    &["agent", "interval"],
];

/// A variable that sets a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    /// Its full name, for messages.
    pub(crate) variable: String,
    /// The key's path.
    pub(crate) path: Vec<String>,
    /// The text.
    pub(crate) value: String,
}

/// Picks the variables that name a key, in the order of [`SCALARS`]. Others with our prefix are left alone: orchestrators
/// set variables such as `CAMPANILE_SERVICE_HOST` by themselves.
pub(crate) fn overrides(variables: &[(String, String)]) -> Vec<Override> {
    let scalars = SCALARS.iter().copied();
    scalars
        .filter_map(|path| {
            let variable = format!("{PREFIX}{}", path.join("_").to_uppercase());
            let (_, value) = variables.iter().find(|(name, _)| *name == variable)?;
            let path = path.iter().map(|part| (*part).to_owned()).collect();
            Some(Override {
                variable,
                path,
                value: value.clone(),
            })
        })
        .collect()
}

/// Sets a key in a document.
///
/// # Errors
/// A text when the value is no YAML scalar, or the path runs into something that is no mapping.
pub(crate) fn apply(document: &mut Value, change: &Override) -> Result<(), String> {
    let value: Value = serde_yaml::from_str(&change.value).map_err(|error| format!("{}: {error}", change.variable))?;
    if value.is_mapping() || value.is_sequence() {
        return Err(format!(
            "{}: expected one value, not a list or mapping",
            change.variable
        ));
    }
    let mut here = document;
    for part in &change.path {
        if here.is_null() {
            *here = Value::Mapping(Mapping::new());
        }
        let Value::Mapping(mapping) = here else {
            return Err(format!(
                "{}: {} is not a mapping in the file",
                change.variable,
                change.path.join(".")
            ));
        };
        here = mapping.entry(Value::from(part.as_str())).or_insert(Value::Null);
    }
    *here = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_sets_its_key_and_leaves_the_rest() {
        let mut document: Value = serde_yaml::from_str("storage: {durability: fsync}\nlisten: 127.0.0.1:1").unwrap();
        let variables = [
            ("CAMPANILE_STORAGE_RETENTION", "9d"),
            ("CAMPANILE_SERVICE_HOST", "10.0.0.1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = overrides(&variables);
        assert_eq!(found.len(), 1);
        apply(&mut document, &found[0]).unwrap();
        let expected = "storage:\n  durability: fsync\n  retention: 9d\nlisten: 127.0.0.1:1\n";
        assert_eq!(serde_yaml::to_string(&document).unwrap(), expected);
    }

    #[test]
    fn a_list_is_no_scalar() {
        let change = Override {
            variable: "X".into(),
            path: vec!["listen".into()],
            value: "[1]".into(),
        };
        assert!(apply(&mut Value::Null, &change).is_err());
    }
}
