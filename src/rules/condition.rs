//! Conditions over several signals: `evalexpr` behind a guard.
//!
//! The crate alone has traps for people who write alert rules; each is closed here and is a test: integer division,
//! half-written expressions that parse, assignments, sequences, missing names, and texts whose tree overflows the stack.

use evalexpr::{
    ContextWithMutableVariables, EvalexprError, HashMapContext, Node, Operator, Value, build_operator_tree,
};
use serde::Deserialize;

use crate::model::yaml;

/// The longest condition, in bytes.
const BYTES_MAX: usize = 4096;
/// The deepest nesting of parentheses and signs.
const DEPTH_MAX: usize = 64;

/// A condition that was read and checked. Evaluating it cannot fail but for a missing value.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    tree: Node,
    names: Vec<String>,
}

impl PartialEq for Condition {
    fn eq(&self, other: &Condition) -> bool {
        self.text == other.text
    }
}

impl Condition {
    /// Returns the text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks that the condition speaks only of `known` names.
    ///
    /// # Errors
    /// A sentence that names the stranger, and the nearest known name.
    pub(super) fn check_names(&self, known: &[String]) -> Result<(), String> {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let stranger = self.names.iter().find(|name| {
            let base = name.strip_suffix(".value").unwrap_or(name);
            !known.contains(&base)
        });
        let Some(name) = stranger else {
            return Ok(());
        };
        if name.ends_with(".score") || name.ends_with(".expected") {
            return Err(format!(
                "{name:?}: only a query with \"anomaly\" has a score and an expected value"
            ));
        }
        let hint = yaml::nearest(name, known.iter().copied()).map_or_else(
            || format!("the queries are {}", known.join(", ")),
            |near| format!("did you mean {near:?}?"),
        );
        Err(format!("{name:?} is the name of no query ({hint})"))
    }

    /// Returns the names that the condition speaks of.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the condition holds for these values; `None` when one that it needs is missing or NaN.
    pub(super) fn holds(&self, value_of: impl Fn(&str) -> Option<f64>) -> Option<bool> {
        let mut context = HashMapContext::new();
        for name in &self.names {
            let value = value_of(name.strip_suffix(".value").unwrap_or(name)).filter(|value| !value.is_nan())?;
            context.set_value(name.clone(), Value::Float(value)).ok()?;
        }
        // Everything that can go wrong was tried when the condition was read.
        self.tree.eval_boolean_with_context(&context).ok()
    }
}

impl std::str::FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        check_size(text)?;
        let rewritten = rewrite(text)?;
        let mut tree = build_operator_tree(&rewritten).map_err(|error| explain(&error))?;
        if tree.iter_write_variable_identifiers().next().is_some() {
            return Err("a condition cannot assign: did you mean \"==\"?".to_owned());
        }
        integers_to_floats(&mut tree);
        let mut names: Vec<String> = tree.iter_read_variable_identifiers().map(str::to_owned).collect();
        names.sort();
        names.dedup();
        let condition = Condition {
            text: text.to_owned(),
            tree,
            names,
        };
        condition.try_out()?;
        Ok(condition)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Condition, D::Error> {
        yaml::from_text(deserializer)
    }
}

impl Condition {
    /// Evaluates once with made-up values, because the parser takes texts that can never be evaluated. Both outcomes of
    /// each comparison are tried as far as a few values can, so that no branch stays unseen.
    fn try_out(&self) -> Result<(), String> {
        for sample in [1.0, 0.0, -1.0, 1e9] {
            let mut context = HashMapContext::new();
            for name in &self.names {
                context
                    .set_value(name.clone(), Value::Float(sample))
                    .map_err(|error| explain(&error))?;
            }
            match self.tree.eval_with_context(&context) {
                Ok(Value::Boolean(_)) => {}
                Ok(other) => {
                    let kind = match other {
                        Value::Float(_) | Value::Int(_) => "a number",
                        Value::Empty => "nothing",
                        _ => "something else",
                    };
                    return Err(format!("the condition gives {kind}, not true or false"));
                }
                Err(error) => return Err(explain(&error)),
            }
        }
        Ok(())
    }
}

/// Guards the stack before the parser sees the text.
fn check_size(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("the condition is empty".to_owned());
    }
    if text.len() > BYTES_MAX {
        return Err(format!(
            "the condition has {} bytes, the limit is {BYTES_MAX}",
            text.len()
        ));
    }
    let mut depth = 0_usize;
    let mut deepest = 0;
    let mut signs = 0;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        signs = match c {
            '!' | '-' => signs + 1,
            c if c.is_whitespace() => signs,
            _ => 0,
        };
        deepest = deepest.max(depth + signs);
    }
    let operators = text.matches(['^']).count();
    if deepest.max(operators) > DEPTH_MAX {
        return Err(format!("the condition is nested deeper than the limit of {DEPTH_MAX}"));
    }
    Ok(())
}

/// Rewrites `and`, `or`, `not` to operators, and explains what the language does not have.
fn rewrite(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == ';' {
            return Err("a condition is one expression: \";\" has no place in it".to_owned());
        }
        if c == '"' || c == '\'' {
            return Err("a condition compares numbers: texts have no place in it".to_owned());
        }
        if c == '?' {
            return Err("\"?\" is no operator here: write if(condition, a, b)".to_owned());
        }
        if c == '&' || c == '|' {
            let doubled = rest[1..].starts_with(c);
            if !doubled {
                return Err(format!("\"{c}\" is no operator here: did you mean \"{c}{c}\"?"));
            }
            out.push_str(&rest[..2]);
            rest = &rest[2..];
            continue;
        }
        if c.is_ascii_alphanumeric() || c == '_' || c == '.' {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':')))
                .unwrap_or(rest.len());
            out.push_str(&word(&rest[..end], &rest[end..])?);
            rest = &rest[end..];
            continue;
        }
        if !c.is_ascii() {
            return Err(format!("the character {c:?} has no place in a condition"));
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Ok(out)
}

const FUNCTIONS: [&str; 8] = [
    "min",
    "max",
    "if",
    "floor",
    "ceil",
    "round",
    "math::abs",
    "math::is_nan",
];

fn word(word: &str, after: &str) -> Result<String, String> {
    match word {
        "and" => return Ok("&&".to_owned()),
        "or" => return Ok("||".to_owned()),
        "not" => return Ok("!".to_owned()),
        "true" | "false" => return Ok(word.to_owned()),
        _ => {}
    }
    if word.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return match word.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(word.to_owned()),
            // `1e` continues behind the sign of its exponent.
            _ if word.ends_with(['e', 'E']) && after.starts_with(['-', '+']) => Ok(word.to_owned()),
            _ if word.parse::<crate::model::Interval>().is_ok() => {
                Err(format!("durations are no numbers here: write {word:?} in seconds"))
            }
            _ => Err(format!("{word:?} is no number")),
        };
    }
    let calls = after.trim_start().starts_with('(');
    if calls && FUNCTIONS.contains(&word) {
        return Ok(word.to_owned());
    }
    if calls {
        let near = yaml::nearest(word, FUNCTIONS).or(FUNCTIONS
            .into_iter()
            .find(|known| known.ends_with(&format!("::{word}"))));
        let hint = near.map_or_else(
            || format!("there are {}", FUNCTIONS.join(", ")),
            |near| format!("did you mean {near:?}?"),
        );
        return Err(format!("there is no function {word:?} ({hint})"));
    }
    Ok(word.to_owned())
}

fn integers_to_floats(tree: &mut Node) {
    for operator in tree.iter_operators_mut() {
        if let Operator::Const { value } = operator {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a threshold beyond 2^53 is compared with floats anyway"
            )]
            if let Value::Int(int) = value {
                *value = Value::Float(*int as f64);
            }
        }
    }
}

fn explain(error: &EvalexprError) -> String {
    match error {
        EvalexprError::WrongOperatorArgumentAmount { .. } => "an operator lacks an operand".to_owned(),
        EvalexprError::ExpectedNumber {
            actual: Value::Boolean(_),
        }
        | EvalexprError::ExpectedNumberOrString {
            actual: Value::Boolean(_),
        } => "a comparison is compared again: write a < b and b < c".to_owned(),
        EvalexprError::ExpectedBoolean { .. } => "a number stands where true or false is needed".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Condition, String> {
        text.parse()
    }

    fn holds(text: &str, values: &[(&str, f64)]) -> Option<bool> {
        read(text)
            .unwrap()
            .holds(|name| values.iter().find(|(found, _)| *found == name).map(|(_, value)| *value))
    }

    #[test]
    fn integers_divide_as_numbers_do() {
        assert_eq!(holds("errors > 1/100", &[("errors", 0.005)]), Some(false));
        assert_eq!(holds("errors > 1/100", &[("errors", 0.02)]), Some(true));
        assert_eq!(holds("x / min(1, 2) > max(1, 2) / 4", &[("x", 0.6)]), Some(true));
    }

    #[test]
    fn half_written_conditions_are_refused() {
        for text in [
            "errors >",
            "errors > && 1",
            "",
            "  ",
            "(errors > 1",
            "errors",
            "errors > 1 errors",
            "> 1",
        ] {
            assert!(read(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn assignments_and_sequences_are_refused_with_a_hint() {
        assert!(read("errors = 5").unwrap_err().contains("did you mean \"==\"?"));
        assert!(read("a > 1; true").unwrap_err().contains("\";\""));
        assert!(read("a += 1").is_err());
    }

    #[test]
    fn words_are_operators_and_foreign_operators_are_explained() {
        assert_eq!(
            holds("a > 1 and not (b > 1 or b < 0)", &[("a", 2.0), ("b", 0.5)]),
            Some(true)
        );
        assert!(read("a > 1 & b > 1").unwrap_err().contains("\"&&\""));
        assert!(read("a > 1 ? b : c").unwrap_err().contains("if("));
        assert!(read("abs(a) > 1").unwrap_err().contains("math::abs"));
        assert!(read("0.1 < a < 0.5").is_err());
        assert!(read("a > 5m").unwrap_err().contains("seconds"));
        assert_eq!(holds("if(a > 1, b, 2) > 1", &[("a", 0.0), ("b", 0.0)]), Some(true));
        assert_eq!(holds("math::abs(a) > 1.5e-1", &[("a", -1.0)]), Some(true));
    }

    #[test]
    fn a_missing_or_nan_value_is_no_data() {
        assert_eq!(holds("a != 1", &[("a", f64::NAN)]), None);
        assert_eq!(holds("true || missing > 1", &[]), None);
        assert!(
            read("true || missing > 1")
                .unwrap()
                .check_names(&["a".to_owned()])
                .is_err()
        );
        assert!(
            read("clicsk > 1")
                .unwrap()
                .check_names(&["clicks".to_owned(), "spend".to_owned()])
                .unwrap_err()
                .contains("\"clicks\"?")
        );
        assert_eq!(holds("a-b > 0 && a.value > 1", &[("a", 3.0), ("b", 1.0)]), Some(true));
    }

    #[test]
    fn deep_and_long_conditions_are_refused_before_they_are_parsed() {
        for (open, close) in [("(", ")"), ("!", ""), ("-", "")] {
            let text = format!("{}1 > 0{}", open.repeat(100_000), close.repeat(100_000));
            assert!(read(&text).unwrap_err().contains("limit"));
            let short = format!("{}1 > 0{}", open.repeat(2_000), close.repeat(2_000));
            assert!(read(&short).unwrap_err().contains("limit"));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_guard_panic(text in r"([-+*/%^<>=!&|;?:.,()'a-c0-9 ]|and|or|not|if|min|math::abs|\PC){0,40}") {
            let _ = read(&text);
        }
    }
}
