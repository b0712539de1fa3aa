//! The door's pipeline: batches as sent → check → enrich → judge → hide people → events.
//!
//! Nothing behind this file sees an address, a user's name or a whole user agent, except what a key opted in to keep.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::bots::{Bots, ClickFilters, Networks};
use super::decode::Batch;
use super::draft::{Arrival, Draft, Person, Sender};
use super::enrich::{self, Agents, Countries};
use super::privacy::{KeyError, PeopleKeys, network};
use super::validate::Validator;
use super::{AgentPolicy, Checked, Event, EventsConfig, Field, Kept, Rejection};
use crate::io::disk::Disk;
use crate::io::files;
use crate::model::Interval;

/// Checks what comes in, by one configuration; a reload makes another.
pub struct Checker {
    config: Arc<EventsConfig>,
    keys: Arc<PeopleKeys>,
    agents: Agents,
    bots: Bots,
    countries: Option<Countries>,
    filters: Mutex<ClickFilters>,
    proxies: Networks,
}

impl Checker {
    /// Reads the files that the configuration names. Blocks.
    ///
    /// # Errors
    /// What is wrong, with the file's name.
    pub fn new(disk: &dyn Disk, config: Arc<EventsConfig>, keys: Arc<PeopleKeys>) -> Result<Checker, String> {
        let unreadable = |path: &Path, error| format!("events: cannot read {}: {error}", path.display());
        let networks = match &config.bots.networks_file {
            Some(path) => files::read_text(disk, path).map_err(|error| unreadable(path, error))?,
            None => String::new(),
        };
        let countries = match &config.country_database {
            Some(path) => {
                let bytes = files::read(disk, path).map_err(|error| unreadable(path, error))?;
                let countries = Countries::new(Bytes::from(bytes));
                Some(countries.map_err(|error| format!("events: {}: {error}", path.display()))?)
            }
            None => None,
        };
        Ok(Checker {
            bots: Bots::new(&config, &networks).map_err(|error| format!("events: {error}"))?,
            filters: Mutex::new(ClickFilters::new(config.filters.clone())),
            proxies: Networks::parse(&config.proxies.join("\n"))
                .map_err(|error| format!("events: proxies: {error}"))?,
            agents: Agents::default(),
            countries,
            config,
            keys,
        })
    }

    /// Takes over what click filters remember, when they are the same.
    pub(super) fn inherit(&mut self, old: &Checker) {
        if self.config.filters == old.config.filters {
            let empty = ClickFilters::new(self.config.filters.clone());
            *self.filters.get_mut() = std::mem::replace(&mut *old.filters.lock(), empty);
        }
    }

    /// Returns the configuration it checks by.
    pub fn config(&self) -> &Arc<EventsConfig> {
        &self.config
    }

    /// Returns the keys behind hashes of people.
    pub fn keys(&self) -> &Arc<PeopleKeys> {
        &self.keys
    }

    /// Returns the version of lists and filters.
    pub fn version(&self) -> u32 {
        self.bots.version
    }

    /// Returns what would speak against a kept event by itself today, without the clicks around it.
    pub(super) fn rejudge(&self, event: &Event) -> super::Reasons {
        self.bots.judge_kept(event)
    }

    /// Returns whose request it is: the connection's other end, or, when that is a configured proxy, the last address in
    /// `forwarded` (`X-Forwarded-For`) that is none.
    pub fn client(&self, peer: IpAddr, forwarded: Option<&str>) -> IpAddr {
        let mut client = peer;
        let hops = forwarded.unwrap_or("").split(',').rev().map(|hop| hop.trim().parse());
        for hop in hops {
            match hop {
                Ok(hop) if self.proxies.contain(client) => client = hop,
                _ => break,
            }
        }
        client
    }

    /// Checks a batch. Blocks for a moment when a key for people must be made.
    ///
    /// # Errors
    /// [`KeyError`] when such a key cannot be kept; nothing of the batch may be counted then.
    pub fn check(&self, batch: &Batch<'_>, arrival: &Arrival) -> Result<Checked, KeyError> {
        let validator = Validator::new(&self.config, arrival, batch);
        let keeps = match &arrival.sender {
            Sender::Token(token) => self.config.key(token).map(|key| &key.keep),
            Sender::Site(_) | Sender::Link => None,
        };
        let mut checked = Checked::default();
        for (index, sent) in batch.events.iter().enumerate() {
            match validator.check(index, sent) {
                Ok(draft) => match self.finish(draft, arrival, keeps)? {
                    Ok(event) => checked.events.push(event),
                    Err(reason) => checked.rejected.push(Rejection::named(index, "", reason)),
                },
                Err(rejection) => checked.rejected.push(rejection),
            }
        }
        let mut filters = self.filters.lock();
        for event in &mut checked.events {
            event.reasons |= filters.judge(event);
        }
        Ok(checked)
    }

    /// Enriches, judges and hides one draft. The inner error is the event's own.
    fn finish(
        &self,
        mut draft: Draft<'_>,
        arrival: &Arrival,
        keeps: Option<&BTreeSet<Kept>>,
    ) -> Result<Result<Event, String>, KeyError> {
        let agent = self.agents.read(&draft.agent, || self.bots.is_crawler(&draft.agent));
        let country = draft.ip.and_then(|ip| self.countries.as_ref()?.country(ip));
        enrich::enrich(&mut draft, &self.config, &agent, country.as_deref());
        draft.reasons |= self.bots.judge(&draft, &agent, &arrival.sender);
        let person = match draft.is_private() {
            true => Person::default(),
            false => self.person(&draft, arrival)?,
        };
        self.keep(&mut draft, agent.is_crawler, keeps);
        let event = draft.seal(person, self.bots.version);
        Ok(event.map_err(|error| error.to_string()))
    }

    fn person(&self, draft: &Draft<'_>, arrival: &Arrival) -> Result<Person, KeyError> {
        let mut person = Person::default();
        if !draft.user_id.is_empty() {
            person.user = Some(self.keys.user(&draft.user_id, draft.at)?);
        }
        if let Some(ip) = draft.ip {
            person.ip = Some(self.keys.address(ip, draft.at)?);
            let who = (draft.text(Field::Site), ip, &*draft.agent);
            person.visitor = self.keys.visitor(who, draft.at, arrival.received)?;
        }
        Ok(person)
    }

    /// Writes into the texts what may be kept about the person.
    fn keep(&self, draft: &mut Draft<'_>, is_crawler: bool, keeps: Option<&BTreeSet<Kept>>) {
        let agent = match self.config.privacy.user_agent {
            AgentPolicy::Full => draft.agent.clone().into_owned(),
            // A program is no person, and the list may go by its version.
            AgentPolicy::Reduced if is_crawler => draft.agent.clone().into_owned(),
            AgentPolicy::Reduced => enrich::reduced(&draft.agent),
            AgentPolicy::None => String::new(),
        };
        draft.set(Field::UserAgent, agent);
        if draft.is_private() {
            return;
        }
        if let Some(ip) = draft.ip {
            if self.config.privacy.ip_prefix {
                draft.set(Field::IpPrefix, network(ip));
            }
            if keeps.is_some_and(|keeps| keeps.contains(&Kept::Ip)) {
                draft.set(Field::Ip, ip.to_string());
            }
        }
        if keeps.is_some_and(|keeps| keeps.contains(&Kept::UserId)) {
            let user_id = draft.user_id.clone().into_owned();
            draft.set(Field::UserId, user_id);
        }
    }

    /// Destroys keys that are no longer needed. Blocks.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn expire_keys(&self, now: crate::model::Millis) -> Result<usize, KeyError> {
        let retention: Interval = self.config.retention.raw;
        self.keys.expire(now, retention)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::decode::{Format, decode};
    use super::super::{Kind, Reason, Reasons, SiteConfig};
    use super::*;
    use crate::io::SeededRandom;
    use crate::io::disk::SimDisk;
    use crate::model::Millis;

    pub(in crate::events) const NOW: Millis = Millis(1_763_800_000_000);
    const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.6099.71 Safari/537.36";

    /// A checker with keys of its own.
    pub(in crate::events) fn checker(yaml: &str) -> Checker {
        let disk = Arc::new(SimDisk::seeded(1));
        let config: EventsConfig = serde_yaml::from_str(yaml).unwrap();
        config.check().unwrap();
        let random = Arc::new(SeededRandom::new(1));
        let keys = PeopleKeys::open(Arc::clone(&disk) as Arc<dyn Disk>, random, Path::new("/salts")).unwrap();
        Checker::new(&*disk, Arc::new(config), Arc::new(keys)).unwrap()
    }

    /// A request of a token at [`NOW`].
    pub(in crate::events) fn token(name: &str) -> Arrival {
        Arrival {
            received: NOW,
            sender: Sender::Token(name.to_owned()),
            ip: None,
            agent: String::new(),
            asks_privacy: false,
            idempotency_key: None,
        }
    }

    fn page() -> Arrival {
        let site = SiteConfig {
            name: "shop".to_owned(),
            origins: vec!["https://shop.example".to_owned()],
            do_not_track: Default::default(),
        };
        Arrival {
            sender: Sender::Site(Arc::new(site)),
            ip: Some("198.51.100.7".parse().unwrap()),
            agent: CHROME.to_owned(),
            ..token("")
        }
    }

    fn check(checker: &Checker, arrival: &Arrival, lines: &str) -> Checked {
        let lines = lines.replace("NOW", &NOW.0.to_string());
        let batch = decode(Format::Lines, lines.as_bytes(), 1000).unwrap();
        checker.check(&batch, arrival).unwrap()
    }

    #[test]
    fn a_page_view_is_enriched_and_nobody_is_in_it() {
        let checker = checker("{}");
        let line = r#"{"event_id":"e","type":"pageview","ts":NOW,"url":"https://shop.example/a?utm_source=news&x=1","user_id":"ann@example.org"}"#;
        let checked = check(&checker, &page(), line);
        let event = &checked.events[0];
        assert_eq!(event.kind, Kind::Pageview);
        for (field, expected) in [
            (Field::Site, "shop"),
            (Field::Path, "/a"),
            (Field::Url, "https://shop.example/a"),
            (Field::Source, "news"),
            (Field::Browser, "Chrome"),
            (Field::Os, "Windows"),
            (Field::Device, "desktop"),
            (Field::IpPrefix, "198.51.100.0/24"),
            (
                Field::UserAgent,
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.0 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.0",
            ),
            (Field::Ip, ""),
            (Field::UserId, ""),
        ] {
            assert_eq!(event.text(field), expected, "{field:?}");
        }
        assert!(event.user.is_some() && event.ip.is_some() && event.visitor.is_some());
        let shown = format!("{event:?}");
        assert!(!shown.contains("198.51.100.7") && !shown.contains("ann@"), "{shown}");
    }

    #[test]
    fn only_a_configured_proxy_says_whose_request_it_is() {
        let checker = checker("proxies: [10.0.0.0/8]");
        let client = |peer: &str, forwarded| checker.client(peer.parse().unwrap(), forwarded).to_string();
        assert_eq!(client("10.0.0.1", Some("6.6.6.6, 192.0.2.1, 10.0.0.2")), "192.0.2.1");
        assert_eq!(client("192.0.2.9", Some("6.6.6.6")), "192.0.2.9");
        assert_eq!(client("10.0.0.1", Some("nonsense")), "10.0.0.1");
        assert_eq!(client("10.0.0.1", None), "10.0.0.1");
    }

    #[test]
    fn who_asked_not_to_be_followed_is_counted_and_forgotten() {
        let private = Arrival {
            asks_privacy: true,
            ..page()
        };
        let line = r#"{"event_id":"e","type":"click","ts":NOW,"ad_id":"a","user_id":"u"}"#;
        let checked = check(&checker("{}"), &private, line);
        let event = &checked.events[0];
        assert_eq!(
            (event.user, event.ip, event.visitor, event.person()),
            (None, None, None, None)
        );
        assert!(event.reasons.has(Reason::Private) && event.is_net() && event.text(Field::IpPrefix).is_empty());
    }

    #[test]
    fn a_key_may_keep_what_it_opted_in_to() {
        let checker = checker("keys: [{token: crm, keep: [ip, user_id]}]\nprivacy: {user_agent: none}");
        let line = r#"{"event_id":"e","type":"click","ts":NOW,"ad_id":"a","user_id":"u","ip":"192.0.2.1","ua":"x/1"}"#;
        let kept = check(&checker, &token("crm"), line);
        let other = check(&checker, &token("web"), line);
        let texts = |checked: &Checked| {
            let event = &checked.events[0];
            [Field::Ip, Field::UserId, Field::UserAgent].map(|field| event.text(field).to_owned())
        };
        assert_eq!(texts(&kept), ["192.0.2.1", "u", ""]);
        assert_eq!(texts(&other), ["", "", ""]);
        assert_eq!(kept.events[0].user, other.events[0].user);
    }

    #[test]
    fn a_reload_does_not_forget_the_last_clicks() {
        let yaml = "filters: {repeat_within: 10s}";
        let line = |id: u8| format!(r#"{{"event_id":"{id}","type":"click","ts":NOW,"ad_id":"a","user_id":"u"}}"#);
        let old = checker(yaml);
        check(&old, &token("t"), &line(1));
        let mut new = checker(yaml);
        new.keys = Arc::clone(&old.keys);
        new.inherit(&old);
        assert_eq!(
            check(&new, &token("t"), &line(2)).events[0].reasons.to_string(),
            "repeat"
        );
    }

    #[test]
    fn programs_and_repeats_are_marked_and_stay() {
        let checker = checker("filters: {repeat_within: 10s}\nads: {a: {campaign_id: c, price: 0.5}}");
        let lines = r#"{"event_id":"1","type":"click","ts":NOW,"ad_id":"a","user_id":"u"}
            {"event_id":"2","type":"click","ts":NOW,"ad_id":"a","user_id":"u"}
            {"event_id":"3","type":"click","ts":NOW,"ad_id":"a","user_id":"v","ua":"Googlebot/2.1"}
            {"event_id":"4","type":"click","ts":NOW,"ad_id":"b","user_id":"w","webdriver":true,"price":0.1}
            {"event_id":"5","type":"click","ts":NOW}"#;
        let checked = check(&checker, &token("t"), lines);
        let reasons: Vec<String> = checked.events.iter().map(|event| event.reasons.to_string()).collect();
        assert_eq!(reasons, ["", "repeat", "crawler", "webdriver"]);
        assert_eq!(
            (checked.rejected[0].index, checked.rejected[0].field.as_str()),
            (4, "ad_id")
        );
        let event = &checked.events[0];
        assert_eq!(
            (event.text(Field::CampaignId), event.price.0, event.rules),
            ("c", 500_000, checker.version())
        );
        assert_eq!(checked.events[3].price.0, 100_000);
        assert_eq!(event.reasons, Reasons::NONE);
    }
}
