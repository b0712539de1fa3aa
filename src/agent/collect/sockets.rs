//! Neighbours, tracked connections, packet queues, and what IPv6 counts.

use std::collections::BTreeMap;

use super::{Files, Gathered, number};

/// Neighbours known by each device.
pub(super) fn arp(text: &str, out: &mut Gathered) -> Result<(), String> {
    let mut entries: BTreeMap<&str, f64> = BTreeMap::new();
    for line in text.lines().skip(1) {
        if let Some(device) = line.split_whitespace().nth(5) {
            *entries.entry(device).or_default() += 1.0;
        }
    }
    for (device, many) in entries {
        out.gauge(
            "node_arp_entries",
            "ARP entries by device.",
            &[("device", device)],
            many,
        );
    }
    Ok(())
}

/// The table of tracked connections, and what happened in it.
pub(super) fn conntrack(files: &Files, out: &mut Gathered) -> Result<(), String> {
    let read = |name: &str| files.proc(&format!("sys/net/netfilter/nf_conntrack_{name}"));
    let (entries, limit) = (number(read("count")?.trim())?, number(read("max")?.trim())?);
    let help = "Number of currently allocated flow entries for connection tracking.";
    out.gauge("node_nf_conntrack_entries", help, &[], entries);
    let help = "Maximum size of connection tracking table.";
    out.gauge("node_nf_conntrack_entries_limit", help, &[], limit);
    // One line for each CPU, in hexadecimal; the table may be without statistics.
    let Ok(text) = files.proc("net/stat/nf_conntrack") else {
        return Ok(());
    };
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or("").split_whitespace().collect();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().collect()).collect();
    for stat in [
        "drop",
        "early_drop",
        "found",
        "ignore",
        "insert",
        "insert_failed",
        "invalid",
        "search_restart",
    ] {
        let Some(column) = names.iter().position(|name| *name == stat) else {
            continue;
        };
        let mut sum = 0.0;
        for row in &rows {
            sum += hex(row.get(column).unwrap_or(&"0"))?;
        }
        let help = format!("Connection tracking statistic {stat}.");
        out.gauge(&format!("node_nf_conntrack_stat_{stat}"), &help, &[], sum);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "samples are doubles")]
fn hex(text: &str) -> Result<f64, String> {
    let read = u64::from_str_radix(text, 16).map_err(|_| format!("{text:?} is not hexadecimal"));
    read.map(|value| value as f64)
}

/// Packets that each CPU took off the devices' queues.
pub(super) fn softnet(text: &str, out: &mut Gathered) -> Result<(), String> {
    for (row, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [processed, dropped, squeezed, ..] = words[..] else {
            return Err("softnet_stat holds fewer than three columns".to_owned());
        };
        // Newer kernels name the CPU, for lines of absent ones are left out.
        let cpu = match words.get(12) {
            Some(cpu) => hex(cpu)?.to_string(),
            None => row.to_string(),
        };
        let labels = &[("cpu", cpu.as_str())];
        let help = "Number of processed packets.";
        out.counter("node_softnet_processed_total", help, labels, hex(processed)?);
        out.counter(
            "node_softnet_dropped_total",
            "Number of dropped packets.",
            labels,
            hex(dropped)?,
        );
        let help = "Number of times processing packets ran out of quota.";
        out.counter("node_softnet_times_squeezed_total", help, labels, hex(squeezed)?);
    }
    Ok(())
}

/// Bytes waiting in UDP sockets.
pub(super) fn udp_queues(files: &Files, out: &mut Gathered) -> Result<(), String> {
    let mut found = false;
    for (ip, file) in [("v4", "net/udp"), ("v6", "net/udp6")] {
        let Ok(text) = files.proc(file) else { continue };
        found = true;
        let (mut sending, mut receiving) = (0.0, 0.0);
        for line in text.lines().skip(1) {
            let queues = line.split_whitespace().nth(4).and_then(|word| word.split_once(':'));
            if let Some((tx, rx)) = queues {
                sending += hex(tx)?;
                receiving += hex(rx)?;
            }
        }
        for (queue, bytes) in [("tx", sending), ("rx", receiving)] {
            let help = "Number of allocated memory in the kernel for UDP datagrams in bytes.";
            out.gauge("node_udp_queues", help, &[("ip", ip), ("queue", queue)], bytes);
        }
    }
    if found {
        Ok(())
    } else {
        Err("neither net/udp nor net/udp6 is there".to_owned())
    }
}

/// IPv6's protocol counters, those that node_exporter takes by default.
pub(super) fn snmp6(text: &str, out: &mut Gathered) -> Result<(), String> {
    const TAKEN: &[&str] = &[
        "Icmp6_InMsgs",
        "Icmp6_OutMsgs",
        "Ip6_InOctets",
        "Ip6_OutOctets",
        "Udp6_InDatagrams",
        "Udp6_NoPorts",
        "Udp6_OutDatagrams",
        "Udp6_RcvbufErrors",
        "Udp6_SndbufErrors",
    ];
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(value)) = (words.next(), words.next()) else {
            continue;
        };
        let Some(end) = name.find('6') else { continue };
        let key = format!("{}_{}", &name[..=end], &name[end + 1..]);
        if TAKEN.contains(&key.as_str()) || key.ends_with("_InErrors") {
            let help = format!("Statistic {}.", key.replace('_', ""));
            out.untyped(&format!("node_netstat_{key}"), &help, &[], number(value)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(read: impl Fn(&mut Gathered) -> Result<(), String>) -> Vec<String> {
        let mut out = Gathered::default();
        read(&mut out).unwrap();
        out.samples
            .iter()
            .map(|(labels, value)| format!("{labels} {value}"))
            .collect()
    }

    #[test]
    fn neighbours_are_counted_by_device() {
        let text = "IP address HW type Flags HW address Mask Device\n192.0.2.1 0x1 0x2 02:fc:00:00:00:05 * eth0\n\
            192.0.2.2 0x1 0x2 02:fc:00:00:00:06 * eth0\n";
        assert_eq!(lines(|out| arp(text, out)), [r#"node_arp_entries{device="eth0"} 2"#]);
    }

    #[test]
    fn softnet_is_hexadecimal_and_may_name_its_cpu() {
        let named = "000945a1 00000001 00000002 0 0 0 0 0 0 0 0 0 00000003\n";
        let found = lines(|out| softnet(named, out));
        assert_eq!(found[0], r#"node_softnet_processed_total{cpu="3"} 607649"#);
        assert_eq!(
            lines(|out| softnet("a 1 2\n", out))[2],
            r#"node_softnet_times_squeezed_total{cpu="0"} 2"#
        );
        assert!(softnet("x 1 2\n", &mut Gathered::default()).is_err());
    }

    #[test]
    fn counters_of_version_six_are_named_as_node_exporter_names_them() {
        let found = lines(|out| {
            snmp6(
                "Ip6InOctets 396\nUdp6InErrors 1\nUdpLite6InErrors 0\nIp6InReceives 3\n",
                out,
            )
        });
        assert_eq!(
            found,
            [
                "node_netstat_Ip6_InOctets 396",
                "node_netstat_Udp6_InErrors 1",
                "node_netstat_UdpLite6_InErrors 0"
            ]
        );
    }
}
