//! The parts of a page's address: host, path, campaign parameters. What is not asked for is not kept.

use std::collections::BTreeSet;

use url::Url;

use super::super::Field;
use super::super::draft::Draft;

/// Campaign parameters and the fields they go to.
const UTM: [(&str, Field); 5] = [
    ("utm_source", Field::UtmSource),
    ("utm_medium", Field::UtmMedium),
    ("utm_campaign", Field::UtmCampaign),
    ("utm_term", Field::UtmTerm),
    ("utm_content", Field::UtmContent),
];

/// Parameters by which ad networks know their clicks: that there is one is kept, its value names a person.
const CLICK_IDS: [&str; 8] = [
    "gclid",
    "gbraid",
    "wbraid",
    "fbclid",
    "msclkid",
    "ttclid",
    "twclid",
    "li_fat_id",
];

/// The longest campaign parameter kept, in bytes.
const UTM_BYTES_MAX: usize = 256;

/// Splits `url` and `referrer` into fields, keeping only the parameters in `kept`. A text that is no web address stays
/// out of host and path, and loses what looks like a query.
pub(super) fn split_page(draft: &mut Draft<'_>, kept: &BTreeSet<String>) {
    if let Some(url) = parse(draft.text(Field::Url)) {
        let host = url.host_str().unwrap_or_default().to_owned();
        draft.set(Field::Host, host);
        draft.set(Field::Path, url.path().to_owned());
        for (name, value) in url.query_pairs() {
            if let Some((_, field)) = UTM.iter().find(|(utm, _)| *utm == name) {
                draft.fill(*field, cut(&value, UTM_BYTES_MAX));
            }
            if let Some(id) = CLICK_IDS.iter().find(|id| **id == name) {
                draft.fill(Field::ClickId, id);
            }
        }
        draft.set(Field::Url, stripped(url, kept));
    } else if !draft.text(Field::Url).is_empty() {
        let bare = without_query(draft.text(Field::Url)).to_owned();
        draft.set(Field::Url, bare);
    }
    let referrer = match parse(draft.text(Field::Referrer)) {
        Some(url) => stripped(url, &BTreeSet::new()),
        None => without_query(draft.text(Field::Referrer)).to_owned(),
    };
    draft.set(Field::Referrer, referrer);
}

fn parse(text: &str) -> Option<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
}

fn without_query(text: &str) -> &str {
    text.split(['?', '#']).next().unwrap_or_default()
}

/// The address without user, fragment, and parameters that are not kept.
fn stripped(mut url: Url, kept: &BTreeSet<String>) -> String {
    // Neither can fail for an address with a host, which http demands.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| kept.contains(&**name))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    match pairs.is_empty() {
        true => url.set_query(None),
        false => {
            url.query_pairs_mut().clear().extend_pairs(pairs);
        }
    }
    url.into()
}

/// Returns the beginning of a text, at most `max` bytes of whole characters.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::super::super::draft::tests::draft;
    use super::*;

    #[test]
    fn only_asked_for_parameters_stay() {
        let mut page = draft();
        page.set(
            Field::Url,
            "https://me:pw@Shop.example/a/b?page=2&email=x@y.z&utm_source=news&gclid=SECRET#frag",
        );
        page.set(Field::Referrer, "https://www.search.example/?q=private");
        split_page(&mut page, &BTreeSet::from(["page".to_owned()]));
        assert_eq!(page.text(Field::Url), "https://shop.example/a/b?page=2");
        assert_eq!(
            (page.text(Field::Host), page.text(Field::Path)),
            ("shop.example", "/a/b")
        );
        assert_eq!(
            (page.text(Field::UtmSource), page.text(Field::ClickId)),
            ("news", "gclid")
        );
        assert_eq!(page.text(Field::Referrer), "https://www.search.example/");
    }

    #[test]
    fn what_is_no_web_address_has_no_parts() {
        let mut page = draft();
        page.set(Field::Url, "app://screen/1?token=x");
        split_page(&mut page, &BTreeSet::new());
        assert_eq!((page.text(Field::Url), page.text(Field::Path)), ("app://screen/1", ""));
    }
}
