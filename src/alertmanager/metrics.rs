//! How the alert manager is watched: Alertmanager's own names, and the time from alert to page.

use super::config::Config;
use crate::telemetry::{Counter, CounterVec, Description, Gauge, GaugeVec, Histogram, Metric};

/// Makes the counters of every integration appear at zero, so that the first failure is seen as an increase.
pub(crate) fn declare(config: &Config) {
    for receiver in &config.receivers {
        for integration in &receiver.integrations {
            let names = [integration.kind, receiver.name.as_str()];
            for counter in [&NOTIFICATIONS, &REQUESTS, &REQUESTS_FAILED, &GIVEN_UP] {
                counter.add(&names, 0);
            }
            for reason in ["clientError", "serverError"] {
                NOTIFICATIONS_FAILED.add(&[names[0], names[1], reason], 0);
            }
        }
    }
}

/// Bounds of the way from alert to page, in seconds: from a blink to hours of outage.
const PAGE_SECONDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0,
];

pub(crate) static ALERTS_RECEIVED: CounterVec = CounterVec::new(
    "alertmanager_alerts_received_total",
    "Alerts received, by state.",
    &["status"],
);
pub(crate) static ALERTS_INVALID: Counter = Counter::new(
    "alertmanager_alerts_invalid_total",
    "Alerts received that were refused.",
);
pub(crate) static ALERTS: GaugeVec = GaugeVec::new("alertmanager_alerts", "Alerts by state.", &["state"]);
pub(crate) static SILENCES: GaugeVec = GaugeVec::new("alertmanager_silences", "Silences by state.", &["state"]);
pub(crate) static LIMIT_REFUSED: CounterVec = CounterVec::new(
    "campanile_limit_refused_total",
    "Requests and connections refused because of a limit, by the limit's name.",
    &["limit"],
);
pub(crate) static GROUPS: Gauge = Gauge::new(
    "alertmanager_dispatcher_aggregation_groups",
    "Groups of alerts that are told together.",
);
pub(crate) static NOTIFICATIONS: CounterVec = CounterVec::new(
    "alertmanager_notifications_total",
    "Notifications that were attempted.",
    &["integration", "receiver"],
);
pub(crate) static NOTIFICATIONS_FAILED: CounterVec = CounterVec::new(
    "alertmanager_notifications_failed_total",
    "Notifications whose first attempt failed.",
    &["integration", "receiver", "reason"],
);
pub(crate) static REQUESTS: CounterVec = CounterVec::new(
    "alertmanager_notification_requests_total",
    "Attempts to notify, retries included.",
    &["integration", "receiver"],
);
pub(crate) static REQUESTS_FAILED: CounterVec = CounterVec::new(
    "alertmanager_notification_requests_failed_total",
    "Attempts to notify that failed, retries included.",
    &["integration", "receiver"],
);
pub(crate) static GIVEN_UP: CounterVec = CounterVec::new(
    "campanile_alertmanager_notifications_given_up_total",
    "Notifications that were given up for good: somebody was not told.",
    &["integration", "receiver"],
);
pub(crate) static RECEIVER_OPEN: GaugeVec = GaugeVec::new(
    "campanile_alertmanager_receiver_open",
    "Whether a receiver does not answer, so that messages wait for one that it takes.",
    &["integration", "receiver"],
);
pub(crate) static HEARTBEATS: CounterVec = CounterVec::new(
    "campanile_alertmanager_heartbeats_total",
    "Words to the dead man's switch, by what became of them.",
    &["outcome"],
);
pub(crate) static WAITING: Gauge = Gauge::new(
    "campanile_alertmanager_outbox_notifications",
    "Notifications decided and not yet delivered.",
);
pub(crate) static LATENCY: Histogram = Histogram::new(
    "alertmanager_notification_latency_seconds",
    "Duration of one successful attempt to notify.",
    crate::telemetry::SECONDS,
);
pub(crate) static FLUSH: Histogram = Histogram::new(
    "campanile_alertmanager_flush_seconds",
    "Time to decide what all groups that are due tell, and to record it.",
    crate::telemetry::SECONDS,
);
pub(crate) static CONFIG_OK: Gauge = Gauge::new(
    "alertmanager_config_last_reload_successful",
    "Whether the last load of the configuration succeeded.",
);
pub(crate) static CONFIG_AT: Gauge = Gauge::new(
    "alertmanager_config_last_reload_success_timestamp_seconds",
    "When the configuration was last loaded with success.",
);
pub(crate) static LOG_FAILED: Counter = Counter::new(
    "campanile_alertmanager_log_failures_total",
    "Records that the alert log did not take; pages go out all the same.",
);
pub(crate) static LOG_UNREADABLE: Counter = Counter::new(
    "campanile_alertmanager_log_unreadable_total",
    "Records or gaps in the alert log that could not be read at start.",
);
pub(crate) static PAGE_RULE: StageHistogram = StageHistogram::new("rule");
pub(crate) static PAGE_GROUP: StageHistogram = StageHistogram::new("group");
pub(crate) static PAGE_SEND: StageHistogram = StageHistogram::new("send");
pub(crate) static PAGE_TOTAL: StageHistogram = StageHistogram::new("total");

/// One stage of the way from sample to page: `rule` from the newest sample until the alert fires, `group` until it is decided
/// to tell people, `send` until the receiver has it, `total` for all of them.
pub(crate) struct StageHistogram {
    stage: &'static str,
    inner: Histogram,
}

impl StageHistogram {
    const fn new(stage: &'static str) -> StageHistogram {
        StageHistogram {
            stage,
            inner: Histogram::new(
                "campanile_page_latency_seconds",
                "Time from a sample to the page that it causes, by stage.",
                PAGE_SECONDS,
            ),
        }
    }

    /// Counts one page.
    pub(crate) fn observe(&self, seconds: f64) {
        self.inner.observe(seconds);
    }
}

impl Metric for StageHistogram {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    fn write(&self, out: &mut String) {
        let mut plain = String::new();
        self.inner.write(&mut plain);
        for line in plain.lines() {
            let (series, value) = line.rsplit_once(' ').unwrap_or((line, ""));
            let series = match series.split_once('{') {
                Some((name, labels)) => format!("{name}{{stage=\"{}\",{labels}", self.stage),
                None => format!("{series}{{stage=\"{}\"}}", self.stage),
            };
            out.push_str(&format!("{series} {value}\n"));
        }
    }
}

/// All metrics of the alert manager.
pub static METRICS: &[&dyn Metric] = &[
    &ALERTS_RECEIVED,
    &ALERTS_INVALID,
    &ALERTS,
    &SILENCES,
    &LIMIT_REFUSED,
    &GROUPS,
    &NOTIFICATIONS,
    &NOTIFICATIONS_FAILED,
    &REQUESTS,
    &REQUESTS_FAILED,
    &GIVEN_UP,
    &RECEIVER_OPEN,
    &HEARTBEATS,
    &WAITING,
    &LATENCY,
    &FLUSH,
    &CONFIG_OK,
    &CONFIG_AT,
    &LOG_FAILED,
    &LOG_UNREADABLE,
    &PAGE_RULE,
    &PAGE_GROUP,
    &PAGE_SEND,
    &PAGE_TOTAL,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_lines_of_one_family() {
        PAGE_SEND.observe(0.02);
        let text = crate::telemetry::exposition(&[METRICS]);
        assert!(
            text.contains("campanile_page_latency_seconds_bucket{stage=\"send\",le=\"0.025\"}"),
            "{text}"
        );
        assert!(
            text.contains("campanile_page_latency_seconds_count{stage=\"total\"}"),
            "{text}"
        );
        assert_eq!(text.matches("# TYPE campanile_page_latency_seconds ").count(), 1);
    }
}
