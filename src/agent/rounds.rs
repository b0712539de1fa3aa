//! One round of collecting after the other, at regular times: the host's own, and what every round ends with.

use std::sync::Arc;

use super::collect::Host;
use super::metrics::SCRAPES;
use super::outlet::Outlet;
use super::scrape::{Collected, Round, Tracker};
use crate::io::{Clock, Mono, Shutdown};
use crate::model::{Interval, Labels, METRIC_NAME, MetricKind, MetricMetadata, Millis, OwnedSeries, Sample};

/// Regular times: when the next round is due, and which time its samples bear.
pub(super) struct Ticks {
    interval: Interval,
    start: Mono,
    wall: Millis,
    count: i64,
}

impl Ticks {
    pub(super) fn new(clock: &dyn Clock, interval: Interval) -> Ticks {
        Ticks {
            interval,
            start: clock.mono(),
            wall: clock.now(),
            count: 0,
        }
    }

    pub(super) fn due(&self) -> Mono {
        self.start.after(Interval(self.interval.0.saturating_mul(self.count)))
    }

    /// Returns the time of the round that is due now: the planned one, unless the clock has gone elsewhere.
    pub(super) fn stamp(&mut self, now: Millis) -> Millis {
        let planned = self.wall + Interval(self.interval.0.saturating_mul(self.count));
        if (now - planned).0.abs() <= self.interval.0 / 100 {
            return planned;
        }
        self.wall = now - Interval(self.interval.0.saturating_mul(self.count));
        now
    }

    /// Goes on to the next round that is still to come.
    pub(super) fn next(&mut self, now: Mono) {
        self.count += 1;
        while self.due() <= now {
            self.count += 1;
        }
    }
}

/// The series by which a server knows that an agent lives, and since when it does not.
const HEARTBEAT: &str = "campanile_agent_heartbeat_seconds";
const HEARTBEAT_HELP: &str =
    "Unix time of the agent's newest sign of life; a series that stands still names a silent agent.";

/// Sends a sign of life every interval, under the host's name.
pub(super) async fn run_heartbeat(
    name: String,
    clock: Arc<dyn Clock>,
    outlet: Arc<Outlet>,
    interval: Interval,
    mut shutdown: Shutdown,
) {
    let labels = Labels::from_pairs([
        (METRIC_NAME, HEARTBEAT),
        ("job", "campanile_agent"),
        ("instance", name.as_str()),
    ]);
    let about = [MetricMetadata {
        metric: HEARTBEAT.to_owned(),
        kind: MetricKind::Gauge,
        help: HEARTBEAT_HELP.to_owned(),
        unit: String::new(),
    }];
    let mut ticks = Ticks::new(&*clock, interval);
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = clock.sleep_until(ticks.due()) => {}
        }
        let at = ticks.stamp(clock.now());
        let beat = OwnedSeries {
            labels: labels.clone(),
            samples: vec![Sample {
                at,
                value: at.as_secs_f64(),
            }],
        };
        outlet.put(Collected::floats(vec![beat]), &about).await;
        ticks.next(clock.mono());
    }
}

/// Collects the host's metrics every interval.
pub(super) async fn run_host(
    host: Host,
    clock: Arc<dyn Clock>,
    outlet: Arc<Outlet>,
    interval: Interval,
    mut shutdown: Shutdown,
) {
    let host = Arc::new(host);
    let labels = Labels::from_pairs([("job", "node"), ("instance", host.name().as_str())]);
    let mut tracker = Tracker::new(labels.clone());
    let mut ticks = Ticks::new(&*clock, interval);
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = clock.sleep_until(ticks.due()) => {}
        }
        let (at, before) = (ticks.stamp(clock.now()), clock.mono());
        let collector = Arc::clone(&host);
        let gathered = tokio::task::spawn_blocking(move || collector.collect()).await;
        let round = gathered.map(|gathered| Round {
            scraped: gathered.samples.len(),
            histograms: Vec::new(),
            samples: gathered
                .samples
                .into_iter()
                .map(|(own, value)| (with(&labels, &own), value, None))
                .collect(),
            metadata: gathered.metadata,
        });
        finish_round(
            &mut tracker,
            &outlet,
            &clock,
            at,
            before,
            "node",
            round.map_err(|error| error.to_string()),
        )
        .await;
        ticks.next(clock.mono());
    }
}

fn with(target: &Labels, own: &Labels) -> Labels {
    let mut labels = own.to_builder();
    for (name, value) in target.iter() {
        labels.set(name, value);
    }
    labels.build()
}

/// Puts what a round gave into the queues, with `up` and its companions.
pub(super) async fn finish_round(
    tracker: &mut Tracker,
    outlet: &Outlet,
    clock: &Arc<dyn Clock>,
    at: Millis,
    before: Mono,
    job: &str,
    round: Result<Round, String>,
) {
    let seconds = clock.mono().seconds_since(before);
    SCRAPES.inc(&[job, if round.is_ok() { "success" } else { "failure" }]);
    if let Err(error) = &round {
        tracing::debug!(job, error, "scrape failed");
    }
    let collected = tracker.round(at, seconds, round.as_ref().map_err(|_| ()));
    let news = round.map_or_else(|_| Vec::new(), |round| tracker.news(at, &round.metadata));
    outlet.put(collected, &news).await;
}
