//! The Numenta Anomaly Benchmark 1.1: runs where `NAB` names a copy of its repository (MIT), which is not ours to copy.
//!
//! The score is that of the standard profile: detections inside a labelled window count once, the earlier the more; others
//! count against; one threshold serves all files. Run over the published scores of "windowedGaussian" it gives their 39.6.

use std::path::Path;

use super::stream::Stream;
use super::*;

/// A row that counts: its score, what it is worth, and its window (0 is none).
type Row = (f64, f64, usize);

fn worth(place: f64) -> f64 {
    if place > 3.0 {
        -1.0
    } else {
        2.0 / (1.0 + (5.0 * place).exp()) - 1.0
    }
}

/// Words the rows of one file; windows are numbered from `first` on.
fn rows(scores: &[f64], windows: &[(usize, usize)], first: usize) -> Vec<Row> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of the rows"
    )]
    let probation = (0.15 * scores.len() as f64).floor().min(750.0) as usize;
    let row = |(index, score): (usize, &f64)| {
        let inside = windows.iter().position(|(from, to)| (*from..=*to).contains(&index));
        if let Some(window) = inside {
            let (from, to) = windows[window];
            let place = -((to - index + 1) as f64) / (to - from + 1) as f64;
            return (*score, worth(place) / worth(-1.0), first + window);
        }
        let before = windows.iter().rfind(|(_, to)| *to < index);
        let place = before.map_or(4.0, |(from, to)| (index - to) as f64 / (to - from) as f64);
        (*score, 0.11 * worth(place), 0)
    };
    scores.iter().enumerate().map(row).skip(probation).collect()
}

/// Returns the best normalized score over all thresholds, and that threshold.
fn sweep(mut rows: Vec<Row>, windows: usize) -> (f64, f64) {
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut parts = vec![-1.0; windows + 1];
    let mut total = -(windows as f64);
    let mut best = (total, f64::INFINITY);
    let mut index = 0;
    while index < rows.len() {
        let threshold = rows[index].0;
        while index < rows.len() && rows[index].0 == threshold {
            let (_, worth, window) = rows[index];
            if window == 0 {
                total += worth;
            } else if worth > parts[window] {
                total += worth - parts[window];
                parts[window] = worth;
            }
            index += 1;
        }
        if total > best.0 {
            best = (total, threshold);
        }
    }
    (100.0 * (best.0 + windows as f64) / (2.0 * windows as f64), best.1)
}

fn column(path: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let place = lines.next().unwrap().split(',').position(|head| head == name).unwrap();
    lines
        .map(|line| line.split(',').nth(place).unwrap().to_owned())
        .collect()
}

#[test]
fn the_stream_reaches_fifty_on_the_benchmark() {
    let Some(folder) = std::env::var_os("NAB") else {
        println!("skipped: NAB does not name a copy of the Numenta Anomaly Benchmark, which is not shipped");
        return;
    };
    let folder = Path::new(&folder);
    let labels = std::fs::read_to_string(folder.join("labels/combined_windows.json")).unwrap();
    let labels: std::collections::BTreeMap<String, Vec<[String; 2]>> = serde_json::from_str(&labels).unwrap();
    let settings = Settings::read("stream", []).unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut count = 0;
    for (file, windows) in &labels {
        let path = folder.join("data").join(file);
        let times = column(&path, "timestamp");
        let place = |time: &String| times.iter().position(|known| time.starts_with(known.as_str())).unwrap();
        let windows: Vec<(usize, usize)> = windows.iter().map(|[from, to]| (place(from), place(to))).collect();
        let mut stream = Stream::default();
        let mut scores = Vec::new();
        for value in column(&path, "value") {
            let value = value.parse().unwrap();
            scores.push(stream.judge(value, &settings).map_or(0.0, |band| band.score));
            stream.take(value);
        }
        ours.extend(rows(&scores, &windows, count + 1));
        let (kind, name) = file.split_once('/').unwrap();
        let published = folder.join(format!("results/windowedGaussian/{kind}/windowedGaussian_{name}"));
        let published: Vec<f64> = column(&published, "anomaly_score")
            .iter()
            .map(|score| score.parse().unwrap())
            .collect();
        theirs.extend(rows(&published, &windows, count + 1));
        count += windows.len();
    }
    let (reference, _) = sweep(theirs, count);
    assert!((reference - 39.6).abs() < 0.1, "the scorer is wrong: {reference}");
    let (score, threshold) = sweep(ours, count);
    println!("NAB standard profile: {score:.2} at a score of {threshold:.3}");
    assert!(score >= 50.0, "{score}");
}
