//! The functions that Go's `text/template` always has. (`and` and `or` stop early, so that `exec` evaluates them.)

use super::fmt::{sprint, sprintf, sprintln};
use super::functions::{Functions, Kind};
use super::value::{Safe, Value};

const ANY: &[Kind] = &[Kind::Any];
const ANY_TWICE: &[Kind] = &[Kind::Any, Kind::Any];

/// Adds them all.
pub(super) fn register(functions: &mut Functions) {
    // `exec` evaluates the arguments of these two itself; the bodies serve a table that knows every name.
    functions.add_variadic("and", ANY_TWICE, |_, args| Ok(first_that(args, false)));
    functions.add_variadic("or", ANY_TWICE, |_, args| Ok(first_that(args, true)));
    functions.add("not", ANY, |_, args| Ok(Value::Bool(!args[0].is_true())));
    functions.add("len", ANY, |_, args| match args[0].len() {
        Some(length) => Ok(Value::from(length)),
        None if matches!(args[0], Value::Nil) => Err("len of nil pointer".to_owned()),
        None => Err(format!("len of type {}", args[0].type_name())),
    });
    functions.add_variadic("index", ANY_TWICE, |_, args| index(args));
    functions.add_variadic("slice", ANY_TWICE, |_, args| slice(args));
    functions.add_variadic("print", ANY, |_, args| Ok(Value::from(sprint(args))));
    functions.add_variadic("println", ANY, |_, args| Ok(Value::from(sprintln(args))));
    functions.add_variadic("printf", &[Kind::Str, Kind::Any], |_, args| {
        Ok(Value::from(sprintf(args[0].as_str().unwrap_or(""), &args[1..])))
    });
    functions.add_variadic("html", ANY, |_, args| Ok(Value::from(escape_html(&joined(args)))));
    functions.add_variadic("js", ANY, |_, args| Ok(Value::from(escape_js(&joined(args)))));
    functions.add_variadic("urlquery", ANY, |_, args| Ok(Value::from(escape_query(&joined(args)))));
    functions.add_variadic("call", ANY_TWICE, |_, args| match &args[0] {
        Value::Nil => Err("call of nil".to_owned()),
        other => Err(format!("non-function of type {}", other.type_name())),
    });
    functions.add_variadic("eq", ANY_TWICE, |_, args| equal(&args[0], &args[1..]).map(Value::Bool));
    functions.add("ne", ANY_TWICE, |_, args| {
        equal(&args[0], &args[1..]).map(|same| Value::Bool(!same))
    });
    functions.add("lt", ANY_TWICE, |_, args| less(&args[0], &args[1]).map(Value::Bool));
    functions.add("le", ANY_TWICE, |_, args| at_most(&args[0], &args[1]).map(Value::Bool));
    functions.add("gt", ANY_TWICE, |_, args| {
        at_most(&args[0], &args[1]).map(|not| Value::Bool(!not))
    });
    functions.add("ge", ANY_TWICE, |_, args| {
        less(&args[0], &args[1]).map(|not| Value::Bool(!not))
    });
}

fn first_that(args: &[Value], is: bool) -> Value {
    args.iter()
        .find(|arg| arg.is_true() == is)
        .or(args.last())
        .cloned()
        .unwrap_or_default()
}

/// Go's `evalArgs`: one string is taken as it is, anything else is printed.
fn joined(args: &[Value]) -> String {
    match args {
        [Value::Str(text) | Value::Safe(_, text)] => text.to_string(),
        _ => sprint(args),
    }
}

fn equal(first: &Value, others: &[Value]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        let same = match (first, other) {
            (Value::Nil, Value::Nil) => true,
            (Value::Nil, _) | (_, Value::Nil) => false,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Time(a), Value::Time(b)) => a == b,
            (Value::Str(a) | Value::Safe(_, a), Value::Str(b) | Value::Safe(_, b)) => a == b,
            (a, b) if is_basic(a) || is_basic(b) => return Err("incompatible types for comparison".to_owned()),
            (a, b) => {
                return Err(format!(
                    "non-comparable types {}: {a}, {}: {b}",
                    a.type_name(),
                    b.type_name()
                ));
            }
        };
        if same {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_basic(value: &Value) -> bool {
    matches!(
        value,
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_) | Value::Safe(..) | Value::Duration(_)
    )
}

fn less(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => Ok(a < b),
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::Str(a) | Value::Safe(_, a), Value::Str(b) | Value::Safe(_, b)) => Ok(a < b),
        (Value::Bool(_), Value::Bool(_)) => Err("invalid type for comparison".to_owned()),
        (a, b) if is_basic(a) && is_basic(b) => Err("incompatible types for comparison".to_owned()),
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn at_most(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(less(a, b)? || equal(a, std::slice::from_ref(b))?)
}

fn position(index: &Value, length: usize, at_end: bool) -> Result<usize, String> {
    let Value::Int(i) = index else {
        return Err(match index {
            Value::Nil => "cannot index slice/array with nil".to_owned(),
            other => format!("cannot index slice/array with type {}", other.type_name()),
        });
    };
    usize::try_from(*i)
        .ok()
        .filter(|at| *at < length || (at_end && *at == length))
        .ok_or_else(|| format!("index out of range: {i}"))
}

fn index(args: &[Value]) -> Result<Value, String> {
    let mut item = args[0].clone();
    if matches!(item, Value::Nil) {
        return Err("index of untyped nil".to_owned());
    }
    for index in &args[1..] {
        item = if let Some(elements) = item.elements() {
            elements[position(index, elements.len(), false)?].clone()
        } else if let Some(map) = item.as_map() {
            match index {
                Value::Str(key) | Value::Safe(_, key) => map.get(key),
                Value::Nil => return Err("value is nil; should be string".to_owned()),
                other => return Err(format!("value has type {}; should be string", other.type_name())),
            }
        } else if let Value::Str(text) = &item {
            Value::Int(i64::from(text.as_bytes()[position(index, text.len(), false)?]))
        } else if matches!(item, Value::Nil) {
            return Err("index of nil pointer".to_owned());
        } else {
            return Err(format!("can't index item of type {}", item.type_name()));
        };
    }
    Ok(item)
}

fn slice(args: &[Value]) -> Result<Value, String> {
    let (item, bounds) = (&args[0], &args[1..]);
    if matches!(item, Value::Nil) {
        return Err("slice of untyped nil".to_owned());
    }
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let length = match (item, item.elements()) {
        (Value::Str(_), _) if bounds.len() == 3 => return Err("cannot 3-index slice a string".to_owned()),
        (Value::Str(text), _) => text.len(),
        (_, Some(elements)) => elements.len(),
        _ => return Err(format!("can't slice item of type {}", item.type_name())),
    };
    let from = bounds.first().map_or(Ok(0), |bound| position(bound, length, true))?;
    let to = bounds
        .get(1)
        .map_or(Ok(length), |bound| position(bound, length, true))?;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match (item, item.elements()) {
        // Go cuts bytes; a cut inside a character shows the replacement character.
        (Value::Str(text), _) => Ok(Value::from(
            String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned(),
        )),
        (_, Some(elements)) => Ok(Value::from(elements[from..to].to_vec())),
        _ => Err(format!("can't slice item of type {}", item.type_name())),
    }
}

/// `template.HTMLEscapeString`.
pub(super) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// `template.JSEscapeString`.
pub(super) fn escape_js(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04X}", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}

/// Escapes a text for a URL's query, as Go's `url.QueryEscape`.
pub fn escape_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Marks a text as safe HTML.
pub(super) fn safe_html(text: &str) -> Value {
    Value::Safe(Safe::Html, text.into())
}
