//! What stands in a call: models and options, checked when a query is read and not only when it is evaluated.

use super::settings::Settings;
use crate::query::functions::Detect;

/// The probability that a value to come lies between its bounds, unless said otherwise.
const LEVEL: f64 = 0.95;

/// Reads the options of a forecast: those of a decomposition, and its own.
pub(crate) fn forecast_settings(options: &[&str]) -> Result<(Settings, f64, bool), String> {
    let (mut level, mut seasons) = (LEVEL, true);
    let mut others = Vec::new();
    for option in options {
        match option.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            Some(("model", "auto")) => seasons = true,
            Some(("model", "ets")) => seasons = false,
            Some(("model", other)) => return Err(format!("there is no model {other:?}: write auto or ets")),
            Some(("level", value)) => {
                let number = value.parse().ok().filter(|number| *number > 0.0 && *number < 1.0);
                level = number.ok_or_else(|| format!("level: {value:?} does not lie between 0 and 1"))?;
            }
            _ => others.push(*option),
        }
    }
    if !seasons {
        let settings = Settings::read("mad", others)?;
        return Ok((settings, level, seasons));
    }
    Ok((Settings::read("mstl", others)?, level, seasons))
}

/// Checks a detector's texts before anything is evaluated: its model and options, as far as they stand in the query.
pub(crate) fn check(detect: Detect, texts: &[&str]) -> Result<(), String> {
    match detect {
        Detect::Band(_) | Detect::Bands => {
            let (model, options) = texts.split_first().ok_or("a model is missing")?;
            Settings::read(model, options.iter().copied()).map(drop)
        }
        Detect::Part(_) => Settings::read("mstl", texts.iter().copied()).map(drop),
        Detect::Forecast(_) => forecast_settings(texts).map(drop),
    }
}
