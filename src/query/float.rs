//! Numbers as Go's `strconv.FormatFloat(v, 'f', -1, 64)` writes them: shortest digits that read back, never an exponent.
//! So does Prometheus, in JSON and in printed expressions.

/// Appends `value`.
pub fn push_go_float(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if value.fract() == 0.0 && value.abs() < EXACT_MAX && !(value == 0.0 && value.is_sign_negative()) {
        if value < 0.0 {
            out.push(b'-');
        }
        push_digits(out, value.abs() as u64);
    } else {
        push_fraction(out, value);
    }
}

/// Appends a finite number that is not known to be an integer.
fn push_fraction(out: &mut Vec<u8>, value: f64) {
    use std::io::Write as _;
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value).as_bytes();
    if text.contains(&b'e') {
        write!(out, "{value}").expect("writing to memory cannot fail"); // In plain digits, however many.
    } else {
        out.extend_from_slice(text.strip_suffix(b".0").unwrap_or(text));
    }
}

/// Integers below this are exact in a double, and are written faster than floats.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Appends a whole number in decimal digits.
pub fn push_digits(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Returns `value` as text.
pub fn go_float(value: f64) -> String {
    let mut out = Vec::with_capacity(24);
    push_go_float(&mut out, value);
    String::from_utf8(out).expect("digits are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_in_go() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (5e-3, "0.005"),
            (1e21, "1000000000000000000000"),
            (-42.0, "-42"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::MAX, &format!("{}", f64::MAX)),
            (1e16, "10000000000000000"),
            // Halfway between two shortest forms: to the even digit, as Prometheus answers.
            (-722_113_392_305_253.0 - 0.25, "-722113392305253.2"),
            (722_113_392_305_253.0 + 0.75, "722113392305253.8"),
        ] {
            assert_eq!(go_float(value), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_double_reads_back_and_has_as_few_digits_as_rust_gives_it(bits: u64, scaled in -1_000_000i64..1_000_000, power in 0i32..12) {
            for value in [f64::from_bits(bits), scaled as f64 / 10f64.powi(power)] {
                if value.is_finite() {
                    let text = go_float(value);
                    proptest::prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
                    proptest::prop_assert_eq!(text.len(), format!("{value}").len());
                }
            }
        }
    }
}
