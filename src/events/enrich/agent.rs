//! Browser, system and device from a user agent: ordered tables of marks, the first that fits decides.
//!
//! Versions are not kept: nobody is billed by them, and they tell people apart.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// What a user agent tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::events) struct Agent {
    pub(in crate::events) browser: &'static str,
    pub(in crate::events) os: &'static str,
    pub(in crate::events) device: &'static str,
    /// Whether it is on the list of crawlers.
    pub(in crate::events) is_crawler: bool,
}

/// Browsers by their mark. Those that also carry another's mark come before it.
const BROWSERS: &[(&str, &str)] = &[
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("Edge/", "Edge"),
    ("OPR/", "Opera"),
    ("OPiOS/", "Opera"),
    ("Opera", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("UCBrowser/", "UC Browser"),
    ("YaBrowser/", "Yandex Browser"),
    ("Vivaldi/", "Vivaldi"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("Ddg/", "DuckDuckGo"),
    ("MiuiBrowser/", "Miui Browser"),
    ("HuaweiBrowser/", "Huawei Browser"),
    ("Whale/", "Whale"),
    ("GSA/", "Google app"),
    ("FBAN/", "Facebook app"),
    ("FBAV/", "Facebook app"),
    ("Instagram", "Instagram app"),
    ("FxiOS/", "Firefox"),
    ("Focus/", "Firefox"),
    ("Seamonkey/", "SeaMonkey"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Electron/", "Electron"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("MSIE ", "Internet Explorer"),
    ("Trident/", "Internet Explorer"),
    ("Android", "Android Browser"),
    ("Safari/", "Safari"),
    ("AppleWebKit/", "WebView"),
];

/// Systems by their mark.
const SYSTEMS: &[(&str, &str)] = &[
    ("Windows Phone", "Windows Phone"),
    ("Windows", "Windows"),
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("iPod", "iOS"),
    ("AppleTV", "tvOS"),
    ("Tizen", "Tizen"),
    ("Web0S", "webOS"),
    ("KAIOS", "KaiOS"),
    ("HarmonyOS", "HarmonyOS"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X", "macOS"),
    ("Macintosh", "macOS"),
    ("FreeBSD", "FreeBSD"),
    ("OpenBSD", "OpenBSD"),
    ("Ubuntu", "Linux"),
    ("Linux", "Linux"),
    ("X11", "Linux"),
];

/// Marks of television sets and their boxes.
const TELEVISIONS: &[&str] = &[
    "SmartTV", "SMART-TV", "Web0S", "AppleTV", "GoogleTV", "BRAVIA", "AFT", "Roku", "HbbTV",
];

/// Reads one user agent.
fn parse(text: &str, is_crawler: bool) -> Agent {
    if text.is_empty() {
        return Agent::default();
    }
    let first = |table: &[(&str, &'static str)]| {
        let found = table.iter().find(|(mark, _)| text.contains(mark));
        found.map_or("", |(_, name)| *name)
    };
    let os = first(SYSTEMS);
    let has = |mark: &str| text.contains(mark);
    let device = if is_crawler {
        "bot"
    } else if TELEVISIONS.iter().any(|mark| has(mark)) {
        "tv"
    } else if has("iPad") || has("Tablet") || (os == "Android" && !has("Mobile")) {
        "tablet"
    } else if has("Mobile") || has("iPhone") || has("iPod") || os == "Windows Phone" || os == "KaiOS" {
        "mobile"
    } else if matches!(os, "Windows" | "macOS" | "Linux" | "ChromeOS" | "FreeBSD" | "OpenBSD") {
        "desktop"
    } else {
        "other"
    };
    Agent {
        browser: first(BROWSERS),
        os,
        device,
        is_crawler,
    }
}

/// Cuts versions to their first number: `Chrome/120.0.6099.71` becomes `Chrome/120.0.0.0`.
pub(in crate::events) fn reduced(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let number = digits(&rest[start..]);
        out.push_str(&rest[..start + number]);
        rest = &rest[start + number..];
        while let Some(part) = rest.strip_prefix(['.', '_']).filter(|part| digits(part) > 0) {
            out.push_str(&rest[..1]);
            out.push('0');
            rest = &part[digits(part)..];
        }
    }
    out.push_str(rest);
    out
}

/// Returns how many digits a text begins with.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// The most user agents remembered.
const REMEMBERED_MAX: usize = 20_000;

/// Reads user agents and remembers what they told: most are seen again.
#[derive(Default)]
pub(in crate::events) struct Agents {
    known: Mutex<HashMap<Arc<str>, Agent>>,
}

impl Agents {
    /// Returns what an agent tells. `is_crawler` is asked once for each text.
    pub(in crate::events) fn read(&self, text: &str, is_crawler: impl FnOnce() -> bool) -> Agent {
        if let Some(known) = self.known.lock().get(text) {
            return *known;
        }
        let agent = parse(text, is_crawler());
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(text.into(), agent);
        agent
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 Mobile/15E148 Safari/604.1";

    #[test]
    fn common_agents_are_known() {
        for (text, expected) in [
            (IPHONE, ("Safari", "iOS", "mobile")),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.2210.91",
                ("Edge", "Windows", "desktop"),
            ),
            (
                "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0",
                ("Firefox", "Linux", "desktop"),
            ),
            (
                "Mozilla/5.0 (Linux; Android 13; SM-X906C) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36",
                ("Chrome", "Android", "tablet"),
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Mobile Safari/537.36",
                ("Chrome", "Android", "mobile"),
            ),
            (
                "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/79.0.3945.79 Safari/537.36",
                ("Chrome", "webOS", "tv"),
            ),
            ("", ("", "", "")),
            ("something else", ("", "", "other")),
        ] {
            let agent = parse(text, false);
            assert_eq!((agent.browser, agent.os, agent.device), expected, "{text}");
        }
        assert_eq!(parse("Googlebot/2.1", true).device, "bot");
    }

    #[test]
    fn versions_are_cut_to_their_first_number() {
        for (text, expected) in [
            ("Chrome/120.0.6099.71 Safari/537.36", "Chrome/120.0.0.0 Safari/537.0"),
            (
                "CPU iPhone OS 17_2_1 like Mac OS X",
                "CPU iPhone OS 17_0_0 like Mac OS X",
            ),
            (
                "Googlebot/2.1 (+http://www.google.com/bot.html)",
                "Googlebot/2.0 (+http://www.google.com/bot.html)",
            ),
            ("a.b 1. 2", "a.b 1. 2"),
        ] {
            assert_eq!(reduced(text), expected);
        }
    }

    proptest! {
        #[test]
        fn reducing_twice_changes_nothing_more(text in "[a-z0-9._ /é]{0,40}") {
            let once = reduced(&text);
            prop_assert_eq!(reduced(&once), once);
        }
    }

    #[test]
    fn an_agent_is_judged_once() {
        let agents = Agents::default();
        assert!(agents.read("x", || true).is_crawler);
        assert!(agents.read("x", || unreachable!()).is_crawler);
    }
}
