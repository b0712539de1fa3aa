//! Reading YAML with errors a person can act on: file, line, column, the path inside, the line itself, and the nearest known key.
//!
//! Every file that people write (configuration, rules, routing, dashboards) is read through [`read`], so that a mistake looks
//! the same everywhere.

mod locate;

use std::fmt;

use serde::de::DeserializeOwned;

pub use locate::{locate, locate_mistake};

/// The largest YAML file read, in bytes.
pub const YAML_BYTES_MAX: usize = 16 << 20;

/// A mistake in a YAML file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// The file, as the user named it.
    pub file: String,
    /// Line, from 1; 0 when unknown.
    pub line: usize,
    /// Column, from 1; 0 when unknown.
    pub column: usize,
    /// What is wrong, led by the path of the value: `groups[0].rules[1]: unknown field "exprr"`.
    pub reason: String,
    /// A known key that looks like the unknown one.
    pub suggestion: Option<String>,
    /// The line of the file that the error points at, empty when unknown.
    pub snippet: String,
}

impl fmt::Display for YamlError {
    /// One line: `rules/api.yaml:5:5: groups[0].rules[0]: reason (did you mean "expr"?)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.reason)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, " (did you mean {suggestion:?}?)")?;
        }
        Ok(())
    }
}

impl std::error::Error for YamlError {}

impl YamlError {
    /// Returns the error over several lines: the one-line form, the line of the file and a caret under the place.
    pub fn with_snippet(&self) -> String {
        if self.snippet.trim().is_empty() {
            return self.to_string();
        }
        let number = self.line.to_string();
        let indent = " ".repeat(number.len());
        let caret = " ".repeat(self.column.saturating_sub(1));
        format!("{self}\n{indent} |\n{number} | {}\n{indent} | {caret}^", self.snippet)
    }
}

impl YamlError {
    /// A mistake in the value at `path`, found when all of `text` had been read.
    pub fn of(file: &str, text: &str, path: &str, reason: String) -> YamlError {
        let (line, column) = locate_mistake(text, path, &reason).unwrap_or((0, 0));
        YamlError {
            file: file.to_owned(),
            line,
            column,
            suggestion: None,
            snippet: text.lines().nth(line.wrapping_sub(1)).unwrap_or("").to_owned(),
            reason,
        }
    }
}

/// Reads one YAML document into `T`. An empty document reads as an empty mapping.
///
/// # Errors
/// [`YamlError`] with the place of the first mistake.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, YamlError> {
    let plain = |reason: String| YamlError {
        file: file.to_owned(),
        line: 0,
        column: 0,
        reason,
        suggestion: None,
        snippet: String::new(),
    };
    if text.len() > YAML_BYTES_MAX {
        return Err(plain(format!(
            "{} bytes long, the limit is {YAML_BYTES_MAX}",
            text.len()
        )));
    }
    let source = if is_blank(text) { "{}" } else { text };
    serde_yaml::from_str(source).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        let full = error.to_string();
        let reason = full
            .rfind(" at line ")
            .map_or(full.as_str(), |end| &full[..end])
            .replace('`', "\"");
        let (line, column) = place_of_key(text, &reason, line).unwrap_or((line, column));
        YamlError {
            line,
            column,
            suggestion: suggestion(&reason),
            snippet: text.lines().nth(line.wrapping_sub(1)).unwrap_or("").to_owned(),
            ..plain(without_long_list(&reason))
        }
    })
}

/// Reads a value from its text (`#[serde(deserialize_with = "yaml::from_text")]`).
///
/// The parse happens inside the YAML parser, so that an error carries the place of the value itself; `try_from = "String"`
/// would report the mapping around it.
///
/// # Errors
/// Those of `T`'s `FromStr`.
pub fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: std::str::FromStr<Err: fmt::Display>,
    D: serde::Deserializer<'de>,
{
    struct Text<T>(std::marker::PhantomData<T>);

    impl<T: std::str::FromStr<Err: fmt::Display>> serde::de::Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(std::marker::PhantomData))
}

fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    })
}

/// The parser reports an unknown key at the start of its mapping; the key itself stands there or below.
fn place_of_key(text: &str, reason: &str, from_line: usize) -> Option<(usize, usize)> {
    let key = quoted_after(reason, "unknown field \"")?;
    let lines = text.lines().enumerate().skip(from_line.saturating_sub(1));
    for (index, line) in lines {
        for (at, _) in line.match_indices(key) {
            let before = line[..at]
                .trim_start()
                .trim_start_matches(['-', ' ', '{', ',', '"', '\'']);
            let after = line[at + key.len()..].trim_start_matches(['"', '\'']).trim_start();
            let begins = before.is_empty() || line[..at].trim_end().ends_with(['{', ',']);
            if begins && after.starts_with(':') {
                return Some((index + 1, line[..at].chars().count() + 1));
            }
        }
    }
    None
}

fn quoted_after<'a>(reason: &'a str, lead: &str) -> Option<&'a str> {
    let start = reason.find(lead)? + lead.len();
    Some(&reason[start..start + reason[start..].find('"')?])
}

/// Finds the nearest of the keys that serde lists behind "expected one of".
fn suggestion(reason: &str) -> Option<String> {
    let unknown = quoted_after(reason, "unknown field \"").or_else(|| quoted_after(reason, "unknown variant \""))?;
    let expected = &reason[reason.find("expected ")?..];
    nearest(unknown, expected.split('"').skip(1).step_by(2)).map(str::to_owned)
}

/// Beyond a dozen, the list of known keys hides the message.
fn without_long_list(reason: &str) -> String {
    match reason.find(", expected one of") {
        Some(end) if reason[end..].len() > 240 => reason[..end].to_owned(),
        _ => reason.to_owned(),
    }
}

/// Returns the candidate nearest to `word` by edit distance, when it is near enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near_enough = word.chars().count() / 3 + 1;
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate, near_enough), candidate))
        .filter(|(distance, _)| *distance <= near_enough)
        .min_by_key(|(distance, candidate)| (*distance, candidate.len()))
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance (insert, delete, replace, swap neighbours); anything over `limit` may be reported as more.
fn edit_distance(a: &str, b: &str, limit: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > limit {
        return limit + 1;
    }
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct File {
        groups: Vec<Group>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read, never looked at")]
    struct Group {
        name: String,
        interval: Option<crate::model::Interval>,
    }

    #[test]
    fn an_unknown_key_is_shown_at_its_place_with_the_key_that_was_meant() {
        let text = "groups:\n- name: a\n- name: b\n  intervall: 5m\n";
        let error = read::<File>("rules/x.yaml", text).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rules/x.yaml:4:3: groups[1]: unknown field \"intervall\", expected \"name\" or \"interval\" \
             (did you mean \"interval\"?)"
        );
        assert!(
            error.with_snippet().ends_with("4 |   intervall: 5m\n  |   ^"),
            "{}",
            error.with_snippet()
        );
    }

    #[test]
    fn a_bad_value_is_shown_at_its_place() {
        let error = read::<File>("x.yaml", "groups:\n- name: a\n  interval: 5 minutes\n").unwrap_err();
        assert_eq!((error.line, error.column), (3, 13), "{error}");
        assert!(
            error.reason.starts_with("groups[0].interval: not a valid duration"),
            "{error}"
        );
    }

    #[test]
    fn broken_yaml_names_its_line() {
        let error = read::<File>("x.yaml", "groups:\n- name: a\n  interval: [5m\n").unwrap_err();
        assert!(error.line >= 3, "{error}");
    }

    #[test]
    fn an_empty_file_has_all_defaults() {
        assert!(read::<File>("x.yaml", "# nothing\n---\n").unwrap().groups.is_empty());
    }

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        assert_eq!(nearest("lsiten", ["listen", "limits"]), Some("listen"));
        assert_eq!(nearest("zzz", ["listen", "limits"]), None);
    }
}
