//! From dotted paths to names and labels: the mapping rules of graphite_exporter and statsd_exporter.
//!
//! ```yaml
//! - match: servers.*.cpu.*
//!   name: server_cpu
//!   labels: {host: $1, mode: $2}
//! ```
//! `*` stands for one part of a path. The first rule that matches counts. Without one, every character that a name may not
//! have becomes an underscore.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingRule {
    /// The path, with `*` for parts.
    #[serde(rename = "match")]
    pub pattern: String,
    /// The metric's name; `$1` is the first `*`.
    #[serde(default)]
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether matching series are left out.
    #[serde(default)]
    pub action: MappingAction,
}

/// What becomes of a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MappingAction {
    /// It gets name and labels.
    #[default]
    Map,
    /// It is left out.
    Drop,
}

/// Returns name and labels of a path, `None` when it is left out.
pub(super) fn map(rules: &[MappingRule], path: &str) -> Option<(String, Vec<(String, String)>)> {
    let matching = rules
        .iter()
        .find_map(|rule| Some((rule, captures(&rule.pattern, path)?)));
    let Some((rule, found)) = matching else {
        return Some((plain_name(path), Vec::new()));
    };
    if rule.action == MappingAction::Drop {
        return None;
    }
    let name = match rule.name.as_str() {
        "" => plain_name(path),
        name => plain_name(&filled(name, &found)),
    };
    let labels = rule.labels.iter();
    let labels = labels.map(|(name, value)| (name.clone(), filled(value, &found)));
    Some((name, labels.collect()))
}

fn captures<'a>(pattern: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut found = Vec::new();
    let mut parts = path.split('.');
    for wanted in pattern.split('.') {
        let part = parts.next()?;
        match wanted {
            "*" => found.push(part),
            wanted if wanted == part => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some(found)
}

/// Puts the captured parts in place of `$1`, `${1}`.
fn filled(template: &str, found: &[&str]) -> String {
    let mut out = template.to_owned();
    for (index, part) in found.iter().enumerate().rev() {
        out = out.replace(&format!("${{{}}}", index + 1), part);
        out = out.replace(&format!("${}", index + 1), part);
    }
    out
}

/// Returns the path as a metric's name that needs no quotes.
pub(super) fn plain_name(path: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let name: String = path.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("_{name}");
    }
    name
}

/// Returns the text as a label's name that needs no quotes.
pub(super) fn plain_label(name: &str) -> String {
    plain_name(name).replace(':', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_names_and_labels() {
        let rules: Vec<MappingRule> = serde_yaml::from_str(
            "[{match: 'servers.*.cpu.*', name: server_cpu, labels: {host: $1, mode: 'm-${2}'}}, \
             {match: 'noise.*', action: drop}, {match: 'a.*', name: 'a_$1'}]",
        )
        .unwrap();
        let labels = vec![
            ("host".to_owned(), "web-1".to_owned()),
            ("mode".to_owned(), "m-idle".to_owned()),
        ];
        assert_eq!(
            map(&rules, "servers.web-1.cpu.idle"),
            Some(("server_cpu".to_owned(), labels))
        );
        assert_eq!(map(&rules, "noise.x"), None);
        assert_eq!(map(&rules, "a.b-c").unwrap().0, "a_b_c");
        assert_eq!(map(&rules, "servers.web-1.cpu").unwrap().0, "servers_web_1_cpu");
        assert_eq!(map(&[], "2xx.rate").unwrap().0, "_2xx_rate");
    }
}
