//! Host metrics from `/proc` and `/sys`, under node_exporter's names and labels: its dashboards and rules work as they are.
//!
//! A collector is a row of [`COLLECTORS`]: a function from files to samples. Files come through `io::Disk`, so that tests
//! feed recorded ones. One that fails or is not there costs its own metrics and `node_scrape_collector_success`, no more.

mod cpu;
mod disks;
mod filesystems;
mod interfaces;
mod kernel;
mod memory;
mod network;
mod sensors;
mod sockets;
mod system;
mod units;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::io::Clock;
use crate::io::disk::Disk;
use crate::io::files;
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MetricKind, MetricMetadata};

/// Reads some files and adds what they say.
type Collector = fn(&Files, &mut Gathered) -> Result<(), String>;

/// All collectors, under node_exporter's names for them.
static COLLECTORS: &[(&str, Collector)] = &[
    ("arp", |files, out| sockets::arp(&files.proc("net/arp")?, out)),
    ("cgroup", units::units),
    ("conntrack", sockets::conntrack),
    ("cpu", |files, out| cpu::cpu(&files.proc("stat")?, out)),
    ("cpufreq", sensors::cpufreq),
    ("diskstats", |files, out| {
        let text = files.proc("diskstats")?;
        system::disk_info(&text, files, out);
        disks::diskstats(&text, out)
    }),
    ("entropy", kernel::entropy),
    ("filefd", |files, out| {
        kernel::filefd(&files.proc("sys/fs/file-nr")?, out)
    }),
    ("filesystem", filesystems::filesystems),
    ("hwmon", sensors::hwmon),
    ("loadavg", |files, out| cpu::loadavg(&files.proc("loadavg")?, out)),
    ("meminfo", |files, out| memory::meminfo(&files.proc("meminfo")?, out)),
    ("netclass", interfaces::netclass),
    ("netdev", |files, out| network::netdev(&files.proc("net/dev")?, out)),
    ("netstat", |files, out| {
        network::netstat(files, out)?;
        // A machine without IPv6 has no such file.
        files
            .proc("net/snmp6")
            .map_or(Ok(()), |text| sockets::snmp6(&text, out))
    }),
    ("os", system::os),
    ("pressure", kernel::pressure),
    ("schedstat", |files, out| {
        sensors::schedstat(&files.proc("schedstat")?, out)
    }),
    ("selinux", system::selinux),
    ("sockstat", |files, out| {
        network::sockstat(&files.proc("net/sockstat")?, out)?;
        files
            .proc("net/sockstat6")
            .map_or(Ok(()), |text| network::sockstat(&text, out))
    }),
    ("softnet", |files, out| {
        sockets::softnet(&files.proc("net/softnet_stat")?, out)
    }),
    ("stat", |files, out| cpu::stat(&files.proc("stat")?, out)),
    ("textfile", system::textfile),
    ("thermal_zone", sensors::thermal_zone),
    ("time", system::time),
    ("udp_queues", sockets::udp_queues),
    ("uname", kernel::uname),
    ("vmstat", |files, out| memory::vmstat(&files.proc("vmstat")?, out)),
];

/// Samples of one collection, without target labels, and what is known about their metrics.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Series and values.
    pub samples: Vec<(Labels, f64)>,
    /// Kind and help of each metric.
    pub metadata: Vec<MetricMetadata>,
    described: HashSet<String>,
}

impl Gathered {
    fn add(&mut self, name: &str, kind: MetricKind, help: &str, labels: &[(&str, &str)], value: f64) {
        let mut builder = LabelsBuilder::default();
        builder.set(METRIC_NAME, name);
        for (name, value) in labels {
            builder.set(name, value);
        }
        self.samples.push((builder.build(), value));
        self.describe(name, kind, help);
    }

    fn describe(&mut self, name: &str, kind: MetricKind, help: &str) {
        if !self.described.contains(name) {
            self.described.insert(name.to_owned());
            self.metadata.push(MetricMetadata {
                metric: name.to_owned(),
                kind,
                help: help.to_owned(),
                unit: String::new(),
            });
        }
    }

    fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, MetricKind::Gauge, help, labels, value);
    }

    fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, MetricKind::Counter, help, labels, value);
    }

    fn untyped(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, MetricKind::Unknown, help, labels, value);
    }
}

/// Where collectors read.
struct Files {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    root: PathBuf,
    /// Where others leave metrics in `*.prom` files.
    textfiles: Option<PathBuf>,
}

impl Files {
    /// Returns the names in a folder.
    fn list(&self, path: &str) -> Result<Vec<String>, String> {
        let folder = self.root.join(path);
        let entries = self.disk.list(&folder);
        let entries = entries.map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    fn proc(&self, path: &str) -> Result<String, String> {
        self.read(&Path::new("proc").join(path))
    }

    fn sys(&self, path: &str) -> Result<String, String> {
        self.read(&Path::new("sys").join(path))
    }

    fn read(&self, path: &Path) -> Result<String, String> {
        let path = self.root.join(path);
        let bytes = files::read_stream(&*self.disk, &path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The collector of the machine's own metrics.
pub struct Host {
    files: Files,
}

impl Host {
    /// Collects below `root`: `/` on a real machine, somewhere else for a container's host or a recording.
    pub fn new(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, root: &Path) -> Host {
        let root = root.to_owned();
        Host {
            files: Files {
                disk,
                clock,
                root,
                textfiles: None,
            },
        }
    }

    /// Collects metrics that others leave in `*.prom` files of `folder`, too.
    #[must_use]
    pub fn with_textfiles(mut self, folder: Option<PathBuf>) -> Host {
        self.files.textfiles = folder;
        self
    }

    /// Returns the machine's name, `localhost` when it has none: the label `instance` of its metrics.
    pub fn name(&self) -> String {
        let name = self.files.proc("sys/kernel/hostname").unwrap_or_default();
        match name.trim() {
            "" => "localhost".to_owned(),
            name => name.to_owned(),
        }
    }

    /// Collects everything once. Blocks.
    pub fn collect(&self) -> Gathered {
        let mut out = Gathered::default();
        for (name, collector) in COLLECTORS {
            let before = self.files.clock.mono();
            let result = collector(&self.files, &mut out);
            let seconds = self.files.clock.mono().seconds_since(before);
            if let Err(error) = &result {
                tracing::debug!(collector = name, error, "collector has no data");
            }
            let labels = &[("collector", *name)];
            let help = "Whether a collector succeeded.";
            out.gauge(
                "node_scrape_collector_success",
                help,
                labels,
                f64::from(u8::from(result.is_ok())),
            );
            let help = "Duration of a collector.";
            out.gauge("node_scrape_collector_duration_seconds", help, labels, seconds);
        }
        out
    }
}

/// Reads a number that a kernel file must have.
fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimClock;
    use crate::io::disk::{OsDisk, SimDisk};
    use crate::model::Millis;
    use proptest::prelude::*;

    /// What a small virtual machine's kernel said once.
    pub(super) const RECORDED: &[(&str, &str)] = &[
        ("proc/stat", include_str!("../../../tests/golden/agent/proc/stat")),
        ("proc/loadavg", include_str!("../../../tests/golden/agent/proc/loadavg")),
        ("proc/meminfo", include_str!("../../../tests/golden/agent/proc/meminfo")),
        ("proc/vmstat", include_str!("../../../tests/golden/agent/proc/vmstat")),
        (
            "proc/diskstats",
            include_str!("../../../tests/golden/agent/proc/diskstats"),
        ),
        ("proc/mounts", include_str!("../../../tests/golden/agent/proc/mounts")),
        ("proc/net/dev", include_str!("../../../tests/golden/agent/proc/net_dev")),
        (
            "proc/net/sockstat",
            include_str!("../../../tests/golden/agent/proc/net_sockstat"),
        ),
        (
            "proc/net/snmp",
            include_str!("../../../tests/golden/agent/proc/net_snmp"),
        ),
        (
            "proc/net/netstat",
            include_str!("../../../tests/golden/agent/proc/net_netstat"),
        ),
        (
            "proc/pressure/cpu",
            include_str!("../../../tests/golden/agent/proc/pressure_cpu"),
        ),
        (
            "proc/pressure/io",
            include_str!("../../../tests/golden/agent/proc/pressure_io"),
        ),
        (
            "proc/pressure/memory",
            include_str!("../../../tests/golden/agent/proc/pressure_memory"),
        ),
        ("proc/sys/fs/file-nr", "1120\t0\t9223372036854775807\n"),
        ("proc/sys/kernel/hostname", "web-1\n"),
        ("proc/sys/kernel/domainname", "(none)\n"),
        ("proc/sys/kernel/ostype", "Linux\n"),
        ("proc/sys/kernel/osrelease", "6.1.0-test\n"),
        ("proc/sys/kernel/version", "#1 SMP\n"),
        ("proc/sys/kernel/arch", "x86_64\n"),
        ("proc/sys/kernel/random/entropy_avail", "256\n"),
        ("proc/sys/kernel/random/poolsize", "256\n"),
        ("sys/class/net/eth0/operstate", "up\n"),
        ("sys/class/net/eth0/mtu", "1500\n"),
        ("sys/class/net/eth0/speed", "1000\n"),
        ("sys/class/net/eth0/flags", "0x1003\n"),
        ("sys/class/net/eth0/carrier_changes", "2\n"),
        ("sys/class/net/eth0/address", "02:fc:00:00:00:01\n"),
        (
            "proc/net/arp",
            "IP address HW type Flags HW address Mask Device\n192.0.2.1 0x1 0x2 02:fc:00:00:00:05 * eth0\n",
        ),
        (
            "proc/net/softnet_stat",
            "000945a1 00000000 00000001 0 0 0 0 0 0 0 0 0 0 0 0\n",
        ),
        ("proc/net/sockstat6", "TCP6: inuse 1\nFRAG6: inuse 0 memory 0\n"),
        ("proc/net/snmp6", "Ip6InOctets 396\nIp6OutOctets 2308\nUdp6InErrors 0\n"),
        (
            "proc/net/udp",
            "  sl local rem st tx_queue rx_queue\n 1: 0:0 0:0 07 00000010:00000020\n",
        ),
        ("proc/sys/net/netfilter/nf_conntrack_count", "3\n"),
        ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
        (
            "proc/net/stat/nf_conntrack",
            "entries found insert drop\n0 0000000a 1 2\n0 1 0 ff\n",
        ),
        (
            "proc/schedstat",
            "version 15\ncpu0 0 0 0 0 0 0 1000000000 500000000 7\ndomain0 3 0\n",
        ),
        (
            "etc/os-release",
            "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=\"12.5.1\"\n",
        ),
        (
            "sys/devices/system/clocksource/clocksource0/available_clocksource",
            "kvm-clock tsc\n",
        ),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "tsc\n",
        ),
        ("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n"),
        ("sys/class/thermal/thermal_zone0/temp", "41500\n"),
        ("sys/class/hwmon/hwmon0/name", "coretemp\n"),
        ("sys/class/hwmon/hwmon0/temp1_input", "52000\n"),
        ("sys/class/hwmon/hwmon0/temp1_label", "Core 0\n"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2400000\n"),
        ("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
        (
            "sys/fs/cgroup/system.slice/cron.service/cpu.stat",
            "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n",
        ),
        ("sys/fs/cgroup/system.slice/cron.service/memory.current", "4096\n"),
        (
            "sys/fs/cgroup/system.slice/cron.service/memory.stat",
            "anon 1\ninactive_file 1024\n",
        ),
        (
            "sys/fs/cgroup/system.slice/cron.service/memory.events",
            "oom 0\noom_kill 1\n",
        ),
        ("sys/fs/cgroup/system.slice/cron.service/pids.current", "3\n"),
    ];

    fn recorded() -> Host {
        let disk = SimDisk::seeded(1);
        for (path, text) in RECORDED {
            let path = Path::new("/").join(path);
            disk.create_dir_all(path.parent().unwrap()).unwrap();
            disk.create(&path).unwrap().write_all_at(text.as_bytes(), 0).unwrap();
        }
        let clock = SimClock::at(Millis(1_700_000_000_500));
        Host::new(Arc::new(disk), Arc::new(clock), Path::new("/"))
    }

    #[test]
    fn a_recorded_machine_gives_the_golden_metrics() {
        let host = recorded();
        assert_eq!(host.name(), "web-1");
        let mut lines: Vec<String> = host
            .collect()
            .samples
            .into_iter()
            .map(|(labels, value)| format!("{labels} {value}"))
            .collect();
        lines.sort();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/agent/metrics.txt");
        let text = lines.join("\n") + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            OsDisk
                .open(Path::new(path))
                .or_else(|_| OsDisk.create(Path::new(path)))
                .and_then(|file| file.set_len(0).and_then(|()| file.write_all_at(text.as_bytes(), 0)))
                .unwrap();
        }
        let expected = files::read_text(&OsDisk, Path::new(path)).unwrap();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_machine_without_files_gives_only_failures() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::seeded(1));
        let clock = Arc::new(SimClock::default());
        let gathered = Host::new(disk, clock, Path::new("/")).collect();
        let failed = gathered
            .samples
            .iter()
            .filter(|(labels, value)| labels.metric_name() == Some("node_scrape_collector_success") && *value == 0.0);
        // The clock, SELinux's absence and an empty list of text files need no file.
        assert_eq!(failed.count(), COLLECTORS.len() - 3);
    }

    #[test]
    fn names_are_unique_and_described() {
        let gathered = recorded().collect();
        let series: HashSet<&Labels> = gathered.samples.iter().map(|(labels, _)| labels).collect();
        assert_eq!(series.len(), gathered.samples.len());
        assert!(
            gathered.metadata.iter().all(|metric| metric.help.ends_with('.')),
            "a help text is a sentence"
        );
    }

    proptest! {
        #[test]
        fn garbled_files_never_panic(file in 0..RECORDED.len(), at in any::<prop::sample::Index>(), put in "[ -~\n]{0,4}") {
            let (path, text) = RECORDED[file];
            let mut garbled = text.to_owned();
            let at = at.index(text.len() + 1);
            garbled.truncate(at);
            garbled.push_str(&put);
            let disk = SimDisk::seeded(1);
            let path = Path::new("/").join(path);
            disk.create_dir_all(path.parent().unwrap()).unwrap();
            disk.create(&path).unwrap().write_all_at(garbled.as_bytes(), 0).unwrap();
            let clock = Arc::new(SimClock::default());
            Host::new(Arc::new(disk), clock, Path::new("/")).collect();
        }
    }
}
