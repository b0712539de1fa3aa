//! One dashboard, as people write it in YAML and as the page reads it in JSON.
//!
//! ```yaml
//! title: API
//! vars:
//!   job: { label: job, from: http_requests_total }   # the values of a label among the series of a selector
//!   step: { options: [1m, 5m, 1h] }                  # a list of one's own
//! rows:
//!   - title: Traffic
//!     panels:
//!       - title: Requests by code
//!         query: sum by (code) (rate(http_requests_total{job=~"$job"}[$step]))
//!         legend: '{{code}}'
//!         unit: req/s
//!       - { title: Errors, kind: stat, query: '…', unit: percent, thresholds: { ok: 0, warn: 1, bad: 5 } }
//! ```
//! Unknown keys are refused: a misspelt one would otherwise be silently without effect.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::Interval;

/// The most panels of one dashboard: a page with more draws too slowly to be of use.
pub(super) const PANELS_MAX: usize = 200;

/// The columns of the grid that panels are laid out on.
const COLUMNS: u8 = 12;

/// A page of panels.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    /// What the page is called.
    pub title: String,
    /// What it is for, in a sentence.
    #[serde(default)]
    pub description: String,
    /// How far back it looks at first.
    #[serde(default = "hour")]
    pub range: Interval,
    /// How often it looks again.
    #[serde(default = "quarter_minute")]
    pub refresh: Interval,
    /// What the reader may choose, in the order of the file; queries say `$name`.
    #[serde(default, deserialize_with = "in_order", serialize_with = "as_list")]
    pub vars: Vec<(String, Variable)>,
    /// Moments that charts mark beside the alerts: deployments, restarts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
    /// The rows, from top to bottom.
    pub rows: Vec<Row>,
    /// What of a dashboard in another format could not be taken over.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Marks on all charts of a page, at each step at which a query has a value.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Annotation {
    /// What the marks are called.
    pub title: String,
    /// PromQL, with `$variables`.
    pub query: String,
    /// The words beside a mark, with `{{label}}`; the labels when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub legend: String,
}

/// Something that the reader chooses: either the values of a label, or one of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variable {
    /// What the choice is called on the page; the variable's name when empty.
    pub title: String,
    /// The label whose values are offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The selector among whose series its values are looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The list that is offered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// What is chosen at first; else the first that is offered, or all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Whether "all" is offered, which is `.*`: for use with `=~`.
    pub all: bool,
    /// Whether several may be chosen at once: they are joined by `|`, for use with `=~`.
    #[serde(skip_serializing_if = "is_false")]
    pub multi: bool,
    /// Whether the reader writes the value instead of choosing it.
    #[serde(skip_serializing_if = "is_false")]
    pub free: bool,
    /// Narrows and cuts the values of a label: those that match, and of them the first group when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVariable {
    #[serde(default)]
    title: String,
    label: Option<String>,
    from: Option<String>,
    #[serde(default)]
    options: Vec<String>,
    default: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    multi: bool,
    #[serde(default)]
    free: bool,
    regex: Option<String>,
}

impl TryFrom<RawVariable> for Variable {
    type Error = String;

    fn try_from(raw: RawVariable) -> Result<Variable, String> {
        match (&raw.label, &raw.from, raw.options.is_empty(), raw.free) {
            (Some(_), Some(_), true, false) | (None, None, false, false) | (None, None, true, true) => {}
            _ => return Err("a variable has either `label` and `from`, or `options`, or `free: true`".to_owned()),
        }
        if let Some(pattern) = &raw.regex {
            if raw.label.is_none() {
                return Err("`regex` goes with `label`".to_owned());
            }
            regex::Regex::new(pattern).map_err(|error| format!("regex: {error}"))?;
        }
        Ok(Variable {
            title: raw.title,
            label: raw.label,
            from: raw.from,
            options: raw.options,
            default: raw.default,
            all: raw.all,
            multi: raw.multi,
            free: raw.free,
            regex: raw.regex,
        })
    }
}

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Variable, D::Error> {
        checked::<RawVariable, _, _>(deserializer)
    }
}

/// Panels under a heading.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The heading; none when empty.
    #[serde(default)]
    pub title: String,
    /// The variable for each of whose chosen values the row is shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<String>,
    /// Whether the row is folded at first; folded panels ask nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub folded: bool,
    /// The panels, from left to right, continued on the next line when the grid is full.
    pub panels: Vec<Panel>,
}

/// How a panel shows its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PanelKind {
    /// Lines over time.
    #[default]
    Timeseries,
    /// The newest value, large, above its course.
    Stat,
    /// The newest value on a scale from `min` to `max`.
    Gauge,
    /// The newest values as bars, the largest first.
    Bar,
    /// The newest values, one line for each series.
    Table,
    /// The buckets of a histogram over time: the darker, the more.
    Heatmap,
    /// The alerts that are firing or pending.
    Alerts,
    /// Words.
    Text,
}

impl PanelKind {
    /// Returns the name, as one writes it.
    pub fn name(self) -> &'static str {
        match self {
            PanelKind::Timeseries => "timeseries",
            PanelKind::Stat => "stat",
            PanelKind::Gauge => "gauge",
            PanelKind::Bar => "bar",
            PanelKind::Table => "table",
            PanelKind::Heatmap => "heatmap",
            PanelKind::Alerts => "alerts",
            PanelKind::Text => "text",
        }
    }
}

/// One query of a panel.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// PromQL, with `$variables`.
    pub query: String,
    /// The name of each series, with `{{label}}`; its labels when empty.
    #[serde(default)]
    pub legend: String,
}

/// One panel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Panel {
    /// The heading.
    pub title: String,
    /// More words, shown on demand.
    pub description: String,
    /// How it is shown.
    pub kind: PanelKind,
    /// What is asked.
    pub queries: Vec<Query>,
    /// The unit: `bytes`, `bytes/s`, `bits/s`, `seconds`, `percent` (0 to 100), `ratio` (0 to 1, shown in percent),
    /// `count`, `date` (Unix seconds), or any other word, which is shown behind the number.
    pub unit: String,
    /// Digits behind the point; chosen by the page when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u8>,
    /// The lower end of the scale; chosen by the data when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The upper end of the scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Whether lines stand on each other.
    pub stack: bool,
    /// From which value on a number is good, doubtful or bad.
    #[serde(skip_serializing_if = "Thresholds::is_empty")]
    pub thresholds: Thresholds,
    /// Columns of the grid, 1 to 12.
    pub width: u8,
    /// The words of a text panel: paragraphs and `- ` lists, nothing else.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The variable for each of whose chosen values the panel is shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPanel {
    #[serde(default)]
    title: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    kind: PanelKind,
    query: Option<String>,
    legend: Option<String>,
    #[serde(default)]
    queries: Vec<Query>,
    #[serde(default)]
    unit: String,
    decimals: Option<u8>,
    min: Option<f64>,
    max: Option<f64>,
    #[serde(default)]
    stack: bool,
    #[serde(default)]
    thresholds: Thresholds,
    width: Option<u8>,
    #[serde(default)]
    text: String,
    repeat: Option<String>,
}

impl TryFrom<RawPanel> for Panel {
    type Error = String;

    fn try_from(raw: RawPanel) -> Result<Panel, String> {
        let mut queries = raw.queries;
        match (raw.query, raw.legend) {
            (Some(_), _) if !queries.is_empty() => return Err("`query` and `queries` exclude each other".to_owned()),
            (Some(query), legend) => queries.push(Query {
                query,
                legend: legend.unwrap_or_default(),
            }),
            (None, Some(_)) => return Err("`legend` goes with `query`; each of `queries` has its own".to_owned()),
            (None, None) => {}
        }
        let asks = !matches!(raw.kind, PanelKind::Alerts | PanelKind::Text);
        if asks && queries.is_empty() {
            return Err("the panel has no `query`".to_owned());
        }
        if !asks && !queries.is_empty() {
            return Err("a panel of alerts or text has no `query`".to_owned());
        }
        if (raw.kind == PanelKind::Text) == raw.text.is_empty() {
            return Err("`text` goes with `kind: text`".to_owned());
        }
        if raw.kind == PanelKind::Gauge && (raw.min.is_none() || raw.max.is_none()) {
            return Err("a gauge has `min` and `max`".to_owned());
        }
        if let (Some(min), Some(max)) = (raw.min, raw.max)
            && min >= max
        {
            return Err(format!("`min` is {min}, which is not below `max`, {max}"));
        }
        let width = raw.width.unwrap_or(match raw.kind {
            PanelKind::Timeseries | PanelKind::Table | PanelKind::Alerts | PanelKind::Bar | PanelKind::Heatmap => 6,
            PanelKind::Stat | PanelKind::Gauge => 3,
            PanelKind::Text => COLUMNS,
        });
        if !(1..=COLUMNS).contains(&width) {
            return Err(format!("`width` is {width}; the grid has {COLUMNS} columns"));
        }
        Ok(Panel {
            title: raw.title,
            description: raw.description,
            kind: raw.kind,
            queries,
            unit: raw.unit,
            decimals: raw.decimals,
            min: raw.min,
            max: raw.max,
            stack: raw.stack,
            thresholds: raw.thresholds,
            width,
            text: raw.text,
            repeat: raw.repeat,
        })
    }
}

impl<'de> Deserialize<'de> for Panel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Panel, D::Error> {
        checked::<RawPanel, _, _>(deserializer)
    }
}

/// How good a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth a look.
    Warn,
    /// Something must be done.
    Bad,
}

/// From which value on which level holds: `{ ok: 0, warn: 80, bad: 90 }`, or `{ bad: 0, warn: 10, ok: 20 }` where little
/// is bad. Sorted by value.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Thresholds(pub Vec<(f64, Level)>);

impl Thresholds {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Thresholds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Thresholds, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            ok: Option<f64>,
            warn: Option<f64>,
            bad: Option<f64>,
        }
        let raw = Raw::deserialize(deserializer)?;
        let mut steps: Vec<(f64, Level)> = [(raw.ok, Level::Ok), (raw.warn, Level::Warn), (raw.bad, Level::Bad)]
            .into_iter()
            .filter_map(|(from, level)| Some((from?, level)))
            .collect();
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        if steps.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(D::Error::custom("two thresholds begin at the same value"));
        }
        Ok(Thresholds(steps))
    }
}

fn hour() -> Interval {
    Interval::hours(1)
}

fn quarter_minute() -> Interval {
    Interval::secs(15)
}

/// Reads a map as `Raw` and checks it, all inside the YAML parser: `try_from` would report the place of the list that the
/// map is in.
fn checked<'de, Raw, T, D>(deserializer: D) -> Result<T, D::Error>
where
    Raw: Deserialize<'de>,
    T: TryFrom<Raw, Error = String>,
    D: Deserializer<'de>,
{
    struct Checked<Raw, T>(PhantomData<(Raw, T)>);

    impl<'de, Raw: Deserialize<'de>, T: TryFrom<Raw, Error = String>> Visitor<'de> for Checked<Raw, T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            let raw = Raw::deserialize(MapAccessDeserializer::new(map))?;
            T::try_from(raw).map_err(A::Error::custom)
        }
    }

    deserializer.deserialize_map(Checked(PhantomData))
}

/// Reads a map whose order matters.
fn in_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, Variable)>, D::Error> {
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Vec<(String, Variable)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of variables")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all: Self::Value = Vec::new();
            while let Some((name, variable)) = map.next_entry::<String, Variable>()? {
                let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
                if !first || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                    return Err(A::Error::custom(format!(
                        "`{name}` is no name for a variable: letters, digits, `_`"
                    )));
                }
                if all.iter().any(|(known, _)| *known == name) {
                    return Err(A::Error::custom(format!("the variable `{name}` is there twice")));
                }
                all.push((name, variable));
            }
            Ok(all)
        }
    }
    deserializer.deserialize_map(InOrder)
}

/// Writes variables as a list with their names inside.
fn as_list<S: serde::Serializer>(vars: &[(String, Variable)], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Named<'a> {
        name: &'a str,
        #[serde(flatten)]
        variable: &'a Variable,
    }
    serializer.collect_seq(vars.iter().map(|(name, variable)| Named { name, variable }))
}
