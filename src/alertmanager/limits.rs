//! What clients may give us to keep.

use serde::{Deserialize, Serialize};

use super::metrics;
use super::service::Error;
use super::silence::Silence;
use crate::model::{Alert, Labels};

/// The limits of alerts and silences. Going over one is an answer that names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertLimits {
    /// Alerts from outside kept at once. Default 50,000.
    pub alerts: usize,
    /// Bytes of one alert from outside: labels, annotations and link. Default 16,384.
    pub alert_bytes_max: usize,
    /// Silences kept, expired ones included. Default 10,000.
    pub silences: usize,
    /// Bytes of one silence's texts. Default 16,384.
    pub silence_bytes_max: usize,
}

impl Default for AlertLimits {
    fn default() -> AlertLimits {
        AlertLimits {
            alerts: 50_000,
            alert_bytes_max: 16 << 10,
            silences: 10_000,
            silence_bytes_max: 16 << 10,
        }
    }
}

/// How much of what is refused is shown to whoever sent it, in characters.
const SHOWN_MAX: usize = 200;

impl AlertLimits {
    /// Checks the size of an alert from outside.
    pub(super) fn check_alert(&self, alert: &Alert) -> Result<(), Error> {
        let pairs = |labels: &Labels| {
            labels
                .iter()
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>()
        };
        let bytes = pairs(&alert.labels) + pairs(&alert.annotations) + alert.generator_url.len();
        if bytes <= self.alert_bytes_max {
            return Ok(());
        }
        let shown: String = alert.labels.to_string().chars().take(SHOWN_MAX).collect();
        Err(too_large(
            "alert_bytes_max",
            format!("alert {shown} of {bytes} bytes"),
            self.alert_bytes_max,
        ))
    }

    /// Checks the size of a silence.
    pub(super) fn check_silence(&self, silence: &Silence) -> Result<(), Error> {
        let bytes = silence.bytes();
        if bytes <= self.silence_bytes_max {
            return Ok(());
        }
        Err(too_large(
            "silence_bytes_max",
            format!("silence of {bytes} bytes"),
            self.silence_bytes_max,
        ))
    }

    /// The answer to alerts for which there is no room.
    pub(super) fn alerts_are_full(&self, refused: usize) -> Error {
        full("alerts", format!("{refused} new alerts refused"), self.alerts)
    }

    /// The answer to a silence for which there is no room.
    pub(super) fn silences_are_full(&self) -> Error {
        full("silences", "a new silence refused".to_owned(), self.silences)
    }
}

fn too_large(limit: &'static str, what: String, value: usize) -> Error {
    metrics::LIMIT_REFUSED.inc(&[limit]);
    Error::TooLarge(format!("{what}, the limit {limit} is {value}"))
}

fn full(limit: &'static str, what: String, value: usize) -> Error {
    metrics::LIMIT_REFUSED.inc(&[limit]);
    Error::Full(format!(
        "{what}: there are as many as the limit {limit} allows, which is {value}"
    ))
}
