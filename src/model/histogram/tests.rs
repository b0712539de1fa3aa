//! What holds for all histograms.

use proptest::prelude::*;

use super::*;

prop_compose! {
    fn buckets()(
        spans in prop::collection::vec((0i32..4, 0u32..4), 0..4),
        first in -6i32..6,
        counts in prop::collection::vec(0u32..20, 16),
    ) -> (Vec<Span>, Vec<f64>) {
        let spans: Vec<Span> = spans
            .iter()
            .enumerate()
            .map(|(at, (offset, length))| Span { offset: if at == 0 { first } else { *offset }, length: *length })
            .collect();
        let length: u32 = spans.iter().map(|span| span.length).sum();
        (spans, counts[..length as usize].iter().map(|count| f64::from(*count)).collect())
    }
}

prop_compose! {
    fn exponential()(
        schema in -2i32..5,
        zero_threshold in prop::sample::select(vec![0.0, 0.001, 0.3, 1.0, 2.5]),
        zero in 0u32..9,
        (positive_spans, positive_buckets) in buckets(),
        (negative_spans, negative_buckets) in buckets(),
    ) -> FloatHistogram {
        // No client has a populated bucket inside the zero bucket.
        let outside = |index: i32| super::buckets::bound(index - 1, schema, &[]) >= zero_threshold;
        let cleared = |spans: &[Span], buckets: &[f64]| -> Vec<f64> {
            let indexed = super::buckets::indexed(spans, buckets);
            indexed.map(|(index, count)| if outside(index) { count } else { 0.0 }).collect()
        };
        let positive_buckets = cleared(&positive_spans, &positive_buckets);
        let negative_buckets = cleared(&negative_spans, &negative_buckets);
        let zero_count = f64::from(zero);
        let count = positive_buckets.iter().chain(&negative_buckets).sum::<f64>() + zero_count;
        FloatHistogram {
            schema, zero_threshold, zero_count, count, sum: count / 2.0,
            positive_spans, positive_buckets, negative_spans, negative_buckets,
            ..FloatHistogram::default()
        }
    }
}

prop_compose! {
    fn custom()(
        steps in prop::collection::vec(1u32..4, 1..7),
        counts in prop::collection::vec(0u32..20, 8),
    ) -> FloatHistogram {
        let mut bound = -2.0;
        let custom_values: Vec<f64> = steps.iter().map(|step| { bound += f64::from(*step); bound }).collect();
        let positive_buckets: Vec<f64> = counts[..=custom_values.len()].iter().map(|count| f64::from(*count)).collect();
        let count = positive_buckets.iter().sum();
        let positive_spans = vec![Span { offset: 0, length: positive_buckets.len() as u32 }];
        FloatHistogram {
            schema: SCHEMA_CUSTOM, count, sum: count, positive_spans, positive_buckets, custom_values,
            ..FloatHistogram::default()
        }
    }
}

fn any_histogram() -> impl Strategy<Value = FloatHistogram> {
    prop_oneof![exponential(), custom()]
}

fn in_buckets(histogram: &FloatHistogram) -> f64 {
    histogram.buckets().iter().map(|bucket| bucket.count).sum()
}

proptest! {
    #[test]
    fn generated_histograms_are_valid(histogram in any_histogram()) {
        prop_assert_eq!(histogram.validate(), Ok(()));
    }

    #[test]
    fn compacting_changes_no_data(histogram in any_histogram()) {
        let mut compacted = histogram.clone();
        compacted.compact();
        prop_assert!(compacted.same_data(&histogram));
        prop_assert!(compacted.positive_buckets.iter().all(|count| *count != 0.0));
        let mut again = compacted.clone();
        again.compact();
        prop_assert_eq!(again, compacted);
    }

    #[test]
    fn a_sum_has_all_observations_whatever_the_layouts(a in exponential(), b in exponential()) {
        let mut sum = a.clone();
        sum.add(&b).unwrap();
        prop_assert_eq!(sum.count, a.count + b.count);
        prop_assert_eq!(in_buckets(&sum), in_buckets(&a) + in_buckets(&b));
        prop_assert_eq!(sum.schema, a.schema.min(b.schema));
        prop_assert!(sum.zero_threshold >= a.zero_threshold.max(b.zero_threshold));
        let mut other_way = b.clone();
        other_way.add(&a).unwrap();
        prop_assert!(sum.same_data(&other_way), "{sum} {other_way}");
        prop_assert_eq!(sum.validate(), Ok(()));
    }

    #[test]
    fn custom_bounds_are_reconciled(a in custom(), b in custom()) {
        let mut sum = a.clone();
        let reconciled = sum.add(&b).unwrap();
        prop_assert_eq!(reconciled.bounds_differ, a.custom_values != b.custom_values);
        prop_assert_eq!(in_buckets(&sum), in_buckets(&a) + in_buckets(&b));
        prop_assert_eq!(sum.validate(), Ok(()));
    }

    #[test]
    fn what_is_added_and_subtracted_is_gone(a in exponential(), b in exponential()) {
        let mut sum = a.clone();
        sum.add(&b).unwrap();
        sum.sub(&b).unwrap();
        prop_assert_eq!(sum.count, a.count);
        prop_assert_eq!(in_buckets(&sum), in_buckets(&a));
    }

    #[test]
    fn exponential_and_custom_do_not_mix(a in exponential(), b in custom()) {
        prop_assert_eq!(a.clone().add(&b), Err(MixedSchemas));
        prop_assert_eq!(b.clone().sub(&a), Err(MixedSchemas));
    }

    #[test]
    fn a_histogram_that_only_grew_was_not_reset(a in any_histogram(), b in any_histogram()) {
        let mut grown = a.clone();
        if let Ok(reconciled) = grown.add(&b) && grown.schema == a.schema && !reconciled.bounds_differ {
            prop_assert!(!grown.is_reset_since(&a), "{grown} {a}");
        }
        prop_assert!(!a.is_reset_since(&a));
        if a.count > 0.0 {
            let emptied = FloatHistogram { count: 0.0, ..a.clone() };
            prop_assert!(emptied.is_reset_since(&a));
        }
    }

    #[test]
    fn quantiles_rise(histogram in any_histogram(), a in 0.0..1.0f64, b in 0.0..1.0f64) {
        if histogram.count > 0.0 {
            let (low, high) = (histogram.quantile(a.min(b)).value, histogram.quantile(a.max(b)).value);
            prop_assert!(low <= high + 1e-9 * (1.0 + high.abs()), "{low} {high}");
        }
    }

    #[test]
    fn fractions_add_up(histogram in exponential(), at in -3.0..3.0f64) {
        if histogram.count > 0.0 {
            let below = histogram.fraction(f64::NEG_INFINITY, at).value;
            let above = histogram.fraction(at, f64::INFINITY).value;
            prop_assert!((below + above - 1.0).abs() < 1e-9, "{below} {above}");
        }
    }

    #[test]
    fn both_parts_of_a_cut_are_the_whole(histogram in exponential(), at in -3.0..3.0f64) {
        let (mut below, mut above) = (histogram.clone(), histogram.clone());
        below.trim(at, Keep::Below);
        above.trim(at, Keep::Above);
        prop_assert!((below.count + above.count - histogram.count).abs() < 1e-6 * (1.0 + histogram.count));
        prop_assert!(below.validate().is_ok() && above.validate().is_ok());
    }

    #[test]
    fn a_coarser_schema_keeps_all_observations(histogram in exponential(), by in 0i32..4) {
        let coarse = histogram.in_schema((histogram.schema - by).max(SCHEMA_MIN));
        prop_assert_eq!(in_buckets(&coarse), in_buckets(&histogram));
        prop_assert_eq!(coarse.validate(), Ok(()));
    }

    #[test]
    fn nothing_panics_on_nonsense(
        schema in prop_oneof![Just(SCHEMA_CUSTOM), any::<i32>(), -5i32..10],
        spans in prop::collection::vec((any::<i32>(), 0u32..6), 0..4),
        counts in prop::collection::vec(prop_oneof![Just(f64::NAN), Just(f64::INFINITY), any::<f64>()], 0..9),
        threshold in any::<f64>(),
        other in any_histogram(),
    ) {
        let spans: Vec<Span> = spans.into_iter().map(|(offset, length)| Span { offset, length }).collect();
        let nonsense = FloatHistogram {
            schema, zero_threshold: threshold.abs(), zero_count: 1.0, count: 2.0, sum: threshold,
            positive_spans: spans.clone(), negative_spans: spans,
            positive_buckets: counts.clone(), negative_buckets: counts, ..FloatHistogram::default()
        };
        let _ = (nonsense.validate(), nonsense.buckets(), nonsense.quantile(0.7), nonsense.variance(), nonsense.to_string());
        let _ = (nonsense.fraction(0.0, 1.0), nonsense.is_reset_since(&other), other.is_reset_since(&nonsense));
        let _ = (nonsense.clone().add(&other), other.clone().sub(&nonsense), nonsense.in_schema(0));
        nonsense.clone().trim(1.0, Keep::Above);
    }
}

#[test]
fn bounds_are_powers_of_two() {
    let histogram = FloatHistogram {
        schema: 1,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive_buckets: vec![1.0, 2.0, 3.0],
        count: 6.0,
        sum: 7.5,
        ..FloatHistogram::default()
    };
    let uppers: Vec<f64> = histogram.positive().map(|bucket| bucket.upper).collect();
    assert_eq!(uppers, [1.0, std::f64::consts::SQRT_2, 2.0]);
    let text = "{count:6, sum:7.5, (0.7071067811865476,1]:1, (1,1.4142135623730951]:2, (1.4142135623730951,2]:3}";
    assert_eq!(histogram.to_string(), text);
}
