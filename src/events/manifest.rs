//! The manifest: which files count, up to where the log is in them, and what else one moment's state is.
//!
//! ```text
//! manifest/{number, 20 digits}.json = JSON | "\n" | crc32c of it, 8 hex digits | "\n"
//! ```
//! Manifests are numbered and created whole, never changed; the newest that can be read counts. Two are kept, with all files
//! that either of them names and the log from the older one's position on, so that the newest may rot without harm.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::record::Counted;
use super::{RawFile, SHARDS};
use crate::io::{ObjectError, ObjectStore};
use crate::model::Millis;

const FOLDER: &str = "manifest";
/// Manifests that are kept.
const KEPT: usize = 2;
/// The format of files and manifest together.
const FORMAT: u32 = 1;

/// How long a cell's bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grain {
    /// A minute; a file holds an hour of them.
    Minute,
    /// An hour; a file holds a day of them (UTC).
    Hour,
    /// A day (UTC); a file holds one.
    Day,
}

impl Grain {
    /// All, the finest first.
    pub const ALL: [Grain; 3] = [Grain::Minute, Grain::Hour, Grain::Day];

    /// Returns the minutes of a bucket.
    pub fn minutes(self) -> i64 {
        match self {
            Grain::Minute => 1,
            Grain::Hour => 60,
            Grain::Day => 1440,
        }
    }

    /// Returns the minutes that one file holds.
    pub(crate) fn file_minutes(self) -> i64 {
        match self {
            Grain::Minute => 60,
            Grain::Hour | Grain::Day => 1440,
        }
    }

    pub(crate) fn folder(self) -> &'static str {
        match self {
            Grain::Minute => "cells/minute",
            Grain::Hour => "cells/hour",
            Grain::Day => "cells/day",
        }
    }
}

/// A file of cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CellFile {
    pub(crate) name: String,
    pub(crate) grain: Grain,
    /// The first minute that it may hold; how many follows from the grain.
    pub(crate) start: i64,
    pub(crate) bytes: u64,
}

/// A file of ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdEntry {
    pub(crate) name: String,
    pub(crate) hour: i64,
    pub(crate) count: u64,
    /// When its newest id was received, about: a clock that is years behind stamps ids with old hours.
    pub(crate) newest: Millis,
}

/// A file of answers to requests with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnswerEntry {
    pub(crate) name: String,
    pub(crate) newest: Millis,
}

/// A file that can no longer be read: what it held may be missing from answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The file.
    pub name: String,
    /// Why.
    pub reason: String,
    /// The first minute that it may have held.
    pub start: Millis,
    /// The end of what it may have held.
    pub end: Millis,
}

/// One moment's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    /// Rises with every change.
    pub(crate) number: u64,
    /// Names of files end in a number below this.
    pub(crate) next_file: u64,
    /// Log records before this are in cells, ids and answers.
    pub(crate) position: u64,
    /// Log records before this are in raw files.
    pub(crate) raw_position: u64,
    /// How far each shard had come.
    pub(crate) shards: Vec<i64>,
    /// What readers were told to be closed, in milliseconds.
    pub(crate) closed: i64,
    /// Everything ever counted.
    pub(crate) counted: Counted,
    pub(crate) late: u64,
    pub(crate) cells: Vec<CellFile>,
    pub(crate) ids: Vec<IdEntry>,
    pub(crate) answers: Vec<AnswerEntry>,
    pub(crate) raw: Vec<RawFile>,
    /// For each grain, the minutes before this are gone by retention.
    pub(crate) kept_from: BTreeMap<Grain, i64>,
    /// Ranges of minutes that were reconciled, half open.
    pub(crate) reconciled: Vec<(i64, i64)>,
    pub(crate) lost: Vec<Lost>,
    /// What recalculations, erasures and the like remember, by their own names.
    pub(crate) notes: BTreeMap<String, serde_json::Value>,
}

impl Default for Manifest {
    fn default() -> Manifest {
        Manifest {
            format: FORMAT,
            number: 0,
            next_file: 0,
            position: 0,
            raw_position: 0,
            shards: vec![i64::MIN; SHARDS],
            closed: i64::MIN,
            counted: Counted::default(),
            late: 0,
            cells: Vec::new(),
            ids: Vec::new(),
            answers: Vec::new(),
            raw: Vec::new(),
            kept_from: BTreeMap::new(),
            reconciled: Vec::new(),
            lost: Vec::new(),
            notes: BTreeMap::new(),
        }
    }
}

impl Manifest {
    /// Returns the names of all files that it names.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        let cells = self.cells.iter().map(|file| file.name.as_str());
        let ids = self.ids.iter().map(|file| file.name.as_str());
        let answers = self.answers.iter().map(|file| file.name.as_str());
        let raw = self.raw.iter().map(|file| file.name.as_str());
        cells.chain(ids).chain(answers).chain(raw).collect()
    }

    /// Returns the position from which the log is still needed.
    pub(crate) fn log_from(&self) -> u64 {
        self.position.min(self.raw_position)
    }

    fn encode(&self) -> Bytes {
        let mut text = serde_json::to_string(self).expect("names and numbers are always JSON");
        let crc = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("\n{crc:08x}\n"));
        text.into()
    }

    fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let (json, crc) = text.trim_end().rsplit_once('\n').ok_or("cut")?;
        if format!("{:08x}", crc32c::crc32c(json.as_bytes())) != crc {
            return Err("it fails its checksum".to_owned());
        }
        let manifest: Manifest = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!("format {}, this program reads {FORMAT}", manifest.format));
        }
        Ok(manifest)
    }

    fn name(number: u64) -> String {
        format!("{FOLDER}/{number:020}.json")
    }

    /// Creates the manifest: the moment a change happens.
    ///
    /// # Errors
    /// [`ObjectError`]; the change may have happened all the same.
    pub(crate) fn publish(&self, objects: &dyn ObjectStore) -> Result<(), ObjectError> {
        objects.create(&Manifest::name(self.number), &self.encode())
    }
}

/// What a folder of manifests holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Readable ones, the newest first, at most [`KEPT`].
    pub(crate) kept: Vec<Manifest>,
    /// Names of ones that cannot be read, with the reason.
    pub(crate) unreadable: Vec<(String, String)>,
    /// The highest number in use.
    pub(crate) highest: u64,
    /// Names of ones that nobody needs.
    pub(crate) surplus: Vec<String>,
}

/// Reads the manifests.
///
/// # Errors
/// [`ObjectError`] when the folder cannot be read.
pub(crate) fn find(objects: &dyn ObjectStore) -> Result<Found, ObjectError> {
    let mut found = Found::default();
    let listed = objects.list(&format!("{FOLDER}/"), usize::MAX)?;
    let listed = listed.into_iter().take_while(|object| object.name.starts_with(FOLDER));
    let listed: Vec<_> = listed.collect();
    for object in listed.iter().rev() {
        let digits = object
            .name
            .strip_prefix(FOLDER)
            .and_then(|name| name.strip_suffix(".json"));
        let Some(number) = digits.and_then(|digits| digits.trim_start_matches('/').parse::<u64>().ok()) else {
            continue;
        };
        found.highest = found.highest.max(number);
        if found.kept.len() == KEPT {
            found.surplus.push(object.name.clone());
            continue;
        }
        match Manifest::decode(&objects.read(&object.name, 0, object.len)?) {
            Ok(manifest) => found.kept.push(manifest),
            Err(reason) => found.unreadable.push((object.name.clone(), reason)),
        }
    }
    Ok(found)
}

/// Removes manifests that are no longer among the newest.
///
/// # Errors
/// [`ObjectError`].
pub(crate) fn remove_old(objects: &dyn ObjectStore, newest: u64) -> Result<(), ObjectError> {
    match newest.checked_sub(KEPT as u64) {
        Some(old) => objects.delete(&Manifest::name(old)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::DirStore;
    use crate::io::disk::SimDisk;
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn the_newest_readable_manifest_counts_and_two_are_kept() {
        let disk = SimDisk::seeded(1);
        let objects = DirStore::open(Arc::new(disk.clone()), Path::new("/events")).unwrap();
        for number in 1..=4 {
            let manifest = Manifest {
                number,
                position: number * 10,
                ..Manifest::default()
            };
            manifest.publish(&objects).unwrap();
            remove_old(&objects, number).unwrap();
        }
        let found = find(&objects).unwrap();
        let numbers: Vec<u64> = found.kept.iter().map(|manifest| manifest.number).collect();
        assert_eq!((numbers, found.highest, found.surplus.len()), (vec![4, 3], 4, 0));
        let newest = Path::new("/events").join(Manifest::name(4));
        disk.flip_bit(&newest, 20, 1).unwrap();
        let found = find(&objects).unwrap();
        assert_eq!((found.kept[0].position, found.highest), (30, 4));
        assert!(found.unreadable[0].1.contains("checksum"), "{:?}", found.unreadable);
    }

    #[test]
    fn every_prefix_and_every_flipped_bit_is_an_error_or_the_same() {
        let manifest = Manifest {
            shards: vec![0],
            ..Manifest::default()
        };
        let bytes = manifest.encode();
        for length in 0..bytes.len() - 1 {
            assert!(Manifest::decode(&bytes[..length]).is_err(), "{length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let decoded = Manifest::decode(&flipped);
            assert!(decoded.is_err() || decoded.as_ref() == Ok(&manifest), "{bit}");
        }
    }
}
