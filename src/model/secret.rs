//! Passwords, tokens and keys: texts that no log, answer or page ever shows.

use std::fmt;

use serde::Deserialize;

/// A text that is never printed, logged or served: `Debug` shows `<secret>`, and there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// Hands the text out, to be sent to where it belongs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Takes what YAML calls a number or a boolean for the text that was written: `password: 12345` is one.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Secret, E> {
                Ok(Secret::new(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Secret, E> {
                Ok(Secret::new(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Secret, E> {
                Ok(Secret::new(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Secret, E> {
                Ok(Secret::new(value.to_string()))
            }
            fn visit_unit<E>(self) -> Result<Secret, E> {
                Ok(Secret::default())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_however_it_is_written_and_never_shown() {
        for (yaml, text) in [("hunter2", "hunter2"), ("12345", "12345"), ("true", "true"), ("~", "")] {
            let secret: Secret = serde_yaml::from_str(yaml).unwrap();
            assert_eq!(secret.expose(), text);
            assert_eq!(format!("{secret:?}"), "<secret>");
        }
    }
}
