//! Small files that people write: configuration, rules, secrets. Read whole, found by pattern.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;

/// The largest file read whole, in bytes.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// Reads a whole file.
///
/// # Errors
/// The operating system's; [`io::ErrorKind::FileTooLarge`] beyond [`FILE_BYTES_MAX`].
pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open_read(path)?;
    let len = file.len()?;
    if len > FILE_BYTES_MAX {
        let text = format!("{len} bytes long, the limit is {FILE_BYTES_MAX}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let mut bytes = vec![0; usize::try_from(len).expect("64 MiB fit into memory")];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Reads a file that may have no length of its own, as in `/proc` and `/sys`.
///
/// # Errors
/// The operating system's; [`io::ErrorKind::FileTooLarge`] beyond [`FILE_BYTES_MAX`].
pub fn read_stream(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open_read(path)?;
    let mut bytes = Vec::new();
    loop {
        let at = bytes.len();
        bytes.resize(at + 16 * 1024, 0);
        let read = file.read_at(&mut bytes[at..], at as u64)?;
        bytes.truncate(at + read);
        if read == 0 {
            return Ok(bytes);
        }
        if bytes.len() as u64 > FILE_BYTES_MAX {
            let text = format!("longer than the limit of {FILE_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
    }
}

/// Reads a whole text file.
///
/// # Errors
/// As [`read`]; [`io::ErrorKind::InvalidData`] when it is not UTF-8.
pub fn read_text(disk: &dyn Disk, path: &Path) -> io::Result<String> {
    String::from_utf8(read(disk, path)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::new(io::ErrorKind::InvalidData, format!("not UTF-8 at byte {at}"))
    })
}

/// Returns the files that match `pattern`, sorted: `*` and `?` stand for parts of one name, `**` for any folders. A
/// pattern without them is the file itself, whether it exists or not.
///
/// # Errors
/// The operating system's; a folder that does not exist has no files.
pub fn glob(disk: &dyn Disk, pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let is_wild = |text: &str| text.contains(['*', '?']);
    if !is_wild(&pattern.to_string_lossy()) {
        return Ok(vec![pattern.to_owned()]);
    }
    let parts: Vec<String> = pattern.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let plain = parts.iter().take_while(|part| !is_wild(part)).count();
    let base: PathBuf = parts[..plain].iter().collect();
    let mut found = Vec::new();
    walk(disk, &base, &parts[plain..], &mut found)?;
    found.sort();
    found.dedup();
    Ok(found)
}

fn walk(disk: &dyn Disk, folder: &Path, parts: &[String], found: &mut Vec<PathBuf>) -> io::Result<()> {
    let Some((part, rest)) = parts.split_first() else {
        return Ok(());
    };
    let here = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let entries = match disk.list(here) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if part == "**" {
        walk(disk, folder, rest, found)?;
    }
    for entry in entries {
        let path = folder.join(&entry.name);
        if part == "**" {
            if entry.is_dir {
                walk(disk, &path, parts, found)?;
            }
        } else if matches_name(part, &entry.name) {
            if rest.is_empty() && !entry.is_dir {
                found.push(path);
            } else if entry.is_dir {
                walk(disk, &path, rest, found)?;
            }
        }
    }
    Ok(())
}

/// Whether a file name matches a pattern of `*` (any run) and `?` (any one character).
fn matches_name(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && pattern[p] == '*' {
            retry = Some((p, n));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == name[n]) {
            p += 1;
            n += 1;
        } else if let Some((star, taken)) = retry {
            retry = Some((star, taken + 1));
            p = star + 1;
            n = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::{OsDisk, SimDisk};

    #[test]
    fn a_file_without_a_length_is_read_to_its_end() {
        let text = read_stream(&OsDisk, Path::new("/proc/self/status")).unwrap();
        assert!(text.starts_with(b"Name:"));
        let disk = SimDisk::seeded(1);
        let file = disk.create(Path::new("/stat")).unwrap();
        file.write_all_at(&[b'x'; 40_000], 0).unwrap();
        assert_eq!(read_stream(&disk, Path::new("/stat")).unwrap().len(), 40_000);
    }

    #[test]
    fn names_match_patterns_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "a.yml", false),
            ("a?c*", "abcd", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxbxxa", false),
            ("*", "", true),
        ] {
            assert_eq!(matches_name(pattern, name), expected, "{pattern} {name}");
        }
    }
}
