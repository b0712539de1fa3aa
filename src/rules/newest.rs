//! The sample that made an alert fire: where the time from sample to page begins.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::alerting::{Alerts, Applied};
use super::file::RuleSpec;
use super::state::Change;
use super::{Evaluate, vector};
use crate::model::{Labels, METRIC_NAME, Millis};
use crate::storage::Point;

/// Up to how many alerts that begin to fire at once are told apart; more of them share the newest sample of the rule.
const TOLD_APART_MAX: usize = 64;

impl Alerts {
    /// Notes, for alerts that have just begun to fire, the newest sample that the evaluation saw. Asks the store only then.
    pub(super) fn note_newest_samples(
        &mut self,
        applied: &Applied,
        rule: &RuleSpec,
        engine: &dyn Evaluate,
        query_at: Millis,
    ) {
        let firing = applied
            .transitions
            .iter()
            .filter(|transition| transition.change == Change::Firing);
        let firing: Vec<&Labels> = firing.map(|transition| &transition.labels).collect();
        if firing.is_empty() {
            return;
        }
        // Only a measurement: whatever goes wrong with it, the page goes out.
        let asked = catch_unwind(AssertUnwindSafe(|| newest_samples(rule, engine, query_at)));
        let samples = asked.unwrap_or_default();
        let newest = samples.iter().map(|(_, at)| *at).max();
        for labels in &firing {
            let Some(instance) = self.instances.get_mut(*labels) else {
                continue;
            };
            instance.sample_at = if firing.len() > TOLD_APART_MAX {
                newest
            } else {
                let of_it = samples.iter().filter(|(series, _)| agree(series, &instance.source));
                of_it.map(|(_, at)| *at).max().or(newest)
            };
        }
    }
}

/// When each series that the rule reads had its newest sample. Series read with an offset are no news and left out.
fn newest_samples(rule: &RuleSpec, engine: &dyn Evaluate, at: Millis) -> Vec<(Labels, Millis)> {
    let queries = rule.queries().into_iter();
    let selectors = queries.flat_map(|query| query.expr.selectors());
    let present = selectors.filter(|selector| selector.offset.is_none() && selector.at.is_none());
    let texts = present.map(|selector| {
        let matchers: Vec<String> = selector.matchers.iter().map(ToString::to_string).collect();
        format!("timestamp({{{}}})", matchers.join(","))
    });
    let texts = texts.collect::<BTreeSet<String>>();
    let mut samples = Vec::new();
    for text in texts {
        let Ok(expr) = crate::query::parse(&text) else { continue };
        let answer = engine
            .instant(&expr, at)
            .ok()
            .and_then(|output| vector(output.value).ok());
        for sample in answer.unwrap_or_default() {
            if let Point::Float(float) = sample.point {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "seconds since the epoch, in milliseconds"
                )]
                let at = Millis((float.value * 1000.0) as i64);
                samples.push((sample.labels, at));
            }
        }
    }
    samples
}

/// Whether a series can be behind an element of the result: no label of both differs.
fn agree(series: &Labels, element: &Labels) -> bool {
    element
        .iter()
        .filter(|(name, _)| *name != METRIC_NAME)
        .all(|(name, value)| {
            let own = series.value(name);
            own.is_empty() || own == value
        })
}
