//! Web hooks of somebody else's shape: one table of keys a service, and one function that builds its requests.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::super::config::PresetConfig;
use super::super::config::preset::{Field, FieldValue, Kind, Shape};
use super::data::Data;
use super::http::{Failure, Outgoing, Sender, describe};
use super::templates::Renderer;
use crate::io::http_client::HttpResponse;
use crate::model::Interval;

/// One kind of service.
pub(crate) struct Preset {
    /// `slack`, `pagerduty`, …
    pub(crate) kind: &'static str,
    /// Whether the settings of an entry hold together.
    pub(crate) check: fn(&PresetConfig) -> Result<(), String>,
    /// Builds the requests, to be sent in order.
    build: fn(&Message<'_>) -> Result<Vec<Outgoing>, Failure>,
    /// Whether a 2xx answer is a yes: some services say no inside.
    pub(crate) accept: fn(&HttpResponse) -> Result<(), Failure>,
}

impl std::fmt::Debug for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind)
    }
}

/// An entry's settings, rendered for one message.
struct Message<'a> {
    values: BTreeMap<&'static str, Rendered>,
    data: &'a Data,
}

enum Rendered {
    Text(String),
    Bool(bool),
    Int(i64),
    Interval(Interval),
    Tree(Value),
}

/// Builds the requests for one message.
///
/// # Errors
/// [`Failure`], when a template or a secret fails.
pub(crate) fn requests(
    config: &PresetConfig,
    data: &Data,
    renderer: &Renderer<'_>,
    sender: &Sender,
) -> Result<Vec<Outgoing>, Failure> {
    let mut values = BTreeMap::new();
    for (name, value) in &config.values {
        let failed = |reason| Failure::Permanent(format!("{name}: {reason}"));
        let rendered = match value {
            FieldValue::Template(text) => Rendered::Text(renderer.text(text).map_err(failed)?),
            FieldValue::Secret(source) => Rendered::Text(renderer.text(&sender.secret(source)?).map_err(failed)?),
            FieldValue::Bool(bool) => Rendered::Bool(*bool),
            FieldValue::Int(int) => Rendered::Int(*int),
            FieldValue::Interval(interval) => Rendered::Interval(*interval),
            FieldValue::Tree(tree) => Rendered::Tree(renderer.tree(tree).map_err(failed)?),
        };
        values.insert(*name, rendered);
    }
    (config.preset.build)(&Message { values, data })
}

impl Message<'_> {
    fn text(&self, name: &str) -> &str {
        match self.values.get(name) {
            Some(Rendered::Text(text)) => text,
            _ => "",
        }
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some(Rendered::Bool(true)))
    }

    fn int(&self, name: &str) -> Option<i64> {
        match self.values.get(name) {
            Some(Rendered::Int(int)) => Some(*int),
            _ => None,
        }
    }

    fn seconds(&self, name: &str) -> Option<i64> {
        match self.values.get(name) {
            Some(Rendered::Interval(interval)) => Some(interval.0 / 1000),
            _ => None,
        }
    }

    fn tree(&self, name: &str) -> Value {
        match self.values.get(name) {
            Some(Rendered::Tree(tree)) => tree.clone(),
            _ => Value::Null,
        }
    }

    /// Like `text`, cut to what the service takes.
    fn cut(&self, name: &str, chars_max: usize) -> String {
        cut(self.text(name), chars_max)
    }

    /// The group's key in a form that every service takes as a name: the same for all messages of the group.
    fn group_hash(&self) -> String {
        Sha256::digest(self.data.group_key.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A JSON object without its empty entries.
fn object(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    };
    let entries = entries.into_iter().filter(|(_, value)| !is_empty(value));
    Value::Object(entries.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn join(base: &str, path: &str) -> String {
    format!("{}/{path}", base.trim_end_matches('/'))
}

fn escape(segment: &str) -> String {
    url::form_urlencoded::byte_serialize(segment.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

const fn template(name: &'static str, default: &'static str) -> Field {
    Field {
        name,
        kind: Kind::Template,
        global: None,
        default: Some(default),
    }
}

const fn inherited(name: &'static str, global: &'static str, default: Option<&'static str>) -> Field {
    Field {
        name,
        kind: Kind::Template,
        global: Some(global),
        default,
    }
}

const fn secret(name: &'static str, global: Option<&'static str>) -> Field {
    Field {
        name,
        kind: Kind::Secret,
        global,
        default: None,
    }
}

const fn of(name: &'static str, kind: Kind, default: Option<&'static str>) -> Field {
    Field {
        name,
        kind,
        global: None,
        default,
    }
}

macro_rules! shape {
    ($(#[$doc:meta])* $shape:ident = $preset:ident($kind:literal, resolved: $resolved:literal, $check:expr, $build:expr, $accept:expr), [$($field:expr),* $(,)?]) => {
        $(#[$doc])*
        pub(crate) struct $shape;
        impl Shape for $shape {
            const FIELDS: &'static [Field] = &[$($field),*];
            const SEND_RESOLVED: bool = $resolved;
        }
        pub(crate) static $preset: Preset = Preset { kind: $kind, check: $check, build: $build, accept: $accept };
    };
}

fn accept_all(_answer: &HttpResponse) -> Result<(), Failure> {
    Ok(())
}

/// Slack's and Telegram's API say `"ok": false` with a 200.
fn accept_ok(answer: &HttpResponse) -> Result<(), Failure> {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match json.get("ok").and_then(Value::as_bool) {
        Some(false) => Err(Failure::Permanent(describe(answer))),
        _ => Ok(()),
    }
}

/// Refuses an entry that lacks one of these.
fn needs(config: &PresetConfig, names: &[&str]) -> Result<(), String> {
    for name in names {
        let missing = match config.values.get(name) {
            None => true,
            Some(FieldValue::Template(text)) => text.is_empty(),
            Some(_) => false,
        };
        if missing {
            return Err(format!("missing {name}"));
        }
    }
    Ok(())
}

shape! {
    /// `slack_configs`
    Slack = SLACK("slack", resolved: false, check_slack, build_slack, accept_ok), [
        secret("api_url", Some("slack_api_url")),
        secret("app_token", Some("slack_app_token")),
        inherited("app_url", "slack_app_url", Some("https://slack.com/api/chat.postMessage")),
        template("channel", ""),
        template("username", r#"{{ template "slack.default.username" . }}"#),
        template("color", r#"{{ template "slack.default.color" . }}"#),
        template("title", r#"{{ template "slack.default.title" . }}"#),
        template("title_link", r#"{{ template "slack.default.titlelink" . }}"#),
        template("pretext", r#"{{ template "slack.default.pretext" . }}"#),
        template("text", r#"{{ template "slack.default.text" . }}"#),
        template("message_text", ""),
        template("fallback", r#"{{ template "slack.default.fallback" . }}"#),
        template("callback_id", r#"{{ template "slack.default.callbackid" . }}"#),
        template("icon_emoji", r#"{{ template "slack.default.iconemoji" . }}"#),
        template("icon_url", r#"{{ template "slack.default.iconurl" . }}"#),
        template("footer", r#"{{ template "slack.default.footer" . }}"#),
        template("image_url", ""),
        template("thumb_url", ""),
        of("fields", Kind::Tree, None),
        of("actions", Kind::Tree, None),
        of("mrkdwn_in", Kind::Tree, Some(r#"["fallback","pretext","text"]"#)),
        of("link_names", Kind::Bool, None),
        of("short_fields", Kind::Bool, None),
        of("update_message", Kind::Bool, None),
    ]
}

fn check_slack(config: &PresetConfig) -> Result<(), String> {
    if matches!(config.values.get("update_message"), Some(FieldValue::Bool(true))) {
        return Err("update_message is not supported: each notification is a message of its own".to_owned());
    }
    if !config.values.contains_key("api_url") && !config.values.contains_key("app_token") {
        return Err("no Slack API URL nor App token set either inline or in a file".to_owned());
    }
    Ok(())
}

fn build_slack(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    let mut attachment = vec![
        ("title", json!(message.cut("title", 1024))),
        ("fallback", json!(message.text("fallback"))),
        ("color", json!(message.text("color"))),
    ];
    for name in [
        "title_link",
        "pretext",
        "text",
        "callback_id",
        "footer",
        "image_url",
        "thumb_url",
    ] {
        attachment.push((name, json!(message.text(name))));
    }
    attachment.push(("fields", short_fields(message)));
    attachment.push(("actions", message.tree("actions")));
    attachment.push(("mrkdwn_in", message.tree("mrkdwn_in")));
    let body = object([
        ("channel", json!(message.text("channel"))),
        ("username", json!(message.text("username"))),
        ("icon_emoji", json!(message.text("icon_emoji"))),
        ("icon_url", json!(message.text("icon_url"))),
        (
            "link_names",
            if message.flag("link_names") {
                json!(true)
            } else {
                Value::Null
            },
        ),
        ("text", json!(message.text("message_text"))),
        ("attachments", json!([object(attachment)])),
    ]);
    // An entry's own URL counts more than a token that it inherits.
    let url = message.text("api_url");
    if !url.is_empty() {
        return Ok(vec![Outgoing::json(url, &body)]);
    }
    let token = format!("Bearer {}", message.text("app_token"));
    Ok(vec![
        Outgoing::json(message.text("app_url"), &body).header("Authorization", token),
    ])
}

/// Fields without a `short` of their own take that of the entry.
fn short_fields(message: &Message<'_>) -> Value {
    let mut fields = message.tree("fields");
    for field in fields.as_array_mut().into_iter().flatten() {
        if let Some(entries) = field.as_object_mut() {
            entries.entry("short").or_insert(json!(message.flag("short_fields")));
        }
    }
    fields
}

shape! {
    /// `pagerduty_configs`
    PagerDuty = PAGERDUTY("pagerduty", resolved: true, check_pagerduty, build_pagerduty, accept_all), [
        secret("service_key", None),
        secret("routing_key", None),
        inherited("url", "pagerduty_url", Some("https://events.pagerduty.com/v2/enqueue")),
        template("client", r#"{{ template "pagerduty.default.client" . }}"#),
        template("client_url", r#"{{ template "pagerduty.default.clientURL" . }}"#),
        template("description", r#"{{ template "pagerduty.default.description" .}}"#),
        template("source", ""),
        template("severity", "error"),
        template("class", ""),
        template("component", ""),
        template("group", ""),
        of("details", Kind::Tree, None),
        of("images", Kind::Tree, None),
        of("links", Kind::Tree, None),
    ]
}

fn check_pagerduty(config: &PresetConfig) -> Result<(), String> {
    match (
        config.values.contains_key("routing_key"),
        config.values.contains_key("service_key"),
    ) {
        (false, false) => Err("missing service or routing key in PagerDuty config".to_owned()),
        (true, true) => Err("at most one of routing_key & service_key must be configured".to_owned()),
        _ => Ok(()),
    }
}

/// What the default details say, whatever else is configured.
fn pagerduty_details(message: &Message<'_>) -> Value {
    let mut details = Map::new();
    let alerts = |resolved: bool| -> Vec<Value> {
        message.data.webhook(0)["alerts"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|alert| (alert["status"] == "resolved") == resolved)
            .cloned()
            .collect()
    };
    let (firing, resolved) = (alerts(false), alerts(true));
    details.insert("num_firing".to_owned(), json!(firing.len()));
    details.insert("num_resolved".to_owned(), json!(resolved.len()));
    details.insert("firing".to_owned(), Value::Array(firing));
    details.insert("resolved".to_owned(), Value::Array(resolved));
    if let Value::Object(own) = message.tree("details") {
        details.extend(own);
    }
    // PagerDuty takes 512 KB: a storm is told by its counts.
    let details = Value::Object(details);
    if details.to_string().len() < 400_000 {
        return details;
    }
    let mut short = details;
    for name in ["firing", "resolved"] {
        short[name] = json!("too many alerts to list here");
    }
    short
}

fn build_pagerduty(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    let action = if message.data.is_firing() { "trigger" } else { "resolve" };
    let key = message.group_hash();
    let service_key = message.text("service_key");
    if !service_key.is_empty() {
        let body = object([
            ("service_key", json!(service_key)),
            ("event_type", json!(action)),
            ("incident_key", json!(key)),
            ("description", json!(message.cut("description", 1024))),
            ("client", json!(message.text("client"))),
            ("client_url", json!(message.text("client_url"))),
            ("details", pagerduty_details(message)),
        ]);
        let url = match message.text("url") {
            "https://events.pagerduty.com/v2/enqueue" => {
                "https://events.pagerduty.com/generic/2010-04-15/create_event.json"
            }
            url => url,
        };
        return Ok(vec![Outgoing::json(url, &body)]);
    }
    let source = match message.text("source") {
        "" => message.text("client"),
        source => source,
    };
    let summary = match message.cut("description", 1024) {
        summary if summary.is_empty() => "(no summary)".to_owned(),
        summary => summary,
    };
    let mut payload = object([
        ("class", json!(message.text("class"))),
        ("component", json!(message.text("component"))),
        ("group", json!(message.text("group"))),
        ("custom_details", pagerduty_details(message)),
    ]);
    payload["summary"] = json!(summary);
    payload["source"] = json!(source);
    payload["severity"] = json!(message.text("severity"));
    let body = object([
        ("routing_key", json!(message.text("routing_key"))),
        ("event_action", json!(action)),
        ("dedup_key", json!(key)),
        ("client", json!(message.text("client"))),
        ("client_url", json!(message.text("client_url"))),
        ("payload", payload),
        ("images", message.tree("images")),
        ("links", message.tree("links")),
    ]);
    Ok(vec![Outgoing::json(message.text("url"), &body)])
}

shape! {
    /// `opsgenie_configs`
    Opsgenie = OPSGENIE("opsgenie", resolved: true, |config| needs(config, &["api_key"]), build_opsgenie, accept_all), [
        secret("api_key", Some("opsgenie_api_key")),
        inherited("api_url", "opsgenie_api_url", Some("https://api.opsgenie.com/")),
        template("message", r#"{{ template "opsgenie.default.message" . }}"#),
        template("description", r#"{{ template "opsgenie.default.description" . }}"#),
        template("source", r#"{{ template "opsgenie.default.source" . }}"#),
        of("details", Kind::Tree, None),
        template("entity", ""),
        of("responders", Kind::Tree, None),
        template("actions", ""),
        template("tags", ""),
        template("note", ""),
        template("priority", ""),
        of("update_alerts", Kind::Bool, None),
    ]
}

fn build_opsgenie(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    let alias = message.group_hash();
    let key = format!("GenieKey {}", message.text("api_key"));
    let at = |path: String| join(message.text("api_url"), &path);
    let send = |path: String, body: &Value| Outgoing::json(at(path), body).header("Authorization", key.as_str());
    let source = json!(message.text("source"));
    if !message.data.is_firing() {
        let body = object([("source", source)]);
        return Ok(vec![send(
            format!("v2/alerts/{alias}/close?identifierType=alias"),
            &body,
        )]);
    }
    let list = |text: &str| -> Value {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| json!(item))
            .collect()
    };
    let mut details: Map<String, Value> = message
        .data
        .common_labels
        .iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    if let Value::Object(own) = message.tree("details") {
        details.extend(own.into_iter().map(|(name, value)| (name, json!(plain(&value)))));
    }
    let body = object([
        ("alias", json!(alias)),
        ("message", json!(message.cut("message", 130))),
        ("description", json!(message.cut("description", 15_000))),
        ("details", Value::Object(details)),
        ("source", source),
        ("responders", responders(&message.tree("responders"))),
        ("tags", list(message.text("tags"))),
        ("note", json!(message.text("note"))),
        ("priority", json!(message.text("priority"))),
        ("entity", json!(message.text("entity"))),
        ("actions", list(message.text("actions"))),
    ]);
    let mut requests = vec![send("v2/alerts".to_owned(), &body)];
    if message.flag("update_alerts") {
        for (name, limit) in [("message", 130), ("description", 15_000)] {
            let body = object([(name, json!(message.cut(name, limit)))]);
            let mut update = send(format!("v2/alerts/{alias}/{name}?identifierType=alias"), &body);
            update.method = "PUT";
            requests.push(update);
        }
    }
    Ok(requests)
}

/// `teams` is a list of names in one text; the API wants one entry a team.
fn responders(tree: &Value) -> Value {
    let mut out = Vec::new();
    for responder in tree.as_array().into_iter().flatten() {
        if responder["type"] == "teams" {
            let names = responder["name"].as_str().unwrap_or_default();
            let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
            out.extend(names.map(|name| json!({"name": name, "type": "team"})));
        } else {
            out.push(responder.clone());
        }
    }
    Value::Array(out)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

shape! {
    /// `victorops_configs`
    VictorOps = VICTOROPS("victorops", resolved: true, check_victorops, build_victorops, accept_all), [
        secret("api_key", Some("victorops_api_key")),
        inherited("api_url", "victorops_api_url", Some("https://alert.victorops.com/integrations/generic/20131114/alert/")),
        template("routing_key", ""),
        template("message_type", "CRITICAL"),
        template("entity_display_name", r#"{{ template "victorops.default.entity_display_name" . }}"#),
        template("state_message", r#"{{ template "victorops.default.state_message" . }}"#),
        template("monitoring_tool", r#"{{ template "victorops.default.monitoring_tool" . }}"#),
        of("custom_fields", Kind::Tree, None),
    ]
}

const VICTOROPS_RESERVED: [&str; 7] = [
    "routing_key",
    "message_type",
    "state_message",
    "entity_display_name",
    "monitoring_tool",
    "entity_id",
    "entity_state",
];

fn check_victorops(config: &PresetConfig) -> Result<(), String> {
    needs(config, &["api_key", "routing_key"])?;
    if let Some(FieldValue::Tree(Value::Object(fields))) = config.values.get("custom_fields")
        && let Some(name) = fields.keys().find(|name| VICTOROPS_RESERVED.contains(&name.as_str()))
    {
        return Err(format!(
            "victorOps config contains custom field {name} which cannot be used as it conflicts with the fixed/static fields"
        ));
    }
    Ok(())
}

fn build_victorops(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    let kind = if message.data.is_firing() {
        message.text("message_type")
    } else {
        "RECOVERY"
    };
    let mut body = json!({
        "message_type": kind,
        "entity_id": message.group_hash(),
        "entity_display_name": message.text("entity_display_name"),
        "state_message": message.cut("state_message", 20_480),
        "monitoring_tool": message.text("monitoring_tool"),
    });
    if let Value::Object(fields) = message.tree("custom_fields") {
        for (name, value) in fields {
            body[name] = json!(plain(&value));
        }
    }
    let path = format!(
        "{}/{}",
        escape(message.text("api_key")),
        escape(message.text("routing_key"))
    );
    Ok(vec![Outgoing::json(join(message.text("api_url"), &path), &body)])
}

shape! {
    /// `telegram_configs`
    Telegram = TELEGRAM("telegram", resolved: true, check_telegram, build_telegram, accept_ok), [
        inherited("api_url", "telegram_api_url", Some("https://api.telegram.org")),
        secret("bot_token", Some("telegram_bot_token")),
        secret("chat_id", None),
        of("message_thread_id", Kind::Int, None),
        template("message", r#"{{ template "telegram.default.message" . }}"#),
        of("disable_notifications", Kind::Bool, None),
        template("parse_mode", "HTML"),
    ]
}

fn check_telegram(config: &PresetConfig) -> Result<(), String> {
    needs(config, &["bot_token", "chat_id"])?;
    match config.values.get("parse_mode") {
        Some(FieldValue::Template(mode)) if !["", "Markdown", "MarkdownV2", "HTML"].contains(&mode.as_str()) => {
            Err("unknown parse_mode on telegram_config, must be Markdown, MarkdownV2, HTML or empty string".to_owned())
        }
        _ => Ok(()),
    }
}

fn build_telegram(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    // A number when it is one; channels are known by name.
    let chat = message.text("chat_id").trim();
    let chat = chat.parse::<i64>().map_or_else(|_| json!(chat), |number| json!(number));
    let mut body = object([
        ("chat_id", chat),
        ("text", json!(message.text("message").trim())),
        ("parse_mode", json!(message.text("parse_mode"))),
        (
            "message_thread_id",
            message.int("message_thread_id").map_or(Value::Null, |id| json!(id)),
        ),
    ]);
    if message.text("message").chars().count() > 4096 {
        // Cutting HTML in the middle of a tag would make Telegram refuse it.
        body["text"] = match message.text("parse_mode") {
            "" => json!(message.cut("message", 4096)),
            _ => json!(format!(
                "{} alerts: too long a text for Telegram",
                message.data.alerts.len()
            )),
        };
    }
    body["disable_notification"] = json!(message.flag("disable_notifications"));
    body["disable_web_page_preview"] = json!(true);
    let url = join(
        message.text("api_url"),
        &format!("bot{}/sendMessage", message.text("bot_token")),
    );
    Ok(vec![Outgoing::json(url, &body)])
}

shape! {
    /// `discord_configs`
    Discord = DISCORD("discord", resolved: true, |config| needs(config, &["webhook_url"]), build_discord, accept_all), [
        secret("webhook_url", None),
        template("content", r#"{{ template "discord.default.content" . }}"#),
        template("title", r#"{{ template "discord.default.title" . }}"#),
        template("message", r#"{{ template "discord.default.message" . }}"#),
        template("username", ""),
        template("avatar_url", ""),
    ]
}

fn build_discord(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    let color = if message.data.is_firing() { 0x99_2d22 } else { 0x2e_cc71 };
    let body = object([
        ("content", json!(message.cut("content", 2000))),
        ("username", json!(message.text("username"))),
        ("avatar_url", json!(message.text("avatar_url"))),
        (
            "embeds",
            json!([{
                "title": message.cut("title", 256),
                "description": message.cut("message", 4096),
                "color": color,
            }]),
        ),
    ]);
    Ok(vec![Outgoing::json(message.text("webhook_url"), &body)])
}

shape! {
    /// `msteams_configs`
    MsTeams = MSTEAMS("msteams", resolved: true, |config| needs(config, &["webhook_url"]), build_msteams, accept_all), [
        secret("webhook_url", None),
        template("title", r#"{{ template "msteams.default.title" . }}"#),
        template("summary", r#"{{ template "msteams.default.summary" . }}"#),
        template("text", r#"{{ template "msteams.default.text" . }}"#),
    ]
}

fn build_msteams(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    let color = if message.data.is_firing() { "8C1A1A" } else { "2DC72D" };
    let body = json!({
        "@context": "http://schema.org/extensions",
        "@type": "MessageCard",
        "title": message.text("title"),
        "summary": message.text("summary"),
        "text": message.text("text"),
        "themeColor": color,
    });
    Ok(vec![Outgoing::json(message.text("webhook_url"), &body)])
}

shape! {
    /// `msteamsv2_configs`
    MsTeamsV2 = MSTEAMSV2("msteamsv2", resolved: true, |config| needs(config, &["webhook_url"]), build_msteamsv2, accept_all), [
        secret("webhook_url", None),
        template("title", r#"{{ template "msteamsv2.default.title" . }}"#),
        template("text", r#"{{ template "msteamsv2.default.text" . }}"#),
    ]
}

fn build_msteamsv2(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    let color = if message.data.is_firing() { "Attention" } else { "Good" };
    let body = json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [
                    {"type": "TextBlock", "text": message.text("title"), "weight": "Bolder", "size": "Medium",
                     "wrap": true, "style": "heading", "color": color},
                    {"type": "TextBlock", "text": message.text("text"), "wrap": true},
                ],
                "msteams": {"width": "full"},
            },
        }],
    });
    Ok(vec![Outgoing::json(message.text("webhook_url"), &body)])
}

shape! {
    /// `mattermost_configs`
    Mattermost = MATTERMOST("mattermost", resolved: true, |config| needs(config, &["webhook_url"]), build_mattermost, accept_all), [
        secret("webhook_url", Some("mattermost_webhook_url")),
        template("channel", ""),
        template("username", r#"{{ template "mattermost.default.username" . }}"#),
        template("icon_url", ""),
        template("icon_emoji", ""),
        template("fallback", r#"{{ template "mattermost.default.fallback" . }}"#),
        template("color", r#"{{ template "mattermost.default.color" . }}"#),
        template("title", r#"{{ template "mattermost.default.title" . }}"#),
        template("title_link", r#"{{ template "mattermost.default.titlelink" . }}"#),
        template("text", r#"{{ template "mattermost.default.text" . }}"#),
        template("pretext", ""),
        template("author_name", ""),
        template("author_link", ""),
        template("author_icon", ""),
        of("fields", Kind::Tree, None),
        template("thumb_url", ""),
        template("footer", ""),
        template("footer_icon", ""),
        template("image_url", ""),
        of("attachments", Kind::Tree, None),
        of("props", Kind::Tree, None),
        of("priority", Kind::Tree, None),
    ]
}

fn build_mattermost(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    let attachments = match message.tree("attachments") {
        Value::Array(own) if !own.is_empty() => Value::Array(own),
        _ => {
            let names = [
                "fallback",
                "color",
                "title",
                "title_link",
                "text",
                "pretext",
                "author_name",
                "author_link",
                "author_icon",
                "thumb_url",
                "footer",
                "footer_icon",
                "image_url",
            ];
            let mut entries: Vec<(&'static str, Value)> = names
                .into_iter()
                .map(|name| (name, json!(message.text(name))))
                .collect();
            entries.push(("fields", message.tree("fields")));
            json!([object(entries)])
        }
    };
    let body = object([
        ("channel", json!(message.text("channel"))),
        ("username", json!(message.text("username"))),
        ("icon_url", json!(message.text("icon_url"))),
        ("icon_emoji", json!(message.text("icon_emoji"))),
        ("attachments", attachments),
        ("props", message.tree("props")),
        ("priority", message.tree("priority")),
    ]);
    Ok(vec![Outgoing::json(message.text("webhook_url"), &body)])
}

shape! {
    /// `pushover_configs`
    Pushover = PUSHOVER("pushover", resolved: true, check_pushover, build_pushover, accept_all), [
        secret("user_key", None),
        secret("token", None),
        template("title", r#"{{ template "pushover.default.title" . }}"#),
        template("message", r#"{{ template "pushover.default.message" . }}"#),
        template("url", r#"{{ template "pushover.default.url" . }}"#),
        template("url_title", ""),
        template("device", ""),
        template("sound", ""),
        template("priority", r#"{{ if eq .Status "firing" }}2{{ else }}0{{ end }}"#),
        of("retry", Kind::Interval, Some("1m")),
        of("expire", Kind::Interval, Some("1h")),
        of("ttl", Kind::Interval, None),
        of("html", Kind::Bool, None),
        of("monospace", Kind::Bool, None),
    ]
}

fn check_pushover(config: &PresetConfig) -> Result<(), String> {
    needs(config, &["user_key", "token"])?;
    let set = |name: &str| matches!(config.values.get(name), Some(FieldValue::Bool(true)));
    if set("html") && set("monospace") {
        return Err("at most one of monospace & html must be configured".to_owned());
    }
    Ok(())
}

fn build_pushover(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    let text = match message.cut("message", 1024) {
        text if text.trim().is_empty() => "(no details)".to_owned(),
        text => text,
    };
    form.append_pair("token", message.text("token"))
        .append_pair("user", message.text("user_key"))
        .append_pair("title", &message.cut("title", 250))
        .append_pair("message", &text)
        .append_pair("url", &message.cut("url", 512))
        .append_pair("priority", message.text("priority"))
        .append_pair("timestamp", &(message.data.now.0 / 1000).to_string());
    for name in ["retry", "expire", "ttl"] {
        if let Some(seconds) = message.seconds(name) {
            form.append_pair(name, &seconds.to_string());
        }
    }
    for name in ["html", "monospace"] {
        if message.flag(name) {
            form.append_pair(name, "1");
        }
    }
    for name in ["device", "sound", "url_title"] {
        if !message.text(name).is_empty() {
            form.append_pair(name, message.text(name));
        }
    }
    Ok(vec![Outgoing {
        method: "POST",
        url: "https://api.pushover.net/1/messages.json".to_owned(),
        headers: vec![(
            "Content-Type".to_owned(),
            "application/x-www-form-urlencoded".to_owned(),
        )],
        body: Bytes::from(form.finish()),
    }])
}

shape! {
    /// `webex_configs`
    Webex = WEBEX("webex", resolved: true, check_webex, build_webex, accept_all), [
        inherited("api_url", "webex_api_url", Some("https://webexapis.com/v1/messages")),
        template("room_id", ""),
        template("message", r#"{{ template "webex.default.message" . }}"#),
    ]
}

fn check_webex(config: &PresetConfig) -> Result<(), String> {
    needs(config, &["room_id"])?;
    if config.http.auth.is_none() {
        return Err("missing webex_configs.http_config.authorization".to_owned());
    }
    Ok(())
}

fn build_webex(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    let body = json!({"markdown": message.cut("message", 7439), "roomId": message.text("room_id")});
    Ok(vec![Outgoing::json(message.text("api_url"), &body)])
}

shape! {
    /// `rocketchat_configs`
    RocketChat = ROCKETCHAT("rocketchat", resolved: true, |config| needs(config, &["token", "token_id"]), build_rocketchat, accept_rocketchat), [
        inherited("api_url", "rocketchat_api_url", Some("https://open.rocket.chat/")),
        secret("token", Some("rocketchat_token")),
        secret("token_id", Some("rocketchat_token_id")),
        template("channel", ""),
        template("color", r#"{{ if eq .Status "firing" }}red{{ else }}green{{ end }}"#),
        template("emoji", r#"{{ template "rocketchat.default.emoji" . }}"#),
        template("icon_url", r#"{{ template "rocketchat.default.iconurl" . }}"#),
        template("text", r#"{{ template "rocketchat.default.text" . }}"#),
        template("title", r#"{{ template "rocketchat.default.title" . }}"#),
        template("title_link", r#"{{ template "rocketchat.default.titlelink" . }}"#),
        of("fields", Kind::Tree, None),
        of("short_fields", Kind::Bool, None),
        template("image_url", ""),
        template("thumb_url", ""),
        of("link_names", Kind::Bool, None),
        of("actions", Kind::Tree, None),
    ]
}

fn accept_rocketchat(answer: &HttpResponse) -> Result<(), Failure> {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match json.get("success").and_then(Value::as_bool) {
        Some(false) => Err(Failure::Permanent(describe(answer))),
        _ => Ok(()),
    }
}

fn build_rocketchat(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    let attachment = object([
        ("title", json!(message.cut("title", 1024))),
        ("title_link", json!(message.text("title_link"))),
        ("text", json!(message.text("text"))),
        ("color", json!(message.text("color"))),
        ("image_url", json!(message.text("image_url"))),
        ("thumb_url", json!(message.text("thumb_url"))),
        ("fields", short_fields(message)),
        ("actions", message.tree("actions")),
    ]);
    let body = object([
        ("channel", json!(message.text("channel"))),
        ("alias", json!("Alertmanager")),
        ("emoji", json!(message.text("emoji"))),
        ("avatar", json!(message.text("icon_url"))),
        (
            "parseUrls",
            if message.flag("link_names") {
                json!(true)
            } else {
                Value::Null
            },
        ),
        ("attachments", json!([attachment])),
    ]);
    let url = join(message.text("api_url"), "api/v1/chat.postMessage");
    let request = Outgoing::json(url, &body)
        .header("X-User-Id", message.text("token_id"))
        .header("X-Auth-Token", message.text("token"));
    Ok(vec![request])
}

shape! {
    /// `ntfy_configs`: ours, Alertmanager has none.
    Ntfy = NTFY("ntfy", resolved: true, |config| needs(config, &["topic"]), build_ntfy, accept_all), [
        template("api_url", "https://ntfy.sh/"),
        template("topic", ""),
        secret("token", None),
        template("title", r#"{{ template "ntfy.default.title" . }}"#),
        template("message", r#"{{ template "ntfy.default.message" . }}"#),
        template("priority", r#"{{ if eq .Status "firing" }}4{{ else }}3{{ end }}"#),
        template("tags", r#"{{ if eq .Status "firing" }}rotating_light{{ else }}white_check_mark{{ end }}"#),
        template("click", r#"{{ template "__alertmanagerURL" . }}"#),
    ]
}

fn build_ntfy(message: &Message<'_>) -> Result<Vec<Outgoing>, Failure> {
    let tags: Vec<&str> = message
        .text("tags")
        .split(',')
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
        .collect();
    let priority = message.text("priority").trim();
    let priority: i64 = priority
        .parse()
        .map_err(|_| Failure::Permanent(format!("priority: {priority:?} is not a number from 1 to 5")))?;
    let body = object([
        ("topic", json!(message.text("topic"))),
        ("title", json!(message.cut("title", 250))),
        ("message", json!(message.cut("message", 4000))),
        ("priority", json!(priority)),
        ("tags", json!(tags)),
        ("click", json!(message.text("click"))),
    ]);
    let request = Outgoing::json(message.text("api_url"), &body);
    Ok(vec![match message.text("token") {
        "" => request,
        token => request.header("Authorization", format!("Bearer {token}")),
    }])
}
