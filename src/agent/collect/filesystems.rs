//! Mounted file systems: `/proc/mounts` for the list, `statvfs` for the figures.

use std::path::Path;

use super::{Files, Gathered};

/// Types that hold no files of anyone's (node_exporter's default list).
const IGNORED_TYPES: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];
/// Mount points, with all below them, that are not looked at (node_exporter's default list).
const IGNORED_POINTS: &[&str] = &["/dev", "/proc", "/sys"];
const IGNORED_BELOW: &[&str] = &["/run/credentials/", "/var/lib/docker/", "/var/lib/containers/storage/"];

struct Mount {
    device: String,
    point: String,
    kind: String,
    read_only: bool,
}

/// Sizes and inodes of each mount. A mount that gives no answer sets `node_filesystem_device_error`.
pub(super) fn filesystems(files: &Files, out: &mut Gathered) -> Result<(), String> {
    let text = files.proc("1/mounts").or_else(|_| files.proc("mounts"))?;
    let mut seen = std::collections::HashSet::new();
    for mount in mounts(&text) {
        if !seen.insert((mount.device.clone(), mount.point.clone())) {
            continue;
        }
        let inside = files.root.join(mount.point.trim_start_matches('/'));
        add(files, &inside, &mount, out);
    }
    Ok(())
}

fn add(files: &Files, path: &Path, mount: &Mount, out: &mut Gathered) {
    let labels = &[
        ("device", mount.device.as_str()),
        ("fstype", mount.kind.as_str()),
        ("mountpoint", mount.point.as_str()),
    ];
    let found = files.disk.file_system(path);
    let flag = |is: bool| f64::from(u8::from(is));
    let help = "Whether an error occurred while getting statistics for the given device.";
    out.gauge("node_filesystem_device_error", help, labels, flag(found.is_err()));
    let read_only = mount.read_only || found.as_ref().is_ok_and(|found| found.read_only);
    out.gauge(
        "node_filesystem_readonly",
        "Filesystem read-only status.",
        labels,
        flag(read_only),
    );
    let Ok(found) = found else { return };
    for (name, help, value) in [
        ("node_filesystem_size_bytes", "Filesystem size in bytes.", found.size),
        (
            "node_filesystem_free_bytes",
            "Filesystem free space in bytes.",
            found.free,
        ),
        (
            "node_filesystem_avail_bytes",
            "Filesystem space available to non-root users in bytes.",
            found.available,
        ),
        ("node_filesystem_files", "Filesystem total file nodes.", found.files),
        (
            "node_filesystem_files_free",
            "Filesystem total free file nodes.",
            found.files_free,
        ),
    ] {
        out.gauge(name, help, labels, value as f64);
    }
}

fn mounts(text: &str) -> impl Iterator<Item = Mount> {
    text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let mount = Mount {
            device: words.next()?.to_owned(),
            point: unescape(words.next()?),
            kind: words.next()?.to_owned(),
            read_only: words.next()?.split(',').any(|option| option == "ro"),
        };
        let ignored = IGNORED_TYPES.contains(&mount.kind.as_str()) || is_ignored_point(&mount.point);
        (!ignored).then_some(mount)
    })
}

fn is_ignored_point(point: &str) -> bool {
    let within = |top: &str| {
        point
            .strip_prefix(top)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    IGNORED_POINTS.iter().any(|top| within(top)) || IGNORED_BELOW.iter().any(|top| point.starts_with(top))
}

/// Undoes the kernel's `\040` and `\011` for blanks and tabs.
fn unescape(point: &str) -> String {
    point
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_real_files_are_kept() {
        let text = "/dev/vda1 / ext4 rw,relatime 0 0\nproc /proc proc rw 0 0\ntmpfs /run tmpfs rw 0 0\n\
            /dev/vdb /mnt/my\\040disk xfs ro,noatime 0 0\ntmpfs /dev/shm tmpfs rw 0 0\noverlay /x overlay rw 0 0\nbad\n";
        let kept: Vec<(String, bool)> = mounts(text).map(|mount| (mount.point, mount.read_only)).collect();
        let expected = [("/", false), ("/run", false), ("/mnt/my disk", true)];
        assert_eq!(kept, expected.map(|(point, read_only)| (point.to_owned(), read_only)));
    }
}
