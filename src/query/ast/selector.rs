//! Selectors: which series, at which time.

use super::duration::DurationExpr;
use crate::model::{Matcher, Millis};

/// Which series, and at which time instead of the evaluation's own.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric's name when it stands before the braces; `matchers` has it too.
    pub name: Option<String>,
    /// All conditions, the one on the metric's name included; at least one does not match the empty text.
    pub matchers: Vec<Matcher>,
    /// How far to look into the past (or, negative, into the future).
    pub offset: Option<DurationExpr>,
    /// The time that replaces the evaluation's.
    pub at: Option<At>,
    /// What happens at the window's ends.
    pub boundary: Option<Boundary>,
}

/// The `@` modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// `@ 123.4`
    Time(Millis),
    /// `@ start()`: the first step of the query.
    Start,
    /// `@ end()`: the last step of the query.
    End,
}

/// What a selector does at the ends of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Boundary {
    /// The last sample before the window stands at its beginning; nothing is extrapolated.
    Anchored,
    /// Values at both ends are interpolated.
    Smoothed,
}

impl Boundary {
    /// Returns the keyword.
    pub fn as_str(self) -> &'static str {
        match self {
            Boundary::Anchored => "anchored",
            Boundary::Smoothed => "smoothed",
        }
    }
}
