//! Why a text is no query, where, and what might have been meant.

use super::QueryError;
use super::ast::Span;

/// The most characters of a line that a snippet shows before and after its caret.
const SNIPPET_SIDE_MAX: usize = 60;

/// One complaint about a place in the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ParseError {
    pub(super) span: Span,
    pub(super) reason: String,
    /// What to do about it, when there is something to say.
    pub(super) help: Option<String>,
}

impl ParseError {
    pub(super) fn new(span: Span, reason: impl Into<String>) -> ParseError {
        ParseError {
            span,
            reason: reason.into(),
            help: None,
        }
    }

    pub(super) fn help(mut self, help: Option<String>) -> ParseError {
        self.help = help;
        self
    }

    /// Words the complaint as Prometheus does, with a caret under the place in the hint.
    pub(super) fn into_query_error(self, text: &str) -> QueryError {
        let mut hint = snippet(text, self.span);
        if let Some(help) = self.help {
            hint.push('\n');
            hint.push_str(&help);
        }
        QueryError::Parse {
            message: format!("{}: parse error: {}", self.span, self.reason),
            hint,
        }
    }
}

/// Returns the line of the place with carets under it; long lines are cut around it.
fn snippet(text: &str, span: Span) -> String {
    let start = floor_boundary(text, span.start as usize);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let from = floor_boundary(text, start.saturating_sub(SNIPPET_SIDE_MAX).max(line_start));
    let to = floor_boundary(text, (start + SNIPPET_SIDE_MAX).min(line_end));
    let marked_end = floor_boundary(text, (span.end as usize).clamp(start, to));
    let carets = text[start..marked_end].chars().count().max(1);
    let (left, right) = (
        if from > line_start { "…" } else { "" },
        if to < line_end { "…" } else { "" },
    );
    let pad = text[from..start].chars().count() + left.chars().count();
    format!(
        "{left}{}{right}\n{}{}",
        text[from..to].replace(['\t', '\r'], " "),
        " ".repeat(pad),
        "^".repeat(carets)
    )
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Returns "did you mean …" with the name nearest to `word`, when one is near enough to be a slip of the keyboard.
pub(super) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let word = word.to_ascii_lowercase();
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let limit = (word.chars().count() / 3).clamp(1, 3);
    names
        .map(|name| (distance(&word, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| format!("did you mean {name:?}?"))
}

/// Longer words are no slips of the keyboard, and comparing them would take time.
const WORD_BYTES_MAX: usize = 64;

/// How many letters must be changed, added, left out or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_proposed_when_it_is_near() {
        let names = || ["rate", "irate", "histogram_quantile"].into_iter();
        assert_eq!(nearest("raet", names()).unwrap(), "did you mean \"rate\"?");
        assert_eq!(
            nearest("histogram_quantil", names()).unwrap(),
            "did you mean \"histogram_quantile\"?"
        );
        assert_eq!(nearest("foo", names()), None);
    }

    #[test]
    fn a_snippet_points_at_the_place_and_is_never_long() {
        let span = |start, end| Span {
            start,
            end,
            line: 1,
            column: start + 1,
        };
        assert_eq!(snippet("a +\nb ** c", span(7, 8)), "b ** c\n   ^");
        let long = "ä".repeat(10_000);
        let shown = snippet(&long, span(10_000, 10_002));
        assert!(shown.len() < 1000 && shown.ends_with('^'), "{shown}");
        assert_eq!(snippet("", span(0, 0)), "\n^");
    }
}
