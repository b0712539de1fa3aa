//! Rules: files of queries that record series and raise alerts, evaluated over and over.
//!
//! [`Manager`] runs them. Rule files are Prometheus's, read by [`RuleFile`]; what an alert can be and how it changes is the
//! pure [`step`]; states survive in the alert log. Rules page nobody: alerts are handed to an [`AlertSink`], again and again
//! until it has taken them.

mod alerting;
mod anomaly;
mod backtest;
mod condition;
mod depend;
mod eager;
#[cfg(test)]
mod examples_tests;
mod expand;
mod external;
mod file;
mod found;
mod group;
mod journal;
mod lint;
mod manager;
#[cfg(test)]
mod manager_tests;
mod metrics;
mod newest;
mod replay;
mod runtime;
mod share;
mod state;
mod subject;
mod view;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use anomaly::Anomaly;
pub use backtest::{Backtest, Backtested, BacktestedTransition};
pub use condition::Condition;
pub use depend::metric_names;
pub use expand::Text;
pub use external::{AlertmanagersConfig, External, ExternalDeps};
pub use file::{
    AlertSpec, GroupSpec, NoData, OnError, QueryText, RuleFile, RuleFileSource, RuleSpec, Signal, Signals, Source,
};
pub use journal::RuleKey;
pub use lint::{Known, lint, lint_live, questions};
pub use manager::{BUILTIN_RULES, LoadError, Manager, RulesError};
pub use metrics::METRICS;
pub use replay::Replay;
pub use state::{Change, State, Timing, step};
pub use view::{ActiveAlert, AlertView, EvaluationView, GroupView, Health, RuleView, TransitionView};

use crate::io::log::Log;
use crate::io::{BoxFuture, Clock};
use crate::model::{Alert, Interval, Labels, Millis, Sample};
use crate::query::{Engine, Expr, QueryError, QueryOptions, QueryOutput, QueryValue, VectorSample};
use crate::storage::{Appender, Interest, Point, Querier};

/// Answers the queries of rules and of their templates.
pub trait Evaluate: Send + Sync {
    /// Evaluates an instant query at `at`. Blocks.
    ///
    /// # Errors
    /// The engine's.
    fn instant(&self, expr: &Expr, at: Millis) -> Result<QueryOutput, QueryError>;

    /// Returns the time up to which all data that `expr` asks for is in: a rule asks for no later.
    fn complete_until(&self, _expr: &Expr) -> Millis {
        Millis::MAX
    }
}

/// The query engine over a store.
pub struct EngineOver {
    /// The engine.
    pub engine: Engine,
    /// The store.
    pub querier: Arc<dyn Querier>,
    /// Limits and defaults.
    pub options: QueryOptions,
}

impl Evaluate for EngineOver {
    fn instant(&self, expr: &Expr, at: Millis) -> Result<QueryOutput, QueryError> {
        self.engine.instant(&*self.querier, expr, at, &self.options)
    }

    fn complete_until(&self, expr: &Expr) -> Millis {
        let selectors = expr.selectors();
        let complete = selectors
            .iter()
            .map(|selector| self.querier.complete_for(&selector.matchers));
        complete.min().unwrap_or(Millis::MAX)
    }
}

/// Takes alerts over from the rules.
pub trait AlertSink: Send + Sync {
    /// Takes the alerts of one evaluation, as one batch. When this resolves without an error they are safe: a resolved alert
    /// is then forgotten, a firing one repeated only after [`Settings::resend_delay`].
    ///
    /// # Errors
    /// Why they were not taken; the same alerts come again at the next evaluation.
    fn send(&self, alerts: Vec<Alert>) -> BoxFuture<'_, Result<(), String>>;
}

/// How rules run, unless a group says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `evaluation_interval`
    pub interval: Interval,
    /// `rule_query_offset`
    pub query_offset: Interval,
    /// How long until a firing alert is repeated to a sink that has it.
    pub resend_delay: Interval,
    /// Labels added to alerts that lack them, and seen by templates.
    pub external_labels: Labels,
    /// The address under which people reach the server.
    pub external_url: String,
    /// What evaluating alert rules as samples arrive may cost, in CPU seconds a second; 0 is not at all.
    pub eager_cpu_share: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            interval: Interval::secs(15),
            query_offset: Interval::ZERO,
            resend_delay: Interval::mins(1),
            external_labels: Labels::empty(),
            external_url: "http://127.0.0.1:9490".to_owned(),
            eager_cpu_share: 0.25,
        }
    }
}

/// What rules need of the server.
pub struct Deps {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Answers queries.
    pub engine: Arc<dyn Evaluate>,
    /// Stores recorded series.
    pub appender: Arc<dyn Appender>,
    /// The alert log, shared with the alert manager.
    pub log: Arc<dyn Log>,
    /// Takes alerts.
    pub sink: Arc<dyn AlertSink>,
    /// Tells when series move; without it rules are evaluated at their intervals only.
    pub interest: Option<Arc<dyn Interest>>,
    /// Intervals, labels, address.
    pub settings: Settings,
    /// The process's secret seed for series keys.
    pub seed: u64,
}

/// Where a group shows itself after each evaluation, and its alerts' states whenever they change.
#[derive(Clone)]
struct Published {
    view: Arc<ArcSwap<GroupView>>,
    states: Arc<ArcSwap<Vec<journal::RuleChanges>>>,
}

/// Returns the elements of a rule's result: a scalar is one element without labels.
fn vector(value: QueryValue) -> Result<Vec<VectorSample>, String> {
    match value {
        QueryValue::Vector(samples) => Ok(samples),
        QueryValue::Scalar(Sample { at, value }) => Ok(vec![VectorSample {
            labels: Labels::empty(),
            point: Point::Float(Sample { at, value }),
        }]),
        QueryValue::String(..) | QueryValue::Matrix(_) => Err("rule result is not a vector or scalar".to_owned()),
    }
}
