//! Detectors against published numbers, and against what they promise.

use super::forecast::{path, seasonal_strength};
use super::smooth::Weights;
use super::*;
use augurs_mstl::stlrs;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
const STEP: i64 = 300_000;
/// A Monday.
const START: i64 = 1_767_571_200_000;

/// Airline passengers by month, 1949 to 1960 (Box and Jenkins).
const PASSENGERS: [f64; 144] = [
    112.0, 118.0, 132.0, 129.0, 121.0, 135.0, 148.0, 148.0, 136.0, 119.0, 104.0, 118.0, 115.0, 126.0, 141.0, 135.0,
    125.0, 149.0, 170.0, 170.0, 158.0, 133.0, 114.0, 140.0, 145.0, 150.0, 178.0, 163.0, 172.0, 178.0, 199.0, 199.0,
    184.0, 162.0, 146.0, 166.0, 171.0, 180.0, 193.0, 181.0, 183.0, 218.0, 230.0, 242.0, 209.0, 191.0, 172.0, 194.0,
    196.0, 196.0, 236.0, 235.0, 229.0, 243.0, 264.0, 272.0, 237.0, 211.0, 180.0, 201.0, 204.0, 188.0, 235.0, 227.0,
    234.0, 264.0, 302.0, 293.0, 259.0, 229.0, 203.0, 229.0, 242.0, 233.0, 267.0, 269.0, 270.0, 315.0, 364.0, 347.0,
    312.0, 274.0, 237.0, 278.0, 284.0, 277.0, 317.0, 313.0, 318.0, 374.0, 413.0, 405.0, 355.0, 306.0, 271.0, 306.0,
    315.0, 301.0, 356.0, 348.0, 355.0, 422.0, 465.0, 467.0, 404.0, 347.0, 305.0, 336.0, 340.0, 318.0, 362.0, 348.0,
    363.0, 435.0, 491.0, 505.0, 404.0, 359.0, 310.0, 337.0, 360.0, 342.0, 406.0, 396.0, 420.0, 472.0, 548.0, 559.0,
    463.0, 407.0, 362.0, 405.0, 417.0, 391.0, 419.0, 461.0, 472.0, 535.0, 622.0, 606.0, 508.0, 461.0, 390.0, 432.0,
];

/// A repeatable number between -1 and 1.
fn noise(seed: i64) -> f64 {
    let hash = xxhash_rust::xxh3::xxh3_64(&seed.to_le_bytes());
    (hash >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// Visits of a site: quiet nights, busy days, half of it on weekends.
fn visits(at: i64) -> f64 {
    let day = (at - START).div_euclid(DAY);
    let hour = (at.rem_euclid(DAY)) as f64 / HOUR as f64;
    let daily = 100.0 + 80.0 * ((hour - 14.0) / 24.0 * std::f64::consts::TAU).cos();
    let weekend = if day.rem_euclid(7) >= 5 { 0.5 } else { 1.0 };
    daily * weekend * (1.0 + 0.08 * noise(at))
}

struct Series {
    times: Vec<i64>,
    values: Vec<f64>,
}

impl Series {
    fn of(from: i64, to: i64, step: i64, value: impl Fn(i64) -> f64) -> Series {
        let times: Vec<i64> = (0..(to - from) / step).map(|index| from + index * step).collect();
        let values = times.iter().map(|at| value(*at)).collect();
        Series { times, values }
    }

    fn points(&self) -> Points<'_> {
        Points {
            times: &self.times,
            values: &self.values,
        }
    }

    fn judge(&self, settings: &Settings, at: i64, value: f64) -> Option<Band> {
        let calendar = Calendar::new(settings, self.times[0], at);
        let anchor = settings.anchor(at);
        let fit = Fit::learn(self.points(), anchor, settings, &calendar);
        Judge::new(settings, &calendar, self.points(), anchor, fit.as_ref()).judge(at, value)
    }
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} instead of {expected}");
}

#[test]
fn decomposition_is_that_of_statsmodels_to_a_millionth() {
    let logs: Vec<f64> = PASSENGERS.iter().map(|value| value.ln()).collect();
    // statsmodels 0.14, STL(y, period=12, seasonal=7, robust=…): trend[0], trend[70], seasonal[0], seasonal[70], resid[70].
    for (robust, expected) in [
        (
            false,
            [
                4.805822212317107,
                5.531305572998265,
                -0.09644050308327083,
                -0.22035137829274923,
                0.0022517843362708234,
            ],
        ),
        (
            true,
            [
                4.798486307495564,
                5.532250398241899,
                -0.07523286647889942,
                -0.2197903503461868,
                0.0007459311460742413,
            ],
        ),
    ] {
        let mut params = stlrs::params();
        params
            .robust(robust)
            .inner_loops(if robust { 2 } else { 5 })
            .seasonal_length(7)
            .seasonal_degree(1)
            .seasonal_jump(1)
            .trend_jump(1)
            .low_pass_jump(1);
        let parts = decompose::with(&params, &logs, 12).unwrap();
        let found = [
            parts.trend[0],
            parts.trend[70],
            parts.seasonal[0],
            parts.seasonal[70],
            parts.remainder[70],
        ];
        for (found, expected) in found.iter().zip(expected) {
            close(*found, expected, 1e-6);
        }
    }
    assert!((seasonal_strength(&logs, 12).unwrap() - 0.971).abs() < 0.02);
}

#[test]
fn triple_smoothing_is_that_of_statsmodels() {
    // ExponentialSmoothing(trend="add", seasonal="add", initialization_method="known").fit(0.25, 0.03, 0.9).
    let weights = Weights {
        level: 0.25,
        trend: 0.03,
        season: 0.9,
    };
    let season = PASSENGERS[..12].iter().map(|value| value - 126.0).collect();
    let mut model = HoltWinters::new(weights, 126.0, 1.0, season);
    for (index, value) in PASSENGERS.iter().enumerate() {
        model.update(index % 12, *value);
    }
    // (Its twelfth step does not know the last point's season yet.)
    for (ahead, expected) in [(1, 451.8480621249928), (7, 652.4128745168358), (11, 419.26376222377496)] {
        close(
            model.expect(f64::from(ahead), (143 + ahead as usize) % 12),
            expected,
            1e-6,
        );
    }
}

#[test]
fn the_last_two_years_of_passengers_are_forecast_within_the_bar() {
    let (known, held) = PASSENGERS.split_at(120);
    let path = path(known, 12, 24, 0.95).unwrap();
    let errors = path
        .iter()
        .zip(held)
        .map(|(path, held)| (path.point - held).abs() / held);
    let mape = 100.0 * errors.sum::<f64>() / 24.0;
    // Seasonal naive 15.52, ETS(M,A,M) 10.14, Holt-Winters 6.39.
    assert!(mape <= 6.4, "MAPE {mape}");
    assert!(
        path.iter()
            .all(|step| step.lower < step.point && step.point < step.upper)
    );
}

#[test]
fn windowed_models_give_the_numbers_of_the_textbook() {
    // The gaps make the values equally frequent: 1, 2, …, 60 in some order.
    let series = Series::of(0, 60 * 60_000, 60_000, |at| ((at / 60_000 * 37) % 60) as f64 + 1.0);
    let judge = |model: &str, value: f64| {
        let settings = Settings::read(model, ["history=1h", "resolution=1m"]).unwrap();
        series.judge(&settings, 3_600_000, value).unwrap()
    };
    let zscore = judge("zscore", 30.5 + 3.0 * (3599.0_f64 / 12.0).sqrt());
    close(zscore.expected, 30.5, 1e-9);
    close(zscore.score, 1.0, 1e-9);
    let mad = judge("mad", 30.5);
    close(mad.upper - mad.expected, 3.0 * 1.482_602_218_505_602 * 15.0, 1e-9);
    assert_eq!(mad.score, 0.0);
    let iqr = judge("iqr", 30.5);
    close(iqr.upper - iqr.expected, 3.0 * 0.741_301_1 * 29.5, 1e-6);
}

#[test]
fn points_beyond_the_band_are_not_learned_by_any_model() {
    for (model, options) in [
        ("seasonal", vec![]),
        ("mad", vec!["history=1d"]),
        ("zscore", vec!["history=1d"]),
        ("iqr", vec!["history=1d"]),
        ("ewma", vec!["history=1d"]),
        ("holt_winters", vec![]),
    ] {
        let settings = Settings::read(model, options).unwrap();
        let now = START + 5 * WEEK + 13 * HOUR;
        let flat = |at: i64| 100.0 + 5.0 * noise(at);
        let clean = Series::of(START, now, STEP, flat);
        // Two hours of outage, one hour ago; a model of a day has seen the same a week before.
        let outage = |at: i64| {
            (now - 3 * HOUR..now - HOUR).contains(&at) || (now - WEEK - HOUR..now - WEEK + HOUR).contains(&at)
        };
        let hurt = Series::of(START, now, STEP, |at| if outage(at) { 1.0 } else { flat(at) });
        let (before, after) = (
            clean.judge(&settings, now, 100.0).unwrap(),
            hurt.judge(&settings, now, 100.0).unwrap(),
        );
        assert!(
            (before.expected - after.expected).abs() < 3.0 && after.lower > 70.0 && after.upper < 130.0,
            "{model}: {before:?} became {after:?}"
        );
        assert!(hurt.judge(&settings, now, 1.0).unwrap().score > 1.0, "{model}");
    }
}

#[test]
fn the_default_knows_the_hour_of_the_week_and_the_growth_since() {
    let settings = Settings::read("seasonal", []).unwrap();
    let growing = |at: i64| visits(at) * 1.06_f64.powf((at - START) as f64 / WEEK as f64);
    let now = START + 5 * WEEK + 3 * DAY + 14 * HOUR;
    let series = Series::of(START, now, STEP, growing);
    let expected = 180.0 * 1.06_f64.powf(5.5);
    let band = series.judge(&settings, now, expected).unwrap();
    assert!(
        (band.expected / expected - 1.0).abs() < 0.06 && band.score < 1.0,
        "{band:?}"
    );
    assert!(series.judge(&settings, now, 0.6 * expected).unwrap().score > 1.0);
    // At night, the same number would be far too many.
    let night = Series::of(START, now - 12 * HOUR, STEP, growing);
    assert!(night.judge(&settings, now - 12 * HOUR, expected).unwrap().score > 1.0);
}

#[test]
fn a_model_that_is_learning_says_nothing() {
    for (model, weeks) in [("seasonal", 1), ("mstl", 1), ("holt_winters", 1)] {
        let settings = Settings::read(model, []).unwrap();
        let short = Series::of(START, START + weeks * WEEK + 3 * DAY, STEP, visits);
        assert_eq!(
            short.judge(&settings, START + weeks * WEEK + 3 * DAY, 100.0),
            None,
            "{model}"
        );
        let now = START + 2 * WEEK + 2 * HOUR;
        let long = Series::of(START, now, STEP, visits);
        assert!(
            long.judge(&settings, now, 100.0).is_some(),
            "{model} does not know two weeks"
        );
    }
    let settings = Settings::read("mad", []).unwrap();
    let short = Series::of(0, 5 * HOUR, 60_000, |_| 1.0);
    assert_eq!(short.judge(&settings, 5 * HOUR, 1.0), None);
}

#[test]
fn direction_least_change_and_range_bend_the_score() {
    let series = Series::of(0, DAY, 60_000, |at| 100.0 + noise(at));
    let score = |options: &[&str], value: f64| {
        let settings = Settings::read("mad", options.iter().copied()).unwrap();
        series.judge(&settings, DAY, value).unwrap().score
    };
    assert!(score(&[], 120.0) > 1.0 && score(&[], 80.0) > 1.0);
    assert!(score(&["direction=below"], 120.0) == 0.0 && score(&["direction=below"], 80.0) > 1.0);
    assert!(score(&["direction=above"], 80.0) == 0.0 && score(&["direction=above"], 120.0) > 1.0);
    assert_eq!(score(&["min_change=25%"], 80.0), 0.0);
    assert!(score(&["min_change=25%"], 70.0) > 1.0);
    assert_eq!(score(&["min_change=30"], 120.0), 0.0);
    assert!(score(&["direction=below", "range=[0, 110]"], 120.0) > 1.0);
}

#[test]
fn the_stream_notices_what_is_unusual_for_the_series() {
    let settings = Settings::read("stream", []).unwrap();
    let series = Series::of(0, DAY, 60_000, |at| 50.0 + 5.0 * noise(at));
    assert!(series.judge(&settings, DAY, 52.0).unwrap().score < 1.0);
    assert!(series.judge(&settings, DAY, 90.0).unwrap().score > 1.0);
    // What is usual for a series is no anomaly: here, one value in fifty lies far away.
    let spiky = |at: i64| {
        if at / 60_000 % 50 == 0 {
            90.0
        } else {
            50.0 + 5.0 * noise(at)
        }
    };
    let spiky = Series::of(0, DAY, 60_000, spiky);
    assert!(spiky.judge(&settings, DAY, 90.0).unwrap().score < 1.0);
}

#[test]
fn going_forward_step_by_step_is_judging_each_step_alone() {
    for model in ["seasonal", "mad", "ewma", "holt_winters", "stream", "mstl"] {
        let settings = Settings::read(model, []).unwrap();
        let end = START + 3 * WEEK;
        let series = Series::of(START, end, settings.resolution, visits);
        let from = settings.anchor(end - HOUR);
        let calendar = Calendar::new(&settings, START, end);
        let fit = Fit::learn(series.points(), from, &settings, &calendar);
        let mut judge = Judge::new(&settings, &calendar, series.points(), from, fit.as_ref());
        for at in (from..from + HOUR).step_by(700_000) {
            assert_eq!(
                judge.judge(at, 90.0),
                series.judge(&settings, at, 90.0),
                "{model} at {at}"
            );
        }
    }
}
