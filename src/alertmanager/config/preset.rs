//! Receivers that are a web hook with a shape of its own, read by a table: one row a kind, one entry a key.
//!
//! The rows live in [`super::super::notify::presets`]; here a row is turned into a reader that refuses unknown keys with the
//! place they stand at, fills in what `global` has, and then the defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use super::HttpConfig;
use super::Secret;
use super::scalar::{SecretSource, Text};
use crate::model::Interval;

/// What a key of a preset holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A text that is expanded as a template.
    Template,
    /// A secret; `<name>_file` may name a file instead.
    Secret,
    /// Yes or no.
    Bool,
    /// A whole number.
    Int,
    /// A length of time.
    Interval,
    /// Lists and mappings; each text inside is expanded as a template.
    Tree,
}

/// One key of a preset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// As written in the file.
    pub(crate) name: &'static str,
    /// What it holds.
    pub(crate) kind: Kind,
    /// The key of `global` that stands in for it.
    pub(crate) global: Option<&'static str>,
    /// What it is when neither is there.
    pub(crate) default: Option<&'static str>,
}

/// A value of a preset's key.
#[derive(Clone, Debug)]
pub(crate) enum FieldValue {
    /// Of [`Kind::Template`].
    Template(String),
    /// Of [`Kind::Secret`].
    Secret(SecretSource),
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Int`].
    Int(i64),
    /// Of [`Kind::Interval`].
    Interval(Interval),
    /// Of [`Kind::Tree`].
    Tree(serde_json::Value),
}

/// The keys of one kind of receiver.
pub(crate) trait Shape {
    /// The rows.
    const FIELDS: &'static [Field];
    /// Whether resolved alerts are told by default.
    const SEND_RESOLVED: bool;
}

/// One entry of `slack_configs` and the like, as read.
pub(crate) struct RawPreset<S> {
    pub(crate) send_resolved: bool,
    pub(crate) http_config: Option<HttpConfig>,
    pub(crate) timeout: Option<Interval>,
    pub(crate) values: BTreeMap<&'static str, FieldValue>,
    shape: PhantomData<S>,
}

impl<'de, S: Shape> Deserialize<'de> for RawPreset<S> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PresetVisitor(PhantomData))
    }
}

struct PresetVisitor<S>(PhantomData<S>);

impl<'de, S: Shape> Visitor<'de> for PresetVisitor<S> {
    type Value = RawPreset<S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawPreset<S>, A::Error> {
        let mut raw = RawPreset {
            send_resolved: S::SEND_RESOLVED,
            http_config: None,
            timeout: None,
            values: BTreeMap::new(),
            shape: PhantomData,
        };
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "send_resolved" => raw.send_resolved = map.next_value()?,
                "http_config" => raw.http_config = map.next_value()?,
                "timeout" => raw.timeout = map.next_value()?,
                _ => {
                    let (field, from_file) = find::<S>(&key).ok_or_else(|| unknown::<S, A::Error>(&key))?;
                    if raw.values.contains_key(field.name) {
                        let name = field.name;
                        return Err(serde::de::Error::custom(format!(
                            "at most one of {name} & {name}_file must be configured, once"
                        )));
                    }
                    let value = if from_file {
                        Some(FieldValue::Secret(SecretSource::File(map.next_value::<PathBuf>()?)))
                    } else {
                        read(field.kind, &mut map)?
                    };
                    raw.values.extend(value.map(|value| (field.name, value)));
                }
            }
        }
        Ok(raw)
    }
}

fn find<S: Shape>(key: &str) -> Option<(&'static Field, bool)> {
    let plain = S::FIELDS.iter().find(|field| field.name == key);
    let file = || {
        let name = key.strip_suffix("_file")?;
        S::FIELDS
            .iter()
            .find(|field| field.name == name && field.kind == Kind::Secret)
    };
    plain.map(|field| (field, false)).or_else(|| Some((file()?, true)))
}

/// The words of serde's own error, from which the nearest key is suggested.
fn unknown<S: Shape, E: serde::de::Error>(key: &str) -> E {
    let known: Vec<String> = S::FIELDS
        .iter()
        .map(|field| field.name)
        .chain(["send_resolved", "http_config", "timeout"])
        .map(|name| format!("`{name}`"))
        .collect();
    E::custom(format!("unknown field `{key}`, expected one of {}", known.join(", ")))
}

/// A key without a value (`channel:`) counts as absent.
fn read<'de, A: MapAccess<'de>>(kind: Kind, map: &mut A) -> Result<Option<FieldValue>, A::Error> {
    Ok(match kind {
        Kind::Template => map
            .next_value::<Option<Text>>()?
            .map(|text| FieldValue::Template(text.0)),
        Kind::Secret => map
            .next_value::<Option<Secret>>()?
            .map(|secret| FieldValue::Secret(SecretSource::Inline(secret))),
        Kind::Bool => map.next_value::<Option<bool>>()?.map(FieldValue::Bool),
        Kind::Int => map.next_value::<Option<i64>>()?.map(FieldValue::Int),
        Kind::Interval => map.next_value::<Option<Interval>>()?.map(FieldValue::Interval),
        Kind::Tree => map.next_value::<Option<serde_json::Value>>()?.map(FieldValue::Tree),
    })
}

impl<S: Shape> RawPreset<S> {
    /// Fills in what the entry leaves out: from `global`, then from the defaults. File names become relative to `base`.
    pub(crate) fn fill(
        mut self,
        base: &Path,
        global: &dyn Fn(&str) -> Option<FieldValue>,
    ) -> (BTreeMap<&'static str, FieldValue>, Option<HttpConfig>) {
        for field in S::FIELDS {
            if !self.values.contains_key(field.name) {
                let inherited = field.global.and_then(global);
                let value = inherited.or_else(|| field.default.map(|text| default_value(field.kind, text)));
                self.values.extend(value.map(|value| (field.name, value)));
            }
        }
        for value in self.values.values_mut() {
            if let FieldValue::Secret(source) = value {
                source.resolve(base);
            }
        }
        (self.values, self.http_config)
    }
}

fn default_value(kind: Kind, text: &str) -> FieldValue {
    match kind {
        Kind::Template => FieldValue::Template(text.to_owned()),
        Kind::Secret => FieldValue::Secret(SecretSource::Inline(Secret::new(text))),
        Kind::Bool => FieldValue::Bool(text == "true"),
        Kind::Int => FieldValue::Int(text.parse().expect("the table's defaults are well-formed")),
        Kind::Interval => FieldValue::Interval(text.parse().expect("the table's defaults are well-formed")),
        Kind::Tree => FieldValue::Tree(serde_json::from_str(text).expect("the table's defaults are well-formed")),
    }
}
