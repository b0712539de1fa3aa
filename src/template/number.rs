//! Numbers and quoted strings as Go's `strconv` writes them.

use std::fmt::Write as _;

/// A finite number in decimal: `0.d1d2d3… × 10^point`.
struct Decimal {
    digits: String,
    /// Where the decimal point stands: before `digits[point]`.
    point: i32,
}

/// Formats a float as Go's `strconv.FormatFloat(value, verb, precision, 64)`; `None` asks for the shortest text that
/// reads back the same. Verbs are `e E f F g G`.
pub fn format_float(value: f64, verb: char, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let magnitude = value.abs();
    let body = match verb {
        'f' | 'F' => match precision {
            Some(places) => format!("{magnitude:.places$}"),
            None => format!("{magnitude}"),
        },
        'e' | 'E' => {
            let decimal = match precision {
                Some(places) => Decimal::rounded(magnitude, places + 1),
                None => Decimal::shortest(magnitude),
            };
            let places = precision.unwrap_or(decimal.digits.len().saturating_sub(1));
            decimal.scientific(places, verb)
        }
        _ => general(magnitude, verb, precision),
    };
    format!("{sign}{body}")
}

fn general(magnitude: f64, verb: char, precision: Option<usize>) -> String {
    let exponent_letter = if verb == 'G' { 'E' } else { 'e' };
    let mut decimal = match precision {
        Some(places) => Decimal::rounded(magnitude, places.max(1)),
        None => Decimal::shortest(magnitude),
    };
    decimal.trim();
    let count = decimal.digits.len();
    let count_i32 = i32::try_from(count).unwrap_or(i32::MAX);
    // The exponent from which on Go writes scientific notation: the precision, or 6 in shortest form.
    let threshold = match precision {
        None => 6,
        Some(places) => {
            let places = i32::try_from(places.max(1)).unwrap_or(i32::MAX);
            if places > count_i32 && count_i32 >= decimal.point {
                count_i32
            } else {
                places
            }
        }
    };
    let exponent = decimal.point - 1;
    if magnitude != 0.0 && (exponent < -4 || exponent >= threshold) {
        return decimal.scientific(count.saturating_sub(1), exponent_letter);
    }
    decimal.fixed()
}

impl Decimal {
    fn from_scientific(text: &str) -> Decimal {
        let (mantissa, exponent) = text.split_once('e').expect("Rust's {:e} has an exponent");
        let exponent: i32 = exponent.parse().expect("Rust's {:e} has a decimal exponent");
        Decimal {
            digits: mantissa.chars().filter(char::is_ascii_digit).collect(),
            point: exponent + 1,
        }
    }

    fn shortest(magnitude: f64) -> Decimal {
        Decimal::from_scientific(&format!("{magnitude:e}"))
    }

    fn rounded(magnitude: f64, digits: usize) -> Decimal {
        Decimal::from_scientific(&format!("{magnitude:.*e}", digits - 1))
    }

    fn trim(&mut self) {
        let kept = self.digits.trim_end_matches('0').len();
        self.digits.truncate(kept);
        if self.digits.is_empty() {
            self.digits.push('0');
            self.point = 1;
        }
    }

    fn scientific(&self, places: usize, letter: char) -> String {
        let mut out = String::with_capacity(places + 8);
        out.push_str(&self.digits[..1]);
        if places > 0 {
            let rest = &self.digits[1..];
            let _ = write!(out, ".{rest:0<places$}");
        }
        let zero = self.digits.bytes().all(|b| b == b'0');
        let exponent = if zero { 0 } else { self.point - 1 };
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{letter}{sign}{:02}", exponent.unsigned_abs());
        out
    }

    fn fixed(&self) -> String {
        let count = i32::try_from(self.digits.len()).unwrap_or(i32::MAX);
        if self.point <= 0 {
            return format!("0.{}{}", "0".repeat(self.point.unsigned_abs() as usize), self.digits);
        }
        if self.point >= count {
            return format!("{}{}", self.digits, "0".repeat((self.point - count) as usize));
        }
        let (whole, fraction) = self.digits.split_at(self.point as usize);
        format!("{whole}.{fraction}")
    }
}

/// Quotes a text as Go's `strconv.Quote` (or `QuoteToASCII`).
pub fn quote(text: &str, ascii_only: bool) -> String {
    quote_with(text, '"', ascii_only)
}

/// Quotes with the given quotation mark, which is escaped inside.
pub(super) fn quote_with(text: &str, mark: char, ascii_only: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(mark);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x0b' => out.push_str("\\v"),
            c if c == mark => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_ascii() || (!ascii_only && is_printable(c)) => out.push(c),
            c if (c as u32) < 0x1_0000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push(mark);
    out
}

/// Whether Go would print the character as it is; approximated by what Rust's `Debug` leaves alone.
fn is_printable(c: char) -> bool {
    c.escape_debug().count() == 1 && !(c != ' ' && c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_go() {
        for (value, verb, precision, expected) in [
            (10.0, 'g', None, "10"),
            (1_234_567.891, 'g', None, "1.234567891e+06"),
            (0.1 + 0.2, 'g', None, "0.30000000000000004"),
            (1e-5, 'g', None, "1e-05"),
            (0.0, 'g', Some(4), "0"),
            (1000.0, 'g', Some(4), "1000"),
            (100_000.0, 'g', Some(4), "1e+05"),
            (123_456.0, 'g', Some(4), "1.235e+05"),
            (12.345, 'g', Some(4), "12.35"),
            (0.000_012_3, 'g', Some(4), "1.23e-05"),
            (1.5, 'e', None, "1.5e+00"),
            (123.456, 'e', Some(3), "1.235e+02"),
            (0.0, 'e', Some(2), "0.00e+00"),
            (-2.5, 'f', Some(0), "-2"),
            (1e100, 'g', None, "1e+100"),
            (f64::INFINITY, 'g', Some(4), "+Inf"),
        ] {
            assert_eq!(
                format_float(value, verb, precision),
                expected,
                "{value} %{verb} {precision:?}"
            );
        }
    }

    #[test]
    fn quoting_escapes_what_go_escapes() {
        assert_eq!(quote("a\"b\\\n\u{1}é\u{200b}", false), r#""a\"b\\\n\x01é\u200b""#);
        assert_eq!(quote("é😀", true), r#""\u00e9\U0001f600""#);
    }
}
