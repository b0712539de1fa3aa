//! Receivers: e-mail, web hooks, and the presets that are web hooks with a shape of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::flood::{Limit, Rate};
use super::super::notify::presets::{self, Preset};
use super::Global;
use super::Secret;
use super::preset::{FieldValue, RawPreset};
use super::scalar::{SecretSource, Text};
use super::{HttpConfig, TlsConfig};
use crate::model::Interval;

/// One receiver: a name, and the ways it is told.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    /// Its unique name.
    pub(crate) name: String,
    /// Labels to find it by.
    pub(crate) labels: BTreeMap<String, String>,
    /// The ways it is told, in a fixed order.
    pub(crate) integrations: Vec<Integration>,
    /// Who is told when this one cannot be.
    pub(crate) fallback: Option<String>,
    /// Whether the receiver names its fallback itself.
    pub(crate) has_own_fallback: bool,
    /// How many messages it takes.
    pub(crate) limit: Option<Limit>,
    /// Whether the end of an alert is told that is silenced by then.
    pub(crate) send_silenced_resolved: bool,
    /// How long a message is tried.
    pub(crate) give_up_after: Interval,
}

/// How long a message is tried before it is given up, when the file does not say.
const GIVE_UP_AFTER: Interval = Interval::hours(24);
/// How many messages may come at once, when the file says only how many in a time.
const BURST: u32 = 10;

impl Receiver {
    /// A receiver that is told nothing.
    pub(crate) fn silent(name: &str) -> Receiver {
        Receiver {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            integrations: Vec::new(),
            fallback: None,
            has_own_fallback: false,
            limit: None,
            send_silenced_resolved: false,
            give_up_after: GIVE_UP_AFTER,
        }
    }
}

/// One way of telling a receiver.
#[derive(Clone, Debug)]
pub(crate) struct Integration {
    /// `email`, `webhook`, `slack`, …
    pub(crate) kind: &'static str,
    /// The number among those of its kind.
    pub(crate) index: usize,
    /// Whether resolved alerts are told.
    pub(crate) send_resolved: bool,
    /// The longest time for one try.
    pub(crate) timeout: Interval,
    /// How, in detail.
    pub(crate) channel: Channel,
}

/// How a receiver is told, in detail.
#[derive(Clone, Debug)]
pub(crate) enum Channel {
    /// By e-mail.
    Email(Box<EmailConfig>),
    /// By Alertmanager's own web hook.
    Webhook(Box<WebhookConfig>),
    /// By a web hook of somebody else's shape.
    Preset(Box<PresetConfig>),
}

/// The settings of a preset, complete.
#[derive(Clone, Debug)]
pub(crate) struct PresetConfig {
    /// The row of the table.
    pub(crate) preset: &'static Preset,
    /// Its keys.
    pub(crate) values: BTreeMap<&'static str, FieldValue>,
    /// How to reach it.
    pub(crate) http: HttpConfig,
}

/// `email_config`, complete.
#[derive(Clone, Debug)]
pub(crate) struct EmailConfig {
    /// Template of the recipients.
    pub(crate) to: String,
    /// Template of the sender.
    pub(crate) from: String,
    /// Host of the smarthost.
    pub(crate) host: String,
    /// Port of the smarthost.
    pub(crate) port: u16,
    /// The name to say hello with.
    pub(crate) hello: String,
    /// User name; empty = no login.
    pub(crate) auth_username: String,
    /// Password of PLAIN and LOGIN.
    pub(crate) auth_password: Option<SecretSource>,
    /// Secret of CRAM-MD5.
    pub(crate) auth_secret: Option<SecretSource>,
    /// Identity of PLAIN.
    pub(crate) auth_identity: String,
    /// Headers: name as first written, template.
    pub(crate) headers: BTreeMap<String, String>,
    /// Template of the html body; empty = none.
    pub(crate) html: String,
    /// Template of the text body; empty = none.
    pub(crate) text: String,
    /// Refuse to send in clear.
    pub(crate) require_tls: bool,
    /// TLS from the first byte.
    pub(crate) implicit_tls: bool,
    /// TLS details.
    pub(crate) tls: TlsConfig,
    /// Whether mails of one group make a thread.
    pub(crate) threading: bool,
    /// Whether a thread ends with the day.
    pub(crate) thread_daily: bool,
}

/// `webhook_config`, complete.
#[derive(Clone, Debug)]
pub(crate) struct WebhookConfig {
    /// Where to.
    pub(crate) url: SecretSource,
    /// How to reach it.
    pub(crate) http: HttpConfig,
    /// The most alerts in one message; 0 = all.
    pub(crate) max_alerts: usize,
    /// A body of the user's own instead of version 4.
    pub(crate) payload: Option<serde_json::Value>,
    /// Keys of the signature header; the first is the present one.
    pub(crate) hmac: Vec<SecretSource>,
}

/// How long one try may take when the file does not say.
const TRY_TIMEOUT: Interval = Interval::secs(30);
/// How long each step of a mail dialogue may take.
const MAIL_TIMEOUT: Interval = Interval::secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEmail {
    #[serde(default)]
    send_resolved: bool,
    to: Text,
    from: Option<Text>,
    smarthost: Option<Text>,
    hello: Option<Text>,
    auth_username: Option<Text>,
    auth_password: Option<Secret>,
    auth_password_file: Option<PathBuf>,
    auth_secret: Option<Secret>,
    auth_secret_file: Option<PathBuf>,
    auth_identity: Option<Text>,
    headers: Option<BTreeMap<String, Text>>,
    html: Option<Text>,
    text: Option<Text>,
    require_tls: Option<bool>,
    force_implicit_tls: Option<bool>,
    tls_config: Option<TlsConfig>,
    threading: Option<RawThreading>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawThreading {
    #[serde(default)]
    enabled: bool,
    thread_by_date: Option<ThreadByDate>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ThreadByDate {
    Daily,
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhook {
    #[serde(default = "yes")]
    send_resolved: bool,
    url: Option<Secret>,
    url_file: Option<PathBuf>,
    http_config: Option<HttpConfig>,
    #[serde(default)]
    max_alerts: usize,
    timeout: Option<Interval>,
    payload: Option<serde_json::Value>,
    hmac: Option<RawHmac>,
}

/// Our one extension of the web hook: a signature over the body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHmac {
    secret: Option<Secret>,
    secret_file: Option<PathBuf>,
    previous_secret: Option<Secret>,
    previous_secret_file: Option<PathBuf>,
}

const fn yes() -> bool {
    true
}

/// A kind of receiver that Campanile does not deliver, whatever it holds.
type Refused = Option<Vec<serde_yaml::Value>>;

macro_rules! receivers {
    ($($key:ident: $shape:ident = $preset:ident),* $(,)?) => {
        /// One entry of `receivers`, as written.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct RawReceiver {
            pub(super) name: Text,
            labels: Option<BTreeMap<String, Text>>,
            fallback: Option<Text>,
            rate: Option<Rate>,
            burst: Option<u32>,
            #[serde(default)]
            send_silenced_resolved: bool,
            give_up_after: Option<Interval>,
            email_configs: Option<Vec<RawEmail>>,
            webhook_configs: Option<Vec<RawWebhook>>,
            $($key: Option<Vec<RawPreset<presets::$shape>>>,)*
            sns_configs: Refused,
            jira_configs: Refused,
            wechat_configs: Refused,
            incidentio_configs: Refused,
            oncall_configs: Refused,
        }

        impl RawReceiver {
            fn presets(&mut self, base: &Path, global: &Global, out: &mut Vec<Integration>) -> Result<(), String> {
                $(for (index, raw) in self.$key.take().unwrap_or_default().into_iter().enumerate() {
                    let send_resolved = raw.send_resolved;
                    let timeout = raw.timeout;
                    let (values, http) = raw.fill(base, &|name| global.field(name));
                    let built = preset(&presets::$preset, values, http, base, global);
                    let config = built.map_err(|reason| format!("{}[{index}]: {reason}", stringify!($key)))?;
                    out.push(Integration {
                        kind: presets::$preset.kind,
                        index,
                        send_resolved,
                        timeout: positive(timeout),
                        channel: Channel::Preset(Box::new(config)),
                    });
                })*
                Ok(())
            }
        }
    };
}

receivers! {
    slack_configs: Slack = SLACK,
    pagerduty_configs: PagerDuty = PAGERDUTY,
    opsgenie_configs: Opsgenie = OPSGENIE,
    victorops_configs: VictorOps = VICTOROPS,
    telegram_configs: Telegram = TELEGRAM,
    discord_configs: Discord = DISCORD,
    msteams_configs: MsTeams = MSTEAMS,
    msteamsv2_configs: MsTeamsV2 = MSTEAMSV2,
    mattermost_configs: Mattermost = MATTERMOST,
    pushover_configs: Pushover = PUSHOVER,
    webex_configs: Webex = WEBEX,
    rocketchat_configs: RocketChat = ROCKETCHAT,
    ntfy_configs: Ntfy = NTFY,
}

impl RawReceiver {
    /// Checks the receiver and completes it from `global`; file names become relative to `base`.
    ///
    /// # Errors
    /// A text that names the integration.
    pub(super) fn finish(mut self, base: &Path, global: &Global) -> Result<Receiver, String> {
        self.refuse()?;
        let mut integrations = Vec::new();
        for (index, raw) in self.email_configs.take().unwrap_or_default().into_iter().enumerate() {
            let send_resolved = raw.send_resolved;
            let config = email(raw, base, global).map_err(|reason| format!("email_configs[{index}]: {reason}"))?;
            integrations.push(Integration {
                kind: "email",
                index,
                send_resolved,
                timeout: MAIL_TIMEOUT,
                channel: Channel::Email(Box::new(config)),
            });
        }
        for (index, raw) in self.webhook_configs.take().unwrap_or_default().into_iter().enumerate() {
            let (send_resolved, timeout) = (raw.send_resolved, raw.timeout);
            let config = webhook(raw, base, global).map_err(|reason| format!("webhook_configs[{index}]: {reason}"))?;
            integrations.push(Integration {
                kind: "webhook",
                index,
                send_resolved,
                timeout: positive(timeout),
                channel: Channel::Webhook(Box::new(config)),
            });
        }
        self.presets(base, global, &mut integrations)?;
        if self.burst.is_some() && self.rate.is_none() {
            return Err("burst needs a rate".to_owned());
        }
        if self.burst == Some(0) {
            return Err("burst must be more than zero".to_owned());
        }
        if self.give_up_after.is_some_and(|after| after <= Interval::ZERO) {
            return Err("give_up_after must be more than 0s".to_owned());
        }
        let fallback = self.fallback.map(|name| name.0).filter(|name| !name.is_empty());
        let has_own_fallback = fallback.is_some();
        let fallback = fallback.or_else(|| global.fallback());
        Ok(Receiver {
            has_own_fallback,
            fallback: fallback.filter(|name| *name != self.name.0),
            limit: self.rate.map(|rate| Limit {
                rate,
                burst: self.burst.unwrap_or(BURST),
            }),
            send_silenced_resolved: self.send_silenced_resolved,
            give_up_after: self.give_up_after.unwrap_or(GIVE_UP_AFTER),
            name: self.name.0,
            labels: self
                .labels
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| (name, value.0))
                .collect(),
            integrations,
        })
    }

    fn refuse(&self) -> Result<(), String> {
        let asks = |list: &Refused| list.as_ref().is_some_and(|list| !list.is_empty());
        for (list, name) in [
            (&self.sns_configs, "sns_configs"),
            (&self.jira_configs, "jira_configs"),
            (&self.wechat_configs, "wechat_configs"),
            (&self.incidentio_configs, "incidentio_configs"),
        ] {
            if asks(list) {
                return Err(format!(
                    "{name} cannot be delivered by Campanile: send a webhook to a bridge, or keep an Alertmanager for this receiver"
                ));
            }
        }
        if asks(&self.oncall_configs) {
            return Err("oncall_configs are not delivered yet: on-call schedules come with a later version".to_owned());
        }
        Ok(())
    }
}

/// A time-out of zero means: ours.
fn positive(timeout: Option<Interval>) -> Interval {
    timeout.filter(|timeout| timeout.0 > 0).unwrap_or(TRY_TIMEOUT)
}

fn http(own: Option<HttpConfig>, base: &Path, global: &Global) -> Result<HttpConfig, String> {
    match own {
        None => Ok(global.http.clone()),
        Some(mut own) => {
            own.finish(base).map_err(|reason| format!("http_config: {reason}"))?;
            Ok(own)
        }
    }
}

fn preset(
    preset: &'static Preset,
    values: BTreeMap<&'static str, FieldValue>,
    own_http: Option<HttpConfig>,
    base: &Path,
    global: &Global,
) -> Result<PresetConfig, String> {
    let config = PresetConfig {
        preset,
        values,
        http: http(own_http, base, global)?,
    };
    (preset.check)(&config)?;
    Ok(config)
}

fn webhook(raw: RawWebhook, base: &Path, global: &Global) -> Result<WebhookConfig, String> {
    let mut url =
        SecretSource::pick("url", raw.url, raw.url_file)?.ok_or("one of url or url_file must be configured")?;
    if let SecretSource::Inline(secret) = &url {
        let parsed = url::Url::parse(secret.expose()).map_err(|error| format!("url: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err("url: expected http:// or https:// with a host".to_owned());
        }
    }
    url.resolve(base);
    let mut hmac = Vec::new();
    if let Some(raw) = raw.hmac {
        let present = SecretSource::pick("secret", raw.secret, raw.secret_file)?;
        hmac.push(present.ok_or("hmac needs secret or secret_file")?);
        hmac.extend(SecretSource::pick(
            "previous_secret",
            raw.previous_secret,
            raw.previous_secret_file,
        )?);
        hmac.iter_mut().for_each(|key| key.resolve(base));
    }
    Ok(WebhookConfig {
        url,
        http: http(raw.http_config, base, global)?,
        max_alerts: raw.max_alerts,
        payload: raw.payload,
        hmac,
    })
}

fn email(raw: RawEmail, base: &Path, global: &Global) -> Result<EmailConfig, String> {
    let text = |own: Option<Text>, inherited: &Option<Text>| own.or_else(|| inherited.clone()).map(|text| text.0);
    if raw.to.0.trim().is_empty() {
        return Err("missing to address".to_owned());
    }
    let smarthost = text(raw.smarthost, &global.raw.smtp_smarthost).ok_or("no global SMTP smarthost set")?;
    let (host, port) = split_host_port(&smarthost)?;
    let from = text(raw.from, &global.raw.smtp_from).ok_or("no global SMTP from set")?;
    let mut tls = raw
        .tls_config
        .or_else(|| global.raw.smtp_tls_config.clone())
        .unwrap_or_default();
    tls.finish(base)?;
    if tls.max_version.as_deref() == Some("TLS12") {
        return Err("tls_config.max_version: TLS12 cannot be kept for e-mail, TLS 1.3 is always offered".to_owned());
    }
    let own_password = SecretSource::pick("auth_password", raw.auth_password, raw.auth_password_file)?;
    let own_secret = SecretSource::pick("auth_secret", raw.auth_secret, raw.auth_secret_file)?;
    let resolved = |source: Option<SecretSource>| {
        source.map(|mut source| {
            source.resolve(base);
            source
        })
    };
    let forced = raw.force_implicit_tls.or(global.raw.smtp_force_implicit_tls);
    let (threading, thread_daily) = match raw.threading {
        None => (true, false),
        Some(threading) => (
            threading.enabled,
            threading.thread_by_date.unwrap_or(ThreadByDate::Daily) == ThreadByDate::Daily,
        ),
    };
    Ok(EmailConfig {
        to: raw.to.0,
        from,
        host,
        port,
        hello: text(raw.hello, &global.raw.smtp_hello).unwrap_or_else(|| "localhost".to_owned()),
        auth_username: text(raw.auth_username, &global.raw.smtp_auth_username).unwrap_or_default(),
        auth_password: resolved(own_password).or_else(|| global.smtp_password.clone()),
        auth_secret: resolved(own_secret).or_else(|| global.smtp_secret.clone()),
        auth_identity: text(raw.auth_identity, &global.raw.smtp_auth_identity).unwrap_or_default(),
        headers: headers(raw.headers.unwrap_or_default())?,
        html: raw
            .html
            .map_or_else(|| r#"{{ template "email.default.html" . }}"#.to_owned(), |text| text.0),
        text: raw.text.map(|text| text.0).unwrap_or_default(),
        require_tls: raw.require_tls.or(global.raw.smtp_require_tls).unwrap_or(true),
        implicit_tls: forced.unwrap_or(port == 465),
        tls,
        threading,
        thread_daily,
    })
}

/// Header names are told apart without regard to case.
fn headers(raw: BTreeMap<String, Text>) -> Result<BTreeMap<String, String>, String> {
    let mut seen = std::collections::BTreeSet::new();
    for name in raw.keys() {
        let well_formed = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if !well_formed {
            return Err(format!("{name:?} is not a header name"));
        }
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(format!("duplicate header {name:?} in email config"));
        }
    }
    Ok(raw.into_iter().map(|(name, text)| (name, text.0)).collect())
}

fn split_host_port(text: &str) -> Result<(String, u16), String> {
    let bad = || format!("address {text:?}: expected host:port");
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err(bad());
    }
    Ok((host.to_owned(), port.parse().map_err(|_| bad())?))
}
