//! The event as everything behind the door sees it: checked, corrected, enriched, without addresses or names of people.
//!
//! Numbers have fields of their own; every text is named by a [`Field`], and all of an event's texts lie in one allocation
//! ([`Texts`]). Cubes, filters, the log record and the Parquet columns are written against [`Field::ALL`], so that a new
//! text is one row here.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use super::Micros;
use crate::model::Millis;

/// How many logical shards there are, for ever: file names, partitions and hashes depend on it.
pub const SHARDS: usize = 64;

/// One event that passed all checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who it is: retries carry the same.
    pub id: EventId,
    /// What happened.
    pub kind: Kind,
    /// When it happened, corrected by the sender's clock error.
    pub at: Millis,
    /// The time as the sender wrote it. A retry repeats it although its correction differs by a few milliseconds, so
    /// identities are looked up by the hour of this.
    pub stamped: Millis,
    /// When the server received it.
    pub received: Millis,
    /// Why it does not count as net, and what else there is to know.
    pub reasons: Reasons,
    /// What the advertiser pays for it (clicks, impressions).
    pub price: Micros,
    /// What it earned (conversions, events of a shop).
    pub revenue: Micros,
    /// Keyed hash of the user, when the sender named one.
    pub user: Option<PersonHash>,
    /// Keyed hash of the address, when it is known.
    pub ip: Option<PersonHash>,
    /// The day's visitor; absent for those who asked not to be followed.
    pub visitor: Option<VisitorId>,
    /// The version of lists and filters that `reasons` was decided by.
    pub rules: u32,
    /// Its texts.
    pub texts: Texts,
}

impl Event {
    /// Returns a text; empty when the event has none.
    pub fn text(&self, field: Field) -> &str {
        self.texts.get(field)
    }

    /// Returns whether it counts as net: no reason speaks against it.
    pub fn is_net(&self) -> bool {
        self.reasons.is_net()
    }

    /// Returns whom uniques count: the user when named, otherwise the day's visitor, otherwise the address.
    pub fn person(&self) -> Option<u128> {
        let visitor = || self.visitor.map(|visitor| u128::from(visitor.0));
        self.user.map(|user| user.0).or_else(visitor).or(self.ip.map(|ip| ip.0))
    }
}

/// 128 bits that stand for an `event_id`. The hash has no key, so that every node and every replay finds the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u128);

impl EventId {
    /// Returns the identity of an `event_id`: XXH3 with 128 bits.
    pub fn of(event_id: &str) -> EventId {
        EventId(xxhash_rust::xxh3::xxh3_128(event_id.as_bytes()))
    }

    /// Returns the shard that owns the event: the top six bits.
    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> 122) as u8)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One of the [`SHARDS`] logical shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u8);

/// A keyed hash of an address or a user. Its key lives for a month and is then destroyed with the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonHash(pub u128);

impl fmt::Display for PersonHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One visitor of one site on one day: a hash whose salt lives for two days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VisitorId(pub u64);

/// What happened. The numbers are in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An ad was shown.
    Impression = 1,
    /// An ad was clicked.
    Click = 2,
    /// A click led to what the advertiser wants.
    Conversion = 3,
    /// A page was viewed.
    Pageview = 4,
    /// Something else that a page names.
    Custom = 5,
    /// How long and how far a page was seen.
    Engagement = 6,
    /// How fast a page was.
    Vitals = 7,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 7] = [
        Kind::Impression,
        Kind::Click,
        Kind::Conversion,
        Kind::Pageview,
        Kind::Custom,
        Kind::Engagement,
        Kind::Vitals,
    ];

    /// Returns the kind's name in JSON, Parquet and labels.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Impression => "impression",
            Kind::Click => "click",
            Kind::Conversion => "conversion",
            Kind::Pageview => "pageview",
            Kind::Custom => "event",
            Kind::Engagement => "engagement",
            Kind::Vitals => "vitals",
        }
    }

    /// Returns the kind of that name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the kind with that number.
    pub fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Returns whether it is about an ad, and so must name one.
    pub fn is_ad(self) -> bool {
        matches!(self, Kind::Impression | Kind::Click | Kind::Conversion)
    }
}

/// Why an event does not count as net (bits 0 to 15), and what else is known about it (bits 16 to 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// The user agent is on the crawler list.
    Crawler = 0,
    /// The browser said that a program drives it.
    Webdriver = 1,
    /// The address belongs to a listed data centre.
    DataCentre = 2,
    /// There was no user agent although the sender is a browser.
    NoAgent = 3,
    /// The same person clicked the same ad moments before.
    Repeat = 4,
    /// Too many clicks of the same kind from one address.
    AddressRate = 5,
    /// The person has clicked this ad as often as counts in a day.
    FrequencyCap = 6,
    /// The time was moved by what the sender's clock was off.
    ClockCorrected = 16,
    /// The person asked not to be followed (GPC or DNT): counted, without a visitor.
    Private = 17,
}

impl Reason {
    /// All reasons, by their bit.
    pub const ALL: [Reason; 9] = [
        Reason::Crawler,
        Reason::Webdriver,
        Reason::DataCentre,
        Reason::NoAgent,
        Reason::Repeat,
        Reason::AddressRate,
        Reason::FrequencyCap,
        Reason::ClockCorrected,
        Reason::Private,
    ];

    /// Returns the name in answers, labels and reports.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Crawler => "crawler",
            Reason::Webdriver => "webdriver",
            Reason::DataCentre => "data_centre",
            Reason::NoAgent => "no_agent",
            Reason::Repeat => "repeat",
            Reason::AddressRate => "address_rate",
            Reason::FrequencyCap => "frequency_cap",
            Reason::ClockCorrected => "clock_corrected",
            Reason::Private => "private",
        }
    }
}

/// A set of [`Reason`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reasons(pub u32);

impl Reasons {
    /// No reason.
    pub const NONE: Reasons = Reasons(0);
    /// The bits that keep an event out of net counts.
    pub const INVALID: Reasons = Reasons(0xffff);

    /// Returns whether none of the invalidating reasons is there.
    pub fn is_net(self) -> bool {
        self.0 & Reasons::INVALID.0 == 0
    }

    /// Returns whether `reason` is in the set.
    pub fn has(self, reason: Reason) -> bool {
        self.0 & (1 << reason as u8) != 0
    }

    /// Returns the reasons in the set, by their bit.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL.into_iter().filter(move |reason| self.has(*reason))
    }
}

impl From<Reason> for Reasons {
    fn from(reason: Reason) -> Reasons {
        Reasons(1 << reason as u8)
    }
}

impl BitOr for Reasons {
    type Output = Reasons;

    fn bitor(self, other: Reasons) -> Reasons {
        Reasons(self.0 | other.0)
    }
}

impl BitOrAssign for Reasons {
    fn bitor_assign(&mut self, other: Reasons) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Reasons {
    /// The names with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Reason::name).collect();
        f.write_str(&names.join(","))
    }
}

macro_rules! fields {
    ($($variant:ident $name:literal $doc:literal,)+) => {
        /// A text of an event. The numbers are in files: new ones go to the end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Field {
            $(#[doc = $doc] $variant,)+
        }

        impl Field {
            /// All fields, in the order of their numbers.
            pub const ALL: [Field; FIELDS] = [$(Field::$variant,)+];

            /// Returns the name in JSON, Parquet, filters and labels.
            pub fn name(self) -> &'static str {
                match self { $(Field::$variant => $name,)+ }
            }

            /// Returns what the field holds, as a sentence.
            pub fn doc(self) -> &'static str {
                match self { $(Field::$variant => $doc,)+ }
            }
        }

        pub(super) const FIELDS: usize = [$($name,)+].len();
    };
}

fields! {
    EventId "event_id" "The sender's name for the event; a retry repeats it.",
    AdId "ad_id" "The ad.",
    CampaignId "campaign_id" "The campaign that the ad belongs to.",
    AdvertiserId "advertiser_id" "Who pays.",
    Publisher "publisher" "Who shows the ad.",
    Placement "placement" "Where on the publisher's page.",
    AuctionId "auction_id" "The auction that chose the ad.",
    Currency "currency" "The currency of price and revenue, three letters.",
    Site "site" "The site of a page view, as configured.",
    Host "host" "The host of the page.",
    Path "path" "The path of the page, without its query.",
    Url "url" "The page with what the policy leaves of its query.",
    Referrer "referrer" "Where the visitor came from, without query.",
    Source "source" "Who sent the visitor: a known site, a UTM source, or the referrer's domain.",
    Channel "channel" "The kind of source: search, social, email, paid, referral, direct.",
    UtmSource "utm_source" "UTM source.",
    UtmMedium "utm_medium" "UTM medium.",
    UtmCampaign "utm_campaign" "UTM campaign.",
    UtmTerm "utm_term" "UTM term.",
    UtmContent "utm_content" "UTM content.",
    ClickId "click_id" "Which ad network's click id the page carried (gclid, fbclid, …), never its value.",
    Title "title" "The page's title.",
    Name "name" "What a custom event is called.",
    Props "props" "Properties of a custom event: a JSON object of scalars.",
    Screen "screen" "Width and height of the screen.",
    Language "lang" "The browser's language.",
    Country "country" "Two letters, from the sender or the address.",
    Browser "browser" "The browser's family.",
    Os "os" "The operating system's family.",
    Device "device" "desktop, mobile, tablet, tv, bot or other.",
    UserAgent "ua" "What the policy leaves of the user agent.",
    IpPrefix "ip_prefix" "The address's network: /24 of IPv4, /48 of IPv6.",
    Ip "ip" "The whole address, only where a key opted in.",
    UserId "user_id" "The user's own name, only where a key opted in.",
    Sender "sender" "The token or the site that the event came by.",
}

impl Field {
    /// Returns the field of that name.
    pub fn from_name(name: &str) -> Option<Field> {
        Field::ALL.into_iter().find(|field| field.name() == name)
    }
}

/// All texts of an event in one piece of memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Texts {
    all: Box<str>,
    /// Where each field's text ends; it starts where the one before ends.
    ends: [u16; FIELDS],
}

/// The texts of an event are longer than 65,535 bytes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the texts of the event have {bytes} bytes, 65535 are allowed")]
pub struct TextsError {
    /// How long they are.
    pub bytes: usize,
}

impl Texts {
    /// Joins the texts that `text_of` gives for each field; an empty one is an absent one.
    ///
    /// # Errors
    /// [`TextsError`] beyond 65,535 bytes.
    pub fn join<'a>(text_of: impl Fn(Field) -> &'a str) -> Result<Texts, TextsError> {
        let bytes = Field::ALL.into_iter().map(|field| text_of(field).len()).sum();
        if bytes > usize::from(u16::MAX) {
            return Err(TextsError { bytes });
        }
        let mut all = String::with_capacity(bytes);
        let ends = Field::ALL.map(|field| {
            all.push_str(text_of(field));
            u16::try_from(all.len()).expect("their sum was just checked")
        });
        Ok(Texts {
            all: all.into_boxed_str(),
            ends,
        })
    }

    /// Returns the text of `field`; empty when there is none.
    pub fn get(&self, field: Field) -> &str {
        let index = field as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.all[usize::from(start)..usize::from(self.ends[index])]
    }

    /// Returns the fields that have a text, with it.
    pub fn iter(&self) -> impl Iterator<Item = (Field, &str)> {
        let all = Field::ALL.into_iter().map(|field| (field, self.get(field)));
        all.filter(|(_, text)| !text.is_empty())
    }

    /// Returns the same texts with one of them replaced.
    ///
    /// # Errors
    /// [`TextsError`] when they become too long.
    pub fn with(&self, changed: Field, text: &str) -> Result<Texts, TextsError> {
        Texts::join(|field| if field == changed { text } else { self.get(field) })
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        self.iter().for_each(|(field, text)| {
            map.entry(&field.name(), &text);
        });
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_field_kind_and_reason_is_found_by_its_name() {
        let names: BTreeSet<&str> = Field::ALL.into_iter().map(Field::name).collect();
        assert_eq!(names.len(), Field::ALL.len());
        for field in Field::ALL {
            assert_eq!(Field::from_name(field.name()), Some(field));
            assert!(field.doc().ends_with('.'));
        }
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
            assert_eq!(Kind::from_number(kind as u8), Some(kind));
        }
        let mut all = Reasons::NONE;
        Reason::ALL.into_iter().for_each(|reason| all |= reason.into());
        assert_eq!(all.iter().count(), Reason::ALL.len());
    }

    #[test]
    fn texts_come_back_and_absent_ones_are_empty() {
        let texts = Texts::join(|field| match field {
            Field::EventId => "e1",
            Field::AdId => "ad-7",
            Field::Sender => "shop",
            _ => "",
        });
        let texts = texts.unwrap();
        assert_eq!((texts.get(Field::AdId), texts.get(Field::Country)), ("ad-7", ""));
        assert_eq!(texts.iter().count(), 3);
        let texts = texts.with(Field::Country, "DE").unwrap();
        assert_eq!((texts.get(Field::Country), texts.get(Field::Sender)), ("DE", "shop"));
        let long = "x".repeat(70_000);
        assert_eq!(texts.with(Field::Url, &long), Err(TextsError { bytes: 70_012 }));
    }

    #[test]
    fn marks_do_not_make_an_event_invalid() {
        assert!(Reasons::from(Reason::ClockCorrected).is_net());
        assert!(!(Reasons::from(Reason::Repeat) | Reason::Private.into()).is_net());
        let both = Reasons::from(Reason::Crawler) | Reason::Private.into();
        assert_eq!(both.to_string(), "crawler,private");
    }

    #[test]
    fn ids_spread_over_all_shards_and_never_move() {
        let shards: BTreeSet<u8> = (0..2000).map(|n| EventId::of(&n.to_string()).shard().0).collect();
        assert_eq!(shards.len(), SHARDS);
        assert_eq!(EventId::of("a").to_string(), "a96faf705af16834e6c632b61e964e1f");
    }
}
