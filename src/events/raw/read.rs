//! One file's wanted events: row groups are left out by their statistics and Bloom filters, columns when nobody looks at
//! them, and the rest of a group when no row of it is wanted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use parquet::file::statistics::Statistics;

use super::super::{
    Event, EventId, Field, Kind, Micros, PersonHash, RawError, RawFile, RawQuestion, Reasons, Texts, VisitorId,
};
use super::blocks::{self, Checked};
use super::schema::{Column, columns};
use super::write::CHECKSUMS;
use crate::io::ObjectStore;
use crate::model::Millis;

/// The end of every Parquet file: the footer's length and these letters.
const MAGIC: &[u8] = b"PAR1";
/// Bytes of that end.
const END: u64 = 8;

/// An open file.
pub(super) struct Scan {
    reader: SerializedFileReader<Checked>,
    name: String,
    read: Arc<AtomicU64>,
}

fn corrupt(file: &str, reason: impl Into<String>) -> RawError {
    RawError::Corrupt {
        file: file.to_owned(),
        reason: reason.into(),
    }
}

impl Scan {
    /// Opens a file and checks its footer.
    pub(super) fn open(objects: &Arc<dyn ObjectStore>, file: &RawFile) -> Result<Scan, RawError> {
        let name = file.name.as_str();
        let len = objects.size(name)?;
        if len != file.bytes || len < END {
            return Err(corrupt(
                name,
                format!("it has {len} bytes, the manifest says {}", file.bytes),
            ));
        }
        let end = objects.read(name, len - END, END)?;
        let footer_len = u64::from(u32::from_le_bytes(end[..4].try_into().expect("four bytes"))) + END;
        if &end[4..] != MAGIC || footer_len > len {
            return Err(corrupt(name, "it has no footer"));
        }
        let footer = objects.read(name, len - footer_len, footer_len)?;
        let crc = name.strip_suffix(".parquet").and_then(|name| name.rsplit('-').next());
        let crc = crc.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        if crc != Some(crc32c::crc32c(&footer)) {
            return Err(corrupt(name, "its footer fails its checksum"));
        }
        let read = Arc::new(AtomicU64::new(footer_len));
        let reader = Scan::reader(objects, name, len, &footer, &read);
        Ok(Scan {
            reader: reader.map_err(|error| corrupt(name, error.to_string()))?,
            name: name.to_owned(),
            read,
        })
    }

    fn reader(
        objects: &Arc<dyn ObjectStore>,
        name: &str,
        len: u64,
        footer: &Bytes,
        read: &Arc<AtomicU64>,
    ) -> ParquetResult<SerializedFileReader<Checked>> {
        let checked = |sums: Vec<u32>| Checked {
            objects: Arc::clone(objects),
            name: name.into(),
            len,
            footer: footer.clone(),
            body_len: len - footer.len() as u64,
            sums: sums.into(),
            read: Arc::clone(read),
        };
        let first = SerializedFileReader::new(checked(Vec::new()))?;
        let properties = first.metadata().file_metadata().key_value_metadata();
        let sums = properties
            .and_then(|all| all.iter().find(|pair| pair.key == CHECKSUMS))
            .and_then(|pair| blocks::parse(pair.value.as_deref()?))
            .ok_or_else(|| ParquetError::General("it has no checksums".to_owned()))?;
        let options = ReadOptionsBuilder::new()
            .with_reader_properties(ReaderProperties::builder().set_read_bloom_filter(true).build())
            .build();
        SerializedFileReader::new_with_options(checked(sums), options)
    }

    /// Returns how many bytes were read of the file.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Calls `visit` with the wanted events; returns whether it wants more. At most `bytes_max` bytes are read.
    pub(super) fn run(
        &mut self,
        question: &RawQuestion,
        bytes_max: u64,
        visit: &mut dyn FnMut(Event) -> bool,
    ) -> Result<bool, RawError> {
        for index in 0..self.reader.num_row_groups() {
            let planned = self.planned_bytes(index, question);
            if self.bytes_read() + planned > bytes_max {
                return Err(RawError::Limit(format!(
                    "over the limit scan_bytes: {} would have to be read on, {bytes_max} bytes are left; ask for less time",
                    self.bytes_read() + planned
                )));
            }
            let damaged = |error: ParquetError| corrupt(&self.name, error.to_string());
            let group = self.reader.get_row_group(index).map_err(damaged)?;
            if !may_have(&*group, question) {
                continue;
            }
            let events = read_group(&*group, question).map_err(damaged)?;
            for event in events {
                if !visit(event) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn planned_bytes(&self, group: usize, question: &RawQuestion) -> u64 {
        let group = self.reader.metadata().row_group(group);
        let sizes = needed(question).map(|column| group.column(column.index()).compressed_size());
        sizes.map(i64::unsigned_abs).sum()
    }
}

/// Columns that an answer needs: all but texts that nobody looks at.
fn needed(question: &RawQuestion) -> impl Iterator<Item = Column> {
    let mut texts: BTreeSet<Field> = question.texts.iter().copied().collect();
    texts.extend(question.fields.iter().map(|(field, _)| *field));
    texts.insert(Field::EventId);
    columns().filter(move |column| match column {
        Column::Text(field) => texts.contains(field),
        _ => true,
    })
}

/// Whether a row group may hold a wanted event, by its statistics and Bloom filters.
fn may_have(group: &dyn RowGroupReader, question: &RawQuestion) -> bool {
    let chunk = |column: Column| group.metadata().column(column.index());
    if let Some(Statistics::Int64(times)) = chunk(Column::At).statistics() {
        let before = times.max_opt().is_some_and(|max| *max < question.from.0);
        let after = times.min_opt().is_some_and(|min| *min >= question.to.0);
        if before || after {
            return false;
        }
    }
    for (field, value) in question.fields.iter().filter(|(_, value)| !value.is_empty()) {
        if let Some(Statistics::ByteArray(texts)) = chunk(Column::Text(*field)).statistics() {
            let all_below = texts.max_is_exact() && texts.max_opt().is_some_and(|max| max.data() < value.as_bytes());
            let all_above = texts.min_opt().is_some_and(|min| min.data() > value.as_bytes());
            if all_below || all_above {
                return false;
            }
        }
    }
    let one_of = |column: Column, hashes: &[PersonHash]| {
        let Some(filter) = group.get_column_bloom_filter(column.index()) else {
            return true;
        };
        hashes.is_empty() || hashes.iter().any(|hash| filter.check(&hash.0.to_be_bytes()[..]))
    };
    one_of(Column::User, &question.users) && one_of(Column::Ip, &question.ips)
}

/// A column's values, one for each row.
struct Values<T> {
    values: Vec<T>,
    /// The place of each row's value; `None` where a row has none.
    places: Vec<Option<u32>>,
}

impl<T> Values<T> {
    fn get(&self, row: usize) -> Option<&T> {
        self.places[row].map(|place| &self.values[place as usize])
    }
}

fn read_column<D: DataType>(group: &dyn RowGroupReader, column: Column) -> ParquetResult<Values<D::T>>
where
    D::T: Default + Clone,
{
    let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    let mut reader = get_typed_column_reader::<D>(group.get_column_reader(column.index())?);
    let mut values = Vec::new();
    let mut levels = Vec::new();
    let mut read = 0;
    while read < rows {
        let levels = column.is_optional().then_some(&mut levels);
        let (records, _, _) = reader.read_records(rows - read, levels, None, &mut values)?;
        if records == 0 {
            break;
        }
        read += records;
    }
    let mut places = Vec::with_capacity(rows);
    match column.is_optional() {
        true => {
            let mut next = 0;
            for level in &levels {
                places.push((*level > 0).then_some(next));
                next += u32::from(*level > 0);
            }
        }
        false => places.extend((0..rows as u32).map(Some)),
    }
    let there = places.iter().flatten().count();
    if places.len() != rows || values.len() != there {
        let name = column.name();
        return Err(ParquetError::General(format!(
            "the column {name} has {read} rows of {rows}"
        )));
    }
    Ok(Values { values, places })
}

/// Reads the wanted events of a row group.
fn read_group(group: &dyn RowGroupReader, question: &RawQuestion) -> ParquetResult<Vec<Event>> {
    let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    let at = read_column::<Int64Type>(group, Column::At)?;
    let users = read_column::<FixedLenByteArrayType>(group, Column::User)?;
    let ips = read_column::<FixedLenByteArrayType>(group, Column::Ip)?;
    let mut wanted: Vec<usize> = (0..rows)
        .filter(|row| (question.from.0..question.to.0).contains(&number(&at, *row)))
        .filter(|row| one_of(&question.users, hash(&users, *row)) && one_of(&question.ips, hash(&ips, *row)))
        .collect();
    for (field, value) in &question.fields {
        if wanted.is_empty() {
            break;
        }
        let texts = read_column::<ByteArrayType>(group, Column::Text(*field))?;
        wanted.retain(|row| texts.get(*row).map_or(&b""[..], ByteArray::data) == value.as_bytes());
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let longs = |column| read_column::<Int64Type>(group, column);
    let ints = |column| read_column::<Int32Type>(group, column);
    let kinds = read_column::<ByteArrayType>(group, Column::Kind)?;
    let (stamped, received) = (longs(Column::Stamped)?, longs(Column::Received)?);
    let (price, revenue, visitor) = (longs(Column::Price)?, longs(Column::Revenue)?, longs(Column::Visitor)?);
    let (reasons, rules) = (ints(Column::Reasons)?, ints(Column::Rules)?);
    let mut texts: [Option<Values<ByteArray>>; Field::ALL.len()] = [const { None }; Field::ALL.len()];
    for column in needed(question) {
        if let Column::Text(field) = column {
            texts[field as usize] = Some(read_column::<ByteArrayType>(group, column)?);
        }
    }
    let mut events = Vec::with_capacity(wanted.len());
    for row in wanted {
        let text_of = |field: Field| {
            let bytes = texts[field as usize].as_ref().and_then(|column| column.get(row));
            bytes.map_or(Ok(""), |bytes| std::str::from_utf8(bytes.data()))
        };
        let not_text = |field: Field| ParquetError::General(format!("{} of row {row} is no text", field.name()));
        if let Some(bad) = Field::ALL.into_iter().find(|field| text_of(*field).is_err()) {
            return Err(not_text(bad));
        }
        let joined = Texts::join(|field| text_of(field).unwrap_or_default());
        let kind = kinds
            .get(row)
            .and_then(|name| Kind::from_name(std::str::from_utf8(name.data()).ok()?));
        let at = number(&at, row);
        events.push(Event {
            id: EventId::of(text_of(Field::EventId).unwrap_or_default()),
            kind: kind.ok_or_else(|| ParquetError::General(format!("row {row} is of no known type")))?,
            at: Millis(at),
            stamped: Millis(stamped.get(row).copied().unwrap_or(at)),
            received: Millis(number(&received, row)),
            reasons: Reasons(reasons.get(row).copied().unwrap_or_default().cast_unsigned()),
            price: Micros(number(&price, row)),
            revenue: Micros(number(&revenue, row)),
            user: hash(&users, row),
            ip: hash(&ips, row),
            visitor: visitor.get(row).map(|visitor| VisitorId(visitor.cast_unsigned())),
            rules: rules.get(row).copied().unwrap_or_default().cast_unsigned(),
            texts: joined.map_err(|error| ParquetError::General(error.to_string()))?,
        });
    }
    Ok(events)
}

fn number(column: &Values<i64>, row: usize) -> i64 {
    column.get(row).copied().unwrap_or_default()
}

fn hash(column: &Values<FixedLenByteArray>, row: usize) -> Option<PersonHash> {
    let bytes = column.get(row)?.data().try_into().ok()?;
    Some(PersonHash(u128::from_be_bytes(bytes)))
}

fn one_of(wanted: &[PersonHash], own: Option<PersonHash>) -> bool {
    wanted.is_empty() || own.is_some_and(|own| wanted.contains(&own))
}
