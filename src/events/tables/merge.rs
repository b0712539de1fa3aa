//! Merging files of cells: rows of the same cube, key and bucket become one.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Page, Table, TableError, TableWriter};
use crate::events::cells::{Counts, Cube};
use crate::events::people::People;

/// Walks through a table's rows in order.
struct Walk {
    table: Arc<Table>,
    /// For each cube of the table, its number in the merged file.
    cubes: Vec<usize>,
    /// Pages in the order of the merged file's cubes.
    order: Vec<usize>,
    next: usize,
    page: Option<Loaded>,
}

struct Loaded {
    cube: usize,
    page: Arc<Page>,
    people: Vec<Vec<u8>>,
    /// Each row's key, as a run of the page.
    runs: Vec<(Vec<u8>, std::ops::Range<usize>)>,
    run: usize,
    row: usize,
}

/// The head of a walk, in a heap that gives the smallest first.
struct Head {
    cube: usize,
    key: Vec<u8>,
    bucket: i64,
    walk: usize,
}

impl Head {
    fn rank(&self) -> (usize, &[u8], i64, usize) {
        (self.cube, &self.key, self.bucket, self.walk)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.rank() == other.rank()
    }
}
impl Eq for Head {}
impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        other.rank().cmp(&self.rank())
    }
}

/// The row that is being added up.
#[derive(Default)]
struct Sum {
    at: Option<(usize, Vec<u8>, i64)>,
    counts: Counts,
    people: People,
}

/// Merges tables into one that covers the cubes that all of them cover; buckets are mapped by `bucket` (a coarser grain must
/// keep their order). `None` when they have no cube in common.
///
/// # Errors
/// [`TableError`] when one of them is damaged.
pub(crate) fn merge(tables: &[Arc<Table>], bucket: &dyn Fn(i64) -> i64) -> Result<Option<Bytes>, TableError> {
    let Some((first, rest)) = tables.split_first() else {
        return Ok(None);
    };
    let shared = first.cubes().iter();
    let shared = shared.filter(|cube| rest.iter().all(|table| table.cubes().contains(cube)));
    let cubes: Vec<Cube> = shared.cloned().collect();
    if cubes.is_empty() {
        return Ok(None);
    }
    let mut writer = TableWriter::new(cubes.clone());
    let mut walks: Vec<Walk> = tables.iter().map(|table| Walk::new(table, &cubes)).collect();
    let mut heads = BinaryHeap::new();
    for number in 0..walks.len() {
        heads.extend(walks[number].head(number)?);
    }
    let mut sum = Sum::default();
    while let Some(head) = heads.pop() {
        let walk = &mut walks[head.walk];
        let at = (head.cube, head.key, bucket(head.bucket));
        if sum.at.as_ref() != Some(&at) {
            sum.write(&mut writer);
            sum.at = Some(at);
        }
        walk.add_to(&mut sum)?;
        heads.extend(walks[head.walk].head(head.walk)?);
    }
    sum.write(&mut writer);
    Ok(Some(writer.finish()))
}

impl Sum {
    fn write(&mut self, writer: &mut TableWriter) {
        let sum = std::mem::take(self);
        let Some((cube, key, bucket)) = sum.at else { return };
        let (mut people, mut bytes) = (sum.people, Vec::new());
        people.encode(&mut bytes);
        if !sum.counts.is_zero() || !bytes.is_empty() {
            writer.push(cube, &key, bucket, &sum.counts, &bytes);
        }
    }
}

impl Walk {
    fn new(table: &Arc<Table>, cubes: &[Cube]) -> Walk {
        let place = |cube: &Cube| cubes.iter().position(|merged| merged == cube);
        let places: Vec<usize> = table
            .cubes()
            .iter()
            .map(|cube| place(cube).unwrap_or(usize::MAX))
            .collect();
        let mut order: Vec<usize> = (0..table.page_count()).collect();
        order.retain(|page| places[table.page_cube(*page)] != usize::MAX);
        order.sort_by_key(|page| places[table.page_cube(*page)]);
        Walk {
            table: Arc::clone(table),
            cubes: places,
            order,
            next: 0,
            page: None,
        }
    }

    /// Returns what stands at the front.
    fn head(&mut self, walk: usize) -> Result<Option<Head>, TableError> {
        if self.page.as_ref().is_none_or(|page| page.run >= page.runs.len()) {
            let Some(&number) = self.order.get(self.next) else {
                self.page = None;
                return Ok(None);
            };
            self.next += 1;
            self.page = Some(self.load(number)?);
        }
        Ok(self.page.as_ref().map(|page| Head {
            cube: page.cube,
            key: page.runs[page.run].0.clone(),
            bucket: page.page.bucket(page.row),
            walk,
        }))
    }

    fn load(&self, number: usize) -> Result<Loaded, TableError> {
        let page = self.table.page(number)?;
        Ok(Loaded {
            cube: self.cubes[self.table.page_cube(number)],
            people: self.table.people_of(number)?,
            runs: page.runs().map(|(key, rows)| (key.to_vec(), rows)).collect(),
            page,
            run: 0,
            row: 0,
        })
    }

    /// Adds the front row to `sum` and steps on.
    fn add_to(&mut self, sum: &mut Sum) -> Result<(), TableError> {
        let Some(page) = &mut self.page else { return Ok(()) };
        sum.counts.add(&page.page.counts(page.row));
        let people = &page.people[page.row];
        sum.people.merge(people).map_err(|error| TableError {
            file: self.table.name().to_owned(),
            offset: 0,
            reason: error.to_string(),
        })?;
        page.row += 1;
        if page.row >= page.runs[page.run].1.end {
            page.run += 1;
        }
        Ok(())
    }
}
