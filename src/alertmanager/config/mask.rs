//! The configuration as `/api/v2/status` shows it: the file's own text, with its secrets taken out.

use serde_yaml::Value;

/// What stands where a secret was.
const MASK: &str = "<secret>";

/// Keys whose value is a secret wherever they stand.
const SECRETS: &[&str] = &[
    "api_key",
    "app_token",
    "auth_password",
    "auth_secret",
    "bearer_token",
    "bot_token",
    "client_secret",
    "credentials",
    "key",
    "opsgenie_api_key",
    "password",
    "previous_secret",
    "rocketchat_token",
    "rocketchat_token_id",
    "routing_key",
    "secret",
    "secrets",
    "service_key",
    "slack_app_token",
    "smtp_auth_password",
    "smtp_auth_secret",
    "telegram_bot_token",
    "token",
    "token_id",
    "user_key",
    "victorops_api_key",
];

/// Keys whose value is a URL that may carry one: everything behind the host is taken out.
const SECRET_URLS: &[&str] = &[
    "api_url",
    "mattermost_webhook_url",
    "proxy_url",
    "slack_api_url",
    "url",
    "webhook_url",
];

/// Returns the YAML text with its secrets masked; what is no YAML gives an empty text.
pub(super) fn mask(text: &str) -> String {
    let Ok(mut value) = serde_yaml::from_str::<Value>(text) else {
        return String::new();
    };
    mask_value(&mut value);
    serde_yaml::to_string(&value).unwrap_or_default()
}

fn mask_value(value: &mut Value) {
    match value {
        Value::Mapping(entries) => {
            for (key, value) in entries.iter_mut() {
                let key = key.as_str().unwrap_or_default();
                if SECRETS.contains(&key) {
                    hide(value);
                } else if SECRET_URLS.contains(&key) {
                    hide_url(value);
                } else {
                    mask_value(value);
                }
            }
        }
        Value::Sequence(items) => items.iter_mut().for_each(mask_value),
        _ => {}
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Null => {}
        Value::Sequence(items) => items.iter_mut().for_each(hide),
        Value::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| hide(value)),
        other => *other = Value::String(MASK.to_owned()),
    }
}

/// Keeps scheme and host, so that a reader sees where it goes and a tool still reads it as a URL.
fn hide_url(value: &mut Value) {
    let Value::String(text) = value else { return };
    *text = match url::Url::parse(text) {
        Ok(url) if url.has_host() => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            let host = url.host_str().unwrap_or_default();
            format!("{}://{host}{port}/{MASK}", url.scheme())
        }
        _ => MASK.to_owned(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_left_in_the_text() {
        let text = "global: {smtp_auth_password: hunter2, slack_api_url: 'https://user:hunter2@hooks.example/hunter2'}\n\
            receivers:\n- name: a\n  webhook_configs:\n  - url: http://127.0.0.1:80/hunter2?key=hunter2\n    http_config:\n      \
            http_headers: {X-Key: {secrets: [hunter2]}}\n      authorization: {credentials: hunter2}\n  pagerduty_configs: [{routing_key: hunter2}]\n";
        let masked = mask(text);
        assert!(!masked.contains("hunter2"), "{masked}");
        assert!(
            masked.contains("http://127.0.0.1/<secret>") && masked.contains("name: a"),
            "{masked}"
        );
    }
}
