//! Golden files: `tests/golden/<feature>/<case>.in.yaml` and, beside it, what it must come to.
//!
//! The first line of an input is a comment: the sentence that the case pins. Further comment lines of the form
//! `# key: value` are the case's options. `UPDATE_GOLDEN=1` writes the outputs and removes those without an input.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use similar::TextDiff;

/// An output longer than this is not read when it changes: pin a slice instead.
const OUTPUT_LINE_LIMIT: usize = 200;

const INPUT_SUFFIX: &str = ".in.yaml";

/// One input.
#[derive(Debug)]
pub struct Case {
    /// The file's name without `.in.yaml`.
    pub name: String,
    /// The whole text, comments included.
    pub input: String,
}

impl Case {
    /// The value of the option `# key: value`, from the comments at the head of the input.
    pub fn option(&self, key: &str) -> Option<&str> {
        let comments = self.input.lines().take_while(|line| line.starts_with('#'));
        let mut options = comments.filter_map(|line| line.trim_start_matches('#').trim().split_once(':'));
        options.find(|(found, _)| *found == key).map(|(_, value)| value.trim())
    }
}

/// Runs each case of a feature and compares with its `.out.yaml`.
/// `manifest_dir` is the `env!("CARGO_MANIFEST_DIR")` of the crate under test.
///
/// # Panics
/// When an output differs, has no input, is too long, or when an input does not begin with its sentence.
#[track_caller]
pub fn golden(manifest_dir: &str, feature: &str, run: impl Fn(&Case) -> String) {
    check(&Folder::new(manifest_dir, feature, ".out.yaml"), run);
}

/// Like [`golden`], for outputs that are not YAML: they are `.out.txt`.
///
/// # Panics
/// As [`golden`].
#[track_caller]
pub fn golden_text(manifest_dir: &str, feature: &str, run: impl Fn(&Case) -> String) {
    check(&Folder::new(manifest_dir, feature, ".out.txt"), run);
}

#[track_caller]
fn check(folder: &Folder, run: impl Fn(&Case) -> String) {
    let is_update = env::var_os("UPDATE_GOLDEN").is_some_and(|value| value != "0");
    let failures = folder.failures(is_update, run);
    assert!(
        failures.is_empty(),
        "{}\n\nif this is what you want: UPDATE_GOLDEN=1 cargo test -p {}",
        failures.join("\n\n"),
        folder.package
    );
}

struct Folder {
    path: PathBuf,
    package: String,
    output_suffix: &'static str,
}

impl Folder {
    fn new(manifest_dir: &str, feature: &str, output_suffix: &'static str) -> Folder {
        let root = Path::new(manifest_dir);
        let package = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Folder { path: root.join("tests/golden").join(feature), package, output_suffix }
    }

    fn failures(&self, is_update: bool, run: impl Fn(&Case) -> String) -> Vec<String> {
        let inputs = self.names(INPUT_SUFFIX);
        let mut failures = Vec::new();
        if inputs.is_empty() {
            failures.push(format!("{}: no case (*{INPUT_SUFFIX})", self.path.display()));
        }
        for name in &inputs {
            let path = self.path.join(format!("{name}{INPUT_SUFFIX}"));
            let input = fs::read_to_string(&path).expect("a file that was just listed can be read");
            if !begins_with_a_sentence(&input) {
                failures.push(format!("{}: the first line must be a comment that says what it pins", path.display()));
            }
            let found = run(&Case { name: name.clone(), input });
            failures.extend(self.compare(name, &found, is_update));
        }
        for orphan in self.names(self.output_suffix).difference(&inputs) {
            let path = self.output(orphan);
            if is_update {
                fs::remove_file(&path).expect("a file that was just listed can be removed");
            } else {
                failures.push(format!("{}: an output without an input", path.display()));
            }
        }
        failures
    }

    fn compare(&self, name: &str, found: &str, is_update: bool) -> Option<String> {
        let path = self.output(name);
        let lines = found.lines().count();
        if lines > OUTPUT_LINE_LIMIT {
            return Some(format!(
                "{}: {lines} lines, {OUTPUT_LINE_LIMIT} at most; make the case smaller, or pin a slice of the output",
                path.display()
            ));
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if expected == found && path.exists() {
            return None;
        }
        if is_update {
            fs::write(&path, found).expect("the golden folder can be written");
            return None;
        }
        let diff =
            TextDiff::from_lines(expected.as_str(), found).unified_diff().header("expected", "found").to_string();
        Some(format!("{}:\n{diff}", path.display()))
    }

    fn output(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{}", self.output_suffix))
    }

    fn names(&self, suffix: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.path).into_iter().flatten();
        let files = entries.map(|entry| entry.expect("the golden folder can be listed").file_name());
        files.filter_map(|file| file.to_str()?.strip_suffix(suffix).map(str::to_owned)).collect()
    }
}

/// A comment of at least two words; an option does not count.
fn begins_with_a_sentence(input: &str) -> bool {
    let first = input.lines().next().unwrap_or_default();
    first.strip_prefix('#').is_some_and(|text| text.split_whitespace().count() >= 2)
}

#[cfg(test)]
mod tests;
