//! The shipped examples, each over generated data: quiet while all is well, loud when it is not.

use super::{GroupSpec, Replay, RuleFile, RuleFileSource, Settings};
use crate::model::{Interval, Labels, Millis};
use crate::query::QueryOptions;
use crate::storage::LiteralStore;

/// A Monday.
const START: Millis = Millis(1_767_571_200_000);
const MINUTE: i64 = 60_000;
const DAY: i64 = 1440 * MINUTE;
const WEEK: i64 = 7 * DAY;

const FILES: [(&str, &str); 3] = [
    ("clicks.yaml", include_str!("../../rules/examples/clicks.yaml")),
    ("shop.yaml", include_str!("../../rules/examples/shop.yaml")),
    ("hosts.yaml", include_str!("../../rules/examples/hosts.yaml")),
];

/// Returns the groups of the examples with only this alert in them.
fn only(alert: &str) -> Vec<(String, GroupSpec)> {
    let mut groups = Vec::new();
    for (path, text) in FILES {
        let file = RuleFile::read(&RuleFileSource {
            path: path.to_owned(),
            text: text.to_owned(),
        })
        .unwrap();
        for mut group in file.groups {
            group.rules.retain(|rule| rule.name == alert);
            if !group.rules.is_empty() {
                groups.push((path.to_owned(), group));
            }
        }
    }
    assert_eq!(groups.len(), 1, "{alert} is in one group");
    groups
}

fn labels(series: &str) -> Labels {
    crate::query::parse_series(series).unwrap().0
}

/// A repeatable number between -1 and 1.
fn noise(seed: i64) -> f64 {
    let hash = xxhash_rust::xxh3::xxh3_64(&seed.to_le_bytes());
    (hash >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// Visits a second, by the hour of the week.
fn usual(at: i64) -> f64 {
    let hour = at.rem_euclid(DAY) as f64 / (60 * MINUTE) as f64;
    let weekend = if at.div_euclid(DAY) % 7 >= 5 { 0.6 } else { 1.0 };
    weekend * (10.0 + 8.0 * ((hour - 14.0) / 24.0 * std::f64::consts::TAU).cos())
}

/// Puts a counter that grows by `rate(ms since START)` a second, every two minutes.
fn counter(store: &LiteralStore, series: &str, until: i64, rate: impl Fn(i64) -> f64) {
    let labels = labels(series);
    let mut total = 0.0;
    for at in (0..until).step_by(2 * MINUTE as usize) {
        total += 120.0 * rate(at);
        store.put(&labels, START + Interval(at), total);
    }
}

/// Evaluates at `from`, and every minute after, for `minutes`; returns what fires in the end.
async fn fires(alert: &str, store: &LiteralStore, from: i64, minutes: i64, every: i64) -> Vec<(Labels, Labels)> {
    let begin = START + Interval(from);
    let mut replay = Replay::new(only(alert), store, QueryOptions::default(), Settings::default(), begin);
    for minute in (0..=minutes).step_by(every as usize) {
        replay.evaluate(begin + Interval(minute * MINUTE)).await;
    }
    let (alerts, errors) = replay.firing(alert);
    assert!(errors.is_empty(), "{alert}: {errors:?}");
    alerts
        .into_iter()
        .map(|alert| (alert.labels, alert.annotations))
        .collect()
}

#[tokio::test]
async fn a_drop_of_clicks_pages_only_while_the_campaign_spends() {
    let store = LiteralStore::new();
    let now = 3 * WEEK + 2 * DAY + 14 * 60 * MINUTE;
    for campaign in ["spring", "ended"] {
        let drops = |at: i64| if at >= now - 10 * MINUTE { 0.3 } else { 1.0 };
        let clicks = |at: i64| drops(at) * usual(at) * (1.0 + 0.1 * noise(at));
        counter(
            &store,
            &format!("ad_clicks_total{{campaign=\"{campaign}\"}}"),
            now + 15 * MINUTE,
            clicks,
        );
        let spend = |at: i64| {
            if campaign == "ended" && at >= now - 60 * MINUTE {
                0.0
            } else {
                50.0
            }
        };
        counter(
            &store,
            &format!("ad_spend_cents_total{{campaign=\"{campaign}\"}}"),
            now + 15 * MINUTE,
            spend,
        );
    }
    assert!(
        fires("CampaignClickDrop", &store, now - 30 * MINUTE, 10, 10)
            .await
            .is_empty()
    );
    let firing = fires("CampaignClickDrop", &store, now, 12, 6).await;
    assert_eq!(firing.len(), 1, "{firing:?}");
    assert_eq!(firing[0].0.value("campaign"), "spring");
    assert!(
        firing[0].1.value("summary").contains("clicks/s, expected 1"),
        "{firing:?}"
    );
}

#[tokio::test]
async fn duplicates_beyond_the_usual_share_are_noticed() {
    let store = LiteralStore::new();
    let now = 3 * DAY;
    for (publisher, share) in [("honest", 0.02), ("robot", 0.3)] {
        let of = |name: &str| format!("{name}{{campaign=\"c\", publisher=\"{publisher}\"}}");
        counter(&store, &of("ad_clicks_total"), now + 10 * MINUTE, usual);
        let duplicates = |at: i64| {
            usual(at)
                * if at >= now - 8 * MINUTE {
                    share
                } else {
                    0.02 + 0.005 * noise(at)
                }
        };
        counter(&store, &of("ad_clicks_duplicate_total"), now + 10 * MINUTE, duplicates);
    }
    assert!(
        fires("DuplicateClickSpike", &store, now - 30 * MINUTE, 4, 2)
            .await
            .is_empty()
    );
    let firing = fires("DuplicateClickSpike", &store, now, 4, 2).await;
    assert_eq!(firing.len(), 1, "{firing:?}");
    assert_eq!(firing[0].0.value("publisher"), "robot");
}

#[tokio::test]
async fn a_burning_budget_pages_and_a_short_burst_does_not() {
    for (since, expected) in [(90, 1), (4, 0)] {
        let store = LiteralStore::new();
        let now = 6 * 60 * MINUTE;
        counter(&store, "checkout_requests_total", now + MINUTE, |_| 100.0);
        counter(&store, "checkout_errors_total", now + MINUTE, |at| {
            if at >= now - since * MINUTE { 2.0 } else { 0.01 }
        });
        assert_eq!(
            fires("CheckoutBudgetBurn", &store, now, 0, 1).await.len(),
            expected,
            "{since} minutes"
        );
    }
}

#[tokio::test]
async fn page_views_that_collapse_or_stop_page() {
    let now = 2 * WEEK + 3 * DAY + 20 * 60 * MINUTE;
    let store = LiteralStore::new();
    let views = |at: i64| usual(at) * (1.0 + 0.1 * noise(at));
    counter(&store, "page_views_total{site=\"well\"}", now + 10 * MINUTE, views);
    counter(&store, "page_views_total{site=\"hurt\"}", now + 10 * MINUTE, |at| {
        views(at) * if at >= now - 8 * MINUTE { 0.2 } else { 1.0 }
    });
    counter(&store, "page_views_total{site=\"gone\"}", now - 20 * MINUTE, views);
    assert!(
        fires("PageViewCollapse", &store, now - 40 * MINUTE, 4, 2)
            .await
            .is_empty()
    );
    // Seen before it went, so that it is missed.
    let begin = START + Interval(now - 30 * MINUTE);
    let mut replay = Replay::new(
        only("PageViewCollapse"),
        &store,
        QueryOptions::default(),
        Settings::default(),
        begin,
    );
    for minute in [0, 30, 34] {
        replay.evaluate(begin + Interval(minute * MINUTE)).await;
    }
    let mut sites: Vec<String> = replay
        .firing("PageViewCollapse")
        .0
        .iter()
        .map(|alert| alert.labels.value("site").to_owned())
        .collect();
    sites.sort();
    assert_eq!(sites, ["gone", "hurt"]);
}

#[tokio::test]
async fn an_agent_that_stops_reporting_is_missed() {
    let store = LiteralStore::new();
    let now = 60 * MINUTE;
    for (instance, until) in [("a", now + 20 * MINUTE), ("b", now + 5 * MINUTE)] {
        counter(
            &store,
            &format!("node_time_seconds{{instance=\"{instance}\"}}"),
            until,
            |_| 1.0,
        );
    }
    assert!(fires("AgentSilent", &store, now, 5, 1).await.is_empty());
    let firing = fires("AgentSilent", &store, now, 15, 1).await;
    assert_eq!(firing.len(), 1, "{firing:?}");
    assert_eq!(firing[0].0.value("instance"), "b");
}

#[tokio::test]
async fn a_disk_that_fills_is_noticed_days_ahead() {
    let store = LiteralStore::new();
    let now = 4 * DAY;
    for (mount, a_day) in [("/", 10.0), ("/data", 1.0)] {
        let of = |name: &str| {
            labels(&format!(
                "{name}{{instance=\"h\", mountpoint=\"{mount}\", fstype=\"ext4\"}}"
            ))
        };
        for at in (0..now + 70 * MINUTE).step_by(5 * MINUTE as usize) {
            let used = 30.0 + a_day * at as f64 / DAY as f64 + 0.2 * noise(at);
            let at = START + Interval(at);
            store.put(&of("node_filesystem_avail_bytes"), at, 1e9 * (100.0 - used - 25.0));
            store.put(&of("node_filesystem_size_bytes"), at, 1e11);
        }
    }
    let firing = fires("DiskFullInFourDays", &store, now, 60, 20).await;
    assert_eq!(firing.len(), 1, "{firing:?}");
    assert_eq!(firing[0].0.value("mountpoint"), "/");
}
