//! `/proc/stat` and `/proc/loadavg`: processor time, switches, forks, processes, load.

use super::{Gathered, number};

/// Ticks a second in `/proc/stat`: a constant of the kernel's interface (`USER_HZ`).
const TICKS: f64 = 100.0;
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

/// Seconds that each CPU spent in each mode.
pub(super) fn cpu(stat: &str, out: &mut Gathered) -> Result<(), String> {
    for line in stat.lines() {
        let mut words = line.split_whitespace();
        let Some(cpu) = words
            .next()
            .and_then(|word| word.strip_prefix("cpu"))
            .filter(|cpu| !cpu.is_empty())
        else {
            continue;
        };
        let ticks: Vec<f64> = words.map(number).collect::<Result<_, _>>()?;
        for (mode, ticks) in MODES.iter().zip(&ticks) {
            let help = "Seconds the CPUs spent in each mode.";
            out.counter(
                "node_cpu_seconds_total",
                help,
                &[("cpu", cpu), ("mode", mode)],
                ticks / TICKS,
            );
        }
        for (mode, ticks) in ["user", "nice"].iter().zip(ticks.iter().skip(MODES.len())) {
            let help = "Seconds the CPUs spent in guests (VMs) for each mode.";
            out.counter(
                "node_cpu_guest_seconds_total",
                help,
                &[("cpu", cpu), ("mode", mode)],
                ticks / TICKS,
            );
        }
    }
    Ok(())
}

/// Boot time, interrupts, context switches, forks and processes.
pub(super) fn stat(stat: &str, out: &mut Gathered) -> Result<(), String> {
    for line in stat.lines() {
        let mut words = line.split_whitespace();
        let (Some(key), Some(value)) = (words.next(), words.next()) else {
            continue;
        };
        match key {
            "intr" => out.counter(
                "node_intr_total",
                "Total number of interrupts serviced.",
                &[],
                number(value)?,
            ),
            "ctxt" => {
                let help = "Total number of context switches.";
                out.counter("node_context_switches_total", help, &[], number(value)?);
            }
            "processes" => out.counter("node_forks_total", "Total number of forks.", &[], number(value)?),
            "btime" => {
                let help = "Node boot time, in unixtime.";
                out.gauge("node_boot_time_seconds", help, &[], number(value)?);
            }
            "procs_running" => {
                let help = "Number of processes in runnable state.";
                out.gauge("node_procs_running", help, &[], number(value)?);
            }
            "procs_blocked" => {
                let help = "Number of processes blocked waiting for I/O to complete.";
                out.gauge("node_procs_blocked", help, &[], number(value)?);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Load averages.
pub(super) fn loadavg(text: &str, out: &mut Gathered) -> Result<(), String> {
    let mut words = text.split_whitespace();
    for (name, help) in [
        ("node_load1", "1m load average."),
        ("node_load5", "5m load average."),
        ("node_load15", "15m load average."),
    ] {
        out.gauge(name, help, &[], number(words.next().unwrap_or(""))?);
    }
    Ok(())
}
