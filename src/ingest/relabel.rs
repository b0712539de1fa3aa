//! Relabelling, as Prometheus's `relabel_configs`, `metric_relabel_configs` and `write_relabel_configs` describe it.

use regex::Regex;
use serde::Deserialize;

use crate::model::{LabelsBuilder, is_valid_label_name};

/// The longest regular expression, in bytes.
const REGEX_BYTES_MAX: usize = 4096;

/// One rule, checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct RelabelConfig {
    source_labels: Vec<String>,
    separator: String,
    regex: Regex,
    modulus: u64,
    target_label: String,
    replacement: String,
    action: Action,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    #[default]
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    source_labels: Vec<String>,
    #[serde(default = "semicolon")]
    separator: String,
    #[serde(default = "anything")]
    regex: String,
    #[serde(default)]
    modulus: u64,
    #[serde(default)]
    target_label: String,
    #[serde(default = "first_group")]
    replacement: String,
    #[serde(default)]
    action: Action,
}

fn semicolon() -> String {
    ";".to_owned()
}

fn anything() -> String {
    "(.*)".to_owned()
}

fn first_group() -> String {
    "$1".to_owned()
}

impl PartialEq for RelabelConfig {
    fn eq(&self, other: &RelabelConfig) -> bool {
        self.source_labels == other.source_labels
            && self.separator == other.separator
            && self.regex.as_str() == other.regex.as_str()
            && self.modulus == other.modulus
            && self.target_label == other.target_label
            && self.replacement == other.replacement
            && self.action == other.action
    }
}

impl RelabelConfig {
    /// Returns the rule that gives a series the label `name`, unless it has one.
    pub fn add_label(name: &str, value: &str) -> RelabelConfig {
        RelabelConfig {
            source_labels: vec![name.to_owned()],
            separator: semicolon(),
            regex: Regex::new("^$").expect("a constant pattern"),
            modulus: 0,
            target_label: name.to_owned(),
            replacement: value.replace('$', "$$"),
            action: Action::Replace,
        }
    }
}

impl TryFrom<Written> for RelabelConfig {
    type Error = String;

    fn try_from(written: Written) -> Result<RelabelConfig, String> {
        use Action::{DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, Lowercase, Replace, Uppercase};
        if written.regex.len() > REGEX_BYTES_MAX {
            return Err(format!("regex is over {REGEX_BYTES_MAX} bytes"));
        }
        let anchored = format!("^(?s:{})$", written.regex);
        let regex = regex::RegexBuilder::new(&anchored)
            .size_limit(1 << 20)
            .build()
            .map_err(|error| format!("invalid regex {:?}: {error}", written.regex))?;
        let action = written.action;
        let target = &written.target_label;
        if matches!(
            action,
            Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual
        ) {
            if target.is_empty() {
                return Err("target_label is missing".to_owned());
            }
            if !target.contains('$') && !is_valid_label_name(target) {
                return Err(format!("{target:?} is an invalid target_label"));
            }
        }
        if action == HashMod && written.modulus == 0 {
            return Err("hashmod needs a modulus above 0".to_owned());
        }
        if matches!(action, LabelDrop | LabelKeep) && !written.source_labels.is_empty() {
            return Err("labeldrop and labelkeep look at all labels and take only a regex".to_owned());
        }
        Ok(RelabelConfig {
            source_labels: written.source_labels,
            separator: written.separator,
            regex,
            modulus: written.modulus,
            target_label: written.target_label,
            replacement: written.replacement,
            action,
        })
    }
}

impl RelabelConfig {
    /// Returns the rule as JSON, in the words of the configuration.
    pub fn view(&self) -> serde_json::Value {
        let action = format!("{:?}", self.action).to_lowercase();
        let regex = self.regex.as_str();
        let regex = regex
            .strip_prefix("^(?s:")
            .and_then(|regex| regex.strip_suffix(")$"))
            .unwrap_or(regex);
        serde_json::json!({
            "source_labels": self.source_labels,
            "separator": self.separator,
            "regex": regex,
            "modulus": self.modulus,
            "target_label": self.target_label,
            "replacement": self.replacement,
            "action": action,
        })
    }
}

/// Applies the rules in order; `false` when the series or target is dropped.
pub fn relabel(rules: &[RelabelConfig], labels: &mut LabelsBuilder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

impl RelabelConfig {
    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let value = self.source(labels);
        match self.action {
            Action::Keep => return self.regex.is_match(&value),
            Action::Drop => return !self.regex.is_match(&value),
            Action::KeepEqual => return value == labels.get(&self.target_label).unwrap_or(""),
            Action::DropEqual => return value != labels.get(&self.target_label).unwrap_or(""),
            Action::Replace => self.replace(&value, labels),
            Action::Lowercase => drop(labels.set(&self.target_label, &value.to_lowercase())),
            Action::Uppercase => drop(labels.set(&self.target_label, &value.to_uppercase())),
            Action::HashMod => {
                let hash = super::md5::last_eight_bytes(value.as_bytes()) % self.modulus;
                labels.set(&self.target_label, &hash.to_string());
            }
            Action::LabelMap => self.map_names(labels),
            Action::LabelDrop => drop(labels.retain(|name, _| !self.regex.is_match(name))),
            Action::LabelKeep => drop(labels.retain(|name, _| self.regex.is_match(name))),
        }
        true
    }

    fn source(&self, labels: &LabelsBuilder) -> String {
        let values: Vec<&str> = self
            .source_labels
            .iter()
            .map(|name| labels.get(name).unwrap_or(""))
            .collect();
        values.join(&self.separator)
    }

    fn replace(&self, value: &str, labels: &mut LabelsBuilder) {
        let Some(captures) = self.regex.captures(value) else {
            return;
        };
        let (mut target, mut replacement) = (String::new(), String::new());
        captures.expand(&self.target_label, &mut target);
        captures.expand(&self.replacement, &mut replacement);
        if is_valid_label_name(&target) {
            labels.set(&target, &replacement);
        }
    }

    fn map_names(&self, labels: &mut LabelsBuilder) {
        let built = labels.build();
        for (name, value) in built.iter() {
            if let Some(captures) = self.regex.captures(name) {
                let mut mapped = String::new();
                captures.expand(&self.replacement, &mut mapped);
                labels.set(&mapped, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    fn run(yaml: &str, labels: &[(&str, &str)]) -> Option<String> {
        let rules: Vec<RelabelConfig> = serde_yaml::from_str(yaml).unwrap();
        let mut builder = Labels::from_pairs(labels.iter().copied()).to_builder();
        relabel(&rules, &mut builder).then(|| builder.build().to_string())
    }

    #[test]
    fn each_action_does_what_prometheus_does() {
        let labels = &[("a", "foo"), ("b", "bar"), ("c", "baz")];
        for (yaml, expected) in [
            (
                r"[{source_labels: [a], regex: f(.*), target_label: d, replacement: 'ch${1}-ch$1'}]",
                Some(r#"{a="foo", b="bar", c="baz", d="choo-choo"}"#),
            ),
            (
                r"[{source_labels: [a, b], regex: f(.*);(.*)r, target_label: a, replacement: 'b${1}${2}m'}]",
                Some(r#"{a="boobam", b="bar", c="baz"}"#),
            ),
            (r"[{source_labels: [a], regex: .*o.*, action: drop}]", None),
            (
                r"[{source_labels: [a], regex: no-match, action: drop}]",
                Some(r#"{a="foo", b="bar", c="baz"}"#),
            ),
            (
                r"[{source_labels: [a], regex: 'f|o', action: drop}]",
                Some(r#"{a="foo", b="bar", c="baz"}"#),
            ),
            (r"[{source_labels: [a], regex: no-match, action: keep}]", None),
            (
                r"[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]",
                Some(r#"{a="foo", b="bar", c="baz", d="976"}"#),
            ),
            (
                r"[{regex: '(b|c)', replacement: 'x_${1}', action: labelmap}]",
                Some(r#"{a="foo", b="bar", c="baz", x_b="bar", x_c="baz"}"#),
            ),
            (r"[{regex: '[ab]', action: labeldrop}]", Some(r#"{c="baz"}"#)),
            (r"[{regex: '[ab]', action: labelkeep}]", Some(r#"{a="foo", b="bar"}"#)),
            (
                r"[{source_labels: [a], target_label: a, action: uppercase}]",
                Some(r#"{a="FOO", b="bar", c="baz"}"#),
            ),
            (r"[{source_labels: [a], target_label: b, action: keepequal}]", None),
            (
                r"[{source_labels: [a], target_label: b, action: dropequal}]",
                Some(r#"{a="foo", b="bar", c="baz"}"#),
            ),
            (r"[{target_label: a, replacement: ''}]", Some(r#"{b="bar", c="baz"}"#)),
            (
                r"[{source_labels: [a], target_label: '${1}', replacement: x}]",
                Some(r#"{a="foo", b="bar", c="baz", foo="x"}"#),
            ),
        ] {
            assert_eq!(run(yaml, labels).as_deref(), expected, "{yaml}");
        }
    }

    #[test]
    fn a_rule_that_cannot_work_is_refused_when_it_is_read() {
        for (yaml, expected) in [
            ("{action: replace}", "target_label is missing"),
            ("{action: hashmod, target_label: a}", "modulus"),
            ("{regex: '(', target_label: a}", "invalid regex"),
            ("{target_label: 'a b'}", "invalid target_label"),
            ("{target: a}", "unknown field"),
            ("{action: labeldrop, source_labels: [a]}", "all labels"),
        ] {
            let error = serde_yaml::from_str::<RelabelConfig>(yaml).unwrap_err().to_string();
            assert!(error.contains(expected), "{yaml}: {error}");
        }
    }
}
