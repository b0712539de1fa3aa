//! `/proc/diskstats`: what block devices read and wrote.

use super::{Gathered, number};

/// A column of the file: metric, help, factor to the base unit, whether it is a counter.
struct Column {
    name: &'static str,
    help: &'static str,
    factor: f64,
    is_counter: bool,
}

const fn counter(name: &'static str, help: &'static str, factor: f64) -> Column {
    Column {
        name,
        help,
        factor,
        is_counter: true,
    }
}

/// The kernel's sector in this file, whatever the device's own.
const SECTOR: f64 = 512.0;
const MILLI: f64 = 0.001;

/// The columns behind the device's name, in the file's order (Documentation/admin-guide/iostats.rst).
static COLUMNS: [Column; 17] = [
    counter(
        "node_disk_reads_completed_total",
        "The total number of reads completed successfully.",
        1.0,
    ),
    counter("node_disk_reads_merged_total", "The total number of reads merged.", 1.0),
    counter(
        "node_disk_read_bytes_total",
        "The total number of bytes read successfully.",
        SECTOR,
    ),
    counter(
        "node_disk_read_time_seconds_total",
        "The total number of seconds spent by all reads.",
        MILLI,
    ),
    counter(
        "node_disk_writes_completed_total",
        "The total number of writes completed successfully.",
        1.0,
    ),
    counter("node_disk_writes_merged_total", "The number of writes merged.", 1.0),
    counter(
        "node_disk_written_bytes_total",
        "The total number of bytes written successfully.",
        SECTOR,
    ),
    counter(
        "node_disk_write_time_seconds_total",
        "This is the total number of seconds spent by all writes.",
        MILLI,
    ),
    Column {
        name: "node_disk_io_now",
        help: "The number of I/Os currently in progress.",
        factor: 1.0,
        is_counter: false,
    },
    counter(
        "node_disk_io_time_seconds_total",
        "Total seconds spent doing I/Os.",
        MILLI,
    ),
    counter(
        "node_disk_io_time_weighted_seconds_total",
        "The weighted # of seconds spent doing I/Os.",
        MILLI,
    ),
    counter(
        "node_disk_discards_completed_total",
        "The total number of discards completed successfully.",
        1.0,
    ),
    counter(
        "node_disk_discards_merged_total",
        "The total number of discards merged.",
        1.0,
    ),
    counter(
        "node_disk_discarded_sectors_total",
        "The total number of sectors discarded successfully.",
        1.0,
    ),
    counter(
        "node_disk_discard_time_seconds_total",
        "This is the total number of seconds spent by all discards.",
        MILLI,
    ),
    counter(
        "node_disk_flush_requests_total",
        "The total number of flush requests completed successfully.",
        1.0,
    ),
    counter(
        "node_disk_flush_requests_time_seconds_total",
        "This is the total number of seconds spent by all flush requests.",
        MILLI,
    ),
];

/// All columns of all devices, without memory disks, loops and partitions.
pub(super) fn diskstats(text: &str, out: &mut Gathered) -> Result<(), String> {
    for line in text.lines() {
        let mut words = line.split_whitespace().skip(2);
        let Some(device) = words.next().filter(|device| !is_ignored(device)) else {
            continue;
        };
        for (column, word) in COLUMNS.iter().zip(words) {
            let value = scaled(number(word)?, column.factor);
            let labels = &[("device", device)];
            if column.is_counter {
                out.counter(column.name, column.help, labels, value);
            } else {
                out.gauge(column.name, column.help, labels, value);
            }
        }
    }
    Ok(())
}

/// Milliseconds are divided, not multiplied by an inexact thousandth.
fn scaled(value: f64, factor: f64) -> f64 {
    if factor == MILLI {
        value / 1000.0
    } else {
        value * factor
    }
}

/// node_exporter's `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`.
pub(super) fn is_ignored(device: &str) -> bool {
    let stem = device.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == device.len() {
        return false;
    }
    let one_letter_behind = |prefix: &str| {
        let letter = stem.strip_prefix(prefix);
        letter.is_some_and(|letter| letter.len() == 1 && letter.as_bytes()[0].is_ascii_lowercase())
    };
    matches!(stem, "ram" | "zram" | "loop" | "fd")
        || ["hd", "sd", "vd", "xvd"].iter().any(|prefix| one_letter_behind(prefix))
        || (stem.starts_with("nvme") && stem.ends_with('p'))
}

#[cfg(test)]
mod tests {
    use super::is_ignored;

    #[test]
    fn whole_disks_are_kept_and_their_parts_are_not() {
        for (device, ignored) in [
            ("sda", false),
            ("sda1", true),
            ("vdb12", true),
            ("xvda1", true),
            ("nvme0n1", false),
            ("nvme0n1p2", true),
            ("loop0", true),
            ("zram0", true),
            ("dm-0", false),
            ("md127", false),
            ("mmcblk0", false),
        ] {
            assert_eq!(is_ignored(device), ignored, "{device}");
        }
    }
}
