//! What is asked.

use super::data::HOSTS;

/// A question.
pub(crate) struct Query {
    pub(crate) about: &'static str,
    pub(crate) text: &'static str,
    pub(crate) span: Span,
    /// Series that it looks at.
    pub(crate) series: usize,
}

/// When it is asked, counted back from the end of the data.
#[derive(Clone, Copy)]
pub(crate) enum Span {
    Instant,
    Range { seconds: i64, step: i64 },
}

impl Span {
    pub(crate) fn steps(self) -> i64 {
        match self {
            Span::Instant => 1,
            Span::Range { seconds, step } => seconds / step + 1,
        }
    }
}

/// Questions are asked so long before the end of the data: not at a round time, so that no edge falls on a sample.
const BEFORE_END_S: i64 = 53;

impl Query {
    pub(crate) fn path(&self) -> &'static str {
        match self.span {
            Span::Instant => "/api/v1/query",
            Span::Range { .. } => "/api/v1/query_range",
        }
    }

    /// The form of a request; `end` is where the data ends, in seconds.
    pub(crate) fn form(&self, end: i64) -> String {
        let text: String = self.text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let end = end - BEFORE_END_S;
        match self.span {
            Span::Instant => format!("query={text}&time={end}"),
            Span::Range { seconds, step } => format!("query={text}&start={}&end={end}&step={step}", end - seconds),
        }
    }
}

const fn instant(about: &'static str, series: usize, text: &'static str) -> Query {
    let span = Span::Instant;
    Query {
        about,
        text,
        span,
        series,
    }
}

/// The newest hour, every 15 s, as a dashboard asks.
const fn hour(about: &'static str, series: usize, text: &'static str) -> Query {
    let span = Span::Range {
        seconds: 3_600,
        step: 15,
    };
    Query {
        about,
        text,
        span,
        series,
    }
}

/// Eight of the ten hours, every minute.
const fn all(about: &'static str, series: usize, text: &'static str) -> Query {
    let span = Span::Range {
        seconds: 8 * 3_600,
        step: 60,
    };
    Query {
        about,
        text,
        span,
        series,
    }
}

/// Every hour of the same, as TSBS asks.
const fn hourly(about: &'static str, series: usize, text: &'static str) -> Query {
    let span = Span::Range {
        seconds: 8 * 3_600,
        step: 3_600,
    };
    Query {
        about,
        text,
        span,
        series,
    }
}

pub(crate) static QUERIES: &[Query] = &[
    instant("cheap", 1, "1+1"),
    instant("cheap", 1, r#"host_info{instance="host_7:9100"}"#),
    instant("lastpoint", HOSTS, "cpu_usage_user"),
    instant("lastpoint", 40 * HOSTS, r#"{job="devops"}"#),
    instant("count", HOSTS, "count by (version) (host_info)"),
    instant("topk", HOSTS, "topk(5, mem_used_bytes)"),
    hour("topk", HOSTS, "topk(5, mem_used_bytes)"),
    all(
        "topk",
        10 * HOSTS,
        "topk(5, sum by (hostname) (rate(http_requests_total[5m])))",
    ),
    hour("one host", 1, r#"max_over_time(cpu_usage_user{hostname="host_7"}[1m])"#),
    all("one host", 1, r#"cpu_usage_user{hostname="host_3"}"#),
    all("raw", HOSTS, "cpu_usage_user"),
    hour("raw", 10 * HOSTS, r#"{__name__=~"cpu_usage_.*"}"#),
    hourly(
        "group by",
        HOSTS,
        "avg by (hostname) (avg_over_time(cpu_usage_user[1h]))",
    ),
    hourly(
        "group by",
        8,
        r#"max by (hostname) (max_over_time(cpu_usage_user{hostname=~"host_(1|12|23|34|45|56|67|78)"}[1h]))"#,
    ),
    all(
        "group by",
        5 * HOSTS,
        r#"avg by (__name__, hostname) ({__name__=~"cpu_usage_(user|system|idle|nice|iowait)"})"#,
    ),
    all("group by", HOSTS, "sum by (datacenter) (cpu_usage_user)"),
    all("group by", 10 * HOSTS, r#"sum({__name__=~"cpu_usage_.*"})"#),
    hour("rate", 10 * HOSTS, "rate(http_requests_total[5m])"),
    hour("rate", 10 * HOSTS, "sum by (code) (rate(http_requests_total[5m]))"),
    all("rate", 10 * HOSTS, "sum by (code) (rate(http_requests_total[5m]))"),
    all("rate", 10 * HOSTS, "sum(rate(http_requests_total[1h]))"),
    instant(
        "rate",
        10 * HOSTS,
        "sum by (hostname) (increase(http_requests_total[8h]))",
    ),
    all(
        "ratio",
        14 * HOSTS,
        r#"sum by (hostname) (rate(http_requests_total{code=~"5.."}[5m])) / sum by (hostname) (rate(http_requests_total[5m]))"#,
    ),
    all("quantile", HOSTS, "quantile(0.9, cpu_usage_user)"),
    hour(
        "quantile",
        HOSTS,
        "max by (datacenter) (quantile_over_time(0.95, cpu_usage_user[10m]))",
    ),
    all(
        "histogram",
        10 * HOSTS,
        "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))",
    ),
    hour(
        "histogram",
        10 * HOSTS,
        "histogram_quantile(0.9, sum by (le, hostname) (rate(http_request_duration_seconds_bucket[5m])))",
    ),
    all(
        "histogram",
        2 * HOSTS,
        "sum(rate(http_request_duration_seconds_sum[5m])) / sum(rate(http_request_duration_seconds_count[5m]))",
    ),
    hour(
        "regex",
        5 * HOSTS,
        r#"count by (team) ({__name__=~"cpu_usage_.+", hostname=~"host_[0-9]*[02468]"})"#,
    ),
    all("regex", 89, r#"sum(cpu_usage_idle{hostname!~"host_1.*"})"#),
    all(
        "subquery",
        10 * HOSTS,
        "max_over_time(sum by (datacenter) (rate(http_requests_total[5m]))[30m:1m])",
    ),
    instant(
        "subquery",
        5 * HOSTS,
        r#"avg_over_time(rate(http_requests_total{method="get"}[5m])[1h:30s])"#,
    ),
    hour(
        "join",
        HOSTS,
        "cpu_usage_user * on (instance) group_left (version) host_info",
    ),
    all(
        "join",
        10 * HOSTS,
        "sum by (version) (rate(http_requests_total[5m]) * on (instance) group_left (version) host_info)",
    ),
    all(
        "join",
        2 * HOSTS,
        "cpu_usage_user > 60 and on (instance) cpu_usage_system < 50",
    ),
    all("offset", 2 * HOSTS, "cpu_usage_user - cpu_usage_user offset 30m"),
    hour("window", 4 * HOSTS, "predict_linear(disk_used_bytes[1h], 14400)"),
    hour("window", HOSTS, "stddev_over_time(cpu_usage_user[30m])"),
    hour("window", HOSTS, "sum_over_time(cpu_usage_user[10m])"),
    all("window", 10 * HOSTS, "sum(resets(http_requests_total[1h]))"),
    instant("window", HOSTS, "max_over_time(cpu_usage_user[8h])"),
    all(
        "labels",
        HOSTS,
        r#"sum by (n) (label_replace(cpu_usage_user, "n", "$1", "hostname", "host_(.).*"))"#,
    ),
];
