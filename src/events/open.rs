//! Opening the event store: the newest manifest, its files, then the log from its position on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};

use super::cells::{Cube, MINUTE};
use super::commit::{CommitDeps, Committer};
use super::dedup::{HOUR, IdFile, IdFiles};
use super::manifest::{self, Lost, Manifest};
use super::record::{self, Header};
use super::state::{Answers, Files, Fresh, State};
use super::store::{Busy, PAGES_BYTES, RAW_BYTES, RAW_EVERY};
use super::tables::{PageCache, Table};
use super::watermark::Watermark;
use super::{Events, EventsError, EventsParts, Opened};
use crate::io::ObjectStore;
use crate::io::disk::Disk;
use crate::io::log::{Damage, Replay, SegmentLog, SegmentOptions};
use crate::model::Millis;
use crate::model::wire::{Cursor, DecodeError};

/// Folders whose files the manifest names.
const OURS: [&str; 4] = ["answers/", "cells/", "ids/", "raw/"];

impl Events {
    /// Opens the store, creating it, and replays what is in no file yet. Blocks.
    ///
    /// # Errors
    /// [`EventsError`]; [`EventsError::Unusable`] when going on would lose what is still there.
    pub fn open(parts: EventsParts) -> Result<(Arc<Events>, Opened), EventsError> {
        let EventsParts {
            config,
            dir,
            disk,
            objects,
            clock,
            raw,
            log: log_options,
        } = parts;
        disk.create_dir_all(&dir)?;
        // A start that failed half-way may have left names that nobody made durable.
        disk.sync_dir(dir.parent().unwrap_or(&dir))?;
        let lock = disk.lock(&dir)?;
        let mut opened = Opened::default();
        let (mut manifest, previous, highest) = newest(&*objects, &mut opened)?;
        opened.orphans = remove_orphans(&*objects, &[&manifest, &previous])?;
        let cubes = Cube::all(&config.cubes);
        let files = open_all(&*disk, &dir, &mut manifest, &mut opened)?;
        let answers = Arc::new(Answers::default());
        for entry in &manifest.answers {
            match read_answers(&*objects, &entry.name) {
                Ok(headers) => headers.iter().for_each(|header| answers.keep(header)),
                Err(error) => opened.damage.push(format!("{}: {error}", entry.name)),
            }
        }
        let watermark = Watermark::new(config.lateness, config.idle, &manifest.shards, manifest.closed);
        let mut state = State {
            fresh: Fresh::new(&cubes),
            frozen: None,
            position: manifest.position,
            change: 0,
            counted: manifest.counted,
            late: manifest.late,
            files: Arc::new(files),
        };
        let (log, damage) = replay(
            (&disk, &dir, log_options),
            &mut state,
            &answers,
            &watermark,
            &mut opened,
        )?;
        disk.sync_dir(&dir)?;
        if log.next().0 < manifest.position {
            return Err(EventsError::Unusable(format!(
                "the log in {} ends at record {}, and a checkpoint says that it reached {}: new events would be lost at \
                 the next start; restore the log, or move the whole folder away",
                dir.display(),
                log.next().0,
                manifest.position
            )));
        }
        let file_number = manifest.next_file.max(previous.next_file);
        let state = Arc::new(RwLock::new(state));
        let watermark = Arc::new(watermark);
        let committer = Committer::start(CommitDeps {
            state: Arc::clone(&state),
            answers,
            watermark: Arc::clone(&watermark),
            clock: Arc::clone(&clock),
            log,
        })?;
        let now = clock.mono();
        let busy = Busy {
            next: now.after(config.checkpoint),
            next_raw: now.after(RAW_EVERY),
        };
        let events = Events {
            config,
            dir,
            disk,
            objects,
            clock,
            raw,
            cubes,
            state,
            watermark,
            committer,
            cache: PageCache::new(PAGES_BYTES),
            merged: super::query::MergedCache::default(),
            maintenance: Mutex::new(busy),
            previous: Mutex::new(previous),
            frozen_manifest: Mutex::new(None),
            numbers: AtomicU64::new(highest),
            file_numbers: AtomicU64::new(file_number),
            holds: Mutex::default(),
            raw_bytes_max: RAW_BYTES,
            raw_every: RAW_EVERY,
            damage,
            audit: Mutex::default(),
            _lock: lock,
        };
        Ok((Arc::new(events), opened))
    }

    /// Opens what a manifest names, taking over what is open already.
    pub(super) fn open_files(&self, manifest: &Manifest, before: Option<&Files>) -> Result<Files, EventsError> {
        let mut open = Files {
            manifest: manifest.clone(),
            cells: BTreeMap::new(),
            ids: IdFiles::new(),
        };
        let mut tables: BTreeMap<&str, &Arc<Table>> = BTreeMap::new();
        let mut id_files: BTreeMap<&str, &Arc<IdFile>> = BTreeMap::new();
        if let Some(before) = before {
            tables.extend(before.cells.values().flatten().map(|table| (table.name(), table)));
            id_files.extend(before.ids.values().flatten().map(|file| (file.name(), file)));
        }
        for file in &manifest.cells {
            let table = match tables.get(file.name.as_str()) {
                Some(table) => Arc::clone(table),
                None => Arc::new(Table::open(
                    file.name.clone(),
                    self.disk.map(&self.dir.join(&file.name))?,
                )?),
            };
            open.cells.entry((file.grain, file.start)).or_default().push(table);
        }
        for entry in &manifest.ids {
            let file = match id_files.get(entry.name.as_str()) {
                Some(file) => Arc::clone(file),
                None => Arc::new(IdFile::open(
                    entry.name.clone(),
                    self.disk.map(&self.dir.join(&entry.name))?,
                )?),
            };
            open.ids.entry(entry.hour).or_default().push(file);
        }
        Ok(open)
    }
}

/// Returns the manifest that counts, the one before it, and the highest number in use.
fn newest(objects: &dyn ObjectStore, opened: &mut Opened) -> Result<(Manifest, Manifest, u64), EventsError> {
    let found = manifest::find(objects)?;
    for (name, reason) in &found.unreadable {
        tracing::error!(manifest = %name, %reason, "a manifest of events cannot be read");
        opened.damage.push(format!("{name}: {reason}"));
    }
    if found.kept.is_empty() && !found.unreadable.is_empty() {
        let text = "no manifest can be read; restore one of the folder manifest/ from a backup";
        return Err(EventsError::Unusable(text.to_owned()));
    }
    for name in &found.surplus {
        objects.delete(name)?;
    }
    let mut kept = found.kept.into_iter();
    let newest = kept.next().unwrap_or_default();
    let previous = kept.next().unwrap_or_else(|| newest.clone());
    Ok((newest, previous, found.highest))
}

/// Removes files that no manifest names: what a crash left behind.
fn remove_orphans(objects: &dyn ObjectStore, manifests: &[&Manifest]) -> Result<usize, EventsError> {
    let named: BTreeSet<&str> = manifests.iter().flat_map(|manifest| manifest.names()).collect();
    let mut removed = 0;
    for folder in OURS {
        for object in objects.list(folder, usize::MAX)? {
            if !object.name.starts_with(folder) {
                break;
            }
            if !named.contains(object.name.as_str()) {
                objects.delete(&object.name)?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Opens all files of cells and ids. Damaged cells are left out and written down as lost; damaged ids stop the start.
fn open_all(
    disk: &dyn Disk,
    dir: &std::path::Path,
    manifest: &mut Manifest,
    opened: &mut Opened,
) -> Result<Files, EventsError> {
    let (mut cells, mut ids) = (BTreeMap::<_, Vec<_>>::new(), IdFiles::new());
    let mut lost = Vec::new();
    manifest.cells.retain(|file| {
        let mapped = disk.map(&dir.join(&file.name)).map_err(|error| error.to_string());
        let table = mapped.and_then(|bytes| Table::open(file.name.clone(), bytes).map_err(|error| error.to_string()));
        match table {
            Ok(table) => {
                let period = cells.entry((file.grain, file.start)).or_default();
                period.push(Arc::new(table));
                true
            }
            Err(reason) => {
                lost.push(Lost {
                    name: file.name.clone(),
                    reason,
                    start: Millis(file.start * MINUTE),
                    end: Millis((file.start + file.grain.file_minutes()) * MINUTE),
                });
                false
            }
        }
    });
    for lost in lost {
        tracing::error!(file = %lost.name, reason = %lost.reason, "counts of events were lost");
        opened.damage.push(format!("{}: {}", lost.name, lost.reason));
        manifest.lost.push(lost);
    }
    for entry in &manifest.ids {
        let opened = IdFile::open(entry.name.clone(), disk.map(&dir.join(&entry.name))?);
        let file = opened.map_err(|error| {
            EventsError::Unusable(format!(
                "{error}: events of the hour from {} on could be counted twice; restore the file from a backup",
                Millis(entry.hour * HOUR)
            ))
        })?;
        ids.entry(entry.hour).or_default().push(Arc::new(file));
    }
    Ok(Files {
        manifest: manifest.clone(),
        cells,
        ids,
    })
}

/// Opens the log and folds what is in no file yet.
fn replay(
    (disk, dir, options): (&Arc<dyn Disk>, &std::path::Path, SegmentOptions),
    state: &mut State,
    answers: &Answers,
    watermark: &Watermark,
    opened: &mut Opened,
) -> Result<(SegmentLog, Vec<Damage>), EventsError> {
    let from = state.position;
    let (mut damage, mut problem) = (Vec::new(), None);
    let dir = dir.join("log");
    let log = SegmentLog::open(Arc::clone(disk), &dir, options, &mut |found| match found {
        Replay::Record(found) if found.at.0 >= from => match record::decode(&found.payload) {
            Ok((header, events)) => {
                opened.records += 1;
                opened.events += events.len() as u64;
                watermark.was(header.closed * MINUTE);
                events.iter().for_each(|event| watermark.saw(event));
                state.apply(found.at.0, &header, &events);
                answers.keep(&header);
            }
            Err(error) => problem = Some(format!("log record {}: {error}", found.at.0)),
        },
        Replay::Damage(found) => damage.push(found.clone()),
        Replay::Record(_) | Replay::Segment { .. } => {}
    })?;
    if let Some(problem) = problem {
        let text = format!("{problem}, although its checksum fits: it was written by a newer program");
        return Err(EventsError::Unusable(text));
    }
    for damage in &damage {
        tracing::error!(%damage, "the log of events is damaged");
        opened.damage.push(damage.to_string());
    }
    state.position = state.position.max(log.next().0);
    Ok((log, damage))
}

/// Reads a file of answers.
pub(super) fn read_answers(objects: &dyn ObjectStore, name: &str) -> Result<Vec<Header>, EventsError> {
    let bytes = objects.read(name, 0, objects.size(name)?)?;
    let damaged = |reason: &str| EventsError::Cells(format!("answers in {name}: {reason}"));
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged("cut"))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(damaged("it fails its checksum"));
    }
    let read = || -> Result<Vec<Header>, DecodeError> {
        let mut cursor = Cursor::new(body);
        let count = cursor.size()?;
        (0..count).map(|_| record::take_header(&mut cursor)).collect()
    };
    read().map_err(|error| damaged(&error.to_string()))
}
