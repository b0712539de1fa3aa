//! Sessions of the web pages: a signed cookie that names who signed in and until when.
//!
//! Nothing is stored: the signature covers the credential that was shown, so that a session ends when its token or password
//! is changed or removed. The key is made at the start: a restart signs everybody out.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::io::Random;
use crate::model::Millis;

/// The cookie's name.
pub(super) const COOKIE: &str = "campanile_session";

/// How somebody showed who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// By a token of `auth`.
    Token,
    /// By name and password of `web_config`.
    User,
}

/// Who signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) until: Millis,
}

/// Signs sessions and knows its own signatures.
pub(super) struct Sessions {
    key: [u8; 32],
}

impl Sessions {
    pub(super) fn new(random: &dyn Random) -> Sessions {
        let mut key = [0; 32];
        random.fill(&mut key);
        Sessions { key }
    }

    /// Returns the cookie's value. `credential` is what the server knows of the token or password: its hash.
    pub(super) fn sign(&self, session: &Session, credential: &[u8]) -> String {
        let text = text(session);
        let mac = self.mac(&text, credential).finalize().into_bytes();
        format!("{}.{}", URL_SAFE_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(mac))
    }

    /// Returns the session of a cookie that has not ended; `credential` gives the hash that the server knows now for
    /// somebody, `None` when there is nobody of that name any more.
    pub(super) fn check<'a>(
        &self,
        cookie: &str,
        now: Millis,
        credential: impl Fn(&Session) -> Option<&'a [u8]>,
    ) -> Option<Session> {
        let (encoded, mac) = cookie.split_once('.')?;
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
        let session = parse(&text)?;
        let known = credential(&session)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        self.mac(&text, known).verify_slice(&mac).ok()?;
        (now < session.until).then_some(session)
    }

    fn mac(&self, text: &str, credential: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(&(text.len() as u64).to_le_bytes());
        mac.update(text.as_bytes());
        mac.update(credential);
        mac
    }
}

fn text(session: &Session) -> String {
    let kind = match session.kind {
        Kind::Token => "token",
        Kind::User => "user",
    };
    format!("{kind} {} {}", session.until.0, session.name)
}

fn parse(text: &str) -> Option<Session> {
    let mut parts = text.splitn(3, ' ');
    let kind = match parts.next()? {
        "token" => Kind::Token,
        "user" => Kind::User,
        _ => return None,
    };
    let until = Millis(parts.next()?.parse().ok()?);
    let name = parts.next()?.to_owned();
    Some(Session { kind, name, until })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::io::SeededRandom;

    fn session(until: i64) -> Session {
        Session {
            kind: Kind::Token,
            name: "on call".to_owned(),
            until: Millis(until),
        }
    }

    #[test]
    fn a_session_lasts_until_its_end_or_until_its_credential_changes() {
        let sessions = Sessions::new(&SeededRandom::new(1));
        let cookie = sessions.sign(&session(1000), b"hash");
        let check = |now, known: Option<&'static [u8]>| sessions.check(&cookie, Millis(now), |_| known).is_some();
        assert!(check(999, Some(b"hash")));
        assert!(!check(1000, Some(b"hash")), "it has ended");
        assert!(!check(0, Some(b"other")), "the token was changed");
        assert!(!check(0, None), "the token was removed");
        let others = Sessions::new(&SeededRandom::new(2));
        assert_eq!(others.check(&cookie, Millis(0), |_| Some(b"hash".as_slice())), None);
    }

    proptest! {
        #[test]
        fn nothing_but_a_signed_cookie_is_a_session(cookie in "\\PC{0,80}", flip in 0_usize..100, bit in 0_u8..7) {
            let sessions = Sessions::new(&SeededRandom::new(1));
            prop_assert_eq!(sessions.check(&cookie, Millis(0), |_| Some(b"hash".as_slice())), None);
            let good = sessions.sign(&session(1000), b"hash");
            let mut bytes = good.clone().into_bytes();
            let at = flip % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(bad) = String::from_utf8(bytes) {
                prop_assert_eq!(sessions.check(&bad, Millis(0), |_| Some(b"hash".as_slice())), None);
            }
        }
    }
}
