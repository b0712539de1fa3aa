//! Files of cells: immutable, sorted, in pages that are checked and decoded one by one.
//!
//! ```text
//! magic "CAMPCELL" | version u32 = 1
//! ( page: zstd of numbers | zstd of people, or nothing )*
//! index: zstd of
//!     cubes varint, ( domain u8 | people u8 | fields varint, field u8 * )*
//!     pages varint, ( cube varint | rows varint | first key | bucket min, max − min signed | offset varint
//!                   | numbers len varint, crc32c u32 | people len varint, crc32c u32 )*
//! index offset u64 | index len u32 | crc32c u32 of all before it in this line and the index | magic
//!
//! numbers = runs varint, ( bytes shared with the key before varint | rest of key | rows varint )*
//!         | bucket − the one before signed, a row | for each metric: 0, or 1 and a signed a row
//! people  = for each row: len varint | bytes ([`super::people`])                                    little-endian
//! ```
//! Rows are sorted by cube, key, bucket; a row is a delta, and files of the same period are added up. A bucket is a count of
//! minutes since the epoch, the first of its hour or day in files of coarser grain. A page has up to 2,048 rows, about 10 to
//! 20 KB packed and 0.1 ms to decode: what a question about one ad costs.

mod cache;
mod merge;
mod reader;
mod writer;

pub(crate) use cache::PageCache;
pub(crate) use merge::merge;
pub(crate) use reader::{Page, Table, TableError};
pub(crate) use writer::TableWriter;

const MAGIC: &[u8; 8] = b"CAMPCELL";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 12;
const FOOT_BYTES: usize = 24;
/// Rows of a page.
const PAGE_ROWS: usize = 2048;
/// How hard zstd tries: 1 is the cheapest, and the numbers are small already.
const ZSTD_LEVEL: i32 = 1;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::events::cells::{CellMetric, Counts, Cube, key_of};
    use crate::events::people::People;
    use crate::events::{Domain, Field, testing};

    type Rows = BTreeMap<(usize, Vec<u8>, i64), (i64, Vec<u64>)>;

    fn cubes() -> Vec<Cube> {
        let ad = Cube::of(Domain::Ads, &[Field::AdId]);
        let country = Cube::of(Domain::Ads, &[Field::AdId, Field::Country]);
        vec![Cube::totals()[0].clone(), ad, country]
    }

    fn counts(clicks: i64) -> Counts {
        let mut counts = Counts::default();
        counts.add_to(CellMetric::NetClicks, clicks);
        counts
    }

    fn write(rows: &Rows) -> Bytes {
        let mut writer = TableWriter::new(cubes());
        for ((cube, key, bucket), (clicks, people)) in rows {
            let (mut set, mut bytes) = (People::default(), Vec::new());
            set.extend(people);
            set.encode(&mut bytes);
            writer.push(*cube, key, *bucket, &counts(*clicks), &bytes);
        }
        writer.finish()
    }

    fn open(bytes: Bytes) -> Result<Table, TableError> {
        Table::open("test".to_owned(), bytes)
    }

    fn read(table: &Table, cache: &PageCache) -> Result<Rows, TableError> {
        let mut rows = Rows::new();
        for (index, cube) in cubes().iter().enumerate() {
            table.visit(cache, cube, &[], i64::MIN, i64::MAX, &mut |key, page, range| {
                for row in range {
                    let clicks = page.number(CellMetric::NetClicks, row);
                    rows.insert((index, key.to_vec(), page.bucket(row)), (clicks, Vec::new()));
                }
            })?;
        }
        Ok(rows)
    }

    fn rows(ads: usize, buckets: i64) -> Rows {
        let mut rows = Rows::new();
        for ad in 0..ads {
            for bucket in 0..buckets {
                let key = key_of([format!("ad-{ad:05}").as_str()]);
                rows.insert((1, key, 1000 + bucket), (ad as i64 * bucket, vec![]));
            }
        }
        rows.insert((0, vec![], 1000), (7, vec![1, 2, 3]));
        rows
    }

    #[test]
    fn all_rows_come_back_and_a_question_about_one_key_reads_one_page() {
        let rows = rows(500, 20);
        let table = open(write(&rows)).unwrap();
        let cache = PageCache::new(1 << 20);
        assert_eq!(read(&table, &cache).unwrap().len(), rows.len());
        let cache = PageCache::new(1 << 20);
        let mut found = Vec::new();
        let prefix = key_of(["ad-00333"]);
        let visit = &mut |_: &[u8], page: &Page, range: std::ops::Range<usize>| {
            found.extend(range.map(|row| (page.bucket(row), page.number(CellMetric::NetClicks, row))));
        };
        table.visit(&cache, &cubes()[1], &prefix, 1005, 1007, visit).unwrap();
        assert_eq!(found, [(1005, 333 * 5), (1006, 333 * 6)]);
        assert!(cache.pages() <= 2, "{} pages", cache.pages());
    }

    #[test]
    fn the_bytes_are_those_of_the_first_version() {
        testing::golden("cells.hex", &write(&rows(3, 2)));
    }

    #[test]
    fn every_prefix_and_every_flipped_bit_is_an_error_or_the_same() {
        let rows = rows(3, 2);
        let bytes = write(&rows);
        let expected = read(&open(bytes.clone()).unwrap(), &PageCache::new(1 << 20)).unwrap();
        for length in 0..bytes.len() {
            assert!(open(bytes.slice(..length)).is_err(), "{length} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = open(flipped.into()).and_then(|table| read(&table, &PageCache::new(1 << 20)));
            assert!(read.is_err() || read.unwrap() == expected, "bit {bit}");
        }
    }

    #[test]
    fn a_merge_adds_numbers_unites_people_and_drops_what_adds_up_to_nothing() {
        let mut other = Rows::new();
        other.insert((0, vec![], 1000), (3, vec![3, 4]));
        other.insert((1, key_of(["ad-00001"]), 1001), (-1, vec![]));
        other.insert((1, key_of(["zz"]), 5), (1, vec![]));
        let tables: Vec<Arc<Table>> = [rows(3, 2), other]
            .iter()
            .map(|rows| Arc::new(open(write(rows)).unwrap()))
            .collect();
        let merged = open(merge(&tables, &|bucket| bucket).unwrap().unwrap()).unwrap();
        let found = read(&merged, &PageCache::new(1 << 20)).unwrap();
        assert_eq!(found[&(0, vec![], 1000)].0, 10);
        assert_eq!(found[&(1, key_of(["zz"]), 5)].0, 1);
        assert!(!found.contains_key(&(1, key_of(["ad-00001"]), 1001)), "1 − 1");
        let mut people = People::default();
        merged
            .people(&cubes()[0], &[], 0, 2000, &mut |_, _, bytes| {
                people.merge(bytes).unwrap()
            })
            .unwrap();
        assert_eq!(people.count(), (4.0, true));
        let hourly = open(merge(&tables, &|bucket| bucket - bucket % 60).unwrap().unwrap()).unwrap();
        let found = read(&hourly, &PageCache::new(1 << 20)).unwrap();
        assert_eq!(found[&(1, key_of(["ad-00002"]), 960)].0, 2);
        assert!(Path::new(merged.name()).is_relative());
    }

    proptest! {
        #[test]
        fn any_rows_come_back(
            rows in proptest::collection::btree_map(
                ("[a-c]{0,3}", -3i64..100), (1i64..i64::MAX, proptest::collection::vec(any::<u64>(), 0..3)), 1..50)
        ) {
            let rows: Rows = rows.into_iter().map(|((key, bucket), row)| ((1, key_of([key.as_str()]), bucket), row)).collect();
            let table = open(write(&rows)).unwrap();
            let found = read(&table, &PageCache::new(1 << 20)).unwrap();
            let numbers = |rows: &Rows| rows.iter().map(|(key, row)| (key.clone(), row.0)).collect::<Vec<_>>();
            prop_assert_eq!(numbers(&found), numbers(&rows));
        }
    }
}
