//! `/proc/meminfo` and `/proc/vmstat`.

use super::{Gathered, number};

/// All of `/proc/meminfo`: `Active(anon)` becomes `node_memory_Active_anon_bytes`.
pub(super) fn meminfo(text: &str, out: &mut Gathered) -> Result<(), String> {
    for line in text.lines() {
        let Some((key, rest)) = line.split_once(':') else {
            continue;
        };
        let mut words = rest.split_whitespace();
        let value = number(words.next().unwrap_or(""))?;
        let key: String = key.replace('(', "_").replace(')', "");
        let help = format!("Memory information field {key}.");
        match words.next() {
            Some("kB") => out.gauge(&format!("node_memory_{key}_bytes"), &help, &[], value * 1024.0),
            _ => out.gauge(&format!("node_memory_{key}"), &help, &[], value),
        }
    }
    Ok(())
}

/// Paging, swapping, faults and kills out of `/proc/vmstat`: what node_exporter takes by default.
pub(super) fn vmstat(text: &str, out: &mut Gathered) -> Result<(), String> {
    for line in text.lines() {
        let Some((key, value)) = line.split_once(' ') else {
            continue;
        };
        let taken = key.starts_with("oom_kill")
            || key.starts_with("pgpg")
            || key.starts_with("pswp")
            || (key.starts_with("pg") && key.contains("fault"));
        if taken {
            let help = format!("/proc/vmstat information field {key}.");
            out.untyped(&format!("node_vmstat_{key}"), &help, &[], number(value.trim())?);
        }
    }
    Ok(())
}
