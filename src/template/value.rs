//! Values as templates see them: Go's basic kinds, lists, maps, times, and records with fields and methods.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Zoned;

use super::fmt;

/// Anything a template can hold in its hand. Cheap to clone.
#[derive(Clone, Default)]
pub enum Value {
    /// Nothing: a nil interface. Prints as `<no value>`.
    #[default]
    Nil,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `float64`
    Float(f64),
    /// `string`
    Str(Arc<str>),
    /// A string that is known to be safe in some context of an HTML document.
    Safe(Safe, Arc<str>),
    /// A slice.
    List(Arc<Vec<Value>>),
    /// A map with string keys, iterated in their order.
    Map(Arc<Map>),
    /// `time.Time`
    Time(Arc<Zoned>),
    /// `time.Duration`, in nanoseconds.
    Duration(i64),
    /// A struct, or a named list or map type with methods.
    Record(Arc<Record>),
}

/// In which context a [`Value::Safe`] needs no escaping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safe {
    /// A fragment of HTML.
    Html,
    /// A URL.
    Url,
}

/// A map with string keys.
#[derive(Clone, Default)]
pub struct Map {
    /// The entries.
    pub entries: BTreeMap<String, Value>,
    /// Whether a missing key reads as the empty string (`map[string]string`) rather than as nothing.
    pub strings: bool,
}

type Method = Arc<dyn Fn(&[Value]) -> Result<Value, String> + Send + Sync>;

#[derive(Clone)]
enum Member {
    Field(Value),
    Method(Method),
}

/// What a record is besides its members.
#[derive(Clone)]
pub enum Shape {
    /// A struct: fields only.
    Struct,
    /// A list type.
    List(Vec<Value>),
    /// A map type.
    Map(Map),
}

/// A Go struct, or a named type with methods, as templates see one.
#[derive(Clone)]
pub struct Record {
    type_name: &'static str,
    members: Vec<(&'static str, Member)>,
    shape: Shape,
    text: Option<String>,
}

impl Record {
    /// Starts a record of the type that Go would name `type_name` (`template.Data`).
    pub fn new(type_name: &'static str) -> Record {
        Record {
            type_name,
            members: Vec::new(),
            shape: Shape::Struct,
            text: None,
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl Into<Value>) -> Record {
        self.members.push((name, Member::Field(value.into())));
        self
    }

    /// Adds a method.
    #[must_use]
    pub fn method(
        mut self,
        name: &'static str,
        body: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Record {
        self.members.push((name, Member::Method(Arc::new(body))));
        self
    }

    /// Makes it a list type.
    #[must_use]
    pub fn list(mut self, elements: Vec<Value>) -> Record {
        self.shape = Shape::List(elements);
        self
    }

    /// Makes it a map type.
    #[must_use]
    pub fn map(mut self, map: Map) -> Record {
        self.shape = Shape::Map(map);
        self
    }

    /// Gives it a `String` method of this result, which printing uses.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Record {
        self.text = Some(text.into());
        self
    }

    /// Returns the type's name.
    pub fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// Returns what the record is besides its members.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns its fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.members.iter().filter_map(|(name, member)| match member {
            Member::Field(value) => Some((*name, value)),
            Member::Method(_) => None,
        })
    }

    /// Returns what its `String` method gives, if it has one.
    pub fn as_text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Reads a field or calls a method; `None` when there is neither.
    pub(super) fn member(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        if let ("String", Some(text), true) = (name, &self.text, args.is_empty()) {
            return Some(Ok(Value::from(text.as_str())));
        }
        let (_, member) = self.members.iter().find(|(found, _)| *found == name)?;
        Some(match member {
            Member::Method(body) => body(args).map_err(|error| format!("error calling {name}: {error}")),
            Member::Field(value) if args.is_empty() => Ok(value.clone()),
            Member::Field(_) => Err(format!("{name} has arguments but cannot be invoked as function")),
        })
    }
}

impl Map {
    /// Builds a `map[string]string`.
    pub fn of_strings<K: Into<String>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> Map {
        Map {
            entries: pairs
                .into_iter()
                .map(|(name, value)| (name.into(), Value::from(value.as_ref())))
                .collect(),
            strings: true,
        }
    }

    /// Returns the entry, or what Go's zero value for it is.
    pub fn get(&self, key: &str) -> Value {
        match self.entries.get(key) {
            Some(value) => value.clone(),
            None if self.strings => Value::from(""),
            None => Value::Nil,
        }
    }
}

impl Value {
    /// Whether `if` takes it for true: not the zero value, not empty.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::Duration(nanos) => *nanos != 0,
            Value::Str(text) | Value::Safe(_, text) => !text.is_empty(),
            Value::Time(_) => true,
            Value::List(_) | Value::Map(_) => self.len() != Some(0),
            Value::Record(record) => match &record.shape {
                Shape::Struct => true,
                Shape::List(elements) => !elements.is_empty(),
                Shape::Map(map) => !map.entries.is_empty(),
            },
        }
    }

    /// Returns the length of what has one.
    pub fn len(&self) -> Option<usize> {
        match self {
            Value::Str(text) | Value::Safe(_, text) => Some(text.len()),
            _ => match (self.elements(), self.as_map()) {
                (Some(elements), _) => Some(elements.len()),
                (None, Some(map)) => Some(map.entries.len()),
                (None, None) => None,
            },
        }
    }

    /// Whether it has a length and that is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Returns the elements of a list or list type.
    pub fn elements(&self) -> Option<&[Value]> {
        match self {
            Value::List(elements) => Some(elements),
            Value::Record(record) => match &record.shape {
                Shape::List(elements) => Some(elements),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the entries of a map or map type.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(map) => Some(map),
            Value::Record(record) => match &record.shape {
                Shape::Map(map) => Some(map),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) | Value::Safe(_, text) => Some(text),
            _ => None,
        }
    }

    /// Returns the name that Go gives the value's type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Str(_) => "string",
            Value::Safe(Safe::Html, _) => "template.HTML",
            Value::Safe(Safe::Url, _) => "template.URL",
            Value::List(elements) if !elements.is_empty() && elements.iter().all(|e| matches!(e, Value::Str(_))) => {
                "[]string"
            }
            Value::List(_) => "[]interface {}",
            Value::Map(map) if map.strings => "map[string]string",
            Value::Map(_) => "map[string]interface {}",
            Value::Time(_) => "time.Time",
            Value::Duration(_) => "time.Duration",
            Value::Record(record) => record.type_name,
        }
    }
}

impl std::fmt::Display for Value {
    /// As Go's `fmt.Print` shows it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&fmt::sprint(std::slice::from_ref(self)))
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({self})", self.type_name())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Value {
        Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Str(Arc::from(value))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Str(Arc::from(value))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Value {
        Value::from(value.as_str())
    }
}

impl From<Vec<Value>> for Value {
    fn from(value: Vec<Value>) -> Value {
        Value::List(Arc::new(value))
    }
}

impl From<Map> for Value {
    fn from(value: Map) -> Value {
        Value::Map(Arc::new(value))
    }
}

impl From<Record> for Value {
    fn from(value: Record) -> Value {
        Value::Record(Arc::new(value))
    }
}

impl From<Zoned> for Value {
    fn from(value: Zoned) -> Value {
        Value::Time(Arc::new(value))
    }
}
