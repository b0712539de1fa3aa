//! The files of the page: in the binary, or on the disk while somebody works on them.
//!
//! All files are served under one prefix that holds a hash of their contents (`/ui/{hash}/…`), so that browsers may keep
//! them for ever; modules import each other by relative paths and never see the hash.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::io::disk::Disk;
use crate::io::files;

macro_rules! embedded {
    ($($path:literal),* $(,)?) => { [$(($path, include_bytes!(concat!("assets/", $path)) as &[u8])),*] };
}

/// Every file of `assets/` that a browser may ask for; a test compares the list with the folder.
static EMBEDDED: &[(&str, &[u8])] = &embedded![
    "app/alert-list.js",
    "app/alert-on.js",
    "app/alerts.js",
    "app/answers.js",
    "app/api.js",
    "app/backtest.js",
    "app/bodies.js",
    "app/chart.js",
    "app/clicks-audit.js",
    "app/clicks-data.js",
    "app/clicks-live.js",
    "app/clicks.js",
    "app/dashboards.js",
    "app/dashedit.js",
    "app/deliveries.js",
    "app/dialog.js",
    "app/editor.js",
    "app/explore.js",
    "app/format.js",
    "app/heatmap.js",
    "app/history.js",
    "app/home.js",
    "app/icon.svg",
    "app/icons.js",
    "app/index.html",
    "app/keyboard.js",
    "app/legend.js",
    "app/live.js",
    "app/main.js",
    "app/metrics.js",
    "app/page.js",
    "app/panels.js",
    "app/promql.js",
    "app/router.js",
    "app/routes.js",
    "app/rule.js",
    "app/signin.js",
    "app/silences.js",
    "app/status.js",
    "app/style.css",
    "app/theme.js",
    "app/time.js",
    "app/timepicker.js",
    "app/tree.js",
    "app/why.js",
    "app/zone.js",
    "vendor/LICENSES.txt",
    "vendor/SHA256SUMS",
    "vendor/preact.js",
    "vendor/uplot.css",
    "vendor/uplot.js",
];

/// The files of the page.
pub struct Assets {
    hash: String,
    prefix: String,
    files: BTreeMap<&'static str, File>,
    folder: Option<(Arc<dyn Disk>, PathBuf)>,
}

/// One file, ready to be sent.
#[derive(Clone, Debug)]
pub struct File {
    /// For the `Content-Type` header.
    pub content_type: &'static str,
    /// As it is.
    pub bytes: Bytes,
    /// Compressed, where that helps.
    pub gzip: Option<Bytes>,
}

impl Assets {
    /// Returns the files in the binary. `prefix` is the path of the external URL, empty at the root.
    pub fn embedded(prefix: &str) -> Assets {
        let mut hasher = Sha256::new();
        for (path, bytes) in EMBEDDED {
            hasher.update(path);
            hasher.update(bytes);
        }
        let hash = hasher.finalize()[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut assets = Assets {
            hash,
            prefix: prefix.trim_end_matches('/').to_owned(),
            files: BTreeMap::new(),
            folder: None,
        };
        for (path, bytes) in EMBEDDED {
            let file = assets.prepare(path, Bytes::from_static(bytes));
            assets.files.insert(path, file);
        }
        assets
    }

    /// Reads each file from `folder` whenever it is asked for: those that are also in the binary, and new ones of `app/`.
    pub fn from_folder(prefix: &str, disk: Arc<dyn Disk>, folder: PathBuf) -> Assets {
        Assets {
            folder: Some((disk, folder)),
            hash: "dev".to_owned(),
            ..Assets::embedded(prefix)
        }
    }

    /// Returns the hash in the files' addresses.
    pub fn hash(&self) -> &str {
        match self.folder {
            // Nothing may be kept by browsers while files change, so no address is ever the current one.
            Some(_) => "",
            None => &self.hash,
        }
    }

    /// Returns the page itself.
    pub fn index(&self) -> File {
        self.file("app/index.html").expect("the page is in the table")
    }

    /// Returns a file by its path below `assets/`. The path is looked up in a table; only while developing may another
    /// name reach the file system, and then it is a plain one.
    pub fn file(&self, path: &str) -> Option<File> {
        let Some((disk, folder)) = &self.folder else {
            return self.files.get(path).cloned();
        };
        if !self.files.contains_key(path) && !is_module(path) {
            return None;
        }
        let bytes = files::read(&**disk, &folder.join(path)).ok()?;
        Some(self.prepare(path, Bytes::from(bytes)))
    }

    fn prepare(&self, path: &str, bytes: Bytes) -> File {
        let bytes = match std::str::from_utf8(&bytes) {
            Ok(text) if path.ends_with(".html") => {
                let base = format!("{}/ui/{}", self.prefix, self.hash);
                Bytes::from(text.replace("{{assets}}", &base).replace("{{prefix}}", &self.prefix))
            }
            Ok(text) if path.starts_with("app/") && self.folder.is_none() => Bytes::from(without_comments(text)),
            _ => bytes,
        };
        File {
            content_type: content_type(path),
            gzip: compress(&bytes).filter(|gzip| gzip.len() < bytes.len()),
            bytes,
        }
    }
}

/// Whether the path is that of a module of ours: small letters and hyphens in `app/`.
fn is_module(path: &str) -> bool {
    let name = path.strip_prefix("app/").and_then(|name| name.strip_suffix(".js"));
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
}

/// Drops indentation and whole lines of comment, which people read in the repository and browsers never: a tenth of the
/// weight of the first page.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines().map(str::trim_start) {
        let comment = line.starts_with("//") || (line.starts_with("/*") && line.ends_with("*/"));
        if !comment && !line.is_empty() {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

fn compress(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Files that are about the folder and not for browsers.
    const NOT_SERVED: [&str; 2] = ["vendor/README.md", "vendor/build.sh"];

    #[test]
    fn the_table_is_the_folder() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ui/assets");
        let mut found = BTreeSet::new();
        for folder in ["app", "vendor"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                found.insert(format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap()));
            }
        }
        let table: BTreeSet<String> = EMBEDDED.iter().map(|(path, _)| (*path).to_owned()).collect();
        let expected: BTreeSet<String> = found
            .into_iter()
            .filter(|path| !NOT_SERVED.contains(&path.as_str()))
            .collect();
        assert_eq!(table, expected);
    }

    #[test]
    fn third_party_files_are_what_their_checksums_say() {
        let sums = Assets::embedded("").file("vendor/SHA256SUMS").unwrap().bytes;
        let sums = std::str::from_utf8(&sums).unwrap();
        assert_eq!(sums.lines().count(), 3);
        for line in sums.lines() {
            let (expected, name) = line.split_once("  ").unwrap();
            let (_, bytes) = EMBEDDED
                .iter()
                .find(|(path, _)| *path == format!("vendor/{name}"))
                .unwrap();
            let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(sum, expected, "{name}");
        }
    }

    #[test]
    fn the_first_page_weighs_at_most_100_kib() {
        let assets = Assets::embedded("");
        let index = assets.index();
        let text = std::str::from_utf8(&index.bytes).unwrap();
        let base = format!("/ui/{}/", assets.hash);
        let loaded: BTreeSet<&str> = text.split('"').filter_map(|part| part.strip_prefix(&base)).collect();
        assert!(loaded.len() > 10, "{loaded:?}");
        let weight = |file: &File| file.gzip.as_ref().unwrap_or(&file.bytes).len();
        let total: usize = loaded.iter().map(|path| weight(&assets.file(path).unwrap())).sum();
        let total = total + weight(&index);
        println!("{total} bytes");
        assert!(total <= 100 * 1024, "{total} bytes");
    }

    /// The files that a module imports at once, relative to the root.
    fn imports(path: &str) -> Vec<String> {
        let (_, bytes) = EMBEDDED.iter().find(|(known, _)| *known == path).unwrap();
        let text = std::str::from_utf8(bytes).unwrap();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("import ") || line.starts_with("export "));
        let named = lines.filter_map(|line| line.split_once(" from \"")?.1.split('"').next());
        named
            .map(|name| match name.strip_prefix("./") {
                Some(name) => format!("app/{name}"),
                None => name.trim_start_matches("../").to_owned(),
            })
            .collect()
    }

    #[test]
    fn the_page_asks_at_once_for_all_that_its_first_modules_import() {
        let mut needed = BTreeSet::from(["app/main.js".to_owned()]);
        let mut open = vec!["app/main.js".to_owned()];
        while let Some(path) = open.pop() {
            open.extend(
                imports(&path)
                    .into_iter()
                    .filter(|import| needed.insert(import.clone())),
            );
        }
        let index = std::str::from_utf8(&Assets::embedded("").index().bytes)
            .unwrap()
            .to_owned();
        let missing: Vec<&String> = needed.iter().filter(|path| !index.contains(path.as_str())).collect();
        assert!(
            missing.is_empty() && needed.len() > 10,
            "index.html does not preload {missing:?}"
        );
    }

    #[test]
    fn the_page_names_its_files_under_prefix_and_hash() {
        let assets = Assets::embedded("/campanile/");
        let index = assets.index();
        let text = std::str::from_utf8(&index.bytes).unwrap();
        assert!(
            text.contains(&format!("\"/campanile/ui/{}/app/main.js\"", assets.hash())),
            "{text}"
        );
        assert!(!text.contains("{{"), "{text}");
        assert!(assets.file("../Cargo.toml").is_none() && assets.file("app/nothing.js").is_none());
    }

    #[test]
    fn the_page_holds_nothing_inline_and_nothing_foreign() {
        for (path, bytes) in EMBEDDED.iter().filter(|(path, _)| path.starts_with("app/")) {
            let text = std::str::from_utf8(bytes).unwrap();
            assert!(
                !text.contains("http://") || *path == "app/icon.svg",
                "{path} names another origin"
            );
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "https://",
            ] {
                assert!(!text.contains(forbidden), "{path} contains {forbidden}");
            }
        }
        let index = std::str::from_utf8(&Assets::embedded("").index().bytes)
            .unwrap()
            .to_owned();
        assert!(
            !index.contains("<style") && !index.contains(" style=") && !index.contains(" onclick"),
            "{index}"
        );
        assert_eq!(
            index.matches("<script").count(),
            index.matches("<script type=\"module\" src=").count()
        );
    }
}
