//! Holds the code to `src/ARCHITECTURE.md`: who may import whom, and which effect lives in which room.
//!
//! The compiler does not forbid an upward `use` inside one crate; this test does, with file and line. It reads text, needs no
//! dependency and takes well under a second.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Words that stand for an effect or a wrapped crate, and the modules that may say them.
const ROOMS: &[(&str, &[&str])] = &[
    ("SystemTime::now", &["io"]),
    ("Instant::now", &["io"]),
    ("Zoned::now", &["io"]),
    ("Timestamp::now", &["io"]),
    ("tokio::time", &["io"]),
    ("std::fs", &["io"]),
    ("tokio::fs", &["io"]),
    ("tokio::net", &["http"]),
    ("std::net::Tcp", &["http"]),
    ("std::net::Udp", &["http"]),
    ("reqwest", &["io"]),
    ("lettre", &["io"]),
    ("getrandom", &["io"]),
    ("memmap2", &["io"]),
    ("rustix", &["io"]),
    ("axum", &["http"]),
    ("hyper", &["http"]),
    ("prost", &["ingest", "events"]),
    ("tsz", &["tsdb"]),
    ("pco", &["tsdb"]),
    ("evalexpr", &["rules"]),
    ("augurs", &["query"]),
    // A worker that waits takes up other work, and must hold no lock then: the store's are held for long.
    ("rayon", &["query", "rules"]),
    ("async_nats", &["io"]),
];

#[test]
fn modules_import_only_what_the_diagram_allows() {
    let allowed = read_layers();
    let mut offences = Vec::new();
    for file in source_files() {
        let module = module_of(&file);
        let Some(permitted) = allowed.get(module.as_str()) else {
            if !["lib", "main"].contains(&module.as_str()) {
                offences.push(format!("{}: module {module} is not in the diagram", file.display()));
            }
            continue;
        };
        for (line, target) in crate_paths(&code_of(&file)) {
            let known = allowed.contains_key(target.as_str());
            if known && target != module && !permitted.contains(&target) && !permitted.contains("*") {
                offences.push(format!("{}:{line}: {module} may not import {target}", file.display()));
            }
        }
    }
    assert!(
        offences.is_empty(),
        "imports against src/ARCHITECTURE.md:\n{}",
        offences.join("\n")
    );
}

#[test]
fn each_effect_lives_in_its_room() {
    let mut offences = Vec::new();
    for file in source_files() {
        let module = module_of(&file);
        for (number, line) in code_of(&file) {
            for (word, rooms) in ROOMS {
                if !rooms.contains(&module.as_str()) && names(&line, word) {
                    offences.push(format!(
                        "{}:{number}: `{word}` belongs to {}",
                        file.display(),
                        rooms.join(", ")
                    ));
                }
            }
        }
    }
    assert!(
        offences.is_empty(),
        "effects outside their room:\n{}",
        offences.join("\n")
    );
}

#[test]
fn every_file_introduces_itself() {
    let silent: Vec<String> = source_files()
        .into_iter()
        .filter(|file| !fs::read_to_string(file).unwrap().starts_with("//! "))
        .map(|file| file.display().to_string())
        .collect();
    assert!(silent.is_empty(), "files without a header: {silent:?}");
}

/// The checks above must be able to fail: this one feeds them offences.
#[test]
fn an_offence_is_seen() {
    let code =
        numbered("use crate::{model::Millis, rules::Manager};\nlet x = crate::http::App;\n// crate::cli is prose\n");
    let found: Vec<(usize, String)> = crate_paths(&code);
    let expected = [(1, "model"), (1, "rules"), (2, "http")].map(|(line, module)| (line, module.to_owned()));
    assert_eq!(found, expected);
    assert!(names("let t = std::time::Instant::now();", "Instant::now"));
    assert!(!names("let tszx = 1;", "tsz") && names("use tsz::stream;", "tsz"));
    assert!(read_layers()["tsdb"].contains("io") && !read_layers()["tsdb"].contains("query"));
}

/// Returns each module of the diagram with the modules it may import.
fn read_layers() -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string(root().join("src/ARCHITECTURE.md")).unwrap();
    let (_, block) = page.split_once("```layers\n").expect("the page has a layers block");
    let (block, _) = block.split_once("```").expect("the layers block ends");
    block
        .lines()
        .map(|line| {
            let (module, imports) = line
                .split_once(':')
                .expect("a line of the diagram is `module : imports`");
            (
                module.trim().to_owned(),
                imports.split_whitespace().map(str::to_owned).collect(),
            )
        })
        .collect()
}

/// Returns the modules named behind `crate::`, with their lines; `crate::{a::B, c}` names two.
fn crate_paths(code: &[(usize, String)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in code {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            match rest.strip_prefix('{') {
                Some(list) => {
                    let mut depth = 0;
                    for part in list.split_inclusive([',', '{', '}']) {
                        if depth == 0 && part.starts_with(|c: char| c.is_alphabetic() || c == ' ') {
                            found.push((*number, leading_name(part.trim_start())));
                        }
                        depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
                    }
                }
                None => found.push((*number, leading_name(rest))),
            }
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

fn leading_name(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Whether `line` says `word` as a whole word.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        !line[..at].ends_with(inside) && !line[at + word.len()..].starts_with(inside)
    })
}

/// Returns a file's lines of product code with their numbers: no comments, no test module, no file of tests.
fn code_of(file: &Path) -> Vec<(usize, String)> {
    let stem = file
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let of_tests = file.parent().is_some_and(|folder| folder.ends_with("tests"));
    if of_tests || ["tests", "testing"].contains(&stem.as_str()) || stem.ends_with("_tests") {
        return Vec::new();
    }
    let text = fs::read_to_string(file).unwrap();
    let product = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(&text);
    numbered(product)
}

fn numbered(text: &str) -> Vec<(usize, String)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, without_strings(line)))
        .collect()
}

/// Returns a line without what stands between double quotes: a text may name anything.
fn without_strings(line: &str) -> String {
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

fn source_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 20, "found only {} source files", files.len());
    files.sort();
    files
}

/// The top-level module that a file belongs to: `src/tsdb/wal.rs` → `tsdb`.
fn module_of(file: &Path) -> String {
    let inside = file
        .strip_prefix(root().join("src"))
        .expect("source files lie below src");
    let first = inside
        .components()
        .next()
        .expect("a file has a name")
        .as_os_str()
        .to_string_lossy()
        .into_owned();
    first.strip_suffix(".rs").map_or(first.clone(), str::to_owned)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
