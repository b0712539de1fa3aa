//! A request's parameters: those of the address and of a form body, decoded strictly, and read as Prometheus reads them.

use axum::http::{HeaderMap, Method, header};

use super::{ApiError, Call};
use crate::model::{Interval, Millis, TimeRange};

/// The parameters of one request, in order; a form's come first.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads address and body. Text that is not UTF-8 is refused: replaced letters would select other series.
    ///
    /// # Errors
    /// [`ApiError::BadData`] for malformed text; whatever reading the body gives.
    pub(super) async fn read(call: &mut Call) -> Result<Params, ApiError> {
        let mut pairs = Vec::new();
        if call.request.method() == Method::POST && is_form(call.request.headers()) {
            let body = call.body().await?;
            decode_form(&body, &mut pairs)?;
        } else if call.request.method() == Method::POST {
            call.body().await?;
        }
        if let Some(query) = call.request.uri().query() {
            decode_form(query.as_bytes(), &mut pairs)?;
        }
        Ok(Params(pairs))
    }

    /// Returns the first value of `name`; `None` when it is absent or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns all parameters, in order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns all values of `name`.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns a point in time: seconds since the epoch, with a fraction, or RFC 3339.
    pub(super) fn time(&self, name: &str) -> Result<Option<Millis>, ApiError> {
        self.get(name)
            .map(|text| parse_time(text).map_err(|error| invalid(name, &error)))
            .transpose()
    }

    /// Returns a point in time that must be given.
    pub(super) fn required_time(&self, name: &str) -> Result<Millis, ApiError> {
        let missing = || invalid(name, "cannot parse \"\" to a valid timestamp");
        self.time(name)?.ok_or_else(missing)
    }

    /// Returns a length of time: seconds, with a fraction, or `1h30m`.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Interval>, ApiError> {
        self.get(name)
            .map(|text| parse_duration(text).map_err(|error| invalid(name, &error)))
            .transpose()
    }

    /// Returns the window from `start` to `end`, each open when absent.
    pub(super) fn range(&self) -> Result<TimeRange, ApiError> {
        let min = self.time("start")?.unwrap_or(Millis::MIN);
        let max = self.time("end")?.unwrap_or(Millis::MAX);
        if max < min {
            return Err(invalid("end", "end timestamp must not be before start time"));
        }
        Ok(TimeRange { min, max })
    }

    /// Returns a count; 0 and absence mean no limit.
    pub(super) fn limit(&self, name: &str) -> Result<usize, ApiError> {
        match self.get(name).map(str::parse) {
            None | Some(Ok(0)) => Ok(usize::MAX),
            Some(Ok(limit)) => Ok(limit),
            Some(Err(_)) => Err(invalid(name, "limit must be a whole number that is not negative")),
        }
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .trim_start()
                .to_ascii_lowercase()
                .starts_with("application/x-www-form-urlencoded")
        })
}

/// Words a refused parameter as Prometheus does.
pub(super) fn invalid(name: &str, reason: &str) -> ApiError {
    ApiError::BadData(format!("invalid parameter {name:?}: {reason}"))
}

fn decode_form(bytes: &[u8], pairs: &mut Vec<(String, String)>) -> Result<(), ApiError> {
    for pair in bytes.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        let split = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let name =
            decode(&pair[..split]).map_err(|error| ApiError::BadData(format!("invalid parameter name: {error}")))?;
        let value = pair.get(split + 1..).unwrap_or_default();
        let value = decode(value).map_err(|error| invalid(&name, error))?;
        pairs.push((name, value));
    }
    Ok(())
}

fn decode(text: &[u8]) -> Result<String, &'static str> {
    let digit = |at: usize| text.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
                    return Err("invalid URL escape");
                };
                bytes.push((high * 16 + low) as u8);
                at += 2;
            }
            byte => bytes.push(byte),
        }
        at += 1;
    }
    String::from_utf8(bytes).map_err(|_| "invalid UTF-8 rune")
}

/// Reads seconds since the epoch, or RFC 3339. Prometheus's own words for the ends of time are understood.
pub(super) fn parse_time(text: &str) -> Result<Millis, String> {
    let bad = || format!("cannot parse {text:?} to a valid timestamp");
    if let Ok(seconds) = text.parse::<f64>() {
        return whole_millis(seconds).map(Millis).ok_or_else(bad);
    }
    match text {
        "-292273086-05-16T16:47:06Z" => Ok(Millis::MIN),
        "292277025-08-18T07:12:54.999999999Z" => Ok(Millis::MAX),
        _ => {
            let at: jiff::Timestamp = text.parse().map_err(|_| bad())?;
            Ok(Millis(at.as_millisecond()))
        }
    }
}

/// Reads seconds, or a duration with units.
pub(super) fn parse_duration(text: &str) -> Result<Interval, String> {
    let bad = || format!("cannot parse {text:?} to a valid duration");
    if let Ok(seconds) = text.parse::<f64>() {
        if seconds.abs() > i64::MAX as f64 / 1e9 {
            return Err(format!("{}. It overflows int64", bad()));
        }
        return whole_millis(seconds).map(Interval).ok_or_else(bad);
    }
    text.parse().map_err(|_| bad())
}

fn whole_millis(seconds: f64) -> Option<i64> {
    let millis = (seconds * 1000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "the bounds are checked in the same line")]
    (millis.abs() < i64::MAX as f64).then_some(millis as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded_strictly() {
        let mut pairs = Vec::new();
        decode_form(b"query=up%7Ba%3D%22b%22%7D+%2B+1&match[]=a&match[]=b&x", &mut pairs).unwrap();
        let params = Params(pairs);
        assert_eq!(params.get("query"), Some("up{a=\"b\"} + 1"));
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(params.get("x"), None);
        for bad in ["a=%f", "a=%zz", "a=%ff"] {
            assert!(decode_form(bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_and_durations_are_read_as_by_prometheus() {
        assert_eq!(parse_time("4").unwrap(), Millis(4000));
        assert_eq!(parse_time("1435781451.781").unwrap(), Millis(1_435_781_451_781));
        assert_eq!(parse_time("-1.5e0").unwrap(), Millis(-1500));
        assert_eq!(
            parse_time("2015-07-01T20:10:51.781Z").unwrap(),
            Millis(1_435_781_451_781)
        );
        assert_eq!(parse_duration("0.5").unwrap(), Interval(500));
        assert_eq!(parse_duration("1m30s").unwrap(), Interval(90_000));
        for bad in ["", "x", "NaN", "inf", "1e300"] {
            assert!(parse_time(bad).is_err() && parse_duration(bad).is_err(), "{bad}");
        }
    }
}
