//! Filters that look at several clicks: the same person on the same ad again, too many from one address, too many a day.
//!
//! Each remembers keys for its own span only, in two generations: when the newer one is full of time, the older is
//! forgotten. A retry of a click (same identity) is never held against the click. The same code judges live clicks in
//! the order they arrive and, in a recalculation, all of them in the order they happened.

use hashbrown::HashMap;

use crate::events::{Event, EventId, Filters, Kind, Reason, Reasons};
use crate::model::{Interval, Millis};

/// Milliseconds in a day.
const DAY: i64 = 86_400_000;
/// The most keys of one generation of one filter; beyond it the older generation goes early.
const KEYS_MAX: usize = 4_000_000;

/// The state of the click filters.
#[derive(Debug)]
pub(in crate::events) struct ClickFilters {
    filters: Filters,
    last_click: Generations<u64, Last>,
    by_address: Generations<(u64, i64), u32>,
    by_day: Generations<(u64, i64), u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Last {
    at: Millis,
    id: EventId,
}

impl ClickFilters {
    /// Starts with nothing remembered.
    pub(in crate::events) fn new(filters: Filters) -> ClickFilters {
        let day = Interval(DAY);
        ClickFilters {
            last_click: Generations::new(filters.repeat_within.unwrap_or(day)),
            by_address: Generations::new(filters.address_rate.map_or(day, |rate| rate.within)),
            by_day: Generations::new(day),
            filters,
        }
    }

    /// Returns what the clicks before it say against a click; other events pass. Clicks that are invalid already leave
    /// no trace.
    pub(in crate::events) fn judge(&mut self, event: &Event) -> Reasons {
        let mut reasons = Reasons::NONE;
        if event.kind != Kind::Click || !event.is_net() {
            return reasons;
        }
        if let Some(person) = event.person() {
            let ad = xxhash_rust::xxh3::xxh3_64(event.text(crate::events::Field::AdId).as_bytes());
            let pair = (person as u64) ^ ((person >> 64) as u64).rotate_left(17) ^ ad;
            if self.is_repeat(pair, event) {
                reasons |= Reason::Repeat.into();
            }
            if reasons.is_net() && self.is_over_cap(pair, event) {
                reasons |= Reason::FrequencyCap.into();
            }
        }
        if let Some(ip) = event.ip
            && self.is_over_rate(ip.0 as u64, event.at)
        {
            reasons |= Reason::AddressRate.into();
        }
        reasons
    }

    fn is_repeat(&mut self, pair: u64, event: &Event) -> bool {
        let Some(within) = self.filters.repeat_within else {
            return false;
        };
        let this = Last {
            at: event.at,
            id: event.id,
        };
        let last = self.last_click.entry(pair, event.at, || this);
        let apart = Interval((event.at - last.at).0.saturating_abs());
        let is_repeat = last.id != event.id && apart < within;
        if !is_repeat && event.at > last.at {
            *last = this;
        }
        is_repeat
    }

    fn is_over_cap(&mut self, pair: u64, event: &Event) -> bool {
        let Some(max) = self.filters.clicks_per_day else {
            return false;
        };
        let day = event.at.0.div_euclid(DAY);
        let clicks = self.by_day.entry((pair, day), event.at, || 0);
        *clicks = clicks.saturating_add(1);
        *clicks > max
    }

    fn is_over_rate(&mut self, address: u64, at: Millis) -> bool {
        let Some(rate) = self.filters.address_rate else {
            return false;
        };
        let window = at.0.div_euclid(rate.within.0.max(1));
        let clicks = self.by_address.entry((address, window), at, || 0);
        *clicks = clicks.saturating_add(1);
        *clicks > rate.clicks
    }
}

/// A map that forgets: two maps, each for one span of event time.
#[derive(Debug)]
struct Generations<K, V> {
    span: Interval,
    newest_span: i64,
    new: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: std::hash::Hash + Eq + Copy, V: Copy> Generations<K, V> {
    fn new(span: Interval) -> Generations<K, V> {
        Generations {
            span: Interval(span.0.max(1)),
            newest_span: i64::MIN,
            new: HashMap::new(),
            old: HashMap::new(),
        }
    }

    fn entry(&mut self, key: K, at: Millis, first: impl FnOnce() -> V) -> &mut V {
        let span = at.0.div_euclid(self.span.0);
        if span > self.newest_span || self.new.len() >= KEYS_MAX {
            self.old = std::mem::take(&mut self.new);
            self.newest_span = self.newest_span.max(span);
        }
        let old = &self.old;
        self.new
            .entry(key)
            .or_insert_with(|| old.get(&key).copied().unwrap_or_else(first))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::draft::{Person, tests::draft};
    use super::*;
    use crate::events::{Field, PersonHash, Rate};

    fn click(id: &str, user: u128, at: i64) -> Event {
        let mut draft = draft();
        draft.set(Field::EventId, id.to_owned());
        draft.at = Millis(at);
        let person = Person {
            user: Some(PersonHash(user)),
            ip: Some(PersonHash(9)),
            visitor: None,
        };
        draft.seal(person, 0).unwrap()
    }

    #[test]
    fn a_second_click_is_a_repeat_and_a_retry_is_not() {
        let mut filters = ClickFilters::new(Filters {
            repeat_within: Some(Interval::secs(10)),
            ..Filters::default()
        });
        let mut judge = |id, user, at| filters.judge(&click(id, user, at)).has(Reason::Repeat);
        assert!(!judge("a", 1, 100_000));
        assert!(!judge("a", 1, 100_000), "the same click again");
        assert!(judge("b", 1, 105_000));
        assert!(!judge("c", 2, 105_000), "somebody else");
        assert!(!judge("d", 1, 110_000), "ten seconds after the last that counted");
        assert!(
            judge("e", 1, 101_000),
            "out of order, but close to the one that counted"
        );
        assert!(!judge("f", 1, 150_000));
    }

    #[test]
    fn more_clicks_than_allowed_are_marked() {
        let mut filters = ClickFilters::new(Filters {
            address_rate: Some(Rate {
                clicks: 3,
                within: Interval::mins(1),
            }),
            clicks_per_day: Some(2),
            ..Filters::default()
        });
        let of = |reasons: Reasons| reasons.to_string();
        assert_eq!(of(filters.judge(&click("a", 1, 0))), "");
        assert_eq!(of(filters.judge(&click("b", 1, 1))), "");
        assert_eq!(of(filters.judge(&click("c", 1, 2))), "frequency_cap");
        assert_eq!(of(filters.judge(&click("d", 2, 3))), "address_rate");
        assert_eq!(of(filters.judge(&click("e", 2, 60_000))), "");
        assert_eq!(of(filters.judge(&click("f", 1, DAY))), "", "a new day");
    }

    #[test]
    fn what_is_invalid_already_leaves_no_trace() {
        let mut filters = ClickFilters::new(Filters {
            repeat_within: Some(Interval::secs(10)),
            ..Filters::default()
        });
        let mut crawler = click("a", 1, 0);
        crawler.reasons = Reason::Crawler.into();
        assert_eq!(filters.judge(&crawler), Reasons::NONE);
        assert_eq!(filters.judge(&click("b", 1, 1)), Reasons::NONE);
    }

    #[test]
    fn old_keys_are_forgotten() {
        let mut seen: Generations<u64, u32> = Generations::new(Interval::secs(10));
        for second in 0..1000 {
            seen.entry(second, Millis(i64::try_from(second).unwrap() * 1000), || 0);
        }
        assert!(seen.new.len() + seen.old.len() <= 20);
    }
}
