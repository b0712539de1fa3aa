//! Times and durations as Go prints them: reference-time layouts (`2006-01-02 15:04:05`) and `1h2m3.5s`.

use std::fmt::Write as _;

use jiff::Zoned;

use super::value::Value;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// What `time.Time.String` prints: `2015-06-23 13:19:44.128 +0000 UTC`.
pub(super) fn format_time_default(time: &Zoned) -> String {
    format_time(time, "2006-01-02 15:04:05.999999999 -0700 MST")
}

/// Returns the month's English name.
pub(super) fn month_name(month: i8) -> &'static str {
    MONTHS[usize::try_from(month - 1).unwrap_or(0).min(11)]
}

/// Returns the weekday's English name, counted from Sunday.
pub(super) fn day_name(from_sunday: i8) -> &'static str {
    DAYS[usize::try_from(from_sunday).unwrap_or(0).min(6)]
}

/// Formats a time by a layout that shows how Go's reference time (Mon Jan 2 15:04:05 MST 2006) would look.
pub fn format_time(time: &Zoned, layout: &str) -> String {
    let mut out = String::with_capacity(layout.len() + 8);
    let mut rest = layout;
    while !rest.is_empty() {
        let Some((chunk, length)) = chunk_at(rest) else {
            let c = rest.chars().next().expect("the rest is not empty");
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        chunk.write(time, &mut out);
        rest = &rest[length..];
    }
    out
}

#[derive(Clone, Copy)]
enum Chunk {
    LongMonth,
    Month,
    NumMonth,
    ZeroMonth,
    LongDay,
    Day,
    DayOfMonth,
    SpaceDay,
    ZeroDay,
    SpaceYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    LongYear,
    Year,
    UpperPm,
    LowerPm,
    Zone,
    /// Offset: `Z` for UTC, colon, seconds, hours only.
    Offset {
        z: bool,
        colon: bool,
        seconds: bool,
        hours_only: bool,
    },
    /// Fraction of a second: separator, digits, whether trailing zeros are left out.
    Fraction {
        separator: char,
        digits: usize,
        trim: bool,
    },
}

/// Fixed spellings, longest first where one begins another.
#[rustfmt::skip]
const SPELLINGS: &[(&str, Chunk)] = &[
    ("January", Chunk::LongMonth), ("Jan", Chunk::Month), ("Monday", Chunk::LongDay), ("Mon", Chunk::Day),
    ("MST", Chunk::Zone), ("002", Chunk::ZeroYearDay), ("01", Chunk::ZeroMonth), ("02", Chunk::ZeroDay),
    ("03", Chunk::ZeroHour12), ("04", Chunk::ZeroMinute), ("05", Chunk::ZeroSecond), ("06", Chunk::Year),
    ("15", Chunk::Hour), ("1", Chunk::NumMonth), ("2006", Chunk::LongYear), ("__2", Chunk::SpaceYearDay),
    ("_2", Chunk::SpaceDay), ("2", Chunk::DayOfMonth), ("3", Chunk::Hour12), ("4", Chunk::Minute),
    ("5", Chunk::Second), ("PM", Chunk::UpperPm), ("pm", Chunk::LowerPm),
    ("-07:00:00", Chunk::Offset { z: false, colon: true, seconds: true, hours_only: false }),
    ("-07:00", Chunk::Offset { z: false, colon: true, seconds: false, hours_only: false }),
    ("-070000", Chunk::Offset { z: false, colon: false, seconds: true, hours_only: false }),
    ("-0700", Chunk::Offset { z: false, colon: false, seconds: false, hours_only: false }),
    ("-07", Chunk::Offset { z: false, colon: false, seconds: false, hours_only: true }),
    ("Z07:00:00", Chunk::Offset { z: true, colon: true, seconds: true, hours_only: false }),
    ("Z07:00", Chunk::Offset { z: true, colon: true, seconds: false, hours_only: false }),
    ("Z070000", Chunk::Offset { z: true, colon: false, seconds: true, hours_only: false }),
    ("Z0700", Chunk::Offset { z: true, colon: false, seconds: false, hours_only: false }),
    ("Z07", Chunk::Offset { z: true, colon: false, seconds: false, hours_only: true }),
];

fn chunk_at(rest: &str) -> Option<(Chunk, usize)> {
    if let Some(found) = fraction_at(rest) {
        return Some(found);
    }
    // `_2006` is a literal underscore before the year; `Jan` must not be the beginning of a longer lower-case word.
    if rest.starts_with("_2006") {
        return None;
    }
    SPELLINGS
        .iter()
        .find(|(spelling, chunk)| {
            rest.starts_with(spelling)
                && !(matches!(chunk, Chunk::Month | Chunk::Day) && starts_lower(&rest[spelling.len()..]))
        })
        .map(|(spelling, chunk)| (*chunk, spelling.len()))
}

fn starts_lower(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
}

fn fraction_at(rest: &str) -> Option<(Chunk, usize)> {
    let separator = rest.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = rest.as_bytes().get(1).copied().filter(|b| matches!(b, b'0' | b'9'))?;
    let digits = rest[1..].bytes().take_while(|b| *b == digit).count();
    let next_is_digit = rest.as_bytes().get(1 + digits).is_some_and(u8::is_ascii_digit);
    (!next_is_digit).then_some((
        Chunk::Fraction {
            separator,
            digits,
            trim: digit == b'9',
        },
        1 + digits,
    ))
}

impl Chunk {
    fn write(self, time: &Zoned, out: &mut String) {
        let twelve = match time.hour() % 12 {
            0 => 12,
            hour => hour,
        };
        let from_sunday = time.weekday().to_sunday_zero_offset();
        let _ = match self {
            Chunk::LongMonth => write!(out, "{}", month_name(time.month())),
            Chunk::Month => write!(out, "{}", &month_name(time.month())[..3]),
            Chunk::NumMonth => write!(out, "{}", time.month()),
            Chunk::ZeroMonth => write!(out, "{:02}", time.month()),
            Chunk::LongDay => write!(out, "{}", day_name(from_sunday)),
            Chunk::Day => write!(out, "{}", &day_name(from_sunday)[..3]),
            Chunk::DayOfMonth => write!(out, "{}", time.day()),
            Chunk::SpaceDay => write!(out, "{:2}", time.day()),
            Chunk::ZeroDay => write!(out, "{:02}", time.day()),
            Chunk::SpaceYearDay => write!(out, "{:3}", time.day_of_year()),
            Chunk::ZeroYearDay => write!(out, "{:03}", time.day_of_year()),
            Chunk::Hour => write!(out, "{:02}", time.hour()),
            Chunk::Hour12 => write!(out, "{twelve}"),
            Chunk::ZeroHour12 => write!(out, "{twelve:02}"),
            Chunk::Minute => write!(out, "{}", time.minute()),
            Chunk::ZeroMinute => write!(out, "{:02}", time.minute()),
            Chunk::Second => write!(out, "{}", time.second()),
            Chunk::ZeroSecond => write!(out, "{:02}", time.second()),
            Chunk::LongYear => write!(out, "{:04}", time.year()),
            Chunk::Year => write!(out, "{:02}", time.year().rem_euclid(100)),
            Chunk::UpperPm => write!(out, "{}", if time.hour() >= 12 { "PM" } else { "AM" }),
            Chunk::LowerPm => write!(out, "{}", if time.hour() >= 12 { "pm" } else { "am" }),
            Chunk::Zone => write!(out, "{}", zone_abbreviation(time)),
            Chunk::Offset {
                z,
                colon,
                seconds,
                hours_only,
            } => write_offset(out, time.offset().seconds(), z, colon, seconds, hours_only),
            Chunk::Fraction {
                separator,
                digits,
                trim,
            } => write_fraction(out, time, separator, digits, trim),
        };
    }
}

/// Returns the zone's abbreviation; a zone that has none is spelled by its offset, as in Go.
pub(super) fn zone_abbreviation(time: &Zoned) -> String {
    let text = time.strftime("%Z").to_string();
    if text.is_empty() {
        time.strftime("%z").to_string()
    } else {
        text
    }
}

fn write_offset(
    out: &mut String,
    offset_secs: i32,
    z: bool,
    colon: bool,
    seconds: bool,
    hours_only: bool,
) -> std::fmt::Result {
    if z && offset_secs == 0 {
        return out.write_str("Z");
    }
    let sign = if offset_secs < 0 { '-' } else { '+' };
    let magnitude = offset_secs.unsigned_abs();
    let (hours, minutes, secs) = (magnitude / 3600, magnitude / 60 % 60, magnitude % 60);
    let colon = if colon { ":" } else { "" };
    write!(out, "{sign}{hours:02}")?;
    if !hours_only {
        write!(out, "{colon}{minutes:02}")?;
    }
    if seconds {
        write!(out, "{colon}{secs:02}")?;
    }
    Ok(())
}

fn write_fraction(out: &mut String, time: &Zoned, separator: char, digits: usize, trim: bool) -> std::fmt::Result {
    let nanos = format!("{:09}", time.subsec_nanosecond());
    let mut shown = format!("{:0<digits$}", &nanos[..digits.min(9)]);
    if trim {
        shown.truncate(shown.trim_end_matches('0').len());
        if shown.is_empty() {
            return Ok(());
        }
    }
    write!(out, "{separator}{shown}")
}

/// Prints a duration in nanoseconds as Go's `time.Duration.String`: `1h30m0s`, `1.5s`, `2.5ms`.
pub fn format_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    if magnitude < 1_000_000_000 {
        let (unit, scale) = match magnitude {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", decimal(magnitude, scale));
    }
    let seconds_of_minute = decimal(magnitude % 60_000_000_000, 1_000_000_000);
    let minutes = magnitude / 60_000_000_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds_of_minute}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds_of_minute}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds_of_minute}s"),
    }
}

fn decimal(amount: u64, scale: u64) -> String {
    let places = scale.ilog10() as usize;
    let fraction = format!("{:0places$}", amount % scale);
    match fraction.trim_end_matches('0') {
        "" => (amount / scale).to_string(),
        fraction => format!("{}.{fraction}", amount / scale),
    }
}

/// Calls a method of `time.Time`; `None` when there is none of this name.
pub(super) fn time_member(time: &Zoned, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let int = |n: i64| Some(Ok(Value::Int(n)));
    match (name, args) {
        ("Year", []) => int(time.year().into()),
        ("Month", []) => Some(Ok(Value::from(month_name(time.month())))),
        ("Day", []) => int(time.day().into()),
        ("Hour", []) => int(time.hour().into()),
        ("Minute", []) => int(time.minute().into()),
        ("Second", []) => int(time.second().into()),
        ("Nanosecond", []) => int(time.subsec_nanosecond().into()),
        ("YearDay", []) => int(time.day_of_year().into()),
        ("Weekday", []) => Some(Ok(Value::from(day_name(time.weekday().to_sunday_zero_offset())))),
        ("Unix", []) => int(time.timestamp().as_second()),
        ("UnixMilli", []) => int(time.timestamp().as_millisecond()),
        ("UnixMicro", []) => int(time.timestamp().as_microsecond()),
        ("UnixNano", []) => int(i64::try_from(time.timestamp().as_nanosecond()).unwrap_or(i64::MAX)),
        ("IsZero", []) => Some(Ok(Value::Bool(time.timestamp().as_second() == ZERO_TIME_SECS))),
        ("UTC", []) => Some(Ok(Value::from(time.with_time_zone(jiff::tz::TimeZone::UTC)))),
        ("Local", []) => Some(Ok(Value::from(time.clone()))),
        ("String", []) => Some(Ok(Value::from(format_time_default(time)))),
        ("Format", [Value::Str(layout)]) => Some(Ok(Value::from(format_time(time, layout)))),
        ("Add", [Value::Duration(nanos)]) => Some(shifted(time, *nanos)),
        ("Sub", [Value::Time(other)]) => Some(Ok(Value::Duration(between(time, other)))),
        ("Before", [Value::Time(other)]) => Some(Ok(Value::Bool(time.timestamp() < other.timestamp()))),
        ("After", [Value::Time(other)]) => Some(Ok(Value::Bool(time.timestamp() > other.timestamp()))),
        ("Equal", [Value::Time(other)]) => Some(Ok(Value::Bool(time.timestamp() == other.timestamp()))),
        ("AddDate", [Value::Int(years), Value::Int(months), Value::Int(days)]) => {
            Some(add_date(time, *years, *months, *days))
        }
        (
            "Year" | "Month" | "Day" | "Hour" | "Minute" | "Second" | "Unix" | "UTC" | "Format" | "Add" | "Sub"
            | "Before" | "After" | "Equal" | "AddDate" | "Weekday" | "YearDay",
            _,
        ) => Some(Err(format!("wrong number or types of args for {name}"))),
        _ => None,
    }
}

/// Go's zero time: the year 1.
const ZERO_TIME_SECS: i64 = -62_135_596_800;

fn shifted(time: &Zoned, nanos: i64) -> Result<Value, String> {
    time.checked_add(jiff::SignedDuration::from_nanos(nanos))
        .map(Value::from)
        .map_err(|error| error.to_string())
}

fn between(time: &Zoned, other: &Zoned) -> i64 {
    let nanos = time.timestamp().as_nanosecond() - other.timestamp().as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

fn add_date(time: &Zoned, years: i64, months: i64, days: i64) -> Result<Value, String> {
    let span = jiff::Span::new()
        .try_years(years)
        .and_then(|span| span.try_months(months))
        .and_then(|span| span.try_days(days))
        .map_err(|error| error.to_string())?;
    time.checked_add(span)
        .map(Value::from)
        .map_err(|error| error.to_string())
}

/// Calls a method of `time.Duration`; `None` when there is none of this name.
#[expect(clippy::cast_precision_loss, reason = "Go converts to float64 as well")]
pub(super) fn duration_member(nanos: i64, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let value = match (name, args) {
        ("Seconds", []) => Value::Float(nanos as f64 / 1e9),
        ("Minutes", []) => Value::Float(nanos as f64 / 6e10),
        ("Hours", []) => Value::Float(nanos as f64 / 3.6e12),
        ("Milliseconds", []) => Value::Int(nanos / 1_000_000),
        ("Microseconds", []) => Value::Int(nanos / 1_000),
        ("Nanoseconds", []) => Value::Int(nanos),
        ("Abs", []) => Value::Duration(nanos.saturating_abs()),
        ("String", []) => Value::from(format_duration(nanos)),
        ("Truncate", [Value::Duration(unit)]) if *unit > 0 => Value::Duration(nanos - nanos % unit),
        ("Truncate", [Value::Duration(_)]) => Value::Duration(nanos),
        ("Round", [Value::Duration(unit)]) if *unit > 0 => Value::Duration(round_to(nanos, *unit)),
        ("Round", [Value::Duration(_)]) => Value::Duration(nanos),
        _ => return None,
    };
    Some(Ok(value))
}

/// Rounds half away from zero.
fn round_to(nanos: i64, unit: i64) -> i64 {
    let rest = nanos % unit;
    if rest.unsigned_abs() * 2 < unit.unsigned_abs() {
        nanos - rest
    } else {
        nanos.saturating_sub(rest).saturating_add(unit * nanos.signum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zoned(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    #[test]
    fn layouts_format_as_in_go() {
        let time = zoned("2026-03-05T09:07:04.128+01:00[Europe/Berlin]");
        for (layout, expected) in [
            ("2006-01-02T15:04:05Z07:00", "2026-03-05T09:07:04+01:00"),
            ("Mon Jan _2 15:04:05 MST 2006", "Thu Mar  5 09:07:04 CET 2026"),
            (
                "Monday, January 2, 2006 3:4:5 PM pm",
                "Thursday, March 5, 2026 9:7:4 AM am",
            ),
            ("15:04:05.000 .999999 -0700 06 002", "09:07:04.128 .128 +0100 26 064"),
            ("at 2006: Janet", "at 2026: Janet"),
        ] {
            assert_eq!(format_time(&time, layout), expected, "{layout}");
        }
        assert_eq!(
            format_time_default(&zoned("2015-06-23T13:19:44.128+00:00[UTC]")),
            "2015-06-23 13:19:44.128 +0000 UTC"
        );
    }

    #[test]
    fn durations_print_as_in_go() {
        for (nanos, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_500_000, "2.5ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (-5_400_500_000_000, "-1h30m0.5s"),
        ] {
            assert_eq!(format_duration(nanos), expected);
        }
    }
}
