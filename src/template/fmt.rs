//! Printing as Go's `fmt` does it: `Print`, `Println` and `Printf` with verbs, flags, widths and their complaints.

use std::fmt::Write as _;

use super::number::{format_float, quote, quote_with};
use super::time::{format_duration, format_time_default};
use super::value::{Shape, Value};

/// The widest field and the longest precision: larger ones print `%!(BADWIDTH)`, as in Go.
const WIDTH_MAX: usize = 1_000_000;
/// How much a single `printf` may print: beyond it the text is cut, and the renderer's own limit reports it.
const OUTPUT_BYTES_MAX: usize = 8 << 20;

/// `fmt.Sprint`: a space between two operands when neither is a string.
pub fn sprint(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 && !is_string(arg) && !is_string(&args[i - 1]) {
            out.push(' ');
        }
        print_value(&mut out, arg, 'v', &Spec::default(), 0);
    }
    out
}

/// `fmt.Sprintln`: spaces between all operands, and a line end.
pub fn sprintln(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        print_value(&mut out, arg, 'v', &Spec::default(), 0);
    }
    out.push('\n');
    out
}

fn is_string(value: &Value) -> bool {
    matches!(value, Value::Str(_) | Value::Safe(..))
}

#[derive(Clone, Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `fmt.Sprintf`.
pub fn sprintf(format: &str, args: &[Value]) -> String {
    let mut printer = Printer {
        rest: format,
        args,
        next: 0,
        reordered: false,
        bad_index: false,
        out: String::with_capacity(format.len() + 16),
    };
    printer.run();
    printer.out
}

struct Printer<'a> {
    rest: &'a str,
    args: &'a [Value],
    next: usize,
    reordered: bool,
    bad_index: bool,
    out: String,
}

impl Printer<'_> {
    fn run(&mut self) {
        while let Some(at) = self.rest.find('%') {
            self.out.push_str(&self.rest[..at]);
            self.rest = &self.rest[at + 1..];
            self.directive();
            if self.out.len() > OUTPUT_BYTES_MAX {
                return;
            }
        }
        self.out.push_str(self.rest);
        if !self.reordered && self.next < self.args.len() {
            self.out.push_str("%!(EXTRA ");
            for (i, arg) in self.args[self.next..].iter().enumerate() {
                if i > 0 {
                    self.out.push_str(", ");
                }
                if matches!(arg, Value::Nil) {
                    self.out.push_str("<nil>");
                } else {
                    let _ = write!(self.out, "{}=", arg.type_name());
                    print_value(&mut self.out, arg, 'v', &Spec::default(), 0);
                }
            }
            self.out.push(')');
        }
    }

    fn directive(&mut self) {
        let mut spec = Spec::default();
        self.bad_index = false;
        let mut after_index;
        while let Some(flag) = self.rest.bytes().next() {
            match flag {
                b'#' => spec.sharp = true,
                b'0' => spec.zero = true,
                b'+' => spec.plus = true,
                b'-' => spec.minus = true,
                b' ' => spec.space = true,
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
        after_index = self.index();
        if self.take('*') {
            match self.int_arg() {
                Some(width) if width.unsigned_abs() as usize <= WIDTH_MAX => {
                    spec.minus |= width < 0;
                    spec.width = Some(width.unsigned_abs() as usize);
                }
                _ => self.out.push_str("%!(BADWIDTH)"),
            }
            after_index = false;
        } else if let Some(width) = self.number() {
            if after_index {
                self.bad_index = true;
            }
            spec.width = Some(width);
        }
        if self.take('.') {
            if after_index {
                self.bad_index = true;
            }
            after_index = self.index();
            if self.take('*') {
                match self.int_arg() {
                    Some(precision) if precision >= 0 && precision as usize <= WIDTH_MAX => {
                        spec.precision = Some(precision as usize);
                    }
                    Some(precision) if precision < 0 => spec.precision = None,
                    _ => self.out.push_str("%!(BADPREC)"),
                }
                after_index = false;
            } else {
                spec.precision = Some(self.number().unwrap_or(0));
            }
        }
        if !after_index {
            self.index();
        }
        let Some(verb) = self.rest.chars().next() else {
            self.out.push_str("%!(NOVERB)");
            return;
        };
        self.rest = &self.rest[verb.len_utf8()..];
        if verb == '%' {
            self.out.push('%');
        } else if self.bad_index {
            let _ = write!(self.out, "%!{verb}(BADINDEX)");
        } else if let Some(arg) = self.args.get(self.next) {
            self.next += 1;
            print_value(&mut self.out, arg, verb, &spec, 0);
        } else {
            let _ = write!(self.out, "%!{verb}(MISSING)");
        }
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.rest.starts_with(c);
        if found {
            self.rest = &self.rest[c.len_utf8()..];
        }
        found
    }

    fn number(&mut self) -> Option<usize> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = self.rest[..digits].parse().ok()?;
        self.rest = &self.rest[digits..];
        (number <= WIDTH_MAX).then_some(number)
    }

    fn int_arg(&mut self) -> Option<i64> {
        let arg = self.args.get(self.next)?;
        self.next += 1;
        match arg {
            Value::Int(i) => Some(*i),
            _ => None,
        }
    }

    /// Reads `[n]`: the next operand is number n. Returns whether there was one.
    fn index(&mut self) -> bool {
        if !self.rest.starts_with('[') {
            return false;
        }
        self.reordered = true;
        let Some(end) = self.rest.find(']') else {
            self.bad_index = true;
            self.rest = &self.rest[1..];
            return false;
        };
        match self.rest[1..end].parse::<usize>() {
            Ok(n) if n >= 1 && n <= self.args.len() => self.next = n - 1,
            _ => self.bad_index = true,
        }
        self.rest = &self.rest[end + 1..];
        true
    }
}

/// How deep nested values are printed.
const NESTING_MAX: usize = 32;

fn print_value(out: &mut String, value: &Value, verb: char, spec: &Spec, depth: usize) {
    if depth > NESTING_MAX {
        out.push_str("...");
        return;
    }
    if verb == 'T' {
        let name = if matches!(value, Value::Nil) {
            "<nil>"
        } else {
            value.type_name()
        };
        return pad(out, name, spec);
    }
    // With %v, the plus and sharp flags ask for names and syntax of Go, not for signs and digits.
    let plain;
    let spec = if verb == 'v' && matches!(value, Value::Int(_) | Value::Float(_)) {
        plain = Spec {
            plus: false,
            sharp: false,
            ..spec.clone()
        };
        &plain
    } else {
        spec
    };
    match value {
        Value::Nil if verb == 'v' => pad(out, "<nil>", spec),
        Value::Nil => {
            let _ = write!(out, "%!{verb}(<nil>)");
        }
        Value::Bool(b) if matches!(verb, 't' | 'v') => pad(out, if *b { "true" } else { "false" }, spec),
        Value::Int(i) => print_int(out, *i, verb, spec),
        Value::Float(f) => print_float(out, *f, verb, spec),
        Value::Str(text) | Value::Safe(_, text) => print_string(out, text, verb, spec, value),
        Value::Time(time) if matches!(verb, 'v' | 's' | 'q' | 'x' | 'X') => {
            let text = format_time_default(time);
            print_string(out, &text, verb, spec, value);
        }
        Value::Duration(nanos) if matches!(verb, 'v' | 's' | 'q') => {
            print_string(out, &format_duration(*nanos), verb, spec, value);
        }
        Value::Duration(nanos) => print_int(out, *nanos, verb, spec),
        Value::List(elements) => print_list(out, elements, verb, spec, depth),
        Value::Map(map) => print_map(out, &map.entries, verb, spec, depth),
        Value::Record(record) => match (record.as_text(), verb) {
            (Some(text), 'v' | 's' | 'q' | 'x' | 'X') => print_string(out, text, verb, spec, value),
            _ => match record.shape() {
                Shape::List(elements) => print_list(out, elements, verb, spec, depth),
                Shape::Map(map) => print_map(out, &map.entries, verb, spec, depth),
                Shape::Struct => print_struct(out, record, verb, spec, depth),
            },
        },
        Value::Bool(_) | Value::Time(_) => bad_verb(out, value, verb, spec),
    }
}

fn print_struct(out: &mut String, record: &super::Record, verb: char, spec: &Spec, depth: usize) {
    if record.type_name().starts_with('*') {
        out.push('&');
    }
    out.push('{');
    for (i, (name, field)) in record.fields().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        if spec.plus && verb == 'v' {
            let _ = write!(out, "{name}:");
        }
        print_value(out, field, verb, spec, depth + 1);
    }
    out.push('}');
}

fn print_list(out: &mut String, elements: &[Value], verb: char, spec: &Spec, depth: usize) {
    out.push('[');
    for (i, element) in elements.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        print_value(out, element, verb, spec, depth + 1);
    }
    out.push(']');
}

fn print_map(
    out: &mut String,
    entries: &std::collections::BTreeMap<String, Value>,
    verb: char,
    spec: &Spec,
    depth: usize,
) {
    out.push_str("map[");
    for (i, (name, entry)) in entries.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        print_value(out, &Value::from(name.as_str()), verb, spec, depth + 1);
        out.push(':');
        print_value(out, entry, verb, spec, depth + 1);
    }
    out.push(']');
}

fn bad_verb(out: &mut String, value: &Value, verb: char, spec: &Spec) {
    let _ = write!(out, "%!{verb}({}=", value.type_name());
    print_value(out, value, 'v', spec, 0);
    out.push(')');
}

fn print_string(out: &mut String, text: &str, verb: char, spec: &Spec, value: &Value) {
    let cut: String;
    let text = match spec.precision {
        Some(precision) if !matches!(verb, 'x' | 'X') => {
            cut = text.chars().take(precision).collect();
            &cut
        }
        _ => text,
    };
    match verb {
        'v' if spec.sharp => pad(out, &quote(text, false), spec),
        'v' | 's' => pad(out, text, spec),
        'q' if spec.sharp && !text.contains('`') && !text.chars().any(|c| c.is_control() && c != '\t') => {
            pad(out, &format!("`{text}`"), spec);
        }
        'q' => pad(out, &quote(text, spec.plus), spec),
        'x' | 'X' => pad(out, &hex(text, verb == 'X', spec), spec),
        _ => bad_verb(out, value, verb, spec),
    }
}

fn hex(text: &str, upper: bool, spec: &Spec) -> String {
    let bytes = text.as_bytes();
    let bytes = &bytes[..spec.precision.unwrap_or(bytes.len()).min(bytes.len())];
    let mut out = String::new();
    for (i, byte) in bytes.iter().enumerate() {
        if i > 0 && spec.space {
            out.push(' ');
        }
        if spec.sharp && (i == 0 || spec.space) {
            out.push_str(if upper { "0X" } else { "0x" });
        }
        let _ = if upper {
            write!(out, "{byte:02X}")
        } else {
            write!(out, "{byte:02x}")
        };
    }
    out
}

fn print_int(out: &mut String, int: i64, verb: char, spec: &Spec) {
    let magnitude = int.unsigned_abs();
    let (digits, prefix) = match verb {
        'd' | 'v' => (magnitude.to_string(), ""),
        'b' => (format!("{magnitude:b}"), if spec.sharp { "0b" } else { "" }),
        'o' => (format!("{magnitude:o}"), if spec.sharp && int != 0 { "0" } else { "" }),
        'O' => (format!("{magnitude:o}"), "0o"),
        'x' => (format!("{magnitude:x}"), if spec.sharp { "0x" } else { "" }),
        'X' => (format!("{magnitude:X}"), if spec.sharp { "0X" } else { "" }),
        'c' | 'q' | 'U' => return print_rune(out, int, verb, spec),
        _ => return bad_verb(out, &Value::Int(int), verb, spec),
    };
    let sign = sign_of(int < 0, spec);
    if spec.precision == Some(0) && int == 0 {
        return pad_plain(out, "", spec);
    }
    let mut least = spec.precision.unwrap_or(0);
    if spec.zero && !spec.minus && spec.precision.is_none() {
        least = spec.width.unwrap_or(0).saturating_sub(sign.len());
    }
    pad_plain(out, &format!("{sign}{prefix}{digits:0>least$}"), spec);
}

fn print_rune(out: &mut String, int: i64, verb: char, spec: &Spec) {
    let rune = u32::try_from(int).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    let text = match verb {
        'c' => rune.to_string(),
        'q' => quote_with(&rune.to_string(), '\'', spec.plus),
        _ => format!("U+{int:04X}"),
    };
    pad(out, &text, spec);
}

fn sign_of(negative: bool, spec: &Spec) -> &'static str {
    match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    }
}

fn print_float(out: &mut String, float: f64, verb: char, spec: &Spec) {
    let (style, precision) = match verb {
        'v' => ('g', spec.precision),
        'g' | 'G' => (verb, spec.precision),
        'e' | 'E' | 'f' | 'F' => (verb, Some(spec.precision.unwrap_or(6))),
        'x' | 'X' if spec.precision.is_none() && !spec.sharp && float.is_finite() => {
            let body = hex_float(float.abs(), verb == 'X');
            return pad_plain(out, &format!("{}{body}", sign_of(float.is_sign_negative(), spec)), spec);
        }
        _ => return bad_verb(out, &Value::Float(float), verb, spec),
    };
    if !float.is_finite() {
        let text = match (float.is_nan(), spec.plus, spec.space) {
            (true, true, _) => "+NaN".to_owned(),
            (true, false, true) => " NaN".to_owned(),
            (true, false, false) => "NaN".to_owned(),
            (false, false, true) if float > 0.0 => " Inf".to_owned(),
            (false, ..) => format_float(float, 'g', None),
        };
        return pad_plain(out, &text, spec);
    }
    let sign = sign_of(float.is_sign_negative(), spec);
    let mut body = format_float(float.abs(), style, precision);
    if spec.sharp && matches!(style, 'g' | 'G') {
        body = with_trailing_zeros(&body, precision.unwrap_or(6));
    }
    let mut least = 0;
    if spec.zero && !spec.minus {
        least = spec.width.unwrap_or(0).saturating_sub(sign.len());
    }
    pad_plain(out, &format!("{sign}{body:0>least$}"), spec);
}

/// Writes a float as `0x1.8p+01`.
fn hex_float(magnitude: f64, upper: bool) -> String {
    if magnitude == 0.0 {
        return if upper { "0X0P+00" } else { "0x0p+00" }.to_owned();
    }
    let bits = magnitude.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut mantissa = bits & ((1 << 52) - 1);
    if exponent == -1023 {
        // A subnormal number is shifted until its first digit is 1.
        let shift = mantissa.leading_zeros() - 11;
        mantissa = (mantissa << shift) & ((1 << 52) - 1);
        exponent = -1022 - shift as i32;
    }
    let digits = format!("{mantissa:013x}");
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    let text = format!("0x1{point}{digits}p{sign}{:02}", exponent.abs());
    if upper { text.to_uppercase() } else { text }
}

/// `%#g` keeps the decimal point and trailing zeros up to the precision.
fn with_trailing_zeros(body: &str, digits: usize) -> String {
    let (mantissa, exponent) = body.split_at(body.find(['e', 'E']).unwrap_or(body.len()));
    let mut mantissa = mantissa.to_owned();
    if !mantissa.contains('.') {
        mantissa.push('.');
    }
    let significant = mantissa
        .trim_start_matches(['0', '.'])
        .bytes()
        .filter(u8::is_ascii_digit)
        .count();
    mantissa.extend(std::iter::repeat_n('0', digits.saturating_sub(significant.max(1))));
    mantissa + exponent
}

fn pad_plain(out: &mut String, text: &str, spec: &Spec) {
    let plain = Spec {
        zero: false,
        ..spec.clone()
    };
    pad(out, text, &plain);
}

fn pad(out: &mut String, text: &str, spec: &Spec) {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    let filler = if spec.zero && !spec.minus { '0' } else { ' ' };
    if !spec.minus {
        out.extend(std::iter::repeat_n(filler, missing));
    }
    out.push_str(text);
    if spec.minus {
        out.extend(std::iter::repeat_n(' ', missing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printf_speaks_gos_verbs_and_complaints() {
        let text = Value::from("hi");
        for (format, args, expected) in [
            (
                "%s is %5.1f%%",
                vec![text.clone(), Value::Float(12.345)],
                "hi is  12.3%",
            ),
            ("%d", vec![Value::Float(3.0)], "%!d(float64=3)"),
            ("%s", vec![Value::Int(5)], "%!s(int=5)"),
            ("%d %d", vec![Value::Int(5)], "5 %!d(MISSING)"),
            ("x", vec![Value::Int(5), text.clone()], "x%!(EXTRA int=5, string=hi)"),
            ("%", vec![], "%!(NOVERB)"),
            ("%z", vec![Value::Int(1)], "%!z(int=1)"),
            (
                "%05d|%-5d|%+d|%x|%#x|%o|%c|%U",
                vec![42, 42, 42, 255, 255, 8, 65, 65]
                    .into_iter()
                    .map(Value::Int)
                    .collect(),
                "00042|42   |+42|ff|0xff|10|A|U+0041",
            ),
            ("%[2]d %[1]d", vec![Value::Int(1), Value::Int(2)], "2 1"),
            ("%*d", vec![Value::Int(4), Value::Int(7)], "   7"),
            (
                "%6.2f|%-8.3e|%08.3f|%g",
                vec![1.5, 1.5, -1.5, 1e21].into_iter().map(Value::Float).collect(),
                "  1.50|1.500e+00|-001.500|1e+21",
            ),
            (
                "%q %x %10s|%-10s|%.1s",
                vec![text.clone(); 5],
                "\"hi\" 6869         hi|hi        |h",
            ),
            ("%v %t", vec![Value::Bool(true), Value::Bool(false)], "true false"),
            ("%v", vec![Value::Float(f64::INFINITY)], "+Inf"),
            ("%T %T", vec![Value::Float(1.0), Value::Nil], "float64 <nil>"),
        ] {
            assert_eq!(sprintf(format, &args), expected, "{format}");
        }
    }

    #[test]
    fn print_puts_spaces_between_operands_that_are_no_strings() {
        let args = [Value::Int(1), Value::Int(2), Value::from("x"), Value::Int(3)];
        assert_eq!(
            (sprint(&args), sprintln(&args)),
            ("1 2x3".to_owned(), "1 2 x 3\n".to_owned())
        );
    }
}
