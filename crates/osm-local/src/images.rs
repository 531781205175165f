//! What an image is on a machine without a registry: a command, a root directory, or both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What every image that is not listed is: the machine's own root directory, and no command.
static UNLISTED: Image = Image { command: Vec::new(), root: None, env: BTreeMap::new(), mounts: BTreeMap::new() };

/// The images file: which image is what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// By name, with or without tag; an entry with the tag counts before one without.
    #[serde(default)]
    pub images: BTreeMap<String, Image>,
}

/// What stands for an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Image {
    /// What runs when a container does not say: the image's entry point.
    pub command: Vec<String>,
    /// The directory that is the container's root; the machine's own when absent. Never written to.
    pub root: Option<PathBuf>,
    /// Variables that the image sets.
    pub env: BTreeMap<String, String>,
    /// Files and directories of the machine that the image holds, read only: path in the container to path outside.
    pub mounts: BTreeMap<PathBuf, PathBuf>,
}

/// Why an images file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// Not what an images file looks like.
    #[error("not an images file: {0}")]
    Syntax(String),
    /// A path that means different things in different places.
    #[error("images: {image}: mounts: {path} is not an absolute path in the container")]
    Relative {
        /// The image.
        image: String,
        /// The path.
        path: PathBuf,
    },
    /// The kernel's overlay options have no way to write it.
    #[error("images: {image}: root: {path} holds one of the characters : , \\, which cannot be mounted")]
    Unmountable {
        /// The image.
        image: String,
        /// The path.
        path: PathBuf,
    },
}

impl Images {
    /// Reads the text of an images file; paths in it are relative to `folder`, where the file is.
    ///
    /// # Errors
    /// When it is not YAML, has fields that nobody knows, or paths that cannot be used.
    pub fn parse(text: &str, folder: &Path) -> Result<Images, ImagesError> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Images::default());
        }
        let mut images: Images = serde_saphyr::from_str(text)
            .map_err(|error| ImagesError::Syntax(error.to_string().lines().next().unwrap_or_default().to_owned()))?;
        for (name, image) in &mut images.images {
            image.resolve(name, folder)?;
        }
        Ok(images)
    }

    /// What `image` is.
    pub fn find(&self, image: &str) -> &Image {
        self.images.get(image).or_else(|| self.images.get(without_tag(image))).unwrap_or(&UNLISTED)
    }

    /// These, and those of `more` in place of equally named ones.
    pub fn extend(&mut self, more: Images) {
        self.images.extend(more.images);
    }
}

impl Image {
    fn resolve(&mut self, name: &str, folder: &Path) -> Result<(), ImagesError> {
        let absolute = |path: &Path| if path.is_absolute() { path.to_owned() } else { folder.join(path) };
        // A program without a slash is looked for on the container's PATH.
        if let Some(program) = self.command.first_mut().filter(|program| program.contains('/')) {
            *program = absolute(Path::new(&*program)).to_string_lossy().into_owned();
        }
        self.root = self.root.take().map(|root| absolute(&root));
        self.mounts.values_mut().for_each(|outside| *outside = absolute(outside));
        if let Some(inside) = self.mounts.keys().find(|inside| !inside.is_absolute()) {
            return Err(ImagesError::Relative { image: name.to_owned(), path: inside.clone() });
        }
        match &self.root {
            Some(root) if !is_mountable(root) => {
                Err(ImagesError::Unmountable { image: name.to_owned(), path: root.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether the options of an overlay mount can hold this path.
pub(crate) fn is_mountable(path: &Path) -> bool {
    path.to_str().is_some_and(|text| !text.contains([':', ',', '\\']))
}

fn without_tag(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        // A colon before a slash belongs to the registry's port.
        Some((name, tag)) if !tag.contains('/') => name,
        Some(_) | None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_with_its_tag_before_without() {
        let text = "images:\n  shop: {command: [old]}\n  shop:2: {command: [new]}\n  reg:5000/a: {command: [a]}\n";
        let images = Images::parse(text, Path::new("/files")).unwrap();
        assert_eq!(images.find("shop:2").command, ["new"]);
        assert_eq!(images.find("shop:1").command, ["old"]);
        assert_eq!(images.find("shop@sha256:abc").command, ["old"]);
        assert_eq!(images.find("reg:5000/a").command, ["a"]);
        assert_eq!(images.find("reg:5000/a:1").command, ["a"]);
        assert_eq!(images.find("other"), &UNLISTED);
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let text = "images:\n  a: {command: [../bin/a, rel], root: r, mounts: {/in: out}}\n  b: {command: [sleep]}\n";
        let images = Images::parse(text, Path::new("/files")).unwrap();
        let a = images.find("a");
        assert_eq!(a.command, ["/files/../bin/a", "rel"]);
        assert_eq!(
            (a.root.as_deref(), &a.mounts[Path::new("/in")]),
            (Some(Path::new("/files/r")), &"/files/out".into())
        );
        assert_eq!(images.find("b").command, ["sleep"]);
    }

    #[test]
    fn a_file_that_cannot_be_used_says_why() {
        let check = |text: &str, message: &str| {
            let error = Images::parse(text, Path::new("/files")).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        };
        check("images: {a: {comand: [x]}}", "comand");
        check("images: {a: {root: '/a:b'}}", "cannot be mounted");
        check("images: {a: {mounts: {bin/x: /x}}}", "mounts: bin/x is not an absolute path in the container");
        check("images: [", "not an images file");
        assert_eq!(Images::parse("# nothing yet\n", Path::new("/")).unwrap(), Images::default());
    }
}
