//! Reading manifests: files, directories, standard input.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use osm_local::{Failure, Images, ManifestText};

/// The manifests behind `-f`: of a directory, every file in it that is one, in order of names.
pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<ManifestText>> {
    let mut found = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
            found.push(ManifestText { name: "standard input".into(), text });
        } else if path.is_dir() {
            let entries = fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
            let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
            files.retain(|file| file.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"));
            files.sort();
            if files.is_empty() {
                let message = format!("there are no manifests in {}", path.display());
                return Err(Failure { message, hint: "manifests end in .yaml, .yml or .json".into() }.into());
            }
            for file in files {
                found.push(read_file(&file)?);
            }
        } else {
            found.push(read_file(path)?);
        }
    }
    Ok(found)
}

/// The images file, or no images.
pub(crate) fn read_images(path: Option<&Path>) -> anyhow::Result<Images> {
    let Some(path) = path else { return Ok(Images::default()) };
    let file = path.canonicalize().with_context(|| format!("reading {}", path.display()))?;
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", path.display()))?;
    Images::parse(&text, file.parent().unwrap_or(Path::new("/"))).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        Failure { message, hint: "an entry looks like:  images: {NAME: {command: [PROGRAM, ARGUMENT]}}".into() }.into()
    })
}

fn read_file(path: &Path) -> anyhow::Result<ManifestText> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    // What is not UTF-8 is told as what it is: a file that holds no manifest.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(ManifestText { name: path.display().to_string(), text })
}
