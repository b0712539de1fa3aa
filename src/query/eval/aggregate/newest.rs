//! `sum by (x) (m)` at one moment: the store says the newest value and the group of each series, and no series is built.

use super::Folding;
use crate::model::{Labels, is_stale};
use crate::query::QueryError;
use crate::query::eval::Evaluator;
use crate::query::eval::matrix::{ABSENT, Grid, Row};
use crate::query::eval::plan::{Aggregate, Kind};
use crate::storage::NewestBy;

/// How many values are folded between two looks at the deadline.
const LOOK: usize = 1 << 14;

impl Evaluator<'_> {
    /// Asks the store for the newest values when that is all the aggregation needs; `None` when it needs the series.
    pub(super) fn newest_by(&self, aggregate: &Aggregate, grid: Grid) -> Result<Option<NewestBy>, QueryError> {
        let node = &aggregate.expr;
        let Kind::Vector(selector) = &node.kind else {
            return Ok(None);
        };
        let plain = selector.boundary.is_none() && !selector.totals_only;
        if grid.count != 1 || aggregate.without || node.shared.is_some() || !plain {
            return Ok(None);
        }
        let select = self.what(selector, 0, grid);
        Ok(self.querier.newest_by(&select, &aggregate.grouping)?)
    }

    /// Folds what the store said.
    pub(super) fn fold_newest(&self, newest: &NewestBy, folding: &mut Folding<'_>) -> Result<(), QueryError> {
        let _held = self.budget.hold(size_of_val(newest.values.as_slice()))?;
        self.budget.series(newest.values.len())?;
        let mut groups: Vec<Option<usize>> = vec![None; newest.groups.len()];
        let mut row = Row::of_floats(Labels::empty(), false, vec![ABSENT]);
        for values in newest.values.chunks(LOOK) {
            let mut live = 0;
            for (group, value) in values.iter().filter(|(_, value)| !is_stale(*value)) {
                let known = &mut groups[*group as usize];
                let group = match *known {
                    Some(group) => group,
                    None => *known.insert(folding.group(&newest.groups[*group as usize])?),
                };
                row.floats[0] = *value;
                folding.add(group, &row)?;
                live += 1;
            }
            self.budget.samples(live)?;
            self.budget.looked_at(live as u64);
            self.budget.looked_at_in(folding.grid, 0, live as u64);
        }
        Ok(())
    }
}
