//! Finding the place of a value by its path, for mistakes that show only when the whole file has been read.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Returns line and column, from 1, of the value at `path` (`receivers[2].email_configs[0].to`); `None` when the text has
/// no such value.
pub fn locate(text: &str, path: &str) -> Option<(usize, usize)> {
    let steps = steps(path)?;
    // The walk ends in an error at the value, and the parser knows where it was.
    let error = At(&steps).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    let at = error.location().filter(|_| error.to_string().contains(FOUND))?;
    Some((at.line(), at.column()))
}

/// Returns the place that a mistake in the value at `path` is about: the text that explains it leads with a path of its own,
/// or speaks of a key that is there. Failing that, the value itself, or the nearest one around it.
pub fn locate_mistake(text: &str, path: &str, reason: &str) -> Option<(usize, usize)> {
    let mut path = path.to_owned();
    let mut rest = reason;
    while let Some((lead, behind)) = rest.split_once(": ") {
        // A path from here or from the top; a name that leads on the way is passed over.
        let deeper = [join(&path, lead), lead.to_owned()];
        match deeper.into_iter().find(|deeper| locate(text, deeper).is_some()) {
            Some(deeper) => path = deeper,
            None if lead.ends_with('"') => {}
            None => break,
        }
        rest = behind;
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = rest.split(|c| !is_word(c)).filter(|word| word.len() > 1);
    let spoken_of = words
        .filter_map(|word| locate(text, &join(&path, word)))
        .next()
        .filter(|_| !path.is_empty());
    spoken_of.or_else(|| around(text, &path))
}

/// The value at `path`, or the nearest one around it that is there.
fn around(text: &str, path: &str) -> Option<(usize, usize)> {
    let mut path = path;
    while !path.is_empty() {
        if let Some(place) = locate(text, path) {
            return Some(place);
        }
        path = &path[..path.rfind(['.', '[']).unwrap_or(0)];
    }
    None
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

enum Step {
    Key(String),
    Index(usize),
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (key, indices) = part.split_once('[').map_or((part, ""), |(key, rest)| (key, rest));
        if key.is_empty() || (part.contains('[') && !part.ends_with(']')) {
            return None;
        }
        steps.push(Step::Key(key.to_owned()));
        for index in indices.split('[').filter(|index| !index.is_empty()) {
            steps.push(Step::Index(index.strip_suffix(']')?.parse().ok()?));
        }
    }
    Some(steps)
}

/// What the error says that is none.
const FOUND: &str = "found: this is the place";

struct At<'p>(&'p [Step]);

impl At<'_> {
    /// A value without parts: it is the one, or there is none.
    fn leaf<E: Error>(&self) -> Result<(), E> {
        if self.0.is_empty() {
            Err(E::custom(FOUND))
        } else {
            Ok(())
        }
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, deeper)) = self.0.split_first() else {
            return self.leaf();
        };
        while let Some(key) = map.next_key::<serde_yaml::Value>()? {
            match step {
                Step::Key(wanted) if key.as_str() == Some(wanted) => map.next_value_seed(At(deeper))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((step, deeper)) = self.0.split_first() else {
            return self.leaf();
        };
        for index in 0.. {
            let is_it = matches!(step, Step::Index(wanted) if *wanted == index);
            let more = if is_it {
                seq.next_element_seed(At(deeper))?.is_some()
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.leaf()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.leaf()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.leaf()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.leaf()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.leaf()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.leaf()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a: 1\nlist:\n- name: x\n  to: [p, q]\n- name: y\n  deep: {of: {it: yes}}\n";

    #[test]
    fn a_value_is_found_by_its_path() {
        for (path, place) in [
            ("a", Some((1, 4))),
            ("list[0].name", Some((3, 9))),
            ("list[0].to[1]", Some((4, 11))),
            ("list[1]", Some((5, 3))),
            ("list[1].deep.of.it", Some((6, 19))),
            ("list[2]", None),
            ("a.b", None),
            ("b", None),
            ("", None),
            ("list[", None),
        ] {
            assert_eq!(locate(TEXT, path), place, "{path}");
        }
    }

    #[test]
    fn a_mistake_is_where_its_words_lead() {
        for (path, reason, place) in [
            ("list[1]", "deep.of: it cannot be so", Some((6, 19))),
            ("list[1]", "entry \"y\": deep: no", Some((6, 9))),
            ("list", "list[0].to: no", Some((4, 7))),
            ("list[1]", "it needs a name", Some((5, 9))),
            ("list[0].to[7]", "there is no such thing", Some((4, 7))),
            ("list[0]", "nothing of this is there", Some((3, 3))),
            ("nowhere", "at all", None),
        ] {
            assert_eq!(locate_mistake(TEXT, path, reason), place, "{path}: {reason}");
        }
    }
}
