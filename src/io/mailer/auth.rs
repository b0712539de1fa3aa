//! SMTP AUTH: which mechanism to use, and the bytes of each.
//!
//! CRAM-MD5 (RFC 2195) wants a secret, LOGIN and PLAIN (RFC 4616) a password. In the order of the server's list, the
//! first mechanism that we have what it needs for is taken, as Alertmanager does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};

use super::MailAuth;

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    /// A digest over the server's challenge.
    CramMd5,
    /// Identity, user and password at once.
    Plain,
    /// User and password, each when asked.
    Login,
}

/// Picks a mechanism from the parameters of the server's `AUTH` line.
///
/// # Errors
/// A text that says what the server offers and what is missing for it.
pub(super) fn choose(offered: &[String], auth: &MailAuth) -> Result<Mechanism, String> {
    for name in offered {
        match name.to_ascii_uppercase().as_str() {
            "CRAM-MD5" if auth.secret.is_some() => return Ok(Mechanism::CramMd5),
            "PLAIN" if auth.password.is_some() => return Ok(Mechanism::Plain),
            "LOGIN" if auth.password.is_some() => return Ok(Mechanism::Login),
            _ => {}
        }
    }
    if offered.is_empty() {
        return Err("the server offers no AUTH, but a user name is configured".to_owned());
    }
    Err(format!(
        "the server offers AUTH {}; CRAM-MD5 needs auth_secret, PLAIN and LOGIN need auth_password",
        offered.join(" ")
    ))
}

/// Returns the initial response of PLAIN.
pub(super) fn plain(auth: &MailAuth) -> String {
    let password = auth.password.as_deref().unwrap_or_default();
    STANDARD.encode(format!("{}\0{}\0{password}", auth.identity, auth.username))
}

/// Answers one prompt of LOGIN, which asks for the user name first and the password second.
///
/// # Errors
/// A text, when the prompt asks for something else: credentials are not given to a server that is not understood.
pub(super) fn login(auth: &MailAuth, prompt_base64: &str) -> Result<String, String> {
    let prompt = STANDARD
        .decode(prompt_base64.trim())
        .map_err(|_| "AUTH LOGIN: the server's prompt is not base64".to_owned())?;
    let prompt = String::from_utf8_lossy(&prompt).to_ascii_lowercase();
    if prompt.starts_with("user") {
        Ok(STANDARD.encode(&auth.username))
    } else if prompt.starts_with("pass") {
        Ok(STANDARD.encode(auth.password.as_deref().unwrap_or_default()))
    } else {
        Err(format!("AUTH LOGIN: unexpected prompt {prompt:?}"))
    }
}

/// Answers the challenge of CRAM-MD5.
///
/// # Errors
/// A text, when the challenge is not base64.
pub(super) fn cram_md5(auth: &MailAuth, challenge_base64: &str) -> Result<String, String> {
    let challenge = STANDARD
        .decode(challenge_base64.trim())
        .map_err(|_| "AUTH CRAM-MD5: the server's challenge is not base64".to_owned())?;
    let secret = auth.secret.as_deref().unwrap_or_default();
    let mut mac = Hmac::<md5::Md5>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(&challenge);
    let digest: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(STANDARD.encode(format!("{} {digest}", auth.username)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tim() -> MailAuth {
        MailAuth {
            username: "tim".to_owned(),
            password: Some("pw".to_owned()),
            secret: Some("tanstaaftanstaaf".to_owned()),
            identity: String::new(),
        }
    }

    #[test]
    fn cram_md5_answers_as_the_example_of_rfc_2195() {
        let challenge = STANDARD.encode("<1896.697170952@postoffice.reston.mci.net>");
        let answer = STANDARD.decode(cram_md5(&tim(), &challenge).unwrap()).unwrap();
        assert_eq!(answer, b"tim b913a602c7eda7a495b4e6e7334d3890");
    }

    #[test]
    fn plain_carries_identity_user_and_password() {
        assert_eq!(STANDARD.decode(plain(&tim())).unwrap(), b"\0tim\0pw");
    }

    #[test]
    fn login_gives_each_prompt_what_it_asks_for_and_nothing_else() {
        let ask = |prompt: &str| login(&tim(), &STANDARD.encode(prompt));
        assert_eq!(ask("Username:").unwrap(), STANDARD.encode("tim"));
        assert_eq!(ask("Password:").unwrap(), STANDARD.encode("pw"));
        assert!(ask("Your bank account:").is_err());
    }

    #[test]
    fn the_first_mechanism_that_we_can_serve_is_taken() {
        let offered: Vec<String> = ["GSSAPI", "LOGIN", "PLAIN"].map(str::to_owned).into();
        assert_eq!(choose(&offered, &tim()), Ok(Mechanism::Login));
        let without = MailAuth {
            password: None,
            ..tim()
        };
        assert!(choose(&offered, &without).unwrap_err().contains("auth_password"));
        assert!(choose(&[], &tim()).is_err());
    }
}
