//! `alertmanager.yml` as Alertmanager 0.34 reads it: parsed into meaning, checked, completed from `global`.
//!
//! Every mistake is refused at load with file, line and column; what we cannot do is refused by name. Extensions are one
//! extra key each: `hmac` on a web hook; `ntfy_configs`, `fallback`, `rate`, `burst`, `send_silenced_resolved`,
//! `give_up_after` on a receiver; `group_urgent` on a route; `fallback` and `dead_mans_switch` in `global`.

mod flaw;
mod mask;
pub(crate) mod preset;
pub(crate) mod receiver;
pub(crate) mod route;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

pub(crate) use crate::io::outgoing::config::{HttpConfig, TlsConfig};
pub(crate) use crate::io::outgoing::scalar::{self, SecretSource};
pub(crate) use crate::model::Secret;
pub(crate) use preset::FieldValue;
pub(crate) use receiver::{Channel, EmailConfig, Integration, PresetConfig, Receiver, WebhookConfig};
pub(crate) use route::{Route, RouteTree};

use self::flaw::Flaw;
use self::receiver::RawReceiver;
use self::route::{Matchers, Pattern, RawRoute, legacy};
use self::scalar::Text;
use super::matchers::sort;
use super::notify::templates::Templates;
use super::time_interval::TimeInterval;
use crate::io::disk::Disk;
use crate::io::files;
use crate::model::yaml::{self, YamlError};
use crate::model::{Interval, Matcher};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be at one place.
    #[error("{0}")]
    Yaml(YamlError),
    /// A template is not what it should be.
    #[error("{0}")]
    Template(String),
}

/// A whole, checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long an alert without an end lasts after it was last sent.
    pub(crate) resolve_timeout: Interval,
    /// The routing tree.
    pub(crate) routes: RouteTree,
    /// The receivers, in the order of the file.
    pub(crate) receivers: Vec<Arc<Receiver>>,
    /// Which alerts hush which.
    pub(crate) inhibit_rules: Vec<InhibitRule>,
    /// Named intervals of time.
    pub(crate) time_intervals: BTreeMap<String, Vec<TimeInterval>>,
    /// Who hears regularly that pages get out.
    pub(crate) dead_mans_switch: Option<DeadMansSwitch>,
    /// Our templates and the user's.
    pub(crate) templates: Arc<Templates>,
    /// The file's text without its secrets.
    pub(crate) original: String,
}

/// What a configuration holds, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Routes, the root included.
    pub routes: usize,
    /// Receivers.
    pub receivers: usize,
    /// Inhibition rules.
    pub inhibit_rules: usize,
    /// Named time intervals.
    pub time_intervals: usize,
}

/// `global.dead_mans_switch`: a URL outside that is asked for as long as pages get out; when it hears nothing, it cries.
#[derive(Clone, Debug)]
pub(crate) struct DeadMansSwitch {
    /// What is asked for.
    pub(crate) url: SecretSource,
    /// How often.
    pub(crate) interval: Interval,
    /// No word any more when a message has waited for so long.
    pub(crate) overdue: Interval,
    /// No word any more unless an alert that these match fires; empty = any state of things will do.
    pub(crate) watchdog: Vec<Matcher>,
    /// How to reach it.
    pub(crate) http: HttpConfig,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDeadMansSwitch {
    url: Option<Secret>,
    url_file: Option<PathBuf>,
    interval: Option<Interval>,
    overdue: Option<Interval>,
    #[serde(default)]
    watchdog: Matchers,
    http_config: Option<HttpConfig>,
}

impl RawDeadMansSwitch {
    fn finish(self, base: &Path, http: &HttpConfig) -> Result<DeadMansSwitch, String> {
        let url = SecretSource::pick("url", self.url, self.url_file)?;
        let mut url = url.ok_or("one of url or url_file must be configured")?;
        url.resolve(base);
        let http = match self.http_config {
            None => http.clone(),
            Some(mut own) => {
                own.finish(base)?;
                own
            }
        };
        let interval = self.interval.unwrap_or(Interval::mins(1));
        if interval < Interval::secs(1) {
            return Err("interval must be 1s or more".to_owned());
        }
        Ok(DeadMansSwitch {
            url,
            interval,
            overdue: self.overdue.unwrap_or(Interval::mins(15)),
            watchdog: self.watchdog.0,
            http,
        })
    }
}

/// One inhibition rule: while a source fires, targets with the same `equal` labels are hushed.
#[derive(Clone, Debug)]
pub(crate) struct InhibitRule {
    /// All must match the hushing alert.
    pub(crate) source: Vec<Matcher>,
    /// All must match the hushed alert.
    pub(crate) target: Vec<Matcher>,
    /// Labels that must be equal; a missing one is empty.
    pub(crate) equal: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    global: Option<RawGlobal>,
    route: Option<RawRoute>,
    inhibit_rules: Option<Vec<RawInhibit>>,
    receivers: Option<Vec<RawReceiver>>,
    templates: Option<Vec<Text>>,
    mute_time_intervals: Option<Vec<RawNamedInterval>>,
    time_intervals: Option<Vec<RawNamedInterval>>,
    event_recorder: Option<serde_yaml::Value>,
    tracing: Option<serde_yaml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNamedInterval {
    name: Text,
    time_intervals: Option<Vec<TimeInterval>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInhibit {
    #[expect(dead_code, reason = "a name is for people who read the file")]
    name: Option<Text>,
    source_match: Option<BTreeMap<String, Text>>,
    source_match_re: Option<BTreeMap<String, Pattern>>,
    #[serde(default)]
    source_matchers: Matchers,
    target_match: Option<BTreeMap<String, Text>>,
    target_match_re: Option<BTreeMap<String, Pattern>>,
    #[serde(default)]
    target_matchers: Matchers,
    equal: Option<Vec<Text>>,
}

macro_rules! global {
    (texts: $($text:ident),*; secrets: $($secret:ident / $file:ident),* $(,)?) => {
        /// `global`, as written.
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct RawGlobal {
            pub(crate) resolve_timeout: Option<Interval>,
            pub(crate) http_config: Option<HttpConfig>,
            pub(crate) smtp_require_tls: Option<bool>,
            pub(crate) smtp_force_implicit_tls: Option<bool>,
            pub(crate) smtp_tls_config: Option<TlsConfig>,
            fallback: Option<Text>,
            dead_mans_switch: Option<RawDeadMansSwitch>,
            $(pub(crate) $text: Option<Text>,)*
            $(pub(crate) $secret: Option<Secret>, pub(crate) $file: Option<PathBuf>,)*
        }

        impl RawGlobal {
            /// Takes the values that receivers inherit by name.
            fn take_fields(&mut self, base: &Path) -> Result<BTreeMap<&'static str, FieldValue>, String> {
                let mut fields = BTreeMap::new();
                $(if let Some(Text(text)) = &self.$text {
                    fields.insert(stringify!($text), FieldValue::Template(text.clone()));
                })*
                $(let source = SecretSource::pick(stringify!($secret), self.$secret.take(), self.$file.take())?;
                if let Some(mut source) = source {
                    source.resolve(base);
                    fields.insert(stringify!($secret), FieldValue::Secret(source));
                })*
                Ok(fields)
            }
        }
    };
}

global! {
    texts: smtp_from, smtp_hello, smtp_smarthost, smtp_auth_username, smtp_auth_identity, jira_api_url, slack_app_url,
        victorops_api_url, pagerduty_url, opsgenie_api_url, rocketchat_api_url, wechat_api_url, wechat_api_corp_id,
        telegram_api_url, webex_api_url;
    secrets: smtp_auth_password / smtp_auth_password_file,
        smtp_auth_secret / smtp_auth_secret_file,
        slack_api_url / slack_api_url_file,
        slack_app_token / slack_app_token_file,
        victorops_api_key / victorops_api_key_file,
        opsgenie_api_key / opsgenie_api_key_file,
        rocketchat_token / rocketchat_token_file,
        rocketchat_token_id / rocketchat_token_id_file,
        wechat_api_secret / wechat_api_secret_file,
        telegram_bot_token / telegram_bot_token_file,
        mattermost_webhook_url / mattermost_webhook_url_file,
}

/// `global`, as receivers inherit from it.
pub(crate) struct Global {
    pub(crate) raw: RawGlobal,
    pub(crate) http: HttpConfig,
    pub(crate) smtp_password: Option<SecretSource>,
    pub(crate) smtp_secret: Option<SecretSource>,
    fields: BTreeMap<&'static str, FieldValue>,
}

impl Global {
    fn finish(mut raw: RawGlobal, base: &Path) -> Result<Global, String> {
        let mut http = raw.http_config.take().unwrap_or_default();
        http.finish(base)
            .map_err(|reason| format!("global.http_config: {reason}"))?;
        let mut fields = raw.take_fields(base).map_err(|reason| format!("global: {reason}"))?;
        let mut secret = |name| match fields.remove(name) {
            Some(FieldValue::Secret(source)) => Some(source),
            _ => None,
        };
        Ok(Global {
            smtp_password: secret("smtp_auth_password"),
            smtp_secret: secret("smtp_auth_secret"),
            raw,
            http,
            fields,
        })
    }

    /// Returns who is told when a receiver that names nobody else cannot be.
    pub(crate) fn fallback(&self) -> Option<String> {
        self.raw.fallback.as_ref().map(|name| name.0.clone())
    }

    /// Returns what a receiver inherits under this name.
    pub(crate) fn field(&self, name: &str) -> Option<FieldValue> {
        self.fields.get(name).cloned()
    }
}

impl Config {
    /// Reads and checks a file. File names in it are relative to its folder.
    ///
    /// # Errors
    /// [`ConfigError`] for the first mistake.
    pub fn load(disk: &dyn Disk, path: &Path) -> Result<Config, ConfigError> {
        let file = path.display().to_string();
        let text = files::read_text(disk, path).map_err(|source| ConfigError::Read {
            path: file.clone(),
            source,
        })?;
        let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Config::parse(disk, &file, &text, &base)
    }

    /// Returns the configuration of a server without `alertmanager.yml`: alerts are kept and shown, and page nobody.
    pub fn pages_nobody() -> Config {
        let receiver = Receiver::silent("none");
        Config {
            resolve_timeout: Interval::mins(5),
            routes: RouteTree::single("none"),
            receivers: vec![Arc::new(receiver)],
            inhibit_rules: Vec::new(),
            time_intervals: BTreeMap::new(),
            dead_mans_switch: None,
            templates: Arc::new(Templates::stock()),
            original: "route:\n  receiver: none\nreceivers:\n- name: none\n".to_owned(),
        }
    }

    /// Checks a text as if it stood in `file`, in the folder `base`.
    ///
    /// # Errors
    /// [`ConfigError`] for the first mistake.
    pub fn parse(disk: &dyn Disk, file: &str, text: &str, base: &Path) -> Result<Config, ConfigError> {
        let raw: RawConfig = yaml::read(file, text).map_err(ConfigError::Yaml)?;
        let invalid = |flaw: Flaw| ConfigError::Yaml(YamlError::of(file, text, &flaw.path, flaw.reason));
        let patterns: Option<Vec<PathBuf>> = raw
            .templates
            .as_ref()
            .map(|list| list.iter().map(|text| base.join(&text.0)).collect());
        let mut config = build(raw, base).map_err(invalid)?;
        let sources = template_files(disk, &patterns.unwrap_or_default())?;
        let templates = Templates::with_files(&sources).map_err(ConfigError::Template)?;
        for (index, receiver) in config.receivers.iter().enumerate() {
            let flaw = |reason| receiver_flaw(index, &receiver.name, reason);
            templates.check(receiver).map_err(|reason| invalid(flaw(reason)))?;
        }
        config.templates = Arc::new(templates);
        config.original = mask::mask(text);
        Ok(config)
    }

    /// Counts what the file holds.
    pub fn summary(&self) -> Summary {
        Summary {
            routes: self.routes.routes().len(),
            receivers: self.receivers.len(),
            inhibit_rules: self.inhibit_rules.len(),
            time_intervals: self.time_intervals.len(),
        }
    }

    /// Returns the receiver of this name.
    pub(crate) fn receiver(&self, name: &str) -> Option<&Arc<Receiver>> {
        self.receivers.iter().find(|receiver| receiver.name == name)
    }

    /// Returns the names of the intervals that keep the route silent at `now`: those that mute it, or those of which none
    /// is active.
    pub(crate) fn muted_by(&self, route: &Route, now: crate::model::Millis) -> Vec<String> {
        let holds = |name: &&String| {
            let intervals = self.time_intervals.get(*name);
            intervals.is_some_and(|intervals| intervals.iter().any(|interval| interval.contains(now)))
        };
        let mut names: Vec<String> = route.mute.iter().filter(holds).cloned().collect();
        if !route.active.is_empty() && !route.active.iter().any(|name| holds(&name)) {
            names.extend(route.active.iter().cloned());
        }
        names
    }
}

fn template_files(disk: &dyn Disk, patterns: &[PathBuf]) -> Result<Vec<(String, String)>, ConfigError> {
    let mut sources = Vec::new();
    for pattern in patterns {
        let error = |source| ConfigError::Read {
            path: pattern.display().to_string(),
            source,
        };
        for path in files::glob(disk, pattern).map_err(error)? {
            let text = files::read_text(disk, &path).map_err(|source| ConfigError::Read {
                path: path.display().to_string(),
                source,
            })?;
            sources.push((path.display().to_string(), text));
        }
    }
    Ok(sources)
}

fn build(raw: RawConfig, base: &Path) -> Result<Config, Flaw> {
    if raw.event_recorder.is_some() {
        let reason = "event_recorder is not supported: Campanile keeps its own audit trail";
        return Err(Flaw::at("event_recorder", reason));
    }
    if raw.tracing.is_some() {
        return Err(Flaw::at("tracing", "tracing is not supported"));
    }
    let in_global = |reason: String| Flaw {
        path: "global".to_owned(),
        reason,
    };
    let mut global = Global::finish(raw.global.unwrap_or_default(), base).map_err(in_global)?;
    let dead_mans_switch = global
        .raw
        .dead_mans_switch
        .take()
        .map(|raw| raw.finish(base, &global.http))
        .transpose()
        .map_err(|reason| in_global(format!("global.dead_mans_switch: {reason}")))?;
    let routes = RouteTree::build(raw.route.ok_or_else(|| Flaw::at("", "no routes provided"))?)?;
    let mut receivers: Vec<Arc<Receiver>> = Vec::new();
    for (index, receiver) in raw.receivers.unwrap_or_default().into_iter().enumerate() {
        let name = receiver.name.0.clone();
        if name.is_empty() {
            return Err(Flaw::at(format!("receivers[{index}].name"), "missing name in receiver"));
        }
        if receivers.iter().any(|known| known.name == name) {
            let reason = format!("notification config name {name:?} is not unique");
            return Err(Flaw::at(format!("receivers[{index}].name"), reason));
        }
        let receiver = receiver.finish(base, &global);
        receivers.push(Arc::new(
            receiver.map_err(|reason| receiver_flaw(index, &name, reason))?,
        ));
    }
    let mut time_intervals = BTreeMap::new();
    add_intervals(&mut time_intervals, "mute_time_intervals", raw.mute_time_intervals)?;
    add_intervals(&mut time_intervals, "time_intervals", raw.time_intervals)?;
    check_names(&routes, &receivers, &time_intervals)?;
    check_fallbacks(&receivers)?;
    Ok(Config {
        resolve_timeout: global.raw.resolve_timeout.unwrap_or(Interval::mins(5)),
        routes,
        receivers,
        inhibit_rules: raw
            .inhibit_rules
            .unwrap_or_default()
            .into_iter()
            .map(RawInhibit::finish)
            .collect(),
        time_intervals,
        dead_mans_switch,
        templates: Arc::new(Templates::stock()),
        original: String::new(),
    })
}

/// A mistake in a receiver; the reason leads with the keys inside it.
fn receiver_flaw(index: usize, name: &str, reason: String) -> Flaw {
    Flaw {
        path: format!("receivers[{index}]"),
        reason: format!("receiver {name:?}: {reason}"),
    }
}

fn add_intervals(
    named: &mut BTreeMap<String, Vec<TimeInterval>>,
    section: &str,
    raw: Option<Vec<RawNamedInterval>>,
) -> Result<(), Flaw> {
    for (index, raw) in raw.unwrap_or_default().into_iter().enumerate() {
        let path = format!("{section}[{index}].name");
        if raw.name.0.is_empty() {
            return Err(Flaw::at(path, "missing name in time interval"));
        }
        let intervals = raw.time_intervals.unwrap_or_default();
        if named.insert(raw.name.0.clone(), intervals).is_some() {
            return Err(Flaw::at(path, format!("time interval {:?} is not unique", raw.name.0)));
        }
    }
    Ok(())
}

fn check_names(
    routes: &RouteTree,
    receivers: &[Arc<Receiver>],
    intervals: &BTreeMap<String, Vec<TimeInterval>>,
) -> Result<(), Flaw> {
    let known: BTreeSet<&str> = receivers.iter().map(|receiver| receiver.name.as_str()).collect();
    for route in routes.routes() {
        if !known.contains(route.receiver.as_str()) {
            let hint = hint(&route.receiver, known.iter().copied());
            let reason = format!("undefined receiver {:?} used in route{hint}", route.receiver);
            return Err(Flaw::at(format!("{}.receiver", route.path), reason));
        }
        for (key, names) in [
            ("mute_time_intervals", &route.mute),
            ("active_time_intervals", &route.active),
        ] {
            if let Some(index) = names.iter().position(|name| !intervals.contains_key(name)) {
                let hint = hint(&names[index], intervals.keys().map(String::as_str));
                let reason = format!("undefined time interval {:?} used in route{hint}", names[index]);
                return Err(Flaw::at(format!("{}.{key}[{index}]", route.path), reason));
            }
        }
    }
    Ok(())
}

fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = yaml::nearest(name, known);
    near.map(|name| format!(" (did you mean {name:?}?)"))
        .unwrap_or_default()
}

/// Each fallback exists and has a way of being told, and no two receivers fall back on each other.
fn check_fallbacks(receivers: &[Arc<Receiver>]) -> Result<(), Flaw> {
    let find = |name: &str| receivers.iter().find(|receiver| receiver.name == name);
    for (index, receiver) in receivers.iter().enumerate() {
        let path = if receiver.has_own_fallback {
            format!("receivers[{index}].fallback")
        } else {
            "global.fallback".to_owned()
        };
        let mut seen = vec![receiver.name.as_str()];
        let mut next = receiver.fallback.as_deref();
        while let Some(name) = next {
            let Some(fallback) = find(name) else {
                return Err(Flaw::at(path, format!("undefined receiver {name:?} used as fallback")));
            };
            if seen.contains(&name) {
                let all = seen.join(", ");
                let reason = format!("fallback {name:?}: the receivers {all} fall back on each other");
                return Err(Flaw::at(path, reason));
            }
            if fallback.integrations.is_empty() {
                return Err(Flaw::at(path, format!("fallback {name:?} is told by no means")));
            }
            seen.push(name);
            next = fallback.fallback.as_deref();
        }
    }
    Ok(())
}

impl RawInhibit {
    fn finish(self) -> InhibitRule {
        let mut source: Vec<Matcher> = legacy(self.source_match, self.source_match_re).collect();
        source.extend(self.source_matchers.0);
        let mut target: Vec<Matcher> = legacy(self.target_match, self.target_match_re).collect();
        target.extend(self.target_matchers.0);
        sort(&mut source);
        sort(&mut target);
        InhibitRule {
            source,
            target,
            equal: self.equal.unwrap_or_default().into_iter().map(|name| name.0).collect(),
        }
    }
}
