//! The table of functions that a template may call: names, parameter types, bodies.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::builtins;
use super::exec::Call;
use super::value::Value;

/// What a parameter takes. A constant fits where Go would convert it; other values must be of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Any,
    /// `string`
    Str,
    /// `int`
    Int,
    /// `float64`
    Float,
    /// `bool`
    Bool,
    /// A list.
    List,
    /// A map.
    Map,
    /// `time.Time`
    Time,
    /// A record of this type; nothing (nil) fits too when the name begins with `*`.
    Record(&'static str),
}

impl Kind {
    /// Returns Go's name of the type.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Any => "interface {}",
            Kind::Str => "string",
            Kind::Int => "int",
            Kind::Float => "float64",
            Kind::Bool => "bool",
            Kind::List => "[]interface {}",
            Kind::Map => "map[string]interface {}",
            Kind::Time => "time.Time",
            Kind::Record(name) => name,
        }
    }
}

type Body = Arc<dyn Fn(&Call<'_>, &[Value]) -> Result<Value, String> + Send + Sync>;

/// A function that templates may call.
#[derive(Clone)]
pub struct Function {
    pub(super) params: &'static [Kind],
    pub(super) variadic: bool,
    pub(super) body: Body,
}

/// Functions by name.
#[derive(Clone)]
pub struct Functions {
    table: BTreeMap<&'static str, Function>,
}

impl Default for Functions {
    fn default() -> Functions {
        Functions::new()
    }
}

impl Functions {
    /// Starts with the functions that Go's package always has: `and`, `eq`, `index`, `printf`, …
    pub fn new() -> Functions {
        let mut functions = Functions { table: BTreeMap::new() };
        builtins::register(&mut functions);
        functions
    }

    /// Adds a function whose arguments are of these types.
    pub fn add(
        &mut self,
        name: &'static str,
        params: &'static [Kind],
        body: impl Fn(&Call<'_>, &[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> &mut Functions {
        self.insert(name, params, false, Arc::new(body))
    }

    /// Adds a function whose last parameter may be given any number of times, or not at all.
    pub fn add_variadic(
        &mut self,
        name: &'static str,
        params: &'static [Kind],
        body: impl Fn(&Call<'_>, &[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> &mut Functions {
        assert!(!params.is_empty(), "{name} needs the type that is repeated");
        self.insert(name, params, true, Arc::new(body))
    }

    fn insert(&mut self, name: &'static str, params: &'static [Kind], variadic: bool, body: Body) -> &mut Functions {
        self.table.insert(name, Function { params, variadic, body });
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<&Function> {
        self.table.get(name)
    }

    /// Whether there is a function of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Returns all names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.table.keys().copied()
    }
}
