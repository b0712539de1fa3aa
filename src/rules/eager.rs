//! Evaluation at the moment a sample lands: which rules ask for which series, who was touched, and what it may cost.
//!
//! The store calls when series move that an alert rule selects. The rule's group then evaluates that rule within
//! [`GATHER`], without waiting for its interval. A share of one core bounds all of it: beyond the share, and for a short
//! while after its own last evaluation, a rule waits. What waits is counted, and the interval comes in any case.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::anomaly::RECORDED;
use super::file::{GroupSpec, RuleSpec};
use crate::io::Mono;
use crate::model::{Interval, METRIC_NAME, MatchOp, Matcher};
use crate::query::ast::VectorSelector;
use crate::storage::Wake;

/// How long touched rules are gathered after the first touch, so that one evaluation serves one batch.
pub(super) const GATHER: Interval = Interval(5);
/// How many times as long as its last evaluation took a rule rests.
const REST_FACTOR: f64 = 9.0;
/// For how long unused share can be saved up, in seconds.
const SAVED_SECS: f64 = 1.0;

/// The rules of one group that were touched since they were last looked at.
#[derive(Default)]
pub(super) struct Inbox {
    touched: Mutex<BTreeSet<usize>>,
    arrived: Notify,
}

impl Inbox {
    /// Notes that the group's rule with this index was touched. Never blocks for long: the store calls it.
    fn touch(&self, rule: usize) {
        if self.touched.lock().insert(rule) {
            self.arrived.notify_one();
        }
    }

    /// Waits until a rule is touched.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes all that were touched.
    pub(super) fn take(&self) -> BTreeSet<usize> {
        std::mem::take(&mut *self.touched.lock())
    }

    /// Puts back those that cannot be evaluated yet.
    pub(super) fn put_back(&self, rules: impl IntoIterator<Item = usize>) {
        self.touched.lock().extend(rules);
    }
}

/// What evaluations at arrival may cost, all groups together: a share of one core.
pub(super) struct Share {
    /// CPU seconds a second.
    rate: f64,
    saved: Mutex<(f64, Mono)>,
}

impl Share {
    pub(super) fn new(rate: f64, now: Mono) -> Share {
        Share {
            rate,
            saved: Mutex::new((rate * SAVED_SECS, now)),
        }
    }

    /// Says since when on there is something left, if there is.
    pub(super) fn allows(&self, now: Mono) -> bool {
        let mut saved = self.saved.lock();
        let earned = now.seconds_since(saved.1) * self.rate;
        *saved = ((saved.0 + earned).min(self.rate * SAVED_SECS), now);
        saved.0 > 0.0
    }

    /// Takes off what an evaluation took.
    pub(super) fn spend(&self, secs: f64) {
        self.saved.lock().0 -= secs;
    }
}

/// Returns when a rule that took so long may be evaluated at arrival again.
pub(super) fn rest(now: Mono, secs: f64) -> Mono {
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds of one evaluation")]
    let millis = (secs * REST_FACTOR * 1000.0) as i64;
    now.after(Interval(millis))
}

/// A group that wants to hear of samples.
pub(super) struct Listener<'a> {
    pub(super) spec: &'a GroupSpec,
    pub(super) inbox: &'a Arc<Inbox>,
}

/// What is registered with the store: selectors by token.
pub(super) type Registrations = Vec<(u64, Vec<Matcher>)>;

/// Returns what to register with the store, and what to do when it calls.
pub(super) fn registrations<'a>(groups: impl Iterator<Item = Listener<'a>>) -> (Registrations, Arc<Wake>) {
    let mut selectors = Vec::new();
    let mut owners: Vec<(Arc<Inbox>, usize)> = Vec::new();
    for group in groups {
        for (index, rule) in group.spec.rules.iter().enumerate().filter(|(_, rule)| rule.is_alert()) {
            let token = owners.len() as u64;
            let wanted = wanted(group.spec, rule);
            if wanted.is_empty() {
                continue;
            }
            selectors.extend(wanted.into_iter().map(|matchers| (token, matchers)));
            owners.push((Arc::clone(group.inbox), index));
        }
    }
    let wake = move |tokens: &[u64]| {
        for token in tokens {
            if let Some((inbox, rule)) = usize::try_from(*token).ok().and_then(|token| owners.get(token)) {
                inbox.touch(*rule);
            }
        }
    };
    (selectors, Arc::new(wake))
}

/// Returns the selectors by which a fresh sample can change the rule's answer. What alert rules write themselves, and what
/// the group records in the same evaluation, is left out.
fn wanted(group: &GroupSpec, rule: &RuleSpec) -> Vec<Vec<Matcher>> {
    let recorded = |name: &str| group.rules.iter().any(|other| !other.is_alert() && other.name == name);
    let is_fresh = |selector: &VectorSelector| selector.offset.is_none() && selector.at.is_none();
    let own = ["ALERTS", "ALERTS_FOR_STATE"];
    let mut wanted: Vec<Vec<Matcher>> = Vec::new();
    for selector in rule.queries().iter().flat_map(|query| query.expr.selectors()) {
        let name = selector
            .matchers
            .iter()
            .find(|matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal)
            .map(|matcher| matcher.value.as_str());
        let written = name.is_some_and(|name| own.contains(&name) || RECORDED.contains(&name) || recorded(name));
        if is_fresh(&selector) && !written && !wanted.contains(&selector.matchers) {
            wanted.push(selector.matchers);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{RuleFile, RuleFileSource};

    #[test]
    fn a_rule_hears_of_fresh_samples_of_its_selectors_only() {
        let text = "groups:\n- name: g\n  rules:\n  - {record: a:b, expr: x}\n  - {alert: A, expr: 'x + x offset 5m + a:b > 1 unless ALERTS{alertname=\"B\"}'}\n  - {alert: B, expr: 'rate(y{job=\"z\"}[5m]) > 1'}\n";
        let file = RuleFile::read(&RuleFileSource {
            path: "x.yaml".into(),
            text: text.into(),
        })
        .unwrap();
        let inbox = Arc::new(Inbox::default());
        let listeners = file.groups.iter().map(|spec| Listener { spec, inbox: &inbox });
        let (selectors, wake) = registrations(listeners);
        let shown: Vec<String> = selectors
            .iter()
            .map(|(token, matchers)| format!("{token} {matchers:?}"))
            .collect();
        assert_eq!(selectors.len(), 2, "{shown:?}");
        assert_eq!((selectors[0].0, selectors[1].0, selectors[1].1.len()), (0, 1, 2));
        wake(&[1, 1, 7]);
        assert_eq!(inbox.take().into_iter().collect::<Vec<_>>(), [2]);
        assert!(inbox.take().is_empty());
    }

    #[test]
    fn the_share_is_spent_and_earned_again() {
        let share = Share::new(0.25, Mono(0));
        assert!(share.allows(Mono(0)));
        share.spend(0.5);
        assert!(!share.allows(Mono(0)));
        assert!(!share.allows(Mono(900_000_000)));
        assert!(share.allows(Mono(1_100_000_000)));
        assert_eq!(rest(Mono(0), 0.002), Mono(18_000_000));
    }
}
