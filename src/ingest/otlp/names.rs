//! OpenTelemetry's names as Prometheus spells them: the four strategies of Prometheus's `otlp.translation_strategy`.

use serde::Deserialize;

use super::reader::Kind;

/// How names become ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TranslationStrategy {
    /// `http.server.duration` in `s` becomes `http_server_duration_seconds`; counters end in `_total`.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// `http.server.duration` becomes `http_server_duration`.
    UnderscoreEscapingWithoutSuffixes,
    /// `http.server.duration` in `s` becomes `http.server.duration_seconds`.
    NoUTF8EscapingWithSuffixes,
    /// Names stay as they are.
    NoTranslation,
}

impl TranslationStrategy {
    fn escapes(self) -> bool {
        matches!(
            self,
            TranslationStrategy::UnderscoreEscapingWithSuffixes
                | TranslationStrategy::UnderscoreEscapingWithoutSuffixes
        )
    }

    /// Returns a metric's name.
    pub(super) fn metric_name(self, name: &str, unit: &str, kind: Kind) -> String {
        match self {
            TranslationStrategy::NoTranslation => name.to_owned(),
            TranslationStrategy::UnderscoreEscapingWithoutSuffixes => not_a_digit_first(tokens(name).join("_")),
            TranslationStrategy::UnderscoreEscapingWithSuffixes => {
                let mut words: Vec<String> = tokens(name).into_iter().map(str::to_owned).collect();
                for suffix in unit_words(unit) {
                    let cleaned = tokens(&suffix).join("_");
                    let there = words.contains(&cleaned) || words.join("_").contains(&format!("_{cleaned}"));
                    if !cleaned.is_empty() && !there {
                        words.push(cleaned);
                    }
                }
                if let Some(last) = kind_suffix(unit, kind) {
                    words.retain(|word| word != last);
                    words.push(last.to_owned());
                }
                not_a_digit_first(words.join("_"))
            }
            TranslationStrategy::NoUTF8EscapingWithSuffixes => {
                let mut whole = name.to_owned();
                let suffixes = unit_words(unit).into_iter();
                for suffix in suffixes.chain(kind_suffix(unit, kind).map(str::to_owned)) {
                    if !whole.ends_with(&suffix) {
                        whole.push('_');
                        whole.push_str(&suffix);
                    }
                }
                whole
            }
        }
    }

    /// Returns a label's name.
    pub(super) fn label_name(self, name: &str) -> String {
        if !self.escapes() {
            return name.to_owned();
        }
        let replace = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
        let escaped: String = name.chars().map(replace).collect();
        match escaped.as_bytes() {
            [b'0'..=b'9', ..] => format!("key_{escaped}"),
            [b'_', second, ..] if *second != b'_' => format!("key{escaped}"),
            _ => escaped,
        }
    }
}

fn tokens(name: &str) -> Vec<&str> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == ':';
    name.split(|c: char| !inside(c))
        .filter(|word| !word.is_empty())
        .collect()
}

fn not_a_digit_first(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("_{name}");
    }
    name
}

fn kind_suffix(unit: &str, kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Counter => Some("total"),
        Kind::Gauge if unit == "1" => Some("ratio"),
        _ => None,
    }
}

/// Returns what a unit adds to a name: `By/s` adds `bytes` and `per_second`.
fn unit_words(unit: &str) -> Vec<String> {
    let (of, per) = match unit.split_once('/') {
        Some((of, per)) => (of.trim(), per.trim()),
        None => (unit.trim(), ""),
    };
    let mut words = Vec::new();
    // `{packets}` is a remark, not a unit.
    if !of.is_empty() && !of.contains(['{', '}']) {
        words.push(main_unit(of).to_owned());
    }
    if !per.is_empty() && !per.contains(['{', '}']) {
        words.push(format!("per_{}", per_unit(per)));
    }
    words.retain(|word| !word.is_empty());
    words
}

fn main_unit(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

fn per_unit(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::TranslationStrategy as Strategy;
    use super::*;

    #[test]
    fn each_strategy_spells_names_as_prometheus_does() {
        let cases = [
            (
                "http.server.duration",
                "s",
                Kind::Histogram,
                "http_server_duration_seconds",
                "http.server.duration_seconds",
            ),
            (
                "system.network.io",
                "By",
                Kind::Counter,
                "system_network_io_bytes_total",
                "system.network.io_bytes_total",
            ),
            ("requests_total", "1", Kind::Counter, "requests_total", "requests_total"),
            (
                "cpu.utilization",
                "1",
                Kind::Gauge,
                "cpu_utilization_ratio",
                "cpu.utilization_ratio",
            ),
            (
                "disk.io",
                "By/s",
                Kind::Gauge,
                "disk_io_bytes_per_second",
                "disk.io_bytes_per_second",
            ),
            ("queue.size", "{packets}", Kind::Gauge, "queue_size", "queue.size"),
            (
                "2xx.answers",
                "",
                Kind::Counter,
                "_2xx_answers_total",
                "2xx.answers_total",
            ),
            (
                "process_cpu_seconds",
                "s",
                Kind::Counter,
                "process_cpu_seconds_total",
                "process_cpu_seconds_total",
            ),
        ];
        for (name, unit, kind, escaped, kept) in cases {
            assert_eq!(
                Strategy::UnderscoreEscapingWithSuffixes.metric_name(name, unit, kind),
                escaped,
                "{name}"
            );
            assert_eq!(
                Strategy::NoUTF8EscapingWithSuffixes.metric_name(name, unit, kind),
                kept,
                "{name}"
            );
            assert_eq!(Strategy::NoTranslation.metric_name(name, unit, kind), name);
        }
        let plain = Strategy::UnderscoreEscapingWithoutSuffixes.metric_name("a.b-c", "s", Kind::Counter);
        assert_eq!(plain, "a_b_c");
    }

    #[test]
    fn label_names_are_escaped_or_kept() {
        for (name, escaped) in [
            ("http.method", "http_method"),
            ("2xx", "key_2xx"),
            ("_own", "key_own"),
            ("__meta", "__meta"),
        ] {
            assert_eq!(Strategy::default().label_name(name), escaped);
            assert_eq!(Strategy::NoTranslation.label_name(name), name);
        }
    }
}
