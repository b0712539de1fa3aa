//! Clicks, impressions, conversions and page views: checked at the door, counted exactly once, corrected when late, provable.

mod bots;
mod checked;
mod checker;
mod config;
pub mod decode;
mod draft;
mod edge;
mod enrich;
mod event;
mod link;
mod metrics_edge;
mod money;
mod privacy;
mod quarantine;
mod raw;
mod raw_files;
mod tail;
#[cfg(test)]
pub(crate) mod testing_edge;
mod validate;

pub use checked::{Answer, Checked, CollectError, Counting, IdempotencyKey, Rejection};
pub use checker::Checker;
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
pub use metrics_edge::{CLICKS_LOST, EDGE_METRICS};
pub use money::{MONEY_MAX, Micros, MoneyError};
pub use privacy::{KeyError, PeopleKeys};
pub use quarantine::Quarantine;
pub use raw::{Column, ParquetStore, columns};
pub use raw_files::{RawError, RawFile, RawQuestion, RawStore};
pub use tail::{Onlooker, Seen, Tail};
