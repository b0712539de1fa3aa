//! Text → commands: `clear`, `load`, `eval`, and the lines below them.

use std::collections::BTreeMap;

use regex::Regex;

use super::load::parse_start_times;
use super::{ScriptError, SeriesValue, When, parse_series_line};
use crate::model::{Interval, Labels, Millis};
use crate::query::{parse_series, parse_string};

/// One step of a script.
#[derive(Debug)]
pub enum Command {
    /// Forget all series.
    Clear,
    /// Take these series.
    Load(Load),
    /// Ask a query and compare the answer.
    Eval(Box<Eval>),
}

/// Series to load.
#[derive(Debug, Default)]
pub struct Load {
    /// The time from sample to sample.
    pub interval: Interval,
    /// Whether classic histograms are also stored as native ones with custom buckets.
    pub with_nhcb: bool,
    /// The samples of each series, and the start time of each, relative to its sample.
    pub series: BTreeMap<Labels, LoadedSeries>,
}

/// The samples of one series, and how long before each its counter began.
#[derive(Debug, Default)]
pub struct LoadedSeries {
    /// One for each interval.
    pub values: Vec<Option<SeriesValue>>,
    /// As many, or none at all.
    pub start_offsets: Vec<Option<Interval>>,
}

/// A query and what it must answer.
#[derive(Debug)]
pub struct Eval {
    /// The line of the command; the first line is 1.
    pub line: usize,
    /// The query's text.
    pub query: String,
    /// When it is evaluated.
    pub when: When,
    /// The answer.
    pub expected: Expected,
    /// Whether the answer's order counts.
    pub ordered: bool,
    /// Whether there must be an error, and what it says.
    pub fail: Option<Annotation>,
    /// Warnings that must be there; no others may.
    pub warn: Vec<Annotation>,
    /// Infos that must be there; no others may.
    pub info: Vec<Annotation>,
    /// There must be no warning.
    pub no_warn: bool,
    /// There must be no info.
    pub no_info: bool,
}

/// What an answer must be.
#[derive(Debug)]
pub enum Expected {
    /// A number.
    Scalar(f64),
    /// A text.
    String(String),
    /// Series, in the order of the script, with a value for each step.
    Series(Vec<(Labels, Vec<Option<SeriesValue>>)>),
    /// As [`Expected::Series`], where an instant query answers with a range.
    RangeVector {
        /// The time of the first value.
        start: Millis,
        /// From value to value.
        step: Interval,
        /// The series.
        series: Vec<(Labels, Vec<Option<SeriesValue>>)>,
    },
}

/// What an error, warning or info must say.
#[derive(Debug)]
pub enum Annotation {
    /// Anything.
    Any,
    /// This.
    Text(String),
    /// Something that this pattern finds.
    Pattern(Regex),
}

impl Annotation {
    /// Whether `text` is meant.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Annotation::Any => true,
            Annotation::Text(wanted) => wanted == text,
            Annotation::Pattern(pattern) => pattern.is_match(text),
        }
    }
}

/// Reads a script.
///
/// # Errors
/// [`ScriptError`] with the line.
pub fn parse_script(text: &str) -> Result<Vec<Command>, ScriptError> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .map(|line| if line.starts_with('#') { "" } else { line })
        .collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = at + 1;
        let block = lines[at + 1..].iter().take_while(|line| !line.is_empty()).count();
        let body = &lines[at + 1..at + 1 + block];
        let word = lines[at].split_whitespace().next().unwrap_or("");
        let error = |(offset, reason): (usize, String)| ScriptError {
            line: line + offset,
            reason,
        };
        match word {
            "" => at += 1,
            "clear" => {
                commands.push(Command::Clear);
                at += 1;
            }
            "load" | "load_with_nhcb" => {
                commands.push(Command::Load(parse_load(lines[at], body).map_err(error)?));
                at += 1 + block;
            }
            _ if word.starts_with("eval") => {
                let (eval, used) = parse_eval(line, lines[at], body).map_err(error)?;
                commands.push(Command::Eval(Box::new(eval)));
                at += 1 + used;
            }
            _ => return Err(error((0, format!("unknown command {word:?}")))),
        }
    }
    Ok(commands)
}

/// A reason, with how many lines below the command it was found.
type Found<T> = Result<T, (usize, String)>;

fn duration(text: &str) -> Result<Interval, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn parse_load(head: &str, body: &[&str]) -> Found<Load> {
    let (word, interval) = head.split_once(char::is_whitespace).unwrap_or((head, ""));
    let mut load = Load {
        interval: duration(interval.trim()).map_err(|reason| (0, reason))?,
        with_nhcb: word == "load_with_nhcb",
        series: BTreeMap::new(),
    };
    let mut starts: Option<(Labels, Vec<Option<Interval>>)> = None;
    for (index, line) in body.iter().enumerate() {
        let error = |reason: String| (index + 1, reason);
        if let Some((series, offsets)) = start_line(line) {
            let (labels, _) = parse_series(series).map_err(|found| error(found.to_string()))?;
            starts = Some((labels, parse_start_times(offsets).map_err(error)?));
            continue;
        }
        let (labels, values) = parse_series_line(line).map_err(error)?;
        let start_offsets = match starts.take() {
            None => Vec::new(),
            Some((of, offsets)) if of == labels && offsets.len() == values.len() => offsets,
            Some(_) => {
                return Err(error(
                    "the @st line above belongs to another series or length".to_owned(),
                ));
            }
        };
        load.series.insert(labels, LoadedSeries { values, start_offsets });
    }
    Ok(load)
}

/// Splits `series@st offsets`.
fn start_line(line: &str) -> Option<(&str, &str)> {
    let (series, offsets) = line.split_once("@st")?;
    offsets.starts_with([' ', '\t']).then_some((series, offsets))
}

fn parse_eval(line: usize, head: &str, body: &[&str]) -> Found<(Eval, usize)> {
    let (when, query, modifier) = parse_eval_head(head).map_err(|reason| (0, reason))?;
    let mut eval = Eval {
        line,
        query,
        when,
        expected: Expected::Series(Vec::new()),
        ordered: modifier == "ordered",
        fail: (modifier == "fail").then_some(Annotation::Any),
        warn: Vec::new(),
        info: Vec::new(),
        no_warn: false,
        no_info: false,
    };
    match modifier.as_str() {
        "warn" => eval.warn.push(Annotation::Any),
        "info" => eval.info.push(Annotation::Any),
        _ => {}
    }
    for (index, text) in body.iter().enumerate() {
        let error = |reason: String| (index + 1, reason);
        if let Some(rest) = text.strip_prefix("expect ") {
            expect_line(&mut eval, rest.trim()).map_err(error)?;
        } else if let Some(message) = text.strip_prefix("expected_fail_message") {
            eval.fail = Some(Annotation::Text(message.trim().to_owned()));
        } else if let Some(pattern) = text.strip_prefix("expected_fail_regexp") {
            eval.fail = Some(Annotation::Pattern(regex(pattern).map_err(error)?));
        } else if let Some(number) = plain_number(text) {
            eval.expected = Expected::Scalar(number);
            return Ok((eval, index + 1));
        } else {
            let series = parse_series_line(text).map_err(error)?;
            match &mut eval.expected {
                Expected::Series(list) | Expected::RangeVector { series: list, .. } => list.push(series),
                Expected::Scalar(_) | Expected::String(_) => {
                    return Err(error("a series after a scalar or string".to_owned()));
                }
            }
        }
    }
    Ok((eval, body.len()))
}

/// Reads `eval instant at 5m query` or `eval range from 0 to 1h step 5m query`; returns the modifier of `eval_fail` too.
fn parse_eval_head(head: &str) -> Result<(When, String, String), String> {
    let mut words = Words(head);
    let command = words.take();
    let modifier = command
        .strip_prefix("eval")
        .unwrap_or("")
        .trim_start_matches('_')
        .to_owned();
    if !matches!(modifier.as_str(), "" | "fail" | "warn" | "info" | "ordered") {
        return Err(format!("unknown command {command:?}"));
    }
    let point = |text: &str| duration(text).map(|since| Millis(since.0));
    let when = match words.take() {
        "instant" => {
            words.keyword("at")?;
            When::Instant(point(words.take())?)
        }
        "range" => {
            words.keyword("from")?;
            let start = point(words.take())?;
            words.keyword("to")?;
            let end = point(words.take())?;
            words.keyword("step")?;
            let step = duration(words.take())?;
            When::Range { start, end, step }
        }
        other => return Err(format!("expected instant or range, got {other:?}")),
    };
    Ok((when, words.0.trim().to_owned(), modifier))
}

struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn take(&mut self) -> &'a str {
        let rest = self.0.trim_start();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        self.0 = &rest[end..];
        &rest[..end]
    }

    fn keyword(&mut self, wanted: &str) -> Result<(), String> {
        match self.take() {
            found if found == wanted => Ok(()),
            found => Err(format!("expected {wanted:?}, got {found:?}")),
        }
    }
}

fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern.trim()).map_err(|error| format!("bad pattern: {error}"))
}

fn plain_number(text: &str) -> Option<f64> {
    let number = crate::query::lexer::parse_number(text.strip_prefix(['+', '-']).unwrap_or(text));
    let number = number.filter(|_| !text.contains(char::is_whitespace))?;
    Some(if text.starts_with('-') { -number } else { number })
}

/// Reads what follows `expect`.
fn expect_line(eval: &mut Eval, text: &str) -> Result<(), String> {
    if let Some(range) = text.strip_prefix("range vector") {
        let mut words = Words(range);
        words.keyword("from")?;
        let start = Millis(duration(words.take())?.0);
        words.keyword("to")?;
        duration(words.take())?;
        words.keyword("step")?;
        eval.expected = Expected::RangeVector {
            start,
            step: duration(words.take())?,
            series: Vec::new(),
        };
        return Ok(());
    }
    if let Some(literal) = text.strip_prefix("string") {
        eval.expected = Expected::String(parse_string(literal.trim())?);
        return Ok(());
    }
    let (kind, what) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let annotation = match what.trim().split_once(':') {
        None if what.is_empty() => Annotation::Any,
        Some(("msg", message)) => Annotation::Text(message.trim().to_owned()),
        Some(("regex", pattern)) => Annotation::Pattern(regex(pattern)?),
        _ => return Err(format!("expected msg: or regex:, got {what:?}")),
    };
    match kind {
        "fail" => eval.fail = Some(annotation),
        "warn" => eval.warn.push(annotation),
        "info" => eval.info.push(annotation),
        "no_warn" => eval.no_warn = true,
        "no_info" => eval.no_info = true,
        "ordered" => eval.ordered = true,
        _ => return Err(format!("unknown expectation {kind:?}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_command_by_command() {
        let text = "load 1m\n\n# note\nload 5m\n  up{a=\"b\"}@st -1m-1mx1\n  up{a=\"b\"} 1 2\n\neval instant at 5m up\n\
                    \texpect warn msg: PromQL warning: x (1:1)\n\tup{a=\"b\"} 1\nclear\n\neval range from 0 to 1h step 5m 1\n";
        // `clear` right below a series is still part of the block: a series called clear.
        assert!(parse_script(text).is_ok());
        let text = text.replace("\nclear", "\n\nclear");
        let commands = parse_script(&text).unwrap();
        assert_eq!(commands.len(), 5);
        let Command::Load(load) = &commands[1] else { panic!() };
        let series = load.series.values().next().unwrap();
        assert_eq!(
            series.start_offsets,
            [Some(Interval(-60_000)), Some(Interval(-120_000))]
        );
        let Command::Eval(eval) = &commands[2] else { panic!() };
        assert_eq!((eval.line, eval.query.as_str(), eval.warn.len()), (8, "up", 1));
    }

    #[test]
    fn an_error_names_its_line() {
        for (text, line) in [
            ("foo", 1),
            ("load 5m\n  up 1 x", 2),
            ("\neval instant 5m up", 2),
            ("eval instant at 1m up\n  expect joy", 2),
        ] {
            assert_eq!(parse_script(text).unwrap_err().line, line, "{text}");
        }
    }
}
