//! Which rules of a group read what earlier ones write: rules that do not are evaluated side by side.

use std::ops::Range;

use super::file::{GroupSpec, RuleSpec};
use crate::model::{METRIC_NAME, MatchOp, Matcher};

/// The metrics that alert rules write.
const ALERT_METRICS: [&str; 6] = [
    "ALERTS",
    "ALERTS_FOR_STATE",
    "anomaly_score",
    "anomaly_expected",
    "anomaly_lower",
    "anomaly_upper",
];

/// Cuts a group into runs of rules that do not read each other. What one run wrote is stored before the next begins.
pub(super) fn stages(group: &GroupSpec) -> Vec<Range<usize>> {
    let mut stages: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for (i, rule) in group.rules.iter().enumerate() {
        if group.rules[start..i].iter().any(|earlier| reads(rule, earlier)) {
            stages.push(start..i);
            start = i;
        }
    }
    if start < group.rules.len() {
        stages.push(start..group.rules.len());
    }
    stages
}

/// Whether `rule` may see what `earlier` writes.
fn reads(rule: &RuleSpec, earlier: &RuleSpec) -> bool {
    let asks_in_templates = rule.labels.values().any(super::expand::Text::asks)
        || rule
            .alert
            .as_ref()
            .is_some_and(|alert| alert.annotations.values().any(super::expand::Text::asks));
    asks_in_templates
        || rule
            .queries()
            .iter()
            .flat_map(|query| query.expr.selectors())
            .any(|selector| selects(&selector.matchers, earlier))
}

fn selects(matchers: &[Matcher], earlier: &RuleSpec) -> bool {
    let of = |name: &str, value: &str| {
        matchers
            .iter()
            .filter(|matcher| matcher.name == name)
            .all(|matcher| matcher.matches(value))
    };
    if !earlier.is_alert() {
        return of(METRIC_NAME, &earlier.name);
    }
    ALERT_METRICS.iter().any(|metric| of(METRIC_NAME, metric)) && of("alertname", &earlier.name)
}

/// Returns the metric names that a rule's queries surely need; used by `check` against a live server.
pub fn metric_names(rule: &RuleSpec) -> Vec<String> {
    let mut names: Vec<String> = rule
        .queries()
        .iter()
        .flat_map(|query| query.expr.selectors())
        .flat_map(|selector| selector.matchers)
        .filter(|matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal)
        .map(|matcher| matcher.value)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{RuleFile, RuleFileSource};

    fn stages_of(rules: &[&str]) -> Vec<Range<usize>> {
        let text = format!(
            "groups:\n- name: g\n  rules:\n{}",
            rules.iter().map(|rule| format!("  - {{{rule}}}\n")).collect::<String>()
        );
        let file = RuleFile::read(&RuleFileSource {
            path: "x.yaml".into(),
            text,
        })
        .unwrap();
        stages(&file.groups[0])
    }

    #[test]
    fn rules_that_do_not_read_each_other_run_side_by_side() {
        assert_eq!(
            stages_of(&["record: a, expr: x", "record: b, expr: y", "alert: C, expr: z > 1"]),
            vec![0..3]
        );
    }

    #[test]
    fn a_rule_that_reads_an_earlier_one_waits_for_it() {
        assert_eq!(
            stages_of(&["record: a, expr: x", "record: b, expr: a + y", "record: c, expr: y"]),
            vec![0..1, 1..3]
        );
        assert_eq!(
            stages_of(&["alert: A, expr: x", "alert: B, expr: 'ALERTS{alertname=\"A\"}'"]),
            vec![0..1, 1..2]
        );
        assert_eq!(
            stages_of(&["alert: A, expr: x", "alert: B, expr: 'ALERTS{alertname=\"Z\"}'"]),
            vec![0..2]
        );
        assert_eq!(
            stages_of(&["record: a, expr: x", "alert: B, expr: '{job=\"x\"} > 1'"]),
            vec![0..1, 1..2]
        );
        assert_eq!(
            stages_of(&[
                "record: a, expr: x",
                "alert: B, expr: y, annotations: {v: '{{ query \"a\" }}'}"
            ]),
            vec![0..1, 1..2]
        );
    }
}
