//! Rules that ask the same of the store and differ only in their threshold: it is asked once for all of them.
//!
//! `m > 1`, `m > 2` and `5 <= m` read the same series. Within one evaluation of a group, the part without the threshold is
//! evaluated once, and each rule takes from its answer what passes. That is what a comparison with a number does, element by
//! element, as long as there are no native histograms; where there are, the engine is asked as usual.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::prelude::*;

use super::Evaluate;
use super::runtime::RuleRuntime;
use crate::model::Millis;
use crate::query::ast::{BinaryOp, ExprKind};
use crate::query::types::Type;
use crate::query::{Expr, QueryError, QueryOutput, QueryStats, QueryValue, VectorSample};
use crate::storage::Point;

/// The engine, and the answers that several rules share.
pub(super) struct Shared<'a> {
    engine: &'a dyn Evaluate,
    at: Millis,
    scans: HashMap<String, Vec<(VectorSample, f64)>>,
}

/// `vector > number`, whichever way it is written.
struct Threshold<'a> {
    vector: &'a Expr,
    op: BinaryOp,
    number: f64,
    number_first: bool,
}

impl<'a> Shared<'a> {
    /// Evaluates at `at` what more than one of the rules asks.
    pub(super) fn between(rules: &[RuleRuntime], engine: &'a dyn Evaluate, at: Millis) -> Shared<'a> {
        let mut asked: HashMap<String, (&Expr, usize)> = HashMap::new();
        if rules.len() > 1 {
            for threshold in rules
                .iter()
                .flat_map(|rule| rule.spec.queries())
                .filter_map(|query| threshold(&query.expr))
            {
                let entry = asked.entry(threshold.vector.to_string());
                entry.or_insert((threshold.vector, 0)).1 += 1;
            }
        }
        let several: Vec<(String, &Expr)> = asked
            .into_iter()
            .filter(|(_, (_, count))| *count > 1)
            .map(|(text, (vector, _))| (text, vector))
            .collect();
        let scans = several.into_par_iter().filter_map(|(text, vector)| {
            // What fails here fails again for each rule by itself, which then says so.
            let asked = catch_unwind(AssertUnwindSafe(|| engine.instant(vector, at)));
            let output = asked.ok()?.ok()?;
            let QueryValue::Vector(samples) = output.value else {
                return None;
            };
            let floats: Option<Vec<_>> = samples.into_iter().map(with_float).collect();
            Some((text, floats?))
        });
        Shared {
            engine,
            at,
            scans: scans.collect(),
        }
    }
}

impl Evaluate for Shared<'_> {
    fn instant(&self, expr: &Expr, at: Millis) -> Result<QueryOutput, QueryError> {
        let shared = Some(expr)
            .filter(|_| at == self.at && !self.scans.is_empty())
            .and_then(threshold)
            .and_then(|threshold| Some((self.scans.get(&threshold.vector.to_string())?, threshold)));
        let Some((scan, threshold)) = shared else {
            return self.engine.instant(expr, at);
        };
        let passing = scan.iter().filter(|(_, value)| threshold.takes(*value));
        Ok(QueryOutput {
            value: QueryValue::Vector(passing.map(|(sample, _)| sample.clone()).collect()),
            warnings: Vec::new(),
            infos: Vec::new(),
            stats: QueryStats::default(),
        })
    }

    fn complete_until(&self, expr: &Expr) -> Millis {
        self.engine.complete_until(expr)
    }
}

impl Threshold<'_> {
    #[expect(clippy::float_cmp, reason = "that is what the operator means")]
    fn takes(&self, value: f64) -> bool {
        let (left, right) = if self.number_first {
            (self.number, value)
        } else {
            (value, self.number)
        };
        match self.op {
            BinaryOp::Equal => left == right,
            BinaryOp::NotEqual => left != right,
            BinaryOp::Less => left < right,
            BinaryOp::LessEqual => left <= right,
            BinaryOp::Greater => left > right,
            _ => left >= right,
        }
    }
}

fn threshold(expr: &Expr) -> Option<Threshold<'_>> {
    let ExprKind::Binary(binary) = &*expr.without_parens().kind else {
        return None;
    };
    if !binary.op.is_comparison() || binary.return_bool {
        return None;
    }
    let of = |vector: &'_ Expr, number: &Expr| {
        let number = number.as_number()?;
        (vector.ty == Type::InstantVector).then_some(number)
    };
    let (vector, number, number_first) = match of(&binary.lhs, &binary.rhs) {
        Some(number) => (&binary.lhs, number, false),
        None => (&binary.rhs, of(&binary.rhs, &binary.lhs)?, true),
    };
    Some(Threshold {
        vector: vector.without_parens(),
        op: binary.op,
        number,
        number_first,
    })
}

fn with_float(sample: VectorSample) -> Option<(VectorSample, f64)> {
    match &sample.point {
        Point::Float(float) => {
            let value = float.value;
            Some((sample, value))
        }
        Point::Histogram(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::model::Labels;
    use crate::query::{Engine, QueryOptions, parse};
    use crate::rules::alerting::Alerts;
    use crate::rules::{RuleFile, RuleFileSource, RuleKey};
    use crate::storage::LiteralStore;

    struct Counting {
        store: LiteralStore,
        asked: AtomicUsize,
    }

    impl Evaluate for Counting {
        fn instant(&self, expr: &Expr, at: Millis) -> Result<QueryOutput, QueryError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Engine.instant(&self.store, expr, at, &QueryOptions::default())
        }
    }

    const QUERIES: [&str; 10] = [
        "m > 1",
        "m >= 1",
        "(m) < 2",
        "m <= 2",
        "m == 2",
        "m != 2",
        "3 > m",
        "1 <= (m)",
        "rate(m[1m]) > 0",
        "rate(m[1m]) < 1",
    ];

    fn rules() -> Vec<RuleRuntime> {
        let lines: String = QUERIES
            .iter()
            .map(|query| format!("  - {{alert: A, expr: '{query}'}}\n"))
            .collect();
        let text = format!("groups:\n- name: g\n  rules:\n{lines}");
        let path = "x.yaml".into();
        let file = RuleFile::read(&RuleFileSource { path, text }).unwrap();
        let specs = file.groups[0].rules.iter().cloned().enumerate();
        let rule = |(nth, spec)| {
            let key = RuleKey {
                group: "g".to_owned(),
                rule: "A".to_owned(),
                labels: Default::default(),
                nth: nth as u32,
            };
            RuleRuntime::new(key, spec, Alerts::default())
        };
        specs.map(rule).collect()
    }

    #[test]
    fn thresholds_of_one_vector_ask_once_and_get_the_engines_own_answers() {
        let store = LiteralStore::default();
        for (n, value) in [0.0, 1.0, 2.0, 3.0, f64::NAN, f64::INFINITY].into_iter().enumerate() {
            let labels = Labels::from_pairs([("__name__", "m"), ("n", &n.to_string())]);
            for at in [0, 30_000, 60_000] {
                store.put(&labels, Millis(at), value + at as f64 / 60_000.0);
            }
        }
        let engine = Counting {
            store,
            asked: AtomicUsize::new(0),
        };
        let at = Millis(60_000);
        let rules = rules();
        let shared = Shared::between(&rules, &engine, at);
        assert_eq!(engine.asked.load(Ordering::Relaxed), 2, "m and rate(m[1m])");
        for query in QUERIES {
            let expr = parse(query).unwrap();
            let theirs = engine.instant(&expr, at).unwrap().value;
            let before = engine.asked.load(Ordering::Relaxed);
            let ours = shared.instant(&expr, at).unwrap().value;
            assert_eq!(engine.asked.load(Ordering::Relaxed), before, "{query} was asked again");
            assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{query}");
        }
        let other = parse("m > 1").unwrap();
        shared.instant(&other, Millis(30_000)).unwrap();
        shared.instant(&parse("m > bool 1").unwrap(), at).unwrap();
        assert_eq!(
            engine.asked.load(Ordering::Relaxed),
            2 + 10 + 2,
            "another time, another question"
        );
    }
}
