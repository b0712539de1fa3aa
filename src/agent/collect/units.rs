//! Processes by systemd unit: what each service's and slice's control group uses, under cAdvisor's names.
//!
//! Control groups of version 2 only (`/sys/fs/cgroup/…/cpu.stat`); on a host of version 1 there is no such tree, and the
//! collector says so.

use super::{Files, Gathered, number};

/// How deep slices are looked into.
const DEPTH_MAX: usize = 4;
/// The most groups.
const GROUPS_MAX: usize = 500;

/// Time, memory, processes and pressure of each unit.
pub(super) fn units(files: &Files, out: &mut Gathered) -> Result<(), String> {
    // A hybrid tree keeps version 2 below `unified`, without controllers.
    if files.sys("fs/cgroup/cgroup.controllers").is_err() {
        return Err("there are no control groups of version 2".to_owned());
    }
    let mut left = GROUPS_MAX;
    walk(files, String::new(), DEPTH_MAX, &mut left, out)
}

fn walk(files: &Files, id: String, depth: usize, left: &mut usize, out: &mut Gathered) -> Result<(), String> {
    for name in files.list(&format!("sys/fs/cgroup{id}"))? {
        let is_unit = [".service", ".slice", ".scope"].iter().any(|kind| name.ends_with(kind));
        if !is_unit || *left == 0 {
            continue;
        }
        *left -= 1;
        let id = format!("{id}/{name}");
        unit(files, &id, &name, out)?;
        if name.ends_with(".slice") && depth > 0 {
            walk(files, id, depth - 1, left, out)?;
        }
    }
    Ok(())
}

fn unit(files: &Files, id: &str, name: &str, out: &mut Gathered) -> Result<(), String> {
    let labels = &[("id", id), ("name", name)];
    // A unit may end while it is looked at: what is gone is left out.
    let read = |file: &str| files.sys(&format!("fs/cgroup{id}/{file}")).ok();
    let field = |text: &str, wanted: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(wanted)?.strip_prefix(' '));
        line.map(|value| number(value.trim())).transpose()
    };
    if let Some(stat) = read("cpu.stat") {
        for (key, metric, help) in [
            (
                "usage_usec",
                "container_cpu_usage_seconds_total",
                "Cumulative CPU time consumed in seconds.",
            ),
            (
                "user_usec",
                "container_cpu_user_seconds_total",
                "Cumulative user CPU time consumed in seconds.",
            ),
            (
                "system_usec",
                "container_cpu_system_seconds_total",
                "Cumulative system CPU time consumed in seconds.",
            ),
            (
                "throttled_usec",
                "container_cpu_cfs_throttled_seconds_total",
                "Total time duration the container has been throttled.",
            ),
        ] {
            if let Some(micros) = field(&stat, key)? {
                out.counter(metric, help, labels, micros / 1e6);
            }
        }
    }
    if let Some(current) = read("memory.current") {
        let used = number(current.trim())?;
        out.gauge(
            "container_memory_usage_bytes",
            "Current memory usage in bytes.",
            labels,
            used,
        );
        let inactive = read("memory.stat")
            .map(|stat| field(&stat, "inactive_file"))
            .transpose()?
            .flatten();
        let help = "Current working set in bytes.";
        out.gauge(
            "container_memory_working_set_bytes",
            help,
            labels,
            (used - inactive.unwrap_or(0.0)).max(0.0),
        );
    }
    if let Some(kills) = read("memory.events")
        .map(|events| field(&events, "oom_kill"))
        .transpose()?
        .flatten()
    {
        let help = "Count of out of memory events observed.";
        out.counter("container_oom_events_total", help, labels, kills);
    }
    if let Some(current) = read("pids.current") {
        let help = "Number of processes and threads in the unit.";
        out.gauge("container_threads", help, labels, number(current.trim())?);
    }
    Ok(())
}
