//! Clicks, impressions, conversions and page views: checked at the door, counted exactly once, corrected when late, provable.

mod checked;
mod config;
mod event;
mod money;

pub use checked::{Answer, Checked, CollectError, Counting, IdempotencyKey, Rejection};
pub use config::{
    AdConfig, AgentPolicy, BotsConfig, Cube, Currency, DoNotTrack, EventLimits, EventsConfig, Filters, Kept, KeyConfig,
    MirrorConfig, PrivacyConfig, Rate, Retention, SiteConfig,
};
pub use event::{
    Event, EventId, Field, Kind, PersonHash, Reason, Reasons, SHARDS, ShardId, Texts, TextsError, VisitorId,
};
pub use money::{MONEY_MAX, Micros, MoneyError};
