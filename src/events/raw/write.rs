//! Events into the bytes of one file.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type};
use parquet::errors::Result;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::ColumnPath;

use super::super::{Event, Field};
use super::blocks;
use super::schema::{Column, columns, schema};

/// Events of one row group: what a reader decodes at once.
const GROUP_ROWS: usize = 128 << 10;
/// The key of the checksums among the footer's properties.
pub(super) const CHECKSUMS: &str = "campanile.crc32c.64k";

/// Returns a file's bytes and the checksum of its footer. The same events give the same bytes.
pub(super) fn encode(events: &[Event]) -> Result<(Vec<u8>, u32)> {
    let mut order: Vec<&Event> = events.iter().collect();
    // Equal texts side by side take little room, and a question about one ad reads few pages.
    order.sort_by_cached_key(|event| {
        let text = |field| event.text(field).to_owned();
        (event.kind, text(Field::AdId), text(Field::Site), event.at, event.id)
    });
    let mut writer = SerializedFileWriter::new(Vec::new(), schema(), Arc::new(properties(events.len())))?;
    for group in order.chunks(GROUP_ROWS) {
        let mut rows = writer.next_row_group()?;
        for column in columns() {
            let mut out = rows.next_column()?.expect("the schema has all columns");
            write_column(&mut out, column, group)?;
            out.close()?;
        }
        rows.close()?;
    }
    writer.flush()?;
    let body = writer.inner().len();
    let sums = blocks::checksums(writer.inner());
    writer.append_key_value_metadata(KeyValue::new(CHECKSUMS.to_owned(), sums));
    let bytes = writer.into_inner()?;
    let crc = crc32c::crc32c(&bytes[body..]);
    Ok((bytes, crc))
}

fn properties(rows: usize) -> WriterProperties {
    let path = |column: Column| ColumnPath::from(column.name());
    let mut builder = WriterProperties::builder()
        .set_created_by("campanile".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).expect("3 is a level")))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_dictionary_page_size_limit(2 << 20);
    for times in [Column::At, Column::Stamped, Column::Received] {
        builder = builder
            .set_column_dictionary_enabled(path(times), false)
            .set_column_encoding(path(times), Encoding::DELTA_BINARY_PACKED);
    }
    let id = Column::Text(Field::EventId);
    builder = builder
        .set_column_dictionary_enabled(path(id), false)
        .set_column_statistics_enabled(path(id), EnabledStatistics::None);
    for hash in [Column::User, Column::Ip] {
        builder = builder
            .set_column_statistics_enabled(path(hash), EnabledStatistics::None)
            .set_column_bloom_filter_enabled(path(hash), true)
            .set_column_bloom_filter_fpp(path(hash), 0.01)
            .set_column_bloom_filter_max_ndv(path(hash), rows.clamp(1, GROUP_ROWS) as u64);
    }
    builder.build()
}

fn write_column(out: &mut SerializedColumnWriter<'_>, column: Column, events: &[&Event]) -> Result<()> {
    match column {
        Column::Kind => texts(out, column, events, |event| event.kind.name()),
        Column::Text(field) => texts(out, column, events, |event| event.text(field)),
        Column::At => longs(out, column, events, |event| Some(event.at.0)),
        Column::Stamped => longs(out, column, events, |event| {
            (event.stamped != event.at).then_some(event.stamped.0)
        }),
        Column::Received => longs(out, column, events, |event| Some(event.received.0)),
        Column::Price => longs(out, column, events, |event| Some(event.price.0)),
        Column::Revenue => longs(out, column, events, |event| Some(event.revenue.0)),
        Column::Visitor => longs(out, column, events, |event| {
            event.visitor.map(|visitor| visitor.0.cast_signed())
        }),
        Column::Reasons => ints(out, events, |event| event.reasons.0.cast_signed()),
        Column::Rules => ints(out, events, |event| event.rules.cast_signed()),
        Column::User => hashes(out, events, |event| event.user.map(|user| user.0)),
        Column::Ip => hashes(out, events, |event| event.ip.map(|ip| ip.0)),
    }
}

fn texts<'e>(
    out: &mut SerializedColumnWriter<'_>,
    column: Column,
    events: &[&'e Event],
    text: impl Fn(&'e Event) -> &'e str,
) -> Result<()> {
    let all: Bytes = events.iter().map(|event| text(event)).collect::<String>().into();
    let mut values = Vec::with_capacity(events.len());
    let mut levels = Vec::with_capacity(events.len());
    let mut at = 0;
    for event in events {
        let len = text(event).len();
        let is_there = len > 0 || !column.is_optional();
        levels.push(i16::from(is_there));
        if is_there {
            values.push(ByteArray::from(all.slice(at..at + len)));
        }
        at += len;
    }
    let levels = column.is_optional().then_some(levels.as_slice());
    out.typed::<ByteArrayType>().write_batch(&values, levels, None)?;
    Ok(())
}

fn longs(
    out: &mut SerializedColumnWriter<'_>,
    column: Column,
    events: &[&Event],
    number: impl Fn(&Event) -> Option<i64>,
) -> Result<()> {
    let levels: Vec<i16> = events.iter().map(|event| i16::from(number(event).is_some())).collect();
    let values: Vec<i64> = events.iter().filter_map(|event| number(event)).collect();
    let levels = column.is_optional().then_some(levels.as_slice());
    out.typed::<Int64Type>().write_batch(&values, levels, None)?;
    Ok(())
}

fn ints(out: &mut SerializedColumnWriter<'_>, events: &[&Event], number: impl Fn(&Event) -> i32) -> Result<()> {
    let values: Vec<i32> = events.iter().map(|event| number(event)).collect();
    out.typed::<Int32Type>().write_batch(&values, None, None)?;
    Ok(())
}

fn hashes(
    out: &mut SerializedColumnWriter<'_>,
    events: &[&Event],
    hash: impl Fn(&Event) -> Option<u128>,
) -> Result<()> {
    let levels: Vec<i16> = events.iter().map(|event| i16::from(hash(event).is_some())).collect();
    let bytes = |hash: u128| FixedLenByteArray::from(hash.to_be_bytes().to_vec());
    let values: Vec<FixedLenByteArray> = events.iter().filter_map(|event| hash(event)).map(bytes).collect();
    out.typed::<FixedLenByteArrayType>()
        .write_batch(&values, Some(&levels), None)?;
    Ok(())
}
