//! What handlers may reach: handles that `server` fills in, traits wherever a lower edge would be crossed.

use std::sync::Arc;

use super::{Status, TargetsView};
use crate::alertmanager::AlertManager;
use crate::events::{Edge, Events};
use crate::ingest::Intake;
use crate::ingest::pushgateway::Pushgateway;
use crate::io::Clock;
use crate::query::QueryOptions;
use crate::rules::Manager;
use crate::storage::{Appender, Querier};

/// The parts of the server behind the HTTP door.
pub struct App {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where pushed samples go in: limits, decoding budget, counters, and the store behind it.
    pub intake: Arc<Intake>,
    /// Groups of metrics that jobs pushed before they ended.
    pub pushgateway: Arc<Pushgateway>,
    /// Where our own samples go.
    pub appender: Arc<dyn Appender>,
    /// Where samples come from.
    pub querier: Arc<dyn Querier>,
    /// How queries are evaluated: lookback, limits, the longest time.
    pub query_options: QueryOptions,
    /// What the server says about itself.
    pub status: Arc<dyn Status>,
    /// What the built-in agent scrapes.
    pub targets: Arc<dyn TargetsView>,
    /// Alerts, silences, and who is told.
    pub alertmanager: Arc<AlertManager>,
    /// Clicks and page views, in.
    pub events: Option<Arc<Edge>>,
    /// What was counted of them.
    pub counts: Option<Arc<Events>>,
    /// Rules and their alerts.
    pub rules: Arc<Manager>,
    /// The process's secret seed for series keys.
    pub seed: u64,
}

#[cfg(test)]
impl App {
    /// An app over an empty store at the epoch; tests replace what they look at: `App { querier, ..App::test() }`.
    pub(crate) fn test() -> App {
        let store = crate::storage::LiteralStore::new();
        let clock = Arc::new(crate::io::SimClock::default());
        let limits = crate::ingest::IngestLimits::default();
        let intake = Arc::new(Intake::new(Arc::new(store.clone()), clock.clone(), 1, limits));
        let log = Arc::new(crate::io::log::MemLog::new());
        let groups = Pushgateway::open(Arc::clone(&intake), log, clock.clone(), Default::default());
        App {
            alertmanager: Arc::new(AlertManager::test(clock.clone())),
            clock: clock.clone(),
            intake,
            pushgateway: Arc::new(groups.expect("an empty log can be read")),
            appender: Arc::new(store.clone()),
            events: Some(Arc::new(crate::events::testing_edge::edge("{}"))),
            counts: None,
            rules: Manager::over(&store),
            querier: Arc::new(store),
            query_options: QueryOptions::default(),
            status: Arc::new(super::query_api::NoStatus),
            targets: Arc::new(super::targets_api::tests::NoTargets),
            seed: 1,
        }
    }
}
