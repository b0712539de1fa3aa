//! Detectors over a grid: the history of each element, what was learned from it, and each step's judgement.
//!
//! The argument is evaluated twice: at the steps of the query, and at multiples of the resolution as far back as the model
//! learns. What is learned up to an anchor serves all steps after it and, while the store says that nothing changed before the
//! anchor, all queries: then only the latest part of the history is read again.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use rayon::prelude::*;

use super::matrix::{ABSENT, Grid, Row, is_absent};
use super::notes::Notes;
use super::plan::{Call, Kind, Node};
use super::{Evaluator, Sink};
use crate::model::{Labels, Millis, TimeRange};
use crate::query::QueryError;
use crate::query::detect::{
    Band, Calendar, Fit, Fitted, Judge, Points, Settings, decompose, forecast, forecast_settings,
};
use crate::query::functions::{Bound, Detect, Shown};

/// The label that tells the numbers of a band apart.
const BAND: &str = "band";
/// How many histories are worked on between two looks at the budget.
const CHUNK: usize = 64;

/// What is learned at the anchors of a query's steps.
struct Learned {
    /// Each anchor with the steps that go by it, rising.
    anchors: Vec<(i64, std::ops::Range<usize>)>,
    /// For each anchor, what was known before.
    known: Vec<Option<Arc<Fitted>>>,
    /// For each anchor, the key of the cache and the version of the data.
    keys: Vec<Option<(u128, u64)>>,
}

/// The history of one element, and its values at the query's steps.
struct Subject {
    labels: Labels,
    drop_name: bool,
    values: Vec<f64>,
    times: Vec<i64>,
    history: Vec<f64>,
}

impl Evaluator<'_> {
    /// Evaluates a detector.
    pub(super) fn detect(
        &self,
        call: &Call,
        detect: Detect,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let refused = |reason: String| QueryError::Execution(format!("{}: {reason}", call.function.name));
        match detect {
            Detect::Band(_) | Detect::Bands => {
                let options = call.args[2..].iter().map(Node::text);
                let settings = Settings::read(call.args[0].text(), options).map_err(refused)?;
                self.bands(&call.args[1], detect, &settings, grid, notes, sink)
            }
            Detect::Part(part) => {
                let options = call.args[1..].iter().map(Node::text);
                let settings = Settings::read("mstl", options).map_err(refused)?;
                let compute = |points: Points<'_>, end: i64, _: usize| decompose(points, end, part, &settings);
                self.histories(&call.args[0], &settings, grid, notes, sink, &compute)
            }
            Detect::Forecast(bound) => {
                let options: Vec<&str> = call.args[2..].iter().map(Node::text).collect();
                let (settings, level, seasons) = forecast_settings(&options).map_err(refused)?;
                let ahead = self.scalars(&call.args[1], grid, notes)?;
                let compute = |points: Points<'_>, end: i64, step: usize| {
                    #[expect(clippy::cast_possible_truncation, reason = "a length of time in milliseconds")]
                    let ahead = (ahead.at(step) * 1000.0) as i64;
                    let found = forecast(points, end, ahead, level, seasons, &settings)?;
                    Some(match bound {
                        Bound::Lower => found.lower,
                        Bound::Point => found.point,
                        Bound::Upper => found.upper,
                    })
                };
                self.histories(&call.args[0], &settings, grid, notes, sink, &compute)
            }
        }
    }

    /// Functions of the history before each step, without a memory.
    fn histories(
        &self,
        arg: &Node,
        settings: &Settings,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
        compute: &(dyn Fn(Points<'_>, i64, usize) -> Option<f64> + Sync),
    ) -> Result<(), QueryError> {
        let resolution = settings.resolution;
        let end_of = |step: usize| (grid.at(step).div_euclid(resolution) + 1) * resolution;
        let from = end_of(0) - settings.history;
        let all = Grid::range(from, end_of(grid.count - 1) - resolution, resolution);
        let mut found = Vec::new();
        self.stream(arg, all, notes, &mut |rows| {
            let subjects = rows.into_iter().map(|row| subject(row, all, Vec::new())).collect();
            let rows = self.each_in_parallel(subjects, &|subject: &Subject| {
                let points = subject.points();
                let mut floats = vec![ABSENT; grid.count];
                let mut last: Option<(i64, usize)> = None;
                for step in 0..grid.count {
                    let end = end_of(step);
                    match last.filter(|(before, _)| *before == end) {
                        // Within a step of the resolution, what is to come moves no further either.
                        Some((_, before)) => floats[step] = floats[before],
                        None => {
                            self.budget.check()?;
                            floats[step] = compute(points, end, step).unwrap_or(ABSENT);
                        }
                    }
                    last = Some((end, step));
                }
                Ok(vec![Row::of_floats(subject.labels.clone(), true, floats)])
            })?;
            found.extend(rows);
            Ok(())
        })?;
        hand_on(found, sink)
    }

    fn bands(
        &self,
        arg: &Node,
        detect: Detect,
        settings: &Settings,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let now = self.vector(arg, grid, notes)?;
        let mut values: HashMap<Labels, Row> = now.rows.into_iter().map(|row| (row.labels.clone(), row)).collect();
        let learned = self.learned(arg, settings, grid);
        let resolution = settings.resolution;
        let last = grid.last().div_euclid(resolution) * resolution;
        let all = Grid::range(learned.from(settings, grid), last, resolution);
        let calendar = Calendar::new(settings, all.start, grid.last().max(last));
        let mut held = self.budget.hold(0)?;
        let mut found = Vec::new();
        let mut fresh: Vec<Fitted> = learned.anchors.iter().map(|_| Fitted::new()).collect();
        let judged = Judged {
            detect,
            settings,
            calendar: &calendar,
            learned: &learned,
            grid,
        };
        self.stream(arg, all, notes, &mut |rows| {
            let subjects: Vec<Subject> = rows
                .into_iter()
                .map(|row| {
                    let values = values.remove(&row.labels).map_or(Vec::new(), |row| row.floats);
                    subject(row, all, values)
                })
                .collect();
            let fits = Mutex::new(Vec::new());
            let rows = self.each_in_parallel(subjects, &|subject: &Subject| {
                self.budget.check()?;
                let (rows, learned) = judged.subject(subject);
                fits.lock().extend(learned);
                Ok(rows)
            })?;
            for (anchor, labels, fit) in fits.into_inner() {
                held.grow(fit.bytes())?;
                fresh[anchor].insert(labels, fit);
            }
            found.extend(rows);
            Ok(())
        })?;
        // Elements without any history: all that can be said is their value.
        for (_, row) in values {
            let subject = subject_without_history(row);
            found.extend(judged.subject(&subject).0);
        }
        learned.keep(fresh, &self.options.fits);
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        hand_on(found, sink)
    }

    /// Finds the anchors of the steps, and what is known of them.
    fn learned(&self, arg: &Node, settings: &Settings, grid: Grid) -> Learned {
        let mut anchors: Vec<(i64, std::ops::Range<usize>)> = Vec::new();
        for step in 0..grid.count {
            let anchor = settings.anchor(grid.at(step));
            match anchors.last_mut().filter(|(last, _)| *last == anchor) {
                Some((_, steps)) => steps.end = step + 1,
                None => anchors.push((anchor, step..step + 1)),
            }
        }
        let reach = reach(arg, self.options.lookback.0).filter(|_| self.options.fits.is_on() && settings.learns());
        let keys: Vec<Option<(u128, u64)>> = anchors
            .iter()
            .map(|(anchor, _)| {
                let text = format!(
                    "{anchor}\n{}\n{}\n{}",
                    settings.key(),
                    self.options.lookback.0,
                    self.options.subquery_step.0
                );
                let key = xxhash_rust::xxh3::xxh3_128(format!("{text}\n{}", arg.expr).as_bytes());
                let range = TimeRange {
                    min: Millis(anchor.saturating_sub(settings.history).saturating_sub(reach?)),
                    max: Millis(anchor - 1),
                };
                Some((key, self.querier.version(range)))
            })
            .collect();
        let known = keys
            .iter()
            .map(|key| key.and_then(|(key, version)| self.options.fits.get(key, version)));
        Learned {
            known: known.collect(),
            anchors,
            keys,
        }
    }

    /// Works on subjects in parallel, a few at a time, and hands their rows back in order.
    fn each_in_parallel(
        &self,
        subjects: Vec<Subject>,
        work: &(dyn Fn(&Subject) -> Result<Vec<Row>, QueryError> + Sync),
    ) -> Result<Vec<Row>, QueryError> {
        let mut rows = Vec::new();
        for chunk in subjects.chunks(CHUNK) {
            self.budget.check()?;
            let done: Vec<Result<Vec<Row>, QueryError>> = match chunk.len() {
                1 => vec![work(&chunk[0])],
                _ => chunk.par_iter().map(work).collect(),
            };
            for done in done {
                rows.extend(done?);
            }
        }
        Ok(rows)
    }
}

impl Learned {
    /// Returns from when on the history is needed.
    fn from(&self, settings: &Settings, grid: Grid) -> i64 {
        let resolution = settings.resolution;
        let recent = grid.start.div_euclid(resolution) * resolution - settings.recent();
        let anchors = self.anchors.iter().zip(&self.known);
        let unknown = anchors.filter(|(_, known)| known.is_none() && settings.learns());
        let begins = unknown.map(|((anchor, _), _)| anchor - settings.history);
        // A model that goes forward takes every point since the anchor.
        let anchor = self.anchors.first().map_or(recent, |(anchor, _)| *anchor);
        let since = if settings.recent() == 0 { anchor } else { recent };
        let from = begins.chain([since]).min().unwrap_or(since);
        from.div_euclid(resolution) * resolution
    }

    /// Whether what is learned is kept: that of one anchor is asked for again, those of a long graph hardly are.
    fn is_kept(&self) -> bool {
        matches!(&self.keys[..], [Some(_)])
    }

    /// Keeps what was learned anew.
    fn keep(&self, fresh: Vec<Fitted>, fits: &crate::query::Fits) {
        if !self.is_kept() {
            return;
        }
        let anchors = self.keys.iter().zip(&self.known).zip(fresh);
        for ((key, known), fresh) in anchors {
            if let (Some((key, version)), None) = (key, known) {
                fits.put(*key, *version, Arc::new(fresh));
            }
        }
    }
}

/// How the elements of a query are judged.
struct Judged<'a> {
    detect: Detect,
    settings: &'a Settings,
    calendar: &'a Calendar,
    learned: &'a Learned,
    grid: Grid,
}

/// What was learned of an element at the anchor with this index.
type Fresh = (usize, Labels, Arc<Fit>);

impl Judged<'_> {
    fn subject(&self, subject: &Subject) -> (Vec<Row>, Vec<Fresh>) {
        let mut bands: Vec<Option<Band>> = vec![None; self.grid.count];
        let mut fresh = Vec::new();
        let points = subject.points();
        for (index, (anchor, steps)) in self.learned.anchors.iter().enumerate() {
            let fit = match &self.learned.known[index] {
                Some(known) => known.get(&subject.labels).cloned(),
                None => Fit::learn(points, *anchor, self.settings, self.calendar).map(Arc::new),
            };
            if let (Some(fit), None, true) = (&fit, &self.learned.known[index], self.learned.is_kept()) {
                fresh.push((index, subject.labels.clone(), Arc::clone(fit)));
            }
            if subject.values.is_empty() {
                continue;
            }
            let mut judge = Judge::new(self.settings, self.calendar, points, *anchor, fit.as_deref());
            for step in steps.clone() {
                let value = subject.values[step];
                if !is_absent(value) {
                    bands[step] = judge.judge(self.grid.at(step), value);
                }
            }
        }
        let rows = if subject.values.is_empty() {
            Vec::new()
        } else {
            self.rows(subject, &bands)
        };
        (rows, fresh)
    }

    fn rows(&self, subject: &Subject, bands: &[Option<Band>]) -> Vec<Row> {
        let column = |of: &dyn Fn(&Band) -> f64| -> Vec<f64> {
            bands.iter().map(|band| band.as_ref().map_or(ABSENT, of)).collect()
        };
        let shown = |shown: Shown| match shown {
            Shown::Expected => column(&|band| band.expected),
            Shown::Lower => column(&|band| band.lower),
            Shown::Score => column(&|band| band.score),
            Shown::Upper => column(&|band| band.upper),
        };
        if let Detect::Band(which) = self.detect {
            return vec![Row::of_floats(subject.labels.clone(), true, shown(which))];
        }
        let named = |name: &str, floats: Vec<f64>| {
            let mut labels = match subject.drop_name {
                true => subject.labels.without_metric_name(),
                false => subject.labels.clone(),
            }
            .to_builder();
            labels.set(BAND, name);
            Row::of_floats(labels.build(), true, floats)
        };
        vec![
            named("value", subject.values.clone()),
            named("expected", shown(Shown::Expected)),
            named("lower", shown(Shown::Lower)),
            named("upper", shown(Shown::Upper)),
            named("score", shown(Shown::Score)),
        ]
    }
}

impl Subject {
    fn points(&self) -> Points<'_> {
        Points {
            times: &self.times,
            values: &self.history,
        }
    }
}

/// Turns the history of an element into points: histograms and what is no number are none.
fn subject(row: Row, grid: Grid, values: Vec<f64>) -> Subject {
    let present = row.floats.iter().enumerate().filter(|(_, value)| value.is_finite());
    let (times, history) = present.map(|(step, value)| (grid.at(step), *value)).unzip();
    Subject {
        labels: row.labels,
        drop_name: row.drop_name,
        values,
        times,
        history,
    }
}

fn subject_without_history(row: Row) -> Subject {
    Subject {
        labels: row.labels,
        drop_name: row.drop_name,
        values: row.floats,
        times: Vec::new(),
        history: Vec::new(),
    }
}

fn hand_on(mut rows: Vec<Row>, sink: &mut Sink<'_>) -> Result<(), QueryError> {
    rows.retain(|row| !row.is_blank());
    if rows.is_empty() { Ok(()) } else { sink(rows) }
}

/// Returns how far before a step the node looks; `None` when that cannot be told, or it looks into the future.
fn reach(node: &Node, lookback: i64) -> Option<i64> {
    let offset = |offset: i64, at: Option<i64>| (at.is_none() && offset >= 0).then_some(offset);
    let mut most = match &node.kind {
        Kind::Vector(selector) => offset(selector.offset, selector.at)?.checked_add(lookback)?,
        Kind::Matrix(window) => {
            let before = offset(window.selector.offset, window.selector.at)?;
            before.checked_add(window.range)?.checked_add(lookback)?
        }
        Kind::Subquery(subquery) => {
            let before = offset(subquery.offset, subquery.at)?.checked_add(subquery.range)?;
            return before.checked_add(reach(&subquery.expr, lookback)?);
        }
        _ => 0,
    };
    let mut known = true;
    node.for_each_child(0, &mut 0, &mut |child, _, _| match reach(child, lookback) {
        Some(below) => most = most.max(below),
        None => known = false,
    });
    known.then_some(most)
}
