//! The dead man's switch: a word to somebody outside for as long as pages get out.
//!
//! It is no timer of its own. The word goes out from the task that decides and delivers, after a round in which the log took
//! what it was given, and only while no message is overdue and, if asked for, while an alert that always fires does. When
//! any of that ends, so does the word, and whoever waits for it outside cries.

use bytes::Bytes;

use super::config::DeadMansSwitch;
use super::core::{Core, Now};
use super::notify::http::{Failure, Outgoing, Sender};
use super::silence::all_match;
use crate::model::Interval;

/// For how long a watchdog alert counts after its sender last said so.
const WATCHDOG_FRESH: Interval = Interval::mins(5);
/// The longest time for one word.
const TIMEOUT: Interval = Interval::secs(10);

/// Says what keeps the word back; `None` when pages get out.
pub(super) fn held_back(switch: &DeadMansSwitch, core: &Core, log_is_well: bool, now: Now) -> Option<String> {
    if !log_is_well {
        return Some("the alert log takes nothing".to_owned());
    }
    let overdue = core
        .state
        .waiting
        .values()
        .find(|message| now.wall - message.since >= switch.overdue);
    if let Some(message) = overdue {
        return Some(format!(
            "a message for {} has waited since {}",
            message.key.receiver, message.since
        ));
    }
    let watches = switch.watchdog.is_empty()
        || core.state.alerts.values().any(|alert| {
            !alert.is_resolved(now.wall)
                && now.wall - alert.updated_at <= WATCHDOG_FRESH
                && all_match(&switch.watchdog, &alert.labels)
        });
    (!watches).then(|| "the watchdog alert does not fire".to_owned())
}

/// Says the word.
pub(super) async fn send(switch: &DeadMansSwitch, sender: &Sender) -> Result<(), Failure> {
    let outgoing = Outgoing {
        method: "POST",
        url: sender.secret(&switch.url)?,
        headers: Vec::new(),
        body: Bytes::new(),
    };
    sender.send(&switch.http, outgoing, TIMEOUT).await.map(|_| ())
}
