//! Raw events as hourly Parquet files: what recalculation, proof and everybody else's tools read.
//!
//! ```text
//! raw/dt=2026-11-22/hour=07/{from}-{to}-{crc}.parquet     events of one hour from log records [from, to)
//! ```
//! `docs/events.md` describes the columns. The last part of the name is the checksum of the file's footer, and the footer
//! holds one for every 64 KiB of the rest: a flipped bit is an error that names the file, whoever's library wrote the
//! pages. Files are never changed; a compaction or a recalculation writes others, and the manifest says which count.

mod blocks;
mod read;
mod schema;
mod write;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Event, RawError, RawFile, RawQuestion, RawStore};
use crate::io::ObjectError;
use crate::io::ObjectStore;
use crate::model::Millis;

pub use schema::{Column, columns};

/// Milliseconds in an hour.
const HOUR: i64 = 3_600_000;

/// Raw events in Parquet on an object store.
pub struct ParquetStore {
    objects: Arc<dyn ObjectStore>,
    /// The most bytes that one scan may read.
    scan_bytes_max: u64,
}

impl ParquetStore {
    /// Keeps files in `objects`, below `raw/`.
    pub fn new(objects: Arc<dyn ObjectStore>, scan_bytes_max: u64) -> ParquetStore {
        ParquetStore {
            objects,
            scan_bytes_max,
        }
    }

    /// Joins files of one hour into one, durably. The manifest then names the result instead of them.
    ///
    /// # Errors
    /// [`RawError`]; the files stay as they are.
    ///
    /// # Panics
    /// When the files are of several hours or there are none.
    pub fn compact(&self, files: &[RawFile]) -> Result<RawFile, RawError> {
        let hour = files.first().expect("there is something to join").hour;
        assert!(
            files.iter().all(|file| file.hour == hour),
            "files of one hour are joined"
        );
        let mut events = Vec::new();
        let everything = RawQuestion::everything();
        self.scan(files, &everything, &mut |event| {
            events.push(event);
            true
        })?;
        let from = files.iter().map(|file| file.from).min().unwrap_or(0);
        let to = files.iter().map(|file| file.to).max().unwrap_or(0);
        self.create(hour, "c-", from..to, &events)
    }

    fn create(&self, hour: i64, prefix: &str, log: Range<u64>, events: &[Event]) -> Result<RawFile, RawError> {
        let folder = folder(hour);
        let corrupt = |reason: String| RawError::Corrupt {
            file: folder.clone(),
            reason,
        };
        let (bytes, crc) = write::encode(events).map_err(|error| corrupt(error.to_string()))?;
        let name = format!("{folder}/{prefix}{:020}-{:020}-{crc:08x}.parquet", log.start, log.end);
        let len = bytes.len() as u64;
        match self.objects.create(&name, &Bytes::from(bytes)) {
            // Its name has the checksum of its contents: it is this very file, from before a crash.
            Ok(()) | Err(ObjectError::Exists(_)) => {}
            Err(other) => return Err(other.into()),
        }
        Ok(RawFile {
            name,
            hour,
            rows: events.len() as u64,
            bytes: len,
            from: log.start,
            to: log.end,
        })
    }
}

impl RawStore for ParquetStore {
    fn write(&self, hour: i64, log: Range<u64>, events: &[Event]) -> Result<RawFile, RawError> {
        self.create(hour, "", log, events)
    }

    fn scan(
        &self,
        files: &[RawFile],
        question: &RawQuestion,
        visit: &mut dyn FnMut(Event) -> bool,
    ) -> Result<u64, RawError> {
        let mut read = 0;
        for file in files {
            let begin = Millis(file.hour * HOUR);
            let end = Millis((file.hour + 1) * HOUR);
            if begin >= question.to || end <= question.from {
                continue;
            }
            let mut scan = read::Scan::open(&self.objects, file)?;
            let goes_on = scan.run(question, self.scan_bytes_max - read, visit);
            read += scan.bytes_read();
            if !goes_on? {
                break;
            }
        }
        Ok(read)
    }
}

/// Returns the folder of an hour since the epoch.
fn folder(hour: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(hour.saturating_mul(HOUR)).unwrap_or_default();
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    format!("raw/dt={}/hour={:02}", at.date(), at.hour())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{EventId, Field, Kind, Micros, PersonHash, Reasons, Texts, VisitorId};
    use super::*;
    use crate::io::MemStore;

    const HOUR_NUMBER: i64 = 489_944; // 2025-11-22 08:00

    pub(super) fn event(n: u64, ad: &str, country: &str) -> Event {
        let id = format!("event-{n}");
        let at = Millis(HOUR_NUMBER * HOUR + i64::try_from(n % 3_600_000).unwrap());
        Event {
            id: EventId::of(&id),
            kind: Kind::ALL[(n % 7) as usize],
            at,
            stamped: Millis(at.0 - i64::try_from(n % 2).unwrap()),
            received: Millis(at.0 + 5),
            reasons: Reasons((n % 3) as u32),
            price: Micros(i64::try_from(n).unwrap()),
            revenue: Micros::ZERO,
            user: n.is_multiple_of(2).then_some(PersonHash(u128::from(n % 10) << 100)),
            ip: Some(PersonHash(u128::MAX - u128::from(n))),
            visitor: n.is_multiple_of(3).then_some(VisitorId(u64::MAX - n)),
            rules: u32::MAX,
            texts: Texts::join(|field| match field {
                Field::EventId => &id,
                Field::AdId => ad,
                Field::Country => country,
                _ => "",
            })
            .unwrap(),
        }
    }

    fn store(max: u64) -> ParquetStore {
        ParquetStore::new(Arc::new(MemStore::default()), max)
    }

    fn scan(store: &ParquetStore, files: &[RawFile], question: &RawQuestion) -> Result<Vec<Event>, RawError> {
        let mut found = Vec::new();
        store.scan(files, question, &mut |event| {
            found.push(event);
            true
        })?;
        found.sort_by_key(|event| event.id);
        Ok(found)
    }

    fn sorted(mut events: Vec<Event>) -> Vec<Event> {
        events.sort_by_key(|event| event.id);
        events
    }

    #[test]
    fn events_come_back_as_they_were() {
        let events: Vec<Event> = (0..500).map(|n| event(n, &format!("ad-{}", n % 7), "DE")).collect();
        let store = store(u64::MAX);
        let file = store.write(HOUR_NUMBER, 3..9, &events).unwrap();
        assert!(
            file.name.starts_with("raw/dt=2025-11-22/hour=08/00000000000000000003-"),
            "{}",
            file.name
        );
        assert_eq!((file.rows, file.from, file.to), (500, 3, 9));
        let again = store.write(HOUR_NUMBER, 3..9, &events).unwrap();
        assert_eq!(again, file, "the same call writes the same file");
        let found = scan(&store, std::slice::from_ref(&file), &RawQuestion::everything()).unwrap();
        assert_eq!(found, sorted(events.clone()));
        let joined = store.compact(&[file]).unwrap();
        assert_eq!(
            scan(&store, &[joined], &RawQuestion::everything()).unwrap(),
            sorted(events)
        );
    }

    #[test]
    fn only_wanted_events_come_and_all_of_them() {
        let countries = ["", "DE", "FR"];
        let events: Vec<Event> = (0..3000)
            .map(|n| event(n, &format!("ad-{}", n % 7), countries[(n % 3) as usize]))
            .collect();
        let store = store(u64::MAX);
        let halves = events.split_at(1000);
        let files = [
            store.write(HOUR_NUMBER, 0..1, halves.0).unwrap(),
            store.write(HOUR_NUMBER, 1..2, halves.1).unwrap(),
        ];
        let base = RawQuestion {
            texts: Field::ALL.to_vec(),
            ..RawQuestion::everything()
        };
        let start = HOUR_NUMBER * HOUR;
        for question in [
            RawQuestion {
                fields: vec![(Field::AdId, "ad-3".to_owned())],
                ..base.clone()
            },
            RawQuestion {
                fields: vec![(Field::Country, String::new())],
                ..base.clone()
            },
            RawQuestion {
                users: vec![PersonHash(4 << 100), PersonHash(7)],
                ..base.clone()
            },
            RawQuestion {
                ips: vec![PersonHash(u128::MAX - 17)],
                ..base.clone()
            },
            RawQuestion {
                from: Millis(start + 100),
                to: Millis(start + 900),
                ..base.clone()
            },
            RawQuestion {
                fields: vec![(Field::AdId, "none".to_owned())],
                ..base.clone()
            },
        ] {
            let expected: Vec<Event> = events.iter().filter(|event| question.wants(event)).cloned().collect();
            assert_eq!(
                scan(&store, &files, &question).unwrap(),
                sorted(expected),
                "{question:?}"
            );
        }
        let mut seen = 0;
        store
            .scan(&files, &base, &mut |_| {
                seen += 1;
                seen < 10
            })
            .unwrap();
        assert_eq!(seen, 10, "whoever has enough gets no more");
    }

    #[test]
    fn texts_that_nobody_looks_at_are_not_read() {
        let events: Vec<Event> = (0..2000).map(|n| event(n, &format!("ad-{n}"), "DE")).collect();
        let store = store(u64::MAX);
        let files = [store.write(HOUR_NUMBER, 0..1, &events).unwrap()];
        let few = RawQuestion {
            texts: vec![Field::Country],
            ..RawQuestion::everything()
        };
        let bytes = |question: &RawQuestion| store.scan(&files, question, &mut |_| true).unwrap();
        assert!(bytes(&few) < bytes(&RawQuestion::everything()));
        let found = scan(&store, &files, &few).unwrap();
        assert_eq!((found[0].text(Field::Country), found[0].text(Field::AdId)), ("DE", ""));
    }

    #[test]
    fn a_question_that_would_read_too_much_is_refused() {
        let events: Vec<Event> = (0..2000).map(|n| event(n, "a", "DE")).collect();
        let store = store(100);
        let files = [store.write(HOUR_NUMBER, 0..1, &events).unwrap()];
        let error = scan(&store, &files, &RawQuestion::everything()).unwrap_err();
        assert!(matches!(error, RawError::Limit(_)), "{error}");
    }

    #[test]
    fn every_flipped_byte_is_an_error_that_names_the_file() {
        let events: Vec<Event> = (0..40).map(|n| event(n, "a", "DE")).collect();
        let objects = Arc::new(MemStore::default());
        let store = ParquetStore::new(objects.clone(), u64::MAX);
        let file = store.write(HOUR_NUMBER, 0..1, &events).unwrap();
        let whole = objects.read(&file.name, 0, file.bytes).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1 << (at % 8);
            objects.delete(&file.name).unwrap();
            objects.create(&file.name, &Bytes::from(flipped)).unwrap();
            match scan(&store, std::slice::from_ref(&file), &RawQuestion::everything()) {
                Err(RawError::Corrupt { file: named, .. }) => assert_eq!(named, file.name),
                // A byte that nobody reads (the magic at the start) may be anything.
                Ok(found) => assert_eq!(found.len(), events.len(), "byte {at}"),
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_texts_survive(texts in proptest::collection::vec(("\\PC{0,12}", "[A-Z]{0,2}"), 1..30)) {
            let events: Vec<Event> =
                texts.iter().enumerate().map(|(n, (ad, country))| event(n as u64, ad, country)).collect();
            let store = store(u64::MAX);
            let file = store.write(HOUR_NUMBER, 0..1, &events).unwrap();
            prop_assert_eq!(scan(&store, &[file], &RawQuestion::everything()).unwrap(), sorted(events));
        }
    }
}
