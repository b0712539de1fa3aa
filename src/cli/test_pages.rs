//! Sections of a test file about who is told: routing, inhibition and silences of an `alertmanager.yml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::alertmanager::{Config, TrialSilence, parse_matchers};
use crate::io::disk::{Disk, OsDisk};
use crate::model::{Labels, Millis};

/// `routing_test`: which receivers an alert's routes lead to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoutingTest {
    labels: BTreeMap<String, String>,
    receivers: Vec<String>,
    /// When, for routes that are muted at times; without it, mute times do not count.
    at: Option<String>,
}

/// `inhibition_test`: which of the firing alerts somebody is told of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InhibitionTest {
    firing: Vec<BTreeMap<String, String>>,
    paged: Vec<BTreeMap<String, String>>,
}

/// `silence_test`: the same, with silences.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SilenceTest {
    /// Each a list of matchers, or several in one text.
    silences: Vec<Vec<String>>,
    firing: Vec<BTreeMap<String, String>>,
    paged: Vec<BTreeMap<String, String>>,
}

/// All such sections of a file.
pub(super) struct PageTests {
    pub(super) alertmanager: Option<PathBuf>,
    pub(super) routing: Vec<RoutingTest>,
    pub(super) inhibition: Vec<InhibitionTest>,
    pub(super) silence: Vec<SilenceTest>,
}

impl PageTests {
    /// Runs them and returns what failed; files are relative to `folder`.
    pub(super) fn run(&self, folder: &Path) -> Vec<String> {
        if self.routing.is_empty() && self.inhibition.is_empty() && self.silence.is_empty() {
            return Vec::new();
        }
        let Some(file) = &self.alertmanager else {
            return vec![
                "  routing_test, inhibition_test and silence_test need \"alertmanager: <file>\" in the test file"
                    .to_owned(),
            ];
        };
        match Config::load(&OsDisk as &dyn Disk, &folder.join(file)) {
            Ok(config) => self.against(&config),
            Err(error) => vec![format!("  {error}")],
        }
    }

    fn against(&self, config: &Config) -> Vec<String> {
        let mut failures = Vec::new();
        for (i, test) in self.routing.iter().enumerate() {
            let labels = Labels::from_pairs(&test.labels);
            match test.at.as_deref().map(super::backfill::moment).transpose() {
                Ok(at) => failures.extend(differs(
                    &format!("routing_test[{i}] {labels}"),
                    &test.receivers,
                    &config.receivers_of(&labels, at),
                )),
                Err(error) => failures.push(format!("    routing_test[{i}]: {error}")),
            }
        }
        for (i, test) in self.inhibition.iter().enumerate() {
            let title = format!("inhibition_test[{i}]");
            failures.extend(paged(config, &title, &test.firing, &test.paged, &[]));
        }
        for (i, test) in self.silence.iter().enumerate() {
            let title = format!("silence_test[{i}]");
            match silences(&test.silences) {
                Ok(silences) => failures.extend(paged(config, &title, &test.firing, &test.paged, &silences)),
                Err(error) => failures.push(format!("    {title}: {error}")),
            }
        }
        failures
    }
}

fn silences(texts: &[Vec<String>]) -> Result<Vec<TrialSilence>, String> {
    let read = |list: &Vec<String>| {
        let mut matchers = Vec::new();
        for text in list {
            matchers.extend(parse_matchers(text)?);
        }
        if matchers.is_empty() {
            return Err("a silence needs a matcher".to_owned());
        }
        Ok(TrialSilence { matchers })
    };
    texts.iter().map(read).collect()
}

fn paged(
    config: &Config,
    title: &str,
    firing: &[BTreeMap<String, String>],
    expected: &[BTreeMap<String, String>],
    silences: &[TrialSilence],
) -> Option<String> {
    let sets = |list: &[BTreeMap<String, String>]| -> Vec<Labels> { list.iter().map(Labels::from_pairs).collect() };
    let got = config.paged(&sets(firing), silences, None::<Millis>);
    let got: Vec<String> = got.iter().map(|alert| alert.labels.to_string()).collect();
    let mut expected = sets(expected);
    expected.sort();
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    differs(title, &expected, &got)
}

fn differs(title: &str, expected: &[String], got: &[String]) -> Option<String> {
    (expected != got).then(|| {
        format!(
            "    {title}\n        exp: [{}]\n        got: [{}]",
            expected.join(", "),
            got.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::SimDisk;
    use crate::model::yaml;

    const ROUTING: &str = "route: {receiver: mail, routes: [{matchers: [severity=page], receiver: oncall, mute_time_intervals: [sunday]}]}\n\
        time_intervals: [{name: sunday, time_intervals: [{weekdays: [sunday]}]}]\n\
        inhibit_rules: [{source_matchers: [alertname=Site], target_matchers: [alertname=Drop], equal: [site]}]\n\
        receivers: [{name: mail}, {name: oncall}]\n";

    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        routing_test: Vec<RoutingTest>,
        #[serde(default)]
        inhibition_test: Vec<InhibitionTest>,
        #[serde(default)]
        silence_test: Vec<SilenceTest>,
    }

    fn failures(text: &str) -> Vec<String> {
        let config = Config::parse(&SimDisk::seeded(1), "am.yml", ROUTING, Path::new("/")).unwrap();
        let file: File = yaml::read("t.yaml", text).unwrap();
        let tests = PageTests {
            alertmanager: None,
            routing: file.routing_test,
            inhibition: file.inhibition_test,
            silence: file.silence_test,
        };
        tests.against(&config)
    }

    #[test]
    fn routing_inhibition_and_silences_are_judged() {
        let good = "routing_test:\n\
            - {labels: {severity: page}, receivers: [oncall]}\n\
            - {labels: {severity: page}, receivers: [], at: '1970-01-04T12:00:00Z'}\n\
            - {labels: {severity: low}, receivers: [mail]}\n\
            inhibition_test:\n\
            - firing: [{alertname: Site, site: a}, {alertname: Drop, site: a}, {alertname: Drop, site: b}]\n\
            \x20 paged: [{alertname: Site, site: a}, {alertname: Drop, site: b}]\n\
            silence_test:\n\
            - {silences: [[alertname=Drop, site=b]], firing: [{alertname: Drop, site: b}, {alertname: Drop, site: c}], paged: [{alertname: Drop, site: c}]}\n";
        assert_eq!(failures(good), Vec::<String>::new());
        let bad = failures(
            &good
                .replace("receivers: [oncall]", "receivers: [mail]")
                .replace("paged: [{alertname: Site, site: a}, ", "paged: ["),
        );
        assert_eq!(bad.len(), 2, "{bad:?}");
        assert!(bad[0].contains("exp: [mail]\n        got: [oncall]"), "{}", bad[0]);
        assert_eq!(
            failures("silence_test: [{silences: [[]], firing: [], paged: []}]").len(),
            1
        );
    }
}
