//! What the store of sealed chunks promises, on a simulated disk.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::store::{Chain, ChunkOptions, ChunkStore, verify_chunk_files};
use crate::io::disk::{Disk, SimDisk};
use crate::storage::StorageError;

const DIR: &str = "/chunks";
const PAGE: usize = 512;
const HOUR: i64 = 3_600_000;

fn store(disk: &SimDisk) -> ChunkStore {
    let options = ChunkOptions {
        page_bytes: PAGE,
        memory_bytes: 2 * PAGE,
        reserve_bytes: Some(0),
    };
    ChunkStore::new(Arc::new(disk.clone()), PathBuf::from(DIR), options)
}

fn samples(series: usize, n: i64) -> (Vec<i64>, Vec<f64>) {
    let times: Vec<i64> = (0..20).map(|i| n * HOUR + i * 15_000 + i % 2).collect();
    let values = times.iter().map(|at| (at % 1009) as f64 * 0.5 + series as f64);
    (times.clone(), values.collect())
}

/// Three series with `count` chunks each.
fn fill(store: &ChunkStore, chains: &mut [Chain; 3], numbers: std::ops::Range<i64>) {
    for n in numbers {
        for (series, chain) in chains.iter_mut().enumerate() {
            let (times, values) = samples(series, n);
            *chain = store.push(*chain, &times, &values);
        }
    }
}

fn check(store: &ChunkStore, chains: &[Chain; 3], numbers: std::ops::Range<i64>) {
    for (series, chain) in chains.iter().enumerate() {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        let range = (numbers.start * HOUR, numbers.end * HOUR - 1);
        store.read(*chain, range, &mut times, &mut values).unwrap();
        let (all_times, all_values): (Vec<_>, Vec<_>) = numbers.clone().map(|n| samples(series, n)).unzip();
        assert_eq!(
            (times, values),
            (all_times.concat(), all_values.concat()),
            "series {series}"
        );
    }
}

fn file_names(disk: &SimDisk) -> Vec<String> {
    let entries = disk.list(Path::new(DIR)).unwrap_or_default();
    entries.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn chunks_read_back_from_the_open_page_from_memory_and_from_files() {
    let disk = SimDisk::seeded(1);
    let (store, mut chains) = (store(&disk), [Chain::default(); 3]);
    fill(&store, &mut chains, 0..40);
    assert!(store.memory_bytes() <= 2 * PAGE as u64 && !file_names(&disk).is_empty());
    check(&store, &chains, 0..40);
    check(&store, &chains, 7..9);
    check(&store, &chains, 39..40);
    assert_eq!(store.split(chains[0], 30 * HOUR).unwrap(), (30, Some(30 * HOUR)));
    assert_eq!(store.split(chains[0], 99 * HOUR).unwrap(), (40, None));
    let (sound, problems) = verify_chunk_files(&disk, Path::new(DIR)).unwrap();
    assert!(sound > 60 && problems.is_empty(), "{sound}, {problems:?}");
}

#[test]
fn what_is_forgotten_leaves_memory_and_disk() {
    let disk = SimDisk::seeded(1);
    let (store, mut chains) = (store(&disk), [Chain::default(); 3]);
    fill(&store, &mut chains, 0..200);
    let (mark, files) = (store.mark(), file_names(&disk).len());
    assert!(files > 1);
    for chain in &mut chains {
        (chain.count, chain.oldest) = (10, 190 * HOUR);
    }
    store.forget(190 * HOUR, mark);
    assert!(file_names(&disk).len() < files);
    fill(&store, &mut chains, 200..220);
    check(&store, &chains, 190..220);
    let (mut times, mut values) = (Vec::new(), Vec::new());
    store
        .read(chains[0], (i64::MIN, i64::MAX), &mut times, &mut values)
        .unwrap();
    assert_eq!(times[0], 190 * HOUR, "forgotten chunks stay forgotten");
}

#[test]
fn a_full_disk_keeps_chunks_in_memory_until_there_is_room() {
    let disk = SimDisk::seeded(1);
    let (store, mut chains) = (store(&disk), [Chain::default(); 3]);
    disk.set_total(0);
    fill(&store, &mut chains, 0..40);
    assert!(store.memory_bytes() > 2 * PAGE as u64);
    check(&store, &chains, 0..40);
    disk.set_total(1 << 30);
    fill(&store, &mut chains, 40..60);
    assert!(store.memory_bytes() <= 2 * PAGE as u64);
    check(&store, &chains, 0..60);
}

#[test]
fn a_disk_that_fails_at_any_operation_costs_no_chunk() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for fail_at in 0.. {
            let disk = SimDisk::seeded(1).fail_at(fail_at, kind);
            let (store, mut chains) = (store(&disk), [Chain::default(); 3]);
            fill(&store, &mut chains, 0..40);
            check(&store, &chains, 0..40);
            if disk.operations() <= fail_at {
                break;
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_that_names_file_and_bytes() {
    let disk = SimDisk::seeded(1);
    let (store, mut chains) = (store(&disk), [Chain::default(); 3]);
    fill(&store, &mut chains, 0..40);
    let name = file_names(&disk).remove(0);
    let path = Path::new(DIR).join(&name);
    disk.flip_bit(&path, 64 + PAGE as u64 + 200, 3).unwrap();
    let mut failed = 0;
    for chain in chains {
        let read = store.read(chain, (0, i64::MAX), &mut Vec::new(), &mut Vec::new());
        let Err(error) = read else { continue };
        assert!(
            matches!(&error, StorageError::Corrupt { file, offset, .. } if file.ends_with(&name) && *offset > 64),
            "{error}"
        );
        failed += 1;
        // What is newer than the damage is still there.
        store
            .read(chain, (30 * HOUR, i64::MAX), &mut Vec::new(), &mut Vec::new())
            .unwrap();
    }
    assert!(failed > 0);
    assert_eq!(verify_chunk_files(&disk, Path::new(DIR)).unwrap().1.len(), 1);
}

#[test]
fn a_saved_store_is_there_after_a_restart_and_old_files_go() {
    let disk = SimDisk::seeded(1);
    let (first, mut chains) = (store(&disk), [Chain::default(); 3]);
    first.clean();
    fill(&first, &mut chains, 0..50);
    let pages = first.save().unwrap();
    let disk = disk.after_crash();
    let second = store(&disk);
    second.load_pages(&pages).unwrap();
    second.clean();
    check(&second, &chains, 0..50);
    fill(&second, &mut chains, 50..60);
    check(&second, &chains, 0..60);
    let third = store(&disk);
    third.clean();
    assert_eq!(file_names(&disk), Vec::<String>::new(), "what nobody knows is removed");
    assert!(third.load_pages(&pages).is_err(), "a file that is gone is no page");
}
