//! Flood control: how many messages a receiver takes in a time; what is over that comes as one digest, and is never dropped.

use std::fmt;
use std::str::FromStr;

use crate::io::Mono;
use crate::model::{Interval, yaml};

/// `rate: 30/h`: so many messages in such a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// How many.
    pub(crate) count: u32,
    /// In how long.
    pub(crate) per: Interval,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let bad = || format!("{text:?} is no rate: write 30/h, 5/m or 10/15m");
        let (count, per) = text.split_once('/').ok_or_else(bad)?;
        let count: u32 = count.trim().parse().map_err(|_| bad())?;
        let per = per.trim();
        let per = if per.starts_with(|c: char| c.is_ascii_digit()) {
            per.parse().map_err(|_| bad())?
        } else {
            format!("1{per}").parse().map_err(|_| bad())?
        };
        if count == 0 || per <= Interval::ZERO {
            return Err(bad());
        }
        Ok(Rate { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.per)
    }
}

impl<'de> serde::Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        yaml::from_text(deserializer)
    }
}

/// A receiver's rate and how many messages may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// In the long run.
    pub(crate) rate: Rate,
    /// At once.
    pub(crate) burst: u32,
}

/// A token for each message that may go out: `burst` of them at most, refilled at the rate.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    limit: Limit,
    /// How much of the burst is spent, in nanoseconds of refilling.
    spent: u64,
    at: Mono,
}

impl Bucket {
    pub(super) fn new(limit: Limit, now: Mono) -> Bucket {
        Bucket {
            limit,
            spent: 0,
            at: now,
        }
    }

    pub(super) fn limit(&self) -> Limit {
        self.limit
    }

    /// How long one token takes to come back, in nanoseconds.
    fn cost(&self) -> u64 {
        let per = u64::try_from(self.limit.rate.per.0).unwrap_or(0) * 1_000_000;
        (per / u64::from(self.limit.rate.count)).max(1)
    }

    fn refill(&mut self, now: Mono) {
        self.spent = self.spent.saturating_sub(now.0.saturating_sub(self.at.0));
        self.at = Mono(now.0.max(self.at.0));
    }

    /// How many messages may go out now.
    pub(super) fn tokens(&mut self, now: Mono) -> u32 {
        self.refill(now);
        let whole = self.cost() * u64::from(self.limit.burst);
        u32::try_from(whole.saturating_sub(self.spent) / self.cost()).unwrap_or(u32::MAX)
    }

    /// Spends one.
    pub(super) fn take(&mut self, now: Mono) {
        self.refill(now);
        self.spent += self.cost();
    }

    /// Gives one back: the message did not arrive.
    pub(super) fn give_back(&mut self) {
        self.spent = self.spent.saturating_sub(self.cost());
    }

    /// When the next token is there, if there is none now.
    pub(super) fn next(&mut self, now: Mono) -> Option<Mono> {
        if self.tokens(now) > 0 {
            return None;
        }
        let over = self
            .spent
            .saturating_sub(self.cost() * u64::from(self.limit.burst.saturating_sub(1)));
        Some(Mono(now.0 + over.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        let rate = |text: &str| text.parse::<Rate>().map(|rate| rate.to_string());
        assert_eq!(rate("30/h").unwrap(), "30/1h");
        assert_eq!(rate("5 / m").unwrap(), "5/1m");
        assert_eq!(rate("10/15m").unwrap(), "10/15m");
        for text in ["", "30", "0/h", "-1/h", "1/0s", "1/fortnight", "x/h"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?} was read");
        }
    }

    proptest! {
        #[test]
        fn in_no_stretch_of_time_more_goes_out_than_burst_and_rate_allow(
            count in 1u32..20, burst in 1u32..20, steps in proptest::collection::vec(0u64..30_000, 1..200)
        ) {
            let limit = Limit { rate: Rate { count, per: Interval::mins(1) }, burst };
            let mut bucket = Bucket::new(limit, Mono(0));
            let mut now = Mono(0);
            let mut taken = Vec::new();
            for step in steps {
                now = Mono(now.0 + step * 1_000_000);
                while bucket.tokens(now) > 0 {
                    bucket.take(now);
                    taken.push(now.0);
                }
                let next = bucket.next(now).unwrap();
                prop_assert!(next > now && bucket.clone().tokens(next) > 0);
            }
            for (i, from) in taken.iter().enumerate() {
                for (n, to) in taken[i..].iter().enumerate() {
                    let minutes = (to - from) as f64 / 60e9;
                    prop_assert!((n + 1) as f64 <= f64::from(burst) + minutes * f64::from(count) + 1.0);
                }
            }
        }
    }
}
