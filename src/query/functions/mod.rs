//! The function table: one row for each function of the query language.
//!
//! Type check, planner, evaluator, `/api/v1/functions`, completion and the manual all read the row. A new function is a
//! row in `table.rs` and a case in `tests/golden/query/`.

mod body;
mod math;
mod table;

pub use super::types::Type;
pub(crate) use body::{Body, Bound, Constant, Detect, Rollup, SampleTime, Shown, SortBy, Special};
pub(crate) use math::Civil;
pub use table::FUNCTIONS;

/// How often a function's last argument may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Exactly once, as all others.
    Once,
    /// Not at all, or up to this often.
    UpTo(usize),
    /// Not at all, or any number of times.
    Any,
}

/// One function.
#[derive(Debug)]
pub struct Function {
    /// How it is called; case counts.
    pub name: &'static str,
    /// The types of its arguments; [`Function::last`] says whether the last may be left out or repeated.
    pub args: &'static [Type],
    /// How often the last argument may be given.
    pub last: Last,
    /// The type of its value.
    pub returns: Type,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
    /// A call that parses.
    pub example: &'static str,
    /// Whether Prometheus has it behind a feature flag.
    pub experimental: bool,
    /// How it is computed.
    pub(crate) body: Body,
}

impl Function {
    /// Returns the fewest arguments that it takes.
    pub fn args_min(&self) -> usize {
        match self.last {
            Last::Once => self.args.len(),
            Last::UpTo(_) | Last::Any => self.args.len() - 1,
        }
    }

    /// Returns the most arguments that it takes; `None` when there is no limit.
    pub fn args_max(&self) -> Option<usize> {
        match self.last {
            Last::Once => Some(self.args.len()),
            Last::UpTo(times) => Some(self.args.len() - 1 + times),
            Last::Any => None,
        }
    }

    /// Returns the type of the argument at `index`: the last type repeats.
    pub fn arg_type(&self, index: usize) -> Option<Type> {
        self.args.get(index).or(self.args.last()).copied()
    }
}

impl Function {
    /// Whether the value depends on the step's time even when all arguments do not.
    pub(crate) fn needs_step_time(&self) -> bool {
        matches!(
            self.body,
            Body::Date(_)
                | Body::OverTime(Rollup::PredictLinear)
                | Body::SampleTime(SampleTime::Sample)
                | Body::Special(Special::Time | Special::Detect(_))
        )
    }
}

impl PartialEq for Function {
    /// Names are unique.
    fn eq(&self, other: &Function) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

/// Returns the function called `name`.
pub fn find(name: &str) -> Option<&'static Function> {
    let at = FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok()?;
    Some(&FUNCTIONS[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_documented() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        for function in FUNCTIONS {
            assert!(function.doc.ends_with('.'), "{}: doc is no sentence", function.name);
            assert!(
                function.example.contains(&format!("{}(", function.name)),
                "{}: example calls something else",
                function.name
            );
            assert_eq!(find(function.name), Some(function));
        }
        assert!(find("Rate").is_none() && find("").is_none());
    }
}
