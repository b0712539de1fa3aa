//! Scalars as people write them: a number where a text is meant, a secret in the file or in a file of its own.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::io::disk::Disk;
use crate::io::files;
use crate::model::Secret;

/// A text that may be written without quotes, whatever YAML takes it for: `team: 5` is `"5"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text(pub(crate) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Where a secret comes from. A file is read again for each use, so that a rotated one counts at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// Written in the configuration.
    Inline(Secret),
    /// In a file; white space around it does not count.
    File(PathBuf),
}

impl SecretSource {
    /// Picks one of the two ways of writing it.
    ///
    /// # Errors
    /// When both are given.
    pub(crate) fn pick(
        name: &str,
        inline: Option<Secret>,
        file: Option<PathBuf>,
    ) -> Result<Option<SecretSource>, String> {
        match (inline, file) {
            (Some(_), Some(_)) => Err(format!("at most one of {name} & {name}_file must be configured")),
            (Some(inline), None) => Ok(Some(SecretSource::Inline(inline))),
            (None, Some(file)) => Ok(Some(SecretSource::File(file))),
            (None, None) => Ok(None),
        }
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// A text naming the file that cannot be read.
    pub(crate) fn read(&self, disk: &dyn Disk) -> Result<Secret, String> {
        match self {
            SecretSource::Inline(secret) => Ok(secret.clone()),
            SecretSource::File(path) => files::read_text(disk, path)
                .map(|text| Secret::new(text.trim()))
                .map_err(|error| format!("cannot read {}: {error}", path.display())),
        }
    }

    /// Makes a relative file name relative to `base`.
    pub(crate) fn resolve(&mut self, base: &Path) {
        if let SecretSource::File(path) = self {
            *path = base.join(&*path);
        }
    }
}
