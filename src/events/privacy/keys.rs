//! The keys behind hashes of people: one a day for visitors, one a month for addresses and users.
//!
//! A key is 32 random bytes in a file of its own, made when it is first needed and durable before anything is hashed by
//! it. A day's key lives for two days, a month's as long as events of the month do; then the file is overwritten and
//! removed, and what was hashed can be linked to nobody any more.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::RwLock;
use sha2::Sha256;

use super::super::{PersonHash, VisitorId};
use crate::io::Random;
use crate::io::disk::Disk;
use crate::io::files;
use crate::model::{Interval, Millis, TimeRange};

/// Milliseconds in a day.
const DAY: i64 = 86_400_000;
/// How long a day's key lives after the day began.
const DAY_KEY_LIFE: Interval = Interval::days(2);
/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The disk failed.
    #[error("cannot keep the key {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no key.
    #[error("{0} is no key: it should hold 64 hexadecimal digits; without it people's hashes of that time change")]
    Broken(PathBuf),
}

/// A key ready for use.
type Prepared = Hmac<Sha256>;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Span {
    /// A day since the epoch, UTC.
    Day(i64),
    /// A month: 12 × year + month − 1, UTC.
    Month(i64),
}

/// The keys, by what they are for.
pub struct PeopleKeys {
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    folder: PathBuf,
    keys: RwLock<BTreeMap<Span, Prepared>>,
}

impl PeopleKeys {
    /// Reads the keys in `folder`, creating it. Blocks.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn open(disk: Arc<dyn Disk>, random: Arc<dyn Random>, folder: &Path) -> Result<PeopleKeys, KeyError> {
        let failed = |path: &Path, source| KeyError::Io {
            path: path.to_owned(),
            source,
        };
        disk.create_dir_all(folder).map_err(|error| failed(folder, error))?;
        let mut keys = BTreeMap::new();
        for entry in disk.list(folder).map_err(|error| failed(folder, error))? {
            let path = folder.join(&entry.name);
            let Some(span) = Span::of_file(&entry.name) else {
                // A key that a crash left half made: nothing was hashed by it.
                disk.remove_file(&path).map_err(|error| failed(&path, error))?;
                continue;
            };
            let text = files::read_text(&*disk, &path).map_err(|error| failed(&path, error))?;
            let key = from_hex(text.trim()).ok_or_else(|| KeyError::Broken(path.clone()))?;
            keys.insert(span, prepared(&key));
        }
        Ok(PeopleKeys {
            disk,
            random,
            folder: folder.to_owned(),
            keys: RwLock::new(keys),
        })
    }

    /// Returns the visitor of a site on the day of `at`, `None` when that day's key is gone: its visitors can be known no
    /// more.
    ///
    /// # Errors
    /// [`KeyError`] when a new key cannot be kept.
    pub fn visitor(
        &self,
        (site, ip, agent): (&str, IpAddr, &str),
        at: Millis,
        now: Millis,
    ) -> Result<Option<VisitorId>, KeyError> {
        let day = at.0.div_euclid(DAY);
        if now >= Millis(day * DAY).saturating_add(DAY_KEY_LIFE) {
            return Ok(None);
        }
        let parts = [
            site.as_bytes(),
            ip.to_canonical().to_string().as_bytes(),
            agent.as_bytes(),
        ]
        .join(&0);
        let hash = self.hash(Span::Day(day), &parts)?;
        Ok(Some(VisitorId((hash >> 64) as u64)))
    }

    /// Returns what stands for an address in the month of `at`.
    ///
    /// # Errors
    /// [`KeyError`] when a new key cannot be kept.
    pub fn address(&self, ip: IpAddr, at: Millis) -> Result<PersonHash, KeyError> {
        self.hash(Span::month_of(at), &address_text(ip)).map(PersonHash)
    }

    /// Returns what stands for a user in the month of `at`.
    ///
    /// # Errors
    /// [`KeyError`] when a new key cannot be kept.
    pub fn user(&self, user_id: &str, at: Millis) -> Result<PersonHash, KeyError> {
        self.hash(Span::month_of(at), &user_text(user_id)).map(PersonHash)
    }

    /// Returns what an address is called in each month of `range` that has a key.
    pub fn addresses(&self, ip: IpAddr, range: TimeRange) -> Vec<PersonHash> {
        self.in_months(&address_text(ip), range)
    }

    /// Returns what a user is called in each month of `range` that has a key.
    pub fn users(&self, user_id: &str, range: TimeRange) -> Vec<PersonHash> {
        self.in_months(&user_text(user_id), range)
    }

    fn in_months(&self, text: &[u8], range: TimeRange) -> Vec<PersonHash> {
        let (first, last) = (Span::month_of(range.min), Span::month_of(range.max));
        let keys = self.keys.read();
        let months = keys.iter().filter(|(span, _)| matches!(span, Span::Month(_)));
        months
            .filter(|(span, _)| (first..=last).contains(*span))
            .map(|(_, key)| PersonHash(digest(key, text)))
            .collect()
    }

    /// Destroys keys that are no longer needed: days after two days, months when `raw` has passed since their end. Blocks.
    ///
    /// # Errors
    /// [`KeyError`]; the key is tried again at the next call.
    pub fn expire(&self, now: Millis, raw: Interval) -> Result<usize, KeyError> {
        let over: Vec<Span> = {
            let keys = self.keys.read();
            let ended = |span: &&Span| match **span {
                Span::Day(day) => now >= Millis(day * DAY).saturating_add(DAY_KEY_LIFE),
                Span::Month(month) => now >= month_end(month).saturating_add(raw),
            };
            keys.keys().filter(ended).copied().collect()
        };
        for span in &over {
            let path = self.folder.join(span.file());
            self.destroy(&path).map_err(|source| KeyError::Io { path, source })?;
            self.keys.write().remove(span);
        }
        Ok(over.len())
    }

    fn destroy(&self, path: &Path) -> io::Result<()> {
        let file = self.disk.open(path)?;
        let len = usize::try_from(file.len()?).unwrap_or(2 * KEY_BYTES);
        file.write_all_at(&vec![b'0'; len], 0)?;
        file.sync()?;
        self.disk.remove_file(path)?;
        self.disk.sync_dir(&self.folder)
    }

    fn hash(&self, span: Span, text: &[u8]) -> Result<u128, KeyError> {
        if let Some(key) = self.keys.read().get(&span) {
            return Ok(digest(key, text));
        }
        let mut keys = self.keys.write();
        if let Some(key) = keys.get(&span) {
            return Ok(digest(key, text));
        }
        let key = self.make(span).map_err(|source| KeyError::Io {
            path: self.folder.join(span.file()),
            source,
        })?;
        let hash = digest(&key, text);
        keys.insert(span, key);
        Ok(hash)
    }

    /// Makes a key, durable when this returns.
    fn make(&self, span: Span) -> io::Result<Prepared> {
        let mut key = [0; KEY_BYTES];
        self.random.fill(&mut key);
        let temporary = self.folder.join(format!("{}.tmp", span.file()));
        match self.disk.remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.create(&temporary)?;
        file.write_all_at(to_hex(&key).as_bytes(), 0)?;
        file.sync()?;
        self.disk.rename(&temporary, &self.folder.join(span.file()))?;
        self.disk.sync_dir(&self.folder)?;
        Ok(prepared(&key))
    }
}

impl Span {
    fn month_of(at: Millis) -> Span {
        let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(if at.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        Span::Month(i64::from(date.year()) * 12 + i64::from(date.month()) - 1)
    }

    fn file(self) -> String {
        match self {
            Span::Day(day) => format!("day-{day}"),
            Span::Month(month) => format!("month-{:04}-{:02}", month.div_euclid(12), month.rem_euclid(12) + 1),
        }
    }

    fn of_file(name: &str) -> Option<Span> {
        if let Some(day) = name.strip_prefix("day-") {
            return day.parse().ok().map(Span::Day);
        }
        let (year, month) = name.strip_prefix("month-")?.split_once('-')?;
        let month: i64 = month.parse().ok().filter(|month| (1..=12).contains(month))?;
        Some(Span::Month(year.parse::<i64>().ok()? * 12 + month - 1))
    }
}

/// Returns the first instant after a month.
fn month_end(month: i64) -> Millis {
    let next = month + 1;
    let year = i16::try_from(next.div_euclid(12)).unwrap_or(i16::MAX);
    let month = i8::try_from(next.rem_euclid(12) + 1).expect("1 to 12");
    let first = jiff::civil::Date::new(year, month, 1).ok();
    let instant = first.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok());
    instant.map_or(Millis::MAX, |zoned| Millis(zoned.timestamp().as_millisecond()))
}

fn address_text(ip: IpAddr) -> Vec<u8> {
    format!("ip\0{}", ip.to_canonical()).into_bytes()
}

fn user_text(user_id: &str) -> Vec<u8> {
    format!("user\0{user_id}").into_bytes()
}

fn prepared(key: &[u8; KEY_BYTES]) -> Prepared {
    Prepared::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn digest(key: &Prepared, text: &[u8]) -> u128 {
    let mut mac = key.clone();
    mac.update(text);
    let bytes = mac.finalize().into_bytes();
    u128::from_be_bytes(bytes[..16].try_into().expect("SHA-256 has 32 bytes"))
}

fn to_hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; KEY_BYTES]> {
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SeededRandom;
    use crate::io::disk::SimDisk;

    const NOW: Millis = Millis(1_763_800_000_000); // 2025-11-22
    const WHO: (&str, IpAddr, &str) = ("shop", IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), "agent");

    fn open(disk: &Arc<SimDisk>) -> PeopleKeys {
        let random = Arc::new(SeededRandom::new(
            disk.list(Path::new("/k")).map_or(1, |all| all.len() as u64 + 1),
        ));
        PeopleKeys::open(Arc::clone(disk) as Arc<dyn Disk>, random, Path::new("/k")).unwrap()
    }

    #[test]
    fn people_are_known_again_after_a_restart_and_not_after_the_key_is_gone() {
        let disk = Arc::new(SimDisk::seeded(1));
        let keys = open(&disk);
        let user = keys.user("u", NOW).unwrap();
        let visitor = keys.visitor(WHO, NOW, NOW).unwrap();
        assert!(visitor.is_some());
        drop(keys);
        let keys = open(&disk);
        assert_eq!(
            (keys.user("u", NOW).unwrap(), keys.visitor(WHO, NOW, NOW).unwrap()),
            (user, visitor)
        );
        assert_ne!(keys.user("v", NOW).unwrap(), user);
        let later = NOW.saturating_add(Interval::days(2));
        assert_eq!(keys.expire(later, Interval::days(30)).unwrap(), 1);
        assert_eq!(keys.visitor(WHO, NOW, later).unwrap(), None);
        assert_eq!(keys.user("u", NOW).unwrap(), user, "the month's key lives on");
        let later = NOW.saturating_add(Interval::days(40));
        assert_eq!(keys.expire(later, Interval::days(30)).unwrap(), 1);
        assert_ne!(keys.user("u", NOW).unwrap(), user);
    }

    #[test]
    fn a_person_has_one_name_a_month() {
        let keys = open(&Arc::new(SimDisk::seeded(1)));
        let next = NOW.saturating_add(Interval::days(20));
        let names = [keys.user("u", NOW).unwrap(), keys.user("u", next).unwrap()];
        assert_ne!(names[0], names[1]);
        assert_eq!(keys.users("u", TimeRange { min: NOW, max: next }), names);
        assert_eq!(keys.users("u", TimeRange { min: NOW, max: NOW }), names[..1]);
        let ip: IpAddr = "198.51.100.7".parse().unwrap();
        let mapped: IpAddr = "::ffff:198.51.100.7".parse().unwrap();
        assert_eq!(keys.address(ip, NOW).unwrap(), keys.address(mapped, NOW).unwrap());
    }

    #[test]
    fn a_broken_key_stops_the_start_and_a_half_made_one_is_removed() {
        let disk = Arc::new(SimDisk::seeded(1));
        open(&disk).user("u", NOW).unwrap();
        disk.create(Path::new("/k/day-7.tmp")).unwrap();
        open(&disk);
        assert_eq!(disk.list(Path::new("/k")).unwrap().len(), 1);
        let file = disk.open(Path::new("/k/month-2025-11")).unwrap();
        file.write_all_at(b"not a key", 0).unwrap();
        let random = Arc::new(SeededRandom::new(1));
        let again = PeopleKeys::open(disk, random, Path::new("/k"));
        assert!(matches!(again, Err(KeyError::Broken(_))));
    }
}
