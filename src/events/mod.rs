//! Clicks, impressions, conversions and page views: checked at the door, counted exactly once, corrected when late, provable.

mod event;
mod money;

pub use event::{
    Event, EventId, Field, Kind, PersonHash, Reason, Reasons, SHARDS, ShardId, Texts, TextsError, VisitorId,
};
pub use money::{MONEY_MAX, Micros, MoneyError};
