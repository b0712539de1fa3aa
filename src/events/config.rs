//! The `events` section: which sites and ads there are, who may send what, what is kept how long, and which clicks count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Field, Micros};
use crate::model::Interval;

/// Settings of clicks and page views.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Sites whose pages may send without a token.
    pub sites: Vec<SiteConfig>,
    /// The currency of all prices and revenues, three capital letters; events in another are refused. Default USD.
    pub currency: Currency,
    /// What is known about ads: fills in what an event does not say, and where clicks are led.
    pub ads: BTreeMap<String, AdConfig>,
    /// What tokens may do beyond sending.
    pub keys: Vec<KeyConfig>,
    /// The groups of fields that minutes are counted by. Every count that is asked for must be the sum of one of them.
    pub cubes: Vec<Cube>,
    /// How long each kind of data is kept.
    pub retention: Retention,
    /// Which clicks do not count as net.
    pub filters: Filters,
    /// Who is taken for a program.
    pub bots: BotsConfig,
    /// What is kept about people.
    pub privacy: PrivacyConfig,
    /// Networks of proxies before this server: their `X-Forwarded-For` says whose request it is. Default none.
    pub proxies: Vec<String>,
    /// A database in MaxMind's format that knows countries by address. Without it only senders name countries.
    pub country_database: Option<PathBuf>,
    /// Where accepted events are repeated.
    pub mirror: Option<MirrorConfig>,
    /// A file with the secret that signs the targets of `/c/{ad}`; without it only targets of `ads` are led to.
    pub click_secret_file: Option<PathBuf>,
    /// The time zone of daily and monthly reports. Default UTC.
    pub time_zone: String,
    /// How long a duplicate is known as one. Default 7d.
    pub dedup: Interval,
    /// How far behind the newest event a minute stays open. Default 60s.
    pub lateness: Interval,
    /// A shard without events closes minutes by the wall clock after this. Default 2m.
    pub idle: Interval,
    /// How often the state is written beside the log. Default 30s.
    pub checkpoint: Interval,
    /// When the day before is reconciled, in `time_zone`. Default 02:00.
    pub reconcile_at: String,
    /// Limits.
    pub limits: EventLimits,
}

impl Default for EventsConfig {
    fn default() -> EventsConfig {
        EventsConfig {
            sites: Vec::new(),
            currency: Currency::default(),
            ads: BTreeMap::new(),
            keys: Vec::new(),
            cubes: default_cubes(),
            retention: Retention::default(),
            filters: Filters::default(),
            bots: BotsConfig::default(),
            privacy: PrivacyConfig::default(),
            proxies: Vec::new(),
            country_database: None,
            mirror: None,
            click_secret_file: None,
            time_zone: "UTC".to_owned(),
            dedup: Interval::days(7),
            lateness: Interval::secs(60),
            idle: Interval::mins(2),
            checkpoint: Interval::secs(30),
            reconcile_at: "02:00".to_owned(),
            limits: EventLimits::default(),
        }
    }
}

/// A site whose pages may send page views and clicks without a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteConfig {
    /// What its events say as `site`.
    pub name: String,
    /// The origins its pages come from: `https://shop.example`.
    pub origins: Vec<String>,
    /// What a browser's wish not to be followed (GPC, DNT) does. Default count.
    #[serde(default)]
    pub do_not_track: DoNotTrack,
}

/// What a browser's wish not to be followed does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DoNotTrack {
    /// The event is not taken at all; it is answered as refused.
    Drop,
    /// The event counts, without visitor, user and address.
    #[default]
    Count,
    /// The wish changes nothing.
    Ignore,
}

/// Three capital letters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Currency(pub String);

impl Default for Currency {
    fn default() -> Currency {
        Currency("USD".to_owned())
    }
}

impl TryFrom<String> for Currency {
    type Error = String;

    fn try_from(text: String) -> Result<Currency, String> {
        match text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
            true => Ok(Currency(text)),
            false => Err(format!("a currency has three capital letters like USD, not {text:?}")),
        }
    }
}

/// What is known about an ad.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdConfig {
    /// Its campaign.
    pub campaign_id: String,
    /// Who pays.
    pub advertiser_id: String,
    /// What a click costs; an event from a token that says a price is believed.
    #[serde(deserialize_with = "price")]
    pub price: Option<Micros>,
    /// Where `/c/{ad}` leads when the link names no signed target.
    pub to: Option<String>,
}

fn price<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Micros>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(serde_yaml::Number),
        Text(String),
    }
    let text = match Written::deserialize(deserializer)? {
        Written::Number(number) => number.to_string(),
        Written::Text(text) => text,
    };
    let price = text.parse();
    price
        .map(Some)
        .map_err(|error| serde::de::Error::custom(format!("price {text:?} {error}")))
}

/// What one token of `auth` may do beyond sending events.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// The token's name.
    pub token: String,
    /// It speaks for other edges: its `received_at` is believed. Default false.
    #[serde(default)]
    pub edge: bool,
    /// What it opts in to keep as it is, beside its hash: `ip`, `user_id`. Default nothing.
    #[serde(default)]
    pub keep: BTreeSet<Kept>,
}

/// What a key may opt in to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Whole addresses.
    Ip,
    /// The user's own names.
    UserId,
}

/// A group of fields that minutes are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Cube(pub Vec<Field>);

/// Fields that a cube may not have: their values are people, or nearly as many as events.
const NOT_IN_CUBES: [Field; 11] = [
    Field::EventId,
    Field::AuctionId,
    Field::Url,
    Field::Referrer,
    Field::Title,
    Field::Props,
    Field::UserAgent,
    Field::IpPrefix,
    Field::Ip,
    Field::UserId,
    Field::UtmTerm,
];
/// The most fields of a cube.
const CUBE_FIELDS_MAX: usize = 4;

impl TryFrom<Vec<String>> for Cube {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Cube, String> {
        let mut fields = Vec::new();
        for name in &names {
            let field = Field::from_name(name).ok_or_else(|| format!("cubes: no field is named {name:?}"))?;
            if NOT_IN_CUBES.contains(&field) {
                return Err(format!(
                    "cubes: {name} has nearly as many values as there are events or people; it cannot be counted by"
                ));
            }
            if fields.contains(&field) {
                return Err(format!("cubes: {name} is there twice"));
            }
            fields.push(field);
        }
        match fields.len() {
            0 => Err("cubes: a cube names at least one field".to_owned()),
            1..=CUBE_FIELDS_MAX => Ok(Cube(fields)),
            more => Err(format!("cubes: {more} fields, at most {CUBE_FIELDS_MAX} make a cube")),
        }
    }
}

fn default_cubes() -> Vec<Cube> {
    use Field::{AdId, AdvertiserId, CampaignId, Country, Device, Path, Site, Source};
    let cubes: [&[Field]; 7] = [
        &[AdId],
        &[AdId, Country],
        &[CampaignId, Country],
        &[AdvertiserId],
        &[Site, Country, Device],
        &[Site, Path],
        &[Site, Source],
    ];
    cubes.into_iter().map(|fields| Cube(fields.to_vec())).collect()
}

/// How long each kind of data is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Raw events. Older ones are refused when they arrive. Default 30d.
    pub raw: Interval,
    /// Counts by minute. Default 30d.
    pub minute: Interval,
    /// Counts by hour. Default 400d.
    pub hour: Interval,
    /// Counts by day and month. Default 10y.
    pub day: Interval,
    /// Refused events. Default 7d.
    pub quarantine: Interval,
    /// Results that a recalculation has replaced. Default 30d.
    pub replaced: Interval,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            raw: Interval::days(30),
            minute: Interval::days(30),
            hour: Interval::days(400),
            day: Interval::days(3650),
            quarantine: Interval::days(7),
            replaced: Interval::days(30),
        }
    }
}

/// Which clicks do not count as net. Absent ones let everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filters {
    /// A person's second click on the same ad within this time is marked `repeat`.
    pub repeat_within: Option<Interval>,
    /// An address's clicks beyond this many are marked `address_rate`.
    pub address_rate: Option<Rate>,
    /// A person's clicks on the same ad beyond this many on one day (UTC) are marked `frequency_cap`.
    pub clicks_per_day: Option<u32>,
}

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many clicks pass.
    pub clicks: u32,
    /// In how long.
    pub within: Interval,
}

/// Who is taken for a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BotsConfig {
    /// More patterns (regular expressions) of user agents, beside the shipped list.
    pub agents: Vec<String>,
    /// A file of networks, one `10.0.0.0/8` a line, `#` begins a comment: data centres, no people.
    pub networks_file: Option<PathBuf>,
}

/// What is kept about people.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrivacyConfig {
    /// What is kept of user agents. Default reduced.
    pub user_agent: AgentPolicy,
    /// Parameters of a page's address that are kept; UTM ones become fields of their own. Default none.
    pub query_parameters: BTreeSet<String>,
    /// Whether the network of an address (/24, /48) is kept. Default true.
    pub ip_prefix: bool,
    /// Rows of exported reports with fewer people than this are joined. Default 0: none.
    pub group_min: u32,
}

impl Default for PrivacyConfig {
    fn default() -> PrivacyConfig {
        PrivacyConfig {
            user_agent: AgentPolicy::Reduced,
            query_parameters: BTreeSet::new(),
            ip_prefix: true,
            group_min: 0,
        }
    }
}

/// What is kept of user agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentPolicy {
    /// All: a recalculation sees exactly what the door saw.
    Full,
    /// Versions are cut to their first number, so that agents tell few people apart; the crawler list still works.
    Reduced,
    /// Nothing: a recalculation keeps the marks that the door made.
    None,
}

/// Where accepted events are repeated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// Gets batches of events by POST.
    pub url: String,
    /// The secret that signs them.
    pub secret_file: Option<PathBuf>,
    /// Events in one request. Default 500.
    #[serde(default = "mirror_batch")]
    pub batch: usize,
    /// How long one request may take. Default 10s.
    #[serde(default = "mirror_timeout")]
    pub timeout: Interval,
}

fn mirror_batch() -> usize {
    500
}

fn mirror_timeout() -> Interval {
    Interval::secs(10)
}

/// Limits of events; going over one is refused by its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventLimits {
    /// Events in one request. Default 10000.
    pub events_per_request: usize,
    /// Bytes of one event as sent. Default 65536.
    pub event_bytes: usize,
    /// Bytes of an identifier (`ad_id`, `user_id`, …). Default 128.
    pub id_bytes: usize,
    /// Bytes of `event_id`. Default 64.
    pub event_id_bytes: usize,
    /// Bytes of any other text. Default 8192.
    pub text_bytes: usize,
    /// Properties of a custom event. Default 30.
    pub props: usize,
    /// How far ahead of the server an event may be, after correction. Default 60s.
    pub future: Interval,
    /// A sender's clock is believed up to this difference; beyond it `ts` is corrected by `sent_at`. Default 30s.
    pub clock_skew: Interval,
    /// Bytes of quarantine kept; beyond it the oldest hour goes first. Default 268435456.
    pub quarantine_bytes: u64,
    /// Bytes of raw files that one question may read. Default 4294967296.
    pub scan_bytes: u64,
    /// Open tails. Default 20.
    pub tails: usize,
    /// Events a second from one site's pages, averaged over ten seconds; 429 beyond. Default 5000.
    pub site_events_per_second: u32,
}

impl Default for EventLimits {
    fn default() -> EventLimits {
        EventLimits {
            events_per_request: 10_000,
            event_bytes: 64 << 10,
            id_bytes: 128,
            event_id_bytes: 64,
            text_bytes: 8192,
            props: 30,
            future: Interval::secs(60),
            clock_skew: Interval::secs(30),
            quarantine_bytes: 256 << 20,
            scan_bytes: 4 << 30,
            tails: 20,
            site_events_per_second: 5000,
        }
    }
}

impl EventsConfig {
    /// Paths in a file are relative to the file.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let absolute = |path: &mut PathBuf| *path = folder.join(&path);
        self.country_database.iter_mut().for_each(absolute);
        self.click_secret_file.iter_mut().for_each(absolute);
        self.bots.networks_file.iter_mut().for_each(absolute);
        let mirror = self.mirror.iter_mut();
        mirror
            .filter_map(|mirror| mirror.secret_file.as_mut())
            .for_each(absolute);
    }

    /// Checks what one key alone cannot tell.
    ///
    /// # Errors
    /// The key and what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        let mut origins = BTreeSet::new();
        for site in &self.sites {
            if site.name.is_empty() || site.name.len() > self.limits.id_bytes || !names.insert(&site.name) {
                return Err(format!("sites: {:?} is no name or is there twice", site.name));
            }
            for origin in &site.origins {
                if !is_origin(origin) {
                    return Err(format!(
                        "sites: {origin:?} is no origin; write https://shop.example, without a path"
                    ));
                }
                if !origins.insert(origin) {
                    return Err(format!("sites: {origin} belongs to two sites"));
                }
            }
        }
        for (ad, known) in &self.ads {
            if let Some(to) = &known.to
                && !is_web(to)
            {
                return Err(format!(
                    "ads: {ad}: to: {to:?} is no address beginning with http:// or https://"
                ));
            }
        }
        for pattern in &self.bots.agents {
            regex::Regex::new(pattern).map_err(|error| format!("bots: agents: {error}"))?;
        }
        let distinct: std::collections::HashSet<&Cube> = self.cubes.iter().collect();
        if self.cubes.is_empty() || distinct.len() != self.cubes.len() || self.cubes.len() > 32 {
            return Err("cubes: 1 to 32 different cubes are counted by".to_owned());
        }
        let retention = &self.retention;
        for (name, length) in [
            ("retention.raw", retention.raw),
            ("retention.minute", retention.minute),
            ("retention.hour", retention.hour),
            ("retention.day", retention.day),
            ("retention.quarantine", retention.quarantine),
            ("dedup", self.dedup),
            ("checkpoint", self.checkpoint),
            ("idle", self.idle),
        ] {
            if length <= Interval::ZERO {
                return Err(format!("{name}: must be more than 0s"));
            }
        }
        if let Some(mirror) = &self.mirror
            && (!is_web(&mirror.url) || mirror.batch == 0)
        {
            return Err("mirror: url begins with http:// or https://, and batch is at least 1".to_owned());
        }
        self.zone()?;
        self.reconcile_time()?;
        Ok(())
    }

    /// Returns what a running server does not follow, as a text to compare.
    pub fn fixed(&self) -> String {
        let files = (&self.cubes, &self.retention, &self.mirror, self.limits.scan_bytes);
        let times = (self.dedup, self.lateness, self.idle, self.checkpoint);
        format!("{files:?} {times:?} {} {}", self.time_zone, self.reconcile_at)
    }

    /// Returns the time zone of reports.
    ///
    /// # Errors
    /// When there is no such zone.
    pub fn zone(&self) -> Result<jiff::tz::TimeZone, String> {
        jiff::tz::TimeZone::get(&self.time_zone).map_err(|error| format!("time_zone: {error}"))
    }

    /// Returns the time of day of reconciliation.
    ///
    /// # Errors
    /// When it is none.
    pub fn reconcile_time(&self) -> Result<jiff::civil::Time, String> {
        let text = &self.reconcile_at;
        let time = text.parse();
        time.map_err(|_| format!("reconcile_at: a time of day is written like 02:00, not {text:?}"))
    }

    /// Returns the site whose pages have this origin.
    pub fn site_of_origin(&self, origin: &str) -> Option<&SiteConfig> {
        self.sites
            .iter()
            .find(|site| site.origins.iter().any(|known| known.eq_ignore_ascii_case(origin)))
    }

    /// Returns what the token of that name may do beyond sending.
    pub fn key(&self, token: &str) -> Option<&KeyConfig> {
        self.keys.iter().find(|key| key.token == token)
    }
}

fn is_web(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn is_origin(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| is_web(text) && url.origin().ascii_serialization() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<EventsConfig, String> {
        let config: EventsConfig = serde_yaml::from_str(yaml).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn everything_has_a_default_and_the_default_is_good() {
        let config = read("{}").unwrap();
        assert_eq!(config, EventsConfig::default());
        assert_eq!(config.cubes.len(), 7);
    }

    #[test]
    fn a_whole_section_is_read() {
        let config = read(
            "sites: [{name: shop, origins: ['https://shop.example'], do_not_track: drop}]\n\
             currency: EUR\n\
             ads: {ad-1: {campaign_id: c1, price: 0.25, to: 'https://shop.example/x'}}\n\
             keys: [{token: backend, keep: [ip, user_id], edge: true}]\n\
             cubes: [[ad_id], [campaign_id, country]]\n\
             retention: {raw: 7d, minute: 14d, hour: 1y}\n\
             filters: {repeat_within: 10s, address_rate: {clicks: 100, within: 1m}, clicks_per_day: 50}\n\
             bots: {agents: ['^curl/']}\n\
             privacy: {user_agent: none, query_parameters: [page]}\n\
             mirror: {url: 'https://sink.example/in'}\n\
             time_zone: America/New_York\n\
             limits: {events_per_request: 500}",
        )
        .unwrap();
        assert_eq!(config.ads["ad-1"].price, Some(Micros(250_000)));
        assert_eq!(config.site_of_origin("https://shop.example").unwrap().name, "shop");
        assert_eq!(config.retention.raw, Interval::days(7));
        assert!(config.key("backend").unwrap().keep.contains(&Kept::Ip) && config.key("other").is_none());
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, text) in [
            ("sites: [{name: a, origins: ['https://a.example/x']}]", "no origin"),
            ("sites: [{name: a, origins: [a.example]}]", "no origin"),
            ("sites: [{name: a, origins: []}, {name: a, origins: []}]", "there twice"),
            ("currency: euro", "three capital letters"),
            ("ads: {a: {price: -1}}", "is negative"),
            ("ads: {a: {to: 'javascript:alert(1)'}}", "http:// or https://"),
            ("cubes: [[user_id]]", "cannot be counted by"),
            ("cubes: [[ad]]", "no field is named \"ad\""),
            ("cubes: [[ad_id], [ad_id]]", "different cubes"),
            ("retention: {raw: 0}", "more than 0s"),
            ("time_zone: Mars/Olympus", "time_zone"),
            ("reconcile_at: noon", "02:00"),
            ("bots: {agents: ['(']}", "bots: agents"),
            ("filter: {}", "filter"),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(text), "{yaml}: {error}");
        }
    }
}
