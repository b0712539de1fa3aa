//! The distribution, clock sources, SELinux, block devices' names, and metrics that others leave in files.

use std::path::Path;

use super::{Files, Gathered, number};
use crate::ingest::text::{TextFormat, TextLine, lines};
use crate::io::files;
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MetricKind, Millis};

/// `/etc/os-release`, as labels.
pub(super) fn os(files: &Files, out: &mut Gathered) -> Result<(), String> {
    const LABELS: [&str; 12] = [
        "build_id",
        "id",
        "id_like",
        "image_id",
        "image_version",
        "name",
        "pretty_name",
        "variant",
        "variant_id",
        "version",
        "version_codename",
        "version_id",
    ];
    let text = files
        .read(Path::new("etc/os-release"))
        .or_else(|_| files.read(Path::new("usr/lib/os-release")))?;
    let find = |label: &str| {
        let wanted = label.to_uppercase();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&wanted)?.strip_prefix('='));
        value.unwrap_or("").trim().trim_matches(['"', '\'']).to_owned()
    };
    let values = LABELS.map(find);
    let labels: Vec<(&str, &str)> = LABELS
        .iter()
        .zip(&values)
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let help = "A metric with a constant '1' value labeled by what os-release says.";
    out.gauge("node_os_info", help, &labels, 1.0);
    let mut numbers = find("version_id");
    if let Some((second, _)) = numbers.match_indices('.').nth(1) {
        numbers.truncate(second);
    }
    if let Ok(version) = number(&numbers) {
        let labels: Vec<(&str, &str)> = labels
            .into_iter()
            .filter(|(name, _)| matches!(*name, "id" | "id_like" | "name"))
            .collect();
        let help = "Metric containing the major.minor part of the OS version.";
        out.gauge("node_os_version", help, &labels, version);
    }
    Ok(())
}

/// Whether SELinux is on.
pub(super) fn selinux(files: &Files, out: &mut Gathered) -> Result<(), String> {
    let enforcing = files.read(Path::new("sys/fs/selinux/enforce")).ok();
    let help = "SELinux is enabled, 1 is true, 0 is false.";
    out.gauge(
        "node_selinux_enabled",
        help,
        &[],
        f64::from(u8::from(enforcing.is_some())),
    );
    if let Some(mode) = enforcing {
        let help = "Current SELinux enforcement mode.";
        out.gauge("node_selinux_current_mode", help, &[], number(mode.trim())?);
    }
    Ok(())
}

/// The wall clock, its zone, and where its ticks come from.
pub(super) fn time(files: &Files, out: &mut Gathered) -> Result<(), String> {
    let now = files.clock.now();
    let help = "System time in seconds since epoch (1970).";
    out.gauge("node_time_seconds", help, &[], now.as_secs_f64());
    let (name, offset) = zone(now);
    let help = "System time zone offset in seconds.";
    out.gauge("node_time_zone_offset_seconds", help, &[("time_zone", &name)], offset);
    for folder in files.list("sys/devices/system/clocksource").unwrap_or_default() {
        let Some(device) = folder.strip_prefix("clocksource") else {
            continue;
        };
        let read = |file: &str| {
            files
                .sys(&format!("devices/system/clocksource/{folder}/{file}"))
                .unwrap_or_default()
        };
        for source in read("available_clocksource").split_whitespace() {
            let help = "Available clocksources read from '/sys/devices/system/clocksource'.";
            let labels = &[("clocksource", source), ("device", device)];
            out.gauge("node_time_clocksource_available_info", help, labels, 1.0);
        }
        let current = read("current_clocksource");
        if !current.trim().is_empty() {
            let help = "Current clocksource read from '/sys/devices/system/clocksource'.";
            let labels = &[("clocksource", current.trim()), ("device", device)];
            out.gauge("node_time_clocksource_current_info", help, labels, 1.0);
        }
    }
    Ok(())
}

fn zone(now: Millis) -> (String, f64) {
    let here = jiff::tz::TimeZone::system();
    let Ok(at) = jiff::Timestamp::from_millisecond(now.0) else {
        return ("UTC".to_owned(), 0.0);
    };
    let info = here.to_offset_info(at);
    (info.abbreviation().to_owned(), f64::from(info.offset().seconds()))
}

/// What each block device is called.
pub(super) fn disk_info(text: &str, files: &Files, out: &mut Gathered) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(major), Some(minor), Some(device)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if super::disks::is_ignored(device) {
            continue;
        }
        let read = |file: &str| {
            files
                .sys(&format!("block/{device}/device/{file}"))
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let (model, revision, serial, wwn) = (read("model"), read("rev"), read("serial"), read("wwid"));
        let labels = &[
            ("device", device),
            ("major", major),
            ("minor", minor),
            ("model", &model),
            ("revision", &revision),
            ("serial", &serial),
            ("wwn", &wwn),
        ];
        out.gauge("node_disk_info", "Info of /sys/block/<block_device>.", labels, 1.0);
    }
}

/// Metrics in `*.prom` files of the configured folder: what cron jobs leave there. A file that cannot be read is left out and
/// sets `node_textfile_scrape_error`.
pub(super) fn textfile(files: &Files, out: &mut Gathered) -> Result<(), String> {
    let mut failed = 0.0;
    if let Some(folder) = &files.textfiles {
        let names = files.disk.list(folder);
        let names = names.map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in names.iter().filter(|entry| entry.name.ends_with(".prom")) {
            let path = folder.join(&entry.name);
            if let Err(error) = one_file(files, &path, out) {
                tracing::warn!(path = %path.display(), error, "a text file of metrics cannot be read");
                failed = 1.0;
            }
        }
    }
    let help = "1 if there was an error opening or reading a file, 0 otherwise.";
    out.gauge("node_textfile_scrape_error", help, &[], failed);
    Ok(())
}

fn one_file(files: &Files, path: &Path, out: &mut Gathered) -> Result<(), String> {
    let text = files::read_text(&*files.disk, path).map_err(|error| error.to_string())?;
    let read: Result<Vec<TextLine>, _> = lines(&text, TextFormat::Prometheus).collect();
    // Half a file would look like metrics that ended.
    for line in read.map_err(|error| error.to_string())? {
        match line {
            TextLine::Sample(sample) if sample.at.is_some() => {
                return Err("metrics in text files must not have a time".to_owned());
            }
            TextLine::Sample(sample) => {
                let mut labels = LabelsBuilder::default();
                for (name, value) in &sample.labels {
                    labels.set(name, value);
                }
                let labels: Labels = labels.build();
                if labels.get(METRIC_NAME).is_none() {
                    return Err("a sample has no metric name".to_owned());
                }
                out.samples.push((labels, sample.value));
            }
            TextLine::Kind(name, kind) => out.describe(&name, kind, ""),
            TextLine::Help(name, help) => out.describe(&name, MetricKind::Unknown, &help),
            TextLine::Unit(..) => {}
        }
    }
    Ok(())
}
