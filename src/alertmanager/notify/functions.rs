//! The functions that Alertmanager adds to Go's for notification templates.
//!
//! Those it shares with Prometheus (`toUpper`, `reReplaceAll`, `humanizeDuration`, …) come from the template engine.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use jiff::tz::TimeZone;

use crate::model::Millis;
use crate::template::{Functions, Kind, Map, Safe, Shape, Value, format_time, prometheus_functions, sprint};

/// What functions ask of whoever renders: the host of every notification's render.
#[derive(Clone, Debug, Default)]
pub(crate) struct NotifyHost {
    /// The time that `now` gives and `since` counts to.
    pub(crate) now: Millis,
    /// What `routeLabels` looks up.
    pub(crate) route_labels: BTreeMap<String, String>,
}

/// Returns Go's own functions and Alertmanager's.
pub(crate) fn functions() -> Functions {
    let mut functions = prometheus_functions();
    add_texts(&mut functions);
    add_lists(&mut functions);
    add_times(&mut functions);
    functions
}

fn add_texts(functions: &mut Functions) {
    const STR: &[Kind] = &[Kind::Str];
    functions.add("trimSpace", STR, |_, args| Ok(Value::from(text(args, 0).trim())));
    functions.add("join", &[Kind::Str, Kind::List], |_, args| {
        let items: Vec<String> = args[1].elements().unwrap_or_default().iter().map(show).collect();
        Ok(Value::from(items.join(text(args, 0))))
    });
    functions.add("safeUrl", STR, |_, args| {
        Ok(Value::Safe(Safe::Url, text(args, 0).into()))
    });
    functions.add("urlUnescape", STR, |_, args| {
        let plus = text(args, 0).replace('+', " ");
        unescape(&plus)
            .map(Value::from)
            .ok_or_else(|| format!("invalid URL escape in {:?}", text(args, 0)))
    });
    functions.add("base64encode", STR, |_, args| {
        Ok(Value::from(URL_SAFE.encode(text(args, 0))))
    });
    functions.add("base64decode", STR, |_, args| {
        let bytes = URL_SAFE
            .decode(text(args, 0))
            .map_err(|_| "illegal base64 data".to_owned())?;
        Ok(Value::from(String::from_utf8_lossy(&bytes).into_owned()))
    });
    functions.add("toJson", &[Kind::Any], |_, args| {
        Ok(Value::from(to_json(&args[0]).to_string()))
    });
    functions.add("routeLabels", STR, |call, args| {
        let labels = call.host::<NotifyHost>().map(|host| &host.route_labels);
        let value = labels.and_then(|labels| labels.get(text(args, 0)));
        Ok(Value::from(value.map(String::as_str).unwrap_or_default()))
    });
}

fn add_lists(functions: &mut Functions) {
    functions.add_variadic("stringSlice", &[Kind::Str], |_, args| Ok(Value::from(args.to_vec())));
    functions.add_variadic("list", &[Kind::Any], |_, args| Ok(Value::from(args.to_vec())));
    functions.add_variadic("append", &[Kind::List, Kind::Any], |_, args| {
        let mut items = args[0].elements().unwrap_or_default().to_vec();
        items.extend_from_slice(&args[1..]);
        Ok(Value::from(items))
    });
    functions.add_variadic("dict", &[Kind::Any], |_, args| {
        if !args.len().is_multiple_of(2) {
            return Err("dict expects an even number of arguments".to_owned());
        }
        let mut entries = BTreeMap::new();
        for pair in args.chunks(2) {
            let key = pair[0].as_str().ok_or("dict keys must be strings")?;
            entries.insert(key.to_owned(), pair[1].clone());
        }
        Ok(Value::from(Map {
            entries,
            strings: false,
        }))
    });
}

fn add_times(functions: &mut Functions) {
    functions.add("date", &[Kind::Str, Kind::Time], |_, args| match &args[1] {
        Value::Time(time) => Ok(Value::from(format_time(time, text(args, 0)))),
        _ => Err("date expects a time".to_owned()),
    });
    functions.add("tz", &[Kind::Str, Kind::Time], |_, args| {
        let name = text(args, 0);
        let zone = match name {
            "" | "UTC" => TimeZone::UTC,
            "Local" => TimeZone::system(),
            name => TimeZone::get(name).map_err(|_| format!("unknown time zone {name}"))?,
        };
        match &args[1] {
            Value::Time(time) => Ok(Value::from(time.with_time_zone(zone))),
            _ => Err("tz expects a time".to_owned()),
        }
    });
    functions.add("now", &[], |call, _| Ok(super::data::time(now(call)?)));
    functions.add("since", &[Kind::Time], |call, args| match &args[0] {
        Value::Time(time) => {
            let millis = now(call)?.0.saturating_sub(time.timestamp().as_millisecond());
            Ok(Value::Duration(millis.saturating_mul(1_000_000)))
        }
        _ => Err("since expects a time".to_owned()),
    });
}

fn now(call: &crate::template::Call<'_>) -> Result<Millis, String> {
    let host = call.host::<NotifyHost>();
    host.map(|host| host.now)
        .ok_or_else(|| "there is no time in this context".to_owned())
}

fn text(args: &[Value], at: usize) -> &str {
    args[at].as_str().unwrap_or("")
}

fn show(value: &Value) -> String {
    sprint(std::slice::from_ref(value))
}

/// Go's `url.QueryUnescape`, after the plus signs.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Go's `json.Marshal`: structs by the names that Alertmanager's JSON has, maps sorted.
pub(super) fn to_json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Nil => Json::Null,
        Value::Bool(bool) => Json::Bool(*bool),
        Value::Int(int) => Json::from(*int),
        Value::Float(float) => serde_json::Number::from_f64(*float).map_or(Json::Null, Json::Number),
        Value::Str(text) | Value::Safe(_, text) => Json::from(&**text),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Map(map) => map_json(map),
        Value::Time(time) => Json::from(time.timestamp().to_string()),
        Value::Duration(nanos) => Json::from(*nanos),
        Value::Record(record) => match record.shape() {
            Shape::Struct => {
                let fields = record.fields().map(|(name, value)| (json_name(name), to_json(value)));
                Json::Object(fields.collect())
            }
            Shape::List(items) => Json::Array(items.iter().map(to_json).collect()),
            Shape::Map(map) => map_json(map),
        },
    }
}

fn map_json(map: &Map) -> serde_json::Value {
    let entries = map.entries.iter().map(|(name, value)| (name.clone(), to_json(value)));
    serde_json::Value::Object(entries.collect())
}

/// `Status` → `status`, `GeneratorURL` → `generatorURL`, `NotificationReason` → `notification_reason`.
fn json_name(field: &str) -> String {
    match field {
        "NotificationReason" => "notification_reason".to_owned(),
        // Pairs have no JSON names of their own.
        "Name" | "Value" => field.to_owned(),
        _ => field[..1].to_ascii_lowercase() + &field[1..],
    }
}
