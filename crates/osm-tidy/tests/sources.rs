//! Sizes, openings and names of source files.

use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this is more than one mind holds.
const PRODUCTION_LINES: usize = 500;
/// Tests are lists; they may be longer.
const TEST_LINES: usize = 600;
/// Words that say nothing about what a thing is.
const EMPTY_WORDS: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "manager", "misc"];

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        let path = self.path.to_string_lossy();
        path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/")
    }

    /// Lines before an in-file test module.
    fn production_lines(&self) -> usize {
        self.text.lines().position(|line| line == "mod tests {").unwrap_or(self.text.lines().count())
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there");
    let mut folders = vec![root.join("crates"), root.join("e2e"), root.join("benches")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace can be read") {
            let path = entry.expect("a folder of the workspace can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("a source file can be read");
                sources.push(Source { path: path.strip_prefix(&root).expect("found below the root").to_owned(), text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 50, "only {} source files found: the walk is broken", sources.len());
    sources
}

fn none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter_map(|source| {
        let (lines, limit) = if source.is_test() {
            (source.text.lines().count(), TEST_LINES)
        } else {
            (source.production_lines(), PRODUCTION_LINES)
        };
        (lines > limit).then(|| format!("{}: {lines} lines, {limit} allowed", source.path.display()))
    });
    none("split these files", long.collect());
}

#[test]
fn production_files_say_what_they_are() {
    let silent = sources()
        .into_iter()
        .filter(|source| !source.is_test() && !source.text.is_empty() && !source.text.starts_with("//!"))
        .map(|source| source.path.display().to_string());
    none("open these files with a `//!` sentence", silent.collect());
}

#[test]
fn file_names_say_something() {
    let empty = sources().into_iter().filter(|source| {
        source.path.iter().any(|part| {
            let part = part.to_string_lossy();
            part == "mod.rs" || part.trim_end_matches(".rs").split(['_', '-']).any(|w| EMPTY_WORDS.contains(&w))
        })
    });
    none("name these files for what they hold", empty.map(|s| s.path.display().to_string()).collect());
}

#[test]
fn tests_are_not_ignored_and_nothing_is_left_for_later() {
    // Written in parts, so that this file does not find itself.
    let banned = [concat!("#[ig", "nore"), concat!("TO", "DO"), concat!("FIX", "ME"), concat!("unimpl", "emented!(")];
    let found = sources().into_iter().flat_map(|source| {
        let lines = source.text.lines().enumerate();
        lines
            .filter(|(_, line)| banned.iter().any(|word| line.contains(word)))
            .map(|(index, line)| format!("{}:{}: {}", source.path.display(), index + 1, line.trim()))
            .collect::<Vec<_>>()
    });
    none("do it, or make it an issue", found.collect());
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let crates = fs::read_dir(root.join("crates")).expect("crates is there");
    let manifests = crates.map(|entry| entry.expect("crates can be read").path().join("Cargo.toml"));
    let without = manifests
        .filter(|path| path.parent().and_then(Path::file_name).is_some_and(|n| n.to_string_lossy().starts_with("osm-")))
        .filter(|path| !fs::read_to_string(path).unwrap_or_default().contains("[lints]\nworkspace = true"));
    none("add `[lints] workspace = true`", without.map(|p| p.display().to_string()).collect());
}
