//! Labels: dropping names in the end, joining rows that became one series, `label_replace` and `label_join`.

use hashbrown::HashMap;

use super::matrix::{Grid, Matrix, Row};
use super::notes::Notes;
use super::plan::{Call, Node};
use super::{Evaluator, without_metadata};
use crate::model::{Labels, METRIC_NAME};
use crate::query::QueryError;

/// Whether a label belongs to the metric's name: its type and unit go with it.
pub(super) fn is_metadata(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// Drops the names that are to go and joins what is then one series.
pub(super) fn finish(mut rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
    for row in rows.iter_mut().filter(|row| row.drop_name) {
        row.labels = without_metadata(&row.labels);
        row.drop_name = false;
    }
    join(rows)
}

pub(super) fn same_labels() -> QueryError {
    QueryError::Execution("vector cannot contain metrics with the same labelset".to_owned())
}

/// Joins rows that are one series: equal labels, and the name to be dropped in all of them or in none.
///
/// # Errors
/// When two of them have a point at the same step.
pub(super) fn join(rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
    let mut index: HashMap<(Labels, bool), usize> = HashMap::with_capacity(rows.len());
    let mut joined: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        let key = (row.labels.clone(), row.drop_name);
        match index.get(&key) {
            None => {
                index.insert(key, joined.len());
                joined.push(row);
            }
            Some(at) => absorb(&mut joined[*at], row)?,
        }
    }
    Ok(joined)
}

/// Moves the points of `from` into `into`.
fn absorb(into: &mut Row, from: Row) -> Result<(), QueryError> {
    for step in 0..from.floats.len() {
        if let Some(value) = from.value(step) {
            if into.is_present(step) {
                return Err(same_labels());
            }
            into.set(step, value);
        }
    }
    Ok(())
}

/// Any text is a label's name, unless it is empty or was no UTF-8 (what the parser replaced shows that).
fn checked_name<'n>(name: &'n str, what: &str) -> Result<&'n str, QueryError> {
    if name.is_empty() || name.contains(char::REPLACEMENT_CHARACTER) {
        return Err(QueryError::Execution(format!("invalid {what}: {name}")));
    }
    Ok(name)
}

impl Evaluator<'_> {
    pub(super) fn label_replace(&self, call: &Call, grid: Grid, notes: &mut Notes) -> Result<Matrix, QueryError> {
        let [vector, dst, replacement, src, pattern] = &call.args[..] else {
            return Err(QueryError::Execution("label_replace takes five arguments".to_owned()));
        };
        let (dst, replacement, src, pattern) = (dst.text(), replacement.text(), src.text(), pattern.text());
        let regex = regex::RegexBuilder::new(&format!("^(?s:{pattern})$"))
            .size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|_| QueryError::Execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
        checked_name(dst, "destination label name in label_replace()")?;
        let mut matrix = self.vector(vector, grid, notes)?;
        for row in &mut matrix.rows {
            self.budget.check()?;
            let Some(found) = regex.captures(row.labels.value(src)) else {
                continue;
            };
            let mut value = String::new();
            found.expand(replacement, &mut value);
            relabel(row, dst, &value)?;
        }
        matrix.rows = join(std::mem::take(&mut matrix.rows))?;
        Ok(matrix)
    }

    pub(super) fn label_join(&self, call: &Call, grid: Grid, notes: &mut Notes) -> Result<Matrix, QueryError> {
        let [vector, dst, separator, sources @ ..] = &call.args[..] else {
            return Err(QueryError::Execution(
                "label_join takes at least three arguments".to_owned(),
            ));
        };
        for source in sources {
            checked_name(source.text(), "source label name in label_join()")?;
        }
        let dst = checked_name(dst.text(), "destination label name in label_join()")?;
        let sources: Vec<&str> = sources.iter().map(Node::text).collect();
        let mut matrix = self.vector(vector, grid, notes)?;
        for row in &mut matrix.rows {
            self.budget.check()?;
            let values: Vec<&str> = sources.iter().map(|source| row.labels.value(source)).collect();
            let value = values.join(separator.text());
            relabel(row, dst, &value)?;
        }
        matrix.rows = join(std::mem::take(&mut matrix.rows))?;
        Ok(matrix)
    }
}

/// The largest compiled pattern of `label_replace`, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// The longest label value that a query may build, in bytes: nested calls double it each time.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// A name that is set on purpose stays.
fn relabel(row: &mut Row, name: &str, value: &str) -> Result<(), QueryError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(QueryError::Limit(format!(
            "label {name:?} becomes {} bytes long, the limit is {VALUE_BYTES_MAX}",
            value.len()
        )));
    }
    let mut labels = row.labels.to_builder();
    labels.set(name, value);
    row.labels = labels.build();
    if name == METRIC_NAME {
        row.drop_name = false;
    }
    Ok(())
}
