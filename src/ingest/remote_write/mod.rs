//! Remote write, versions 1.0 and 2.0: what Prometheus and its many relatives push.
//!
//! The decoders read protobuf in place: labels stay raw bytes and are hashed as sent, samples go into columns. Only what
//! is rare (histograms, exemplars, metadata) becomes structs by way of `prost`, which is also the oracle of the tests and
//! the agent's encoder. Arithmetic behind that, per sample at one sample a series: 36 ns snappy, 19 ns decoding, 21 ns
//! hashing; prost with owned strings alone takes 1,480.

mod columns;
mod encode;
mod histogram;
mod v1;
mod v2;

pub use encode::{encode_v1, encode_v1_histograms};
pub use v1::decode as decode_v1;
pub use v2::decode as decode_v2;

use super::DecodeError;

/// The version of the message that a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Version {
    /// Reads the header `Content-Type`.
    ///
    /// # Errors
    /// [`DecodeError::Unsupported`] when it is neither version's.
    pub fn from_content_type(value: Option<&str>) -> Result<Version, DecodeError> {
        let unsupported = || {
            DecodeError::Unsupported(format!(
                "Content-Type {:?} is not spoken here; remote write is application/x-protobuf, with \
                 proto=io.prometheus.write.v2.Request for version 2.0",
                value.unwrap_or("")
            ))
        };
        let mut parts = value.unwrap_or("").split(';').map(str::trim);
        if !parts
            .next()
            .unwrap_or("")
            .eq_ignore_ascii_case("application/x-protobuf")
        {
            return Err(unsupported());
        }
        let mut version = Version::V1;
        for parameter in parts.filter(|part| !part.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or_else(unsupported)?;
            if name.trim().eq_ignore_ascii_case("proto") {
                version = match value.trim().trim_matches('"') {
                    "prometheus.WriteRequest" => Version::V1,
                    "io.prometheus.write.v2.Request" => Version::V2,
                    _ => return Err(unsupported()),
                };
            }
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_chooses_the_version() {
        let read = |text| Version::from_content_type(Some(text));
        assert_eq!(read("application/x-protobuf"), Ok(Version::V1));
        assert_eq!(
            read("application/x-protobuf;proto=prometheus.WriteRequest"),
            Ok(Version::V1)
        );
        assert_eq!(
            read("application/x-protobuf; proto=io.prometheus.write.v2.Request"),
            Ok(Version::V2)
        );
        assert!(read("application/x-protobuf;proto=io.prometheus.write.v3.Request").is_err());
        assert!(read("text/plain").is_err() && Version::from_content_type(None).is_err());
    }
}
