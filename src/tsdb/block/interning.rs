//! What a block under construction stores once: strings of labels, and vectors of times.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use super::ints;
use super::presence::Presence;
use super::times::TimeColumn;
use super::wire::Cursor;
use crate::model::Labels;

/// Strings in the order of their first use.
#[derive(Default)]
pub(super) struct SymbolSet {
    ids: HashMap<Arc<str>, u32>,
    strings: Vec<Arc<str>>,
}

impl SymbolSet {
    pub(super) fn intern(&mut self, string: &str) -> u32 {
        if let Some(id) = self.ids.get(string) {
            return *id;
        }
        let id = self.strings.len() as u32;
        let string: Arc<str> = string.into();
        self.ids.insert(string.clone(), id);
        self.strings.push(string);
        id
    }

    /// Returns the strings sorted, and for each id its place among them.
    pub(super) fn sorted(&self) -> (Vec<&str>, Vec<u32>) {
        let mut order: Vec<u32> = (0..self.strings.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.strings[*a as usize].cmp(&self.strings[*b as usize]));
        let mut ranks = vec![0; order.len()];
        for (rank, id) in order.iter().enumerate() {
            ranks[*id as usize] = rank as u32;
        }
        (order.iter().map(|id| &*self.strings[*id as usize]).collect(), ranks)
    }
}

/// The distinct vectors of times, and for each source the longest.
#[derive(Default)]
pub(super) struct TimeColumns {
    pub(super) columns: Vec<TimeColumn>,
    pub(super) by_hash: HashMap<u128, u32>,
    /// The column that series of a source are compared with when they missed a scrape; encoded, since there is one for
    /// each of thousands of targets.
    pub(super) bases: HashMap<u64, Base>,
    /// The longest column of all, for data that is aligned across sources.
    pub(super) longest: Option<u64>,
}

pub(super) struct Base {
    pub(super) column: u32,
    pub(super) bytes: Vec<u8>,
}

/// Names whom a series was scraped from: its target, or, for what was pushed, all its labels but the metric's name.
pub(super) fn source(labels: &Labels, seed: u64) -> u64 {
    let target = labels.filtered(|name| name == "job" || name == "instance");
    let target = if target.is_empty() {
        labels.without_metric_name()
    } else {
        target
    };
    target.hash128(seed) as u64
}

impl TimeColumns {
    pub(super) fn offer_base(&mut self, source: u64, base: Base) {
        let count = |column: u32| self.columns[column as usize].count;
        let new = count(base.column);
        let longest = self
            .longest
            .and_then(|key| self.bases.get(&key))
            .map_or(0, |base| count(base.column));
        match self.bases.entry(source) {
            Slot::Vacant(slot) => {
                slot.insert(base);
            }
            Slot::Occupied(mut slot) if count(slot.get().column) <= new => {
                slot.insert(base);
            }
            Slot::Occupied(_) => return,
        }
        if new > longest {
            self.longest = Some(source);
        }
    }
}

impl Base {
    /// Returns which of the base's times are `times`, when all of them are.
    pub(super) fn presence(&self, columns: &[TimeColumn], times: &[i64]) -> Option<Presence> {
        let column = &columns[self.column as usize];
        let inside = column.first.0 <= times[0] && times[times.len() - 1] <= column.last.0;
        if !inside || times.len() > column.count as usize {
            return None;
        }
        let (mut base, n) = (Vec::new(), column.count as usize);
        ints::decode_all(&mut Cursor::new(&self.bytes), n, &mut base).expect("the column was encoded here");
        let mut presence = Presence::default();
        let mut slots = (0u32..).zip(base);
        for at in times {
            let (slot, found) = slots.find(|(_, slot)| slot >= at)?;
            if found != *at {
                return None;
            }
            presence.push(slot);
        }
        Some(presence)
    }
}
