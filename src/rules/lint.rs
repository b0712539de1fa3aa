//! Advice about rules that are valid and probably not what was meant.

use super::file::{RuleFile, RuleSpec};
use crate::model::{Interval, MatchOp};
use crate::query::ast::ExprKind;

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
}
