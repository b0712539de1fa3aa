//! Asking for counts: any window, any fields, exact.
//!
//! A question is answered from the cells of the smallest cube that has all of its fields, by days, hours and minutes; what no
//! cube can answer (addresses, users, other fields, parts of a minute) is counted from raw events. Everything is a sum over
//! memory, what a checkpoint is writing, and files, taken under one lock, so that an event is in it exactly once.

mod merged;
mod plan;
mod raw;

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;

pub(super) use merged::MergedCache;
pub use plan::{STEPS_MAX, Step, StepError};
pub(crate) use plan::{Stretch, stretches};

use super::cells::{CellMetric, Counts, Cube, MINUTE, key_of, key_parts, minute_of};
use super::manifest::Grain;
use super::people::{People, PeopleError};
use super::state::{Files, Fresh, State};
use super::tables::Page;
use super::{Domain, Events, EventsError, Field, PersonHash};
use crate::model::Millis;

/// Which events are asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Ads or pages.
    pub domain: Domain,
    /// From then on …
    pub from: Millis,
    /// … until before then.
    pub to: Millis,
    /// Fields with the value they must have; empty stands for absent.
    pub fields: Vec<(Field, String)>,
    /// When not empty, the user must be one of these.
    pub users: Vec<PersonHash>,
    /// When not empty, the address must be one of these.
    pub ips: Vec<PersonHash>,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// Retention dropped what the answer needs.
    #[error("counts by {grain} before {kept_from} are gone by retention; ask for whole {coarser}")]
    Gone {
        /// Which counts.
        grain: &'static str,
        /// What of them is kept.
        kept_from: Millis,
        /// What may still be there.
        coarser: &'static str,
    },
    /// Nobody can count by these fields.
    #[error("{0}")]
    Unanswerable(String),
    /// Too many steps, or no such step.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A file cannot be read.
    #[error(transparent)]
    Events(#[from] EventsError),
}

/// What an answer was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// The fields of the cube; `None` when raw events were counted.
    pub cube: Option<Vec<Field>>,
    /// Whether the part from files was kept from an earlier question.
    pub cached: bool,
    /// Bytes of raw files read.
    pub raw_bytes: u64,
    /// What may be missing: damaged files in the range.
    pub warnings: Vec<String>,
}

/// The state of a minute's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinuteState {
    /// Events may still come in time.
    Open,
    /// The watermark has passed.
    Closed,
    /// Closed, and found equal to the raw events.
    Reconciled,
}

impl MinuteState {
    /// Returns the word in answers.
    pub fn name(self) -> &'static str {
        match self {
            MinuteState::Open => "open",
            MinuteState::Closed => "closed",
            MinuteState::Reconciled => "reconciled",
        }
    }
}

/// A place in the ranking of the most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// The value of the field.
    pub value: String,
    /// How many.
    pub count: i64,
}

/// One moment's memory and files, to be summed over.
pub(super) struct Look<'a> {
    state: &'a State,
    pub(super) frozen: Option<Arc<Fresh>>,
    pub(super) files: Arc<Files>,
}

/// Rows of a page, or one cell in memory.
pub(super) enum Piece<'a> {
    Rows(&'a Page, Range<usize>),
    Cell(i64, &'a Counts),
}

impl Piece<'_> {
    pub(super) fn sum(&self, metric: CellMetric) -> i64 {
        match self {
            Piece::Rows(page, rows) => page.sum(metric, rows.clone()),
            Piece::Cell(_, counts) => counts.get(metric),
        }
    }

    /// Calls `each` with every bucket and one of its numbers.
    pub(super) fn each_of(&self, metric: CellMetric, mut each: impl FnMut(i64, i64)) {
        match self {
            Piece::Rows(page, rows) => rows
                .clone()
                .for_each(|row| each(page.bucket(row), page.number(metric, row))),
            Piece::Cell(minute, counts) => each(*minute, counts.get(metric)),
        }
    }

    /// Calls `each` with every bucket and its numbers.
    pub(super) fn each(&self, mut each: impl FnMut(i64, Counts)) {
        match self {
            Piece::Rows(page, rows) => rows.clone().for_each(|row| each(page.bucket(row), page.counts(row))),
            Piece::Cell(minute, counts) => each(*minute, **counts),
        }
    }
}

/// Called with key, bucket and people of a cell.
pub(super) type VisitPeople<'v> = dyn FnMut(&[u8], i64, PeoplePart<'_>) -> Result<(), PeopleError> + 'v;

/// Some of a cell's people.
pub(super) enum PeoplePart<'a> {
    One(u64),
    Set(&'a [u8]),
}

impl PeoplePart<'_> {
    pub(super) fn add_to(&self, people: &mut People) -> Result<(), PeopleError> {
        match self {
            PeoplePart::One(person) => {
                people.extend(&[*person]);
                Ok(())
            }
            PeoplePart::Set(bytes) => people.merge(bytes),
        }
    }
}

/// A cube with the part of its keys that is wanted.
pub(super) struct Wanted {
    pub(super) cube: Cube,
    pub(super) prefix: Vec<u8>,
    /// Values at places behind the prefix.
    rest: Vec<(usize, String)>,
}

impl Wanted {
    pub(super) fn new(cube: &Cube, fields: &[(Field, String)]) -> Wanted {
        let value_of = |field: &Field| {
            fields
                .iter()
                .find(|(own, _)| own == field)
                .map(|(_, value)| value.as_str())
        };
        let leading: Vec<&str> = cube.fields.iter().map_while(value_of).collect();
        let rest = fields.iter().filter_map(|(field, value)| {
            let place = cube.position(*field)?;
            (place >= leading.len()).then(|| (place, value.clone()))
        });
        Wanted {
            prefix: key_of(leading.iter().copied()),
            rest: rest.collect(),
            cube: cube.clone(),
        }
    }

    pub(super) fn matches(&self, key: &[u8]) -> bool {
        let fits = |(place, value): &(usize, String)| key_parts(key).nth(*place) == Some(value.as_bytes());
        self.rest.iter().all(fits)
    }
}

impl Look<'_> {
    /// Calls `visit` with key and numbers of all wanted cells in memory.
    pub(super) fn memory(&self, wanted: &Wanted, stretches: &[Stretch], visit: &mut dyn FnMut(&[u8], Piece<'_>)) {
        let (Some(first), Some(last)) = (stretches.first(), stretches.last()) else {
            return;
        };
        let frozen = self.frozen.as_deref();
        for fresh in std::iter::once(&self.state.fresh).chain(frozen) {
            fresh
                .memory
                .visit(&wanted.cube, &wanted.prefix, first.from, last.to, &mut |cell| {
                    if wanted.matches(cell.key) {
                        visit(cell.key, Piece::Cell(cell.minute, cell.counts));
                    }
                });
        }
    }
}

impl Events {
    /// Returns the sums over all events asked about.
    ///
    /// # Errors
    /// [`QuestionError`].
    pub fn totals(&self, question: &Question) -> Result<(Counts, Served), QuestionError> {
        let (mut total, served) = (Counts::default(), self.choose(question, &[], Grain::Day)?);
        let Some((wanted, stretches)) = served.1 else {
            let bytes = self.count_raw(question, &mut |_, counts| total.add(counts))?;
            return Ok((total, served.0.raw(bytes)));
        };
        let served = served.0;
        self.each_piece(&wanted, &stretches, &mut |_, piece| {
            piece.each(|_, counts| total.add(&counts))
        })?;
        let bytes = self.count_edges(question, &mut |_, counts| total.add(counts))?;
        Ok((total, served.with_edges(bytes)))
    }

    /// Returns the sums of each step, with the step's first minute; steps that `question` covers in part count that part.
    ///
    /// # Errors
    /// [`QuestionError`].
    pub fn by_step(
        &self,
        question: &Question,
        step: Step,
        zone: &jiff::tz::TimeZone,
    ) -> Result<(Vec<(Millis, Counts)>, Served), QuestionError> {
        let (from, to) = (minute_of(question.from.0), minute_up(question.to.0));
        let edges = step.edges(from, to, zone)?;
        let mut steps: Vec<(Millis, Counts)> = edges[..edges.len() - 1]
            .iter()
            .map(|edge| (Millis(edge * MINUTE), Counts::default()))
            .collect();
        let (served, found) = self.choose(question, &[], Grain::Day)?;
        let mut add = |minute: i64, counts: &Counts| {
            let place = edges.partition_point(|edge| *edge <= minute).saturating_sub(1);
            if let Some((_, sum)) = steps.get_mut(place) {
                sum.add(counts);
            }
        };
        let Some((wanted, _)) = found else {
            let bytes = self.count_raw(question, &mut |minute, counts| add(minute, counts))?;
            return Ok((steps, served.raw(bytes)));
        };
        let (first, last) = (minute_up(question.from.0), minute_of(question.to.0));
        let coarse = |from: i64, to: i64| stretches(from.max(first), to.min(last), Grain::Day);
        let parts: Vec<Stretch> = match step {
            // One pass over minutes instead of one for each step.
            Step::Minutes(length) if length < 60 => stretches(first, last, Grain::Minute),
            Step::Minutes(_) => stretches(first, last, Grain::Hour),
            _ => edges.windows(2).flat_map(|pair| coarse(pair[0], pair[1])).collect(),
        };
        self.check_kept(&parts)?;
        self.each_piece(&wanted, &parts, &mut |_, piece| {
            piece.each(|bucket, counts| add(bucket, &counts))
        })?;
        let bytes = self.count_edges(question, &mut add)?;
        Ok((steps, served.with_edges(bytes)))
    }

    /// Returns the values of `field` with the most of `metric`, ties by the value; values without any are left out.
    ///
    /// # Errors
    /// [`QuestionError`].
    pub fn top(
        &self,
        question: &Question,
        field: Field,
        metric: CellMetric,
        count: usize,
    ) -> Result<(Vec<Ranked>, Served), QuestionError> {
        let (served, found) = self.choose(question, &[field], Grain::Day)?;
        let mut live: HashMap<Vec<u8>, i64> = HashMap::new();
        let Some((wanted, stretches)) = found else {
            let mut values: HashMap<String, i64> = HashMap::new();
            let bytes = self.group_raw(question, field, &mut |value, counts| {
                *values.entry_ref(value).or_default() += counts.get(metric);
            })?;
            let values = values.into_iter().map(|(value, count)| (value.into_bytes(), count));
            return Ok((
                merged::top(&merged::Merged::default(), &values.collect(), count),
                served.raw(bytes),
            ));
        };
        let place = wanted
            .cube
            .position(field)
            .expect("the cube was chosen to have the field");
        let edges = self.group_edges(question, field, &mut |value, counts| {
            *live.entry_ref(value.as_bytes()).or_default() += counts.get(metric);
        })?;
        let (frozen, files) = {
            let state = self.state.read();
            let look = look(&state);
            look.memory(&wanted, &stretches, &mut |key, piece| {
                let value = key_parts(key).nth(place).unwrap_or_default();
                *live.entry_ref(value).or_default() += piece.sum(metric);
            });
            (look.frozen, look.files)
        };
        drop(frozen);
        let (merged, cached) = self.merged_of(&files, &wanted, &stretches, place, metric)?;
        let served = Served {
            cached,
            ..served.with_edges(edges)
        };
        Ok((merged::top(&merged, &live, count), served))
    }

    /// Returns how many people there were, whether that is exact, and the set as a DataSketches HLL sketch.
    ///
    /// # Errors
    /// [`QuestionError`].
    pub fn uniques(&self, question: &Question) -> Result<(f64, bool, Vec<u8>, Served), QuestionError> {
        let mut people = People::default();
        let (served, found) = self.choose_people(question)?;
        let served = match found {
            None => {
                let bytes = self.people_raw(question, &mut people)?;
                served.raw(bytes)
            }
            Some((wanted, stretches)) => {
                self.merge_people(&wanted, &stretches, &mut people)?;
                let bytes = self.people_edges(question, &mut people)?;
                served.with_edges(bytes)
            }
        };
        let (count, exact) = people.count();
        Ok((count, exact, people.sketch(), served))
    }

    fn merge_people(&self, wanted: &Wanted, parts: &[Stretch], people: &mut People) -> Result<(), QuestionError> {
        self.each_people(wanted, parts, &mut |_, _, part| part.add_to(people))
    }

    /// Calls `visit` with key, bucket and people of all wanted cells.
    pub(super) fn each_people(
        &self,
        wanted: &Wanted,
        parts: &[Stretch],
        visit: &mut VisitPeople<'_>,
    ) -> Result<(), QuestionError> {
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
            return Ok(());
        };
        let mut problem = Ok(());
        let files = {
            let state = self.state.read();
            for fresh in std::iter::once(&state.fresh).chain(state.frozen.as_deref()) {
                let (cube, prefix) = (&wanted.cube, &wanted.prefix);
                let mut each = |key: &[u8], minute: i64, person: u64| {
                    if problem.is_ok() && wanted.matches(key) {
                        problem = visit(key, minute, PeoplePart::One(person));
                    }
                };
                fresh.memory.people(cube, prefix, first.from, last.to, &mut each);
            }
            Arc::clone(&state.files)
        };
        for stretch in parts {
            for table in tables_of(&files, *stretch) {
                let (cube, prefix) = (&wanted.cube, &wanted.prefix);
                let mut each = |key: &[u8], bucket: i64, bytes: &[u8]| {
                    if problem.is_ok() && wanted.matches(key) {
                        problem = visit(key, bucket, PeoplePart::Set(bytes));
                    }
                };
                let visited = table.people(cube, prefix, stretch.from, stretch.to, &mut each);
                visited.map_err(EventsError::from)?;
            }
        }
        problem.map_err(|error| QuestionError::Events(EventsError::Cells(error.to_string())))
    }

    /// Returns state and version of each step that a question about its minutes touches: version 1 is the count when the
    /// minute was closed, each correction adds one.
    ///
    /// # Errors
    /// [`QuestionError`].
    pub fn states(
        &self,
        question: &Question,
        step: Step,
        zone: &jiff::tz::TimeZone,
    ) -> Result<Vec<(Millis, MinuteState, i64)>, QuestionError> {
        let all = Question {
            from: Millis(minute_of(question.from.0) * MINUTE),
            to: Millis(minute_up(question.to.0) * MINUTE),
            fields: Vec::new(),
            users: Vec::new(),
            ips: Vec::new(),
            ..*question
        };
        let watermark = self.watermark();
        let (steps, _) = self.by_step(&all, step, zone)?;
        let files = Arc::clone(&self.state.read().files);
        let reconciled = &files.manifest.reconciled;
        let ends = steps.iter().skip(1).map(|(at, _)| *at).chain([all.to]);
        let state_of = |from: Millis, to: Millis| match (minute_of(from.0), minute_of(to.0)) {
            _ if to > watermark => MinuteState::Open,
            (from, to) if reconciled.iter().any(|own| own.0 <= from && to <= own.1) => MinuteState::Reconciled,
            _ => MinuteState::Closed,
        };
        let states = steps.iter().zip(ends).map(|((at, counts), end)| {
            let version = 1 + counts.get(CellMetric::Revisions);
            (*at, state_of(*at, end), version)
        });
        Ok(states.collect())
    }

    /// Returns a number that changes when counts of minutes `from..to` do.
    pub(super) fn version_of(&self, from: i64, to: i64) -> u64 {
        let state = self.state.read();
        // A checkpoint moves counts and changes none; its number is in here so that what it forgets is not taken for older.
        (state.files.manifest.number << 32).wrapping_add(state.touched(from, to))
    }

    /// Calls `visit` with key and numbers of all wanted cells.
    pub(super) fn each_piece(
        &self,
        wanted: &Wanted,
        parts: &[Stretch],
        visit: &mut dyn FnMut(&[u8], Piece<'_>),
    ) -> Result<(), QuestionError> {
        let files = {
            let state = self.state.read();
            let look = look(&state);
            look.memory(wanted, parts, visit);
            look.files
        };
        self.each_file_piece(&files, wanted, parts, visit)
    }

    fn each_file_piece(
        &self,
        files: &Files,
        wanted: &Wanted,
        parts: &[Stretch],
        visit: &mut dyn FnMut(&[u8], Piece<'_>),
    ) -> Result<(), QuestionError> {
        for stretch in parts {
            for table in tables_of(files, *stretch) {
                let (cube, prefix) = (&wanted.cube, &wanted.prefix);
                let mut each = |key: &[u8], page: &Page, rows: Range<usize>| {
                    if wanted.matches(key) {
                        visit(key, Piece::Rows(page, rows));
                    }
                };
                let visited = table.visit(&self.cache, cube, prefix, stretch.from, stretch.to, &mut each);
                visited.map_err(EventsError::from)?;
            }
        }
        Ok(())
    }

    /// Chooses cube and stretches; no cube when only raw events can answer.
    pub(super) fn choose(
        &self,
        question: &Question,
        group: &[Field],
        coarsest: Grain,
    ) -> Result<Choice, QuestionError> {
        self.choose_among(question, group, coarsest, false)
    }

    fn choose_people(&self, question: &Question) -> Result<Choice, QuestionError> {
        self.choose_among(question, &[], Grain::Day, true)
    }

    fn choose_among(
        &self,
        question: &Question,
        group: &[Field],
        coarsest: Grain,
        people: bool,
    ) -> Result<Choice, QuestionError> {
        let (from, to) = (minute_up(question.from.0), minute_of(question.to.0));
        let parts = stretches(from, to, coarsest);
        let mut served = Served {
            warnings: self.lost_in(question.from, question.to),
            ..Served::default()
        };
        let by_person = !question.users.is_empty() || !question.ips.is_empty();
        let mut fields: Vec<Field> = question.fields.iter().map(|(field, _)| *field).collect();
        fields.extend_from_slice(group);
        let cube = self.cube_for(question.domain, &fields, &parts, people);
        let Some(cube) = cube.filter(|_| !by_person) else {
            return Ok((served, None));
        };
        self.check_kept(&parts)?;
        served.cube = Some(cube.fields.clone());
        Ok((served, Some((Wanted::new(&cube, &question.fields), parts))))
    }

    /// Returns the smallest cube that has all these fields and covers the whole range.
    pub(super) fn cube_for(&self, domain: Domain, fields: &[Field], parts: &[Stretch], people: bool) -> Option<Cube> {
        let files = Arc::clone(&self.state.read().files);
        let fits = |cube: &&Cube| {
            cube.domain == domain
                && cube.has_all(fields)
                // People who are in two cells of a cube are one person: only a cube with just these fields will do.
                && (!people || (cube.people && cube.fields.len() <= fields.len()))
        };
        let mut cubes: Vec<&Cube> = self.cubes.iter().filter(fits).collect();
        cubes.sort_by_key(|cube| cube.fields.len());
        let covers = |cube: &&Cube| {
            let mut tables = parts.iter().flat_map(|stretch| tables_of(&files, *stretch));
            tables.all(|table| table.cubes().contains(cube))
        };
        cubes.into_iter().find(covers).cloned()
    }

    fn check_kept(&self, parts: &[Stretch]) -> Result<(), QuestionError> {
        let files = Arc::clone(&self.state.read().files);
        for stretch in parts {
            let kept = files.manifest.kept_from.get(&stretch.grain);
            if let Some(kept) = kept.filter(|kept| **kept > stretch.from) {
                let (grain, coarser) = match stretch.grain {
                    Grain::Minute => ("minute", "hours"),
                    Grain::Hour => ("hour", "days (UTC)"),
                    Grain::Day => ("day", "ranges that are kept"),
                };
                return Err(QuestionError::Gone {
                    grain,
                    kept_from: Millis(kept * MINUTE),
                    coarser,
                });
            }
        }
        Ok(())
    }

    pub(super) fn lost_in(&self, from: Millis, to: Millis) -> Vec<String> {
        let files = Arc::clone(&self.state.read().files);
        let lost = files.manifest.lost.iter();
        let lost = lost.filter(|lost| lost.start < to && lost.end > from);
        lost.map(|lost| format!("incomplete: {} was lost: {}", lost.name, lost.reason))
            .collect()
    }
}

/// What [`Events::choose`] found.
pub(super) type Choice = (Served, Option<(Wanted, Vec<Stretch>)>);

impl Served {
    fn raw(self, bytes: u64) -> Served {
        Served {
            cube: None,
            raw_bytes: bytes,
            ..self
        }
    }

    fn with_edges(self, bytes: u64) -> Served {
        Served {
            raw_bytes: bytes,
            ..self
        }
    }
}

pub(super) fn look(state: &State) -> Look<'_> {
    Look {
        state,
        frozen: state.frozen.clone(),
        files: Arc::clone(&state.files),
    }
}

/// Returns the files that may hold cells of a stretch.
fn tables_of(files: &Files, stretch: Stretch) -> impl Iterator<Item = &Arc<super::tables::Table>> {
    let length = stretch.grain.file_minutes();
    let first = stretch.from - stretch.from.rem_euclid(length);
    let range = (stretch.grain, first)..(stretch.grain, stretch.to.max(first));
    files.cells.range(range).flat_map(|(_, tables)| tables)
}

/// Returns the first minute that begins at or after `at`.
fn minute_up(at: i64) -> i64 {
    minute_of(at.saturating_add(MINUTE - 1))
}
