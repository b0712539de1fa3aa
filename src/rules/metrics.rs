//! How the rules are watched: Prometheus's names, which public mixins look at, and our own.

use crate::telemetry::{Counter, CounterVec, GaugeVec, Histogram, Metric, SECONDS};

pub(super) static EVALUATIONS: CounterVec =
    CounterVec::new("prometheus_rule_evaluations_total", "Rules evaluated.", &["rule_group"]);
pub(super) static FAILURES: CounterVec = CounterVec::new(
    "prometheus_rule_evaluation_failures_total",
    "Rules whose evaluation failed.",
    &["rule_group"],
);
pub(super) static ITERATIONS: CounterVec = CounterVec::new(
    "prometheus_rule_group_iterations_total",
    "Evaluations of a group that were due, missed ones included.",
    &["rule_group"],
);
pub(super) static MISSED: CounterVec = CounterVec::new(
    "prometheus_rule_group_iterations_missed_total",
    "Evaluations of a group that were skipped because the one before took too long.",
    &["rule_group"],
);
pub(super) static LAST_DURATION: GaugeVec = GaugeVec::new(
    "prometheus_rule_group_last_duration_seconds",
    "How long a group's last evaluation took.",
    &["rule_group"],
);
pub(super) static LAST_TIME: GaugeVec = GaugeVec::new(
    "prometheus_rule_group_last_evaluation_timestamp_seconds",
    "When a group was last evaluated.",
    &["rule_group"],
);
pub(super) static INTERVAL: GaugeVec = GaugeVec::new(
    "prometheus_rule_group_interval_seconds",
    "How often a group is evaluated.",
    &["rule_group"],
);
pub(super) static RULES: GaugeVec = GaugeVec::new("prometheus_rule_group_rules", "Rules of a group.", &["rule_group"]);
pub(super) static LAST_SAMPLES: GaugeVec = GaugeVec::new(
    "prometheus_rule_group_last_evaluation_samples",
    "Samples that a group's last evaluation wrote.",
    &["rule_group"],
);
pub(super) static DURATION: Histogram = Histogram::new(
    "campanile_rules_evaluation_duration_seconds",
    "How long rules took to be evaluated.",
    SECONDS,
);
pub(super) static EAGER: Counter = Counter::new(
    "campanile_rules_eager_evaluations_total",
    "Evaluations of alert rules because a sample arrived that they ask for.",
);
pub(super) static EAGER_DEFERRED: Counter = Counter::new(
    "campanile_rules_eager_deferred_total",
    "Alert rules that were to be evaluated because a sample arrived, and waited for their interval: the CPU share was used up.",
);
pub(super) static TRANSITIONS: CounterVec = CounterVec::new(
    "campanile_rules_transitions_total",
    "Alerts that became pending, firing, resolved or inactive.",
    &["to"],
);
pub(super) static HANDED_OVER: Counter = Counter::new(
    "campanile_rules_alerts_handed_over_total",
    "Alerts that the alert manager took, repetitions included.",
);
pub(super) static HAND_OVER_FAILURES: Counter = Counter::new(
    "campanile_rules_hand_over_failures_total",
    "Batches of alerts that the alert manager did not take; they are offered again at the next evaluation.",
);
pub(super) static LOG_FAILURES: Counter = Counter::new(
    "campanile_rules_log_failures_total",
    "Changes of alert states that could not be written to the alert log.",
);
pub(super) static APPEND_FAILURES: Counter = Counter::new(
    "campanile_rules_append_failures_total",
    "Batches of recorded samples that the store did not take.",
);
pub(super) static SAMPLES: Counter =
    Counter::new("campanile_rules_samples_recorded_total", "Samples that rules recorded.");
pub(super) static EXTERNAL_SENT: CounterVec = CounterVec::new(
    "prometheus_notifications_sent_total",
    "Alerts that external Alertmanagers took.",
    &["alertmanager"],
);
pub(super) static EXTERNAL_ERRORS: CounterVec = CounterVec::new(
    "prometheus_notifications_errors_total",
    "Alerts that external Alertmanagers did not take.",
    &["alertmanager"],
);

/// All of them.
pub static METRICS: &[&dyn Metric] = &[
    &EVALUATIONS,
    &FAILURES,
    &ITERATIONS,
    &MISSED,
    &LAST_DURATION,
    &LAST_TIME,
    &INTERVAL,
    &RULES,
    &LAST_SAMPLES,
    &DURATION,
    &EAGER,
    &EAGER_DEFERRED,
    &TRANSITIONS,
    &HANDED_OVER,
    &HAND_OVER_FAILURES,
    &LOG_FAILURES,
    &APPEND_FAILURES,
    &SAMPLES,
    &EXTERNAL_SENT,
    &EXTERNAL_ERRORS,
];
