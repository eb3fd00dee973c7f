//! What the checks know of the workspace: its crates with their dependencies, and its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Folders of the top level that hold files of the project, besides single files there.
const FOLDERS: [&str; 8] = ["engine", "net", "bench", "tools", "docs", "scripts", ".ci", ".cargo"];
/// Folders that builds and fuzzers fill; they are never part of the project.
const GENERATED: [&str; 4] = ["target", "corpus", "artifacts", "coverage"];

/// The checkout.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
    pub(crate) crates: Vec<Crate>,
    /// The release of Rust that the code needs and is checked with.
    pub(crate) rust_version: String,
}

/// One member of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Crate {
    /// The package's name, for instance `cutwater-model`.
    pub(crate) name: String,
    /// The folder relative to the root, for instance `engine/model`.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a `[dependencies]` table.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) default_features: bool,
    pub(crate) features: Vec<String>,
}

/// Which table a dependency stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

impl Workspace {
    /// Asks cargo for the workspace that the current folder belongs to.
    pub(crate) fn load() -> Result<Self> {
        let output = Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .output()
            .context("cannot run `cargo metadata`; is cargo on the PATH?")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("`cargo metadata` answered in an unknown form")?;
        let root = metadata.workspace_root;
        let rust_version = metadata.packages.iter().find_map(|package| package.rust_version.clone());
        let rust_version = rust_version.context("no package names its rust-version")?;
        let mut crates = Vec::new();
        for package in metadata.packages {
            let folder = package
                .manifest_path
                .parent()
                .and_then(|folder| folder.strip_prefix(&root).ok())
                .with_context(|| format!("package {} lies outside the workspace", package.name))?;
            crates.push(Crate {
                name: package.name,
                folder: folder.to_string_lossy().into_owned(),
                dependencies: package.dependencies.into_iter().map(Dependency::from).collect(),
            });
        }
        crates.sort_by(|one, other| one.folder.cmp(&other.folder));
        Ok(Self { root, target: metadata.target_directory, crates, rust_version })
    }

    /// Every file of the project relative to the root, sorted; what builds leave behind is not among them.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in read_folder(&self.root)? {
            // In a linked worktree `.git` is a file that names a folder of this machine.
            if entry.is_file() && !entry.ends_with(".git") {
                files.push(entry);
            }
        }
        for folder in FOLDERS {
            let folder = self.root.join(folder);
            if folder.is_dir() {
                walk(&folder, &mut files)?;
            }
        }
        let mut relative: Vec<PathBuf> = files
            .iter()
            .filter_map(|file| file.strip_prefix(&self.root).ok().map(Path::to_path_buf))
            .collect();
        relative.sort();
        Ok(relative)
    }

    /// The text of a file; `None` when it is not UTF-8 and so not for reading.
    pub(crate) fn read(&self, file: &Path) -> Result<Option<String>> {
        let path = self.root.join(file);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8(bytes).ok())
    }

    /// The member in `folder`.
    pub(crate) fn member(&self, folder: &str) -> Option<&Crate> {
        self.crates.iter().find(|member| member.folder == folder)
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in read_folder(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !GENERATED.contains(&name.as_str()) {
                walk(&path, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn read_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.with_context(|| format!("cannot list {}", folder.display()))?.path());
    }
    Ok(paths)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct MetadataPackage {
    rust_version: Option<String>,
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<MetadataDependency>,
}

#[derive(Deserialize)]
struct MetadataDependency {
    name: String,
    kind: Option<String>,
    uses_default_features: bool,
    features: Vec<String>,
}

impl From<MetadataDependency> for Dependency {
    fn from(found: MetadataDependency) -> Self {
        let kind = match found.kind.as_deref() {
            Some("dev") => Kind::Dev,
            Some("build") => Kind::Build,
            _ => Kind::Normal,
        };
        Self {
            name: found.name,
            kind,
            default_features: found.uses_default_features,
            features: found.features,
        }
    }
}

#[cfg(test)]
pub(crate) mod made_up {
    //! Crates that exist only in tests, to plant violations in.

    use super::{Crate, Dependency, Kind};

    /// A crate in `folder` with normal dependencies on the crates of the project in `uses`.
    pub(crate) fn member(folder: &str, uses: &[&str]) -> Crate {
        let dependencies = uses.iter().map(|used| dependency(used, Kind::Normal)).collect();
        Crate { name: package(folder), folder: folder.to_owned(), dependencies }
    }

    /// One dependency; a name without a slash is a crate from outside.
    pub(crate) fn dependency(name: &str, kind: Kind) -> Dependency {
        let name = if name.contains('/') { package(name) } else { name.to_owned() };
        Dependency { name, kind, default_features: false, features: Vec::new() }
    }

    fn package(folder: &str) -> String {
        format!("cutwater-{}", folder.rsplit('/').next().unwrap())
    }
}
