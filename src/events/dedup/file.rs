//! A file of ids: sorted, behind a binary fuse filter.
//!
//! ```text
//! magic "CAMPIDS1" | hour i64 | count u64 | filter seed u64, segment length u32, mask u32, count length u32
//!                  | fingerprints u32 | crc32c u32 of all before and the fingerprints | fingerprint u16 * | zeroes to 16
//!                  | crc32c of each block of 256 ids u32 * | zeroes to 16 | id u128 * (sorted)            little-endian
//! ```
//! The filter (2.25 bytes an id) says "not there" for all but 1 in 65,536 new ids; then the sorted ids decide, so that the
//! answer is exact. The top six bits of an id are its shard: each shard is one stretch of the file.

use bytes::Bytes;
use xorf::{BinaryFuse16, Filter};

use crate::model::wire::{Cursor, DecodeError};

const MAGIC: &[u8; 8] = b"CAMPIDS1";
const HEAD_BYTES: usize = 52;
/// Ids under one checksum.
const BLOCK: usize = 256;
const ID_BYTES: usize = 16;

/// Why a file of ids cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ids in {file}: {reason}")]
pub(crate) struct IdFileError {
    pub(crate) file: String,
    pub(crate) reason: String,
}

/// An open file of ids.
pub(crate) struct IdFile {
    name: String,
    count: usize,
    filter: BinaryFuse16,
    checksums_at: usize,
    ids_at: usize,
    bytes: Bytes,
}

/// What the filter knows of an id.
fn fingerprinted(id: u128) -> u64 {
    id as u64 ^ (id >> 64) as u64
}

/// Returns the file of an hour's ids.
pub(crate) fn encode(hour: i64, ids: impl IntoIterator<Item = u128>) -> Bytes {
    let mut ids: Vec<u128> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    let mut keys: Vec<u64> = ids.iter().map(|id| fingerprinted(*id)).collect();
    keys.sort_unstable();
    keys.dedup();
    let filter = BinaryFuse16::try_from(&keys).expect("distinct keys always make a filter");
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&hour.to_le_bytes());
    out.extend_from_slice(&(ids.len() as u64).to_le_bytes());
    let shape = &filter.descriptor;
    out.extend_from_slice(&shape.seed.to_le_bytes());
    let length = u32::try_from(filter.fingerprints.len()).expect("a file holds fewer than four billion ids");
    let (mask, counted) = (shape.segment_length_mask, shape.segment_count_length);
    for number in [shape.segment_length, mask, counted, length] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let fingerprints: Vec<u8> = filter
        .fingerprints
        .iter()
        .flat_map(|print| print.to_le_bytes())
        .collect();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), &fingerprints);
    out.extend_from_slice(&crc.to_le_bytes());
    debug_assert_eq!(out.len(), HEAD_BYTES);
    out.extend_from_slice(&fingerprints);
    pad(&mut out);
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    for block in bytes.chunks(BLOCK * ID_BYTES) {
        out.extend_from_slice(&crc32c::crc32c(block).to_le_bytes());
    }
    pad(&mut out);
    out.extend_from_slice(&bytes);
    out.into()
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(16), 0);
}

impl IdFile {
    /// Opens a file; the blocks of ids are checked when they are asked.
    ///
    /// # Errors
    /// [`IdFileError`].
    pub(crate) fn open(name: String, bytes: Bytes) -> Result<IdFile, IdFileError> {
        parse(&name, &bytes).map_err(|error| IdFileError {
            file: name,
            reason: error.to_string(),
        })
    }

    /// Returns the object's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether an id is there.
    ///
    /// # Errors
    /// [`IdFileError`] when the block that would hold it is damaged.
    pub(crate) fn contains(&self, id: u128) -> Result<bool, IdFileError> {
        if !self.filter.contains(&fingerprinted(id)) {
            return Ok(false);
        }
        // The first block whose last id is not smaller.
        let blocks = self.count.div_ceil(BLOCK);
        let (mut low, mut high) = (0, blocks);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.id(((middle + 1) * BLOCK).min(self.count) - 1) < id {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low == blocks {
            return self.check_block(blocks - 1).map(|()| false);
        }
        self.check_block(low)?;
        let range = low * BLOCK..((low + 1) * BLOCK).min(self.count);
        Ok(range.into_iter().any(|at| self.id(at) == id))
    }

    fn id(&self, at: usize) -> u128 {
        let start = self.ids_at + at * ID_BYTES;
        let mut bytes = [0; ID_BYTES];
        bytes.copy_from_slice(&self.bytes[start..start + ID_BYTES]);
        u128::from_le_bytes(bytes)
    }

    fn check_block(&self, block: usize) -> Result<(), IdFileError> {
        let start = self.ids_at + block * BLOCK * ID_BYTES;
        let end = (start + BLOCK * ID_BYTES).min(self.bytes.len());
        let at = self.checksums_at + block * 4;
        let mut crc = [0; 4];
        crc.copy_from_slice(&self.bytes[at..at + 4]);
        if crc32c::crc32c(&self.bytes[start..end]) == u32::from_le_bytes(crc) {
            return Ok(());
        }
        Err(IdFileError {
            file: self.name.clone(),
            reason: format!("bytes {start}..{end} fail their checksum"),
        })
    }

    /// Returns all ids, sorted.
    ///
    /// # Errors
    /// [`IdFileError`] when a block is damaged.
    pub(crate) fn ids(&self) -> Result<impl Iterator<Item = u128>, IdFileError> {
        (0..self.count.div_ceil(BLOCK)).try_for_each(|block| self.check_block(block))?;
        Ok((0..self.count).map(|at| self.id(at)))
    }
}

fn parse(name: &str, bytes: &Bytes) -> Result<IdFile, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(8)? != MAGIC {
        return Err(DecodeError::Malformed("magic: no file of ids"));
    }
    let _hour = cursor.u64()?;
    let count = usize::try_from(cursor.u64()?).map_err(|_| DecodeError::Malformed("count"))?;
    // The crate keeps the type of a filter's shape to itself: another filter's is filled in.
    let mut filter = BinaryFuse16::try_from(&[0u64][..]).expect("one key makes a filter");
    filter.descriptor.seed = cursor.u64()?;
    filter.descriptor.segment_length = cursor.u32()?;
    filter.descriptor.segment_length_mask = cursor.u32()?;
    filter.descriptor.segment_count_length = cursor.u32()?;
    let length = cursor.u32()? as usize;
    let crc = cursor.u32()?;
    let fingerprints = cursor.take(length.saturating_mul(2))?;
    if crc32c::crc32c_append(crc32c::crc32c(&bytes[..HEAD_BYTES - 4]), fingerprints) != crc {
        return Err(DecodeError::Malformed("checksum of head and filter"));
    }
    let checksums_at = (HEAD_BYTES + length * 2).next_multiple_of(16);
    let ids_at = (checksums_at + count.div_ceil(BLOCK) * 4).next_multiple_of(16);
    if count.checked_mul(ID_BYTES).and_then(|ids| ids.checked_add(ids_at)) != Some(bytes.len()) {
        return Err(DecodeError::Malformed("length of file"));
    }
    let (pairs, _) = fingerprints.as_chunks::<2>();
    filter.fingerprints = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    Ok(IdFile {
        name: name.to_owned(),
        count,
        filter,
        checksums_at,
        ids_at,
        bytes: bytes.clone(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::events::{EventId, testing};

    fn ids(range: std::ops::Range<u32>) -> Vec<u128> {
        range.map(|n| EventId::of(&n.to_string()).0).collect()
    }

    fn open(bytes: Bytes) -> Result<IdFile, IdFileError> {
        IdFile::open("test".to_owned(), bytes)
    }

    #[test]
    fn exactly_the_ids_that_were_written_are_there() {
        let file = open(encode(7, ids(0..5000))).unwrap();
        assert_eq!((file.count, file.name()), (5000, "test"));
        assert!(ids(0..5000).into_iter().all(|id| file.contains(id).unwrap()));
        assert!(ids(5000..200_000).into_iter().all(|id| !file.contains(id).unwrap()));
        assert_eq!(file.ids().unwrap().count(), 5000);
    }

    #[test]
    fn a_file_of_the_first_version_can_be_read() {
        // Not compared: the crate fills what a filter does not use with chance.
        let file = open(testing::golden_bytes("ids.hex").into()).unwrap();
        assert_eq!(file.ids().unwrap().count(), 3);
        assert!(ids(0..3).into_iter().all(|id| file.contains(id).unwrap()));
        let again = open(encode(7, ids(0..3))).unwrap();
        assert!((again.ids_at, again.checksums_at) == (file.ids_at, file.checksums_at));
    }

    #[test]
    fn a_flipped_bit_never_makes_a_known_id_new() {
        let known = ids(0..3);
        let bytes = encode(7, known.clone());
        for length in 0..bytes.len() {
            assert!(open(bytes.slice(..length)).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Ok(file) = open(flipped.into()) else { continue };
            for id in &known {
                assert_ne!(file.contains(*id), Ok(false), "bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_ids_come_back(ids in proptest::collection::hash_set(any::<u128>(), 0..600)) {
            let file = open(encode(0, ids.iter().copied())).unwrap();
            let mut sorted: Vec<u128> = ids.iter().copied().collect();
            sorted.sort_unstable();
            prop_assert_eq!(file.ids().unwrap().collect::<Vec<_>>(), sorted);
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = open(bytes.into());
        }
    }
}
