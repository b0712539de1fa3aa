//! Who sent a visitor: campaign parameters first, then the referrer by a table of known senders.

use url::Url;

use super::super::Field;
use super::super::draft::Draft;

/// Hosts (or, with a dot at the end, beginnings of them), the sender's name and kind.
const KNOWN: &[(&str, &str, &str)] = &[
    ("google.", "Google", "search"),
    ("bing.com", "Bing", "search"),
    ("duckduckgo.com", "DuckDuckGo", "search"),
    ("search.yahoo.", "Yahoo", "search"),
    ("yandex.", "Yandex", "search"),
    ("baidu.com", "Baidu", "search"),
    ("ecosia.org", "Ecosia", "search"),
    ("startpage.com", "Startpage", "search"),
    ("qwant.com", "Qwant", "search"),
    ("search.brave.com", "Brave", "search"),
    ("kagi.com", "Kagi", "search"),
    ("naver.com", "Naver", "search"),
    ("seznam.cz", "Seznam", "search"),
    ("facebook.com", "Facebook", "social"),
    ("fb.me", "Facebook", "social"),
    ("instagram.com", "Instagram", "social"),
    ("t.co", "X", "social"),
    ("x.com", "X", "social"),
    ("twitter.com", "X", "social"),
    ("linkedin.com", "LinkedIn", "social"),
    ("lnkd.in", "LinkedIn", "social"),
    ("reddit.com", "Reddit", "social"),
    ("pinterest.", "Pinterest", "social"),
    ("tiktok.com", "TikTok", "social"),
    ("mastodon.social", "Mastodon", "social"),
    ("bsky.app", "Bluesky", "social"),
    ("threads.net", "Threads", "social"),
    ("news.ycombinator.com", "Hacker News", "social"),
    ("vk.com", "VK", "social"),
    ("youtube.com", "YouTube", "video"),
    ("youtu.be", "YouTube", "video"),
    ("vimeo.com", "Vimeo", "video"),
    ("mail.google.com", "Gmail", "email"),
    ("outlook.live.com", "Outlook", "email"),
    ("mail.yahoo.com", "Yahoo Mail", "email"),
    ("chatgpt.com", "ChatGPT", "assistant"),
    ("chat.openai.com", "ChatGPT", "assistant"),
    ("perplexity.ai", "Perplexity", "assistant"),
    ("claude.ai", "Claude", "assistant"),
    ("gemini.google.com", "Gemini", "assistant"),
];

/// What campaign media mean.
const MEDIA: &[(&str, &str)] = &[
    ("cpc", "paid"),
    ("ppc", "paid"),
    ("cpm", "paid"),
    ("paid", "paid"),
    ("display", "paid"),
    ("banner", "paid"),
    ("email", "email"),
    ("newsletter", "email"),
    ("social", "social"),
    ("organic", "search"),
    ("referral", "referral"),
    ("affiliate", "affiliate"),
    ("video", "video"),
];

/// Sets `source` and `channel` of an event of a page.
pub(super) fn name_source(draft: &mut Draft<'_>) {
    if draft.text(Field::Host).is_empty() {
        return;
    }
    let referrer = Url::parse(draft.text(Field::Referrer)).ok();
    let host = referrer.as_ref().and_then(Url::host_str).map(bare).unwrap_or_default();
    let host = if host == bare(draft.text(Field::Host)) {
        ""
    } else {
        host
    };
    let (by_host, kind) = match known(host) {
        Some((name, kind)) => (name, kind),
        None if host.is_empty() => ("Direct", "direct"),
        None => (host, "referral"),
    };
    let (by_host, kind) = (by_host.to_owned(), kind.to_owned());
    let medium = draft.text(Field::UtmMedium).to_ascii_lowercase();
    let medium = MEDIA.iter().find(|(name, _)| *name == medium).map(|(_, kind)| *kind);
    let is_paid = !draft.text(Field::ClickId).is_empty();
    let campaign = draft.text(Field::UtmSource).to_owned();
    let channel = match medium {
        Some(kind) => kind,
        None if is_paid => "paid",
        None if !campaign.is_empty() => "campaign",
        None => &kind,
    };
    draft.fill(Field::Source, if campaign.is_empty() { &by_host } else { &campaign });
    draft.fill(Field::Channel, channel);
}

fn bare(host: &str) -> &str {
    host.strip_prefix("www.").unwrap_or(host)
}

/// Returns a known sender's name and kind; the longest mark decides, so that mail.google.com is no search.
fn known(host: &str) -> Option<(&'static str, &'static str)> {
    let fits = |mark: &str| {
        let ends = |rest: &str| rest.is_empty() || rest.ends_with('.');
        match mark.strip_suffix('.') {
            Some(stem) => host
                .split_once(&format!("{stem}."))
                .is_some_and(|(before, _)| ends(before)),
            None => host.strip_suffix(mark).is_some_and(ends),
        }
    };
    let found = KNOWN.iter().filter(|(mark, _, _)| fits(mark));
    found
        .max_by_key(|(mark, _, _)| mark.len())
        .map(|(_, name, kind)| (*name, *kind))
}

#[cfg(test)]
mod tests {
    use super::super::super::draft::tests::draft;
    use super::*;

    fn source(referrer: &'static str, campaign: &'static str, medium: &'static str) -> (String, String) {
        let mut page = draft();
        page.set(Field::Host, "www.shop.example");
        page.set(Field::Referrer, referrer);
        page.set(Field::UtmSource, campaign);
        page.set(Field::UtmMedium, medium);
        name_source(&mut page);
        (
            page.text(Field::Source).to_owned(),
            page.text(Field::Channel).to_owned(),
        )
    }

    #[test]
    fn visitors_are_told_apart_by_who_sent_them() {
        for (referrer, campaign, medium, expected) in [
            ("", "", "", ("Direct", "direct")),
            ("https://shop.example/other", "", "", ("Direct", "direct")),
            ("https://www.google.co.uk/", "", "", ("Google", "search")),
            ("https://mail.google.com/", "", "", ("Gmail", "email")),
            ("https://notgoogle.com/", "", "", ("notgoogle.com", "referral")),
            ("https://old.reddit.com/r/x", "", "", ("Reddit", "social")),
            ("https://blog.example/", "", "", ("blog.example", "referral")),
            ("https://t.co/abc", "spring", "", ("spring", "campaign")),
            ("", "news", "Email", ("news", "email")),
        ] {
            let (source, channel) = source(referrer, campaign, medium);
            assert_eq!((&*source, &*channel), expected, "{referrer} {campaign}");
        }
    }
}
