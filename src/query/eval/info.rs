//! `info`: a join with info metrics that needs no labels spelled out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::labels::same_labels;
use super::matrix::{ABSENT, Grid, Matrix, Row, is_absent};
use super::notes::Notes;
use super::plan::{Call, Kind, Node, Selector};
use super::{Evaluator, labels};
use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher};
use crate::query::QueryError;

/// The info metric that is meant when none is named.
const TARGET_INFO: &str = "target_info";
/// The labels by which series and info metrics belong together.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// What the second argument asks for.
struct Wanted {
    /// Matchers on the info metrics' names.
    names: Vec<Matcher>,
    /// Matchers on other labels: when there are any, only these labels are added.
    data: Vec<Matcher>,
}

impl Wanted {
    fn of(arg: Option<&Node>) -> Result<Wanted, QueryError> {
        let matchers: &[Matcher] = match arg.map(|arg| &arg.kind) {
            Some(Kind::Vector(selector)) => &selector.matchers,
            _ => &[],
        };
        let (names, data): (Vec<Matcher>, Vec<Matcher>) = matchers
            .iter()
            .cloned()
            .partition(|matcher| matcher.name == METRIC_NAME);
        Ok(Wanted {
            names: with_default(names)?,
            data,
        })
    }

    fn adds(&self, label: &str) -> bool {
        self.data.is_empty() || self.data.iter().any(|matcher| matcher.name == label)
    }

    fn is_info(&self, labels: &Labels) -> bool {
        let name = labels.metric_name().unwrap_or_default();
        self.names.iter().all(|matcher| matcher.matches(name))
    }
}

/// Without a matcher that names metrics, `target_info` is meant; with exclusions only, all that ends in `_info`.
fn with_default(mut names: Vec<Matcher>) -> Result<Vec<Matcher>, QueryError> {
    if names
        .iter()
        .any(|matcher| matches!(matcher.op, MatchOp::Equal | MatchOp::Regex))
    {
        return Ok(names);
    }
    if names.is_empty() {
        return Ok(vec![Matcher::equal(METRIC_NAME, TARGET_INFO)]);
    }
    let any = Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info")
        .map_err(|error| QueryError::Execution(error.to_string()))?;
    names.insert(0, any);
    Ok(names)
}

impl Evaluator<'_> {
    pub(super) fn info(&self, call: &Call, grid: Grid, notes: &mut Notes) -> Result<Matrix, QueryError> {
        let (at, offset) = times_of(&call.args[0]);
        let mut base = self.vector(&call.args[0], grid, notes)?;
        let wanted = Wanted::of(call.args.get(1))?;
        let infos = self.info_rows(&base.rows, &wanted, at, offset, grid, notes)?;
        let rows = self.enrich(std::mem::take(&mut base.rows), &infos, &wanted, grid)?;
        base.held.grow(rows.iter().map(Row::bytes).sum())?;
        base.rows = rows;
        Ok(base)
    }

    /// Selects the info series that may belong to any of `rows`; their values are the times of their samples.
    fn info_rows(
        &self,
        rows: &[Row],
        wanted: &Wanted,
        at: Option<i64>,
        offset: i64,
        grid: Grid,
        notes: &mut Notes,
    ) -> Result<Vec<Row>, QueryError> {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for row in rows.iter().filter(|row| !wanted.is_info(&row.labels)) {
            for name in IDENTIFYING {
                if let Some(value) = row.labels.get(name) {
                    values.entry(name).or_default().insert(value);
                }
            }
        }
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let mut matchers = wanted.names.clone();
        matchers.extend(wanted.data.iter().cloned());
        for (name, values) in values {
            let pattern = values.into_iter().map(regex::escape).collect::<Vec<String>>().join("|");
            // Too many values for a pattern: the signatures below sort out what does not belong.
            if let Ok(matcher) = Matcher::new(name, MatchOp::Regex, pattern) {
                matchers.push(matcher);
            }
        }
        let selector = Selector {
            matchers,
            offset,
            at,
            boundary: None,
            totals_only: false,
            func: "info",
            grouping: None,
            aggregation: None,
        };
        Ok(self.newest_times(&selector, grid, notes)?.rows)
    }

    fn enrich(&self, rows: Vec<Row>, infos: &[Row], wanted: &Wanted, grid: Grid) -> Result<Vec<Row>, QueryError> {
        let newest = Newest::of(infos, grid)?;
        let needs_info = wanted.data.iter().any(|matcher| !matcher.matches_empty());
        let mut results: Vec<Row> = Vec::new();
        let mut index: HashMap<Labels, usize> = HashMap::new();
        for row in rows {
            self.budget.check()?;
            if wanted.is_info(&row.labels) {
                put_whole(&mut results, &mut index, row)?;
                continue;
            }
            let found = newest.of_row(&row.labels);
            // Which info series are the newest changes rarely: the labels are computed once for each combination.
            let mut known: Vec<(Vec<Option<usize>>, Option<usize>)> = Vec::new();
            for step in 0..grid.count {
                let Some(value) = row.value(step) else { continue };
                let sources: Vec<Option<usize>> = found.iter().map(|steps| steps[step]).collect();
                let at = match known.iter().position(|(other, _)| *other == sources) {
                    Some(at) => at,
                    None => {
                        let labels = added(&row.labels, infos, &sources, wanted)?;
                        let kept = !needs_info || sources.iter().any(Option::is_some);
                        let target = kept.then(|| {
                            *index.entry(labels.clone()).or_insert_with(|| {
                                results.push(Row::empty(labels, row.drop_name, grid.count));
                                results.len() - 1
                            })
                        });
                        known.push((sources, target));
                        known.len() - 1
                    }
                };
                if let Some(target) = known[at].1 {
                    if results[target].is_present(step) {
                        return Err(same_labels());
                    }
                    results[target].set(step, value);
                }
            }
        }
        results.retain(|row| !row.is_blank());
        if grid.count == 1 {
            Ok(results)
        } else {
            labels::join(results)
        }
    }
}

fn put_whole(results: &mut Vec<Row>, index: &mut HashMap<Labels, usize>, row: Row) -> Result<(), QueryError> {
    if let Some(at) = index.get(&row.labels) {
        for step in 0..row.floats.len() {
            if let Some(value) = row.value(step) {
                if results[*at].is_present(step) {
                    return Err(same_labels());
                }
                results[*at].set(step, value);
            }
        }
        return Ok(());
    }
    index.insert(row.labels.clone(), results.len());
    results.push(row);
    Ok(())
}

/// The time at which info series are looked at: that of the first selector in the argument, with the subqueries around it.
fn times_of(node: &Node) -> (Option<i64>, i64) {
    fn search(node: &Node) -> Option<(Option<i64>, i64)> {
        match &node.kind {
            Kind::Vector(selector) => Some((selector.at, selector.offset)),
            Kind::Matrix(window) => Some((window.selector.at, window.selector.offset)),
            Kind::Subquery(subquery) => {
                let (at, offset) = search(&subquery.expr)?;
                Some(match at {
                    Some(at) => (Some(at), offset),
                    None => (subquery.at, offset.saturating_add(subquery.offset)),
                })
            }
            Kind::Negate(operand) => search(operand),
            Kind::Binary(binary) => search(&binary.lhs).or_else(|| search(&binary.rhs)),
            Kind::Aggregate(aggregate) => search(&aggregate.expr).or_else(|| aggregate.param.as_ref().and_then(search)),
            Kind::Call(call) => call.args.iter().find_map(search),
            Kind::Number(_) | Kind::Text(_) => None,
        }
    }
    search(node).unwrap_or((None, 0))
}

/// For each info metric and each identity, which info series is the newest at each step.
struct Newest {
    by_name: BTreeMap<String, HashMap<Labels, Vec<Option<usize>>>>,
}

fn identity(labels: &Labels) -> Labels {
    labels.filtered(|name| IDENTIFYING.contains(&name))
}

impl Newest {
    fn of(infos: &[Row], grid: Grid) -> Result<Newest, QueryError> {
        let mut by_name: BTreeMap<String, HashMap<Labels, Vec<Option<usize>>>> = BTreeMap::new();
        for (at, info) in infos.iter().enumerate() {
            let name = info.labels.metric_name().unwrap_or_default().to_owned();
            let steps = by_name
                .entry(name)
                .or_default()
                .entry(identity(&info.labels))
                .or_insert_with(|| vec![None; grid.count]);
            for (step, slot) in steps.iter_mut().enumerate() {
                let time = info.floats[step];
                if is_absent(time) {
                    continue;
                }
                let known = slot.map_or(ABSENT, |known| infos[known].floats[step]);
                if is_absent(known) || known < time {
                    *slot = Some(at);
                } else if known == time {
                    let known = &infos[slot.unwrap_or(at)].labels;
                    return Err(QueryError::Execution(format!(
                        "found duplicate series for info metric: existing {} @ {time}, new {} @ {time}",
                        braces(known),
                        braces(&info.labels)
                    )));
                }
            }
        }
        Ok(Newest { by_name })
    }

    /// Returns the newest info series of each info metric for a series.
    fn of_row(&self, labels: &Labels) -> Vec<&[Option<usize>]> {
        let identity = identity(labels);
        self.by_name
            .values()
            .filter_map(|known| known.get(&identity))
            .map(Vec::as_slice)
            .collect()
    }
}

/// All labels inside the braces, the name too.
pub(super) fn braces(labels: &Labels) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (name, value) in labels.iter() {
        parts.push(match crate::model::is_valid_label_name(name) {
            true => format!("{name}={value:?}"),
            false => format!("{name:?}={value:?}"),
        });
    }
    format!("{{{}}}", parts.join(", "))
}

/// Returns the labels with those of the info series added.
///
/// # Errors
/// When two info series disagree.
fn added(base: &Labels, infos: &[Row], sources: &[Option<usize>], wanted: &Wanted) -> Result<Labels, QueryError> {
    let mut new: BTreeMap<&str, &str> = BTreeMap::new();
    for source in sources.iter().flatten() {
        for (name, value) in infos[*source].labels.iter() {
            if name == METRIC_NAME || !wanted.adds(name) {
                continue;
            }
            if new.get(name).is_some_and(|known| *known != value) {
                return Err(QueryError::Execution(format!("conflicting label: {name}")));
            }
            if base.get(name).is_none() {
                new.insert(name, value);
            }
        }
    }
    let mut labels = base.to_builder();
    for (name, value) in new {
        labels.set(name, value);
    }
    Ok(labels.build())
}
