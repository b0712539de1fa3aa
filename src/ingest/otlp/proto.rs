//! OTLP's messages, written out by hand: the form in which JSON arrives, and the oracle of the protobuf reader.
//!
//! A `oneof` is a set of optional fields on the wire, so it is one here too; JSON's spelling then needs nothing special.
//! JSON is that of the OTLP specification: lowerCamelCase, 64-bit integers as text or number, ids in hexadecimal.

use serde::{Deserialize, Deserializer};

macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, PartialEq, prost::Message, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub(super) struct $name { $($(#[$field_meta])* pub(super) $field: $type,)* }
    )*};
}

messages! {
    /// `ExportMetricsServiceRequest`.
    Request {
        #[prost(message, repeated, tag = "1")]
        resource_metrics: Vec<ResourceMetrics>,
    }
    ResourceMetrics {
        #[prost(message, optional, tag = "1")]
        resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        scope_metrics: Vec<ScopeMetrics>,
    }
    Resource {
        #[prost(message, repeated, tag = "1")]
        attributes: Vec<KeyValue>,
    }
    ScopeMetrics {
        #[prost(message, optional, tag = "1")]
        scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")]
        metrics: Vec<Metric>,
        #[prost(string, tag = "3")]
        schema_url: String,
    }
    Scope {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        version: String,
        #[prost(message, repeated, tag = "3")]
        attributes: Vec<KeyValue>,
    }
    Metric {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        description: String,
        #[prost(string, tag = "3")]
        unit: String,
        #[prost(message, optional, tag = "5")]
        gauge: Option<Gauge>,
        #[prost(message, optional, tag = "7")]
        sum: Option<Sum>,
        #[prost(message, optional, tag = "9")]
        histogram: Option<Histogram>,
        #[prost(message, optional, tag = "10")]
        exponential_histogram: Option<ExponentialHistogram>,
        #[prost(message, optional, tag = "11")]
        summary: Option<Summary>,
    }
    Gauge {
        #[prost(message, repeated, tag = "1")]
        data_points: Vec<NumberDataPoint>,
    }
    Sum {
        #[prost(message, repeated, tag = "1")]
        data_points: Vec<NumberDataPoint>,
        #[prost(int32, tag = "2")]
        #[serde(deserialize_with = "temporality")]
        aggregation_temporality: i32,
        #[prost(bool, tag = "3")]
        is_monotonic: bool,
    }
    Histogram {
        #[prost(message, repeated, tag = "1")]
        data_points: Vec<HistogramDataPoint>,
        #[prost(int32, tag = "2")]
        #[serde(deserialize_with = "temporality")]
        aggregation_temporality: i32,
    }
    ExponentialHistogram {
        #[prost(message, repeated, tag = "1")]
        data_points: Vec<ExponentialHistogramDataPoint>,
        #[prost(int32, tag = "2")]
        #[serde(deserialize_with = "temporality")]
        aggregation_temporality: i32,
    }
    Summary {
        #[prost(message, repeated, tag = "1")]
        data_points: Vec<SummaryDataPoint>,
    }
    NumberDataPoint {
        #[prost(fixed64, tag = "2")]
        #[serde(deserialize_with = "unsigned")]
        start_time_unix_nano: u64,
        #[prost(fixed64, tag = "3")]
        #[serde(deserialize_with = "unsigned")]
        time_unix_nano: u64,
        #[prost(double, optional, tag = "4")]
        #[serde(deserialize_with = "maybe_double")]
        as_double: Option<f64>,
        #[prost(message, repeated, tag = "5")]
        exemplars: Vec<Exemplar>,
        #[prost(sfixed64, optional, tag = "6")]
        #[serde(deserialize_with = "maybe_signed")]
        as_int: Option<i64>,
        #[prost(message, repeated, tag = "7")]
        attributes: Vec<KeyValue>,
        #[prost(uint32, tag = "8")]
        flags: u32,
    }
    HistogramDataPoint {
        #[prost(fixed64, tag = "2")]
        #[serde(deserialize_with = "unsigned")]
        start_time_unix_nano: u64,
        #[prost(fixed64, tag = "3")]
        #[serde(deserialize_with = "unsigned")]
        time_unix_nano: u64,
        #[prost(fixed64, tag = "4")]
        #[serde(deserialize_with = "unsigned")]
        count: u64,
        #[prost(double, optional, tag = "5")]
        #[serde(deserialize_with = "maybe_double")]
        sum: Option<f64>,
        #[prost(fixed64, repeated, tag = "6")]
        #[serde(deserialize_with = "unsigned_list")]
        bucket_counts: Vec<u64>,
        #[prost(double, repeated, tag = "7")]
        #[serde(deserialize_with = "double_list")]
        explicit_bounds: Vec<f64>,
        #[prost(message, repeated, tag = "8")]
        exemplars: Vec<Exemplar>,
        #[prost(message, repeated, tag = "9")]
        attributes: Vec<KeyValue>,
        #[prost(uint32, tag = "10")]
        flags: u32,
    }
    ExponentialHistogramDataPoint {
        #[prost(message, repeated, tag = "1")]
        attributes: Vec<KeyValue>,
        #[prost(fixed64, tag = "2")]
        #[serde(deserialize_with = "unsigned")]
        start_time_unix_nano: u64,
        #[prost(fixed64, tag = "3")]
        #[serde(deserialize_with = "unsigned")]
        time_unix_nano: u64,
        #[prost(fixed64, tag = "4")]
        #[serde(deserialize_with = "unsigned")]
        count: u64,
        #[prost(double, optional, tag = "5")]
        #[serde(deserialize_with = "maybe_double")]
        sum: Option<f64>,
        #[prost(sint32, tag = "6")]
        scale: i32,
        #[prost(fixed64, tag = "7")]
        #[serde(deserialize_with = "unsigned")]
        zero_count: u64,
        #[prost(message, optional, tag = "8")]
        positive: Option<Buckets>,
        #[prost(message, optional, tag = "9")]
        negative: Option<Buckets>,
        #[prost(uint32, tag = "10")]
        flags: u32,
        #[prost(message, repeated, tag = "11")]
        exemplars: Vec<Exemplar>,
        #[prost(double, tag = "14")]
        #[serde(deserialize_with = "double")]
        zero_threshold: f64,
    }
    Buckets {
        #[prost(sint32, tag = "1")]
        offset: i32,
        #[prost(uint64, repeated, tag = "2")]
        #[serde(deserialize_with = "unsigned_list")]
        bucket_counts: Vec<u64>,
    }
    SummaryDataPoint {
        #[prost(fixed64, tag = "2")]
        #[serde(deserialize_with = "unsigned")]
        start_time_unix_nano: u64,
        #[prost(fixed64, tag = "3")]
        #[serde(deserialize_with = "unsigned")]
        time_unix_nano: u64,
        #[prost(fixed64, tag = "4")]
        #[serde(deserialize_with = "unsigned")]
        count: u64,
        #[prost(double, tag = "5")]
        #[serde(deserialize_with = "double")]
        sum: f64,
        #[prost(message, repeated, tag = "6")]
        quantile_values: Vec<ValueAtQuantile>,
        #[prost(message, repeated, tag = "7")]
        attributes: Vec<KeyValue>,
        #[prost(uint32, tag = "8")]
        flags: u32,
    }
    ValueAtQuantile {
        #[prost(double, tag = "1")]
        #[serde(deserialize_with = "double")]
        quantile: f64,
        #[prost(double, tag = "2")]
        #[serde(deserialize_with = "double")]
        value: f64,
    }
    Exemplar {
        #[prost(fixed64, tag = "2")]
        #[serde(deserialize_with = "unsigned")]
        time_unix_nano: u64,
        #[prost(double, optional, tag = "3")]
        #[serde(deserialize_with = "maybe_double")]
        as_double: Option<f64>,
        #[prost(bytes = "vec", tag = "4")]
        #[serde(deserialize_with = "hex")]
        span_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "5")]
        #[serde(deserialize_with = "hex")]
        trace_id: Vec<u8>,
        #[prost(sfixed64, optional, tag = "6")]
        #[serde(deserialize_with = "maybe_signed")]
        as_int: Option<i64>,
        #[prost(message, repeated, tag = "7")]
        filtered_attributes: Vec<KeyValue>,
    }
    KeyValue {
        #[prost(string, tag = "1")]
        key: String,
        #[prost(message, optional, tag = "2")]
        value: Option<AnyValue>,
    }
    AnyValue {
        #[prost(string, optional, tag = "1")]
        string_value: Option<String>,
        #[prost(bool, optional, tag = "2")]
        bool_value: Option<bool>,
        #[prost(int64, optional, tag = "3")]
        #[serde(deserialize_with = "maybe_signed")]
        int_value: Option<i64>,
        #[prost(double, optional, tag = "4")]
        #[serde(deserialize_with = "maybe_double")]
        double_value: Option<f64>,
        #[prost(message, optional, tag = "5")]
        array_value: Option<ArrayValue>,
        #[prost(message, optional, tag = "6")]
        kvlist_value: Option<KeyValueList>,
        #[prost(bytes = "vec", optional, tag = "7")]
        #[serde(deserialize_with = "base64_text")]
        bytes_value: Option<Vec<u8>>,
    }
    ArrayValue {
        #[prost(message, repeated, tag = "1")]
        values: Vec<AnyValue>,
    }
    KeyValueList {
        #[prost(message, repeated, tag = "1")]
        values: Vec<KeyValue>,
    }
}

/// `ExportMetricsServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

/// What of a request was not taken.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_data_points: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

/// `google.rpc.Status`: the body of a refusal.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

impl AnyValue {
    /// Returns the value as a label's: text as it is, the rest as JSON would have it.
    pub(super) fn text(&self) -> String {
        match self {
            AnyValue {
                string_value: Some(text),
                ..
            } => text.clone(),
            other => match other.json() {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text,
                json => json.to_string(),
            },
        }
    }

    fn json(&self) -> serde_json::Value {
        use base64::Engine as _;
        if let Some(text) = &self.string_value {
            text.clone().into()
        } else if let Some(truth) = self.bool_value {
            truth.into()
        } else if let Some(number) = self.int_value {
            number.into()
        } else if let Some(number) = self.double_value {
            serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Into::into)
        } else if let Some(list) = &self.array_value {
            list.values.iter().map(AnyValue::json).collect()
        } else if let Some(list) = &self.kvlist_value {
            let value = |pair: &KeyValue| pair.value.as_ref().map_or(serde_json::Value::Null, AnyValue::json);
            list.values.iter().map(|pair| (pair.key.clone(), value(pair))).collect()
        } else if let Some(bytes) = &self.bytes_value {
            base64::engine::general_purpose::STANDARD.encode(bytes).into()
        } else {
            serde_json::Value::Null
        }
    }
}

/// A number as JSON may spell it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Spelled {
    Unsigned(u64),
    Signed(i64),
    Double(f64),
    Text(String),
}

impl Spelled {
    fn parse<T: std::str::FromStr, E: serde::de::Error>(self) -> Result<T, E> {
        let text = match self {
            Spelled::Unsigned(number) => number.to_string(),
            Spelled::Signed(number) => number.to_string(),
            Spelled::Double(number) => number.to_string(),
            Spelled::Text(text) => text,
        };
        text.parse()
            .map_err(|_| E::custom(format_args!("{text:?} is not a number of this kind")))
    }
}

fn unsigned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Spelled::deserialize(deserializer)?.parse()
}

fn unsigned_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    let spelled = Vec::<Spelled>::deserialize(deserializer)?;
    spelled.into_iter().map(Spelled::parse).collect()
}

fn maybe_signed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let spelled = Option::<Spelled>::deserialize(deserializer)?;
    spelled.map(Spelled::parse).transpose()
}

fn double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Spelled::deserialize(deserializer)?.parse()
}

fn double_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let spelled = Vec::<Spelled>::deserialize(deserializer)?;
    spelled.into_iter().map(Spelled::parse).collect()
}

fn maybe_double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let spelled = Option::<Spelled>::deserialize(deserializer)?;
    spelled.map(Spelled::parse).transpose()
}

/// An enumeration's number; its name is understood too.
fn temporality<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    match Spelled::deserialize(deserializer)? {
        Spelled::Text(name) if name == "AGGREGATION_TEMPORALITY_DELTA" => Ok(super::DELTA as i32),
        Spelled::Text(name) if name == "AGGREGATION_TEMPORALITY_CUMULATIVE" => Ok(super::CUMULATIVE as i32),
        Spelled::Text(name) if name == "AGGREGATION_TEMPORALITY_UNSPECIFIED" => Ok(0),
        number => number.parse(),
    }
}

fn hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    bytes
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| serde::de::Error::custom(format_args!("{text:?} is not hexadecimal")))
}

fn base64_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    use base64::Engine as _;
    let text = Option::<String>::deserialize(deserializer)?;
    let decode = |text: String| {
        let decoded = base64::engine::general_purpose::STANDARD.decode(&text);
        decoded.map_err(|error| serde::de::Error::custom(format_args!("bytesValue: {error}")))
    };
    text.map(decode).transpose()
}
