//! The four types of the language, which the function table, the parser's type check and the evaluator share.

use std::fmt;

/// What an expression yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A number without labels.
    Scalar,
    /// A text.
    String,
    /// One point for each series, all at one time.
    InstantVector,
    /// A window of points for each series.
    RangeVector,
}

impl Type {
    /// Returns the short name used by the HTTP API and in `parse_query`'s answers.
    pub fn api_name(self) -> &'static str {
        match self {
            Type::Scalar => "scalar",
            Type::String => "string",
            Type::InstantVector => "vector",
            Type::RangeVector => "matrix",
        }
    }

    /// Returns the name used in error texts: `instant vector`.
    pub fn as_str(self) -> &'static str {
        match self {
            Type::Scalar => "scalar",
            Type::String => "string",
            Type::InstantVector => "instant vector",
            Type::RangeVector => "range vector",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
