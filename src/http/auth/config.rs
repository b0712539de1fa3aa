//! The `auth` section: who may do what. Secrets come from files or as hashes, never as literals.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::http::Scope;
use crate::io::disk::Disk;
use crate::io::files;
use crate::model::{Interval, Millis};

/// Who may do what. Without tokens (and without users in `web_config`) everybody who reaches the address may do all.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// The tokens.
    pub tokens: Vec<TokenConfig>,
    /// How long a sign-in of the web pages lasts. Default 7d.
    pub session: Interval,
}

impl Default for AuthConfig {
    fn default() -> AuthConfig {
        AuthConfig {
            tokens: Vec::new(),
            session: Interval::days(7),
        }
    }
}

/// One token, as written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "TokenFields")]
pub struct TokenConfig {
    name: String,
    scopes: Vec<Scope>,
    secret: Source,
    expires: Option<Millis>,
}

#[derive(Clone, Debug, PartialEq)]
enum Source {
    File(PathBuf),
    Sha256([u8; 32]),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFields {
    name: String,
    scopes: Vec<Scope>,
    token_file: Option<PathBuf>,
    sha256: Option<String>,
    token: Option<serde::de::IgnoredAny>,
    expires: Option<String>,
}

impl TryFrom<TokenFields> for TokenConfig {
    type Error = String;

    fn try_from(fields: TokenFields) -> Result<TokenConfig, String> {
        let name = fields.name;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
            return Err(format!(
                "a token's name is of printable ASCII without spaces and colons, not {name:?}"
            ));
        }
        if fields.token.is_some() {
            return Err(format!(
                "token {name:?}: a literal token is refused, since configurations get copied and shown; write token_file, or sha256 of the token"
            ));
        }
        if fields.scopes.is_empty() {
            return Err(format!(
                "token {name:?} has no scopes; give some of {}",
                Scope::NAMES.join(", ")
            ));
        }
        let secret = match (fields.token_file, fields.sha256) {
            (Some(path), None) => Source::File(path),
            (None, Some(text)) => {
                Source::Sha256(digest(&text).ok_or_else(|| format!("token {name:?}: sha256 is 64 hexadecimal digits"))?)
            }
            _ => return Err(format!("token {name:?} needs either token_file or sha256")),
        };
        let expires = match fields.expires {
            None => None,
            Some(text) => {
                let at: jiff::Timestamp = text.parse().map_err(|_| {
                    format!("token {name:?}: expires is a time such as 2027-01-31T00:00:00Z, not {text:?}")
                })?;
                Some(Millis(at.as_millisecond()))
            }
        };
        Ok(TokenConfig {
            name,
            scopes: fields.scopes,
            secret,
            expires,
        })
    }
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// One token, ready to be compared: the token itself is not kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) name: String,
    pub(super) scopes: Vec<Scope>,
    pub(super) sha256: [u8; 32],
    pub(super) expires: Option<Millis>,
}

/// The fewest characters of a token: 16 of base64 are 96 bits.
const TOKEN_BYTES_MIN: usize = 16;

impl AuthConfig {
    /// Paths in a file are relative to the file.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for token in &mut self.tokens {
            if let Source::File(path) = &mut token.secret {
                *path = folder.join(&path);
            }
        }
    }

    /// Returns the tokens' files.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.tokens.iter().filter_map(|token| match &token.secret {
            Source::File(path) => Some(path),
            Source::Sha256(_) => None,
        })
    }

    /// Reads the tokens' files. Blocks.
    ///
    /// # Errors
    /// What is wrong, with the token's name.
    pub(super) fn tokens(&self, disk: &dyn Disk) -> Result<Vec<Token>, String> {
        let mut tokens: Vec<Token> = Vec::new();
        for config in &self.tokens {
            let TokenConfig { name, secret, .. } = config;
            if tokens.iter().any(|token| token.name == *name) {
                return Err(format!("auth: two tokens are named {name:?}"));
            }
            tokens.push(Token {
                sha256: secret
                    .read(disk)
                    .map_err(|error| format!("auth: token {name:?}: {error}"))?,
                name: name.clone(),
                scopes: config.scopes.clone(),
                expires: config.expires,
            });
        }
        Ok(tokens)
    }
}

impl Source {
    fn read(&self, disk: &dyn Disk) -> Result<[u8; 32], String> {
        let path = match self {
            Source::Sha256(digest) => return Ok(*digest),
            Source::File(path) => path,
        };
        let text = files::read_text(disk, path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let token = text.trim();
        if token.len() < TOKEN_BYTES_MIN {
            return Err(format!(
                "{} holds {} characters, a token has at least {TOKEN_BYTES_MIN}; make one with: openssl rand -base64 24",
                path.display(),
                token.len()
            ));
        }
        Ok(Sha256::digest(token).into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::web_config::tests::disk;
    use super::*;

    fn read(yaml: &str) -> Result<AuthConfig, String> {
        serde_yaml::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn tokens_come_from_files_and_hashes() {
        let disk = disk(&[("token", "correct-horse-battery\n")]);
        let mut config = read(
            "tokens:\n- {name: a, scopes: [write, query], token_file: token}\n\
             - {name: b, scopes: [admin], sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad, expires: 2027-01-01T00:00:00Z}",
        )
        .unwrap();
        config.resolve_paths(Path::new("/etc"));
        let tokens = config.tokens(&disk).unwrap();
        let expected: [u8; 32] = Sha256::digest("correct-horse-battery").into();
        assert_eq!(tokens[0].sha256, expected);
        assert_eq!(tokens[0].scopes, [Scope::Write, Scope::Query]);
        let expected: [u8; 32] = Sha256::digest("abc").into();
        assert_eq!(
            (tokens[1].sha256, tokens[1].expires),
            (expected, Some(Millis(1_798_761_600_000)))
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, text) in [
            (
                "tokens: [{name: a, scopes: [query], token: s3cr3t}]",
                "a literal token is refused",
            ),
            ("tokens: [{name: a, scopes: [], sha256: x}]", "has no scopes"),
            ("tokens: [{name: a, scopes: [root], sha256: x}]", "root"),
            ("tokens: [{name: a, scopes: [query]}]", "either token_file or sha256"),
            (
                "tokens: [{name: a, scopes: [query], sha256: abc}]",
                "64 hexadecimal digits",
            ),
            (
                "tokens: [{name: 'a b', scopes: [query], sha256: abc}]",
                "printable ASCII",
            ),
            (
                "tokens: [{name: a, scopes: [query], token_file: x, expires: soon}]",
                "expires is a time",
            ),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(text), "{yaml}: {error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn a_short_token_or_a_missing_file_is_refused() {
        let disk = disk(&[("short", "hunter2")]);
        for (file, text) in [("/etc/short", "at least 16"), ("/etc/none", "cannot read /etc/none")] {
            let config = read(&format!("tokens: [{{name: a, scopes: [query], token_file: {file}}}]")).unwrap();
            let error = config.tokens(&disk).unwrap_err();
            assert!(error.contains(text) && error.contains("\"a\""), "{error}");
        }
    }
}
