//! Follows files: certificates, users and tokens always; with `reload_on_change` everything that the configuration names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::reload::Reloader;
use crate::config::{BUILTIN, Config};
use crate::http::{Access, Door, Reload as _};
use crate::io::disk::Disk;
use crate::io::{Clock, Shutdown, files};
use crate::model::Interval;

/// How often the files are looked at.
const LOOK: Interval = Interval::secs(5);

/// Follows the files until the server stops. `seen` is what they held when the server read them: the store's replay may
/// take minutes, and an edit made meanwhile counts.
pub(super) async fn follow(
    mut seen: Seen,
    reloader: Arc<Reloader>,
    door: Arc<Door>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    mut shutdown: Shutdown,
) {
    loop {
        let (config, access, disk) = (reloader.config(), door.access(), Arc::clone(&disk));
        let looked = tokio::task::spawn_blocking(move || {
            let now = Seen::look(&*disk, &config, &access);
            let access = (seen.access != now.access).then(|| config.access(&*disk));
            let reload = config.reload_on_change && seen.all != now.all;
            (now, access, reload)
        });
        let Ok((now, access, reload)) = looked.await else {
            return;
        };
        seen = now;
        match access {
            None => {}
            Some(Ok(access)) => {
                door.set_access(access);
                tracing::info!("certificates, users and tokens were read again");
            }
            Some(Err(error)) => tracing::error!(%error, "certificates, users and tokens stay as they were"),
        }
        if reload {
            // The reloader has logged what is wrong; the next look finds no change and leaves it at that.
            let _ = reloader.reload().await;
        }
        tokio::select! {
            () = clock.sleep(LOOK) => {}
            () = shutdown.requested() => return,
        }
    }
}

/// Digests of what the files held.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    access: [u8; 32],
    all: [u8; 32],
}

impl Seen {
    /// Reads the files that the configuration and the access to the server name. Blocks.
    pub(super) fn look(disk: &dyn Disk, config: &Config, access: &Access) -> Seen {
        Seen {
            access: digest(disk, access.files().to_vec()),
            all: if config.reload_on_change {
                digest(disk, named(disk, config))
            } else {
                [0; 32]
            },
        }
    }
}

/// Returns the configuration's file and those that it names.
fn named(disk: &dyn Disk, config: &Config) -> Vec<PathBuf> {
    let patterns = config.rules.iter().chain(&config.dashboards).flatten();
    let matching = patterns
        .filter(|pattern| *pattern != BUILTIN)
        .flat_map(|pattern| files::glob(disk, Path::new(pattern)).unwrap_or_default());
    let written = config.dashboards_folder.iter();
    let written = written.flat_map(|folder| files::glob(disk, &folder.join("*.yaml")).unwrap_or_default());
    let matching = matching.chain(written);
    let single = config.source.iter().chain(&config.alertmanager).cloned();
    single.chain(matching).collect()
}

fn digest(disk: &dyn Disk, paths: Vec<PathBuf>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for path in paths {
        digest.update(path.as_os_str().as_encoded_bytes());
        // A file that cannot be read is a state of its own.
        let held = files::read(disk, &path).map_or([0; 32], |bytes| Sha256::digest(bytes).into());
        digest.update(held);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::SimDisk;

    #[test]
    fn a_changed_added_or_removed_file_is_seen() {
        let disk = SimDisk::seeded(1);
        disk.create_dir_all(Path::new("/etc/rules")).unwrap();
        let write = |path: &str, text: &str| {
            let _ = disk.remove_file(Path::new(path));
            disk.create(Path::new(path))
                .unwrap()
                .write_all_at(text.as_bytes(), 0)
                .unwrap();
        };
        write("/etc/campanile.yaml", "");
        write("/etc/rules/a.yaml", "groups: []");
        let mut config = Config::default();
        config.source = Some(PathBuf::from("/etc/campanile.yaml"));
        config.rules = Some(vec!["builtin:".to_owned(), "/etc/rules/*.yaml".to_owned()]);
        let look = || digest(&disk, named(&disk, &config));
        let first = look();
        assert_eq!(look(), first);
        write("/etc/rules/a.yaml", "groups: [ ]");
        let changed = look();
        assert_ne!(changed, first);
        write("/etc/rules/b.yaml", "");
        let added = look();
        assert_ne!(added, changed);
        disk.remove_file(Path::new("/etc/rules/b.yaml")).unwrap();
        assert_eq!(look(), changed);
    }
}
