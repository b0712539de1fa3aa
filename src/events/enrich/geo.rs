//! Countries by address, from a database in MaxMind's format that the operator provides.

use std::net::IpAddr;

use bytes::Bytes;
use maxminddb::{PathElement, Reader};

/// Where the databases known to us keep the two letters.
const PATHS: [&[PathElement<'static>]; 3] = [
    &[PathElement::Key("country"), PathElement::Key("iso_code")],
    &[PathElement::Key("country_code")],
    &[PathElement::Key("country")],
];

/// A database of countries.
pub(in crate::events) struct Countries(Reader<Bytes>);

impl Countries {
    /// Reads a database from its bytes.
    ///
    /// # Errors
    /// When they are none, or broken.
    pub(in crate::events) fn new(bytes: Bytes) -> Result<Countries, String> {
        let reader = Reader::from_source(bytes).map_err(|error| error.to_string())?;
        Ok(Countries(reader))
    }

    /// Returns the country of an address, two capital letters.
    pub(in crate::events) fn country(&self, ip: IpAddr) -> Option<String> {
        let found = self.0.lookup(ip).ok()?;
        let code = |path| found.decode_path::<String>(path).ok().flatten();
        let code = PATHS.into_iter().find_map(code)?;
        let is_code = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_alphabetic());
        is_code.then(|| code.to_ascii_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_database_is_refused() {
        assert!(Countries::new(Bytes::from_static(b"hello")).is_err());
        assert!(Countries::new(Bytes::new()).is_err());
    }
}
