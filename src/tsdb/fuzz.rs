//! What the fuzz targets in `fuzz/` call besides blocks: each takes any bytes and must neither panic nor run away.
//!
//! `cargo test` replays their corpus, so that whatever was found once stays found.

use super::{chunk, record, snapshot};
use crate::io::log;

/// Takes any bytes and must neither panic nor hang.
type Target = fn(&[u8]);

/// All targets, under the names of their folders in `fuzz/corpus`.
pub static TARGETS: &[(&str, Target)] = &[
    ("head_chunks", chunk::decode_any),
    ("head_snapshot", snapshot::decode_snapshot),
    ("log_record", record::decode_any),
    ("log_segment", log::decode_any),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::io::disk::{Disk, OsDisk};
    use crate::io::files;

    #[test]
    fn the_corpus_of_every_target_is_replayed() {
        for (target, run) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
            let entries = OsDisk.list(&folder).unwrap();
            assert!(!entries.is_empty(), "{target} has no corpus");
            for entry in entries {
                run(&files::read(&OsDisk, &folder.join(&entry.name)).unwrap());
            }
        }
    }
}
