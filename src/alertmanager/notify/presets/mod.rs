//! Web hooks of somebody else's shape: one table of keys a service, and one function that builds its requests.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::super::config::PresetConfig;
use super::super::config::preset::{Field, FieldValue, Kind, Shape};
use super::data::Data;
use super::http::{Failure, Outgoing, Sender, describe};
use super::templates::Renderer;
use crate::io::http_client::HttpResponse;
use crate::model::Interval;

/// One kind of service.
pub(crate) struct Preset {
    /// `slack`, `pagerduty`, …
    pub(crate) kind: &'static str,
    /// Whether the settings of an entry hold together.
    pub(crate) check: fn(&PresetConfig) -> Result<(), String>,
    /// Builds the requests, to be sent in order.
    build: fn(&Message<'_>) -> Result<Vec<Outgoing>, Failure>,
    /// Whether a 2xx answer is a yes: some services say no inside.
    pub(crate) accept: fn(&HttpResponse) -> Result<(), Failure>,
}

impl std::fmt::Debug for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind)
    }
}

/// An entry's settings, rendered for one message.
struct Message<'a> {
    values: BTreeMap<&'static str, Rendered>,
    data: &'a Data,
}

enum Rendered {
    Text(String),
    Bool(bool),
    Int(i64),
    Interval(Interval),
    Tree(Value),
}

/// Builds the requests for one message.
///
/// # Errors
/// [`Failure`], when a template or a secret fails.
pub(crate) fn requests(
    config: &PresetConfig,
    data: &Data,
    renderer: &Renderer<'_>,
    sender: &Sender,
) -> Result<Vec<Outgoing>, Failure> {
    let mut values = BTreeMap::new();
    for (name, value) in &config.values {
        let failed = |reason| Failure::Permanent(format!("{name}: {reason}"));
        let rendered = match value {
            FieldValue::Template(text) => Rendered::Text(renderer.text(text).map_err(failed)?),
            FieldValue::Secret(source) => Rendered::Text(renderer.text(&sender.secret(source)?).map_err(failed)?),
            FieldValue::Bool(bool) => Rendered::Bool(*bool),
            FieldValue::Int(int) => Rendered::Int(*int),
            FieldValue::Interval(interval) => Rendered::Interval(*interval),
            FieldValue::Tree(tree) => Rendered::Tree(renderer.tree(tree).map_err(failed)?),
        };
        values.insert(*name, rendered);
    }
    (config.preset.build)(&Message { values, data })
}

impl Message<'_> {
    fn text(&self, name: &str) -> &str {
        match self.values.get(name) {
            Some(Rendered::Text(text)) => text,
            _ => "",
        }
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some(Rendered::Bool(true)))
    }

    fn int(&self, name: &str) -> Option<i64> {
        match self.values.get(name) {
            Some(Rendered::Int(int)) => Some(*int),
            _ => None,
        }
    }

    fn seconds(&self, name: &str) -> Option<i64> {
        match self.values.get(name) {
            Some(Rendered::Interval(interval)) => Some(interval.0 / 1000),
            _ => None,
        }
    }

    fn tree(&self, name: &str) -> Value {
        match self.values.get(name) {
            Some(Rendered::Tree(tree)) => tree.clone(),
            _ => Value::Null,
        }
    }

    /// Like `text`, cut to what the service takes.
    fn cut(&self, name: &str, chars_max: usize) -> String {
        cut(self.text(name), chars_max)
    }

    /// The group's key in a form that every service takes as a name: the same for all messages of the group.
    fn group_hash(&self) -> String {
        Sha256::digest(self.data.group_key.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A JSON object without its empty entries.
fn object(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    };
    let entries = entries.into_iter().filter(|(_, value)| !is_empty(value));
    Value::Object(entries.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn join(base: &str, path: &str) -> String {
    format!("{}/{path}", base.trim_end_matches('/'))
}

fn escape(segment: &str) -> String {
    url::form_urlencoded::byte_serialize(segment.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

const fn template(name: &'static str, default: &'static str) -> Field {
    Field {
        name,
        kind: Kind::Template,
        global: None,
        default: Some(default),
    }
}

const fn inherited(name: &'static str, global: &'static str, default: Option<&'static str>) -> Field {
    Field {
        name,
        kind: Kind::Template,
        global: Some(global),
        default,
    }
}

const fn secret(name: &'static str, global: Option<&'static str>) -> Field {
    Field {
        name,
        kind: Kind::Secret,
        global,
        default: None,
    }
}

const fn of(name: &'static str, kind: Kind, default: Option<&'static str>) -> Field {
    Field {
        name,
        kind,
        global: None,
        default,
    }
}

macro_rules! shape {
    ($(#[$doc:meta])* $shape:ident = $preset:ident($kind:literal, resolved: $resolved:literal, $check:expr, $build:expr, $accept:expr), [$($field:expr),* $(,)?]) => {
        $(#[$doc])*
        pub(crate) struct $shape;
        impl Shape for $shape {
            const FIELDS: &'static [Field] = &[$($field),*];
            const SEND_RESOLVED: bool = $resolved;
        }
        pub(crate) static $preset: Preset = Preset { kind: $kind, check: $check, build: $build, accept: $accept };
    };
}

fn accept_all(_answer: &HttpResponse) -> Result<(), Failure> {
    Ok(())
}

/// Slack's and Telegram's API say `"ok": false` with a 200.
fn accept_ok(answer: &HttpResponse) -> Result<(), Failure> {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match json.get("ok").and_then(Value::as_bool) {
        Some(false) => Err(Failure::Permanent(describe(answer))),
        _ => Ok(()),
    }
}

/// Refuses an entry that lacks one of these.
fn needs(config: &PresetConfig, names: &[&str]) -> Result<(), String> {
    for name in names {
        let missing = match config.values.get(name) {
            None => true,
            Some(FieldValue::Template(text)) => text.is_empty(),
            Some(_) => false,
        };
        if missing {
            return Err(format!("missing {name}"));
        }
    }
    Ok(())
}

mod chats;
mod pagers;

pub(crate) use chats::*;
pub(crate) use pagers::*;
