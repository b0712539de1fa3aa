//! Label sets: the identity of a series.
//!
//! One allocation holds a whole set: each name and value is preceded by its length in ASCII, six bits to a byte, so that
//! the buffer is one valid `str` and slicing it needs no unsafe code. Cloning is a reference count. Names are sorted
//! and occur once; an empty value is the same as no label and is left out (Prometheus's data model).

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A sorted set of label names with their values. Cheap to clone, compare and hash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels {
    text: Arc<str>,
}

impl Labels {
    /// The empty set.
    pub fn empty() -> Labels {
        Labels { text: Arc::from("") }
    }

    /// Builds a set from pairs in any order; of a name given twice, the last value counts.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Builds a set from pairs that are already sorted by name, unique, and have no empty value.
    ///
    /// # Panics
    /// In debug builds, when they are not.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut text = String::with_capacity(128);
        let mut last: Option<&str> = None;
        for (name, value) in pairs {
            debug_assert!(
                last.is_none_or(|last| last < name),
                "label names out of order: {last:?}, {name:?}"
            );
            debug_assert!(!value.is_empty(), "empty value for label {name:?}");
            last = Some(name);
            push_field(&mut text, name);
            push_field(&mut text, value);
        }
        Labels { text: Arc::from(text) }
    }

    /// Iterates over names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        Iter { rest: &self.text }
    }

    /// Returns the value of `name`, if it has one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Returns the value of `name`, empty when it has none: how matchers and joins see a missing label.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// Returns the metric name, if there is one.
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// Returns how many labels there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Returns the bytes that stand for this set: equal for equal sets, and decoded by [`Labels::from_encoded`].
    pub fn as_encoded(&self) -> &str {
        &self.text
    }

    /// Reads what [`Labels::as_encoded`] gave; `None` when the text is not a well-formed set (sorted, unique, no empty value).
    pub fn from_encoded(text: &str) -> Option<Labels> {
        let mut rest = text;
        let mut last: Option<&str> = None;
        while !rest.is_empty() {
            let (name, after) = take_field(rest)?;
            let (value, after) = take_field(after)?;
            if value.is_empty() || last.is_some_and(|last| last >= name) {
                return None;
            }
            last = Some(name);
            rest = after;
        }
        Some(Labels { text: Arc::from(text) })
    }

    /// Returns a builder that starts from this set.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder {
            pairs: self
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    /// Returns the set without the metric name.
    #[must_use]
    pub fn without_metric_name(&self) -> Labels {
        self.filtered(|name| name != METRIC_NAME)
    }

    /// Returns the labels whose name `keep` accepts.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Labels {
        Labels::from_sorted(self.iter().filter(|(name, _)| keep(name)))
    }

    /// Returns a 128-bit hash of the set under `seed`: a shortcut for identity, never identity itself.
    pub fn hash128(&self, seed: u64) -> u128 {
        xxhash_rust::xxh3::xxh3_128_with_seed(self.text.as_bytes(), seed)
    }
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::empty()
    }
}

impl Ord for Labels {
    /// Label by label: by name, then by value; a prefix comes first (Prometheus's `labels.Compare`).
    fn cmp(&self, other: &Labels) -> Ordering {
        if Arc::ptr_eq(&self.text, &other.text) || self.text == other.text {
            return Ordering::Equal;
        }
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Labels {
    /// As the query language writes it: `name{a="b", c="d"}`; names that need quotes get them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metric = self.metric_name();
        let bare = metric.is_some_and(is_valid_metric_name);
        if let (Some(name), true) = (metric, bare) {
            f.write_str(name)?;
        }
        let mut rest = self
            .iter()
            .filter(|(name, _)| !(bare && *name == METRIC_NAME))
            .peekable();
        if rest.peek().is_none() && bare {
            return Ok(());
        }
        f.write_str("{")?;
        for (i, (name, value)) in rest.enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if name == METRIC_NAME {
                write!(f, "{value:?}")?;
            } else if is_valid_label_name(name) {
                write!(f, "{name}={value:?}")?;
            } else {
                write!(f, "{name:?}={value:?}")?;
            }
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> serde::Deserialize<'de> for Labels {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = std::collections::BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(Labels::from_pairs(pairs))
    }
}

/// A label set under construction: set, delete, build.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    /// Sorted by name, unique.
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Sets `name` to `value`; an empty value deletes the label.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.binary_search_by(|(found, _)| found.as_str().cmp(name)) {
            Ok(at) if value.is_empty() => {
                self.pairs.remove(at);
            }
            Ok(at) => value.clone_into(&mut self.pairs[at].1),
            Err(_) if value.is_empty() => {}
            Err(at) => self.pairs.insert(at, (name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Deletes `name`.
    pub fn del(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    /// Returns the present value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self
            .pairs
            .binary_search_by(|(found, _)| found.as_str().cmp(name))
            .ok()?;
        Some(&self.pairs[at].1)
    }

    /// Keeps the labels that `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.pairs.retain(|(name, value)| keep(name, value));
        self
    }

    /// Builds the set.
    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

/// Whether `name` may stand without quotes as a label name: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_valid_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether `name` may stand without quotes as a metric name: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_valid_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

#[derive(Clone)]
struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (name, rest) = take_field(self.rest)?;
        let (value, rest) = take_field(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// Bit 6 of a length byte says that another follows; bits 0 to 5 carry the length, lowest first.
const MORE: u8 = 0x40;

fn push_field(out: &mut String, field: &str) {
    let mut length = field.len();
    while length >= 0x40 {
        out.push(char::from((length & 0x3f) as u8 | MORE));
        length >>= 6;
    }
    out.push(char::from(length as u8));
    out.push_str(field);
}

fn take_field(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let mut length = 0usize;
    let mut at = 0;
    loop {
        let byte = *bytes.get(at)?;
        if byte >= 0x80 || at > 5 {
            return None;
        }
        length |= usize::from(byte & 0x3f) << (6 * at);
        at += 1;
        if byte & MORE == 0 {
            break;
        }
    }
    let end = at.checked_add(length)?;
    Some((text.get(at..end)?, text.get(end..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_set_is_sorted_and_drops_empty_values() {
        let labels = Labels::from_pairs([("job", "api"), ("__name__", "up"), ("zone", ""), ("instance", "a:1")]);
        assert_eq!(labels.to_string(), r#"up{instance="a:1", job="api"}"#);
        assert_eq!((labels.get("zone"), labels.value("zone"), labels.len()), (None, "", 3));
    }

    #[test]
    fn names_that_need_quotes_get_them() {
        let labels = Labels::from_pairs([("__name__", "http.requests"), ("a.b", "c")]);
        assert_eq!(labels.to_string(), r#"{"http.requests", "a.b"="c"}"#);
    }

    #[test]
    fn sets_order_by_name_then_value() {
        let a = Labels::from_pairs([("a", "1"), ("c", "1")]);
        let b = Labels::from_pairs([("a", "1"), ("b", "2")]);
        assert!(b < a && Labels::empty() < b);
    }

    proptest! {
        #[test]
        fn every_set_reads_back_what_went_in(pairs in proptest::collection::btree_map(".{0,80}", ".{1,200}", 0..12)) {
            let labels = Labels::from_pairs(&pairs);
            let read: std::collections::BTreeMap<String, String> =
                labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(&read, &pairs);
            prop_assert_eq!(Labels::from_encoded(labels.as_encoded()), Some(labels));
        }

        #[test]
        fn foreign_text_is_refused_or_well_formed(text in ".{0,60}") {
            if let Some(labels) = Labels::from_encoded(&text) {
                prop_assert_eq!(Labels::from_pairs(labels.iter()), labels.clone());
            }
        }
    }
}
