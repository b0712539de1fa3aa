//! A cube: by which fields events are counted together.
//!
//! A cube of a domain takes every event of the domain, also one that lacks a field (its value is then empty), so that the
//! sum over any cube is the sum over all of them. Keys are the values with a zero byte after each: they sort by the first
//! field, then the second, and all keys with the same first values lie together.

use crate::events::{Domain, Event, Field};

/// By what events are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cube {
    /// Which events it counts.
    pub(crate) domain: Domain,
    /// By which of their texts.
    pub(crate) fields: Vec<Field>,
    /// Whether people are counted, too.
    pub(crate) people: bool,
}

/// Fields that only events about ads have: a cube with one of them is about ads.
const AD_FIELDS: [Field; 5] = [
    Field::AdId,
    Field::CampaignId,
    Field::AdvertiserId,
    Field::Publisher,
    Field::Placement,
];

impl Cube {
    /// Makes a cube; people are counted in cubes of one field.
    pub(crate) fn of(domain: Domain, fields: &[Field]) -> Cube {
        Cube {
            domain,
            fields: fields.to_vec(),
            people: fields.len() <= 1,
        }
    }

    /// Returns the cubes of a configuration, the totals first. One without a field of ads or sites is about both.
    pub(crate) fn all(configured: &[crate::events::Cube]) -> Vec<Cube> {
        let mut cubes = Cube::totals().to_vec();
        for group in configured {
            let ads = group.0.iter().any(|field| AD_FIELDS.contains(field));
            let web = group.0.iter().any(|field| matches!(field, Field::Site | Field::Path));
            let domains = Domain::ALL.into_iter();
            let domains = domains.filter(|domain| match domain {
                Domain::Ads => ads || !web,
                Domain::Web => !ads,
            });
            cubes.extend(domains.map(|domain| Cube::of(domain, &group.0)));
        }
        cubes
    }

    /// Returns the cubes that are always there: all events of each domain together.
    pub(crate) fn totals() -> [Cube; 2] {
        Domain::ALL.map(|domain| Cube {
            domain,
            fields: Vec::new(),
            people: true,
        })
    }

    /// Returns where `field` stands in the key.
    pub(crate) fn position(&self, field: Field) -> Option<usize> {
        self.fields.iter().position(|own| *own == field)
    }

    /// Whether all of `fields` are in the key.
    pub(crate) fn has_all(&self, fields: &[Field]) -> bool {
        fields.iter().all(|field| self.position(*field).is_some())
    }

    /// Appends the key of an event.
    pub(crate) fn put_key(&self, event: &Event, out: &mut Vec<u8>) {
        for field in &self.fields {
            put_part(event.text(*field), out);
        }
    }
}

/// A zero byte ends a part, so a part's own are written as the character that stands for unreadable ones.
fn put_part(text: &str, out: &mut Vec<u8>) {
    if text.as_bytes().contains(&0) {
        out.extend_from_slice(text.replace('\0', "\u{fffd}").as_bytes());
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(0);
}

/// Returns the (beginning of a) key with these values.
pub(crate) fn key_of<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut key = Vec::new();
    values.into_iter().for_each(|value| put_part(value, &mut key));
    key
}

/// Returns the values of a key.
pub(crate) fn key_parts(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.strip_suffix(&[0])
        .into_iter()
        .flat_map(|key| key.split(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::testing;

    #[test]
    fn a_key_is_the_values_in_order_and_absent_ones_are_empty() {
        let cube = Cube::of(Domain::Ads, &[Field::AdId, Field::Country]);
        let mut key = Vec::new();
        cube.put_key(&testing::click("e", "ad-1", 0), &mut key);
        assert_eq!(key, b"ad-1\0\0");
        assert_eq!(key, key_of(["ad-1", ""]));
        assert_eq!(key_parts(&key).collect::<Vec<_>>(), [&b"ad-1"[..], b""]);
        assert_eq!(key_parts(&[]).count(), 0);
        assert_eq!(key_of(["a\0b"]), "a\u{fffd}b\0".as_bytes());
    }

    #[test]
    fn a_group_is_about_ads_or_pages_by_its_fields_and_else_about_both() {
        let group = |fields: &[Field]| crate::events::Cube(fields.to_vec());
        let cubes = Cube::all(&[
            group(&[Field::CampaignId, Field::Country]),
            group(&[Field::Site, Field::Path]),
            group(&[Field::Country]),
        ]);
        let domains: Vec<Domain> = cubes.iter().map(|cube| cube.domain).collect();
        use Domain::{Ads, Web};
        assert_eq!(domains, [Ads, Web, Ads, Web, Ads, Web]);
        assert!(cubes[4].people && !cubes[2].people);
    }
}
