//! Inhibition: while a source alert fires, the alerts it explains are told to nobody.

use std::collections::{BTreeSet, HashMap};

use super::config::InhibitRule;
use super::silence::{MatcherIndex, all_match};
use crate::model::{Fingerprint, Labels};

/// The rules, and for each of them the alerts that match its source side, by the values of `equal`.
#[derive(Default)]
pub(crate) struct Inhibitor {
    rules: Vec<Rule>,
    targets: MatcherIndex<usize>,
    sources: MatcherIndex<usize>,
}

struct Rule {
    rule: InhibitRule,
    sources: HashMap<String, BTreeSet<Fingerprint>>,
}

impl Inhibitor {
    /// Starts without alerts.
    pub(crate) fn new(rules: &[InhibitRule]) -> Inhibitor {
        let mut inhibitor = Inhibitor::default();
        for (number, rule) in rules.iter().enumerate() {
            inhibitor.targets.add(number, &rule.target);
            inhibitor.sources.add(number, &rule.source);
            inhibitor.rules.push(Rule {
                rule: rule.clone(),
                sources: HashMap::new(),
            });
        }
        inhibitor
    }

    /// Notes that an alert exists. Whether it still fires is asked when it matters.
    pub(crate) fn add(&mut self, fingerprint: Fingerprint, labels: &Labels) {
        for number in self.matching_sources(labels) {
            let rule = &mut self.rules[number];
            let key = equal_key(&rule.rule, labels);
            rule.sources.entry(key).or_default().insert(fingerprint);
        }
    }

    /// Forgets an alert.
    pub(crate) fn remove(&mut self, fingerprint: Fingerprint, labels: &Labels) {
        for number in self.matching_sources(labels) {
            let rule = &mut self.rules[number];
            let key = equal_key(&rule.rule, labels);
            if let Some(found) = rule.sources.get_mut(&key) {
                found.remove(&fingerprint);
                if found.is_empty() {
                    rule.sources.remove(&key);
                }
            }
        }
    }

    fn matching_sources(&self, labels: &Labels) -> Vec<usize> {
        let matches = |number: &&usize| all_match(&self.rules[**number].rule.source, labels);
        self.sources.candidates(labels).filter(matches).copied().collect()
    }

    /// Returns the alerts that inhibit this one: of each rule the first that fires. `source` gives an alert's labels while it fires.
    pub(crate) fn inhibiting<'a>(
        &self,
        labels: &Labels,
        source: impl Fn(Fingerprint) -> Option<&'a Labels>,
    ) -> Vec<Fingerprint> {
        let mut found = Vec::new();
        for number in self.targets.candidates(labels) {
            let rule = &self.rules[*number];
            if !all_match(&rule.rule.target, labels) {
                continue;
            }
            let Some(sources) = rule.sources.get(&equal_key(&rule.rule, labels)) else {
                continue;
            };
            // An alert on both sides must not hush itself or its peers.
            let two_sided = all_match(&rule.rule.source, labels);
            let first = sources.iter().find(|fingerprint| {
                source(**fingerprint).is_some_and(|labels| !two_sided || !all_match(&rule.rule.target, labels))
            });
            found.extend(first);
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// The values of the `equal` labels, each led by its length: a missing label is empty.
fn equal_key(rule: &InhibitRule, labels: &Labels) -> String {
    rule.equal
        .iter()
        .map(|name| {
            let value = labels.value(name);
            format!("{}:{value}", value.len())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::matchers::parse_matchers;
    use super::*;

    fn rule(source: &str, target: &str, equal: &[&str]) -> InhibitRule {
        InhibitRule {
            source: parse_matchers(source).unwrap(),
            target: parse_matchers(target).unwrap(),
            equal: equal.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn hushed(rules: &[InhibitRule], alerts: &[Labels], target: &Labels) -> usize {
        let mut inhibitor = Inhibitor::new(rules);
        for labels in alerts {
            inhibitor.add(Fingerprint::of(labels), labels);
        }
        let find = |wanted: Fingerprint| alerts.iter().find(|labels| Fingerprint::of(labels) == wanted);
        inhibitor.inhibiting(target, find).len()
    }

    #[test]
    fn a_source_hushes_targets_whose_equal_labels_agree() {
        let rules = [rule(
            "severity=critical",
            "severity=~\"warning|info\"",
            &["site", "zone"],
        )];
        let source = Labels::from_pairs([("severity", "critical"), ("site", "a")]);
        let same = Labels::from_pairs([("severity", "warning"), ("site", "a")]);
        let other = Labels::from_pairs([("severity", "warning"), ("site", "b")]);
        let missing = Labels::from_pairs([("severity", "info"), ("site", "a"), ("zone", "z")]);
        let alerts = [source.clone()];
        assert_eq!(hushed(&rules, &alerts, &same), 1);
        assert_eq!(hushed(&rules, &alerts, &other), 0);
        assert_eq!(hushed(&rules, &alerts, &missing), 0);
        assert_eq!(hushed(&rules, &alerts, &source), 0);
    }

    #[test]
    fn an_alert_on_both_sides_does_not_hush_itself_or_its_peers() {
        let rules = [rule("a=~\"1|2\"", "b=~\".+\"", &[])];
        let both = Labels::from_pairs([("a", "1"), ("b", "1")]);
        let peer = Labels::from_pairs([("a", "2"), ("b", "2")]);
        let only_target = Labels::from_pairs([("b", "3")]);
        assert_eq!(hushed(&rules, &[both.clone(), peer.clone()], &both), 0);
        assert_eq!(hushed(&rules, &[both, peer], &only_target), 1);
    }

    #[test]
    fn a_source_that_is_gone_hushes_nobody() {
        let rules = [rule("s=1", "t=1", &[])];
        let (source, target) = (Labels::from_pairs([("s", "1")]), Labels::from_pairs([("t", "1")]));
        let mut inhibitor = Inhibitor::new(&rules);
        inhibitor.add(Fingerprint::of(&source), &source);
        assert!(inhibitor.inhibiting(&target, |_| None).is_empty());
        inhibitor.remove(Fingerprint::of(&source), &source);
        assert!(inhibitor.inhibiting(&target, |_| Some(&source)).is_empty());
    }
}
