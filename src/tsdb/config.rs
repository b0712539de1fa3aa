//! What an operator may set about the store: the `storage` section of the configuration.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;

use super::recovery::ReplayProgress;
use crate::model::Interval;

/// Settings of the store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DbConfig {
    /// Where the store lives: a directory of its own, created when there is none. Set by the server.
    #[serde(skip)]
    pub dir: PathBuf,
    /// Older samples are deleted, and refused when they arrive; zero keeps them for ever.
    pub retention: Interval,
    /// The oldest blocks are deleted above this; zero is no limit.
    pub retention_size: ByteSize,
    /// How far behind the newest sample of its series a sample may be.
    pub out_of_order_window: Interval,
    /// When an answer means that the samples are on the disk.
    pub durability: Durability,
    /// The most series that the head holds. Set by the server from its limits.
    #[serde(skip)]
    pub series_max: usize,
    /// The size of a segment of the log, in bytes.
    #[serde(skip)]
    pub segment_bytes: u64,
    /// Free space below which nothing is taken, in bytes; `None` is the larger of 64 MiB and 1 % of the disk.
    #[serde(skip)]
    pub reserve_bytes: Option<u64>,
    /// Sealed chunks of the head that stay in memory, in bytes; older ones go to files.
    #[serde(skip)]
    pub chunk_memory_bytes: usize,
    /// The size of a page of such chunks, in bytes: 1 MiB at most.
    #[serde(skip)]
    pub chunk_page_bytes: usize,
    /// Where opening tells how far it is.
    #[serde(skip)]
    pub progress: Arc<ReplayProgress>,
}

impl Default for DbConfig {
    fn default() -> DbConfig {
        DbConfig {
            dir: PathBuf::from("tsdb"),
            retention: Interval(30 * 86_400_000),
            retention_size: ByteSize(0),
            out_of_order_window: Interval(3_600_000),
            durability: Durability::Fsync,
            series_max: 5_000_000,
            segment_bytes: 64 << 20,
            reserve_bytes: None,
            chunk_memory_bytes: 8 << 20,
            chunk_page_bytes: 1 << 20,
            progress: Arc::default(),
        }
    }
}

/// When an acknowledged sample is safe from a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Before the answer.
    #[default]
    Fsync,
    /// Within a second of it; a crash of the process alone loses nothing.
    Interval,
}

/// A number of bytes, written as a number or as Prometheus writes sizes: `512MB`, `1.5GiB` is refused, units are powers
/// of 1024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Units, longest first, so that `B` does not shadow `KB`.
const UNITS: [(&str, u32); 14] = [
    ("KiB", 10),
    ("MiB", 20),
    ("GiB", 30),
    ("TiB", 40),
    ("PiB", 50),
    ("EiB", 60),
    ("KB", 10),
    ("MB", 20),
    ("GB", 30),
    ("TB", 40),
    ("PB", 50),
    ("EB", 60),
    ("B", 0),
    ("", 0),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ByteSize, String> {
        let found = UNITS.iter().find_map(|(unit, shift)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(1 << shift)
        });
        found
            .map(ByteSize)
            .ok_or_else(|| format!("{text:?} is no size: a whole number with a unit such as 512MB or 20GB is expected"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest = UNITS[6..12]
            .iter()
            .rev()
            .find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift);
        match largest {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(bytes) => Ok(ByteSize(bytes)),
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_reads_as_documented_and_refuses_other_keys() {
        let text = "retention: 15d\nretention_size: 20GB\nout_of_order_window: 30m\ndurability: interval\n";
        let config: DbConfig = serde_yaml::from_str(text).unwrap();
        assert_eq!(
            (config.retention.0, config.retention_size.0),
            (15 * 86_400_000, 20 << 30)
        );
        assert_eq!(
            (config.out_of_order_window.0, config.durability),
            (1_800_000, Durability::Interval)
        );
        let config: DbConfig = serde_yaml::from_str("retention_size: 0").unwrap();
        assert_eq!((config.retention_size.0, config.durability), (0, Durability::Fsync));
        assert!(serde_yaml::from_str::<DbConfig>("retain: 1d").is_err());
        assert!(serde_yaml::from_str::<DbConfig>("dir: /etc").is_err());
    }

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, printed) in [
            ("0", 0, "0B"),
            ("1KB", 1024, "1KB"),
            ("512MiB", 512 << 20, "512MB"),
            ("7B", 7, "7B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, printed));
        }
        assert!("1.5GB".parse::<ByteSize>().is_err() && "99999999EB".parse::<ByteSize>().is_err());
    }
}
