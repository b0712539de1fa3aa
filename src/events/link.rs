//! Signed links: `/c/{ad}?to=…&sig=…` leads only where somebody with the secret said it may.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::EventsConfig;

/// Signs and checks the targets of click links.
#[derive(Clone, Default)]
pub struct Links {
    secret: Option<Hmac<Sha256>>,
}

/// Why a link leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Neither the link nor the configuration says where to.
    #[error("the ad {0:?} has no target: neither events.ads nor a signed parameter \"to\" says one")]
    NoTarget(String),
    /// The signature is not that of this ad and target.
    #[error("the signature of this link is wrong: it leads nowhere")]
    Forged,
    /// The target is no web address.
    #[error("a link leads to an address beginning with http:// or https://")]
    NotWeb,
}

impl Links {
    /// Takes the secret, `None` when only configured targets are led to.
    pub fn new(secret: Option<&str>) -> Links {
        let prepared = |secret: &str| Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
        Links {
            secret: secret.map(prepared),
        }
    }

    /// Returns the signature of a target, 64 hexadecimal digits; `None` without a secret.
    pub fn sign(&self, ad: &str, to: &str) -> Option<String> {
        let tag = self.mac(ad, to)?.finalize().into_bytes();
        Some(tag.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn mac(&self, ad: &str, to: &str) -> Option<Hmac<Sha256>> {
        let mut mac = self.secret.clone()?;
        mac.update(ad.as_bytes());
        mac.update(b"\n");
        mac.update(to.as_bytes());
        Some(mac)
    }

    /// Returns where a link leads: the signed target, or the ad's own.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn target(
        &self,
        config: &EventsConfig,
        ad: &str,
        to: Option<&str>,
        sig: Option<&str>,
    ) -> Result<String, LinkError> {
        let own = config.ads.get(ad).and_then(|known| known.to.as_deref());
        let to = match (to, own) {
            (None, None) => return Err(LinkError::NoTarget(ad.to_owned())),
            (None, Some(own)) => return Ok(own.to_owned()),
            (Some(to), Some(own)) if to == own => return Ok(own.to_owned()),
            (Some(to), _) => to,
        };
        let tag = sig.and_then(bytes_of_hex).ok_or(LinkError::Forged)?;
        let mac = self.mac(ad, to).ok_or(LinkError::Forged)?;
        mac.verify_slice(&tag).map_err(|_| LinkError::Forged)?;
        let is_web = url::Url::parse(to).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        match is_web && to.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(to.to_owned()),
            false => Err(LinkError::NotWeb),
        }
    }
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_only_where_it_was_signed_for() {
        let config: EventsConfig = serde_yaml::from_str("ads: {a: {to: 'https://shop.example/'}}").unwrap();
        let links = Links::new(Some("secret"));
        let sig = links.sign("b", "https://other.example/x").unwrap();
        let target = |ad, to, sig: Option<&str>| links.target(&config, ad, to, sig);
        let other = Some("https://other.example/x");
        assert_eq!(target("a", None, None).unwrap(), "https://shop.example/");
        assert_eq!(
            target("a", Some("https://shop.example/"), None).unwrap(),
            "https://shop.example/"
        );
        assert_eq!(target("b", other, Some(&sig)).unwrap(), "https://other.example/x");
        assert_eq!(target("c", other, Some(&sig)), Err(LinkError::Forged));
        assert_eq!(
            target("b", Some("https://evil.example/"), Some(&sig)),
            Err(LinkError::Forged)
        );
        assert_eq!(target("b", other, None), Err(LinkError::Forged));
        assert_eq!(target("b", other, Some("zz")), Err(LinkError::Forged));
        assert_eq!(target("b", None, None), Err(LinkError::NoTarget("b".to_owned())));
        let script = links.sign("b", "javascript:alert(1)").unwrap();
        assert_eq!(
            target("b", Some("javascript:alert(1)"), Some(&script)),
            Err(LinkError::NotWeb)
        );
        assert_eq!(
            Links::new(None).target(&config, "b", other, Some(&sig)),
            Err(LinkError::Forged)
        );
    }
}
