//! Reports: one row for each value of a field, with clicks, spend, rates; as JSON, CSV and Parquet with the same numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde_json::{Map, Value as Json};

use super::super::{CellMetric, Domain, Events, Field, Question};
use super::AuditError;

/// The most rows of a report.
const ROWS_MAX: usize = 2_000_000;

/// What a report is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportQuestion {
    /// Which events.
    pub question: Question,
    /// A row for each value of this field.
    pub by: Field,
    /// Rows with fewer people are joined into one without a value; 0 joins none.
    pub group_min: u32,
}

/// A table of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The field that the rows are by.
    by: Field,
    /// Names of the columns after it.
    columns: Vec<&'static str>,
    /// A value and its numbers.
    rows: Vec<(String, Vec<Number>)>,
}

/// A number of a report.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Whole(i64),
    /// In units, or a share.
    Fraction(f64),
    /// A rate of nothing.
    None,
}

const ADS: [CellMetric; 8] = [
    CellMetric::NetClicks,
    CellMetric::GrossClicks,
    CellMetric::NetImpressions,
    CellMetric::GrossImpressions,
    CellMetric::NetConversions,
    CellMetric::NetSpend,
    CellMetric::GrossSpend,
    CellMetric::NetRevenue,
];
const WEB: [CellMetric; 3] = [
    CellMetric::NetPageviews,
    CellMetric::GrossPageviews,
    CellMetric::NetRevenue,
];
const MONEY: [CellMetric; 3] = [CellMetric::NetSpend, CellMetric::GrossSpend, CellMetric::NetRevenue];

/// Makes a report. Blocks.
///
/// # Errors
/// [`AuditError`].
pub fn report(events: &Events, asked: &ReportQuestion) -> Result<Report, AuditError> {
    let metrics: &[CellMetric] = match asked.question.domain {
        Domain::Ads => &ADS,
        Domain::Web => &WEB,
    };
    let mut rows: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (place, metric) in metrics.iter().enumerate() {
        let (ranked, _) = events.top(&asked.question, asked.by, *metric, ROWS_MAX + 1)?;
        for found in ranked {
            let row = rows.entry(found.value).or_insert_with(|| vec![0; metrics.len()]);
            row[place] = found.count;
        }
        if rows.len() > ROWS_MAX {
            return Err(AuditError::Asked(format!(
                "the report has more than {ROWS_MAX} rows; ask for less time"
            )));
        }
    }
    if asked.group_min > 0 {
        rows = joined(events, asked, rows)?;
    }
    let is_ads = asked.question.domain == Domain::Ads;
    let mut columns: Vec<&'static str> = metrics.iter().map(|metric| metric.name()).collect();
    if is_ads {
        columns.extend(["ctr", "cvr"]);
    }
    let numbers = |row: &[i64]| {
        let mut numbers: Vec<Number> = metrics
            .iter()
            .zip(row)
            .map(|(metric, count)| number(*metric, *count))
            .collect();
        if is_ads {
            numbers.extend([rate(row[0], row[2]), rate(row[4], row[0])]);
        }
        numbers
    };
    Ok(Report {
        by: asked.by,
        columns,
        rows: rows.iter().map(|(value, row)| (value.clone(), numbers(row))).collect(),
    })
}

fn number(metric: CellMetric, count: i64) -> Number {
    match MONEY.contains(&metric) {
        true => Number::Fraction(super::super::Micros(count).as_units()),
        false => Number::Whole(count),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate of counts below 2^53")]
fn rate(part: i64, whole: i64) -> Number {
    match whole {
        0 => Number::None,
        whole => Number::Fraction(part as f64 / whole as f64),
    }
}

/// Joins rows with too few people.
fn joined(
    events: &Events,
    asked: &ReportQuestion,
    rows: BTreeMap<String, Vec<i64>>,
) -> Result<BTreeMap<String, Vec<i64>>, AuditError> {
    let mut kept = BTreeMap::new();
    let mut rest: Option<Vec<i64>> = None;
    for (value, row) in rows {
        let mut question = asked.question.clone();
        question.fields.retain(|(field, _)| *field != asked.by);
        question.fields.push((asked.by, value.clone()));
        let (people, ..) = events.uniques(&question)?;
        if people >= f64::from(asked.group_min) {
            kept.insert(value, row);
        } else {
            let rest = rest.get_or_insert_with(|| vec![0; row.len()]);
            rest.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
        }
    }
    if let Some(rest) = rest {
        kept.insert("(few people)".to_owned(), rest);
    }
    Ok(kept)
}

impl Report {
    /// Returns the rows as JSON objects.
    pub fn json(&self) -> Json {
        let row = |(value, numbers): &(String, Vec<Number>)| {
            let mut all = Map::new();
            all.insert(self.by.name().to_owned(), value.as_str().into());
            for (column, number) in self.columns.iter().zip(numbers) {
                let number = match number {
                    Number::Whole(number) => (*number).into(),
                    Number::Fraction(number) => (*number).into(),
                    Number::None => Json::Null,
                };
                all.insert((*column).to_owned(), number);
            }
            Json::Object(all)
        };
        self.rows.iter().map(row).collect()
    }

    /// Returns the rows as CSV with a head (RFC 4180).
    pub fn csv(&self) -> String {
        let mut out = self.by.name().to_owned();
        self.columns.iter().for_each(|column| {
            out.push(',');
            out.push_str(column);
        });
        out.push_str("\r\n");
        for (value, numbers) in &self.rows {
            out.push_str(&cell(value));
            for number in numbers {
                out.push(',');
                match number {
                    Number::Whole(number) => out.push_str(&number.to_string()),
                    Number::Fraction(number) => out.push_str(&number.to_string()),
                    Number::None => {}
                }
            }
            out.push_str("\r\n");
        }
        out
    }

    /// Returns the rows as a Parquet file.
    ///
    /// # Errors
    /// When the library refuses, as a text.
    pub fn parquet(&self) -> Result<Vec<u8>, String> {
        self.write_parquet().map_err(|error| error.to_string())
    }

    fn write_parquet(&self) -> parquet::errors::Result<Vec<u8>> {
        let is_whole = |place: usize| {
            let mut numbers = self.rows.iter().map(|(_, numbers)| numbers[place]);
            numbers.all(|number| matches!(number, Number::Whole(_)))
        };
        let text = Type::primitive_type_builder(self.by.name(), Physical::BYTE_ARRAY)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::String))
            .build()?;
        let mut fields = vec![Arc::new(text)];
        for (place, column) in self.columns.iter().enumerate() {
            let physical = if is_whole(place) {
                Physical::INT64
            } else {
                Physical::DOUBLE
            };
            let field = Type::primitive_type_builder(column, physical).with_repetition(Repetition::OPTIONAL);
            fields.push(Arc::new(field.build()?));
        }
        let schema = Arc::new(Type::group_type_builder("report").with_fields(fields).build()?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
        let mut group = writer.next_row_group()?;
        let mut place = 0;
        while let Some(mut out) = group.next_column()? {
            if place == 0 {
                let values: Vec<ByteArray> = self
                    .rows
                    .iter()
                    .map(|(value, _)| value.as_bytes().to_vec().into())
                    .collect();
                out.typed::<ByteArrayType>().write_batch(&values, None, None)?;
            } else {
                let numbers: Vec<Number> = self.rows.iter().map(|(_, numbers)| numbers[place - 1]).collect();
                let levels: Vec<i16> = numbers
                    .iter()
                    .map(|number| i16::from(*number != Number::None))
                    .collect();
                if is_whole(place - 1) {
                    let values: Vec<i64> = numbers.iter().filter_map(|number| number.whole()).collect();
                    out.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?;
                } else {
                    let values: Vec<f64> = numbers.iter().filter_map(|number| number.fraction()).collect();
                    out.typed::<DoubleType>().write_batch(&values, Some(&levels), None)?;
                }
            }
            out.close()?;
            place += 1;
        }
        group.close()?;
        writer.into_inner()
    }
}

impl Number {
    fn whole(&self) -> Option<i64> {
        match self {
            Number::Whole(number) => Some(*number),
            Number::Fraction(_) | Number::None => None,
        }
    }

    fn fraction(&self) -> Option<f64> {
        match self {
            Number::Fraction(number) => Some(*number),
            Number::Whole(_) | Number::None => None,
        }
    }
}

/// Quotes a text of a table. One that a spreadsheet would take for a formula gets an apostrophe before it.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    fn report() -> Report {
        Report {
            by: Field::AdId,
            columns: vec!["net_clicks", "spend", "ctr"],
            rows: vec![
                (
                    "a,\"b".to_owned(),
                    vec![Number::Whole(3), Number::Fraction(0.75), Number::Fraction(0.25)],
                ),
                (
                    "=SUM(A1)".to_owned(),
                    vec![Number::Whole(0), Number::Fraction(0.0), Number::None],
                ),
            ],
        }
    }

    #[test]
    fn the_same_numbers_come_in_every_form() {
        let json = report().json();
        assert_eq!(
            json[0],
            serde_json::json!({"ad_id": "a,\"b", "net_clicks": 3, "spend": 0.75, "ctr": 0.25})
        );
        assert_eq!(json[1]["ctr"], Json::Null);
        let csv = report().csv();
        assert_eq!(
            csv,
            "ad_id,net_clicks,spend,ctr\r\n\"a,\"\"b\",3,0.75,0.25\r\n'=SUM(A1),0,0,\r\n"
        );
        let bytes = bytes::Bytes::from(report().parquet().unwrap());
        let reader = SerializedFileReader::new(bytes).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 2);
        assert_eq!(reader.metadata().file_metadata().schema_descr().num_columns(), 4);
    }
}
