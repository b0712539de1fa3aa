//! `count_values`: how often each value occurs.

use hashbrown::HashMap;

use super::keeps;
use crate::model::{Labels, format_plain};
use crate::query::QueryError;
use crate::query::eval::Evaluator;
use crate::query::eval::matrix::{ABSENT, Grid, Matrix, Row, Value, is_absent};
use crate::query::eval::notes::Notes;
use crate::query::eval::plan::{Aggregate, Node};

impl Evaluator<'_> {
    pub(super) fn count_values(
        &self,
        aggregate: &Aggregate,
        grid: Grid,
        notes: &mut Notes,
    ) -> Result<Matrix, QueryError> {
        let label = aggregate.param.as_ref().map_or("", Node::text);
        if label.is_empty() {
            return Err(QueryError::Execution(format!("invalid label name {label:?}")));
        }
        let mut held = self.budget.hold(0)?;
        let mut index: HashMap<Labels, usize> = HashMap::new();
        let mut rows: Vec<Row> = Vec::new();
        let names = &aggregate.grouping;
        // Grouped by other labels, the value is a label of the result; dropped by name, it is not.
        let shows_value = !aggregate.without || keeps(names, true, label);
        self.stream(&aggregate.expr, grid, notes, &mut |batch| {
            for row in batch {
                self.budget.check()?;
                let base = row.labels.filtered(|name| keeps(names, aggregate.without, name));
                for step in 0..grid.count {
                    let Some(value) = row.value(step) else { continue };
                    let text = match value {
                        Value::Float(value) => format_plain(value),
                        Value::Histogram(histogram) => histogram.to_string(),
                    };
                    let mut labels = base.to_builder();
                    if shows_value {
                        labels.set(label, &text);
                    }
                    let labels = labels.build();
                    let at = match index.get(&labels) {
                        Some(at) => *at,
                        None => {
                            let new = Row::empty(labels.clone(), false, grid.count);
                            held.grow(new.bytes())?;
                            rows.push(new);
                            index.insert(labels, rows.len() - 1);
                            rows.len() - 1
                        }
                    };
                    let count = &mut rows[at].floats[step];
                    *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
                }
            }
            Ok(())
        })?;
        debug_assert!(
            rows.iter()
                .all(|row| row.floats.iter().any(|count| count.to_bits() != ABSENT.to_bits()))
        );
        Ok(Matrix { rows, held })
    }
}
