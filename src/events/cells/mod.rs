//! Cells: what happened in one bucket of time under one key of one cube, as numbers that only add up.
//!
//! Every number of a cell is a sum, so that a cell may lie in any number of parts (memory, several files, other nodes) and
//! a late event, a recalculation or a merge is one more part. What is no sum (a version, a rate, a set of people) is derived
//! from sums or merged as a set ([`super::people`]).

mod cube;
mod memory;

pub(crate) use cube::{Cube, key_of, key_parts};
pub(crate) use memory::Memory;

use super::{Domain, Event, Kind};

/// Milliseconds of a minute.
pub(crate) const MINUTE: i64 = 60_000;

macro_rules! metrics {
    ($($variant:ident $name:literal $doc:literal,)+) => {
        /// A number of a cell. The numbers are in files: new ones go to the end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum CellMetric {
            $(#[doc = $doc] $variant,)+
        }

        impl CellMetric {
            /// All of them, by number.
            pub const ALL: [CellMetric; CELL_METRICS] = [$(CellMetric::$variant,)+];

            /// Returns the name in answers and virtual series.
            pub fn name(self) -> &'static str {
                match self { $(CellMetric::$variant => $name,)+ }
            }

            /// Returns what it counts, as a sentence.
            pub fn doc(self) -> &'static str {
                match self { $(CellMetric::$variant => $doc,)+ }
            }
        }

        /// How many numbers a cell has.
        pub(crate) const CELL_METRICS: usize = [$($name,)+].len();
    };
}

metrics! {
    NetClicks "net_clicks" "Clicks that nothing speaks against.",
    GrossClicks "gross_clicks" "All clicks, marked ones too.",
    NetImpressions "impressions" "Impressions that nothing speaks against.",
    GrossImpressions "gross_impressions" "All impressions, marked ones too.",
    NetConversions "conversions" "Conversions that nothing speaks against.",
    GrossConversions "gross_conversions" "All conversions, marked ones too.",
    NetSpend "spend" "Prices of net clicks and impressions, in millionths.",
    GrossSpend "gross_spend" "Prices of all clicks and impressions, in millionths.",
    NetRevenue "revenue" "Revenue of net events, in millionths.",
    NetPageviews "pageviews" "Page views that nothing speaks against.",
    GrossPageviews "gross_pageviews" "All page views, marked ones too.",
    Other "events" "Net events of pages that are no page views.",
    Late "late" "Events that came after their minute was closed.",
    Revisions "revisions" "How often a closed minute was corrected (only in cubes without fields).",
    Duplicates "duplicates" "Events that had been counted before (only in cubes without fields).",
}

/// The numbers of a cell; indexed by [`CellMetric`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [i64; CELL_METRICS]);

impl Counts {
    /// Returns what one event adds; `late` when its minute was closed.
    pub fn of(event: &Event, late: bool) -> Counts {
        let mut counts = Counts::default();
        let net = i64::from(event.is_net());
        counts.add_to(CellMetric::Late, i64::from(late));
        match event.kind {
            Kind::Click => counts.pair(CellMetric::NetClicks, CellMetric::GrossClicks, net),
            Kind::Impression => counts.pair(CellMetric::NetImpressions, CellMetric::GrossImpressions, net),
            Kind::Conversion => counts.pair(CellMetric::NetConversions, CellMetric::GrossConversions, net),
            Kind::Pageview => counts.pair(CellMetric::NetPageviews, CellMetric::GrossPageviews, net),
            Kind::Custom | Kind::Engagement | Kind::Vitals => counts.add_to(CellMetric::Other, net),
        }
        if matches!(event.kind, Kind::Click | Kind::Impression) {
            counts.add_to(CellMetric::NetSpend, net * event.price.0);
            counts.add_to(CellMetric::GrossSpend, event.price.0);
        }
        counts.add_to(CellMetric::NetRevenue, net * event.revenue.0);
        counts
    }

    fn pair(&mut self, net_metric: CellMetric, gross_metric: CellMetric, net: i64) {
        self.add_to(net_metric, net);
        self.add_to(gross_metric, 1);
    }

    /// Returns one of the numbers.
    pub fn get(&self, metric: CellMetric) -> i64 {
        self.0[metric as usize]
    }

    pub(crate) fn add_to(&mut self, metric: CellMetric, by: i64) {
        let number = &mut self.0[metric as usize];
        *number = number.saturating_add(by);
    }

    /// Adds all numbers of `other`.
    pub fn add(&mut self, other: &Counts) {
        for (number, by) in self.0.iter_mut().zip(other.0) {
            *number = number.saturating_add(by);
        }
    }

    /// Returns `self` with every number's sign changed: what takes `self` back.
    #[must_use]
    pub fn negated(&self) -> Counts {
        Counts(self.0.map(i64::saturating_neg))
    }

    /// Returns whether all numbers are zero.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|number| *number == 0)
    }
}

/// Returns the number of the minute that holds `at`, in milliseconds: minutes are half open.
pub(crate) fn minute_of(at: i64) -> i64 {
    at.div_euclid(MINUTE)
}

/// Returns what an event is about.
pub(crate) fn domain_of(event: &Event) -> Domain {
    Domain::of(event.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Micros, Reason, testing};

    #[test]
    fn a_marked_click_counts_as_gross_only() {
        let mut click = testing::click("e", "a", 0);
        click.price = Micros(5);
        let net = Counts::of(&click, false);
        click.reasons = Reason::Crawler.into();
        let marked = Counts::of(&click, true);
        let numbers = |counts: &Counts| {
            use CellMetric::{GrossClicks, GrossSpend, Late, NetClicks, NetSpend};
            [NetClicks, GrossClicks, NetSpend, GrossSpend, Late].map(|metric| counts.get(metric))
        };
        assert_eq!(numbers(&net), [1, 1, 5, 5, 0]);
        assert_eq!(numbers(&marked), [0, 1, 0, 5, 1]);
        let mut both = net;
        both.add(&net.negated());
        assert!(both.is_zero());
    }

    #[test]
    fn minutes_are_half_open_before_the_epoch_too() {
        assert_eq!(
            [-60_001, -60_000, -1, 0, 59_999, 60_000].map(minute_of),
            [-2, -1, -1, 0, 0, 1]
        );
    }
}
