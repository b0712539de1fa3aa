//! Services where people talk: Slack, Telegram, Discord, Teams, Mattermost, Webex, Rocket.Chat, ntfy.

use super::*;

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
