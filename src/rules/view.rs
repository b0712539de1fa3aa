//! What the HTTP API and tests see of rules: snapshots, taken after each evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::{Change, State};
use crate::model::{Interval, Labels, Millis};

/// A group as it was after its last evaluation.
#[derive(Clone, Debug)]
pub struct GroupView {
    /// The group's name.
    pub name: String,
    /// The file that it is in.
    pub file: String,
    /// How often it is evaluated.
    pub interval: Interval,
    /// How far behind the evaluation time its queries look.
    pub query_offset: Interval,
    /// The most alerts or series of a rule; 0 is no limit.
    pub limit: usize,
    /// When it was last evaluated, if ever.
    pub last_evaluation: Option<Millis>,
    /// How long that took, in seconds.
    pub evaluation_secs: f64,
    /// Its rules.
    pub rules: Vec<Arc<RuleView>>,
}

/// How a rule fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not evaluated yet.
    Unknown,
    /// The last evaluation went well.
    Ok,
    /// It did not, for this reason.
    Err(String),
}

/// A rule as it was after its last evaluation.
#[derive(Clone, Debug)]
pub struct RuleView {
    /// The alert's name, or the recorded metric's.
    pub name: String,
    /// The query, in canonical form.
    pub query: String,
    /// The condition over several queries.
    pub condition: Option<String>,
    /// Labels as written.
    pub labels: BTreeMap<String, String>,
    /// What only alert rules have.
    pub alert: Option<AlertView>,
    /// How it fares.
    pub health: Health,
    /// When it was last evaluated, if ever.
    pub last_evaluation: Option<Millis>,
    /// How long that took, in seconds.
    pub evaluation_secs: f64,
    /// The latest changes, newest last.
    pub transitions: Vec<TransitionView>,
    /// The latest evaluations, newest last.
    pub evaluations: Vec<EvaluationView>,
}

/// The part of a rule that raises alerts.
#[derive(Clone, Debug)]
pub struct AlertView {
    /// `for`
    pub hold: Interval,
    /// `keep_firing_for`
    pub keep_firing: Interval,
    /// Annotations as written.
    pub annotations: BTreeMap<String, String>,
    /// Its pending and firing alerts.
    pub active: Vec<ActiveAlert>,
    /// The elements whose detector is still learning: they page nobody.
    pub learning: Vec<Labels>,
}

/// A pending or firing alert.
#[derive(Clone, Debug)]
pub struct ActiveAlert {
    /// Its labels.
    pub labels: Labels,
    /// Its annotations, expanded.
    pub annotations: Labels,
    /// Where it stands.
    pub state: State,
    /// Its value at the last evaluation.
    pub value: f64,
}

/// A change of an alert.
#[derive(Clone, Debug)]
pub struct TransitionView {
    /// When.
    pub at: Millis,
    /// Of which alert.
    pub labels: Labels,
    /// What it became.
    pub change: Change,
    /// Its value then.
    pub value: f64,
}

/// One evaluation of a rule.
#[derive(Clone, Debug)]
pub struct EvaluationView {
    /// When.
    pub at: Millis,
    /// How long it took, in seconds.
    pub secs: f64,
    /// How many samples it gave.
    pub samples: usize,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl RuleView {
    /// Returns the rule's state: that of its most urgent alert.
    pub fn state(&self) -> &'static str {
        let active = self.alert.iter().flat_map(|alert| &alert.active);
        let urgency = active.map(|alert| if alert.state.is_firing() { 2 } else { 1 }).max();
        match urgency {
            Some(2) => "firing",
            Some(_) => "pending",
            None => "inactive",
        }
    }
}

impl ActiveAlert {
    /// Returns the value as Prometheus's API writes it: `1e+01`.
    pub fn value_text(&self) -> String {
        crate::template::format_float(self.value, 'e', None)
    }
}
