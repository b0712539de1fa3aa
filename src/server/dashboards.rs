//! Saving what was written in the browser: into one folder, whole or not at all.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::reload::{Reloader, read_dashboards};
use crate::http::{DashboardFolder, NotSaved};
use crate::io::BoxFuture;
use crate::io::disk::Disk;
use crate::io::files;

impl DashboardFolder for Reloader {
    fn folder(&self) -> Option<String> {
        let folder = self.config().dashboards_folder?;
        Some(folder.display().to_string())
    }

    fn save(&self, name: String, text: String, before: Option<String>) -> BoxFuture<'_, Result<(), NotSaved>> {
        Box::pin(async move {
            let config = self.config();
            let Some(folder) = config.dashboards_folder.clone() else {
                return Err(NotSaved::ReadOnly);
            };
            let disk = Arc::clone(&self.disk);
            let written = tokio::task::spawn_blocking(move || {
                let path = folder.join(format!("{name}.yaml"));
                write(&*disk, &folder, &path, &text, before.as_deref())?;
                read_dashboards(&*disk, &config).map_err(NotSaved::Failed)
            });
            let dashboards = written.await.map_err(|error| NotSaved::Failed(error.to_string()))??;
            self.dashboards.store(Arc::new(dashboards));
            Ok(())
        })
    }
}

/// Writes beside the file, then takes its place. A file that is there and is not what its writer began with stays; one that
/// was shown from elsewhere (a shipped one) has no file here yet.
fn write(disk: &dyn Disk, folder: &Path, path: &Path, text: &str, before: Option<&str>) -> Result<(), NotSaved> {
    let failed = |error: io::Error| NotSaved::Failed(format!("{}: {error}", path.display()));
    match files::read_text(disk, path) {
        Ok(there) if Some(there.as_str()) != before => return Err(NotSaved::Changed),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    disk.create_dir_all(folder).map_err(failed)?;
    let beside = path.with_extension("yaml.new");
    match disk.remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = disk.create(&beside).map_err(failed)?;
    file.write_all_at(text.as_bytes(), 0).map_err(failed)?;
    file.sync().map_err(failed)?;
    disk.rename(&beside, path).map_err(failed)?;
    disk.sync_dir(folder).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::SimDisk;

    #[test]
    fn a_dashboard_is_saved_over_the_one_that_its_writer_saw_and_over_no_other() {
        let disk = SimDisk::seeded(1);
        let folder = Path::new("/dashboards");
        let path = folder.join("mine.yaml");
        write(&disk, folder, &path, "one", None).unwrap();
        assert_eq!(files::read_text(&disk, &path).unwrap(), "one");
        write(&disk, folder, &path, "two", Some("one")).unwrap();
        assert_eq!(
            write(&disk, folder, &path, "three", Some("one")),
            Err(NotSaved::Changed)
        );
        assert_eq!(write(&disk, folder, &path, "three", None), Err(NotSaved::Changed));
        assert_eq!(files::read_text(&disk, &path).unwrap(), "two");
    }

    #[test]
    fn after_a_crash_there_is_the_old_text_or_the_new_one() {
        for crash_at in 0.. {
            let disk = SimDisk::seeded(7);
            let folder = Path::new("/dashboards");
            let path = folder.join("mine.yaml");
            write(&disk, folder, &path, "old", None).unwrap();
            let begun = disk.operations();
            let disk = disk.crash_at(begun + crash_at);
            let saved = write(&disk, folder, &path, "new", Some("old")).is_ok();
            let found = files::read_text(&disk.after_crash(), &path).unwrap();
            assert!(
                found == "new" || (found == "old" && !saved),
                "crash at {crash_at}: {found:?}"
            );
            if !disk.crashed() {
                break;
            }
        }
    }
}
