//! Advice about rules that are valid and probably not what was meant.

use std::collections::{BTreeMap, BTreeSet};

use super::depend::metric_names;
use super::file::{RuleFile, RuleSpec};
use crate::model::yaml::nearest;
use crate::model::{Interval, METRIC_NAME, MatchOp};
use crate::query::ast::ExprKind;

/// From how many values on a pattern without a fixed beginning is called costly.
const COSTLY_VALUES_MIN: usize = 1_000;

/// What a server knows, as far as rules ask for it.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The names of all metrics.
    pub metrics: BTreeSet<String>,
    /// The types that senders named, by metric: `counter`, `gauge`, …
    pub types: BTreeMap<String, String>,
    /// The label names of the metrics that rules select.
    pub labels: BTreeMap<String, BTreeSet<String>>,
    /// How many values the labels have that rules match by pattern.
    pub values: BTreeMap<String, usize>,
}

/// Returns the metrics whose labels [`lint_live`] looks at, and the labels whose values it counts.
pub fn questions(files: &[RuleFile]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut metrics, mut labels) = (BTreeSet::new(), BTreeSet::new());
    for rule in rules(files) {
        for selector in rule.1.queries().iter().flat_map(|query| query.expr.selectors()) {
            for matcher in &selector.matchers {
                if matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal {
                    metrics.insert(matcher.value.clone());
                }
                if is_open_pattern(matcher) {
                    labels.insert(matcher.name.clone());
                }
            }
        }
    }
    (metrics, labels)
}

/// Returns advice about rules that do not fit what a server has: metrics and labels that it does not know, rates of gauges,
/// patterns that are tried against many values.
pub fn lint_live(files: &[RuleFile], known: &Known) -> Vec<String> {
    let recorded: BTreeSet<&str> = rules(files)
        .filter(|(_, rule)| !rule.is_alert())
        .map(|(_, rule)| rule.name.as_str())
        .chain(["ALERTS", "ALERTS_FOR_STATE"])
        .collect();
    let mut advice = Vec::new();
    for (group, rule) in rules(files) {
        let place = format!("group {group:?}, rule {:?}", rule.name);
        let mut say = |text: String| {
            let line = format!("{place}: {text}");
            if !advice.contains(&line) {
                advice.push(line);
            }
        };
        for name in metric_names(rule) {
            if !known.metrics.contains(&name) && !recorded.contains(name.as_str()) {
                let all = known.metrics.iter().map(String::as_str).chain(recorded.iter().copied());
                let hint = nearest(&name, all).map(|other| format!(" (did you mean {other:?}?)"));
                say(format!("the server has no metric {name:?}{}", hint.unwrap_or_default()));
            }
        }
        for query in rule.queries() {
            for selector in query.expr.selectors() {
                unknown_labels(&selector.matchers, known, &mut say);
            }
            query.expr.walk(&mut |expr| {
                if let ExprKind::Call { function, args } = &*expr.kind
                    && matches!(function.name, "rate" | "increase" | "irate")
                    && let Some(ExprKind::Matrix { selector, .. }) = args.first().map(|arg| &*arg.kind)
                    && let Some(name) = &selector.name
                    && known.types.get(name).is_some_and(|kind| kind == "gauge")
                {
                    say(format!(
                        "{}() over {name}, which is a gauge: use delta() or deriv()",
                        function.name
                    ));
                }
            });
        }
    }
    advice
}

fn rules(files: &[RuleFile]) -> impl Iterator<Item = (&str, &RuleSpec)> {
    let groups = files.iter().flat_map(|file| &file.groups);
    groups.flat_map(|group| group.rules.iter().map(|rule| (group.name.as_str(), rule)))
}

fn unknown_labels(matchers: &[crate::model::Matcher], known: &Known, say: &mut dyn FnMut(String)) {
    let metric = matchers
        .iter()
        .find(|matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal);
    let labels = metric.and_then(|metric| Some((metric, known.labels.get(&metric.value)?)));
    for matcher in matchers {
        if let Some((metric, labels)) = labels
            && matcher.name != METRIC_NAME
            && !matcher.matches("")
            && !labels.contains(&matcher.name)
        {
            let hint = nearest(&matcher.name, labels.iter().map(String::as_str));
            let hint = hint
                .map(|other| format!(" (did you mean {other:?}?)"))
                .unwrap_or_default();
            say(format!(
                "no series of {} has the label {:?}{hint}",
                metric.value, matcher.name
            ));
        }
        let count = known.values.get(&matcher.name).copied().unwrap_or(0);
        if is_open_pattern(matcher) && count >= COSTLY_VALUES_MIN {
            say(format!(
                "the pattern {}{}{:?} is tried against {count} values: give it a fixed beginning",
                matcher.name,
                matcher.op.as_str(),
                matcher.value
            ));
        }
    }
}

/// Whether a pattern must be tried against every value: it has neither a fixed beginning nor is it a list of words.
fn is_open_pattern(matcher: &crate::model::Matcher) -> bool {
    let regex = matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex);
    let special = |c: char| r"\.+*?()[]{}^$".contains(c);
    regex && matcher.value.starts_with(special) && matcher.value != ".*" && matcher.value != ".+"
}

/// Returns advice about a file's rules, each line led by the group and the rule.
pub fn lint(file: &RuleFile) -> Vec<String> {
    let mut advice = Vec::new();
    for group in &file.groups {
        for (i, rule) in group.rules.iter().enumerate() {
            let place = format!("group {:?}, rule {:?}", group.name, rule.name);
            advice.extend(rule_advice(rule).into_iter().map(|text| format!("{place}: {text}")));
            if group.rules[..i].contains(rule) {
                advice.push(format!("{place}: the same rule stands twice in the group"));
            }
        }
    }
    advice
}

fn rule_advice(rule: &RuleSpec) -> Vec<String> {
    let mut advice = Vec::new();
    if let Some(alert) = &rule.alert {
        if alert.hold == Interval::ZERO {
            advice.push("has no \"for\": one evaluation over the threshold pages".to_owned());
        }
        if alert.annotations.is_empty() {
            advice.push("has no annotations: the page will not say what it is about".to_owned());
        }
    } else if !rule.name.contains(':') {
        advice.push("records a name without a colon: recorded series are named level:metric:operation".to_owned());
    }
    for query in rule.queries() {
        query.expr.walk(&mut |expr| match &*expr.kind {
            ExprKind::Call { function, args } if matches!(function.name, "rate" | "increase" | "irate") => {
                if let Some(name) = args.first().and_then(gauge_name) {
                    advice.push(format!(
                        "{}() over {name}, whose name is not a counter's",
                        function.name
                    ));
                }
            }
            ExprKind::Vector(selector) | ExprKind::Matrix { selector, .. } => {
                for matcher in &selector.matchers {
                    let regex = matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex);
                    if regex && matcher.value.starts_with(".*") && matcher.value.len() > 2 {
                        advice.push(format!(
                            "the pattern {}{}{:?} begins with .*: every value of the label is tried",
                            matcher.name,
                            matcher.op.as_str(),
                            matcher.value
                        ));
                    }
                }
            }
            _ => {}
        });
    }
    advice
}

/// Returns the metric's name when it looks like a gauge's.
fn gauge_name(expr: &crate::query::Expr) -> Option<String> {
    let ExprKind::Matrix { selector, .. } = &*expr.kind else {
        return None;
    };
    let name = selector.name.clone()?;
    let counts = ["_total", "_count", "_sum", "_bucket"]
        .iter()
        .any(|end| name.ends_with(end));
    let gauge = ["_bytes", "_ratio", "_celsius", "_percent", "_info"]
        .iter()
        .any(|end| name.ends_with(end));
    (gauge && !counts).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RuleFileSource;

    #[test]
    fn advice_names_what_was_probably_not_meant() {
        let text = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: rate(mem_bytes[5m]) > 1\n  - record: x\n    expr: a{b=~\".*c\"}\n";
        let file = RuleFile::read(&RuleFileSource {
            path: "x.yaml".into(),
            text: text.into(),
        })
        .unwrap();
        let advice = lint(&file).join("\n");
        for part in ["no \"for\"", "no annotations", "mem_bytes", "colon", "begins with .*"] {
            assert!(advice.contains(part), "{part}: {advice}");
        }
    }

    #[test]
    fn rules_are_held_against_what_a_server_has() {
        let text = "groups:\n- name: g\n  rules:\n  - record: job:up:sum\n    expr: sum(up)\n  - alert: A\n    expr: \
            rate(mem[5m]) > 1 and htpt_total{hots=\"a\", path=~\".*x\"} and job:up:sum and up{hots=\"a\"} and up{gone=\"\"}\n";
        let file = RuleFile::read(&RuleFileSource {
            path: "x.yaml".into(),
            text: text.into(),
        })
        .unwrap();
        let files = [file];
        let (metrics, labels) = questions(&files);
        assert_eq!(
            metrics.iter().map(String::as_str).collect::<Vec<_>>(),
            ["htpt_total", "job:up:sum", "mem", "up"]
        );
        assert_eq!(labels.iter().map(String::as_str).collect::<Vec<_>>(), ["path"]);
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let known = Known {
            metrics: set(&["up", "mem", "http_total"]),
            types: [("mem".to_owned(), "gauge".to_owned())].into(),
            labels: [("up".to_owned(), set(&["host", "job"]))].into(),
            values: [("path".to_owned(), 5_000)].into(),
        };
        assert_eq!(
            lint_live(&files, &known),
            [
                "group \"g\", rule \"A\": the server has no metric \"htpt_total\" (did you mean \"http_total\"?)",
                "group \"g\", rule \"A\": the pattern path=~\".*x\" is tried against 5000 values: give it a fixed beginning",
                "group \"g\", rule \"A\": no series of up has the label \"hots\" (did you mean \"host\"?)",
                "group \"g\", rule \"A\": rate() over mem, which is a gauge: use delta() or deriv()",
            ]
        );
    }
}
