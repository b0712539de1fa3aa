//! What is scraped and how it went: what `/api/v1/targets` and its companions answer.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::target::{Found, Target};
use crate::ingest::relabel::{RelabelConfig, relabel};
use crate::model::{Labels, LabelsBuilder, Millis};

/// The most dropped targets of a pool that are listed; all are counted.
const DROPPED_MAX: usize = 1000;

/// All pools with their targets.
#[derive(Debug, Default)]
pub struct Targets {
    pools: Mutex<BTreeMap<String, Pool>>,
}

#[derive(Debug, Default)]
struct Pool {
    active: Vec<Active>,
    dropped: Vec<Labels>,
    rules: Vec<RelabelConfig>,
    interval: String,
    timeout: String,
}

#[derive(Debug)]
struct Active {
    discovered: Labels,
    target: Target,
    outcome: Option<Outcome>,
}

/// How one scrape went.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) at: Millis,
    pub(super) seconds: f64,
    pub(super) error: Option<String>,
}

/// Which targets are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// Those that are scraped.
    Active,
    /// Those that relabelling drops.
    Dropped,
    /// Both.
    Any,
}

impl Targets {
    /// Replaces what was found for a pool; outcomes of targets that stay are kept.
    pub(super) fn found(&self, pool: &str, found: &[Found], rules: &[RelabelConfig], pace: (String, String)) {
        let mut pools = self.pools.lock();
        let pool = pools.entry(pool.to_owned()).or_default();
        let mut before = std::mem::take(&mut pool.active);
        let keep = |found: &Found| {
            let target = found.target.clone()?;
            let place = before.iter().position(|active| active.target == target);
            Some(Active {
                discovered: found.discovered.clone(),
                outcome: place.and_then(|place| before.swap_remove(place).outcome),
                target,
            })
        };
        pool.active = found.iter().filter_map(keep).collect();
        let dropped = found.iter().filter(|found| found.target.is_none());
        pool.dropped = dropped.map(|found| found.discovered.clone()).collect();
        pool.rules = rules.to_vec();
        (pool.interval, pool.timeout) = pace;
    }

    /// Notes how a scrape went.
    pub(super) fn scraped(&self, pool: &str, target: &Target, outcome: Outcome) {
        let mut pools = self.pools.lock();
        let active = pools.get_mut(pool).map(|pool| &mut pool.active);
        if let Some(active) = active.and_then(|active| active.iter_mut().find(|active| active.target == *target)) {
            active.outcome = Some(outcome);
        }
    }

    /// Returns the pools' names.
    pub fn pools(&self) -> Vec<String> {
        self.pools.lock().keys().cloned().collect()
    }

    /// Returns the targets in Prometheus's shape, of one pool or of all.
    pub fn view(&self, state: TargetState, only: Option<&str>) -> Value {
        let pools = self.pools.lock();
        let chosen = pools.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
        let (mut active, mut dropped) = (Vec::new(), Vec::new());
        let mut counts = BTreeMap::new();
        for (name, pool) in chosen {
            counts.insert(name.clone(), pool.dropped.len());
            if state != TargetState::Dropped {
                active.extend(pool.active.iter().map(|one| one.view(name, pool)));
            }
            if state != TargetState::Active {
                let shown = pool.dropped.iter().take(DROPPED_MAX);
                dropped.extend(shown.map(|labels| json!({"discoveredLabels": labels, "scrapePool": name})));
            }
        }
        json!({"activeTargets": active, "droppedTargets": dropped, "droppedTargetCounts": counts})
    }

    /// Applies a pool's rules one by one to discovered labels: what each made of them. Stops where the target is dropped.
    ///
    /// # Errors
    /// That there is no such pool.
    pub fn relabel_steps(&self, pool: &str, labels: &BTreeMap<String, String>) -> Result<Value, String> {
        let pools = self.pools.lock();
        let pool = pools
            .get(pool)
            .ok_or_else(|| format!("scrape pool {pool:?} not found"))?;
        let mut now = LabelsBuilder::default();
        for (name, value) in labels {
            now.set(name, value);
        }
        let mut steps = Vec::new();
        for rule in &pool.rules {
            let keep = relabel(std::slice::from_ref(rule), &mut now);
            steps.push(json!({"rule": rule.view(), "output": now.build(), "keep": keep}));
            if !keep {
                break;
            }
        }
        Ok(json!({"steps": steps}))
    }
}

impl Active {
    fn view(&self, name: &str, pool: &Pool) -> Value {
        let outcome = self.outcome.as_ref();
        let health = match outcome {
            None => "unknown",
            Some(Outcome { error: None, .. }) => "up",
            Some(_) => "down",
        };
        json!({
            "discoveredLabels": self.discovered,
            "labels": self.target.labels,
            "scrapePool": name,
            "scrapeUrl": self.target.url,
            "globalUrl": self.target.url,
            "lastError": outcome.and_then(|outcome| outcome.error.clone()).unwrap_or_default(),
            "lastScrape": outcome.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |outcome| outcome.at.to_string()),
            "lastScrapeDuration": outcome.map_or(0.0, |outcome| outcome.seconds),
            "health": health,
            "scrapeInterval": pool.interval,
            "scrapeTimeout": pool.timeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, kept: bool) -> Found {
        let discovered = Labels::from_pairs([("__address__", address), ("job", "api")]);
        let target = Target {
            labels: Labels::from_pairs([("instance", address), ("job", "api")]),
            url: format!("http://{address}/metrics"),
        };
        Found {
            discovered,
            target: kept.then_some(target),
        }
    }

    #[test]
    fn targets_are_shown_as_prometheus_shows_them() {
        let targets = Targets::default();
        let pace = || ("15s".to_owned(), "10s".to_owned());
        let rules: Vec<RelabelConfig> = serde_yaml::from_str(
            "[{source_labels: [__address__], target_label: host}, {source_labels: [host], regex: 'b.*', action: drop}, \
             {target_label: never, replacement: x}]",
        )
        .unwrap();
        targets.found("api", &[found("a:1", true), found("b:1", false)], &rules, pace());
        let outcome = Outcome {
            at: Millis(1000),
            seconds: 0.5,
            error: Some("refused".to_owned()),
        };
        targets.scraped("api", &found("a:1", true).target.unwrap(), outcome);
        targets.found("api", &[found("a:1", true), found("b:1", false)], &rules, pace());
        let view = targets.view(TargetState::Any, None);
        assert_eq!(
            (
                &view["activeTargets"][0]["health"],
                &view["activeTargets"][0]["lastError"]
            ),
            (&json!("down"), &json!("refused"))
        );
        assert_eq!(view["droppedTargets"][0]["discoveredLabels"]["__address__"], "b:1");
        assert_eq!(
            targets.view(TargetState::Active, Some("other"))["activeTargets"],
            json!([])
        );
        assert_eq!(view["droppedTargetCounts"]["api"], 1);
        let labels = BTreeMap::from([("__address__".to_owned(), "b:1".to_owned())]);
        let steps = targets.relabel_steps("api", &labels).unwrap();
        assert_eq!(steps["steps"][0]["output"]["host"], "b:1");
        assert_eq!(
            (&steps["steps"][1]["keep"], steps["steps"].as_array().unwrap().len()),
            (&json!(false), 2)
        );
        assert!(targets.relabel_steps("none", &labels).is_err());
    }
}
