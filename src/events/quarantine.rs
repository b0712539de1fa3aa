//! Refused events with the reason, kept for some days as lines of JSON: one file for each hour of arrival.
//!
//! What stands for a person (address, user, user agent) is left out: a refused event was judged by nobody's privacy rules.
//! Lines are written as they come and synced when their hour is over; a crash may lose the last of them, which their senders
//! were told about anyway.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value as Json};

use super::Rejection;
use super::decode::{Batch, Input, Sent, Value};
use crate::io::disk::{Disk, DiskFile};
use crate::io::files;
use crate::model::{Interval, Millis};

/// Milliseconds in an hour.
const HOUR: i64 = 3_600_000;
/// The longest line, in bytes; of a longer event only the reason is kept.
const LINE_BYTES_MAX: usize = 16 << 10;
/// The largest file of one hour, in bytes.
const HOUR_BYTES_MAX: u64 = 32 << 20;
/// Inputs that speak of a person.
const PERSONAL: [Input; 3] = [Input::Ip, Input::UserId, Input::Agent];

/// Keeps refused events.
pub struct Quarantine {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    open: Mutex<Option<Open>>,
}

struct Open {
    hour: i64,
    file: Arc<dyn DiskFile>,
    len: u64,
}

impl Quarantine {
    /// Opens the folder, creating it. Blocks.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path) -> io::Result<Quarantine> {
        disk.create_dir_all(folder)?;
        Ok(Quarantine {
            disk,
            folder: folder.to_owned(),
            open: Mutex::new(None),
        })
    }

    /// Keeps what was refused of a batch. Returns how many lines had no room. Blocks.
    ///
    /// # Errors
    /// The operating system's.
    pub fn keep(&self, batch: &Batch<'_>, rejected: &[Rejection], sender: &str, now: Millis) -> io::Result<usize> {
        let mut lines = Vec::new();
        for rejection in rejected {
            lines.extend(line(batch.events.get(rejection.index), rejection, sender, now));
            lines.push(b'\n');
        }
        let mut open = self.open.lock();
        let hour = now.0.div_euclid(HOUR);
        if open.as_ref().is_none_or(|open| open.hour != hour) {
            if let Some(over) = open.take() {
                over.file.sync()?;
            }
            *open = Some(self.open_hour(hour)?);
        }
        let open = open.as_mut().expect("it was opened in the lines before");
        if open.len + lines.len() as u64 > HOUR_BYTES_MAX {
            return Ok(rejected.len());
        }
        open.file.write_all_at(&lines, open.len)?;
        open.len += lines.len() as u64;
        Ok(0)
    }

    fn open_hour(&self, hour: i64) -> io::Result<Open> {
        let path = self.folder.join(format!("{hour}.ndjson"));
        let file = match self.disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = self.disk.create(&path)?;
                self.disk.sync_dir(&self.folder)?;
                file
            }
            other => other?,
        };
        let len = file.len()?;
        Ok(Open { hour, file, len })
    }

    /// Returns the newest refused events, at most `limit`, the newest first. Blocks.
    ///
    /// # Errors
    /// The operating system's.
    pub fn newest(&self, limit: usize) -> io::Result<Vec<Json>> {
        let mut found = Vec::new();
        for hour in self.hours()?.into_iter().rev() {
            let text = files::read(&*self.disk, &self.path(hour))?;
            let lines = text.split(|byte| *byte == b'\n').rev();
            // A line that a crash cut is none.
            found.extend(lines.filter_map(|line| serde_json::from_slice::<Json>(line).ok()));
            if found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Removes hours older than `kept`, and the oldest while all are larger than `bytes_max`. Blocks.
    ///
    /// # Errors
    /// The operating system's.
    pub fn expire(&self, now: Millis, kept: Interval, bytes_max: u64) -> io::Result<()> {
        let mut hours = Vec::new();
        for hour in self.hours()? {
            hours.push((hour, self.disk.open_read(&self.path(hour))?.len()?));
        }
        let mut total: u64 = hours.iter().map(|(_, len)| len).sum();
        let this = now.0.div_euclid(HOUR);
        let oldest = now.saturating_sub(kept).0.div_euclid(HOUR);
        for (hour, len) in hours {
            if hour < this && (hour < oldest || total > bytes_max) {
                self.disk.remove_file(&self.path(hour))?;
                total -= len;
            }
        }
        self.disk.sync_dir(&self.folder)
    }

    fn path(&self, hour: i64) -> PathBuf {
        self.folder.join(format!("{hour}.ndjson"))
    }

    fn hours(&self) -> io::Result<Vec<i64>> {
        let entries = self.disk.list(&self.folder)?;
        let hour = |name: &str| name.strip_suffix(".ndjson")?.parse().ok();
        let mut hours: Vec<i64> = entries.iter().filter_map(|entry| hour(&entry.name)).collect();
        hours.sort_unstable();
        Ok(hours)
    }
}

fn line(sent: Option<&Sent<'_>>, rejection: &Rejection, sender: &str, now: Millis) -> Vec<u8> {
    let event = sent.map_or(Json::Null, said);
    let mut line = serde_json::json!({
        "at": now.0, "sender": sender, "field": rejection.field, "reason": rejection.reason, "event": event,
    });
    let text = serde_json::to_vec(&line).expect("JSON values are always JSON");
    if text.len() <= LINE_BYTES_MAX {
        return text;
    }
    line["event"] = Json::Null;
    serde_json::to_vec(&line).expect("JSON values are always JSON")
}

/// Returns what an event said, without the person.
fn said(sent: &Sent<'_>) -> Json {
    let mut all = Map::new();
    for (input, value) in sent.fields.iter().filter(|(input, _)| !PERSONAL.contains(input)) {
        let value = match value {
            Value::Null => Json::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Int(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Text(text) | Value::Object(text) => text.clone().into(),
            Value::Other(what) => (*what).into(),
        };
        all.insert(input.name().to_owned(), value);
    }
    Json::Object(all)
}

#[cfg(test)]
mod tests {
    use super::super::decode::{Format, decode};
    use super::*;
    use crate::io::disk::SimDisk;

    const NOW: Millis = Millis(1_763_800_000_000);

    fn quarantine() -> Quarantine {
        Quarantine::open(Arc::new(SimDisk::seeded(1)), Path::new("/q")).unwrap()
    }

    fn keep(quarantine: &Quarantine, reason: &str, at: Millis) {
        let text = br#"{"type":"click","ts":1,"ip":"192.0.2.1","user_id":"ann","ua":"x"}"#;
        let batch = decode(Format::Lines, text, 10).unwrap();
        let rejected = [Rejection::named(0, "ts", reason)];
        assert_eq!(quarantine.keep(&batch, &rejected, "shop", at).unwrap(), 0);
    }

    #[test]
    fn refused_events_are_kept_with_their_reason_and_without_the_person() {
        let quarantine = quarantine();
        keep(&quarantine, "first", NOW);
        keep(&quarantine, "second", NOW.saturating_add(Interval::hours(1)));
        let found = quarantine.newest(10).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0]["reason"].as_str(), found[1]["reason"].as_str()),
            (Some("second"), Some("first"))
        );
        assert_eq!(found[0]["event"], serde_json::json!({"type": "click", "ts": 1}));
        assert_eq!(quarantine.newest(1).unwrap().len(), 1);
    }

    #[test]
    fn old_hours_go_and_so_do_the_oldest_when_all_are_too_large() {
        let quarantine = quarantine();
        for hours in 0..4 {
            keep(&quarantine, "x", NOW.saturating_add(Interval::hours(hours)));
        }
        let now = NOW.saturating_add(Interval::hours(3));
        quarantine.expire(now, Interval::hours(2), 1 << 20).unwrap();
        assert_eq!(quarantine.newest(10).unwrap().len(), 3);
        quarantine.expire(now, Interval::days(7), 0).unwrap();
        assert_eq!(quarantine.newest(10).unwrap().len(), 1, "the hour being written stays");
    }
}
