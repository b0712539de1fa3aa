//! The templates of notifications: ours under Alertmanager's names, then the user's files, which may redefine them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::config::{Channel, FieldValue, Receiver};
use super::data::Data;
use super::functions::{NotifyHost, functions};
use crate::model::Millis;
use crate::template::{Functions, Limits, Mode, Render, Set};

/// Our own templates.
const STOCK: &str = include_str!("default.tmpl");
/// How often route labels may refer to one another.
const ROUTE_LABEL_ROUNDS: usize = 8;

/// All templates, parsed.
pub(crate) struct Templates {
    set: Set,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Templates")
    }
}

impl Templates {
    /// Returns our own templates alone.
    pub(crate) fn stock() -> Templates {
        Templates::with_files(&[]).expect("our own templates are well-formed")
    }

    /// Parses our own templates, then the user's: (file, text).
    ///
    /// # Errors
    /// A text with the file and line of the mistake.
    pub(crate) fn with_files(files: &[(String, String)]) -> Result<Templates, String> {
        let functions: Arc<Functions> = Arc::new(functions());
        let mut set = Set::new(functions);
        set.parse("default.tmpl", STOCK).map_err(|error| error.to_string())?;
        for (file, text) in files {
            set.parse(file, text).map_err(|error| error.to_string())?;
        }
        Ok(Templates { set })
    }

    /// Whether a text of the configuration can be parsed.
    ///
    /// # Errors
    /// The template's own error.
    pub(crate) fn check_text(&self, text: &str) -> Result<(), String> {
        if !text.contains("{{") {
            return Ok(());
        }
        let mut set = self.set.clone();
        set.parse("", text).map_err(|error| error.to_string())
    }

    /// Checks every template text of a receiver.
    ///
    /// # Errors
    /// A text naming the key.
    pub(crate) fn check(&self, receiver: &Receiver) -> Result<(), String> {
        for integration in &receiver.integrations {
            let place =
                |key: &str, reason| format!("{}_configs[{}].{key}: {reason}", integration.kind, integration.index);
            let check = |key: &str, text: &str| self.check_text(text).map_err(|reason| place(key, reason));
            match &integration.channel {
                Channel::Email(email) => {
                    for (key, text) in [
                        ("to", &email.to),
                        ("from", &email.from),
                        ("html", &email.html),
                        ("text", &email.text),
                    ] {
                        check(key, text)?;
                    }
                    for (name, text) in &email.headers {
                        check(&format!("headers.{name}"), text)?;
                    }
                }
                Channel::Webhook(webhook) => {
                    if let Some(payload) = &webhook.payload {
                        self.check_tree(payload).map_err(|reason| place("payload", reason))?;
                    }
                }
                Channel::Preset(preset) => {
                    for (key, value) in &preset.values {
                        match value {
                            FieldValue::Template(text) => check(key, text)?,
                            FieldValue::Tree(tree) => self.check_tree(tree).map_err(|reason| place(key, reason))?,
                            _ => {}
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn check_tree(&self, tree: &serde_json::Value) -> Result<(), String> {
        match tree {
            serde_json::Value::String(text) => self.check_text(text),
            serde_json::Value::Array(items) => items.iter().try_for_each(|item| self.check_tree(item)),
            serde_json::Value::Object(entries) => entries.iter().try_for_each(|(name, item)| {
                self.check_text(name)?;
                self.check_tree(item)
            }),
            _ => Ok(()),
        }
    }

    /// Starts rendering about `data`.
    pub(crate) fn about<'a>(&'a self, data: &'a Data) -> Renderer<'a> {
        Renderer {
            set: &self.set,
            value: data.value(),
            host: NotifyHost {
                now: data.now,
                route_labels: data.route_labels.clone(),
            },
        }
    }

    /// Renders the labels of a route, which may refer to one another and to the data.
    ///
    /// # Errors
    /// The template's own error, led by the label.
    pub(crate) fn route_labels(
        &self,
        labels: &BTreeMap<String, String>,
        data: &Data,
        now: Millis,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut rendered: BTreeMap<String, String> = BTreeMap::new();
        for _ in 0..ROUTE_LABEL_ROUNDS {
            let mut next = BTreeMap::new();
            let renderer = Renderer {
                set: &self.set,
                value: data.value(),
                host: NotifyHost {
                    now,
                    route_labels: rendered.clone(),
                },
            };
            for (name, text) in labels {
                let value = renderer
                    .text(text)
                    .map_err(|error| format!("route label {name:?}: {error}"))?;
                next.insert(name.clone(), value);
            }
            if next == rendered {
                break;
            }
            rendered = next;
        }
        Ok(rendered)
    }
}

/// Renders the texts of one notification.
pub(crate) struct Renderer<'a> {
    set: &'a Set,
    value: crate::template::Value,
    host: NotifyHost,
}

impl Renderer<'_> {
    /// Expands a text.
    ///
    /// # Errors
    /// The template's own error.
    pub(crate) fn text(&self, text: &str) -> Result<String, String> {
        self.render(text, Mode::Text)
    }

    /// Expands a text as an HTML document: values are escaped for the place they land in.
    ///
    /// # Errors
    /// The template's own error.
    pub(crate) fn html(&self, text: &str) -> Result<String, String> {
        self.render(text, Mode::Html)
    }

    fn render(&self, text: &str, mode: Mode) -> Result<String, String> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let mut set = self.set.clone();
        set.parse("", text).map_err(|error| error.to_string())?;
        let render = Render {
            data: self.value.clone(),
            host: &self.host,
            mode,
            variables: Vec::new(),
            limits: Limits::default(),
        };
        set.render("", &render).map_err(|error| error.to_string())
    }

    /// Expands every text in a tree. A text that renders to YAML of another type becomes that: `'{{ len .Alerts }}'` is a
    /// number, `'{{ .Alerts | toJson }}'` a list.
    ///
    /// # Errors
    /// The template's own error.
    pub(crate) fn tree(&self, tree: &serde_json::Value) -> Result<serde_json::Value, String> {
        use serde_json::Value as Json;
        Ok(match tree {
            Json::String(text) => {
                let rendered = self.text(text)?;
                match serde_yaml::from_str::<Json>(&rendered) {
                    Ok(Json::String(_)) | Err(_) => Json::String(rendered),
                    Ok(other) => other,
                }
            }
            Json::Array(items) => Json::Array(items.iter().map(|item| self.tree(item)).collect::<Result<_, _>>()?),
            Json::Object(entries) => {
                let mut out = serde_json::Map::new();
                for (name, item) in entries {
                    out.insert(self.text(name)?, self.tree(item)?);
                }
                Json::Object(out)
            }
            other => other.clone(),
        })
    }
}
