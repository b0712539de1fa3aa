//! Network devices, sockets and protocol counters.

use super::{Files, Gathered, number};

/// The columns of `/proc/net/dev` behind the device's name.
const DEV_COLUMNS: [&str; 16] = [
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];

/// Traffic and errors of each device.
pub(super) fn netdev(text: &str, out: &mut Gathered) -> Result<(), String> {
    for line in text.lines().skip(2) {
        let Some((device, rest)) = line.rsplit_once(':') else {
            continue;
        };
        for (column, word) in DEV_COLUMNS.iter().zip(rest.split_whitespace()) {
            let help = format!("Network device statistic {column}.");
            let name = format!("node_network_{column}_total");
            out.counter(&name, &help, &[("device", device.trim())], number(word)?);
        }
    }
    Ok(())
}

/// Sockets in use, by protocol: `TCP: inuse 5` becomes `node_sockstat_TCP_inuse`.
pub(super) fn sockstat(text: &str, out: &mut Gathered) -> Result<(), String> {
    /// Buffers are counted in pages.
    const PAGE: f64 = 4096.0;
    for line in text.lines() {
        let Some((protocol, rest)) = line.split_once(':') else {
            continue;
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        for pair in words.chunks_exact(2) {
            let value = number(pair[1])?;
            let help = format!("Number of {protocol} sockets in state {}.", pair[0]);
            out.gauge(&format!("node_sockstat_{protocol}_{}", pair[0]), &help, &[], value);
            if pair[0] == "mem" {
                out.gauge(&format!("node_sockstat_{protocol}_mem_bytes"), &help, &[], value * PAGE);
            }
        }
    }
    Ok(())
}

/// The protocol counters that node_exporter takes by default.
pub(super) fn netstat(files: &Files, out: &mut Gathered) -> Result<(), String> {
    for file in ["net/netstat", "net/snmp"] {
        let text = files.proc(file)?;
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            let mut names = pair[0].split_whitespace();
            let protocol = names.next().unwrap_or("").trim_end_matches(':');
            for (name, word) in names.zip(pair[1].split_whitespace().skip(1)) {
                let key = format!("{protocol}_{name}");
                if is_taken(&key) {
                    let help = format!("Statistic {protocol}{name}.");
                    out.untyped(&format!("node_netstat_{key}"), &help, &[], number(word)?);
                }
            }
        }
    }
    Ok(())
}

fn is_taken(key: &str) -> bool {
    const TAKEN: &[&str] = &[
        "Icmp_InMsgs",
        "Icmp_OutMsgs",
        "IpExt_InOctets",
        "IpExt_OutOctets",
        "Ip_Forwarding",
        "TcpExt_TCPOFOQueue",
        "TcpExt_TCPRcvQDrop",
        "TcpExt_TCPSynRetrans",
        "TcpExt_TCPTimeouts",
        "Tcp_ActiveOpens",
        "Tcp_CurrEstab",
        "Tcp_InSegs",
        "Tcp_OutRsts",
        "Tcp_OutSegs",
        "Tcp_PassiveOpens",
        "Tcp_RetransSegs",
        "Udp_InDatagrams",
        "Udp_NoPorts",
        "Udp_OutDatagrams",
        "Udp_RcvbufErrors",
        "Udp_SndbufErrors",
    ];
    TAKEN.contains(&key)
        || key.ends_with("_InErrors")
        || key.ends_with("_InErrs")
        || key.starts_with("TcpExt_Listen")
        || key.starts_with("TcpExt_Syncookies")
}
