//! Services that wake people: PagerDuty, Opsgenie, VictorOps, Pushover.

use super::*;

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
