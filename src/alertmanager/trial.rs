//! Routing, inhibition and silences over a list of alerts, without a clock: what test files ask.

use super::config::Config;
use super::inhibit::Inhibitor;
use super::silence::all_match;
use crate::model::{Fingerprint, Labels, Matcher, Millis};

/// An alert that somebody would be told of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PagedAlert {
    /// Its labels.
    pub labels: Labels,
    /// Who, in the order of the routes.
    pub receivers: Vec<String>,
}

/// A silence of a test.
#[derive(Clone, Debug)]
pub struct TrialSilence {
    /// All must match.
    pub matchers: Vec<Matcher>,
}

impl Config {
    /// Returns the receivers that an alert's routes lead to, in their order; at `at`, those whose route is muted then are
    /// left out.
    pub fn receivers_of(&self, labels: &Labels, at: Option<Millis>) -> Vec<String> {
        let numbers = self.routes.matching(labels).into_iter();
        let routes = numbers.map(|number| &self.routes.routes()[number]);
        routes
            .filter(|route| at.is_none_or(|at| self.muted_by(route, at).is_empty()))
            .map(|route| route.receiver.clone())
            .collect()
    }

    /// Returns which of the firing alerts somebody is told of: neither inhibited by another nor silenced.
    pub fn paged(&self, firing: &[Labels], silences: &[TrialSilence], at: Option<Millis>) -> Vec<PagedAlert> {
        let mut inhibitor = Inhibitor::new(&self.inhibit_rules);
        for labels in firing {
            inhibitor.add(Fingerprint::of(labels), labels);
        }
        let fires = |fingerprint: Fingerprint| firing.iter().find(|labels| Fingerprint::of(labels) == fingerprint);
        let heard = firing.iter().filter(|labels| {
            let silenced = silences.iter().any(|silence| all_match(&silence.matchers, labels));
            !silenced && inhibitor.inhibiting(labels, fires).is_empty()
        });
        let mut paged: Vec<PagedAlert> = heard
            .map(|labels| PagedAlert {
                labels: labels.clone(),
                receivers: self.receivers_of(labels, at),
            })
            .filter(|alert| !alert.receivers.is_empty())
            .collect();
        paged.sort();
        paged
    }
}
