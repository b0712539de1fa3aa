//! Labels and annotations with `{{ … }}` in them: read when the rule file is, expanded for each alert.

use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use super::anomaly::Band;
use crate::model::{Interval, Labels, Millis, yaml};
use crate::template::{
    Functions, Limits, Map, Mode, QueryHost, QuerySample, Record, Render, Set, Value, prometheus_functions,
};

/// What Prometheus puts before each template, so that positions in messages agree.
const DEFINITIONS: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
    {{$externalURL := .ExternalURL}}{{$value := .Value}}";
/// The variables that Prometheus does not have.
const VARIABLES: [&str; 9] = [
    "$activeAt",
    "$for",
    "$expr",
    "$values",
    "$resolvedValue",
    "$expected",
    "$lower",
    "$upper",
    "$score",
];
/// The template's name while it is checked; when expanded, the alert's.
const NAME: &str = "__alert";

static FUNCTIONS: LazyLock<Arc<Functions>> = LazyLock::new(|| Arc::new(prometheus_functions()));

/// A text that may hold a template.
#[derive(Clone)]
pub struct Text {
    /// As written.
    pub source: String,
    /// `None` when there is nothing to expand.
    set: Option<Arc<Set>>,
}

impl Text {
    /// A text without templates, whatever it looks like.
    pub(super) fn plain(text: &str) -> Text {
        text.parse().unwrap_or_else(|_| Text {
            source: text.to_owned(),
            set: None,
        })
    }

    /// Whether expanding it may ask the store.
    pub(super) fn asks(&self) -> bool {
        self.set.is_some() && self.source.contains("query")
    }
}

impl std::str::FromStr for Text {
    type Err = String;

    fn from_str(text: &str) -> Result<Text, String> {
        let set = if text.contains("{{") {
            let mut set = Set::new(Arc::clone(&FUNCTIONS));
            set.declare(VARIABLES);
            set.parse(NAME, &format!("{DEFINITIONS}{text}"))
                .map_err(|error| error.to_string())?;
            Some(Arc::new(set))
        } else {
            None
        };
        Ok(Text {
            source: text.to_owned(),
            set,
        })
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.source == other.source
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        yaml::from_text(deserializer)
    }
}

/// Everything that the templates of one alert may speak of.
pub(super) struct Context {
    /// The rule's name.
    pub(super) alert: String,
    pub(super) host: QueryHost,
    pub(super) external_labels: Labels,
}

/// What belongs to one element of a rule's result.
pub(super) struct Element<'a> {
    pub(super) labels: &'a Labels,
    pub(super) value: Value,
    pub(super) active_at: Millis,
    pub(super) hold: Interval,
    pub(super) expr: &'a str,
    /// The values of a rule with several queries.
    pub(super) values: &'a [(String, f64)],
    /// What a detector says of it.
    pub(super) band: Option<Band>,
    /// The value that ended the alert, once it is over.
    pub(super) resolved_value: Option<f64>,
}

impl Context {
    pub(super) fn new(
        alert: &str,
        at: Millis,
        external_url: &str,
        external_labels: &Labels,
        query: impl Fn(&str) -> Result<Vec<QuerySample>, String> + Send + Sync + 'static,
    ) -> Context {
        Context {
            alert: alert.to_owned(),
            host: QueryHost {
                query: Arc::new(query),
                now_secs: at.as_secs_f64(),
                external_url: external_url.to_owned(),
            },
            external_labels: external_labels.clone(),
        }
    }

    /// Expands a text; a mistake at run time becomes the text, so that the page goes out anyway.
    pub(super) fn expand(&self, text: &Text, element: &Element<'_>) -> String {
        let Some(set) = &text.set else {
            return text.source.clone();
        };
        let render = Render {
            data: self.data(element),
            host: &self.host,
            mode: Mode::Text,
            variables: variables(element),
            limits: Limits::default(),
        };
        set.render(NAME, &render).unwrap_or_else(|error| {
            let name = format!("__alert_{}", self.alert);
            let error = error
                .to_string()
                .replacen(&format!("template: {NAME}:"), &format!("template: {name}:"), 1)
                .replacen(&format!("executing \"{NAME}\""), &format!("executing \"{name}\""), 1);
            format!("<error expanding template: error executing template {name}: {error}>")
        })
    }

    fn data(&self, element: &Element<'_>) -> Value {
        let record = Record::new("template.alertTemplateData")
            .field("Labels", Map::of_strings(element.labels.iter()))
            .field("ExternalLabels", Map::of_strings(self.external_labels.iter()))
            .field("ExternalURL", self.host.external_url.as_str())
            .field("Value", element.value.clone());
        Value::from(record)
    }
}

fn variables(element: &Element<'_>) -> Vec<(&'static str, Value)> {
    let active_at = jiff::Timestamp::from_millisecond(element.active_at.0)
        .map(|at| Value::from(at.to_zoned(jiff::tz::TimeZone::UTC)))
        .unwrap_or_default();
    let values = Map {
        entries: element
            .values
            .iter()
            .filter(|(name, _)| !name.contains('.'))
            .map(|(name, value)| (name.clone(), Value::Float(*value)))
            .collect(),
        strings: false,
    };
    let [active, hold, expr, named, resolved, expected, lower, upper, score] = VARIABLES;
    let of_band = |number: fn(&Band) -> f64| {
        element
            .band
            .as_ref()
            .map_or(Value::Nil, |band| Value::Float(number(band)))
    };
    vec![
        (active, active_at),
        (hold, Value::Duration(element.hold.0.saturating_mul(1_000_000))),
        (expr, Value::from(element.expr)),
        (named, Value::from(values)),
        (resolved, element.resolved_value.map_or(Value::Nil, Value::Float)),
        (expected, of_band(|band| band.expected)),
        (lower, of_band(|band| band.lower)),
        (upper, of_band(|band| band.upper)),
        (score, of_band(|band| band.score)),
    ]
}
