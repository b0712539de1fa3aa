//! Content encodings, undone within a bound.
//!
//! A length that the body declares is compared with the limit before anything is reserved; formats without one (gzip,
//! zstd) are read through a counter. So a small body cannot ask for much memory.

use std::io::Read;

use bytes::Bytes;

use super::DecodeError;

/// A value of the header `Content-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// Snappy's block format.
    Snappy,
    /// Zstandard frames.
    Zstd,
    /// Gzip members.
    Gzip,
    /// A zlib stream (HTTP's `deflate`).
    Deflate,
}

impl Encoding {
    /// Reads the header's value; an absent or empty one is [`Encoding::Identity`].
    ///
    /// # Errors
    /// [`DecodeError::Unsupported`] for anything else.
    pub fn from_header(value: Option<&str>) -> Result<Encoding, DecodeError> {
        match value.unwrap_or("").trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Encoding::Identity),
            "snappy" => Ok(Encoding::Snappy),
            "zstd" => Ok(Encoding::Zstd),
            "gzip" | "x-gzip" => Ok(Encoding::Gzip),
            "deflate" => Ok(Encoding::Deflate),
            other => Err(DecodeError::Unsupported(format!(
                "Content-Encoding {other:?} is not spoken here; use snappy, zstd, gzip or deflate"
            ))),
        }
    }
}

/// Undoes `encoding`; the result has at most `bytes_max` bytes. Identity copies nothing.
///
/// # Errors
/// [`DecodeError::Malformed`] for broken bytes, [`DecodeError::TooLarge`] beyond `bytes_max`.
pub fn decompress(encoding: Encoding, body: Bytes, bytes_max: usize) -> Result<Bytes, DecodeError> {
    match encoding {
        Encoding::Identity if body.len() > bytes_max => Err(too_large(bytes_max, body.len())),
        Encoding::Identity => Ok(body),
        Encoding::Snappy => snappy(&body, bytes_max),
        Encoding::Zstd => {
            let reader = zstd::stream::read::Decoder::with_buffer(body.as_ref()).map_err(|e| broken("zstd", &e))?;
            bounded("zstd", reader, bytes_max)
        }
        Encoding::Gzip => bounded("gzip", flate2::bufread::MultiGzDecoder::new(body.as_ref()), bytes_max),
        Encoding::Deflate => bounded("deflate", flate2::bufread::ZlibDecoder::new(body.as_ref()), bytes_max),
    }
}

fn snappy(body: &[u8], bytes_max: usize) -> Result<Bytes, DecodeError> {
    let claimed = snap::raw::decompress_len(body).map_err(|e| broken("snappy", &e))?;
    if claimed > bytes_max {
        return Err(too_large(bytes_max, format_args!("the body declares {claimed}")));
    }
    // The densest element gives 64 bytes for 3: a claim beyond that is a lie, and reserves nothing.
    if claimed / 24 > body.len() {
        return Err(DecodeError::Malformed(format!(
            "malformed snappy body: it declares {claimed} bytes, which {} bytes cannot hold",
            body.len()
        )));
    }
    let mut decoder = snap::raw::Decoder::new();
    let decoded = decoder.decompress_vec(body).map_err(|e| broken("snappy", &e))?;
    Ok(Bytes::from(decoded))
}

fn bounded(name: &str, reader: impl Read, bytes_max: usize) -> Result<Bytes, DecodeError> {
    let mut decoded = Vec::new();
    reader
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut decoded)
        .map_err(|e| broken(name, &e))?;
    if decoded.len() > bytes_max {
        return Err(too_large(bytes_max, "the body expands beyond it"));
    }
    Ok(Bytes::from(decoded))
}

fn broken(name: &str, error: &dyn std::fmt::Display) -> DecodeError {
    DecodeError::Malformed(format!("malformed {name} body: {error}"))
}

fn too_large(bytes_max: usize, sent: impl std::fmt::Display) -> DecodeError {
    DecodeError::over("decoded_bytes_max", bytes_max, sent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    const ALL: [Encoding; 5] = [
        Encoding::Identity,
        Encoding::Snappy,
        Encoding::Zstd,
        Encoding::Gzip,
        Encoding::Deflate,
    ];

    fn compress(encoding: Encoding, plain: &[u8]) -> Bytes {
        let level = flate2::Compression::fast();
        Bytes::from(match encoding {
            Encoding::Identity => plain.to_vec(),
            Encoding::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
            Encoding::Zstd => zstd::encode_all(plain, 1).unwrap(),
            Encoding::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), level);
                writer.write_all(plain).unwrap();
                writer.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), level);
                writer.write_all(plain).unwrap();
                writer.finish().unwrap()
            }
        })
    }

    #[test]
    fn a_small_body_cannot_ask_for_much_memory() {
        // 46 bytes that claim 2.6 GiB, as the fault kit sends them.
        let mut claim = vec![0x80, 0x80, 0x80, 0x98, 0x0a];
        claim.extend([0xfc; 41]);
        let error = decompress(Encoding::Snappy, Bytes::from(claim), 32 << 20).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { .. }), "{error}");
        let lie = Bytes::from_static(&[0x80, 0x80, 0x80, 0x04, 0x00]);
        let error = decompress(Encoding::Snappy, lie, 32 << 20).unwrap_err();
        assert!(error.to_string().contains("cannot hold"), "{error}");
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeroes = vec![0u8; 1 << 20];
        for encoding in ALL {
            let bomb = compress(encoding, &zeroes);
            let error = decompress(encoding, bomb.clone(), (1 << 20) - 1).unwrap_err();
            assert!(matches!(error, DecodeError::TooLarge { .. }), "{encoding:?}: {error}");
            assert_eq!(decompress(encoding, bomb, 1 << 20).unwrap().len(), 1 << 20);
        }
    }

    #[test]
    fn an_unknown_encoding_is_named() {
        let error = Encoding::from_header(Some("br")).unwrap_err();
        assert!(error.to_string().contains("\"br\""), "{error}");
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(plain in proptest::collection::vec(any::<u8>(), 0..2000)) {
            for encoding in ALL {
                let body = compress(encoding, &plain);
                prop_assert_eq!(&decompress(encoding, body, 2000).unwrap()[..], &plain[..]);
            }
        }

        #[test]
        fn every_prefix_of_a_snappy_body_is_refused(plain in proptest::collection::vec(any::<u8>(), 1..300)) {
            let body = compress(Encoding::Snappy, &plain);
            for cut in 0..body.len() {
                prop_assert!(decompress(Encoding::Snappy, body.slice(..cut), 1000).is_err());
            }
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for encoding in ALL {
                let _ = decompress(encoding, Bytes::from(bytes.clone()), 1 << 16);
            }
        }
    }
}
