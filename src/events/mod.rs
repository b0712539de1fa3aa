//! Clicks, impressions, conversions and page views: checked at the door, counted exactly once, corrected when late, provable.

mod audit;
mod bots;
mod cells;
mod checked;
mod checker;
mod checkpoint;
mod commit;
mod config;
pub mod decode;
mod dedup;
mod draft;
mod edge;
mod enrich;
mod event;
mod link;
mod manifest;
mod metrics;
mod metrics_edge;
mod mirror;
mod money;
mod open;
#[cfg(test)]
mod ordeal_tests;
mod people;
mod privacy;
mod quarantine;
mod query;
mod raw;
mod raw_files;
mod record;
mod series;
mod state;
mod store;
mod tables;
mod tail;
#[cfg(test)]
mod testing;
#[cfg(test)]
pub(crate) mod testing_edge;
mod validate;
mod watermark;

pub use audit::{
    AuditError, Difference, Erasure, Gap, Hours, Person, PersonError, Proof, Recalculation, Reconciler, Reconciliation,
    Report, ReportQuestion, Request, erase, export, finish_erasures, prove, recalculate, receipts, reconcile,
    reconciliations, report, roll_back,
};
use bots::ClickFilters;
pub use cells::{CellMetric, Counts};
pub use checked::{Answer, Checked, CollectError, Counting, IdempotencyKey, Rejection};
pub use checker::Checker;
pub use checkpoint::Maintained;
pub use commit::Listener;
pub use config::{
    AdConfig, AgentPolicy, BotsConfig, Cube, Currency, DoNotTrack, EventLimits, EventsConfig, Filters, Kept, KeyConfig,
    MirrorConfig, PrivacyConfig, Rate, Retention, SiteConfig,
};
pub use draft::{Arrival, Sender};
pub use edge::{Edge, EdgeError};
pub use event::{
    Event, EventId, Field, Kind, PersonHash, Reason, Reasons, SHARDS, ShardId, Texts, TextsError, VisitorId,
};
pub use link::{LinkError, Links};
pub use manifest::{Grain, Lost};
pub use metrics::METRICS;
pub use metrics_edge::{CLICKS_LOST, EDGE_METRICS};
pub use mirror::Mirror;
pub use money::{MONEY_MAX, Micros, MoneyError};
pub use privacy::{KeyError, PeopleKeys};
pub use quarantine::Quarantine;
pub use query::{MinuteState, Question, QuestionError, Ranked, STEPS_MAX, Served, Step, StepError};
pub use raw::{Column, ParquetStore, columns};
pub use raw_files::{RawError, RawFile, RawQuestion, RawStore};
pub use record::{Counted, Domain};
pub use series::{Both, is_virtual};
pub use store::{Events, EventsError, EventsParts, Opened, Status};
pub use tail::{Onlooker, Seen, Tail};
