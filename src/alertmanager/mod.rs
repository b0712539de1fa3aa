//! The alert manager: every page arrives, once.
//!
//! Alerts come in from rules and from foreign senders, are routed and grouped, inhibited and silenced, and told to people
//! exactly as Alertmanager's file says. What it adds is memory: alerts, silences, decisions and receipts are records in the
//! alert log, and state is their fold, so that a crash at any instant loses nothing and repeats at most what was being sent.
//!
//! Decisions are pure functions of state and time ([`core`], [`nflog`], [`inhibit`], [`silence`]); [`service`] is the façade and
//! [`runner`] the one task that carries decisions out.

mod alert;
mod audit;
mod config;
mod core;
mod deliver;
mod explain;
mod fallback;
mod flood;
mod health;
mod heartbeat;
mod inhibit;
mod limits;
mod matchers;
mod metrics;
mod nflog;
mod notify;
mod preview;
mod queue;
mod record;
mod rehearse;
mod retry;
mod runner;
mod service;
mod settle;
mod silence;
mod state;
mod tell;
#[cfg(test)]
mod tests;
mod time_interval;
mod trial;
mod view;

pub use alert::{Origin, StoredAlert};
pub use audit::Entry;
pub use config::{Config, ConfigError, Summary};
pub use core::Muted;
pub use explain::{Explanation, GroupExplanation, HealthView, IntegrationExplanation, RouteView};
pub use limits::AlertLimits;
pub use matchers::{parse_matcher, parse_matchers};
pub use metrics::METRICS;
pub use nflog::Reason;
pub use preview::{PreviewAlert, Rendered};
pub use record::{NotifyKey, Receipt, Told};
pub use rehearse::{Rehearsal, RehearsedPage};
pub use service::{AlertManager, Deps, Error};
pub use silence::{Calendar, Silence, SilenceMatcher, SilenceState};
pub use trial::{PagedAlert, TrialSilence};
pub use view::{AlertView, GroupView, ReceiverView};
