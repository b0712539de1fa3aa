//! The functions that Prometheus adds for alert annotations and labels, to the last digit.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use jiff::tz::TimeZone;
use regex::Regex;

use super::builtins::{escape_query, safe_html};
use super::exec::Call;
use super::fmt::sprintf;
use super::functions::{Functions, Kind};
use super::value::{Map, Record, Value};
use crate::model::{Interval, Labels};

/// The type of one element of a query's result, as Go names it.
const SAMPLE: &str = "*template.sample";

/// One element of what the `query` function returns.
#[derive(Clone, Debug, PartialEq)]
pub struct QuerySample {
    /// Its labels, the metric's name among them.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

type Query = dyn Fn(&str) -> Result<Vec<QuerySample>, String> + Send + Sync;

/// What the functions ask of the server: the [`super::Host`] of every render that uses them.
#[derive(Clone)]
pub struct QueryHost {
    /// Evaluates an instant query at the rule's evaluation time.
    pub query: Arc<Query>,
    /// The evaluation time in seconds.
    pub now_secs: f64,
    /// The address under which people reach the server.
    pub external_url: String,
}

impl From<QuerySample> for Value {
    fn from(sample: QuerySample) -> Value {
        Value::from(
            Record::new(SAMPLE)
                .field("Labels", Map::of_strings(sample.labels.iter()))
                .field("Value", sample.value),
        )
    }
}

fn host<'a>(call: &'a Call<'_>) -> Result<&'a QueryHost, String> {
    call.host()
        .ok_or_else(|| "there is no server to ask in this context".to_owned())
}

/// Returns Go's own functions and Prometheus's.
pub fn prometheus_functions() -> Functions {
    let mut functions = Functions::new();
    add_queries(&mut functions);
    add_numbers(&mut functions);
    add_texts(&mut functions);
    functions
}

fn add_queries(functions: &mut Functions) {
    functions.add("query", &[Kind::Str], |call, args| {
        let samples = (host(call)?.query)(text(args, 0))?;
        Ok(Value::from(samples.into_iter().map(Value::from).collect::<Vec<_>>()))
    });
    functions.add("first", &[Kind::List], |_, args| {
        let first = args[0].elements().and_then(<[Value]>::first).cloned();
        first.ok_or_else(|| "first() called on vector with no elements".to_owned())
    });
    functions.add("label", &[Kind::Str, Kind::Record(SAMPLE)], |_, args| {
        Ok(Value::from(label_of(&args[1], text(args, 0))?))
    });
    functions.add("value", &[Kind::Record(SAMPLE)], |_, args| member(&args[0], "Value"));
    functions.add("strvalue", &[Kind::Record(SAMPLE)], |_, args| {
        Ok(Value::from(label_of(&args[0], "__value__")?))
    });
    functions.add("sortByLabel", &[Kind::Str, Kind::List], |_, args| {
        let mut keyed = Vec::new();
        for element in args[1].elements().unwrap_or_default() {
            keyed.push((label_of(element, text(args, 0))?, element.clone()));
        }
        keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Value::from(
            keyed.into_iter().map(|(_, element)| element).collect::<Vec<_>>(),
        ))
    });
    functions.add_variadic("args", &[Kind::Any], |_, args| {
        let entries = args
            .iter()
            .enumerate()
            .map(|(i, arg)| (format!("arg{i}"), arg.clone()))
            .collect();
        Ok(Value::from(Map {
            entries,
            strings: false,
        }))
    });
    functions.add("tmpl", &[Kind::Str, Kind::Any], |call, args| {
        call.template(text(args, 0), args[1].clone())
            .map(|text| safe_html(&text))
    });
}

fn add_numbers(functions: &mut Functions) {
    const ANY: &[Kind] = &[Kind::Any];
    functions.add("humanize", ANY, |_, args| {
        Ok(Value::from(humanize(to_float(&args[0])?)))
    });
    functions.add("humanize1024", ANY, |_, args| {
        Ok(Value::from(humanize_1024(to_float(&args[0])?)))
    });
    functions.add("humanizeDuration", ANY, |_, args| {
        Ok(Value::from(humanize_duration(to_float(&args[0])?)))
    });
    functions.add("humanizePercentage", ANY, |_, args| {
        Ok(Value::from(sprintf(
            "%.4g%%",
            &[Value::Float(to_float(&args[0])? * 100.0)],
        )))
    });
    functions.add("humanizeTimestamp", ANY, |_, args| {
        let seconds = to_float(&args[0])?;
        if !seconds.is_finite() {
            return Ok(Value::from(four_digits(seconds, "")));
        }
        Ok(Value::from(to_time(seconds)?.to_string()))
    });
    functions.add("toTime", ANY, |_, args| to_time(to_float(&args[0])?));
    functions.add("toDuration", ANY, |_, args| {
        #[expect(clippy::cast_possible_truncation, reason = "saturates, as a duration should")]
        Ok(Value::Duration((to_float(&args[0])? * 1e9) as i64))
    });
    functions.add("parseDuration", &[Kind::Str], |_, args| {
        let interval = Interval::from_str(text(args, 0))
            .map_err(|_| format!("not a valid duration string: {}", super::quote(text(args, 0), false)))?;
        Ok(Value::Float(interval.as_secs_f64()))
    });
    functions.add("now", &[], |call, _| Ok(Value::Float(host(call)?.now_secs)));
}

fn add_texts(functions: &mut Functions) {
    const STR: &[Kind] = &[Kind::Str];
    functions.add("title", STR, |_, args| Ok(Value::from(title(text(args, 0)))));
    functions.add("toUpper", STR, |_, args| Ok(Value::from(text(args, 0).to_uppercase())));
    functions.add("toLower", STR, |_, args| Ok(Value::from(text(args, 0).to_lowercase())));
    functions.add("match", &[Kind::Str, Kind::Str], |_, args| {
        Ok(Value::Bool(regex(text(args, 0))?.is_match(text(args, 1))))
    });
    functions.add("reReplaceAll", &[Kind::Str, Kind::Str, Kind::Str], |_, args| {
        let replaced = regex(text(args, 0))?.replace_all(text(args, 2), text(args, 1));
        Ok(Value::from(replaced.into_owned()))
    });
    functions.add("stripPort", STR, |_, args| {
        let address = text(args, 0);
        Ok(Value::from(split_host_port(address).map_or(address, |(host, _)| host)))
    });
    functions.add("stripDomain", STR, |_, args| {
        Ok(Value::from(strip_domain(text(args, 0))))
    });
    functions.add("graphLink", STR, |_, args| {
        Ok(Value::from(expression_link(text(args, 0), 0)))
    });
    functions.add("tableLink", STR, |_, args| {
        Ok(Value::from(expression_link(text(args, 0), 1)))
    });
    functions.add("urlQueryEscape", STR, |_, args| {
        Ok(Value::from(escape_query(text(args, 0))))
    });
    functions.add("safeHtml", STR, |_, args| Ok(safe_html(text(args, 0))));
    functions.add("externalURL", &[], |call, _| Ok(Value::from(&host(call)?.external_url)));
    functions.add("pathPrefix", &[], |call, _| {
        let path = url::Url::parse(&host(call)?.external_url).map(|url| url.path().trim_end_matches('/').to_owned());
        Ok(Value::from(path.unwrap_or_default()))
    });
}

fn text(args: &[Value], at: usize) -> &str {
    args[at].as_str().unwrap_or("")
}

fn member(sample: &Value, name: &str) -> Result<Value, String> {
    match sample {
        Value::Record(record) => record
            .member(name, &[])
            .unwrap_or_else(|| Err(format!("no field {name} in {}", record.type_name()))),
        Value::Nil => Err("nil pointer dereference".to_owned()),
        other => Err(format!("{} is no sample", other.type_name())),
    }
}

fn label_of(sample: &Value, name: &str) -> Result<String, String> {
    let labels = member(sample, "Labels")?;
    let value = labels.as_map().map(|map| map.get(name)).unwrap_or_default();
    Ok(value.as_str().unwrap_or("").to_owned())
}

fn to_float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Float(float) => Ok(*float),
        #[expect(clippy::cast_precision_loss, reason = "Go converts to float64 as well")]
        Value::Int(int) => Ok(*int as f64),
        #[expect(clippy::cast_precision_loss, reason = "Go converts to float64 as well")]
        Value::Duration(nanos) => Ok(*nanos as f64 / 1e9),
        Value::Str(text) | Value::Safe(_, text) => text.parse().map_err(|_| {
            format!(
                "strconv.ParseFloat: parsing {}: invalid syntax",
                super::quote(text, false)
            )
        }),
        Value::Nil => Err("can't convert <nil> to float".to_owned()),
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

fn four_digits(value: f64, unit: &str) -> String {
    sprintf("%.4g", &[Value::Float(value)]) + unit
}

fn humanize(mut value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return four_digits(value, "");
    }
    let mut prefix = "";
    if value.abs() >= 1.0 {
        for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if value.abs() < 1000.0 {
                break;
            }
            prefix = next;
            value /= 1000.0;
        }
        return four_digits(value, prefix);
    }
    (value, prefix) = below_one(value);
    four_digits(value, prefix)
}

/// Scales a value below one up to a unit that makes it at least one.
fn below_one(mut value: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    (value, prefix)
}

fn humanize_1024(mut value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return four_digits(value, "");
    }
    let mut prefix = "";
    for next in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
        if value.abs() < 1024.0 {
            break;
        }
        prefix = next;
        value /= 1024.0;
    }
    four_digits(value, prefix)
}

fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return four_digits(value, "");
    }
    if value == 0.0 {
        return four_digits(value, "s");
    }
    if value.abs() < 1.0 {
        let (value, prefix) = below_one(value);
        return four_digits(value, prefix) + "s";
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let magnitude = value.abs();
    #[expect(clippy::cast_possible_truncation, reason = "saturates: no duration is that long")]
    let whole = magnitude as i64;
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3600 % 24, whole / 86_400);
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        sign.to_owned() + &four_digits(magnitude, "s")
    }
}

fn to_time(seconds: f64) -> Result<Value, String> {
    let nanos = seconds * 1e9;
    if !nanos.is_finite() {
        return Err("value is NaN or Inf".to_owned());
    }
    if nanos > i64::MAX as f64 || nanos < i64::MIN as f64 {
        let shown = super::format_float(seconds, 'g', None);
        return Err(format!(
            "{shown} cannot be represented as a nanoseconds timestamp since it overflows int64"
        ));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    let millis = nanos as i64 / 1_000_000;
    let timestamp = jiff::Timestamp::from_millisecond(millis).map_err(|error| error.to_string())?;
    Ok(Value::from(timestamp.to_zoned(TimeZone::UTC)))
}

/// Go's `strings.Title`: a letter after something that is none becomes a capital.
fn title(text: &str) -> String {
    let mut before_is_letter = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if before_is_letter {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        before_is_letter = c.is_alphanumeric() || c == '_' || (!c.is_ascii() && !c.is_whitespace());
    }
    out
}

fn regex(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| {
            let reason = error.to_string();
            let reason = reason.rsplit("error: ").next().unwrap_or_default().to_owned();
            format!("error parsing regexp: {reason}: `{pattern}`")
        })
}

/// Go's `net.SplitHostPort`.
fn split_host_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = address.rsplit_once(':')?;
    if let Some(inside) = host.strip_prefix('[') {
        return inside
            .strip_suffix(']')
            .filter(|host| !host.contains(['[', ']']))
            .map(|host| (host, port));
    }
    (!host.contains([':', '[', ']']) && !port.contains(['[', ']'])).then_some((host, port))
}

fn strip_domain(address: &str) -> String {
    let (host, port) = split_host_port(address).unwrap_or((address, ""));
    if host.parse::<IpAddr>().is_ok() {
        return address.to_owned();
    }
    let host = host.split('.').next().unwrap_or(host);
    match port {
        "" => host.to_owned(),
        port if host.contains(':') => format!("[{host}]:{port}"),
        port => format!("{host}:{port}"),
    }
}

fn expression_link(expression: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", escape_query(expression))
}
