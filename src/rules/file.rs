//! Rule files: Prometheus's YAML, read into meaning at the door; each extension is one more key on a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::Deserialize;

use super::anomaly::Anomaly;
use super::condition::Condition;
use super::expand::Text;
use crate::model::{Interval, METRIC_NAME, yaml};
use crate::query::{self, Expr, QueryError};

/// A rule file as it was found: its name for messages, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFileSource {
    /// The path, as users know the file.
    pub path: String,
    /// The YAML.
    pub text: String,
}

/// A rule file.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawFile")]
pub struct RuleFile {
    /// Its groups, in order.
    pub groups: Vec<GroupSpec>,
}

/// Rules that are evaluated together, one after the other.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// The name, unique in its file.
    pub name: String,
    /// How often; `None` is the server's `evaluation_interval`.
    pub interval: Option<Interval>,
    /// How far behind the evaluation time the queries look; `None` is the server's default.
    pub query_offset: Option<Interval>,
    /// The most alerts or series that one rule may yield; 0 is no limit.
    #[serde(default)]
    pub limit: usize,
    /// Labels for all rules; a rule's own win.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether alert rules are also evaluated when a sample that they ask for arrives.
    #[serde(default = "yes")]
    pub eager: bool,
    /// The rules, in order.
    #[serde(default)]
    pub rules: Vec<RuleSpec>,
}

/// One rule: it records a series or raises an alert.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawRule")]
pub struct RuleSpec {
    /// The alert's name, or the recorded metric's.
    pub name: String,
    /// What is asked.
    pub source: Source,
    /// Labels to add, templates not yet expanded; the group's are in here once the file is read.
    pub labels: BTreeMap<String, Text>,
    /// What only alert rules have; `None` for a recording rule.
    pub alert: Option<AlertSpec>,
}

/// What a rule asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// One query.
    Expr(QueryText),
    /// Several queries, joined, and a condition over their values.
    Signals(Signals),
}

/// A query with its text as written.
#[derive(Clone, Debug)]
pub struct QueryText {
    /// As written.
    pub text: String,
    /// As parsed.
    pub expr: Expr,
}

/// `queries:`, `condition:` and `on:`.
#[derive(Clone, Debug, PartialEq)]
pub struct Signals {
    /// The queries, in the order of the file; the first one's value is the alert's.
    pub queries: Vec<Signal>,
    /// When the alert's condition holds.
    pub condition: Condition,
    /// Labels to join on; empty means those that all results share.
    pub on: Vec<String>,
}

/// One of several queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// The name that conditions and templates use.
    pub name: String,
    /// The query.
    pub query: QueryText,
    /// What a label set without a sample counts as; `None`: it has no data.
    pub default: Option<f64>,
    /// By which detector its values are judged.
    pub anomaly: Option<Anomaly>,
}

/// What an alert rule has besides its query.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertSpec {
    /// `for`: how long the condition must hold.
    pub hold: Interval,
    /// `keep_firing_for`: how long an alert fires on after its condition ceased.
    pub keep_firing: Interval,
    /// Annotations, not yet expanded.
    pub annotations: BTreeMap<String, Text>,
    /// `recover`: once firing, resolve only when this holds.
    pub recover: Option<Condition>,
    /// `no_data`
    pub no_data: NoData,
    /// `on_error`
    pub on_error: OnError,
}

/// What it means when a rule's data is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoData {
    /// The condition does not hold: what Prometheus does.
    #[default]
    Ok,
    /// The condition holds.
    Alert,
    /// Nothing changes.
    Keep,
}

/// What it means when a rule's query fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// Nothing changes: what Prometheus does.
    #[default]
    Keep,
    /// The condition holds.
    Alert,
}

impl RuleFile {
    /// Reads a rule file.
    ///
    /// # Errors
    /// [`yaml::YamlError`] with the place of the first mistake.
    pub fn read(source: &RuleFileSource) -> Result<RuleFile, yaml::YamlError> {
        let placed = |error| with_rule_name(at_rule(at_query(error, &source.text), &source.text), &source.text);
        let mut file: RuleFile = yaml::read(&source.path, &source.text).map_err(placed)?;
        for group in &mut file.groups {
            for rule in &mut group.rules {
                for (name, value) in &group.labels {
                    let text = Text::plain(value);
                    rule.labels.entry(name.clone()).or_insert(text);
                }
            }
        }
        Ok(file)
    }
}

/// A mistake inside a query that runs over several lines is shown at its own line.
fn at_query(mut error: yaml::YamlError, text: &str) -> yaml::YamlError {
    let Some((before, _)) = error.reason.split_once(": parse error: ") else {
        return error;
    };
    let place = before.rsplit(": ").next().unwrap_or_default();
    let Some((line, column)) = place
        .split_once(':')
        .and_then(|(line, column)| Some((line.parse::<usize>().ok()?, column.parse::<usize>().ok()?)))
    else {
        return error;
    };
    let shown = text.lines().nth(error.line.wrapping_sub(1)).unwrap_or_default();
    let value = shown.split_once(": ").map_or("", |(_, value)| value.trim());
    let is_block = value
        .strip_prefix(['|', '>'])
        .is_some_and(|rest| rest.bytes().all(|b| b"+-123456789".contains(&b)));
    if is_block {
        // The block's first line says how far all its lines are indented.
        let first = text.lines().skip(error.line).find(|line| !line.trim().is_empty());
        let indent = first.map_or(0, |first| first.len() - first.trim_start().len());
        error.line += line;
        error.snippet = text.lines().nth(error.line - 1).unwrap_or_default().to_owned();
        error.column = indent + column;
    } else if line == 1 {
        let quoted = shown[shown.len().min(error.column.saturating_sub(1))..].starts_with(['"', '\'']);
        error.column += column - 1 + usize::from(quoted);
    }
    error
}

/// A mistake somewhere in a rule says which rule it is: people look for its name, not for its number.
fn with_rule_name(mut error: yaml::YamlError, text: &str) -> yaml::YamlError {
    if error.reason.contains("rule \"") {
        return error;
    }
    let index = |lead: &str| {
        let start = error.reason.find(lead)? + lead.len();
        let end = start + error.reason[start..].find(']')?;
        error.reason[start..end].parse::<usize>().ok()
    };
    let name = || {
        let (group, rule) = (index("groups[")?, index("].rules[")?);
        let file: serde_yaml::Value = serde_yaml::from_str(text).ok()?;
        let rule = file.get("groups")?.get(group)?.get("rules")?.get(rule)?;
        let name = rule.get("alert").or_else(|| rule.get("record"))?;
        name.as_str().map(str::to_owned)
    };
    if let Some(name) = name() {
        error.reason.push_str(&format!(" (in rule {name:?})"));
    }
    error
}

/// A mistake in a rule or group as a whole is reported at the list around it; its name says where it stands.
fn at_rule(mut error: yaml::YamlError, text: &str) -> yaml::YamlError {
    let named = |lead: &str| {
        let start = error.reason.find(lead)? + lead.len();
        let end = start + error.reason[start..].find('"')?;
        Some(error.reason[start..end].to_owned())
    };
    let (keys, name): (&[&str], String) = match (named("rule \""), named("groupname: \"")) {
        (Some(rule), _) => (&["alert:", "record:"], rule),
        (None, Some(group)) => (&["name:"], group),
        (None, None) => return error,
    };
    let begins = |line: &&str| {
        let line = line.trim_start().trim_start_matches(['-', ' ', '{']);
        keys.iter().any(|key| {
            let value = line
                .strip_prefix(key)
                .map(|rest| rest.trim_start().trim_start_matches(['"', '\'']));
            value.is_some_and(|value| {
                let rest = value.strip_prefix(name.as_str());
                rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
            })
        })
    };
    // Of groups with one name, the last is the repetition.
    let found = text.lines().enumerate().filter(|(_, line)| begins(line));
    let found = if keys.len() == 1 {
        found.last()
    } else {
        found.into_iter().next()
    };
    if let Some((index, line)) = found {
        error.line = index + 1;
        error.column = line.len() - line.trim_start().len() + 1;
        line.clone_into(&mut error.snippet);
    }
    error
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    groups: Vec<GroupSpec>,
}

impl TryFrom<RawFile> for RuleFile {
    type Error = String;

    fn try_from(raw: RawFile) -> Result<RuleFile, String> {
        let mut names = BTreeSet::new();
        for (i, group) in raw.groups.iter().enumerate() {
            let place = format!("groups[{i}]");
            if group.name.is_empty() {
                return Err(format!("{place}: Groupname must not be empty"));
            }
            if !names.insert(&group.name) {
                return Err(format!(
                    "{place}: groupname: {:?} is repeated in the same file",
                    group.name
                ));
            }
            if group.interval.is_some_and(|interval| interval.0 <= 0) {
                return Err(format!("{place}: interval must be more than zero"));
            }
            for name in group.labels.keys() {
                check_label_name(name).map_err(|reason| format!("{place}: {reason}"))?;
            }
        }
        Ok(RuleFile { groups: raw.groups })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    record: Option<String>,
    alert: Option<String>,
    expr: Option<QueryText>,
    #[serde(rename = "for")]
    hold: Option<Interval>,
    keep_firing_for: Option<Interval>,
    #[serde(default)]
    labels: BTreeMap<String, Text>,
    #[serde(default)]
    annotations: BTreeMap<String, Text>,
    queries: Option<serde_yaml::Mapping>,
    condition: Option<Condition>,
    recover: Option<Condition>,
    no_data: Option<NoData>,
    on_error: Option<OnError>,
    #[serde(default)]
    on: Vec<String>,
    anomaly: Option<serde_yaml::Value>,
}

impl TryFrom<RawRule> for RuleSpec {
    type Error = String;

    fn try_from(raw: RawRule) -> Result<RuleSpec, String> {
        let known = raw.alert.clone().or(raw.record.clone()).filter(|name| !name.is_empty());
        RuleSpec::check(raw).map_err(|reason| match known {
            Some(name) if !reason.contains("rule \"") => format!("rule {name:?}: {reason}"),
            _ => reason,
        })
    }
}

impl RuleSpec {
    fn check(raw: RawRule) -> Result<RuleSpec, String> {
        let (name, alerts) = match (&raw.record, &raw.alert) {
            (Some(_), Some(_)) => return Err("only one of 'record' and 'alert' must be set".to_owned()),
            (Some(record), None) if !record.is_empty() => (record.clone(), false),
            (None, Some(alert)) if !alert.is_empty() => (alert.clone(), true),
            _ => return Err("one of 'record' or 'alert' must be set".to_owned()),
        };
        for label in raw.labels.keys() {
            check_label_name(label).map_err(|reason| format!("rule {name:?}: {reason}"))?;
        }
        if let Some(annotation) = raw.annotations.keys().find(|annotation| annotation.is_empty()) {
            return Err(format!("rule {name:?}: invalid annotation name: {annotation:?}"));
        }
        let source = source(&raw, &name)?;
        if !alerts {
            refuse_alert_keys(&raw, &name)?;
        }
        check_recover(&raw, &source).map_err(|reason| format!("rule {name:?}: {reason}"))?;
        let alert = alerts.then(|| AlertSpec {
            hold: raw.hold.unwrap_or_default(),
            keep_firing: raw.keep_firing_for.unwrap_or_default(),
            annotations: raw.annotations,
            recover: raw.recover,
            no_data: raw.no_data.unwrap_or_default(),
            on_error: raw.on_error.unwrap_or_default(),
        });
        Ok(RuleSpec {
            name,
            source,
            labels: raw.labels,
            alert,
        })
    }
}

fn source(raw: &RawRule, name: &str) -> Result<Source, String> {
    if raw.anomaly.is_some() && raw.queries.is_some() {
        return Err(format!(
            "rule {name:?}: 'anomaly' beside 'queries' does not say which of them: write it under one of the queries"
        ));
    }
    match (&raw.expr, &raw.queries, &raw.condition) {
        (Some(expr), None, None) if raw.on.is_empty() => match &raw.anomaly {
            None => Ok(Source::Expr(expr.clone())),
            Some(anomaly) => judged(expr, anomaly).map_err(|reason| format!("rule {name:?}: {reason}")),
        },
        (Some(_), None, None) => Err(format!("rule {name:?}: 'on' needs 'queries'")),
        (Some(_), ..) => Err(format!(
            "rule {name:?}: 'expr' and 'queries' with 'condition' exclude each other"
        )),
        (None, Some(queries), Some(condition)) => {
            let signals = Signals {
                queries: signals(queries)?,
                condition: condition.clone(),
                on: raw.on.clone(),
            };
            condition.check_names(&names(&signals))?;
            Ok(Source::Signals(signals))
        }
        (None, Some(_), None) => Err(format!("rule {name:?}: 'queries' needs a 'condition'")),
        (None, None, Some(_)) => Err(format!("rule {name:?}: 'condition' needs 'queries'")),
        (None, None, None) => Err(format!("field 'expr' must be set in rule {name:?}")),
    }
}

/// One query that a detector judges is a condition over its score.
fn judged(expr: &QueryText, anomaly: &serde_yaml::Value) -> Result<Source, String> {
    let signal = Signal {
        name: VALUE.to_owned(),
        query: expr.clone(),
        default: None,
        anomaly: Some(Anomaly::read(anomaly, expr)?),
    };
    Ok(Source::Signals(Signals {
        queries: vec![signal],
        condition: "value.score > 1".parse()?,
        on: Vec::new(),
    }))
}

/// Returns the names that a condition may speak of.
fn names(signals: &Signals) -> Vec<String> {
    let mut names = Vec::new();
    for signal in &signals.queries {
        names.push(signal.name.clone());
        if signal.anomaly.is_some() {
            names.extend(["score", "expected"].map(|part| format!("{}.{part}", signal.name)));
        }
    }
    names
}

fn yes() -> bool {
    true
}

/// What `recover` calls the value of a rule with one query.
const VALUE: &str = "value";

fn refuse_alert_keys(raw: &RawRule, name: &str) -> Result<(), String> {
    let keys = [
        ("for", raw.hold.is_some()),
        ("keep_firing_for", raw.keep_firing_for.is_some()),
        ("annotations", !raw.annotations.is_empty()),
        ("queries", raw.queries.is_some()),
        ("recover", raw.recover.is_some()),
        ("no_data", raw.no_data.is_some()),
        ("on_error", raw.on_error.is_some()),
        ("anomaly", raw.anomaly.is_some()),
    ];
    match keys.iter().find(|(_, given)| *given) {
        Some((key, _)) => Err(format!("invalid field '{key}' in recording rule {name:?}")),
        None => Ok(()),
    }
}

/// In a rule with one query, `recover` speaks of `value`; with several, of their names.
fn check_recover(raw: &RawRule, source: &Source) -> Result<(), String> {
    let Some(recover) = &raw.recover else {
        return Ok(());
    };
    match source {
        Source::Expr(_) => recover.check_names(&[VALUE.to_owned()]),
        Source::Signals(signals) => recover.check_names(&names(signals)),
    }
    .map_err(|reason| format!("recover: {reason}"))
}

fn signals(queries: &serde_yaml::Mapping) -> Result<Vec<Signal>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Full {
        expr: String,
        default: Option<f64>,
        anomaly: Option<serde_yaml::Value>,
    }
    if queries.is_empty() {
        return Err("queries: at least one is needed".to_owned());
    }
    let mut signals = Vec::new();
    for (name, query) in queries {
        let name = name.as_str().unwrap_or_default();
        let is_name = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !is_name {
            return Err(format!(
                "queries: {name:?} is no name of a query: write [a-z_][a-z0-9_]*"
            ));
        }
        let full = match query {
            serde_yaml::Value::String(expr) => Full {
                expr: expr.clone(),
                default: None,
                anomaly: None,
            },
            other => serde_yaml::from_value(other.clone()).map_err(|error| format!("queries.{name}: {error}"))?,
        };
        let query: QueryText = full.expr.parse().map_err(|error| format!("queries.{name}: {error}"))?;
        let anomaly = full
            .anomaly
            .as_ref()
            .map(|anomaly| Anomaly::read(anomaly, &query))
            .transpose();
        let anomaly = anomaly.map_err(|error| format!("queries.{name}: {error}"))?;
        signals.push(Signal {
            name: name.to_owned(),
            query,
            default: full.default,
            anomaly,
        });
    }
    Ok(signals)
}

fn check_label_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name == METRIC_NAME {
        return Err(format!("invalid label name: {name:?}"));
    }
    Ok(())
}

impl FromStr for QueryText {
    type Err = String;

    fn from_str(text: &str) -> Result<QueryText, String> {
        if text.trim().is_empty() {
            return Err("field 'expr' must be set".to_owned());
        }
        let expr = query::parse(text).map_err(|error| match error {
            QueryError::Parse { message, hint } => match hint.lines().find(|line| line.contains("did you mean")) {
                Some(line) => format!("{message} ({})", line.trim()),
                None => message,
            },
            other => other.to_string(),
        })?;
        Ok(QueryText {
            text: text.to_owned(),
            expr,
        })
    }
}

impl PartialEq for QueryText {
    fn eq(&self, other: &QueryText) -> bool {
        self.text == other.text
    }
}

impl<'de> Deserialize<'de> for QueryText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<QueryText, D::Error> {
        yaml::from_text(deserializer)
    }
}

impl RuleSpec {
    /// Whether it raises alerts.
    pub fn is_alert(&self) -> bool {
        self.alert.is_some()
    }

    /// Returns all queries of the rule.
    pub fn queries(&self) -> Vec<&QueryText> {
        match &self.source {
            Source::Expr(query) => vec![query],
            Source::Signals(signals) => signals.queries.iter().map(|signal| &signal.query).collect(),
        }
    }

    /// Returns the query as the API and links show it: canonical; several queries are joined by their condition.
    pub fn query_text(&self) -> String {
        match &self.source {
            Source::Expr(query) => query.expr.to_string(),
            Source::Signals(signals) => {
                let first = &signals.queries[0];
                match &first.anomaly {
                    Some(anomaly) => anomaly.score_query().to_owned(),
                    None => first.query.expr.to_string(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n  - alert: B\n    expr: up == 1\n    for: 5m\n";

    fn refusal(text: &str) -> String {
        let source = RuleFileSource {
            path: "x.yaml".to_owned(),
            text: text.to_owned(),
        };
        RuleFile::read(&source).unwrap_err().to_string()
    }

    #[test]
    fn every_mistake_is_shown_at_its_own_line() {
        for (from, to, expected) in [
            ("up == 1", "up ==", "x.yaml:7:"),
            ("up == 1", "|\n      sum(\n        up))", "x.yaml:9:12:"),
            (
                "for: 5m",
                "fro: 5m",
                "x.yaml:8:5: groups[0].rules[1]: unknown field \"fro\"",
            ),
            ("for: 5m", "for: soon", "x.yaml:8:10: "),
            ("for: 5m", "record: b", "x.yaml:6:"),
            ("for: 5m", "labels: {'': x}", "x.yaml:6:"),
            ("for: 5m", "labels: {a: '{{ $labels.x'}", "x.yaml:8:"),
            ("for: 5m", "anomaly: belwo", "x.yaml:6:"),
            ("for: 5m", "anomaly: {modle: mad}", "there is no option \"modle\""),
            ("for: 5m", "recover: valeu < 1", "did you mean \"value\"?"),
            ("    expr: up == 1", "   expr: up == 1", "x.yaml:6:"),
            ("    for: 5m\n", "- name: g\n", "x.yaml:8:"),
            ("alert: B", "record: b", "invalid field 'for' in recording rule"),
            ("up == 1", "up >", "x.yaml:7:"),
            ("up == 1", "up ==", "(in rule \"B\")"),
            ("up == 1", ">-\n      sum(\n        up))", "x.yaml:9:12:"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let refused = refusal(&text);
            assert!(refused.contains(expected), "{to:?}: {refused}");
        }
    }

    #[test]
    fn labels_of_a_group_are_those_of_its_rules_unless_they_have_their_own() {
        let text = GOOD
            .replace("  rules:", "  labels: {team: web, severity: low}\n  rules:")
            .replace("for: 5m", "labels: {severity: high}");
        let file = RuleFile::read(&RuleFileSource {
            path: "x.yaml".into(),
            text,
        })
        .unwrap();
        let labels = |rule: usize| {
            let labels = file.groups[0].rules[rule].labels.iter();
            labels
                .map(|(name, text)| format!("{name}={}", text.source))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (labels(0), labels(1)),
            (
                vec!["severity=low".to_owned(), "team=web".into()],
                vec!["severity=high".to_owned(), "team=web".into()]
            )
        );
    }
}
