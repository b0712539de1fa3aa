//! Programs and invalid clicks: found by lists and filters, marked with a reason, never deleted.
//!
//! Lists and filters have a version, which every event keeps: an invoice does not move when a list does, and a
//! recalculation can say what changed.

mod filters;
mod networks;

use regex::{Regex, RegexBuilder};

pub(super) use filters::ClickFilters;
pub(super) use networks::Networks;

use super::draft::{Draft, Sender};
use super::enrich::Agent;
use super::{Event, EventsConfig, Field, Reason, Reasons};

/// The shipped list of crawlers.
const CRAWLERS: &str = include_str!("crawlers.txt");
/// The most bytes of the compiled list.
const LIST_BYTES_MAX: usize = 64 << 20;

/// What tells programs from people.
pub(super) struct Bots {
    crawlers: Regex,
    networks: Networks,
    /// The version of lists and filters: changes when one of them does.
    pub(super) version: u32,
}

impl Bots {
    /// Compiles the lists; `networks` is the text of the networks' file.
    ///
    /// # Errors
    /// The pattern or the line that is wrong.
    pub(super) fn new(config: &EventsConfig, networks: &str) -> Result<Bots, String> {
        let shipped = CRAWLERS
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let own = config.bots.agents.iter().map(String::as_str);
        let patterns: Vec<String> = shipped.chain(own).map(|pattern| format!("(?:{pattern})")).collect();
        let joined = patterns.join("|");
        let crawlers = RegexBuilder::new(&joined).size_limit(LIST_BYTES_MAX).build();
        let described = format!("{joined}\n{networks}\n{:?}", config.filters);
        Ok(Bots {
            crawlers: crawlers.map_err(|error| format!("bots: agents: {error}"))?,
            networks: Networks::parse(networks)?,
            version: crc32c::crc32c(described.as_bytes()),
        })
    }

    /// Whether a user agent is on the list.
    pub(super) fn is_crawler(&self, agent: &str) -> bool {
        self.crawlers.is_match(agent)
    }

    /// Returns what would speak against a kept event by itself today. What was decided by something that was not kept stays.
    pub(super) fn judge_kept(&self, event: &Event) -> Reasons {
        let stays = [
            Reason::Webdriver,
            Reason::NoAgent,
            Reason::ClockCorrected,
            Reason::Private,
        ];
        let kept = stays.into_iter().filter(|reason| event.reasons.has(*reason));
        let mut reasons = kept.fold(Reasons::NONE, |all, reason| all | reason.into());
        let agent = event.text(Field::UserAgent);
        let was = |reason| event.reasons.has(reason);
        let is_crawler = if agent.is_empty() {
            was(Reason::Crawler)
        } else {
            self.is_crawler(agent)
        };
        let listed = self.networks.cover(event.text(Field::IpPrefix));
        if is_crawler {
            reasons |= Reason::Crawler.into();
        }
        if listed.unwrap_or_else(|| was(Reason::DataCentre)) {
            reasons |= Reason::DataCentre.into();
        }
        reasons
    }

    /// Returns what speaks against an event by itself, without the others around it.
    pub(super) fn judge(&self, draft: &Draft<'_>, agent: &Agent, sender: &Sender) -> Reasons {
        let mut reasons = Reasons::NONE;
        if agent.is_crawler {
            reasons |= Reason::Crawler.into();
        }
        if draft.ip.is_some_and(|ip| self.networks.contain(ip)) {
            reasons |= Reason::DataCentre.into();
        }
        if draft.webdriver {
            reasons |= Reason::Webdriver.into();
        }
        if draft.agent.is_empty() && !matches!(sender, Sender::Token(_)) {
            reasons |= Reason::NoAgent.into();
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_crawlers_are_found_and_browsers_are_not() {
        let bots = Bots::new(&EventsConfig::default(), "").unwrap();
        let agents = include_str!("../../../tests/golden/events/crawlers.txt");
        for agent in agents.lines().filter(|line| !line.starts_with('#')) {
            assert!(bots.is_crawler(agent), "{agent}");
        }
        for agent in [
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 Mobile/15E148 Safari/604.1",
            "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0",
            "",
        ] {
            assert!(!bots.is_crawler(agent), "{agent}");
        }
    }

    #[test]
    fn a_change_of_a_list_is_another_version() {
        let plain = EventsConfig::default();
        let mut changed = plain.clone();
        changed.bots.agents.push("^OurMonitor/".to_owned());
        let versions = [
            Bots::new(&plain, "").unwrap().version,
            Bots::new(&changed, "").unwrap().version,
            Bots::new(&plain, "10.0.0.0/8").unwrap().version,
        ];
        assert!(versions[0] != versions[1] && versions[0] != versions[2]);
        assert!(Bots::new(&changed, "").unwrap().is_crawler("OurMonitor/2"));
    }
}
