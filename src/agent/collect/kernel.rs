//! Odds and ends of the kernel: file handles, entropy, pressure, name, time.

use super::{Files, Gathered, number};

/// Open file handles and their limit.
pub(super) fn filefd(text: &str, out: &mut Gathered) -> Result<(), String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [allocated, _, maximum] = words[..] else {
        return Err("file-nr does not hold three numbers".to_owned());
    };
    let (allocated, maximum) = (number(allocated)?, number(maximum)?);
    out.gauge(
        "node_filefd_allocated",
        "File descriptor statistics: allocated.",
        &[],
        allocated,
    );
    out.gauge(
        "node_filefd_maximum",
        "File descriptor statistics: maximum.",
        &[],
        maximum,
    );
    Ok(())
}

/// Entropy in the random generator's pool.
pub(super) fn entropy(files: &Files, out: &mut Gathered) -> Result<(), String> {
    let available = number(files.proc("sys/kernel/random/entropy_avail")?.trim())?;
    let pool = number(files.proc("sys/kernel/random/poolsize")?.trim())?;
    out.gauge(
        "node_entropy_available_bits",
        "Bits of available entropy.",
        &[],
        available,
    );
    out.gauge("node_entropy_pool_size_bits", "Bits of entropy pool.", &[], pool);
    Ok(())
}

/// Pressure stall information: for how long somebody (or everybody) waited.
pub(super) fn pressure(files: &Files, out: &mut Gathered) -> Result<(), String> {
    let cpu = stalls(&files.proc("pressure/cpu")?)?;
    let io = stalls(&files.proc("pressure/io")?)?;
    let memory = stalls(&files.proc("pressure/memory")?)?;
    let mut add = |name: &str, help: &str, seconds: Option<f64>| {
        if let Some(seconds) = seconds {
            out.counter(name, help, &[], seconds);
        }
    };
    let help = "Total time in seconds that processes have waited for CPU time.";
    add("node_pressure_cpu_waiting_seconds_total", help, cpu.0);
    let help = "Total time in seconds that processes have waited due to IO congestion.";
    add("node_pressure_io_waiting_seconds_total", help, io.0);
    let help = "Total time in seconds no process could make progress due to IO congestion.";
    add("node_pressure_io_stalled_seconds_total", help, io.1);
    let help = "Total time in seconds that processes have waited for memory.";
    add("node_pressure_memory_waiting_seconds_total", help, memory.0);
    let help = "Total time in seconds no process could make progress due to memory congestion.";
    add("node_pressure_memory_stalled_seconds_total", help, memory.1);
    Ok(())
}

/// Reads `some … total=µs` and `full … total=µs`, in seconds.
fn stalls(text: &str) -> Result<(Option<f64>, Option<f64>), String> {
    let total = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind));
        let micros = line.and_then(|line| line.split_whitespace().find_map(|word| word.strip_prefix("total=")));
        micros
            .map(|micros| number(micros).map(|micros| micros / 1e6))
            .transpose()
    };
    Ok((total("some")?, total("full")?))
}

/// The system's name and version, as labels.
pub(super) fn uname(files: &Files, out: &mut Gathered) -> Result<(), String> {
    let read = |name: &str| {
        files
            .proc(&format!("sys/kernel/{name}"))
            .map(|text| text.trim().to_owned())
    };
    let machine = read("arch").unwrap_or_else(|_| std::env::consts::ARCH.to_owned());
    let labels = [
        ("sysname", read("ostype")?),
        ("release", read("osrelease")?),
        ("version", read("version")?),
        ("machine", machine),
        ("nodename", read("hostname")?),
        ("domainname", read("domainname")?),
    ];
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let help = "Labeled system information as provided by the uname system call.";
    out.gauge("node_uname_info", help, &labels, 1.0);
    Ok(())
}
