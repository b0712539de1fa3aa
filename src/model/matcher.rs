//! Matchers: what a selector, a silence or a route asks of a label.
//!
//! Regular expressions are RE2's, fully anchored, as everywhere in Prometheus. Alternations of literals (`a|b|c`) become a
//! sorted list, so that an index can look them up instead of scanning.

use std::fmt;
use std::sync::Arc;

/// The longest regular expression accepted, in bytes (4 KiB; the automaton of a longer one costs more than the query).
const REGEX_BYTES_MAX: usize = 4096;
/// The largest compiled program, in bytes.
const REGEX_PROGRAM_BYTES_MAX: usize = 1 << 20;
/// The largest lazy automaton, in bytes.
const REGEX_DFA_BYTES_MAX: usize = 8 << 20;

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// Returns the operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// Why a matcher cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatcherError {
    /// The pattern is not a regular expression, or too large a one.
    #[error("invalid regular expression {pattern:?}: {reason}")]
    Regex {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it, in one line.
        reason: String,
    },
}

/// One condition on one label.
#[derive(Clone)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// The comparison.
    pub op: MatchOp,
    /// The text or pattern compared with.
    pub value: String,
    pattern: Option<Arc<Pattern>>,
}

struct Pattern {
    /// Set when the pattern is only literals: `a|b|c`.
    literals: Option<Vec<String>>,
    regex: regex::Regex,
}

impl Matcher {
    /// Builds a matcher.
    ///
    /// # Errors
    /// [`MatcherError::Regex`] when `op` takes a pattern and `value` is none.
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Matcher, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(Arc::new(Pattern::new(&value)?)),
        };
        Ok(Matcher {
            name,
            op,
            value,
            pattern,
        })
    }

    /// Builds `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher {
            name: name.into(),
            op: MatchOp::Equal,
            value: value.into(),
            pattern: None,
        }
    }

    /// Whether a label with this value satisfies the matcher; a missing label has the empty value.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.pattern) {
            (MatchOp::Equal, _) => self.value == value,
            (MatchOp::NotEqual, _) => self.value != value,
            (MatchOp::Regex, Some(pattern)) => pattern.matches(value),
            (MatchOp::NotRegex, Some(pattern)) => !pattern.matches(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => unreachable!("a regex matcher is built with its pattern"),
        }
    }

    /// Whether a series without the label satisfies the matcher.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// Returns the literal values that a regex stands for (`a|b|c`), sorted, when it is nothing but that.
    pub fn literals(&self) -> Option<&[String]> {
        self.pattern.as_ref()?.literals.as_deref()
    }
}

impl Pattern {
    fn new(source: &str) -> Result<Pattern, MatcherError> {
        let error = |reason: String| MatcherError::Regex {
            pattern: source.to_owned(),
            reason,
        };
        if source.len() > REGEX_BYTES_MAX {
            return Err(error(format!(
                "{} bytes long, the limit is {REGEX_BYTES_MAX}",
                source.len()
            )));
        }
        let regex = regex::RegexBuilder::new(&format!("^(?s:{source})$"))
            .size_limit(REGEX_PROGRAM_BYTES_MAX)
            .dfa_size_limit(REGEX_DFA_BYTES_MAX)
            .build()
            .map_err(|found| error(last_line(&found.to_string())))?;
        Ok(Pattern {
            literals: literals(source),
            regex,
        })
    }

    fn matches(&self, value: &str) -> bool {
        match &self.literals {
            Some(literals) => literals.binary_search_by(|literal| literal.as_str().cmp(value)).is_ok(),
            None => self.regex.is_match(value),
        }
    }
}

/// The regex crate explains itself over several lines; the last one is the reason.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or(text).trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn literals(source: &str) -> Option<Vec<String>> {
    if source.chars().any(|c| r"\.+*?()[]{}^$".contains(c)) {
        return None;
    }
    let mut literals: Vec<String> = source.split('|').map(str::to_owned).collect();
    literals.sort_unstable();
    literals.dedup();
    Some(literals)
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.name, self.op, &self.value).hash(state);
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if super::is_valid_label_name(&self.name) {
            write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
        } else {
            write!(f, "{:?}{}{:?}", self.name, self.op.as_str(), self.value)
        }
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regexes_are_anchored_and_see_line_breaks() {
        let matcher = Matcher::new("a", MatchOp::Regex, "b.*").unwrap();
        assert!(matcher.matches("b\nc") && !matcher.matches("ab"));
        let not = Matcher::new("a", MatchOp::NotRegex, "").unwrap();
        assert!(!not.matches("") && not.matches("x"));
    }

    #[test]
    fn alternations_of_literals_become_a_list() {
        let matcher = Matcher::new("code", MatchOp::Regex, "500|404|").unwrap();
        assert_eq!(matcher.literals().unwrap(), ["", "404", "500"]);
        assert!(matcher.matches("404") && matcher.matches_empty() && !matcher.matches("40"));
        assert!(
            Matcher::new("code", MatchOp::Regex, "5..")
                .unwrap()
                .literals()
                .is_none()
        );
    }

    #[test]
    fn a_bad_or_oversized_pattern_is_refused() {
        assert!(Matcher::new("a", MatchOp::Regex, "(").is_err());
        assert!(Matcher::new("a", MatchOp::Regex, "x".repeat(REGEX_BYTES_MAX + 1)).is_err());
        assert!(Matcher::new("a", MatchOp::Regex, "((a{1000}){1000}){100}").is_err());
    }
}
