//! Lines in the terminal: each character is a grid of two by four dots (Braille), each series has a colour.

use super::answer::{Answer, Series};
use crate::query::float::go_float;

/// Characters across and down.
const WIDTH: usize = 96;
const HEIGHT: usize = 16;
/// Series drawn; the others are counted.
const SERIES_MAX: usize = 8;

/// The bits of a Braille character's dots, by column and row.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// Draws the first series of an answer; with colours when the terminal has them.
pub(super) fn draw(answer: &Answer, colours: bool) -> String {
    let drawn: Vec<&Series> = answer.series.iter().take(SERIES_MAX).collect();
    let lines: Vec<Vec<(i64, f64)>> = drawn.iter().map(|series| numbers(series)).collect();
    let all = || lines.iter().flatten();
    let (Some(first), Some(last)) = (all().map(|point| point.0).min(), all().map(|point| point.0).max()) else {
        return "no numbers to draw\n".to_owned();
    };
    let low = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = all().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let mut canvas = Canvas::new();
    for (index, line) in lines.iter().enumerate() {
        canvas.line(line, index, (first, last), (low, high));
    }
    let mut out = String::new();
    for row in 0..HEIGHT {
        let scale = match row {
            0 => short(high),
            row if row == HEIGHT - 1 => short(low),
            _ => String::new(),
        };
        out.push_str(&format!("{scale:>10} ┤"));
        canvas.push_row(&mut out, row, colours);
        out.push('\n');
    }
    let at = |millis: i64| crate::model::Millis(millis).to_string();
    let (from, to) = (at(first), at(last));
    let gap = " ".repeat(WIDTH.saturating_sub(from.len() + to.len()));
    out.push_str(&format!("{:12}{from}{gap}{to}\n", ""));
    for (index, series) in drawn.iter().enumerate() {
        let value = series.points.last().map_or("", |(_, value)| value);
        out.push_str(&format!(
            "{:12}{} {value}  {}\n",
            "",
            painted("━━", index, colours),
            series.name
        ));
    }
    if answer.series.len() > SERIES_MAX {
        out.push_str(&format!(
            "{:12}and {} more series\n",
            "",
            answer.series.len() - SERIES_MAX
        ));
    }
    out
}

fn numbers(series: &Series) -> Vec<(i64, f64)> {
    let number = |value: &String| value.parse::<f64>().ok().filter(|value| value.is_finite());
    series
        .points
        .iter()
        .filter_map(|(at, value)| Some((at.0, number(value)?)))
        .collect()
}

fn short(value: f64) -> String {
    let text = go_float(value);
    if text.len() <= 10 { text } else { format!("{value:.3e}") }
}

/// The eight colours that most terminals have, bright ones.
fn painted(text: &str, index: usize, colours: bool) -> String {
    const ORDER: [u8; SERIES_MAX] = [32, 33, 34, 35, 36, 31, 37, 90];
    if colours {
        format!("\u{1b}[{}m{text}\u{1b}[0m", ORDER[index % ORDER.len()])
    } else {
        text.to_owned()
    }
}

struct Canvas {
    /// The dots of each character, and the series that drew last in it.
    cells: Vec<(u8, usize)>,
}

impl Canvas {
    fn new() -> Canvas {
        Canvas {
            cells: vec![(0, 0); WIDTH * HEIGHT],
        }
    }

    fn line(&mut self, points: &[(i64, f64)], series: usize, times: (i64, i64), values: (f64, f64)) {
        let place = |&(at, value): &(i64, f64)| {
            let x = share(at as f64, times.0 as f64, times.1 as f64) * (WIDTH * 2 - 1) as f64;
            let y = (1.0 - share(value, values.0, values.1)) * (HEIGHT * 4 - 1) as f64;
            (x.round(), y.round())
        };
        if let [only] = points {
            self.dot(place(only), series);
        }
        for pair in points.windows(2) {
            let (from, to) = (place(&pair[0]), place(&pair[1]));
            let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).max(1.0) as usize;
            for step in 0..=steps {
                let part = step as f64 / steps as f64;
                let x = from.0 + (to.0 - from.0) * part;
                let y = from.1 + (to.1 - from.1) * part;
                self.dot((x.round(), y.round()), series);
            }
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "places lie within the canvas"
    )]
    fn dot(&mut self, (x, y): (f64, f64), series: usize) {
        let (x, y) = ((x as usize).min(WIDTH * 2 - 1), (y as usize).min(HEIGHT * 4 - 1));
        let cell = &mut self.cells[y / 4 * WIDTH + x / 2];
        cell.0 |= DOTS[x % 2][y % 4];
        cell.1 = series;
    }

    fn push_row(&self, out: &mut String, row: usize, colours: bool) {
        for (dots, series) in &self.cells[row * WIDTH..(row + 1) * WIDTH] {
            match char::from_u32(0x2800 + u32::from(*dots)) {
                Some(c) if *dots != 0 => out.push_str(&painted(&c.to_string(), *series, colours)),
                _ => out.push(' '),
            }
        }
    }
}

/// Where `value` lies between `low` and `high`, in the middle when they are the same.
fn share(value: f64, low: f64, high: f64) -> f64 {
    if high > low { (value - low) / (high - low) } else { 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Millis;

    #[test]
    fn a_rising_line_goes_from_the_lower_left_to_the_upper_right() {
        let series = Series {
            name: "up".to_owned(),
            points: (0..10).map(|i| (Millis(i * 1000), i.to_string())).collect(),
        };
        let answer = Answer {
            series: vec![series],
            instant: false,
        };
        let chart = draw(&answer, false);
        let lines: Vec<&str> = chart.lines().collect();
        assert!(
            lines[0].starts_with("         9 ┤") && lines[0].trim_end().ends_with('⠉') || lines[0].ends_with('⠁'),
            "{chart}"
        );
        assert!(
            lines[15].starts_with("         0 ┤⣀") || lines[15].starts_with("         0 ┤⡠"),
            "{chart}"
        );
        assert_eq!(lines.len(), HEIGHT + 2);
        assert!(lines[17].ends_with("━━ 9  up"));
    }

    #[test]
    fn an_answer_without_numbers_says_so() {
        let answer = Answer {
            series: Vec::new(),
            instant: false,
        };
        assert_eq!(draw(&answer, true), "no numbers to draw\n");
    }
}
