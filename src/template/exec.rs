//! Walking a template's tree: Go's `text/template/exec.go`, with limits.

use std::any::Any;
use std::fmt::{self, Write as _};

use super::functions::{Function, Kind};
use super::html::Escaper;
use super::literal::unquote;
use super::node::{Branch, BranchKind, Command, Node, Number, Operand, Pipe, Pos, Term, show_template};
use super::number::quote;
use super::parse::{Set, Tree};
use super::time;
use super::value::Value;

/// What a render may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most nodes visited.
    pub steps_max: u64,
    /// The most bytes printed.
    pub output_bytes_max: usize,
    /// How deep templates, blocks and parentheses may nest while running.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            steps_max: 2_000_000,
            output_bytes_max: 4 << 20,
            depth_max: 250,
        }
    }
}

/// How output is escaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Not at all: `text/template`.
    #[default]
    Text,
    /// For the place in an HTML document where it lands: `html/template`.
    Html,
}

/// What functions may ask of whoever renders, behind a type of the caller's own.
pub type Host<'a> = &'a (dyn Any + Send + Sync);

/// Everything a render needs besides the template.
pub struct Render<'a> {
    /// What `.` and `$` are.
    pub data: Value,
    /// What functions find by [`Call::host`].
    pub host: Host<'a>,
    /// Escaping.
    pub mode: Mode,
    /// Values of the variables declared by [`Set::declare`], names with their `$`.
    pub variables: Vec<(&'static str, Value)>,
    /// Limits.
    pub limits: Limits,
}

impl<'a> Render<'a> {
    /// Renders `data` as plain text, with no host and the default limits.
    pub fn of(data: impl Into<Value>) -> Render<'a> {
        Render {
            data: data.into(),
            host: &(),
            mode: Mode::Text,
            variables: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// Why a template could not be rendered; the wording is Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExecError(pub String);

/// What a function's body may reach.
pub struct Call<'a> {
    set: &'a Set,
    render: &'a Render<'a>,
    depth: usize,
    steps: u64,
}

impl Call<'_> {
    /// Returns the host, if the caller gave one of this type.
    pub fn host<T: 'static>(&self) -> Option<&T> {
        self.render.host.downcast_ref()
    }

    /// Renders a template of the same set, as text or HTML like the one that calls.
    ///
    /// # Errors
    /// What went wrong inside, in Go's words.
    pub fn template(&self, name: &str, data: Value) -> Result<String, String> {
        let render = Render {
            data,
            host: self.render.host,
            mode: self.render.mode,
            variables: self.render.variables.clone(),
            limits: self.render.limits,
        };
        run(self.set, name, &render, self.depth, self.steps)
            .map(|(text, _)| text)
            .map_err(|error| error.0)
    }
}

impl Set {
    /// Renders the template `name`.
    ///
    /// # Errors
    /// [`ExecError`], with nothing of the output.
    pub fn render(&self, name: &str, render: &Render<'_>) -> Result<String, ExecError> {
        run(self, name, render, 0, 0).map(|(text, _)| text)
    }
}

fn run(set: &Set, name: &str, render: &Render<'_>, depth: usize, steps: u64) -> Result<(String, u64), ExecError> {
    let Some(tree) = set.templates.get(name) else {
        return Err(ExecError(format!(
            "template: {name}: {} is an incomplete or empty template",
            quote(name, false)
        )));
    };
    let mut state = State {
        set,
        render,
        tree,
        out: Output {
            text: String::new(),
            escaper: (render.mode == Mode::Html).then(Escaper::default),
        },
        variables: Vec::with_capacity(8),
        at: Place { at: 0, shown: &"" },
        depth,
        steps,
    };
    state.variables.push(("$", render.data.clone()));
    state
        .variables
        .extend(render.variables.iter().map(|(name, value)| (*name, value.clone())));
    match state.list(&render.data, &tree.list) {
        Ok(_) => Ok((state.out.text, state.steps)),
        Err(reason) => Err(state.explain(reason)),
    }
}

/// Where the walk is, for error messages.
#[derive(Clone, Copy)]
struct Place<'a> {
    at: Pos,
    shown: &'a dyn fmt::Display,
}

struct Output {
    text: String,
    escaper: Option<Escaper>,
}

/// Why a list ended early.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// What went wrong: a sentence of our own to be placed, or a whole message from a template called by a function.
enum Reason {
    Here(String),
}

type Eval<T> = Result<T, Reason>;

fn fail<T>(reason: impl Into<String>) -> Eval<T> {
    Err(Reason::Here(reason.into()))
}

struct State<'a> {
    set: &'a Set,
    render: &'a Render<'a>,
    tree: &'a Tree,
    out: Output,
    variables: Vec<(&'a str, Value)>,
    at: Place<'a>,
    depth: usize,
    steps: u64,
}

impl<'a> State<'a> {
    fn explain(&self, reason: Reason) -> ExecError {
        let Reason::Here(reason) = reason;
        let before = &self.tree.text[..self.at.at.min(self.tree.text.len())];
        let line = 1 + before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
        ExecError(format!(
            "template: {}:{line}:{column}: executing {} at <{}>: {reason}",
            self.tree.source,
            quote(&self.tree.name, false),
            self.at.shown
        ))
    }

    fn step(&mut self) -> Eval<()> {
        self.steps += 1;
        if self.steps > self.render.limits.steps_max {
            return fail(format!("more than {} steps, the limit", self.render.limits.steps_max));
        }
        if self.out.text.len() > self.render.limits.output_bytes_max {
            return fail(format!(
                "more than {} bytes of output, the limit",
                self.render.limits.output_bytes_max
            ));
        }
        Ok(())
    }

    fn deeper(&mut self) -> Eval<()> {
        self.depth += 1;
        if self.depth > self.render.limits.depth_max {
            return fail(format!(
                "exceeded maximum template depth ({})",
                self.render.limits.depth_max
            ));
        }
        Ok(())
    }

    fn list(&mut self, dot: &Value, list: &'a [Node]) -> Eval<Flow> {
        self.deeper()?;
        for node in list {
            self.step()?;
            let flow = match node {
                Node::Text(text) => {
                    self.out.literal(text);
                    Flow::On
                }
                Node::Action(pipe) => {
                    let value = self.pipe(dot, pipe)?;
                    if pipe.variables.is_empty() {
                        self.at = Place {
                            at: pipe.at,
                            shown: pipe,
                        };
                        self.out.value(&value);
                    }
                    Flow::On
                }
                Node::Branch(branch) => self.branch(dot, branch)?,
                Node::Template { at, name, pipe } => {
                    self.template(dot, node, *at, name, pipe.as_ref())?;
                    Flow::On
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                self.depth -= 1;
                return Ok(flow);
            }
        }
        self.depth -= 1;
        Ok(Flow::On)
    }

    fn branch(&mut self, dot: &Value, branch: &'a Branch) -> Eval<Flow> {
        let scope = self.variables.len();
        let flow = match branch.kind {
            BranchKind::If | BranchKind::With => {
                let value = self.pipe(dot, &branch.pipe)?;
                let inner = if branch.kind == BranchKind::With { &value } else { dot };
                match (value.is_true(), &branch.otherwise) {
                    (true, _) => self.list(inner, &branch.then)?,
                    (false, Some(otherwise)) => self.list(dot, otherwise)?,
                    (false, None) => Flow::On,
                }
            }
            BranchKind::Range => self.range(dot, branch)?,
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn range(&mut self, dot: &Value, branch: &'a Branch) -> Eval<Flow> {
        let value = self.pipe_value(dot, &branch.pipe)?;
        let items: Box<dyn Iterator<Item = (Value, Value)> + '_> = if let Some(elements) = value.elements() {
            Box::new(
                elements
                    .iter()
                    .enumerate()
                    .map(|(i, element)| (Value::from(i), element.clone())),
            )
        } else if let Some(map) = value.as_map() {
            Box::new(map.entries.iter().map(|(key, entry)| (Value::from(key), entry.clone())))
        } else {
            match &value {
                Value::Nil => Box::new(std::iter::empty()),
                Value::Int(count) => Box::new((0..*count).map(|i| (Value::Int(i), Value::Int(i)))),
                other => {
                    self.at = Place {
                        at: branch.pipe.at,
                        shown: &branch.pipe,
                    };
                    return fail(format!("range can't iterate over {other}"));
                }
            }
        };
        let scope = self.variables.len();
        let mut any = false;
        for (key, element) in items {
            any = true;
            self.step()?;
            let pipe = &branch.pipe;
            let bound: &[Value] = match pipe.variables.len() {
                0 => &[],
                1 => std::slice::from_ref(&element),
                _ => &[key, element.clone()],
            };
            for (name, value) in pipe.variables.iter().zip(bound) {
                self.bind(name, pipe.assigns, value.clone())?;
            }
            let flow = self.list(&element, &branch.then)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        match &branch.otherwise {
            Some(otherwise) if !any => self.list(dot, otherwise),
            _ => Ok(Flow::On),
        }
    }

    fn bind(&mut self, name: &'a str, assigns: bool, value: Value) -> Eval<()> {
        if !assigns {
            self.variables.push((name, value));
            return Ok(());
        }
        match self.variables.iter_mut().rev().find(|(found, _)| *found == name) {
            Some(variable) => {
                variable.1 = value;
                Ok(())
            }
            None => fail(format!("undefined variable: {name}")),
        }
    }

    fn template(&mut self, dot: &Value, node: &'a Node, at: Pos, name: &'a str, pipe: Option<&'a Pipe>) -> Eval<()> {
        self.at = Place { at, shown: node };
        let Some(tree) = self.set.templates.get(name) else {
            return fail(format!("template {} not defined", quote(name, false)));
        };
        self.deeper()?;
        let data = match pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Value::Nil,
        };
        let mut inner = vec![("$", data.clone())];
        inner.extend(self.render.variables.iter().map(|(name, value)| (*name, value.clone())));
        let outer = std::mem::replace(&mut self.variables, inner);
        let outer_tree = std::mem::replace(&mut self.tree, tree);
        // On an error the inner tree stays, so that the message speaks of it.
        self.list(&data, &tree.list)?;
        self.variables = outer;
        self.tree = outer_tree;
        self.depth -= 1;
        Ok(())
    }

    /// Evaluates a pipeline and binds its variables.
    fn pipe(&mut self, dot: &Value, pipe: &'a Pipe) -> Eval<Value> {
        let value = self.pipe_value(dot, pipe)?;
        for name in &pipe.variables {
            self.bind(name, pipe.assigns, value.clone())?;
        }
        Ok(value)
    }

    fn pipe_value(&mut self, dot: &Value, pipe: &'a Pipe) -> Eval<Value> {
        self.at = Place {
            at: pipe.at,
            shown: pipe,
        };
        self.deeper()?;
        let mut value = None;
        for command in &pipe.commands {
            self.step()?;
            value = Some(self.command(dot, command, value)?);
        }
        self.depth -= 1;
        Ok(value.unwrap_or_default())
    }

    fn command(&mut self, dot: &Value, command: &'a Command, last: Option<Value>) -> Eval<Value> {
        let first = &command.args[0];
        match &first.term {
            Term::Function(name) => return self.function(dot, first, name, command, last),
            Term::Field(names) => {
                self.at(first);
                return self.fields(dot, dot, names, &command.args[1..], last);
            }
            Term::Variable(names) => {
                self.at(first);
                let value = self.variable(&names[0])?;
                if names.len() == 1 {
                    self.no_arguments(first, command, &last)?;
                    return Ok(value);
                }
                return self.fields(dot, &value, &names[1..], &command.args[1..], last);
            }
            Term::Chain(base, names) => {
                self.at(first);
                let value = self.operand(dot, base)?;
                self.at(first);
                return self.fields(dot, &value, names, &command.args[1..], last);
            }
            Term::Nil => {
                self.at(first);
                return fail("nil is not a command");
            }
            _ => {}
        }
        self.no_arguments(first, command, &last)?;
        self.operand(dot, first)
    }

    fn at(&mut self, operand: &'a Operand) {
        self.at = Place {
            at: operand.at,
            shown: operand,
        };
    }

    fn no_arguments(&mut self, first: &'a Operand, command: &'a Command, last: &Option<Value>) -> Eval<()> {
        if command.args.len() > 1 || last.is_some() {
            self.at(first);
            return fail(format!("can't give argument to non-function {first}"));
        }
        Ok(())
    }

    fn variable(&self, name: &str) -> Eval<Value> {
        match self.variables.iter().rev().find(|(found, _)| *found == name) {
            Some((_, value)) => Ok(value.clone()),
            None => fail(format!("undefined variable: {name}")),
        }
    }

    /// Evaluates an operand that may be anything.
    fn operand(&mut self, dot: &Value, operand: &'a Operand) -> Eval<Value> {
        self.at(operand);
        match &operand.term {
            Term::Dot => Ok(dot.clone()),
            Term::Nil => Ok(Value::Nil),
            Term::Bool(b) => Ok(Value::Bool(*b)),
            Term::Number { number, text } => constant(number, text),
            Term::Str { text } => Ok(Value::from(unquote(text).unwrap_or_default())),
            Term::Field(names) => self.fields(dot, dot, names, &[], None),
            Term::Variable(names) => {
                let value = self.variable(&names[0])?;
                self.fields(dot, &value, &names[1..], &[], None)
            }
            Term::Function(name) => {
                self.deeper()?;
                let value = self.call(dot, operand, name, operand, &[], None)?;
                self.depth -= 1;
                Ok(value)
            }
            Term::Pipe(pipe) => self.pipe(dot, pipe),
            Term::Chain(base, names) => {
                self.deeper()?;
                let value = self.operand(dot, base)?;
                self.depth -= 1;
                self.at(operand);
                self.fields(dot, &value, names, &[], None)
            }
        }
    }

    /// Follows a chain of fields; arguments and the pipeline's value go to the last.
    fn fields(
        &mut self,
        dot: &Value,
        from: &Value,
        names: &'a [String],
        args: &'a [Operand],
        last: Option<Value>,
    ) -> Eval<Value> {
        let place = self.at;
        let mut value = from.clone();
        for (i, name) in names.iter().enumerate() {
            let mut given = Vec::new();
            if i + 1 == names.len() {
                for arg in args {
                    given.push(self.operand(dot, arg)?);
                }
                given.extend(last.clone());
                self.at = place;
            }
            value = field(&value, name, &given)?;
        }
        Ok(value)
    }

    fn function(
        &mut self,
        dot: &Value,
        first: &'a Operand,
        name: &'a str,
        command: &'a Command,
        last: Option<Value>,
    ) -> Eval<Value> {
        self.call(dot, first, name, command, &command.args[1..], last)
    }

    fn call(
        &mut self,
        dot: &Value,
        first: &'a Operand,
        name: &'a str,
        shown: &'a dyn fmt::Display,
        args: &'a [Operand],
        last: Option<Value>,
    ) -> Eval<Value> {
        self.at(first);
        let set = self.set;
        let Some(function) = set.functions.get(name) else {
            return fail(format!("{} is not a defined function", quote(name, false)));
        };
        check_count(function, name, args.len() + usize::from(last.is_some()))?;
        if name == "and" || name == "or" {
            return self.short_circuit(dot, name == "or", args, last);
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        for (i, arg) in args.iter().enumerate() {
            values.push(self.argument(dot, arg, function.kind_at(i))?);
        }
        if let Some(last) = last {
            self.at(first);
            values.push(validate(last, function.kind_at(args.len()))?);
        }
        self.at = Place { at: first.at, shown };
        let call = Call {
            set,
            render: self.render,
            depth: self.depth,
            steps: self.steps,
        };
        match (function.body)(&call, &values) {
            Ok(value) => Ok(value),
            Err(reason) => fail(format!("error calling {name}: {reason}")),
        }
    }

    /// `and` and `or` evaluate no more than they need.
    fn short_circuit(&mut self, dot: &Value, stop_at: bool, args: &'a [Operand], last: Option<Value>) -> Eval<Value> {
        let mut value = Value::Nil;
        for arg in args {
            value = self.argument(dot, arg, Kind::Any)?;
            if value.is_true() == stop_at {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn argument(&mut self, dot: &Value, arg: &'a Operand, kind: Kind) -> Eval<Value> {
        self.at(arg);
        match (&arg.term, kind) {
            (Term::Nil, Kind::Any | Kind::List | Kind::Map) => Ok(Value::Nil),
            (Term::Nil, Kind::Record(name)) if name.starts_with('*') => Ok(Value::Nil),
            (Term::Nil, kind) => fail(format!("cannot assign nil to {}", kind.name())),
            (Term::Number { number, .. }, Kind::Float) => Ok(Value::Float(number.float)),
            (Term::Number { number, .. }, Kind::Int) if number.int.is_some() => {
                Ok(Value::Int(number.int.unwrap_or_default()))
            }
            (Term::Number { number, text }, Kind::Any) => constant(number, text),
            (Term::Bool(_), Kind::Any | Kind::Bool) | (Term::Str { .. }, Kind::Any | Kind::Str) => {
                self.operand(dot, arg)
            }
            (Term::Bool(_) | Term::Str { .. } | Term::Number { .. }, kind) => match kind {
                Kind::Str | Kind::Bool => fail(format!("expected {}; found {arg}", kind.name())),
                Kind::Int => fail(format!("expected integer; found {arg}")),
                Kind::Float => fail(format!("expected float; found {arg}")),
                kind => fail(format!("can't handle {arg} for arg of type {}", kind.name())),
            },
            _ => {
                self.deeper()?;
                let value = self.operand(dot, arg)?;
                self.depth -= 1;
                validate(value, kind)
            }
        }
    }
}

impl Function {
    fn kind_at(&self, i: usize) -> Kind {
        self.params.get(i).or(self.params.last()).copied().unwrap_or(Kind::Any)
    }
}

fn check_count(function: &Function, name: &str, given: usize) -> Eval<()> {
    let wanted = function.params.len();
    if function.variadic && given < wanted - 1 {
        return fail(format!(
            "wrong number of args for {name}: want at least {} got {given}",
            wanted - 1
        ));
    }
    if !function.variadic && given != wanted {
        return fail(format!("wrong number of args for {name}: want {wanted} got {given}"));
    }
    Ok(())
}

fn validate(value: Value, kind: Kind) -> Eval<Value> {
    let fits = match (kind, &value) {
        (Kind::Any, _)
        | (Kind::Str, Value::Str(_))
        | (Kind::Int, Value::Int(_))
        | (Kind::Float, Value::Float(_))
        | (Kind::Bool, Value::Bool(_))
        | (Kind::Time, Value::Time(_))
        | (Kind::List | Kind::Map, Value::Nil) => true,
        (Kind::List, value) => value.elements().is_some(),
        (Kind::Map, value) => value.as_map().is_some(),
        (Kind::Record(name), Value::Record(record)) => record.type_name() == name,
        (Kind::Record(name), Value::Nil) => name.starts_with('*'),
        _ => false,
    };
    if fits {
        return Ok(value);
    }
    match value {
        Value::Nil => fail(format!("invalid value; expected {}", kind.name())),
        other => fail(format!(
            "wrong type for value; expected {}; got {}",
            kind.name(),
            other.type_name()
        )),
    }
}

fn constant(number: &Number, text: &str) -> Eval<Value> {
    match number.int {
        _ if number.float_syntax => Ok(Value::Float(number.float)),
        Some(int) => Ok(Value::Int(int)),
        None => fail(format!("{text} overflows int")),
    }
}

/// Reads a field, a map's entry or a method's result.
fn field(receiver: &Value, name: &str, args: &[Value]) -> Eval<Value> {
    let found = match receiver {
        Value::Record(record) => record.member(name, args),
        Value::Time(time) => time::time_member(time, name, args),
        Value::Duration(nanos) => time::duration_member(*nanos, name, args),
        Value::Nil => return fail(format!("nil pointer evaluating interface {{}}.{name}")),
        _ => None,
    };
    match found {
        Some(result) => return result.map_err(Reason::Here),
        None if args.is_empty() => {}
        None if receiver.as_map().is_some() => return fail(format!("{name} is not a method but has arguments")),
        None => {}
    }
    match receiver.as_map() {
        Some(map) => Ok(map.get(name)),
        None => fail(format!("can't evaluate field {name} in type {}", receiver.type_name())),
    }
}

impl Output {
    fn literal(&mut self, text: &str) {
        if let Some(escaper) = &mut self.escaper {
            escaper.literal(text);
        }
        self.text.push_str(text);
    }

    fn value(&mut self, value: &Value) {
        match &mut self.escaper {
            Some(escaper) => {
                let escaped = escaper.escape(value);
                self.text.push_str(&escaped);
            }
            None => match value {
                Value::Nil => self.text.push_str("<no value>"),
                // A pointer to a struct is printed as the struct.
                Value::Record(record) if record.type_name().starts_with('*') && record.as_text().is_none() => {
                    self.text.push_str(value.to_string().trim_start_matches('&'));
                }
                value => {
                    let _ = write!(self.text, "{value}");
                }
            },
        }
    }
}

impl fmt::Display for Node {
    /// As error messages show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Text(text) => f.write_str(text),
            Node::Action(pipe) => write!(f, "{{{{{pipe}}}}}"),
            Node::Branch(branch) => write!(f, "{}", branch.pipe),
            Node::Template { name, pipe, .. } => f.write_str(&show_template(name, pipe.as_ref())),
            Node::Break => f.write_str("{{break}}"),
            Node::Continue => f.write_str("{{continue}}"),
        }
    }
}
