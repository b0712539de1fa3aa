//! What occurs more than once in a plan is evaluated once: equal nodes over the same grid get a common key.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::{Kind, Node, Planner};
use crate::query::ast::{Expr, ExprKind};
use crate::query::types::Type;
use crate::storage::{self, Aggregation};

pub(super) struct Seen {
    expr: Expr,
    totals_only: bool,
    aggregation: Option<Aggregation>,
    key: usize,
    times: u32,
}

impl Seen {
    fn is(&self, node: &Node) -> bool {
        let labels_agree = self.aggregation == node.aggregation || !is_made_for_the_question(node);
        self.totals_only == node.totals_only && self.expr == node.expr && labels_agree
    }
}

impl Planner {
    /// Finds nodes that occur more than once over the same grid, largest first, and gives them a common key. Two passes: count,
    /// then mark.
    pub(super) fn share(&mut self, root: &mut Node, level: usize) {
        let mut next_level = level;
        self.count(root, level, false, &mut next_level);
        let mut next_level = level;
        self.mark(root, level, false, &mut next_level);
    }

    fn count(&mut self, node: &Node, level: usize, in_shared: bool, next_level: &mut usize) {
        let mut in_shared = in_shared;
        if !in_shared && is_worth_sharing(node) {
            let seen = self
                .seen
                .entry((hash_of(&node.expr), grid_of(node, level)))
                .or_default();
            match seen.iter_mut().find(|seen| seen.is(node)) {
                Some(found) => {
                    found.times += 1;
                    // What is below has been counted with the first one.
                    in_shared = true;
                }
                None => {
                    self.shared += 1;
                    seen.push(Seen {
                        expr: node.expr.clone(),
                        totals_only: node.totals_only,
                        aggregation: node.aggregation.clone(),
                        key: self.shared,
                        times: 1,
                    });
                }
            }
        }
        node.for_each_child(level, next_level, &mut |child, level, next_level| {
            self.count(child, level, in_shared, next_level);
        });
    }

    fn mark(&self, node: &mut Node, level: usize, in_shared: bool, next_level: &mut usize) {
        let mut in_shared = in_shared;
        if !in_shared && is_worth_sharing(node) {
            let seen = self.seen.get(&(hash_of(&node.expr), grid_of(node, level)));
            let found = seen.and_then(|seen| seen.iter().find(|seen| seen.is(node)));
            if let Some(found) = found.filter(|found| found.times > 1) {
                node.shared = Some(found.key);
                in_shared = true;
            }
        }
        node.for_each_child_mut(level, next_level, &mut |child, level, next_level| {
            self.mark(child, level, in_shared, next_level);
        });
    }
}

/// Only instant vectors that need the store are worth keeping.
fn is_worth_sharing(node: &Node) -> bool {
    if node.ty != Type::InstantVector || matches!(node.kind, Kind::Number(_)) {
        return false;
    }
    !node.expr.selectors().is_empty()
}

/// Whether the labels below may depend on the aggregation above.
fn is_made_for_the_question(node: &Node) -> bool {
    let selectors = node.expr.selectors();
    let mut matchers = selectors.iter().map(|selector| &selector.matchers);
    matchers.any(|matchers| storage::is_made_for_the_question(matchers))
}

/// A value that is the same at every step is evaluated over one step: those of equal nodes meet there.
fn grid_of(node: &Node, level: usize) -> usize {
    level * 2 + usize::from(node.invariant)
}

/// Equal expressions have equal hashes; the reverse is for `==` to say.
fn hash_of(expr: &Expr) -> u64 {
    let mut hasher = DefaultHasher::new();
    expr.walk(&mut |expr| match &*expr.kind {
        ExprKind::Vector(selector) | ExprKind::Matrix { selector, .. } => selector.matchers.hash(&mut hasher),
        ExprKind::Call { function, .. } => function.name.hash(&mut hasher),
        ExprKind::Binary(binary) => binary.op.hash(&mut hasher),
        ExprKind::Aggregate(aggregate) => aggregate.op.hash(&mut hasher),
        ExprKind::Number { value, .. } => value.to_bits().hash(&mut hasher),
        other => std::mem::discriminant(other).hash(&mut hasher),
    });
    hasher.finish()
}
