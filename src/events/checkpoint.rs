//! Looking after the files: checkpoints, raw files, merges, retention. One at a time, beside ingest and questions.
//!
//! A checkpoint freezes what is in memory, writes it as files (cells of each grain, ids, answers), and publishes a manifest
//! that names them and the log's position. Only then does the log forget. Until the manifest is there nothing has happened:
//! a crash leaves files that nobody names, and the next start removes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::cells::{Counts, Cube, domain_of, minute_of};
use super::dedup;
use super::manifest::{self, AnswerEntry, CellFile, Grain, IdEntry, Manifest};
use super::people::People;
use super::record::put_header;
use super::state::{ANSWERS_KEPT, Fresh};
use super::tables::{self, Table, TableWriter};
use super::{Event, RawFile, metrics};
use super::{Events, EventsError};
use crate::io::log::Position;
use crate::model::Millis;
use crate::model::wire::put_varint;

/// A checkpoint is made early when the cells in memory take this many bytes.
const MEMORY_BYTES_MAX: usize = 96 << 20;
/// … or this many ids are in memory.
const IDS_MAX: usize = 2_000_000;
/// So many files of about one size are merged into one.
const MERGE_FILES: usize = 4;
/// Files up to this size are of one size.
const TIER_BYTES: u64 = 64 << 10;
/// Files of answers before they are joined.
const ANSWER_FILES_MAX: usize = 24;

/// What one step of looking after the files did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// A checkpoint was made.
    pub checkpoint: bool,
    /// Raw files that were written.
    pub raw: usize,
    /// Merges of files.
    pub merged: usize,
    /// Files that retention dropped.
    pub dropped: usize,
}

impl Events {
    /// Does what is due. Blocks.
    pub(crate) fn maintain(&self) -> Result<Maintained, EventsError> {
        let mut busy = self.maintenance.lock();
        let mut done = Maintained::default();
        let due = self.clock.mono() >= busy.next || self.state.read().fresh.memory.bytes() > MEMORY_BYTES_MAX;
        if due || self.state.read().fresh.ids.len() > IDS_MAX {
            done.checkpoint = self.checkpoint()?;
            busy.next = self.clock.mono().after(self.config.checkpoint);
        }
        let raw_due = self.clock.mono() >= busy.next_raw || self.unwritten_raw_bytes() > self.raw_bytes_max;
        if raw_due {
            done.raw = self.write_raw()?;
            busy.next_raw = self.clock.mono().after(self.raw_every);
        }
        done.merged = self.merge_some()?;
        done.dropped = self.retire()?;
        Ok(done)
    }

    /// Writes everything to files, so that the next start reads no log.
    pub(crate) fn checkpoint_all(&self) -> Result<(), EventsError> {
        let _busy = self.maintenance.lock();
        self.checkpoint()?;
        self.write_raw()?;
        Ok(())
    }

    /// Makes a checkpoint; the caller holds the maintenance lock.
    fn checkpoint(&self) -> Result<bool, EventsError> {
        let begun = self.clock.mono();
        let Some((frozen, mut next)) = self.freeze() else {
            return Ok(false);
        };
        let written = self
            .write_frozen(&frozen, &mut next)
            .and_then(|()| self.publish(next, true));
        metrics::CHECKPOINTS.inc(&[if written.is_ok() { "done" } else { "failed" }]);
        metrics::CHECKPOINT.observe(self.clock.mono().seconds_since(begun));
        written.map(|()| true)
    }

    /// Sets aside what is in memory, and begins the manifest that will name it. What a failed checkpoint set aside comes
    /// first: its position is in the manifest that was begun for it.
    fn freeze(&self) -> Option<(Arc<Fresh>, Manifest)> {
        let now = self.clock.now();
        let mut frozen_manifest = self.frozen_manifest.lock();
        let mut state = self.state.write();
        let mut next = self.after(&state.files.manifest);
        if let (Some(frozen), Some(begun)) = (&state.frozen, &*frozen_manifest) {
            next.take_progress(begun);
            return Some((Arc::clone(frozen), next));
        }
        if state.fresh.is_empty() && state.position == state.files.manifest.position {
            return None;
        }
        next.position = state.position;
        next.counted = state.counted;
        next.late = state.late;
        next.shards = self.watermark.shards();
        next.closed = self.watermark.now(now).0;
        let frozen = Arc::new(std::mem::replace(&mut state.fresh, Fresh::new(&self.cubes)));
        state.frozen = Some(Arc::clone(&frozen));
        *frozen_manifest = Some(next.clone());
        Some((frozen, next))
    }

    /// Corrects counts outside of the log, by one manifest: what `before` counted is taken away, what `after` counts is added,
    /// the versions of their minutes rise, raw files are replaced, and a note is kept. Counting goes on meanwhile. The same
    /// with `before` and `after` (and files) exchanged takes it back. `false` when a file of `old` is no longer there.
    ///
    /// # Errors
    /// [`EventsError`]; nothing has changed then, or all of it at the next start.
    pub fn correct(
        &self,
        before: &mut dyn Iterator<Item = Event>,
        after: &mut dyn Iterator<Item = Event>,
        (old, new): (&[String], Vec<RawFile>),
        (note, value): (&str, serde_json::Value),
    ) -> Result<bool, EventsError> {
        let mut difference = Fresh::new(&self.cubes);
        let mut minutes = BTreeSet::new();
        let both = before
            .map(|event| (event, false))
            .chain(after.map(|event| (event, true)));
        for (event, is_added) in both {
            minutes.insert((domain_of(&event), minute_of(event.at.0)));
            difference.memory.correct(&event, is_added);
        }
        for (domain, minute) in minutes {
            difference.memory.revise(domain, minute);
        }
        let _busy = self.maintenance.lock();
        let mut next = self.next_manifest();
        if !old.iter().all(|name| next.raw.iter().any(|file| file.name == *name)) {
            return Ok(false);
        }
        next.raw.retain(|file| !old.contains(&file.name));
        next.raw.extend(new);
        next.notes.insert(note.to_owned(), value);
        self.write_cells(&difference, &mut next)?;
        self.publish(next, false)?;
        Ok(true)
    }

    fn write_cells(&self, fresh: &Fresh, next: &mut Manifest) -> Result<(), EventsError> {
        for grain in Grain::ALL {
            let kept_from = next.kept_from.get(&grain).copied().unwrap_or(i64::MIN);
            for (start, bytes) in cell_files(fresh, &self.cubes, grain) {
                if start >= kept_from {
                    next.cells.push(self.create_cells(grain, start, &bytes)?);
                }
            }
        }
        Ok(())
    }

    fn write_frozen(&self, frozen: &Fresh, next: &mut Manifest) -> Result<(), EventsError> {
        self.write_cells(frozen, next)?;
        let now = self.clock.now();
        for (hour, ids) in frozen.ids.hours() {
            let name = self.new_name("ids");
            self.objects.create(&name, &dedup::encode(hour, ids.iter().copied()))?;
            next.ids.push(IdEntry {
                name,
                hour,
                count: ids.len() as u64,
                newest: now,
            });
        }
        if let Some(newest) = frozen.answered.iter().map(|header| header.received).max() {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, frozen.answered.len() as u64);
            frozen.answered.iter().for_each(|header| put_header(header, &mut bytes));
            next.answers.push(self.create_answers(bytes, newest)?);
        }
        Ok(())
    }

    pub(super) fn create_answers(&self, mut bytes: Vec<u8>, newest: Millis) -> Result<AnswerEntry, EventsError> {
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let name = self.new_name("answers");
        self.objects.create(&name, &bytes.into())?;
        Ok(AnswerEntry { name, newest })
    }

    fn create_cells(&self, grain: Grain, start: i64, bytes: &Bytes) -> Result<CellFile, EventsError> {
        let name = self.new_name(grain.folder());
        self.objects.create(&name, bytes)?;
        Ok(CellFile {
            name,
            grain,
            start,
            bytes: bytes.len() as u64,
        })
    }

    /// Publishes a manifest, then shows its files; `thawed` when it names what was frozen. Then removes what neither it nor
    /// the one before it names.
    pub(super) fn publish(&self, mut next: Manifest, thawed: bool) -> Result<(), EventsError> {
        next.next_file = self.next_file();
        let before = Arc::clone(&self.state.read().files);
        let files = self.open_files(&next, Some(&before))?;
        self.numbers.fetch_max(next.number, Ordering::Relaxed);
        next.publish(&*self.objects)?;
        let retired = {
            let mut state = self.state.write();
            state.files = Arc::new(files);
            if thawed {
                state.frozen = None;
            }
            std::mem::replace(&mut *self.previous.lock(), before.manifest.clone())
        };
        if thawed {
            *self.frozen_manifest.lock() = None;
        }
        manifest::remove_old(&*self.objects, next.number)?;
        let keep: BTreeSet<&str> = next.names().union(&before.manifest.names()).copied().collect();
        for name in retired.names().difference(&keep) {
            self.objects.delete(name)?;
        }
        let holds = self.holds.lock().values().copied().min().unwrap_or(u64::MAX);
        let below = next.log_from().min(before.manifest.log_from()).min(holds);
        self.committer.with_log(|log| log.trim(Position(below)))?;
        metrics::LOG_BYTES.set(self.committer.with_log(|log| log.bytes()) as f64);
        Ok(())
    }

    /// Begins a change of the files that is no checkpoint.
    pub(super) fn next_manifest(&self) -> Manifest {
        self.after(&self.state.read().files.manifest)
    }

    /// Returns a copy with a number that was never tried: a creation that failed may have happened.
    fn after(&self, manifest: &Manifest) -> Manifest {
        Manifest {
            number: self
                .numbers
                .fetch_max(manifest.number, Ordering::Relaxed)
                .max(manifest.number)
                + 1,
            ..manifest.clone()
        }
    }

    /// Merges the files of one period and size, where there are enough of them.
    fn merge_some(&self) -> Result<usize, EventsError> {
        let mut merged = 0;
        while let Some((grain, start, names)) = self.merge_candidate() {
            self.merge_cells(grain, start, &names)?;
            merged += 1;
        }
        while let Some((hour, names)) = self.id_merge_candidate() {
            self.merge_ids(hour, &names)?;
            merged += 1;
        }
        metrics::MERGES.add(merged as u64);
        Ok(merged)
    }

    fn merge_candidate(&self) -> Option<(Grain, i64, BTreeSet<String>)> {
        let files = Arc::clone(&self.state.read().files);
        let mut periods: BTreeMap<(Grain, i64), Vec<(u64, &str)>> = BTreeMap::new();
        for file in &files.manifest.cells {
            let period = periods.entry((file.grain, file.start)).or_default();
            period.push((file.bytes, &file.name));
        }
        let mut periods = periods.into_iter();
        periods.find_map(|((grain, start), files)| Some((grain, start, mergeable(&files)?)))
    }

    fn merge_cells(&self, grain: Grain, start: i64, names: &BTreeSet<String>) -> Result<(), EventsError> {
        let files = Arc::clone(&self.state.read().files);
        let opened = files.cells.get(&(grain, start)).map_or(&[][..], Vec::as_slice);
        let tables: Vec<Arc<Table>> = opened
            .iter()
            .filter(|table| names.contains(table.name()))
            .cloned()
            .collect();
        // A cube that one of them lacks is no loss: it was not whole in this period before, either.
        let bytes = tables::merge(&tables, &|bucket| bucket)?;
        let mut next = self.next_manifest();
        next.cells.retain(|file| !names.contains(&file.name));
        if let Some(bytes) = bytes {
            next.cells.push(self.create_cells(grain, start, &bytes)?);
        }
        self.publish(next, false)
    }

    fn id_merge_candidate(&self) -> Option<(i64, BTreeSet<String>)> {
        let files = Arc::clone(&self.state.read().files);
        let mut hours: BTreeMap<i64, Vec<(u64, &str)>> = BTreeMap::new();
        for file in &files.manifest.ids {
            hours.entry(file.hour).or_default().push((file.count * 18, &file.name));
        }
        hours
            .into_iter()
            .find_map(|(hour, files)| Some((hour, mergeable(&files)?)))
    }

    fn merge_ids(&self, hour: i64, names: &BTreeSet<String>) -> Result<(), EventsError> {
        let files = Arc::clone(&self.state.read().files);
        let mut ids = Vec::new();
        for file in files.ids.get(&hour).into_iter().flatten() {
            if names.contains(file.name()) {
                ids.extend(file.ids()?);
            }
        }
        let mut next = self.next_manifest();
        let merged = next.ids.iter().filter(|entry| names.contains(&entry.name));
        let newest = merged.map(|entry| entry.newest).max().unwrap_or_default();
        next.ids.retain(|entry| !names.contains(&entry.name));
        let name = self.new_name("ids");
        let count = ids.len() as u64;
        self.objects.create(&name, &dedup::encode(hour, ids))?;
        next.ids.push(IdEntry {
            name,
            hour,
            count,
            newest,
        });
        self.publish(next, false)
    }

    /// Drops what is older than retention.
    fn retire(&self) -> Result<usize, EventsError> {
        let now = self.clock.now();
        let mut next = self.next_manifest();
        let before = next.names().len();
        let retention = &self.config.retention;
        for (grain, kept) in [
            (Grain::Minute, retention.minute),
            (Grain::Hour, retention.hour),
            (Grain::Day, retention.day),
        ] {
            let horizon = super::cells::minute_of(now.saturating_sub(kept).0);
            // Whole files go; what is left of the oldest is still answered.
            let from = horizon - horizon.rem_euclid(grain.file_minutes());
            let gone = |file: &CellFile| file.grain == grain && file.start < from;
            if next.cells.iter().any(gone) {
                next.cells.retain(|file| !gone(file));
                next.kept_from.insert(grain, from);
            }
        }
        // A time that a sender's clock got wrong may lie anywhere: such ids are kept by when they came.
        let known = now.saturating_sub(self.ids_kept());
        let hour = dedup::hour_of(known.0);
        next.ids.retain(|entry| entry.hour >= hour || entry.newest >= known);
        let raw = dedup::hour_of(now.saturating_sub(retention.raw).0);
        next.raw.retain(|file| file.hour >= raw);
        let answers = now.saturating_sub(ANSWERS_KEPT);
        next.answers.retain(|entry| entry.newest >= answers);
        let dropped = before - next.names().len();
        if next.answers.len() > ANSWER_FILES_MAX {
            self.join_answers(&mut next)?;
        } else if dropped == 0 {
            return Ok(0);
        }
        self.publish(next, false)?;
        Ok(dropped)
    }

    fn join_answers(&self, next: &mut Manifest) -> Result<(), EventsError> {
        let horizon = self.clock.now().saturating_sub(ANSWERS_KEPT);
        let mut headers = Vec::new();
        for entry in &next.answers {
            headers.extend(super::open::read_answers(&*self.objects, &entry.name)?);
        }
        headers.retain(|header| header.received >= horizon);
        let newest = headers.iter().map(|header| header.received).max().unwrap_or_default();
        let mut bytes = Vec::new();
        put_varint(&mut bytes, headers.len() as u64);
        headers.iter().for_each(|header| put_header(header, &mut bytes));
        next.answers = vec![self.create_answers(bytes, newest)?];
        Ok(())
    }

    /// Returns about how many bytes of the log are in no raw file.
    fn unwritten_raw_bytes(&self) -> u64 {
        if self.raw.is_none() {
            return 0;
        }
        let from = Position(self.state.read().files.manifest.raw_position);
        let files = self.committer.with_log(|log| log.files());
        let newer = files.iter().filter(|file| file.first() >= from);
        newer.map(|file| file.used()).sum()
    }

    /// Writes the log's events to raw files, up to what is counted by now.
    fn write_raw(&self) -> Result<usize, EventsError> {
        let Some(raw) = &self.raw else {
            // Nobody keeps raw events: the log need not, either.
            let mut next = self.next_manifest();
            if next.raw_position != next.position {
                next.raw_position = next.position;
                self.publish(next, false)?;
            }
            return Ok(0);
        };
        let (from, to) = {
            let state = self.state.read();
            (state.files.manifest.raw_position, state.position)
        };
        if from == to {
            return Ok(0);
        }
        let mut next = self.next_manifest();
        let mut hours: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        self.read_log(from, to, &mut |_, _, events| {
            for event in events {
                hours.entry(dedup::hour_of(event.at.0)).or_default().push(event);
            }
        })?;
        let written = hours.len();
        for (hour, events) in hours {
            let file: RawFile = raw.write(hour, from..to, &events)?;
            next.raw.push(file);
        }
        next.raw_position = to;
        self.publish(next, false)?;
        Ok(written)
    }
}

impl Manifest {
    /// Takes over how far the log was folded when memory was frozen.
    fn take_progress(&mut self, begun: &Manifest) {
        self.position = begun.position;
        self.counted = begun.counted;
        self.late = begun.late;
        self.shards = begun.shards.clone();
        self.closed = begun.closed;
    }
}

/// Returns the smallest files of a period, when there are enough of about their size.
fn mergeable(files: &[(u64, &str)]) -> Option<BTreeSet<String>> {
    let tier = |bytes: u64| (bytes / TIER_BYTES).checked_ilog(4).map_or(0, |tier| tier + 1);
    let mut tiers: BTreeMap<u32, usize> = BTreeMap::new();
    for (bytes, _) in files {
        *tiers.entry(tier(*bytes)).or_default() += 1;
    }
    let (full, _) = tiers.into_iter().find(|(_, count)| *count >= MERGE_FILES)?;
    let small = files.iter().filter(|(bytes, _)| tier(*bytes) <= full);
    Some(small.map(|(_, name)| (*name).to_owned()).collect())
}

/// The row of a file that is being added up.
struct Pending {
    cube: usize,
    key: Vec<u8>,
    bucket: i64,
    counts: Counts,
    people: People,
}

impl Pending {
    fn write(mut self, writer: &mut TableWriter) {
        let mut people = Vec::new();
        self.people.encode(&mut people);
        if self.counts.is_zero() && people.is_empty() {
            return; // A correction that came to nothing.
        }
        writer.push(self.cube, &self.key, self.bucket, &self.counts, &people);
    }
}

/// Returns the files of a grain that memory makes, by their first minute.
fn cell_files(fresh: &Fresh, cubes: &[Cube], grain: Grain) -> BTreeMap<i64, Bytes> {
    let mut files: BTreeMap<i64, (TableWriter, Option<Pending>)> = BTreeMap::new();
    for (number, cube) in cubes.iter().enumerate() {
        for row in fresh.memory.sorted(cube) {
            let start = row.minute - row.minute.rem_euclid(grain.file_minutes());
            let bucket = row.minute - row.minute.rem_euclid(grain.minutes());
            let new = || (TableWriter::new(cubes.to_vec()), None);
            let (writer, pending) = files.entry(start).or_insert_with(new);
            let same = |sum: &Pending| sum.cube == number && sum.bucket == bucket && sum.key == row.key;
            if !pending.as_ref().is_some_and(same)
                && let Some(sum) = pending.take()
            {
                sum.write(writer);
            }
            let sum = pending.get_or_insert_with(|| Pending {
                cube: number,
                key: row.key.to_vec(),
                bucket,
                counts: Counts::default(),
                people: People::default(),
            });
            sum.counts.add(row.counts);
            sum.people.extend(&row.people);
        }
    }
    let finished = files.into_iter().map(|(start, (mut writer, pending))| {
        if let Some(sum) = pending {
            sum.write(&mut writer);
        }
        (start, writer.finish())
    });
    finished.collect()
}
