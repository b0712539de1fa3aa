//! Answers as columns of text, and as CSV.

use super::answer::Answer;
use crate::query::float::go_float;

/// One line for each series of an instant answer; of a range its first and last value, least, greatest and number of values.
pub(super) fn table(answer: &Answer) -> String {
    let mut rows = Vec::new();
    if answer.instant {
        for series in &answer.series {
            let value = series.points.first().map_or("", |(_, value)| value);
            rows.push(vec![value.to_owned(), series.name.clone()]);
        }
        return aligned(&rows);
    }
    rows.push(
        ["first", "last", "min", "max", "values", "series"]
            .map(str::to_owned)
            .to_vec(),
    );
    for series in &answer.series {
        let text =
            |point: Option<&(crate::model::Millis, String)>| point.map_or(String::new(), |(_, value)| value.clone());
        let numbers: Vec<f64> = series
            .points
            .iter()
            .filter_map(|(_, value)| value.parse().ok())
            .collect();
        let extreme =
            |choose: fn(f64, f64) -> f64| numbers.iter().copied().reduce(choose).map_or(String::new(), go_float);
        rows.push(vec![
            text(series.points.first()),
            text(series.points.last()),
            extreme(f64::min),
            extreme(f64::max),
            series.points.len().to_string(),
            series.name.clone(),
        ]);
    }
    aligned(&rows)
}

/// Sets all columns but the last flush right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == columns {
                line.push_str(cell);
            } else {
                line.push_str(&format!("{cell:>width$}  ", width = widths[column]));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A header, then one line for each value.
pub(super) fn csv(answer: &Answer) -> String {
    let mut out = "time,value,series\n".to_owned();
    for series in &answer.series {
        for (at, value) in &series.points {
            out.push_str(&format!("{at},{},{}\n", cell(value), cell(&series.name)));
        }
    }
    out
}

fn cell(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::Series;
    use super::*;
    use crate::model::Millis;

    fn answer(instant: bool) -> Answer {
        let series = |name: &str, values: &[&str]| Series {
            name: name.to_owned(),
            points: (0..)
                .map(|i| Millis(i * 1000))
                .zip(values.iter().map(|value| (*value).to_owned()))
                .collect(),
        };
        Answer {
            series: vec![series("up{a=\"b\"}", &["1", "0.5"]), series("down", &["100", "NaN"])],
            instant,
        }
    }

    #[test]
    fn tables_are_aligned() {
        assert_eq!(table(&answer(true)), "  1  up{a=\"b\"}\n100  down\n");
        assert_eq!(
            table(&answer(false)),
            "first  last  min  max  values  series\n    1   0.5  0.5    1       2  up{a=\"b\"}\n  100   NaN  100  100       2  down\n"
        );
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert!(csv(&answer(false)).contains("\n1970-01-01T00:00:01.000Z,0.5,\"up{a=\"\"b\"\"}\"\n"));
    }
}
