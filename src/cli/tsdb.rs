//! `campanile tsdb`: look into the blocks of a data directory, also while a server runs on it. Nothing is changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use crate::io::disk::{Disk, OsDisk};
use crate::io::log::verify_log;
use crate::model::{METRIC_NAME, Millis, TimeRange};
use crate::query::parse_selector;
use crate::storage::{Columns, Series, StorageError};
use crate::tsdb::block::{Block, BlockCache, BlockMeta};
use crate::tsdb::{Manifest, Selector, verify_chunk_files};

/// Look into the stored blocks; nothing is changed.
#[derive(Debug, Args)]
pub(crate) struct TsdbArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Verify(Place),
    List(ListArgs),
    Dump(DumpArgs),
}

/// Read every byte of every block, of the log and of the head's files and check it: exit code 1 when something is damaged.
#[derive(Debug, Args)]
struct Place {
    /// A data directory, a directory of blocks, or one block.
    #[arg(default_value = "./campanile-data")]
    path: PathBuf,
}

/// List the blocks with their times, sizes and numbers of series and samples.
#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    place: Place,
    /// Also say what the bytes of each block are.
    #[arg(long)]
    layout: bool,
    /// Also say which metrics take the most bytes in each block: so many of them.
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    metrics: usize,
}

/// Print samples, one a line: series, value, time in milliseconds.
#[derive(Debug, Args)]
struct DumpArgs {
    #[command(flatten)]
    place: Place,
    /// Only series that match, such as `up{job="api"}`.
    #[arg(long = "match", value_name = "SELECTOR")]
    selector: Option<String>,
    /// Only samples from this time on, in milliseconds since the epoch.
    #[arg(long, value_name = "MILLIS", default_value_t = i64::MIN, hide_default_value = true, allow_hyphen_values = true)]
    min_time: i64,
    /// Only samples up to this time, in milliseconds since the epoch.
    #[arg(long, value_name = "MILLIS", default_value_t = i64::MAX, hide_default_value = true, allow_hyphen_values = true)]
    max_time: i64,
}

/// Runs the command.
pub(crate) fn run(args: TsdbArgs) -> ExitCode {
    let mut out = String::new();
    let done = match args.what {
        What::Verify(place) => verify(&OsDisk, &place.path, &mut out),
        What::List(args) => list(&OsDisk, &args, &mut out),
        What::Dump(args) => dump(&OsDisk, &args, &mut |line| println!("{line}")),
    };
    print!("{out}");
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("campanile: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Which metrics take how many bytes in a block, most first; times that series share and the index are not counted.
fn metrics(block: &Arc<Block>, limit: usize, out: &mut String) -> Result<(), StorageError> {
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for series in block.all_series() {
        let series = series?;
        let labels = series.labels();
        let (count, bytes) = found.entry(labels.value(METRIC_NAME).to_owned()).or_default();
        *count += 1;
        *bytes += u64::from(series.encoded_len());
    }
    let mut rows: Vec<(String, (u64, u64))> = found.into_iter().collect();
    rows.sort_by_key(|(name, (_, bytes))| (std::cmp::Reverse(*bytes), name.clone()));
    for (name, (count, bytes)) in rows.into_iter().take(limit) {
        out.push_str(&format!("    {bytes:>12} bytes  {count:>8} series  {name}\n"));
    }
    Ok(())
}

/// Returns the blocks at or below `path`, sorted, and the manifests' directory if there is one.
fn find_blocks(disk: &dyn Disk, path: &Path) -> Result<(Vec<PathBuf>, Option<PathBuf>), String> {
    if path.extension().is_some_and(|extension| extension == "block") {
        return Ok((vec![path.to_owned()], None));
    }
    // A data directory, the store in it, or the blocks themselves: said by what they hold.
    for dir in [path.join("tsdb/blocks"), path.join("blocks"), path.to_owned()] {
        let Ok(entries) = disk.list(&dir) else { continue };
        let of_blocks = |name: &str| name.ends_with(".block") || name.starts_with("manifest-");
        // The blocks' own directory may be empty while the store is young; any other must look like one.
        if dir == path && !entries.iter().any(|entry| of_blocks(&entry.name)) {
            continue;
        }
        let names = entries.iter().filter(|entry| entry.name.ends_with(".block"));
        return Ok((names.map(|entry| dir.join(&entry.name)).collect(), Some(dir)));
    }
    Err(format!(
        "there are no blocks in {}, nor in its tsdb/blocks",
        path.display()
    ))
}

fn open(disk: &dyn Disk, path: &Path) -> Result<Arc<Block>, String> {
    Block::open(disk, path, Arc::new(BlockCache::new())).map_err(|error| error.to_string())
}

fn verify(disk: &dyn Disk, path: &Path, out: &mut String) -> Result<bool, String> {
    let (blocks, dir) = find_blocks(disk, path)?;
    let mut problems = Vec::new();
    for path in &blocks {
        let verified = open(disk, path).and_then(|block| block.verify().map_err(|error| error.to_string()));
        problems.extend(verified.err());
    }
    if let Some(dir) = &dir {
        let (manifest, unreadable) = Manifest::newest(disk, dir).map_err(|error| error.to_string())?;
        problems.extend(unreadable);
        if let Some(manifest) = manifest {
            let missing = manifest.blocks.iter().map(|meta| dir.join(meta.id.file_name()));
            let missing = missing.filter(|path| !blocks.contains(path));
            problems.extend(missing.map(|path| format!("{}: it is live and not there", path.display())));
            let lost = manifest.lost.iter();
            problems.extend(lost.map(|lost| format!("block {} was lost earlier: {}", lost.id, lost.reason)));
        }
    }
    let mut read = format!("{} blocks", blocks.len());
    if let Some(store) = dir.as_deref().and_then(Path::parent) {
        let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let (records, damaged) = verify_log(disk, &store.join("wal")).map_err(unreadable)?;
        let (chunks, broken) = verify_chunk_files(disk, &store.join("chunks")).map_err(unreadable)?;
        problems.extend(damaged);
        problems.extend(broken);
        read.push_str(&format!(", {records} log records, {chunks} records of head chunks"));
    }
    for problem in &problems {
        out.push_str(problem);
        out.push('\n');
    }
    out.push_str(&format!("{read} read, {} problems\n", problems.len()));
    Ok(problems.is_empty())
}

fn list(disk: &dyn Disk, args: &ListArgs, out: &mut String) -> Result<bool, String> {
    let (blocks, _) = find_blocks(disk, &args.place.path)?;
    out.push_str(
        "BLOCK             LEVEL  FROM                      TO                            SERIES      SAMPLES        BYTES  B/SAMPLE  REPLACES\n",
    );
    let mut whole = true;
    for path in &blocks {
        match open(disk, path) {
            Ok(block) => {
                out.push_str(&row(block.meta()));
                if args.layout {
                    for (name, len) in block.layout() {
                        out.push_str(&format!("    {name:<16} {len:>12}\n"));
                    }
                }
                metrics(&block, args.metrics, out).map_err(|error| error.to_string())?;
            }
            Err(error) => {
                out.push_str(&format!("{error}\n"));
                whole = false;
            }
        }
    }
    Ok(whole)
}

fn row(meta: &BlockMeta) -> String {
    let replaces: Vec<String> = meta.replaces.iter().map(|id| id.0.to_string()).collect();
    format!(
        "{}  {:<5}  {:<24}  {:<24}  {:>10}  {:>11}  {:>11}  {:>8.3}  {}\n",
        meta.id,
        meta.level,
        meta.range.min.to_string(),
        meta.range.max.to_string(),
        meta.series,
        meta.samples(),
        meta.bytes,
        meta.bytes as f64 / meta.samples().max(1) as f64,
        replaces.join(",")
    )
}

fn dump(disk: &dyn Disk, args: &DumpArgs, put: &mut dyn FnMut(String)) -> Result<bool, String> {
    let matchers = match &args.selector {
        Some(text) => parse_selector(text).map_err(|error| error.to_string())?,
        None => Vec::new(),
    };
    let selector = Selector::new(&matchers);
    let range = TimeRange {
        min: Millis(args.min_time),
        max: Millis(args.max_time),
    };
    let mut columns = Columns::default();
    for path in find_blocks(disk, &args.place.path)?.0 {
        let block = open(disk, &path)?;
        for series in block.find(&selector, range).map_err(|error| error.to_string())? {
            series.columns(range, &mut columns).map_err(|error| error.to_string())?;
            let labels = series.labels();
            for (at, value) in columns.times.iter().zip(&columns.values) {
                put(format!("{labels} {value} {at}"));
            }
            for sample in &columns.histograms {
                put(format!("{labels} {:?} {}", sample.histogram, sample.at.0));
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::SimDisk;
    use crate::model::Labels;
    use crate::tsdb::{BlockSet, BlockSetConfig, Change};

    fn disk_with_a_block() -> SimDisk {
        let sim = SimDisk::seeded(1);
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let config = BlockSetConfig {
            dir: "/data/blocks".into(),
            quarantine: "/data/quarantine".into(),
            seed: 1,
        };
        let (set, _) = BlockSet::open(&disk, config, Arc::new(BlockCache::new())).unwrap();
        let mut writer = set.create(set.new_block()).unwrap();
        let columns = Columns {
            times: vec![1000, 2000, 3000],
            values: vec![1.0, 2.5, f64::NAN],
            ..Columns::default()
        };
        for job in ["api", "web"] {
            let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]);
            writer.push(&labels, &columns).unwrap();
        }
        let added = writer.finish().unwrap().into_iter().collect();
        set.commit(Change {
            added,
            ..Change::default()
        })
        .unwrap();
        sim
    }

    #[test]
    fn blocks_are_listed_verified_and_dumped() {
        let disk = disk_with_a_block();
        let mut out = String::new();
        assert_eq!(verify(&disk, Path::new("/data"), &mut out), Ok(true));
        assert_eq!(
            out,
            "1 blocks, 0 log records, 0 records of head chunks read, 0 problems\n"
        );
        out.clear();
        let args = ListArgs {
            place: Place { path: "/data".into() },
            layout: true,
            metrics: 3,
        };
        assert_eq!(list(&disk, &args, &mut out), Ok(true));
        assert!(out.ends_with("2 series  up\n"), "{out}");
        assert!(
            out.contains("0000000000000001  0      1970-01-01T00:00:01.000Z") && out.contains("label index"),
            "{out}"
        );
        let args = DumpArgs {
            place: Place {
                path: "/data/blocks/0000000000000001.block".into(),
            },
            selector: Some(r#"up{job="web"}"#.to_owned()),
            min_time: 2000,
            max_time: i64::MAX,
        };
        let mut lines = Vec::new();
        assert_eq!(dump(&disk, &args, &mut |line| lines.push(line)), Ok(true));
        assert_eq!(lines, [r#"up{job="web"} 2.5 2000"#, r#"up{job="web"} NaN 3000"#]);
    }

    #[test]
    fn a_directory_without_blocks_is_said_to_have_none() {
        let disk = SimDisk::seeded(1);
        disk.create_dir_all(Path::new("/data/tsdb/wal")).unwrap();
        let error = verify(&disk, Path::new("/data"), &mut String::new()).unwrap_err();
        assert!(error.contains("no blocks in /data"), "{error}");
    }

    #[test]
    fn damage_is_named_with_file_and_place() {
        let disk = disk_with_a_block();
        disk.flip_bit(Path::new("/data/blocks/0000000000000001.block"), 10, 1)
            .unwrap();
        let mut out = String::new();
        assert_eq!(verify(&disk, Path::new("/data"), &mut out), Ok(false));
        assert!(
            out.contains("0000000000000001.block at byte 0") && out.ends_with(" read, 1 problems\n"),
            "{out}"
        );
    }
}
